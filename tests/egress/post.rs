//! A document sent over TLS: to the checked address, under the name of the URL. What else there is to it is tested with alerts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tollgate::egress::post::NoAnswer;
use tollgate::egress::probe::Fault;
use tollgate::egress::{Policy, Post};

use crate::certificates::way;
use crate::client::HOST;
use crate::origin::Origin;
use crate::pki::Authority;

#[tokio::test]
async fn a_document_is_sent_to_whom_the_certificate_names() {
    let authority = Authority::new();
    let origin = Origin::tls(&authority.sign(HOST, 1), None, false).await;
    let port = origin.address.port();
    let post = |ca: &Authority| {
        let policy = Policy::new(vec!["127.0.0.1/32".parse().unwrap()], vec![port]);
        Post::new(policy)
            .with_lookup(Arc::new(|_, port| Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))])))
            .with_way(way(Some(ca), None))
    };
    let url = format!("https://{HOST}:{port}/hook");
    let longest = Duration::from_secs(20);
    let send = async |post: &Post, url: &str| post.json(url, &[], Bytes::from_static(b"{}"), longest).await;
    let answered = send(&post(&authority), &url).await.unwrap();
    assert_eq!(answered.status, 200);
    let tls = Err(NoAnswer::Failed(Fault::Tls));
    assert_eq!(send(&post(&Authority::new()), &url).await, tls, "a stranger signed it");
    let elsewhere = url.replace(HOST, "other.example");
    assert_eq!(send(&post(&authority), &elsewhere).await, tls, "it is another's");
}
