//! Testing an address: what is told, what is not, and where it never goes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tollgate::egress::{Policy, Probe};

use crate::support::Gateway;

const PATH: &str = "/api/v1/addresses/test";

/// A server which answers every connection with this; says how many there were, and stops with the test's runtime.
async fn server(answer: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut request = [0; 1024];
            let n = stream.read(&mut request).await.unwrap_or(0);
            assert!(
                request[..n].starts_with(b"HEAD / HTTP/1.1\r\n"),
                "a fixed path, whatever the URL says"
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (address, count)
}

/// Allows the loopback, this port; `models.internal` leads to these addresses.
fn probe(port: u16, resolved: &'static [&'static str]) -> Probe {
    let policy = Policy::new(vec!["127.0.0.0/8".parse().expect("a network")], vec![port]);
    Probe::new(policy).with_lookup(Arc::new(move |_, port| {
        let address = |text: &&str| SocketAddr::new(text.parse().expect("an address"), port);
        Ok(resolved.iter().map(address).collect())
    }))
}

#[tokio::test]
async fn an_answer_is_told_by_its_class_and_nothing_else() {
    let secret = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/canary\r\nX-Canary: 1\r\n\r\ncanary";
    let (address, count) = server(secret).await;
    let gateway = Gateway::start_with_probe(probe(address.port(), &["127.0.0.1"])).await;
    let url = format!("http://models.internal:{}/v1/canary-path", address.port());
    let answer = gateway.post(PATH, &json!({ "url": url })).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let body = answer.json();
    assert_eq!(body["status_class"], "3xx");
    assert_eq!(
        (&body["failure"], &body["certificate_days_left"]),
        (&json!(null), &json!(null))
    );
    assert!(body["latency_ms"].is_u64());
    assert_eq!(body.as_object().map(|object| object.len()), Some(4));
    assert!(!answer.text.contains("canary"), "{}", answer.text);
    assert_eq!(count.load(Ordering::SeqCst), 1, "no redirect is followed");
    let lines = gateway.audit_lines();
    assert_eq!(
        (&lines[0]["path"], &lines[0]["change"]["values"]["url"]),
        (&json!(PATH), &json!(url))
    );
}

#[tokio::test]
async fn what_answers_no_http_or_not_at_all_is_told() {
    let (address, _) = server("SSH-2.0-canary-canary\r\n").await;
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("it")
        .port();
    for (port, failure) in [(address.port(), "not_http"), (free, "connect")] {
        let gateway = Gateway::start_with_probe(probe(port, &["127.0.0.1"])).await;
        let url = format!("http://127.0.0.1:{port}");
        let answer = gateway.post(PATH, &json!({ "url": url })).await;
        assert_eq!(answer.json()["failure"], failure, "{}", answer.text);
        assert!(!answer.text.contains("canary"), "{}", answer.text);
    }
    let gateway = Gateway::start_with_probe(probe(address.port(), &["127.0.0.1"])).await;
    let url = format!("https://models.internal:{}", address.port());
    assert_eq!(
        gateway.post(PATH, &json!({ "url": url })).await.json()["failure"],
        "tls"
    );
}

#[tokio::test]
async fn nothing_is_connected_to_that_the_configuration_does_not_allow() {
    let (address, count) = server("HTTP/1.1 200 OK\r\n\r\n").await;
    let port = address.port();
    let name = format!("http://models.internal:{port}");
    for (resolved, url) in [
        (&["127.0.0.1", "10.0.0.1"][..], name.as_str()),
        (&["127.0.0.1", "::ffff:127.0.0.1"], &name),
        (&["127.0.0.1", "169.254.169.254"], &name),
        (&["127.0.0.1", "8.8.8.8"], &name),
        (&[], &name),
        (&["127.0.0.1"], "http://169.254.169.254/latest/meta-data"),
        (&["127.0.0.1"], "http://models.internal:22"),
        (&["127.0.0.1"], "https://user:canary@models.internal"),
        (&["127.0.0.1"], "file:///etc/passwd"),
        (&["127.0.0.1"], "canary"),
    ] {
        let gateway = Gateway::start_with_probe(probe(port, resolved)).await;
        let answer = gateway.post(PATH, &json!({ "url": url })).await;
        let told = format!("{url} at {resolved:?}");
        assert_eq!(
            answer.refused(422, &told),
            ("invalid_field".to_owned(), Some("url".to_owned())),
            "{told}"
        );
        let line = &gateway.audit_lines()[0];
        assert_eq!(
            (&line["path"], &line["status"]),
            (&json!(PATH), &json!(422)),
            "a refused one is recorded too"
        );
        for text in [answer.text, line.to_string()] {
            assert!(!text.contains("canary"), "{told}: {text}");
            assert!(
                !text.contains("10.0.0.1"),
                "what a name resolves to is not told: {text}"
            );
        }
    }
    assert_eq!(count.load(Ordering::SeqCst), 0);
    let gateway = Gateway::start().await;
    let answer = gateway
        .post(PATH, &json!({ "url": format!("http://127.0.0.1:{port}") }))
        .await;
    answer.refused(422, "without permission");
}
