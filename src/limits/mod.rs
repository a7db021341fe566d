//! Limits. Today: floods per client address. Budgets, rates and reservations per key come with the books.

pub mod flood;
