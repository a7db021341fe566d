//! The accounts, as the old process reaches them: it asks the new one over the link.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use futures_core::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::clock::UnixMicros;
use crate::limits::Estimate;
use crate::limits::handover::{NotGranted, Owner, Parties, Returned};

use super::wire::{Answer, FromNew, FromOld};

/// How long an answer may take beyond what the request may wait itself. A process that does not answer is as good as gone.
pub const ANSWER: Duration = Duration::from_secs(15);

/// How often it is tried again to write the journal, where the disk is full.
const WRITE_AGAIN: Duration = Duration::from_millis(250);

/// What goes to the new process.
pub enum Out {
    /// Now.
    Message(FromOld),
    /// When its row is in the journal.
    GivenBack(Returned),
}

/// The new process.
pub struct Remote {
    out: mpsc::Sender<Out>,
    numbers: AtomicU64,
    /// Who waits for an answer. As many as requests of this process wait for one.
    asked: Mutex<Option<HashMap<u64, oneshot::Sender<Answered>>>>,
}

enum Answered {
    Entered,
    Reserved(UnixMicros),
    Refused(crate::limits::Refused),
}

impl Remote {
    pub fn new(out: mpsc::Sender<Out>) -> Self {
        Remote {
            out,
            numbers: AtomicU64::new(1),
            asked: Mutex::new(Some(HashMap::new())),
        }
    }

    /// An answer came.
    pub fn answered(&self, message: FromNew) {
        let (number, answered, returned) = match message {
            FromNew::Entered { number, refused: None } => {
                (number, Answered::Entered, Some(Returned::Admission(number)))
            }
            FromNew::Reserved {
                number,
                answer: Answer::At(at),
            } => {
                let returned = Returned::Reservation { number, tokens: None };
                (number, Answered::Reserved(at), Some(returned))
            }
            FromNew::Entered {
                number,
                refused: Some(refused),
            }
            | FromNew::Reserved {
                number,
                answer: Answer::Refused(refused),
            } => (number, Answered::Refused(refused), None),
            _ => return,
        };
        let waits = self.asked.lock().as_mut().and_then(|asked| asked.remove(&number));
        let heard = waits.is_some_and(|waits| waits.send(answered).is_ok());
        if let (false, Some(returned)) = (heard, returned) {
            self.give_back(returned); // its client is gone by now
        }
    }

    /// The link is closed: nobody answers any more.
    pub fn close(&self) {
        *self.asked.lock() = None;
    }

    async fn ask(&self, message: impl FnOnce(u64) -> FromOld, wait: Duration) -> Option<(u64, Answered)> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.asked.lock().as_mut()?.insert(number, answer);
        self.out.send(Out::Message(message(number))).ok()?;
        let answered = tokio::time::timeout(wait + ANSWER, answered).await;
        Some((number, answered.ok()?.ok()?))
    }
}

impl Owner for Remote {
    fn enter(&self, of: Parties, wait: Duration) -> BoxFuture<'_, Result<u64, NotGranted>> {
        Box::pin(async move {
            match self.ask(|number| FromOld::Enter { number, of, wait }, wait).await {
                Some((number, Answered::Entered)) => Ok(number),
                Some((_, Answered::Refused(refused))) => Err(NotGranted::Refused(refused)),
                _ => Err(NotGranted::Gone),
            }
        })
    }

    fn reserve(
        &self,
        of: Parties,
        admission: Option<u64>,
        estimate: Estimate,
        first: bool,
        wait: Duration,
    ) -> BoxFuture<'_, Result<(u64, UnixMicros), NotGranted>> {
        Box::pin(async move {
            let message = |number| FromOld::Reserve {
                number,
                of,
                admission,
                estimate,
                first,
                wait,
            };
            match self.ask(message, wait).await {
                Some((number, Answered::Reserved(at))) => Ok((number, at)),
                Some((_, Answered::Refused(refused))) => Err(NotGranted::Refused(refused)),
                _ => Err(NotGranted::Gone),
            }
        })
    }

    fn give_back(&self, returned: Returned) {
        // Nobody there: then nobody holds it.
        let _ = self.out.send(Out::GivenBack(returned));
    }
}

/// The remote, and what sends for it: until the link breaks.
///
/// What is given back waits until the rows are written (`write_out`): nothing may be neither held nor booked.
pub fn send(
    out: &mpsc::Receiver<Out>,
    sender: &mut super::wire::Sender,
    write_out: impl Fn() -> bool,
) -> std::io::Result<()> {
    let mut returned = Vec::new();
    loop {
        let first = match returned.is_empty() {
            true => out.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
            false => out.recv_timeout(WRITE_AGAIN),
        };
        if let Err(mpsc::RecvTimeoutError::Disconnected) = first {
            return Ok(());
        }
        for message in first.into_iter().chain(out.try_iter()) {
            match message {
                Out::Message(message) => sender.send(&message)?,
                Out::GivenBack(one) => returned.push(one),
            }
        }
        if !returned.is_empty() && write_out() {
            let returned = std::mem::take(&mut returned);
            sender.send(&FromOld::GivenBack { returned })?;
        }
    }
}

/// Both ends of the way out.
pub fn remote() -> (Arc<Remote>, mpsc::Sender<Out>, mpsc::Receiver<Out>) {
    let (out, sent) = mpsc::channel();
    (Arc::new(Remote::new(out.clone())), out, sent)
}
