//! The request that `tollgate route explain` is given, read as the gateway would read it.

use std::io::Read as _;
use std::path::Path;

use bytes::Bytes;
use http::{HeaderMap, Method};

use crate::dialects::{self, Line, Peek, Target};
use crate::observe::redact::printable;
use crate::proxy::request_filter::surveyed;
use crate::routing::Survey;
use crate::translate::{request, splice};

use super::super::Failure;
use super::{Explain, MAX_TOLD, header};

/// Largest file that is read.
const MAX_FILE: u64 = 64 << 20;

/// The file, or standard input.
pub(super) fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let given = |why: std::io::Error| Failure::Given(format!("{} can't be read: {why}", file.display()));
    let mut bytes = Vec::new();
    let limit = MAX_FILE + 1;
    if file == Path::new("-") {
        std::io::stdin()
            .lock()
            .take(limit)
            .read_to_end(&mut bytes)
            .map_err(given)?;
    } else {
        let open = std::fs::File::open(file).map_err(given)?;
        open.take(limit).read_to_end(&mut bytes).map_err(given)?;
    }
    match bytes.len() as u64 >= limit {
        true => Err(Failure::Given(format!(
            "{} is larger than {} MiB",
            file.display(),
            MAX_FILE >> 20
        ))),
        false => Ok(bytes),
    }
}

/// The request as the gateway would see it.
pub(super) struct Asked {
    pub(super) target: Target,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) peek: Peek,
}

impl Asked {
    pub(super) fn of(explain: &Explain, text: Vec<u8>) -> Result<Self, Failure> {
        let given = |why: String| Failure::Given(why);
        let recorded = Recorded::read(&text).map_err(given)?;
        let (method, uri, mut headers, body) = match recorded {
            Some(Recorded {
                method,
                uri,
                headers,
                body,
            }) => (method, uri, headers, body),
            None => (Method::POST, explain.path.clone(), HeaderMap::new(), text.into()),
        };
        for (name, value) in &explain.headers {
            headers.append(name, value.clone());
        }
        let (path, query) = uri.split_once('?').unwrap_or((&uri, ""));
        let line = Line {
            method: &method,
            path,
            query,
            headers: &headers,
        };
        let Some(target) = dialects::find(line) else {
            return Err(given(format!(
                "no API format has {method} {}",
                printable(path, MAX_TOLD)
            )));
        };
        let peeked = |body: &[u8]| {
            let peek = target.dialect.peek(&target, body);
            peek.map_err(|why| given(format!("the gateway would refuse it: {why}")))
        };
        let (mut body, mut peek) = (body.clone(), peeked(&body)?);
        if !peek.outline.ours.is_empty() {
            // As the gateway does: what is meant for it is taken out, the rest read again.
            body = splice::apply(&body, peek.outline.ours.clone());
            let again = peeked(&body)?;
            let asked = std::mem::replace(&mut peek, again).outline;
            (peek.outline.provider, peek.outline.models) = (asked.provider, asked.models);
        }
        Ok(Asked {
            target,
            headers,
            body,
            peek,
        })
    }
}

/// A recorded HTTP request.
struct Recorded {
    method: Method,
    uri: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Recorded {
    /// Reads one; `None`: it is a body.
    fn read(text: &[u8]) -> Result<Option<Self>, String> {
        if text.trim_ascii_start().first().is_none_or(|byte| *byte == b'{') {
            return Ok(None);
        }
        let find = |mark: &[u8]| memchr::memmem::find(text, mark).map(|at| (at, at + mark.len()));
        let ends = [find(b"\r\n\r\n"), find(b"\n\n")];
        let (end, body) = ends.into_iter().flatten().min().unwrap_or((text.len(), text.len()));
        let head = std::str::from_utf8(&text[..end])
            .map_err(|_| "the file is neither a JSON object nor an HTTP request".to_owned())?;
        let mut lines = head.lines();
        let line = lines.next().unwrap_or("");
        let mut words = line.split_ascii_whitespace();
        let (method, uri) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let method = Method::from_bytes(method.as_bytes())
            .ok()
            .filter(|_| uri.starts_with('/'));
        let Some(method) = method else {
            return Err("the file is neither a JSON object nor an HTTP request (POST /v1/... HTTP/1.1)".into());
        };
        let mut headers = HeaderMap::new();
        for (at, line) in lines.enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            // What stands there is not told: it may hold a key.
            let (name, value) = header(line).map_err(|why| format!("line {} of the file: {why}", at + 2))?;
            headers.append(name, value);
        }
        Ok(Some(Recorded {
            method,
            uri: uri.to_owned(),
            headers,
            body: Bytes::copy_from_slice(&text[body..]),
        }))
    }
}

/// What stands inside; `None`: it can't be read.
pub(super) fn survey(target: &Target, body: &[u8]) -> Option<Survey> {
    request::decode(target, body).ok().as_ref().map(surveyed)
}
