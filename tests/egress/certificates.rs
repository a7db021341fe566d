//! Authorities of one's own, client certificates, and that certificates are always checked.

use tollgate::clock::UnixMicros;
use tollgate::config::Secret;
use tollgate::egress::{Reach, Way, certificate_expiry, check, peer};
use tollgate::rules::Egress;
use tollgate::rules::egress::{ProxyKind, TlsFiles};

use crate::client::{Client, HOST, over_tls, reach};
use crate::origin::Origin;
use crate::pki::{Authority, Signed};
use crate::proxy::{Does, Proxy};

/// 2045-06-07T00:00:00Z, as `pki::END`.
pub const END: UnixMicros = UnixMicros(2_380_406_400_000_000);

pub fn files(ca: Option<&Authority>, identity: Option<&Signed>) -> TlsFiles {
    TlsFiles {
        ca: ca.map(Authority::pem),
        identity: identity.map(|one| (one.cert_pem.clone().into_bytes(), Secret::new(one.key_pem.clone()))),
    }
}

pub fn way(ca: Option<&Authority>, identity: Option<&Signed>) -> Way {
    let egress = Egress {
        tls: Some(files(ca, identity).into()),
        ..Egress::default()
    };
    Way::new(&egress).unwrap()
}

#[tokio::test]
async fn only_what_the_authority_signed_for_this_name_is_trusted() {
    let (authority, other) = (Authority::new(), Authority::new());
    let origin = Origin::tls(&authority.sign(HOST, 1), None, false).await;
    let (own, others, system) = (way(Some(&authority), None), way(Some(&other), None), Way::default());
    let client = Client::new();
    assert!(client.get(over_tls(origin.address, &own)).await.is_ok());
    for wrong in [&others, &system] {
        let error = client.fails(over_tls(origin.address, wrong)).await;
        assert_eq!(*error.etype(), pingora::ErrorType::TLSHandshakeFailure, "{error}");
    }
    for host in ["other.example.com", "127.0.0.1", "[::1]", ""] {
        let elsewhere = Reach {
            host,
            ..over_tls(origin.address, &own)
        };
        client.fails(elsewhere).await;
        let peer = peer(elsewhere);
        assert!(
            peer.options.verify_cert && peer.options.verify_hostname && !peer.sni.is_empty(),
            "{host:?}"
        );
    }
}

#[tokio::test]
async fn an_address_as_host_is_checked_against_the_certificate() {
    let authority = Authority::new();
    let origin = Origin::tls(&authority.sign("127.0.0.1", 1), None, false).await;
    let way = way(Some(&authority), None);
    let by_address = Reach {
        host: "127.0.0.1",
        ..over_tls(origin.address, &way)
    };
    assert!(Client::new().get(by_address).await.is_ok());
}

#[tokio::test]
async fn a_client_certificate_is_shown_to_who_wants_one() {
    let (authority, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let origin = Origin::tls(&authority.sign(HOST, 1), Some(&clients), true).await;
    let (good, stranger) = (clients.sign("us.example", 7), strangers.sign("us.example", 7));
    let (known, unknown) = (
        way(Some(&authority), Some(&good)),
        way(Some(&authority), Some(&stranger)),
    );
    let client = Client::new();
    let got = client.get(over_tls(origin.address, &known)).await.unwrap();
    assert!(got.text.ends_with("known"), "{}", got.text);
    for wrong in [&unknown, &way(Some(&authority), None)] {
        client.fails(over_tls(origin.address, wrong)).await;
    }
}

#[tokio::test]
async fn the_end_of_a_certificate_is_read_directly_and_through_proxies() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let (server, us) = (authority.sign(HOST, 1), clients.sign("us.example", 7));
    let origin = Origin::tls(&server, Some(&clients), true).await;
    let direct = way(Some(&authority), Some(&us));
    assert_eq!(
        certificate_expiry(over_tls(origin.address, &direct)).await,
        Ok(Some(END))
    );
    assert_eq!(certificate_expiry(reach(origin.address, &direct)).await, Ok(None));
    for kind in [ProxyKind::Connect, ProxyKind::Socks5] {
        let proxy = Proxy::start(kind, origin.address, Does::WorkFor("user")).await;
        let mut rule = proxy.rule(Some("user"));
        rule.tls = Some(files(Some(&authority), Some(&us)).into());
        let way = Way::new(&rule).unwrap();
        assert_eq!(
            certificate_expiry(over_tls(proxy.address, &way)).await,
            Ok(Some(END)),
            "{kind:?}"
        );
    }
    let stranger = way(Some(&Authority::new()), None);
    let error = certificate_expiry(over_tls(origin.address, &stranger))
        .await
        .unwrap_err();
    assert!(error.contains("no TLS"), "{error}");
    // It listens, and never shakes hands.
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut late = over_tls(deaf.local_addr().unwrap(), &direct);
    late.times.total = std::time::Duration::from_millis(50);
    assert!(certificate_expiry(late).await.unwrap_err().contains("in time"));
}

#[test]
fn files_that_are_not_what_they_should_be_are_told_at_load() {
    let (authority, other) = (Authority::new(), Authority::new());
    let (us, them) = (authority.sign("us.example", 7), other.sign("them.example", 7));
    assert_eq!(check(&files(Some(&authority), Some(&us))), Ok(()));
    let broken = "-----BEGIN CERTIFICATE-----\nY2FuYXJ5\n-----END CERTIFICATE-----\n";
    let cut = us.cert_pem.replace("-----END", "");
    let key_of = |pem: &str| Some((us.cert_pem.clone().into_bytes(), Secret::new(pem)));
    let not_a_key = "-----BEGIN PRIVATE KEY-----\nY2FuYXJ5\n-----END PRIVATE KEY-----\n";
    for (what, ca, identity) in [
        ("an empty CA", Some(Vec::new()), None),
        ("no PEM", Some(b"canary".to_vec()), None),
        ("no certificate in it", Some(broken.as_bytes().to_vec()), None),
        ("cut", Some(cut.clone().into_bytes()), None),
        ("a key in place of a CA", Some(us.key_pem.clone().into_bytes()), None),
        ("an empty key", None, key_of("")),
        ("no PEM as key", None, key_of("canary")),
        ("no key in it", None, key_of(not_a_key)),
        ("a certificate in place of the key", None, key_of(&us.cert_pem)),
        ("another's key", None, key_of(&them.key_pem)),
        (
            "a broken chain",
            None,
            Some((broken.into(), Secret::new(us.key_pem.clone()))),
        ),
    ] {
        let why = check(&TlsFiles { ca, identity }).expect_err(what);
        assert!(!why.contains("canary") && !why.contains("Y2Fu"), "{what}: {why}");
    }
}
