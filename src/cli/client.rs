//! skeleton: the admin API from the command line
