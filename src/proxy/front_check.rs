//! The strict check of a request's header, before anything is done with it (HARDENING H2). Pingora's parser is lenient:
//! what it lets through and we do not want is refused here, and such a refusal closes the connection.

use http::{HeaderMap, HeaderName, Method, Version, header};
use pingora::http::RequestHeader;

use crate::config::Limits;
use crate::ir::{ApiError, ErrorKind};

/// Methods a client may use. HEAD is for probes of `/` (Claude Code sends one at its start).
const METHODS: [Method; 7] = [
    Method::GET,
    Method::POST,
    Method::HEAD,
    Method::DELETE,
    Method::PUT,
    Method::PATCH,
    Method::OPTIONS,
];

/// Encoded characters which some servers decode and some don't.
const AMBIGUOUS: [&[u8]; 4] = [b"%2e", b"%2f", b"%5c", b"%00"];

/// Says what is wrong with a request's header; `Ok`: nothing.
pub fn check(request: &RequestHeader, limits: &Limits) -> Result<(), ApiError> {
    method(request)?;
    target(request, limits)?;
    host(request)?;
    size(&request.headers, limits)?;
    framing(request)?;
    coding(&request.headers)
}

/// Says what is wrong with the bytes of an HTTP/1 header that Pingora has read leniently, and which another server would read in another way.
pub fn check_bytes(raw: &[u8], chunked: bool) -> Result<(), ApiError> {
    let mut carriage_returns = 0;
    for at in memchr::memchr2_iter(b'\r', b'\n', raw) {
        match raw[at] {
            b'\r' => carriage_returns += 1,
            _ if at == 0 || raw[at - 1] != b'\r' => return Err(invalid("a line of the header ends without CR")),
            _ if matches!(raw.get(at + 1), Some(b' ' | b'\t')) => {
                return Err(invalid("a line of the header is folded, or begins with a space"));
            }
            _ => carriage_returns -= 1,
        }
    }
    if carriage_returns != 0 {
        return Err(invalid("the header holds a CR that ends no line"));
    }
    // Pingora drops what follows it.
    let line = raw.trim_ascii_start();
    if memchr::memchr(b'#', &line[..memchr::memchr(b'\n', line).unwrap_or(line.len())]).is_some() {
        return Err(invalid("the request target holds `#`"));
    }
    // Pingora drops the length where both stand.
    const LENGTH: &[u8] = b"content-length:";
    let is_length = |line: &[u8]| {
        line.get(..LENGTH.len())
            .is_some_and(|name| name.eq_ignore_ascii_case(LENGTH))
    };
    if chunked && raw.split(|&b| b == b'\n').any(is_length) {
        return Err(invalid("Content-Length and Transfer-Encoding stand together"));
    }
    Ok(())
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorKind::InvalidRequest, message).code("bad_request_header")
}

fn method(request: &RequestHeader) -> Result<(), ApiError> {
    if METHODS.contains(&request.method) {
        return Ok(());
    }
    Err(ApiError::new(ErrorKind::MethodNotAllowed, "this method is not offered here").code("method_not_allowed"))
}

fn target(request: &RequestHeader, limits: &Limits) -> Result<(), ApiError> {
    let raw = request.raw_path();
    if raw.len() > limits.target {
        return Err(invalid(format!("the request target is longer than {} bytes", limits.target)).status(414));
    }
    if !raw.starts_with(b"/") {
        return Err(invalid("the request target must be a path"));
    }
    if !raw.iter().all(u8::is_ascii_graphic) {
        return Err(invalid("the request target holds bytes which are not printable ASCII"));
    }
    let path = &raw[..memchr::memchr(b'?', raw).unwrap_or(raw.len())];
    if memchr::memchr(b'#', raw).is_some() || memchr::memchr(b'\\', path).is_some() {
        return Err(invalid("the request target holds `#` or `\\`"));
    }
    // A search for `%` first: nearly no path has one.
    if memchr::memchr(b'%', path).is_some()
        && path
            .windows(3)
            .any(|three| AMBIGUOUS.iter().any(|encoded| three.eq_ignore_ascii_case(encoded)))
    {
        return Err(invalid("the path holds an encoded dot, slash, backslash or null"));
    }
    if path.windows(2).any(|two| two == b"//") {
        return Err(invalid("the path holds an empty segment"));
    }
    if path
        .split(|&b| b == b'/')
        .any(|segment| segment == b"." || segment == b"..")
    {
        return Err(invalid("the path holds a dot segment"));
    }
    Ok(())
}

fn host(request: &RequestHeader) -> Result<(), ApiError> {
    let mut hosts = request.headers.get_all(header::HOST).iter();
    let host = hosts.next().map(|value| value.as_bytes());
    if hosts.next().is_some() {
        return Err(invalid("there is more than one Host"));
    }
    let authority = request.uri.authority().map(|authority| authority.as_str().as_bytes());
    let named = match (host, authority) {
        (Some(host), Some(authority)) if !host.eq_ignore_ascii_case(authority) => {
            return Err(invalid("Host and authority differ"));
        }
        (Some(host), _) => host,
        (None, Some(authority)) => authority,
        // HTTP/1.0 knows no Host.
        (None, None) if request.version == Version::HTTP_10 => return Ok(()),
        (None, None) => return Err(invalid("Host is missing")),
    };
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    if named.is_empty() || named.len() > 255 || !named.iter().all(allowed) {
        return Err(invalid("Host is not a host name"));
    }
    Ok(())
}

fn size(headers: &HeaderMap, limits: &Limits) -> Result<(), ApiError> {
    let too_large = |message: String| Err(invalid(message).status(431));
    if headers.len() > limits.header_count {
        return too_large(format!("there are more than {} header fields", limits.header_count));
    }
    // Four bytes a field: `: ` and the line end.
    let bytes: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    if bytes > limits.header_bytes {
        return too_large(format!("the header is larger than {} bytes", limits.header_bytes));
    }
    Ok(())
}

fn framing(request: &RequestHeader) -> Result<(), ApiError> {
    let headers = &request.headers;
    // `content_length` and the like: servers behind CGI take `_` for `-`.
    for name in headers.keys().map(HeaderName::as_str).filter(|name| name.contains('_')) {
        if ["content-length", "transfer-encoding", "content-encoding", "x-api-key"]
            .contains(&name.replace('_', "-").as_str())
        {
            return Err(invalid(format!("the header `{name}` is written with an underscore")));
        }
    }
    let one = |name: &HeaderName| -> Result<Option<&[u8]>, ApiError> {
        let mut values = headers.get_all(name).iter().map(|value| value.as_bytes());
        let first = values.next();
        // Identical duplicates are one.
        if values.any(|other| Some(other) != first) {
            return Err(invalid(format!(
                "`{name}` stands more than once, with different values"
            )));
        }
        Ok(first)
    };
    let length = one(&header::CONTENT_LENGTH)?;
    if length.is_some_and(|length| length.is_empty() || length.len() > 19 || !length.iter().all(u8::is_ascii_digit)) {
        return Err(invalid("Content-Length is not a number"));
    }
    let transfer = one(&header::TRANSFER_ENCODING)?;
    if headers.get_all(header::TRANSFER_ENCODING).iter().nth(1).is_some() {
        return Err(invalid("Transfer-Encoding stands more than once"));
    }
    if transfer.is_some_and(|coding| !coding.eq_ignore_ascii_case(b"chunked")) {
        return Err(invalid("the only Transfer-Encoding taken is `chunked`"));
    }
    if transfer.is_some() && request.version == Version::HTTP_10 {
        return Err(invalid("HTTP/1.0 knows no Transfer-Encoding"));
    }
    if transfer.is_some() && length.is_some() {
        return Err(invalid("Content-Length and Transfer-Encoding stand together"));
    }
    if headers.contains_key(header::UPGRADE) {
        return Err(invalid("upgrades (WebSocket) are not offered; use HTTP streaming")
            .status(426)
            .code("upgrade_not_offered"));
    }
    if headers
        .get(header::TE)
        .is_some_and(|te| !te.as_bytes().eq_ignore_ascii_case(b"trailers"))
    {
        return Err(invalid("the only TE taken is `trailers`"));
    }
    let expects = one(&header::EXPECT)?;
    if expects.is_some_and(|expect| !expect.eq_ignore_ascii_case(b"100-continue")) {
        return Err(invalid("the only Expect met is `100-continue`").status(417));
    }
    Ok(())
}

fn coding(headers: &HeaderMap) -> Result<(), ApiError> {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(()) };
    let known = [&b"gzip"[..], b"zstd", b"identity"];
    if codings.next().is_some() || !known.iter().any(|known| coding.as_bytes().eq_ignore_ascii_case(known)) {
        return Err(ApiError::new(
            ErrorKind::InvalidRequest,
            "the request body may be coded as gzip or zstd, once",
        )
        .status(415)
        .code("unsupported_content_encoding"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            body: 1024,
            header_bytes: 1024,
            header_count: 20,
            target: 256,
            inflight_body: 4096,
            body_pace: 0,
            connections: 10,
            unauthenticated_connections: 10,
            connections_per_address: 10,
            requests_per_address: 10,
            answer_kept: 1024,
            inflight_answer: 4096,
            requests_per_connection: 10,
            upstream_idle: 1,
            attempts: 1,
            min_pace: 0,
            assumed_output: 1,
            tool_turns: 1,
            unknown_price: None,
            drains: 1,
        }
    }

    fn verdict(method: &str, target: &str, headers: &[(&'static str, &str)]) -> Option<u16> {
        let mut request = RequestHeader::build(method, target.as_bytes(), None).unwrap();
        request.set_version(Version::HTTP_11);
        for (name, value) in headers {
            request.append_header(*name, *value).unwrap();
        }
        check(&request, &limits()).err().map(|error| error.status)
    }

    #[test]
    fn an_ordinary_request_passes() {
        assert_eq!(
            verdict(
                "POST",
                "/v1/chat/completions?beta=true",
                &[("host", "gw.example:8080"), ("content-length", "2")]
            ),
            None
        );
        assert_eq!(
            verdict(
                "POST",
                "/v1beta/models/a%3Ab:generateContent",
                &[("host", "[::1]:80"), ("transfer-encoding", "chunked")]
            ),
            None
        );
    }

    #[test]
    fn what_desynchronises_or_confuses_is_refused() {
        let host = ("host", "h");
        type Asked<'a> = (&'a str, &'a str, &'a [(&'static str, &'a str)], u16);
        let cases: &[Asked<'_>] = &[
            ("TRACE", "/", &[host], 405),
            ("CONNECT", "/", &[host], 405),
            ("GET", "/", &[], 400),
            ("GET", "/", &[host, ("host", "h")], 400),
            ("GET", "/", &[("host", "a b")], 400),
            ("GET", "/", &[("host", "user@h")], 400),
            ("GET", "/a//b", &[host], 400),
            ("GET", "/a/../b", &[host], 400),
            ("GET", "/a/./b", &[host], 400),
            ("GET", "/a/%2E%2e/b", &[host], 400),
            ("GET", "/a%2Fb", &[host], 400),
            ("GET", "/a%00", &[host], 400),
            ("GET", "/a\\b", &[host], 400),
            ("POST", "/", &[host, ("content-length", "+1")], 400),
            (
                "POST",
                "/",
                &[host, ("content-length", "1"), ("content-length", "2")],
                400,
            ),
            (
                "POST",
                "/",
                &[host, ("content-length", "1"), ("transfer-encoding", "chunked")],
                400,
            ),
            ("POST", "/", &[host, ("transfer-encoding", "gzip, chunked")], 400),
            ("POST", "/", &[host, ("transfer-encoding", "xchunked")], 400),
            ("POST", "/", &[host, ("content_length", "1")], 400),
            ("GET", "/", &[host, ("upgrade", "websocket")], 426),
            ("GET", "/", &[host, ("te", "gzip")], 400),
            ("POST", "/", &[host, ("expect", "200-ok")], 417),
            ("POST", "/", &[host, ("content-encoding", "br")], 415),
            (
                "POST",
                "/",
                &[host, ("content-encoding", "gzip"), ("content-encoding", "gzip")],
                415,
            ),
        ];
        for (method, target, headers, status) in cases {
            assert_eq!(
                verdict(method, target, headers),
                Some(*status),
                "{method} {target} {headers:?}"
            );
        }
    }

    #[test]
    fn bytes_that_others_would_read_in_another_way_are_refused() {
        let good = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n";
        assert_eq!(check_bytes(good.as_bytes(), false), Ok(()));
        for (bad, chunked) in [
            (good, true),
            ("GET / HTTP/1.1\nHost: h\n\n", false),
            ("GET / HTTP/1.1\r\nHost: h\nx: y\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost: h\r\n folded\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost: h\r\n\tfolded\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost: h\rx: y\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost: h\r\r\n\r\n", false),
            ("GET /#x HTTP/1.1\r\nHost: h\r\n\r\n", false),
            ("\r\nGET /#x HTTP/1.1\r\nHost: h\r\n\r\n", false),
        ] {
            let refused = check_bytes(bad.as_bytes(), chunked);
            assert_eq!(refused.map_err(|error| error.status), Err(400), "{bad:?}");
        }
    }

    #[test]
    fn sizes_are_bounded() {
        let host = ("host", "h");
        assert_eq!(verdict("GET", &format!("/{}", "a".repeat(256)), &[host]), Some(414));
        let long = "v".repeat(1100);
        assert_eq!(verdict("GET", "/", &[host, ("x-long", &long)]), Some(431));
        let many: Vec<(&'static str, &str)> = std::iter::once(host)
            .chain(std::iter::repeat_n(("x-many", "v"), 30))
            .collect();
        assert_eq!(verdict("GET", "/", &many), Some(431));
    }
}
