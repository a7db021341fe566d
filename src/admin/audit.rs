//! The audit log: every write through the admin API, one JSON line each, in `data/audit.jsonl`.
//!
//! Lines are chained: each holds the SHA-256 of the line before it (without its line end), so that a line taken out or
//! changed later is seen by whoever reads the file ([`super::audit_log`] does). No line holds a secret: who it was is the id of the
//! token, or a fingerprint of the one in `admin.token`.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{Extensions, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Api;
use super::idempotency::Replayed;
use super::refusal::{Refusal, RefusedCode};
use super::roles::Caller;
use crate::observe::append::Appender;
use crate::observe::rfc3339;

/// Longest line, in bytes; how far back the last line is looked for when the file is opened.
pub(super) const MAX_LINE: u64 = 64 * 1024;

/// The open audit log.
pub struct Audit {
    path: PathBuf,
    inner: Mutex<Inner>,
}

struct Inner {
    file: Appender,
    /// SHA-256 of the last line, hexadecimal; empty: there is none.
    last: String,
}

/// One line.
#[derive(Serialize)]
struct Line<'a> {
    time: &'a str,
    /// Id of the token, or the fingerprint of the one in `admin.token`.
    who: &'a str,
    /// Its role.
    role: &'a str,
    /// Address of the caller; absent: not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    method: &'a str,
    /// The path's pattern, `/api/v1/keys/{id}`: what was written in its place may be anything.
    path: &'a str,
    status: u16,
    /// The word of a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'a str>,
    /// The answer was given before: nothing was done.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    replayed: bool,
    /// What was changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<&'a Change>,
    /// SHA-256 of the line before.
    previous: &'a str,
}

/// What a call changed; a handler leaves it on its response.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Change {
    /// Which thing: a key's id.
    pub(super) target: String,
    /// What it was given. Never a secret.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub(super) values: Value,
}

impl Audit {
    /// Opens or makes the file, for the owner only, and goes on with its chain. Blocking.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = Appender::open(path, 0o600)?;
        let last = match last_line(path)? {
            None => String::new(),
            Some(Last { line, ended }) => {
                if !ended {
                    // Half a line, left by a crash, must not swallow the next.
                    file.write_all(b"\n")?;
                }
                digest(&line)
            }
        };
        Ok(Audit {
            path: path.to_owned(),
            inner: Mutex::new(Inner { file, last }),
        })
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Does something while nothing is written; it is told the hash of the last line. Blocking.
    pub(super) fn while_still<T>(&self, work: impl FnOnce(&str) -> T) -> T {
        work(&self.inner.lock().last)
    }

    /// Writes a line and syncs it to disk. Blocking.
    fn record(&self, line: Line<'_>) -> io::Result<()> {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        inner.file.follow_path()?;
        let line = Line {
            previous: &inner.last,
            ..line
        };
        let mut text = serde_json::to_vec(&line)?;
        if text.len() as u64 >= MAX_LINE {
            let short = line.change.map(|change| Change {
                target: change.target.clone(),
                values: Value::String("too long to be recorded".into()),
            });
            text = serde_json::to_vec(&Line {
                change: short.as_ref(),
                ..line
            })?;
        }
        let digest = digest(&text);
        text.push(b'\n');
        inner.file.write_all(&text)?;
        inner.file.sync()?;
        inner.last = digest;
        Ok(())
    }
}

/// SHA-256 of a line, hexadecimal.
pub(super) fn digest(line: &[u8]) -> String {
    Sha256::digest(line).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The last line of a file.
struct Last {
    /// Without its line end.
    line: Vec<u8>,
    /// It has one.
    ended: bool,
}

fn last_line(path: &Path) -> io::Result<Option<Last>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_LINE)))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let ended = tail.ends_with(b"\n");
    let tail = tail.strip_suffix(b"\n").unwrap_or(&tail);
    let start = memchr::memrchr(b'\n', tail).map_or(0, |at| at + 1);
    Ok((!tail.is_empty()).then(|| Last {
        line: tail[start..].to_vec(),
        ended,
    }))
}

/// Records every call which is not a mere question, whatever became of it, and every call that was forbidden. A call which is no
/// question is carried out to its end and recorded even if the caller does not wait for the answer.
pub(super) async fn record_writes(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let extensions = request.extensions();
    let matched = extensions.get::<MatchedPath>().cloned();
    let caller = extensions.get::<Caller>().cloned();
    let (Some(path), Some(caller)) = (matched, caller) else {
        return next.run(request).await;
    };
    let call = Call {
        caller,
        method: request.method().clone(),
        path,
        from: from(request.extensions()),
    };
    if call.method.is_safe() {
        let response = next.run(request).await;
        return match response.status() {
            StatusCode::FORBIDDEN => record(&api, call, response).await,
            _ => response,
        };
    }
    let done = tokio::spawn(async move {
        let response = next.run(request).await;
        record(&api, call, response).await
    });
    done.await
        .unwrap_or_else(|_panicked| Refusal::internal().into_response())
}

/// Who asked for what.
struct Call {
    caller: Caller,
    method: Method,
    path: MatchedPath,
    from: Option<SocketAddr>,
}

async fn record(api: &Arc<Api>, call: Call, response: Response) -> Response {
    let status = response.status().as_u16();
    let refused = response.extensions().get::<RefusedCode>().cloned();
    let change = response.extensions().get::<Change>().cloned();
    let replayed = response.extensions().get::<Replayed>().is_some();
    let recorded = api
        .blocking(move |state| {
            state.audit.record(Line {
                time: &rfc3339(state.clock.now()),
                who: &call.caller.who,
                role: call.caller.role.as_str(),
                from: call.from.map(|from| from.ip().to_string()),
                method: call.method.as_str(),
                path: call.path.as_str(),
                status,
                refused: refused.as_ref().map(|RefusedCode(code)| code.as_str()),
                replayed,
                change: change.as_ref(),
                previous: "",
            })
        })
        .await;
    match recorded {
        Ok(Ok(())) => {}
        // What was done is done: its answer (a new key's text is shown only once) must not be lost too.
        Ok(Err(error)) => tracing::error!(%error, "a write could not be recorded in the audit log"),
        Err(_) => tracing::error!("a write could not be recorded in the audit log"),
    }
    response
}

/// Who calls, if the server that runs the router tells.
fn from(extensions: &Extensions) -> Option<SocketAddr> {
    extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map(|ConnectInfo(address)| *address)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn line(status: u16) -> Line<'static> {
        Line {
            time: "2026-01-31T00:00:00.000000Z",
            who: "01234567",
            role: "owner",
            from: None,
            method: "POST",
            path: "/api/v1/keys",
            status,
            refused: None,
            replayed: false,
            change: None,
            previous: "",
        }
    }

    #[test]
    fn lines_are_chained_over_restarts_and_kept_from_others() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.jsonl");
        for status in [201, 202] {
            let audit = Audit::open(&path).expect("it opens");
            audit.record(line(status)).expect("recorded");
            audit.record(line(status)).expect("recorded");
        }
        let text = std::fs::read_to_string(&path).expect("the file");
        let mut previous = String::new();
        for line in text.lines() {
            let value: Value = serde_json::from_str(line).expect("JSON");
            assert_eq!(
                value["previous"], previous,
                "each line holds the hash of the one before"
            );
            previous = digest(line.as_bytes());
        }
        assert_eq!(text.lines().count(), 4);
        let mode = std::fs::metadata(&path).expect("the file").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "the audit log is the owner's");
    }

    #[test]
    fn a_file_moved_away_is_followed_by_a_new_one_which_continues_the_chain() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.jsonl");
        let audit = Audit::open(&path).expect("it opens");
        audit.record(line(200)).expect("recorded");
        let moved = folder.path().join("audit.jsonl.1");
        std::fs::rename(&path, &moved).expect("moved");
        audit.record(line(200)).expect("recorded");
        let old = std::fs::read_to_string(&moved).expect("the old file");
        let new: Value = serde_json::from_str(&std::fs::read_to_string(&path).expect("the new file")).expect("JSON");
        assert_eq!(new["previous"], digest(old.trim_end().as_bytes()));
    }

    #[test]
    fn half_a_line_does_not_swallow_the_next_and_a_long_one_is_cut_down() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.jsonl");
        std::fs::write(&path, "{\"half\"").expect("written");
        let audit = Audit::open(&path).expect("it opens");
        let long = Change {
            target: "t".into(),
            values: Value::String("x".repeat(MAX_LINE as usize)),
        };
        let line = Line {
            change: Some(&long),
            ..line(200)
        };
        audit.record(line).expect("recorded");
        let text = std::fs::read_to_string(&path).expect("the file");
        let last: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
        assert_eq!(last["previous"], digest(b"{\"half\""));
        assert_eq!(last["change"]["values"], "too long to be recorded");
    }
}
