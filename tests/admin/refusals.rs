//! Who is let in, and how the others are told.

use reqwest::Method;
use serde_json::json;

use crate::support::{Answer, Gateway, TOKEN};

#[tokio::test]
async fn without_the_right_token_nothing_is_told() {
    let gateway = Gateway::start().await;
    let shorter = &TOKEN[..TOKEN.len() - 1];
    for header in [
        None,
        Some(String::new()),
        Some("Bearer ".into()),
        Some("Bearer wrong".into()),
        Some(format!("Bearer {shorter}")),
        Some(format!("Bearer {TOKEN}x")),
        Some(format!("Basic {TOKEN}")),
        Some(TOKEN.into()),
    ] {
        for (method, path) in [
            (Method::GET, "/api/v1/keys"),
            (Method::POST, "/api/v1/keys"),
            (Method::GET, "/api/v1/status"),
            (Method::POST, "/api/v1/reload"),
            (Method::GET, "/api/v1/usage/export"),
            (Method::GET, "/api/v1/nothing/here"),
            (Method::PUT, "/api/v1/keys"),
            (Method::GET, "/api/v1/openapi.json/"),
            (Method::GET, "/"),
        ] {
            let told = format!("{method} {path} with {header:?}");
            let mut request = gateway.bare(method, path);
            if let Some(header) = &header {
                request = request.header("authorization", header);
            }
            let answer = Answer::of(request).await;
            assert_eq!(answer.refused(401, &told).0, "unauthorized", "{told}");
            assert!(answer.headers.contains_key("www-authenticate"), "{told}");
        }
    }
    assert!(
        gateway.audit_lines().is_empty(),
        "who is not let in writes no audit log"
    );
    assert!(gateway.keys.list().is_empty(), "nothing was made");
}

#[tokio::test]
async fn an_empty_token_lets_nobody_in() {
    let gateway = Gateway::start_with_token("").await;
    for header in ["Bearer ", "Bearer", "", "Bearer x"] {
        let answer = Answer::of(
            gateway
                .bare(Method::GET, "/api/v1/keys")
                .header("authorization", header),
        )
        .await;
        answer.refused(401, header);
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_told_in_the_one_shape() {
    let gateway = Gateway::start().await;
    for path in [
        "/",
        "/api/v1",
        "/api/v1/",
        "/api/v1/nothing",
        "/api/v1/keys/",
        "/api/v2/keys",
        "/api/v1/keys/%ff",
    ] {
        let answer = Answer::of(gateway.request(Method::GET, path)).await;
        assert_eq!(answer.refused(404, path).0, "not_found");
    }
    for (method, path, allowed) in [
        (Method::PUT, "/api/v1/keys", "GET"),
        (Method::DELETE, "/api/v1/status", "GET"),
        (Method::GET, "/api/v1/reload", "POST"),
        (Method::POST, "/api/v1/openapi.json", "GET"),
    ] {
        let answer = Answer::of(gateway.request(method.clone(), path)).await;
        assert_eq!(answer.refused(405, path).0, "method_not_allowed");
        let allow = answer.headers["allow"].to_str().expect("text");
        assert!(allow.contains(allowed), "{method} {path}: allow is {allow}");
    }
}

#[tokio::test]
async fn every_answer_forbids_caches_and_guessing() {
    let gateway = Gateway::start().await;
    for (path, status) in [
        ("/api/v1/keys", 200),
        ("/api/v1/nothing", 404),
        ("/api/v1/openapi.json", 200),
    ] {
        let answer = Answer::of(gateway.request(Method::GET, path)).await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.headers["cache-control"], "no-store", "{path}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{path}");
    }
    let answer = Answer::of(gateway.bare(Method::GET, "/api/v1/keys")).await;
    assert_eq!(answer.headers["cache-control"], "no-store", "refusals too");
}

#[tokio::test]
async fn bodies_are_checked_and_the_field_at_fault_is_named() {
    let gateway = Gateway::start().await;
    let long = "x".repeat(101);
    for (body, status, code, field) in [
        (String::new(), 400, "invalid_json", None),
        ("{".into(), 400, "invalid_json", None),
        ("{\"name\": \"a\"} {}".into(), 400, "invalid_json", None),
        ("\u{fffd}".into(), 400, "invalid_json", None),
        ("[]".into(), 422, "invalid_field", None),
        ("{}".into(), 422, "invalid_field", Some("name")),
        (json!({ "name": 1 }).to_string(), 422, "invalid_field", Some("name")),
        (
            json!({ "name": "a", "owner": [] }).to_string(),
            422,
            "invalid_field",
            Some("owner"),
        ),
        (
            json!({ "name": "a", "colour": "red" }).to_string(),
            422,
            "invalid_field",
            Some("colour"),
        ),
        (
            "{\"name\": \"a\", \"name\": \"b\"}".into(),
            422,
            "invalid_field",
            Some("name"),
        ),
        (json!({ "name": " " }).to_string(), 422, "invalid_field", Some("name")),
        (
            json!({ "name": "a\nb" }).to_string(),
            422,
            "invalid_field",
            Some("name"),
        ),
        (json!({ "name": long }).to_string(), 422, "invalid_field", Some("name")),
        (
            json!({ "name": "a", "tags": ["b", ""] }).to_string(),
            422,
            "invalid_field",
            Some("tags"),
        ),
        (
            json!({ "name": "a", "owner": "" }).to_string(),
            422,
            "invalid_field",
            Some("owner"),
        ),
    ] {
        let request = gateway
            .request(Method::POST, "/api/v1/keys")
            .header("content-type", "application/json");
        let refused = Answer::of(request.body(body.clone())).await.refused(status, &body);
        assert_eq!((refused.0.as_str(), refused.1.as_deref()), (code, field), "{body}");
    }
    assert!(gateway.keys.list().is_empty(), "none of them made a key");
}

#[tokio::test]
async fn only_json_is_taken_and_not_too_much_of_it() {
    let gateway = Gateway::start().await;
    let body = json!({ "name": "a" }).to_string();
    for kind in [
        None,
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
        Some("application/jsonx"),
    ] {
        let mut request = gateway.request(Method::POST, "/api/v1/keys").body(body.clone());
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        assert_eq!(
            Answer::of(request).await.refused(415, "kind").0,
            "unsupported_media_type",
            "{kind:?}"
        );
    }
    let request = gateway
        .request(Method::POST, "/api/v1/keys")
        .header("content-type", "application/json; charset=utf-8");
    assert_eq!(
        Answer::of(request.body(body)).await.status,
        201,
        "parameters do no harm"
    );

    let request = || {
        gateway
            .request(Method::POST, "/api/v1/keys")
            .header("content-type", "application/json")
    };
    let large = json!({ "name": "x".repeat(64 * 1024) }).to_string();
    let answer = Answer::of(request().body(large.clone())).await;
    assert_eq!(answer.refused(413, "with a length").0, "body_too_large");
    let chunks = large
        .into_bytes()
        .chunks(4096)
        .map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec()))
        .collect::<Vec<_>>();
    let stream = reqwest::Body::wrap_stream(tokio_stream(chunks));
    let answer = Answer::of(request().body(stream)).await;
    assert_eq!(answer.refused(413, "in chunks").0, "body_too_large");

    let answer = Answer::of(gateway.request(Method::POST, "/api/v1/reload").body("x=1")).await;
    answer.refused(415, "a form where no body is expected");
}

/// A stream of ready items.
fn tokio_stream<T: Unpin>(items: Vec<T>) -> impl futures_core::Stream<Item = T> {
    struct Ready<T>(std::vec::IntoIter<T>);
    impl<T: Unpin> futures_core::Stream for Ready<T> {
        type Item = T;

        fn poll_next(mut self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<Option<T>> {
            std::task::Poll::Ready(self.0.next())
        }
    }
    Ready(items.into_iter())
}

#[tokio::test]
async fn queries_are_checked_and_the_field_at_fault_is_named() {
    let gateway = Gateway::start().await;
    for (path, field) in [
        ("/api/v1/usage/rows?form=24h", "form"),
        ("/api/v1/usage/rows?key=a&key=b", "key"),
        ("/api/v1/usage/rows?from=yesterday", "from"),
        ("/api/v1/usage/rows?until=2026-13-01", "until"),
        ("/api/v1/usage/rows?limit=0", "limit"),
        ("/api/v1/usage/rows?limit=1001", "limit"),
        ("/api/v1/usage/rows?limit=-1", "limit"),
        ("/api/v1/usage/rows?cursor=x", "cursor"),
        ("/api/v1/usage/rows?ended=badly", "ended"),
        ("/api/v1/usage/rows?by=key", "by"),
        ("/api/v1/usage/report?by=year", "by"),
        ("/api/v1/usage/report?by=key,key", "by"),
        ("/api/v1/usage/export?format=xml", "format"),
        ("/api/v1/status?verbose=1", "verbose"),
        ("/api/v1/keys?colour=red", "colour"),
        ("/api/v1/credentials?provider=nobody", "provider"),
        ("/api/v1/credentials?name=main", "name"),
    ] {
        let refused = Answer::of(gateway.request(Method::GET, path)).await.refused(400, path);
        assert_eq!(
            (refused.0.as_str(), refused.1.as_deref()),
            ("invalid_query", Some(field)),
            "{path}"
        );
    }
    let answer = Answer::of(gateway.request(Method::GET, "/api/v1/usage/rows?form=24h")).await;
    assert!(answer.text.contains("did you mean `from`"), "{}", answer.text);
}
