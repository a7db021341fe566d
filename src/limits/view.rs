//! How an account stands, for people.

use crate::clock::UnixMicros;

use super::admission::Standing;
use super::balance::Spent;
use super::policy::{Budget, Limits, Window};
use super::state::Books;

/// How an account stands at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Its limits.
    pub limits: Limits,
    /// Each calendar window, in the order of [`Window::ALL`].
    pub windows: [WindowView; 4],
    /// What is left of the minute.
    pub standing: Standing,
    /// Requests under way.
    pub in_flight: u64,
    /// Requests that wait for room.
    pub waiting: usize,
}

/// One calendar window of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowView {
    /// Which.
    pub window: Window,
    /// When it began; `None`: [`Window::Total`] has no beginning.
    pub begins: Option<UnixMicros>,
    /// The first moment after it; `None`: never.
    pub ends: Option<UnixMicros>,
    /// What was used.
    pub spent: Spent,
    /// What requests under way hold.
    pub reserved: Spent,
    /// What may be used.
    pub budget: Option<Budget>,
}

impl View {
    pub(super) fn new(limits: &Limits, books: &Books, standing: Standing, in_flight: u64, waiting: usize) -> Self {
        let spans = books.spans();
        let view = |window: Window| {
            let span = spans[window as usize];
            let has_ends = window != Window::Total;
            WindowView {
                window,
                begins: has_ends.then_some(span.from),
                ends: has_ends.then_some(span.to),
                spent: books.balance.used(window).spent,
                reserved: books.held(window),
                budget: limits.budget(window).cloned(),
            }
        };
        View {
            limits: limits.clone(),
            windows: Window::ALL.map(view),
            standing,
            in_flight,
            waiting,
        }
    }
}
