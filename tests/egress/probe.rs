//! A URL tried out over TLS. What is told and where it never goes is tested where it is asked for: in tests/admin.

use std::net::SocketAddr;
use std::sync::Arc;

use tollgate::egress::{Policy, Probe};

use crate::certificates::{END, way};
use crate::client::HOST;
use crate::origin::Origin;
use crate::pki::Authority;

#[tokio::test]
async fn the_end_of_the_certificate_is_told_with_the_answer() {
    let authority = Authority::new();
    let origin = Origin::tls(&authority.sign(HOST, 1), None, false).await;
    let port = origin.address.port();
    let probe = |ca: &Authority| {
        let policy = Policy::new(vec!["127.0.0.1/32".parse().unwrap()], vec![port]);
        Probe::new(policy)
            .with_lookup(Arc::new(|_, port| Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))])))
            .with_way(way(Some(ca), None))
    };
    let url = format!("https://{HOST}:{port}/v1");
    let tried = probe(&authority).test(&url).await.unwrap();
    assert_eq!((tried.status_class, tried.failure), (Some(2), None));
    assert_eq!(tried.certificate_ends, Some(END));
    let stranger = probe(&Authority::new()).test(&url).await.unwrap();
    assert_eq!((stranger.status_class, stranger.certificate_ends), (None, None));
    let elsewhere = probe(&authority)
        .test(&url.replace(HOST, "other.example"))
        .await
        .unwrap();
    assert_eq!(
        elsewhere.failure.map(|fault| fault.as_str()),
        Some("tls"),
        "its name is checked"
    );
}
