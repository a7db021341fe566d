//! Which candidates a request has, in order.
