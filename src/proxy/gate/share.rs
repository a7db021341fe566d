//! An answer that comes faster than anything else is done takes its turns like others: a provider that sends without end does
//! not hold up its thread.

use pingora::protocols::http::HttpTask;

use super::Gate;

/// After so many bytes others have their turn. Tokio's own bound is one of 128 reads, here 8 MiB: milliseconds.
const SHARE: usize = 64 * 1024;

impl Gate {
    /// Before these are written: lets others have their turn, if enough was written since they last had.
    pub(super) async fn give_way(&mut self, tasks: &[HttpTask]) {
        let bytes = |task: &HttpTask| match task {
            HttpTask::Body(Some(body), _) => body.len(),
            _ => 0,
        };
        self.since_turn += tasks.iter().map(bytes).sum::<usize>();
        if self.since_turn >= SHARE {
            self.since_turn = 0;
            tokio::task::yield_now().await;
        }
    }
}
