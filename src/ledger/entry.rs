//! One open attempt, as the request holds it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::ids::AttemptId;
use crate::limits::{Overshoot, Reservation};

use super::journal::Journal;
use super::{Closing, Ended, Opening, books, form};

/// Attempts that used more than they had reserved are told in the log no more often.
const WARN_EVERY: Duration = Duration::from_secs(60);

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
            is_written: false,
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
            Some(reservation) => {
                if let Some(overshoot) = reservation.settle(spent) {
                    self.warn(&overshoot);
                }
            }
            None => {
                let Opening { key, group, at, .. } = &self.opening;
                books::book(&self.journal.accounts, &key.0, group, *at, spent);
            }
        }
        self.journal.settled();
        number
    }

    /// The provider billed more than the request could cost by its bound: who it was tells what the bound does not know. The metric
    /// counts all, the log has one in [`WARN_EVERY`].
    fn warn(&self, overshoot: &Overshoot) {
        static LAST: Mutex<Option<Instant>> = Mutex::new(None);
        if !is_due(&mut LAST.lock(), Instant::now()) {
            return;
        }
        let Opening {
            id,
            key,
            provider,
            upstream_model,
            ..
        } = &self.opening;
        tracing::warn!(
            attempt = %id,
            key = %key.0,
            %provider,
            model = ?upstream_model,
            tokens = overshoot.tokens,
            money_usd = %overshoot.money,
            "an attempt used more than it had reserved, by so much; it is charged all the same"
        );
    }
}

/// Counts it as told if the last one is long enough ago.
fn is_due(last: &mut Option<Instant>, now: Instant) -> bool {
    let due = last.is_none_or(|last| now.saturating_duration_since(last) >= WARN_EVERY);
    if due {
        *last = Some(now);
    }
    due
}

/// The row of an attempt that was closed: who waits for it writes it himself, else the writer does.
pub struct Closed {
    number: u64,
    is_written: bool,
    journal: Arc<Journal>,
}

impl Closed {
    /// Waits until it is in the file, and synced with `durability = "power"`. Never returns once the journal has failed (which ends the
    /// process).
    pub async fn written(mut self) {
        self.journal.safe(self.number).await;
        self.is_written = true;
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        if !self.is_written {
            self.journal.writer.wake_if_asleep();
        }
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
            self.journal.writer.wake_if_asleep();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_has_one_overshoot_a_minute() {
        let (mut last, start) = (None, Instant::now());
        let due = [0, 1, 59, 60, 61, 119, 120].map(|second| is_due(&mut last, start + Duration::from_secs(second)));
        assert_eq!(due, [true, false, false, true, false, false, true]);
    }
}
