//! Which connections are shared, and which never.

use std::net::IpAddr;

use tollgate::egress::{Reach, Way};
use tollgate::rules::egress::ProxyKind;
use tollgate::rules::{Egress, HttpVersions};

use crate::certificates::{files, way};
use crate::client::{Client, HOST, over_tls, reach};
use crate::origin::Origin;
use crate::pki::Authority;
use crate::proxy::{Does, Proxy};

fn bound(address: &str) -> Way {
    let bind: IpAddr = address.parse().unwrap();
    Way::new(&Egress {
        bind: Some(bind),
        ..Egress::default()
    })
    .unwrap()
}

#[tokio::test]
async fn a_tunnel_is_used_again_for_the_same_target_and_no_other() {
    let origin = Origin::plain().await;
    for kind in [ProxyKind::Connect, ProxyKind::Socks5] {
        let proxy = Proxy::start(kind, origin.address, Does::Work).await;
        // As before and after a reload: compiled twice, still the same way.
        let (way, again) = (proxy.way(None), proxy.way(None));
        let client = Client::new();
        for (at, way) in [&way, &again, &way, &again].into_iter().enumerate() {
            let got = client.get(reach(proxy.address, way)).await.unwrap();
            assert_eq!(got.reused, at > 0, "{kind:?}");
        }
        assert_eq!(proxy.connections(), 1);
        let one = reach(proxy.address, &way);
        let pin = Some("192.0.2.1:80".parse().unwrap());
        for other in [
            Reach {
                host: "b.example",
                ..one
            },
            Reach { port: 8080, ..one },
            Reach { pin, ..one },
        ] {
            assert!(
                !client.get(other).await.unwrap().reused,
                "{kind:?}: another target, though also plain"
            );
        }
        assert_eq!(proxy.connections(), 4);
        assert!(
            !client.get(reach(origin.address, &Way::default())).await.unwrap().reused,
            "direct"
        );
    }
}

#[tokio::test]
async fn other_logins_have_other_connections() {
    let origin = Origin::plain().await;
    let proxy = Proxy::start(ProxyKind::Connect, origin.address, Does::Work).await;
    let client = Client::new();
    for user in [None, Some("a"), Some("b")] {
        let way = proxy.way(user);
        assert!(
            !client.get(reach(proxy.address, &way)).await.unwrap().reused,
            "{user:?}"
        );
        assert!(client.get(reach(proxy.address, &way)).await.unwrap().reused, "{user:?}");
    }
}

#[tokio::test]
async fn a_local_address_is_bound_and_not_mixed_with_others() {
    let origin = Origin::plain().await;
    let client = Client::new();
    let (two, three) = (bound("127.0.0.2"), bound("127.0.0.3"));
    for (way, from) in [
        (&two, "from 127.0.0.2 "),
        (&three, "from 127.0.0.3 "),
        (&Way::default(), "from 127.0.0.1 "),
    ] {
        for reused in [false, true] {
            let got = client.get(reach(origin.address, way)).await.unwrap();
            assert!(got.text.contains(from) && got.reused == reused, "{from}: {}", got.text);
        }
    }
    // Through a proxy, the connection to it is the bound one.
    for kind in [ProxyKind::Connect, ProxyKind::Socks5] {
        let proxy = Proxy::start(kind, origin.address, Does::Work).await;
        let mut rule = proxy.rule(None);
        rule.bind = Some("127.0.0.2".parse().unwrap());
        let way = Way::new(&rule).unwrap();
        client.get(reach(proxy.address, &way)).await.unwrap();
        assert_eq!(proxy.clients()[0].ip().to_string(), "127.0.0.2", "{kind:?}");
    }
}

#[tokio::test]
async fn neither_authorities_nor_client_certificates_of_the_same_number_share() {
    let (authority, clients, others) = (Authority::new(), Authority::new(), Authority::new());
    let origin = Origin::tls(&authority.sign(HOST, 1), None, false).await;
    // Pingora's own key knows of a client certificate its serial number only, and of an authority nothing.
    let (one, two) = (clients.sign("us.example", 7), others.sign("us.example", 7));
    let bundle = Egress {
        tls: Some(
            tollgate::rules::egress::TlsFiles {
                ca: Some([authority.pem(), others.pem()].concat()),
                ..files(None, None)
            }
            .into(),
        ),
        ..Egress::default()
    };
    let ways = [
        way(Some(&authority), None),
        Way::new(&bundle).unwrap(),
        way(Some(&authority), Some(&one)),
        way(Some(&authority), Some(&two)),
    ];
    let client = Client::new();
    for (at, way) in ways.iter().enumerate() {
        assert!(!client.get(over_tls(origin.address, way)).await.unwrap().reused, "{at}");
    }
    for (at, way) in ways.iter().enumerate() {
        assert!(client.get(over_tls(origin.address, way)).await.unwrap().reused, "{at}");
    }
    assert_eq!(origin.connections(), 4);
    // Nor does a way that would not trust this server get a connection which another one opened.
    client.fails(over_tls(origin.address, &way(Some(&others), None))).await;
}

#[tokio::test]
async fn who_wants_http1_gets_no_http2_connection() {
    let authority = Authority::new();
    let origin = Origin::tls(&authority.sign(HOST, 1), None, true).await;
    let way = way(Some(&authority), None);
    let client = Client::new();
    // HTTP/1.1 first: who takes both would find its connection, were it in the same pool.
    for (http, version) in [
        (HttpVersions::H1, "h1"),
        (HttpVersions::Both, "h2"),
        (HttpVersions::H2, "h2"),
        (HttpVersions::H1, "h1"),
    ] {
        let got = client
            .get(Reach {
                http,
                ..over_tls(origin.address, &way)
            })
            .await
            .unwrap();
        assert!(got.text.ends_with(version), "{http:?}: {}", got.text);
    }
    let plain = Origin::plain().await;
    for (http, version) in [(HttpVersions::Both, "h1"), (HttpVersions::H2, "h2")] {
        let got = client
            .get(Reach {
                http,
                ..reach(plain.address, &way)
            })
            .await
            .unwrap();
        assert!(got.text.ends_with(version), "without TLS, {http:?}: {}", got.text);
    }
}
