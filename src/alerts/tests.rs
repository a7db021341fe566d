//! What is told and what is not, by a clock turned by hand; and delivery to receivers of the tests.

mod board;
mod cap;
mod delivery;
