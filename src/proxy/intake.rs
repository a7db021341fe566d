//! The whole request body, read once, in any framing, within limits of size, time and memory.

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header;
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};

use crate::config::{Limits, Timeouts};
use crate::ir::{ApiError, ErrorKind};

use super::byte_budget::{ByteBudget, BytePermit};
use super::metrics::{self, Shed};
use super::overload;

/// Bodies from this size on are decoded on a thread for blocking work.
const DECODE_ELSEWHERE: usize = 64 * 1024;

/// Bodies from this size on must keep a pace: they hold a large share of the budget (HARDENING, "Timeouts").
const PACED_FROM: usize = 1 << 20;

/// A body which was read.
pub struct Body {
    /// The body, decoded.
    pub bytes: Bytes,
    /// Its size as it came.
    pub received: u64,
    /// Its share of the budget.
    pub permit: BytePermit,
}

/// Why there is no body.
pub enum NoBody {
    /// To be told to the client.
    Refused(ApiError),
    /// The client is gone.
    Gone(Box<Error>),
}

/// Reads and decodes the body.
pub async fn read(
    session: &mut Session,
    limits: &Limits,
    timeouts: &Timeouts,
    budget: &Arc<ByteBudget>,
) -> Result<Body, NoBody> {
    let declared = declared_length(session);
    if declared.is_some_and(|length| length > limits.body as u64) {
        return Err(too_large(limits));
    }
    let mut permit = budget.permit();
    let declared = declared.and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    if !permit.hold(declared) {
        return Err(no_room());
    }
    session.set_read_timeout(Some(timeouts.body_read));
    if session.get_header_bytes("expect").eq_ignore_ascii_case(b"100-continue")
        && session.req_header().version == http::Version::HTTP_11
    {
        // Pingora answers it only where it reads the body itself.
        session
            .as_downstream_mut()
            .write_continue_response()
            .await
            .map_err(|e| NoBody::Gone(e.into_down()))?;
    }
    let bytes = match tokio::time::timeout(timeouts.body, collect(session, limits, timeouts, &mut permit)).await {
        Ok(read) => read?,
        Err(_) => return Err(too_slow()),
    };
    let received = bytes.len() as u64;
    let coding = session
        .get_header(header::CONTENT_ENCODING)
        .map(|coding| coding.as_bytes().to_ascii_lowercase());
    let bytes = match coding.as_deref() {
        None | Some(b"identity") => bytes,
        Some(coding) => {
            let (zstd, limit) = (coding == b"zstd", limits.body);
            let decoded = if bytes.len() < DECODE_ELSEWHERE {
                decode(&bytes, zstd, limit)
            } else {
                tokio::task::spawn_blocking(move || decode(&bytes, zstd, limit))
                    .await
                    .unwrap_or_else(|_| Err(garbled()))
            };
            let decoded = decoded?;
            if !permit.hold(decoded.len()) {
                return Err(no_room());
            }
            decoded
        }
    };
    Ok(Body {
        bytes,
        received,
        permit,
    })
}

/// What `Content-Length` says.
pub fn declared_length(session: &Session) -> Option<u64> {
    std::str::from_utf8(session.get_header(header::CONTENT_LENGTH)?.as_bytes())
        .ok()?
        .parse()
        .ok()
}

async fn collect(
    session: &mut Session,
    limits: &Limits,
    timeouts: &Timeouts,
    permit: &mut BytePermit,
) -> Result<Bytes, NoBody> {
    let begun = Instant::now();
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    loop {
        // Pingora has no such timeout on HTTP/2.
        let read = tokio::time::timeout(timeouts.body_read, session.as_downstream_mut().read_request_body());
        let chunk = match read.await.map_err(|_| too_slow())? {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break,
            Err(error) if *error.etype() == ErrorType::ReadTimedout => return Err(too_slow()),
            Err(error) if is_framing_error(&error) => {
                return Err(NoBody::Refused(
                    ApiError::new(ErrorKind::InvalidRequest, "the request body's framing is broken")
                        .code("bad_request_body"),
                ));
            }
            Err(error) => return Err(NoBody::Gone(error.into_down())),
        };
        let length = first.len() + all.len() + chunk.len();
        if length > limits.body {
            return Err(too_large(limits));
        }
        if !permit.hold(length) {
            return Err(no_room());
        }
        let elapsed = begun.elapsed();
        if permit.bytes() > PACED_FROM && elapsed > timeouts.body_read && is_behind(length, elapsed, limits.body_pace) {
            return Err(too_slow());
        }
        // A body in one piece is not copied.
        if first.is_empty() && all.is_empty() {
            first = chunk;
            continue;
        }
        if all.is_empty() {
            all.reserve(permit.bytes().max(2 * length));
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&chunk);
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// Less came than `pace` bytes a second.
pub(super) fn is_behind(length: usize, elapsed: Duration, pace: usize) -> bool {
    (length as u128) * 1000 < pace as u128 * elapsed.as_millis()
}

fn is_framing_error(error: &Error) -> bool {
    matches!(error.etype(), ErrorType::InvalidHTTPHeader) || error.etype().as_str().contains("ChunkedEncoding")
}

fn decode(bytes: &[u8], zstd: bool, limit: usize) -> Result<Bytes, NoBody> {
    let mut out = Vec::new();
    // One byte more than allowed shows that there is more.
    let most = limit as u64 + 1;
    let read = if zstd {
        zstd::stream::read::Decoder::new(bytes).and_then(|decoder| decoder.take(most).read_to_end(&mut out))
    } else {
        flate2::read::MultiGzDecoder::new(bytes)
            .take(most)
            .read_to_end(&mut out)
    };
    match read {
        Ok(_) if out.len() > limit => Err(NoBody::Refused(
            ApiError::new(
                ErrorKind::RequestTooLarge,
                format!("the decoded request body is larger than {limit} bytes"),
            )
            .code("request_too_large"),
        )),
        Ok(_) => Ok(out.into()),
        Err(_) => Err(garbled()),
    }
}

fn garbled() -> NoBody {
    NoBody::Refused(
        ApiError::new(
            ErrorKind::InvalidRequest,
            "the request body is not what its Content-Encoding says",
        )
        .code("bad_content_encoding"),
    )
}

fn too_large(limits: &Limits) -> NoBody {
    NoBody::Refused(
        ApiError::new(
            ErrorKind::RequestTooLarge,
            format!("the request body is larger than {} bytes", limits.body),
        )
        .code("request_too_large"),
    )
}

fn too_slow() -> NoBody {
    NoBody::Refused(slow())
}

/// What the client of a body is told that came too slowly.
pub(super) fn slow() -> ApiError {
    ApiError::new(ErrorKind::Timeout, "the request body came too slowly")
        .status(408)
        .code("request_timeout")
}

fn no_room() -> NoBody {
    metrics::shed(Shed::Bodies);
    NoBody::Refused(overload::overloaded("there are too many large requests at once"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_pace_is_bytes_a_second() {
        let after = Duration::from_secs(10);
        assert!(is_behind(79_999, after, 8_000) && !is_behind(80_000, after, 8_000));
        assert!(!is_behind(0, after, 0), "off");
    }

    #[test]
    fn decoding_stops_at_the_limit() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&vec![b'a'; 1 << 20]).unwrap();
        let bomb = gzip.finish().unwrap();
        assert!(matches!(decode(&bomb, false, 1000), Err(NoBody::Refused(error)) if error.status == 413));
        assert!(matches!(decode(&bomb, false, 1 << 20), Ok(bytes) if bytes.len() == 1 << 20));
        let bomb = zstd::encode_all(&vec![b'a'; 1 << 20][..], 1).unwrap();
        assert!(matches!(decode(&bomb, true, 1000), Err(NoBody::Refused(error)) if error.status == 413));
        assert!(matches!(decode(b"not gzip", false, 1000), Err(NoBody::Refused(error)) if error.status == 400));
    }
}
