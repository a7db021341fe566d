//! HTTP CONNECT: RFC 9110, 9.3.6; Basic authentication: RFC 7617.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pingora::protocols::l4::stream::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use super::{Asked, Login, Target, Trouble, broken};

/// Longest header of an answer, interim ones included, in bytes.
const MAX_HEADER: usize = 8 << 10;

/// Asks for a tunnel. What the target said after the header is put back, to be read from `stream` first.
pub(super) async fn ask(stream: &mut Stream, target: &Target, login: Option<&Login>) -> Asked {
    let mut request = Zeroizing::new(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"));
    if let Some(Login { user, password }) = login {
        let both = Zeroizing::new(format!("{user}:{}", password.expose()));
        let both = Zeroizing::new(STANDARD.encode(both.as_bytes()));
        *request = format!("{}Proxy-Authorization: Basic {}\r\n", *request, *both);
    }
    request.push_str("\r\n");
    let sent = async {
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await
    };
    sent.await.map_err(|error| broken(&error))?;

    let (mut head, mut begin) = (Vec::with_capacity(512), 0);
    loop {
        let Some(end) = end_of_header(&head, begin) else {
            if head.len() >= MAX_HEADER {
                let what = format!("answered with more than {MAX_HEADER} bytes of header");
                return Err((Trouble::Garbled, what));
            }
            // What is not HTTP is seen at once, not when it has become long enough.
            if !begins_like_http(head.get(begin..).unwrap_or_default()) {
                return Err((Trouble::Garbled, "does not speak HTTP".into()));
            }
            let mut piece = [0; 2048];
            match stream.read(&mut piece).await {
                Ok(0) => return Err((Trouble::Garbled, "closed the connection".into())),
                Ok(n) => head.extend_from_slice(piece.get(..n).unwrap_or_default()),
                Err(error) => return Err(broken(&error)),
            }
            continue;
        };
        let status = status(head.get(begin..end).unwrap_or_default());
        match status {
            Some(100..=199) => begin = end,
            Some(200..=299) => {
                stream.rewind(head.get(end..).unwrap_or_default());
                return Ok(());
            }
            Some(407) => return Err((Trouble::Login, "wants a login, or another one (407)".into())),
            // It is a gateway here: these say that the far side failed.
            Some(status @ 502..=504) => {
                return Err((Trouble::Target, format!("can't reach the target ({status})")));
            }
            Some(status) => return Err((Trouble::Refused, format!("refused ({status})"))),
            None => return Err((Trouble::Garbled, "does not speak HTTP".into())),
        }
    }
}

/// Behind the empty line, searched from `begin`; a line may end without a CR (RFC 9112, 2.2).
fn end_of_header(head: &[u8], begin: usize) -> Option<usize> {
    let mut line = begin;
    for (at, _) in head.iter().enumerate().skip(begin).filter(|(_, byte)| **byte == b'\n') {
        let text = head.get(line..at)?;
        if at > begin && (text.is_empty() || text == b"\r") {
            return Some(at + 1);
        }
        line = at + 1;
    }
    None
}

fn begins_like_http(head: &[u8]) -> bool {
    let begin = b"HTTP/1.";
    head.iter().zip(begin).all(|(is, should)| is == should)
}

/// `HTTP/1.1 200 Connection established`.
fn status(header: &[u8]) -> Option<u16> {
    let rest = header.strip_prefix(b"HTTP/1.")?;
    let (minor, rest) = rest.split_first()?;
    let (space, rest) = rest.split_first()?;
    let (digits, rest) = rest.split_at_checked(3)?;
    let ends = rest.first().is_none_or(|byte| matches!(byte, b' ' | b'\r' | b'\n'));
    if !minor.is_ascii_digit() || *space != b' ' || !ends || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// A user with a colon can't be told from the password (RFC 7617, 2).
pub(super) fn check(login: &Login) -> Result<(), String> {
    let control = |text: &str| text.contains(char::is_control);
    match &login.user {
        user if user.contains(':') => Err("the proxy's user must not have a colon in it".into()),
        user if control(user) || control(login.password.expose()) => {
            Err("the proxy's user and password must not have control characters in them".into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_ends_at_its_empty_line() {
        for (text, end) in [
            ("HTTP/1.1 200 OK\r\n\r\n", Some(19)),
            ("HTTP/1.1 200 OK\r\nVia: a\r\n\r\nrest", Some(27)),
            ("HTTP/1.1 200 OK\n\nrest", Some(17)),
            ("HTTP/1.1 200 OK\r\n", None),
            ("HTTP/1.1 200 OK\r\n\r", None),
            ("", None),
        ] {
            assert_eq!(end_of_header(text.as_bytes(), 0), end, "{text:?}");
        }
    }

    #[test]
    fn a_status_line_is_read_strictly() {
        for (text, wanted) in [
            ("HTTP/1.1 200 Connection established\r\n", Some(200)),
            ("HTTP/1.0 407\r\n", Some(407)),
            ("HTTP/1.1 200\n", Some(200)),
            ("HTTP/1.1 2000 OK\r\n", None),
            ("HTTP/1.1 20 OK\r\n", None),
            ("HTTP/2 200 OK\r\n", None),
            ("SSH-2.0-x\r\n", None),
            ("", None),
        ] {
            assert_eq!(status(text.as_bytes()), wanted, "{text:?}");
        }
        assert!(begins_like_http(b"HTT") && begins_like_http(b"") && !begins_like_http(b"SSH"));
    }
}
