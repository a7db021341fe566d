//! What is wrong with a request is told in the client's dialect, and no provider hears of it.

use crate::errors::setting;
use crate::support::client::{self, Connection, Reply};
use crate::support::dialect::{ALL, Dialect};
use crate::support::gateway::Gateway;

/// A request with exactly these headers (after Host) and this body.
async fn raw(gateway: &Gateway, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    client::send(gateway.ports.http, method, path, headers, body).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_request_gets_its_answer_in_its_dialect_and_no_provider_is_called() {
    let (gateway, provider, _) = setting("").await;
    for dialect in ALL {
        let path = dialect.path("known", false);
        let (name, key) = dialect.key_header(&gateway.key);
        let json = ("content-type", "application/json");
        let good = dialect.body("known", false);
        let keyed = [(name, key.as_str()), json];

        for (what, body) in [
            ("no JSON", &b"this is not JSON"[..]),
            ("cut JSON", &good[..good.len() / 2]),
            ("nothing", b""),
            ("an array", b"[]"),
            ("not UTF-8", b"{\"model\":\"\xff\xfe\"}"),
        ] {
            let reply = raw(&gateway, "POST", &path, &keyed, body).await;
            // Gemini's model is in the path: there only the JSON can be wrong.
            dialect.check_refusal(what, 400, &reply);
        }
        if dialect != Dialect::Gemini {
            for (what, body) in [
                ("no model", &b"{\"messages\":[]}"[..]),
                ("model no string", b"{\"model\":7}"),
                ("two models", b"{\"model\":\"known\",\"model\":\"known2\"}"),
            ] {
                dialect.check_refusal(what, 400, &raw(&gateway, "POST", &path, &keyed, body).await);
            }
        }
        let deep = [
            b"{\"model\":\"known\",\"x\":".to_vec(),
            vec![b'['; 100_000],
            vec![b']'; 100_000],
            b"}".to_vec(),
        ]
        .concat();
        dialect.check_refusal("too deep", 400, &raw(&gateway, "POST", &path, &keyed, &deep).await);
        let reply = raw(
            &gateway,
            "POST",
            &dialect.path("unheard-of", false),
            &keyed,
            &dialect.body("unheard-of", false),
        )
        .await;
        dialect.check_refusal("unknown model", 404, &reply);
        assert!(reply.text().contains("unheard-of"), "it says which: {}", reply.text());
        let reply = raw(
            &gateway,
            "POST",
            &dialect.path("keyless", false),
            &keyed,
            &dialect.body("keyless", false),
        )
        .await;
        dialect.check_refusal("no credential of ours", 502, &reply);

        let wrong = format!("sk-tg-{}-{}", "a".repeat(12), "b".repeat(32));
        let mistyped = format!("{}x", gateway.key);
        for (what, key) in [
            ("wrong", wrong.as_str()),
            ("mistyped", &mistyped),
            ("foreign", "sk-proj-abc"),
            ("empty", ""),
        ] {
            let (name, key) = dialect.key_header(key);
            dialect.check_refusal(
                what,
                401,
                &raw(&gateway, "POST", &path, &[(name, &key), json], &good).await,
            );
        }
        dialect.check_refusal("no key", 401, &raw(&gateway, "POST", &path, &[json], &good).await);
        dialect.check_refusal(
            "Basic",
            401,
            &raw(
                &gateway,
                "POST",
                &path,
                &[json, ("authorization", "Basic eHg6eXk=")],
                &good,
            )
            .await,
        );
        let bearer = gateway.bearer();
        dialect.check_refusal(
            "two keys",
            400,
            &raw(
                &gateway,
                "POST",
                &path,
                &[("authorization", &bearer), ("x-api-key", &gateway.key), json],
                &good,
            )
            .await,
        );
        let separator = if path.contains('?') { '&' } else { '?' };
        let queried = format!("{path}{separator}key={}", gateway.key);
        dialect.check_refusal(
            "a key and another in the query",
            400,
            &raw(&gateway, "POST", &queried, &keyed, &good).await,
        );

        let reply = raw(&gateway, "PUT", &path, &keyed, b"").await;
        dialect.check_refusal("wrong method", 405, &reply);
        dialect.check_refusal(
            "wrong type",
            415,
            &raw(
                &gateway,
                "POST",
                &path,
                &[(name, &key), ("content-type", "multipart/form-data; boundary=x")],
                &good,
            )
            .await,
        );
        dialect.check_refusal(
            "unknown coding",
            415,
            &raw(
                &gateway,
                "POST",
                &path,
                &[keyed[0], json, ("content-encoding", "compress")],
                &good,
            )
            .await,
        );
        assert_eq!(provider.count(), 0, "{dialect:?}: no provider hears of any of it");

        let reply = raw(&gateway, "POST", &path, &[(name, &key)], &good).await;
        assert_eq!(
            (reply.status, provider.count()),
            (200, 1),
            "{dialect:?}: a missing Content-Type is forgiven"
        );
        provider.forget();
    }
    let bearer = gateway.bearer();
    for path in ["/v1/nothing", "/v2/chat/completions", "/v1/chat/completions/", "/admin"] {
        let reply = raw(&gateway, "POST", path, &[("authorization", &bearer)], b"{}").await;
        assert_eq!(reply.status, 404, "{path}: {}", reply.text());
        reply.json();
    }
    gateway.idle().await;
    assert_eq!(gateway.rows().await.len(), 4, "a refused request has no row");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_that_confuses_is_refused_and_the_connection_closed() {
    let (gateway, provider, _) = setting("").await;
    let good = String::from_utf8(Dialect::Chat.body("known", false)).unwrap();
    let (key, size) = (gateway.bearer(), good.len());
    let line = "POST /v1/chat/completions HTTP/1.1";
    let usual = format!("Host: h\r\nAuthorization: {key}\r\nContent-Type: application/json\r\n");
    let length = format!("Content-Length: {size}\r\n");
    let long = "a".repeat(9000);
    let wide = "b".repeat(40_000);
    let many: String = (0..120).map(|at| format!("x-h{at}: v\r\n")).collect();
    // Pingora's own parser refuses these, without a word or with its own.
    const CLOSED: u16 = 0;
    let cases = [
        ("two Hosts", format!("{line}\r\n{usual}Host: h\r\n{length}"), 400),
        ("no Host", format!("{line}\r\nAuthorization: {key}\r\n{length}"), 400),
        (
            "a Host with a space",
            format!("{line}\r\n{}{length}", usual.replace("Host: h", "Host: a b")),
            400,
        ),
        (
            "an underscore",
            format!("{line}\r\n{usual}{length}content_length: 0\r\n"),
            400,
        ),
        (
            "a path with ..",
            format!("{}\r\n{usual}{length}", line.replace("/v1/", "/p/p/../../v1/")),
            400,
        ),
        (
            "an encoded ..",
            format!("{}\r\n{usual}{length}", line.replace("/v1/", "/p/p/%2e%2E/v1/")),
            400,
        ),
        (
            "an encoded slash",
            format!("{}\r\n{usual}{length}", line.replace("/v1/", "/v1%2f")),
            400,
        ),
        (
            "an empty segment",
            format!("{}\r\n{usual}{length}", line.replace("/v1/", "/v1//")),
            400,
        ),
        (
            "Content-Length no number",
            format!("{line}\r\n{usual}Content-Length: 0x10\r\n"),
            400,
        ),
        (
            "Content-Length negative",
            format!("{line}\r\n{usual}Content-Length: -5\r\n"),
            400,
        ),
        (
            "two Content-Lengths",
            format!("{line}\r\n{usual}{length}Content-Length: 3\r\n"),
            400,
        ),
        (
            "length and chunked",
            format!("{line}\r\n{usual}{length}Transfer-Encoding: chunked\r\n"),
            CLOSED,
        ),
        (
            "another coding",
            format!("{line}\r\n{usual}Transfer-Encoding: gzip, chunked\r\n"),
            400,
        ),
        (
            "an upgrade",
            format!("{line}\r\n{usual}{length}Connection: upgrade\r\nUpgrade: websocket\r\n"),
            426,
        ),
        ("TRACE", format!("TRACE / HTTP/1.1\r\n{usual}"), 405),
        ("a long target", format!("GET /{long} HTTP/1.1\r\n{usual}"), 414),
        (
            "a large header",
            format!("{line}\r\n{usual}{length}x-wide: {wide}\r\n"),
            431,
        ),
        ("many headers", format!("{line}\r\n{usual}{length}{many}"), 431),
        (
            "an odd Expect",
            format!("{line}\r\n{usual}{length}Expect: 200-maybe\r\n"),
            417,
        ),
        (
            "no HTTP at all",
            "\x16\x03\x01\x02\x00\x01\x00\x01\r\n".to_owned(),
            CLOSED,
        ),
    ];
    for (what, head, status) in cases {
        let mut connection = Connection::open(gateway.ports.http).await;
        connection.send(format!("{head}\r\n{good}").as_bytes()).await;
        let reply = connection.try_reply(false).await;
        match reply {
            Some(reply) => {
                assert!(
                    reply.status == status || status == CLOSED && reply.status == 400,
                    "{what}: {} {}",
                    reply.status,
                    reply.text()
                );
                assert!(
                    connection.rest().await.is_empty(),
                    "{what}: one answer, then the connection closes"
                );
            }
            None => assert_eq!(status, CLOSED, "{what}: it is told what is wrong"),
        }
    }
    assert_eq!(provider.count(), 0, "no provider hears of any of it");
    gateway.idle().await;
}
