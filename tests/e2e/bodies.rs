//! A request body arrives at the provider exactly as the client sent it: any size, any framing, any version of HTTP on
//! either side, with exactly one correct Content-Length.

use std::io::Write;

use crate::support::client::{self, Connection, Reply, chunked};
use crate::support::gateway::{Gateway, Options, provider_rules, rules_for};
use crate::support::provider::{Answer, Provider};
use crate::support::{HEAVY, h2, noise};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const CHAT: &str = "/v1/chat/completions";
const ANSWER: &str = r#"{"id":"c1","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"yes"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}"#;

/// A chat request of exactly this size.
fn chat(size: usize, model: &str, seed: u64) -> Vec<u8> {
    let (front, back) = (
        format!("{{\"model\":\"{model}\",\"messages\":[{{\"role\":\"user\",\"content\":\""),
        "\"}]}",
    );
    let mut body = front.into_bytes();
    body.extend(noise(size - body.len() - back.len(), seed));
    body.extend_from_slice(back.as_bytes());
    body
}

#[derive(Clone, Copy, Debug)]
enum Framing {
    Length,
    Chunked,
    Expect,
    H2,
    H2WithoutLength,
}

async fn send(gateway: &Gateway, framing: Framing, body: &[u8]) -> Reply {
    let bearer = gateway.bearer();
    let length = body.len().to_string();
    let mut headers = vec![("authorization", bearer.as_str()), ("content-type", "application/json")];
    match framing {
        Framing::Length => gateway.post(CHAT, body).await,
        Framing::Chunked => {
            headers.push(("transfer-encoding", "chunked"));
            let mut connection = Connection::open(gateway.ports.http).await;
            connection.send(&client::head("POST", CHAT, &headers)).await;
            connection.send(&chunked(body, &[1, 4096, 70_000, 13])).await;
            connection.reply().await
        }
        Framing::Expect => {
            headers.extend([("content-length", length.as_str()), ("expect", "100-continue")]);
            let mut connection = Connection::open(gateway.ports.http).await;
            connection.send(&client::head("POST", CHAT, &headers)).await;
            let (status, _) = connection.head().await.expect("a word on Expect");
            assert_eq!(status, 100, "a client which asks before it uploads is told to go on");
            connection.send(body).await;
            connection.reply().await
        }
        Framing::H2 | Framing::H2WithoutLength => {
            let mut connection = h2::Connection::open(gateway.ports.h2c).await;
            let answer = connection
                .begin(CHAT, &headers, body.to_vec(), matches!(framing, Framing::H2))
                .await;
            h2::collect(answer).await
        }
    }
}

async fn every_framing(http: &str) {
    let _heavy = HEAVY.lock().await;
    let provider = Provider::start(|_| Answer::json(200, ANSWER)).await;
    let mut rules = rules_for(provider.address);
    rules[0].1 = provider_rules("p", provider.address, &format!("http = \"{http}\""));
    let gateway = Gateway::start(Options {
        rules,
        ..Options::default()
    })
    .await;
    for size in [KIB, 100 * KIB, MIB, 30 * MIB] {
        let body = chat(size, "m", size as u64);
        for framing in [
            Framing::Length,
            Framing::Chunked,
            Framing::Expect,
            Framing::H2,
            Framing::H2WithoutLength,
        ] {
            let reply = send(&gateway, framing, &body).await;
            let what = format!("{size} bytes, {framing:?}, to HTTP/{http}");
            assert_eq!((reply.status, reply.text().as_str()), (200, ANSWER), "{what}");
            let received = provider.last();
            assert!(
                received.body == body,
                "{what}: the body arrives as it was sent ({} bytes arrived)",
                received.body.len()
            );
            assert_eq!(
                received.all("content-length"),
                [size.to_string()],
                "{what}: one Content-Length, the right one"
            );
            assert!(
                received.all("transfer-encoding").is_empty() && received.all("expect").is_empty(),
                "{what}: no other framing beside it"
            );
            assert_eq!(
                received.version,
                if http == "2" { "HTTP/2" } else { "HTTP/1.1" },
                "{what}"
            );
            assert_eq!(received.method, "POST");
            assert_eq!(provider.count(), 1, "{what}: asked once");
            provider.forget();
        }
    }
    gateway.idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_body_in_any_framing_reaches_an_http1_provider() {
    every_framing("1.1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_body_in_any_framing_reaches_an_http2_provider() {
    every_framing("2").await;
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_bodies_are_decoded() {
    let provider = Provider::start(|_| Answer::json(200, ANSWER)).await;
    let gateway = Gateway::start(Options {
        rules: rules_for(provider.address),
        ..Options::default()
    })
    .await;
    for size in [KIB, MIB] {
        let body = chat(size, "m", 7);
        for (coding, coded) in [("gzip", gzip(&body)), ("zstd", zstd::encode_all(&body[..], 1).unwrap())] {
            let reply = gateway.post_with(CHAT, &[("content-encoding", coding)], &coded).await;
            assert_eq!(reply.status, 200, "{coding}: {}", reply.text());
            let received = provider.last();
            assert!(received.body == body, "{coding}: decoded");
            assert_eq!(received.all("content-length"), [size.to_string()], "{coding}");
            assert!(
                received.all("content-encoding").is_empty(),
                "{coding}: what is decoded is not said to be coded"
            );
        }
    }
    let reply = gateway
        .post_with(CHAT, &[("content-encoding", "gzip")], b"this is not gzip")
        .await;
    assert_eq!(reply.status, 400, "{}", reply.text());
    let reply = gateway.post_with(CHAT, &[("content-encoding", "br")], b"{}").await;
    assert_eq!(reply.status, 415, "{}", reply.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_beyond_the_limit_is_refused_before_any_provider_is_called() {
    let provider = Provider::start(|_| Answer::json(200, ANSWER)).await;
    let gateway = Gateway::start(Options {
        rules: rules_for(provider.address),
        limits: "body = \"1MiB\"\ninflight_body = \"8MiB\"",
        ..Options::default()
    })
    .await;
    let bearer = gateway.bearer();
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let body = chat(3 * MIB, "m", 1);

    // The client sends all of it before it reads, as most do.
    let reply = gateway.post(CHAT, &body).await;
    assert_eq!(reply.status, 413, "declared: {}", reply.text());
    assert_eq!(reply.json()["error"]["code"], "request_too_large");

    let mut connection = Connection::open(gateway.ports.http).await;
    connection
        .send(&client::head(
            "POST",
            CHAT,
            &[&headers[..], &[("transfer-encoding", "chunked")]].concat(),
        ))
        .await;
    connection.send(&chunked(&body, &[50_000])).await;
    assert_eq!(connection.reply().await.status, 413, "chunked");

    let mut connection = Connection::open(gateway.ports.http).await;
    connection
        .send(&client::head(
            "POST",
            CHAT,
            &[
                &headers[..],
                &[("content-length", "3145728"), ("expect", "100-continue")],
            ]
            .concat(),
        ))
        .await;
    assert_eq!(
        connection.head().await.map(|(status, _)| status),
        Some(413),
        "asked before the upload: refused without it"
    );

    let mut connection = h2::Connection::open(gateway.ports.h2c).await;
    let reply = h2::collect(connection.begin(CHAT, &headers, body.clone(), false).await).await;
    assert_eq!(reply.status, 413, "HTTP/2");

    let bomb = vec![b' '; 64 * MIB];
    for (coding, coded) in [("gzip", gzip(&bomb)), ("zstd", zstd::encode_all(&bomb[..], 1).unwrap())] {
        assert!(coded.len() < MIB, "it is small as it comes");
        let before = gateway.resident();
        let reply = gateway.post_with(CHAT, &[("content-encoding", coding)], &coded).await;
        assert_eq!(reply.status, 413, "{coding} bomb: {}", reply.text());
        assert!(
            gateway.resident() < before + 32 * MIB as u64,
            "{coding}: a bomb is not blown up"
        );
    }
    assert_eq!(provider.count(), 0, "no provider hears of it");
    gateway.idle().await;
    assert_eq!(gateway.rows().await.len(), 0, "no attempt, no row");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_changes_the_models_name_and_nothing_else() {
    let provider = Provider::start(|_| Answer::json(200, ANSWER)).await;
    let mut rules = rules_for(provider.address);
    rules[1].1 = "[[route]]\nname = \"renamed\"\nmodel = \"fast\"\ntargets = [{ provider = \"p\", model = \"vendor/fast-\\\"2\\\"\" }]\n".into();
    let gateway = Gateway::start(Options {
        rules,
        ..Options::default()
    })
    .await;
    let odd = "{ \"temperature\":1.0e-0, \"messages\" : [ {\"content\":\"a \\u0041 \\\"model\\\":\\\"fast\\\" é\",\"role\":\"user\"}],\t\"x\":{\"model\":\"fast\"},\r\n \"model\"  :  \"fast\" , \"big\":12345678901234567890123 }";
    let reply = gateway.post(CHAT, odd.as_bytes()).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let expected = odd.replace("\"model\"  :  \"fast\" ,", "\"model\"  :  \"vendor/fast-\\\"2\\\"\" ,");
    let received = provider.last();
    assert_eq!(
        String::from_utf8(received.body).unwrap(),
        expected,
        "only the name changes"
    );
    assert_eq!(
        received
            .headers
            .iter()
            .find(|(name, _)| name == "content-length")
            .unwrap()
            .1,
        expected.len().to_string()
    );
    assert_eq!(
        reply.header("x-tollgate-model"),
        Some("vendor/fast-\"2\""),
        "the answer says who it was"
    );

    for size in [100 * KIB, 30 * MIB] {
        let body = chat(size, "fast", 3);
        assert_eq!(gateway.post(CHAT, &body).await.status, 200);
        let received = provider.last();
        let expected = size + "vendor/fast-\\\"2\\\"".len() - "fast".len();
        assert_eq!(received.all("content-length"), [expected.to_string()]);
        assert!(
            received.body[received.body.len() - (size - 100)..] == body[100..],
            "the rest is as it was"
        );
    }
}
