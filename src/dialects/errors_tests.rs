use super::*;

#[test]
fn every_shape_of_error_is_read() {
    let cases: [(u16, &str, ErrorKind, &str, Option<&str>); 12] = [
        (
            400,
            r#"{"error":{"message":"no","type":"invalid_request_error","param":"x","code":null}}"#,
            ErrorKind::InvalidRequest,
            "no",
            Some("invalid_request_error"),
        ),
        (
            429,
            r#"{"error":{"message":"pay","type":"insufficient_quota","code":"insufficient_quota"}}"#,
            ErrorKind::InsufficientQuota,
            "pay",
            Some("insufficient_quota"),
        ),
        (
            529,
            r#"{"type":"error","error":{"type":"overloaded_error","message":"busy"}}"#,
            ErrorKind::Overloaded,
            "busy",
            Some("overloaded_error"),
        ),
        (
            400,
            r#"[{"error":{"code":400,"message":"bad key","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}]"#,
            ErrorKind::Authentication,
            "bad key",
            Some("400"),
        ),
        (404, r#"{"detail":"Not Found"}"#, ErrorKind::NotFound, "Not Found", None),
        (500, r#"{"error":"boom"}"#, ErrorKind::Api, "boom", None),
        (
            403,
            r#"{"message":"stop","error":true}"#,
            ErrorKind::Permission,
            "stop",
            None,
        ),
        (
            422,
            r#"{"detail":[{"loc":1}]}"#,
            ErrorKind::InvalidRequest,
            "[{\"loc\":1}]",
            None,
        ),
        (401, "Unauthorized", ErrorKind::Authentication, "Unauthorized", None),
        (
            502,
            "<html>secret</html>",
            ErrorKind::Api,
            "the provider answered 502 without an error that can be read",
            None,
        ),
        (
            503,
            "",
            ErrorKind::Overloaded,
            "the provider answered 503 without an error that can be read",
            None,
        ),
        (
            400,
            "data: {\"error\":{\"message\":\"in a frame\"}}\n\n",
            ErrorKind::InvalidRequest,
            "in a frame",
            None,
        ),
    ];
    for (status, body, kind, message, code) in cases {
        let error = answer(status, body.as_bytes());
        let read = (error.kind, error.message.as_str(), error.code.as_deref(), error.status);
        assert_eq!(read, (kind, message, code, status), "{body}");
    }
}

#[test]
fn an_error_inside_a_good_answer_finds_its_status() {
    let error = inside(r#"{"error":{"code":502,"message":"gone"}}"#);
    assert_eq!((error.status, error.kind), (502, ErrorKind::Api));
    let error = inside(r#"{"type":"overloaded_error","message":"busy"}"#);
    assert_eq!((error.status, error.kind), (503, ErrorKind::Overloaded));
    assert_eq!(inside("7").kind, ErrorKind::Api);
}

#[test]
fn a_retry_delay_is_rounded_up() {
    let body = r#"{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED","details":[{"reason":"X"},{"@type":"t","retryDelay":"33.2s"}]}}"#;
    let error = answer(429, body.as_bytes());
    assert_eq!((error.kind, error.retry_after_secs), (ErrorKind::RateLimit, Some(34)));
}

#[test]
fn rubbish_never_panics() {
    for body in [
        "[",
        "[[[[{}]]]]",
        "[]",
        "{",
        "{}",
        "\"",
        "null",
        "\u{0}",
        "{\"error\":{\"message\":{}}}",
        "event: x\ndata:",
    ] {
        answer(418, body.as_bytes());
        inside(body);
    }
}
