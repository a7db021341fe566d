//! The answer: held until it is worth sending, then let through.

use std::borrow::Cow;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header;
use pingora::http::ResponseHeader;
use pingora::protocols::http::HttpTask;
use pingora::{Error, ErrorType, Result};
use tokio::time::Instant;

use crate::ir::StreamEnd;
use crate::proxy::abort;
use crate::proxy::held::{HOLD_STREAM, Release, Unsent};

use super::{Gate, HOLD_WHOLE};

impl Gate {
    /// Takes what came of the answer: holds it, or lets it through.
    pub(super) async fn pass_on(&mut self, mut tasks: Vec<HttpTask>) -> Result<bool> {
        let broken_off;
        let (committed, tail) = {
            let mut held = self.control.lock();
            held.last_activity = Some(Instant::now());
            broken_off = held.broken_off.is_some();
            // The filter may never see the end (trailers, an empty body): finish here, once.
            let ends = !broken_off
                && held.ended.is_none()
                && tasks
                    .iter()
                    .any(|task| task.is_end() && !matches!(task, HttpTask::Failed(_)));
            let tail = if ends { held.finish_answer() } else { Bytes::new() };
            if held.is_gone() {
                drop(held);
                return if broken_off {
                    Err(abort::gone())
                } else {
                    Gate::swallow(tasks)
                };
            }
            if held.failure().is_some() || !held.committed && (held.is_cut() || broken_off) {
                return Error::e_explain(ErrorType::InternalError, "the provider's answer can't be passed on");
            }
            (held.committed, tail)
        };
        if broken_off {
            strip_end(&mut tasks);
            self.write(tasks).await?;
            return Error::e_explain(ErrorType::InternalError, "the answer is broken off");
        }
        if !tail.is_empty() {
            strip_end(&mut tasks);
            tasks.push(HttpTask::Body(Some(tail), false));
            tasks.push(HttpTask::Done);
        }
        if committed {
            return self.write(tasks).await;
        }
        let mut end = false;
        for task in tasks {
            match task {
                // 1xx of a provider is none of the client's business.
                HttpTask::Header(header, _) if header.status.is_informational() => {}
                HttpTask::Header(header, last) => {
                    self.header = Some(header);
                    end |= last;
                }
                HttpTask::Body(body, last) => {
                    if let Some(body) = body.filter(|body| !body.is_empty()) {
                        self.held_bytes += body.len();
                        self.parts.push(body);
                    }
                    end |= last;
                }
                HttpTask::UpgradedBody(..) => {
                    return Error::e_explain(ErrorType::InternalError, "an upgrade through the gate");
                }
                HttpTask::Trailer(_) | HttpTask::Done => end = true,
                // Nothing is on the wire: another attempt may follow.
                HttpTask::Failed(error) => return Err(error),
            }
        }
        let go = {
            let mut held = self.control.lock();
            if end && held.judge {
                // Nobody saw its end: it is judged where it failed, and sent from there if nothing follows.
                let body = self.parts.concat().into();
                held.unsent = self.header.take().map(|header| Unsent { header, body });
                self.parts.clear();
                return Error::e_explain(ErrorType::InternalError, "an error answer is to be judged");
            }
            end || match held.release {
                Release::Content if self.parts.is_empty() => false,
                Release::Content => {
                    let now = Instant::now();
                    let wait = held.clocks.map_or(Duration::ZERO, |clocks| clocks.commit);
                    let over = *held.commit_at.get_or_insert(now + wait) <= now;
                    over || held.is_worth_sending() || self.held_bytes > HOLD_STREAM
                }
                Release::AtEnd => self.held_bytes > HOLD_WHOLE,
                Release::Now => true,
            }
        };
        if go {
            self.commit(end).await.map_err(|e| e.into_down())
        } else {
            Ok(false)
        }
    }

    /// Sends what is held, in one write.
    pub(super) async fn commit(&mut self, end: bool) -> Result<bool> {
        let mut body = match self.parts.len() {
            0 => Bytes::new(),
            1 => self.parts.pop().unwrap_or_default(),
            _ => {
                let mut all = BytesMut::with_capacity(self.held_bytes);
                self.parts.drain(..).for_each(|part| all.extend_from_slice(&part));
                all.freeze()
            }
        };
        self.held_bytes = 0;
        let (exact, close, masker) = {
            let mut held = self.control.lock();
            held.committed = true;
            if self.sent_of_body >= held.body.len() {
                // Sent whole, and not to be sent again.
                held.body = Bytes::new();
                self.sent_of_body = 0;
            }
            (
                end && held.release == Release::AtEnd,
                held.closes(),
                held.masker.clone(),
            )
        };
        if close {
            self.inner_mut().set_keepalive(None);
        }
        let mut tasks = Vec::with_capacity(3);
        let opened = self.control.lock().opened;
        if opened && let Some(header) = self.header.take() {
            // The client has its header, with our status.
            let coded = header.headers.get(header::CONTENT_ENCODING);
            let coded = coded.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"));
            let stream = header.status.as_u16() < 400 && !coded && exact_type(&header, "text/event-stream");
            if !stream {
                {
                    let mut held = self.control.lock();
                    body = held.instead(header.status.as_u16());
                    held.ended = Some(StreamEnd::Failed);
                }
                self.write(vec![HttpTask::Body(Some(body), false), HttpTask::Done])
                    .await?;
                return match end {
                    true => Ok(true),
                    false => Error::e_explain(ErrorType::InternalError, "the provider did not answer with a stream"),
                };
            }
        }
        if let Some(mut header) = self.header.take() {
            if header.status.as_u16() >= 400
                && let Some(masker) = masker
            {
                let masked = match masker.mask_bytes(&body) {
                    Cow::Owned(masked) => Some(masked),
                    Cow::Borrowed(_) => None,
                };
                body = masked.map_or(body, Bytes::from);
            }
            self.control.lock().late_headers(&mut header, exact)?;
            if exact && !says_length(&header, body.len()) {
                header.remove_header(&header::TRANSFER_ENCODING);
                header.insert_header(header::CONTENT_LENGTH, body.len())?;
            }
            tasks.push(HttpTask::Header(header, false));
        }
        if !body.is_empty() {
            tasks.push(HttpTask::Body(Some(body), false));
        }
        if end {
            tasks.push(HttpTask::Done);
        }
        if tasks.is_empty() {
            return Ok(end);
        }
        self.write(tasks).await
    }
}

/// Takes away what says that the answer ends.
fn strip_end(tasks: &mut Vec<HttpTask>) {
    for task in tasks.iter_mut() {
        if let HttpTask::Header(_, last) | HttpTask::Body(_, last) = task {
            *last = false;
        }
    }
    tasks.retain(|task| !matches!(task, HttpTask::Trailer(_) | HttpTask::Done));
}

/// The header says just this length already, as the provider's does.
fn says_length(header: &ResponseHeader, length: usize) -> bool {
    let headers = &header.headers;
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let (Some(said), None) = (lengths.next(), lengths.next()) else {
        return false;
    };
    let said = said
        .to_str()
        .ok()
        .filter(|said| said.bytes().all(|byte| byte.is_ascii_digit()));
    said.and_then(|said| said.parse().ok()) == Some(length) && !headers.contains_key(header::TRANSFER_ENCODING)
}

fn exact_type(header: &ResponseHeader, kind: &str) -> bool {
    let value = header.headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes());
    value.is_some_and(|value| {
        value
            .get(..kind.len())
            .is_some_and(|value| value.eq_ignore_ascii_case(kind.as_bytes()))
    })
}
