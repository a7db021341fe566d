//! Large bodies go out in pieces: each has the client's whole write timeout, and none is copied as a whole on its way.

use bytes::Bytes;
use pingora::Result;
use pingora::protocols::http::HttpTask;

use super::Gate;

/// Most of a body that is written in one go. Several tasks at once are copied together by Pingora, in a buffer which the session keeps; and
/// HTTP/2 keeps what is not yet sent, with all that it is a part of.
const PIECE: usize = 256 * 1024;

impl Gate {
    /// Hands on to the client's session. True: the answer is over.
    pub(super) async fn pass(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let length = |task: &HttpTask| match task {
            HttpTask::Body(Some(body), _) => body.len(),
            _ => 0,
        };
        if tasks.iter().map(length).sum::<usize>() <= PIECE {
            return self.inner_mut().response_duplex_vec(tasks).await;
        }
        let copied = self.inner().is_http2();
        let mut over = false;
        for task in tasks {
            match task {
                HttpTask::Body(Some(mut body), last) if body.len() > PIECE => {
                    while !body.is_empty() {
                        let mut piece = body.split_to(PIECE.min(body.len()));
                        if copied {
                            piece = Bytes::copy_from_slice(&piece);
                        }
                        let piece = HttpTask::Body(Some(piece), last && body.is_empty());
                        over = self.inner_mut().response_duplex_vec(vec![piece]).await?;
                    }
                }
                // Nothing, which would be taken for the end.
                HttpTask::Body(Some(body), false) if body.is_empty() => {}
                HttpTask::Body(None, false) => {}
                task => over = self.inner_mut().response_duplex_vec(vec![task]).await?,
            }
        }
        Ok(over)
    }
}
