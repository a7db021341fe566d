//! A TLS listener: the gate, bodies and streams behind it, over HTTP/1.1 and HTTP/2.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::support::client::{self, Connection, chunked};
use crate::support::dialect::{ALL, cut, record};
use crate::support::gateway::{Gateway, Options, rules_for};
use crate::support::provider::{Answer, Provider, Step};
use crate::support::{h2, noise};

async fn connect(gateway: &Gateway, certificate: &CertificateDer<'static>, alpn: &[&[u8]]) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let stream = TcpStream::connect(gateway.ports.tls).await.unwrap();
    stream.set_nodelay(true).unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from("localhost").unwrap(), stream)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_and_streams_pass_a_tls_listener_over_both_versions_of_http() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let mut recordings = Vec::new();
    for dialect in ALL {
        recordings.push(record(dialect, "sandbox/x,tokens=20", true).await);
    }
    let answers = recordings.clone();
    let provider = Provider::start(
        move |request| match request.header("x-request-id").unwrap().parse::<usize>() {
            Ok(at) => Answer::events(cut(&answers[at], &[37])),
            Err(_) => Answer::json(200, "{}").then(Step::Send(" ".into())),
        },
    )
    .await;
    let gateway = Gateway::start(Options {
        rules: rules_for(provider.address),
        tls: Some((cert, key)),
        ..Options::default()
    })
    .await;
    let bearer = gateway.bearer();
    let mut body = b"{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"".to_vec();
    body.extend(noise(3 << 20, 9));
    body.extend_from_slice(b"\"}]}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
        ("x-request-id", "whole"),
    ];
    let length = body.len().to_string();

    let wire = connect(&gateway, &certificate, &[b"http/1.1"]).await;
    let mut one = Connection::over(wire);
    one.send(
        &[
            client::head(
                "POST",
                "/v1/chat/completions",
                &[&headers[..], &[("content-length", length.as_str())]].concat(),
            ),
            body.clone(),
        ]
        .concat(),
    )
    .await;
    assert_eq!(one.reply().await.text(), "{} ");
    assert!(provider.last().body == body, "HTTP/1.1 over TLS, Content-Length");
    one.send(
        &[
            client::head(
                "POST",
                "/v1/chat/completions",
                &[&headers[..], &[("transfer-encoding", "chunked")]].concat(),
            ),
            chunked(&body, &[9000, 1]),
        ]
        .concat(),
    )
    .await;
    assert_eq!(one.reply().await.text(), "{} ");
    assert!(provider.last().body == body, "HTTP/1.1 over TLS, chunked");

    let wire = connect(&gateway, &certificate, &[b"h2", b"http/1.1"]).await;
    assert_eq!(
        wire.get_ref().1.alpn_protocol(),
        Some(&b"h2"[..]),
        "HTTP/2 is negotiated"
    );
    let mut two = h2::Connection::over(wire).await;
    assert_eq!(
        two.post("/v1/chat/completions", &headers, body.clone()).await.text(),
        "{} "
    );
    assert!(provider.last().body == body, "HTTP/2 over TLS");

    for (at, dialect) in ALL.into_iter().enumerate() {
        let (id, body) = (at.to_string(), dialect.body("m", true));
        let length = body.len().to_string();
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
            ("x-request-id", id.as_str()),
        ];
        one.send(
            &[
                client::head(
                    "POST",
                    &dialect.path("m", true),
                    &[&headers[..], &[("content-length", length.as_str())]].concat(),
                ),
                body.clone(),
            ]
            .concat(),
        )
        .await;
        let reply = one.reply().await;
        assert!(
            reply.complete && reply.body == recordings[at],
            "{dialect:?} over HTTP/1.1 and TLS: {}",
            reply.text()
        );
        let reply = two.post(&dialect.path("m", true), &headers, body).await;
        assert!(
            reply.complete && reply.body == recordings[at],
            "{dialect:?} over HTTP/2 and TLS: {}",
            reply.text()
        );
    }
    // Plain text at the TLS port is nobody's request.
    assert!(
        client::try_get(gateway.ports.tls, "/healthz")
            .await
            .is_none_or(|reply| reply.status >= 400)
    );
    for row in gateway.settled_rows(3 + 8).await {
        assert_eq!(row["ended"], "complete", "{row}");
    }
}
