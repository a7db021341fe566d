//! One open attempt, as the request holds it.

use std::sync::Arc;

use crate::ids::AttemptId;
use crate::limits::Reservation;

use super::journal::Journal;
use super::{Closing, Ended, Opening, books, form};

/// One open attempt. Dropping it closes it: with what [`Entry::close`] said, else as [`Ended::Panicked`] while a panic
/// unwinds, as [`Ended::Interrupted`] otherwise (the process stops while it is under way).
pub struct Entry {
    /// What is known of its end so far; written when it closes. Fields may be filled as they become known.
    pub closing: Closing,
    opening: Opening,
    /// Number of the opening's record.
    number: u64,
    closed: bool,
    /// What it reserved; settled with what the row says.
    reservation: Option<Reservation>,
    journal: Arc<Journal>,
}

impl Entry {
    pub(super) fn open(journal: Arc<Journal>, mut opening: Opening, reservation: Option<Reservation>) -> Self {
        if let Some(reservation) = &reservation {
            // What is reserved counts in the windows of that moment: so must its row.
            opening.at = reservation.at();
        }
        form::clip_opening(&mut opening);
        let number = journal.opened(&opening);
        Entry {
            closing: Closing::default(),
            opening,
            number,
            closed: false,
            reservation,
            journal,
        }
    }

    /// Its id.
    pub fn id(&self) -> AttemptId {
        self.opening.id
    }

    /// How it began.
    pub fn opening(&self) -> &Opening {
        &self.opening
    }

    /// True once its opening is in the file (and synced, with `durability = "power"`). One atomic load.
    pub fn is_written(&self) -> bool {
        self.journal.is_safe(self.number)
    }

    /// Waits until [`Entry::is_written`]; the provider is called after it, so that no call is missing after a crash. Never
    /// returns once the journal has failed (which ends the process).
    pub async fn written(&self) {
        self.journal.safe(self.number).await;
    }

    /// Closes the attempt now; handed to the writer before this returns.
    pub fn close(mut self, ended: Ended) -> Closed {
        let number = self.write(ended);
        Closed {
            number,
            journal: self.journal.clone(),
        }
    }

    fn write(&mut self, ended: Ended) -> u64 {
        self.closed = true;
        if matches!(ended, Ended::Panicked | Ended::Interrupted) {
            self.closing.settle_unknown(&self.opening);
        }
        form::clip_closing(&mut self.closing);
        let number = self.journal.closed(&self.opening, &self.closing, ended);
        let spent = super::spent(&self.opening, &self.closing);
        match self.reservation.take() {
            Some(reservation) => reservation.settle(spent),
            None => {
                let Opening { key, group, at, .. } = &self.opening;
                books::book(&self.journal.accounts, &key.0, group, *at, spent);
            }
        }
        self.journal.settled();
        number
    }
}

/// The row of an attempt that was closed.
#[derive(Clone)]
pub struct Closed {
    number: u64,
    journal: Arc<Journal>,
}

impl Closed {
    /// Waits until it is in the file, and synced with `durability = "power"`. Never returns once the journal has failed (which ends the
    /// process).
    pub async fn written(&self) {
        self.journal.safe(self.number).await;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.closed {
            let ended = if std::thread::panicking() {
                Ended::Panicked
            } else {
                Ended::Interrupted
            };
            self.write(ended);
        }
    }
}
