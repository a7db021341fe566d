//! What became of each request, one by one, for tests which compare books with it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::counts::Ended;
use super::plan::Usage;

/// Requests remembered one by one when recording; the oldest are forgotten first. About 150 bytes each.
pub const MAX_SERVED: usize = 1 << 18;
/// Most of an `x-request-id` that is kept, in bytes.
const MAX_ID: usize = 128;

/// A request that is over.
#[derive(Clone, Debug)]
pub struct Served {
    /// Its number.
    pub number: u64,
    /// Its `x-request-id`, if it had one.
    pub id: Option<Box<str>>,
    /// Its model, as asked; empty: its body was never read.
    pub model: Arc<str>,
    /// How it ended.
    pub ended: Ended,
    /// It was answered with an error.
    pub refused: bool,
    /// What its answer reports, or was to report. All of it was told if it completed; of others perhaps some.
    pub usage: Option<Usage>,
}

/// The requests that are over, oldest first.
#[derive(Default)]
pub(super) struct Log(VecDeque<Served>);

impl Log {
    pub(super) fn push(&mut self, served: Served) {
        if self.0.len() == MAX_SERVED {
            self.0.pop_front();
        }
        self.0.push_back(served);
    }

    pub(super) fn all(&self) -> Vec<Served> {
        self.0.iter().cloned().collect()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// The request's own id, as far as it is kept.
pub(super) fn id(headers: &http::HeaderMap) -> Option<Box<str>> {
    let id = headers.get("x-request-id")?.to_str().ok()?;
    id.get(..id.len().min(MAX_ID)).map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded() {
        let mut log = Log::default();
        for number in 0..MAX_SERVED as u64 + 3 {
            log.push(Served {
                number,
                id: None,
                model: "".into(),
                ended: Ended::Completed,
                refused: false,
                usage: None,
            });
        }
        let all = log.all();
        assert_eq!((all.len(), all[0].number), (MAX_SERVED, 3));
    }
}
