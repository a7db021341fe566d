//! HTTP CONNECT and SOCKS5: what works, and which side is to blame for what does not.

use std::time::Duration;

use pingora::connectors::L4Connect;
use tokio::io::AsyncReadExt;
use tollgate::config::Secret;
use tollgate::egress::{ConnectTimes, Reach, Side, Way, peer, side};
use tollgate::rules::Egress;
use tollgate::rules::egress::{Proxy as Rule, ProxyKind};

use crate::client::{Client, HOST, over_tls, reach};
use crate::origin::Origin;
use crate::pki::Authority;
use crate::proxy::{Does, PASSWORD, Proxy};

const BOTH: [ProxyKind; 2] = [ProxyKind::Connect, ProxyKind::Socks5];

#[tokio::test]
async fn names_are_resolved_by_the_proxy_and_pins_are_asked_for_as_they_are() {
    let origin = Origin::plain().await;
    for kind in BOTH {
        for does in [Does::Work, Does::Bytewise, Does::WorkFor("user")] {
            let proxy = Proxy::start(kind, origin.address, does).await;
            let way = proxy.way(matches!(does, Does::WorkFor(_)).then_some("user"));
            let client = Client::new();
            let plain = reach(proxy.address, &way);
            let got = client
                .get(plain)
                .await
                .unwrap_or_else(|error| panic!("{kind:?} {does:?}: {error}"));
            assert!(got.text.ends_with("h1"), "{kind:?}: {}", got.text);
            for (host, pin) in [
                ("[2001:db8::1]", None),
                ("192.0.2.1", None),
                (HOST, Some("[2001:db8::2]:8443")),
            ] {
                let pin = pin.map(|pin| pin.parse().unwrap());
                client.get(Reach { host, pin, ..plain }).await.unwrap();
            }
            let wanted = [
                "api.example.com:80",
                "[2001:db8::1]:80",
                "192.0.2.1:80",
                "[2001:db8::2]:8443",
            ];
            assert_eq!(proxy.asked(), wanted, "{kind:?} {does:?}");
        }
    }
}

#[tokio::test]
async fn tls_and_http2_run_through_both() {
    let authority = Authority::new();
    let origin = Origin::tls(&authority.sign(HOST, 1), None, true).await;
    for kind in BOTH {
        let proxy = Proxy::start(kind, origin.address, Does::Work).await;
        let mut rule = proxy.rule(None);
        rule.tls = Some(crate::certificates::files(Some(&authority), None).into());
        let way = Way::new(&rule).unwrap();
        let h2 = Reach {
            http: tollgate::rules::HttpVersions::Both,
            ..over_tls(proxy.address, &way)
        };
        let client = Client::new();
        let before = origin.connections();
        let many = (0..20).map(|_| client.get(h2));
        let mut texts = Vec::new();
        for one in many {
            texts.push(one.await.unwrap().text);
        }
        assert!(texts.iter().all(|text| text.ends_with("h2")), "{texts:?}");
        assert_eq!(origin.connections() - before, 1, "multiplexed: {texts:?}");
        let elsewhere = Reach {
            host: "other.example.com",
            ..h2
        };
        let error = client.fails(elsewhere).await;
        assert_eq!(
            side(&error),
            Side::Target,
            "the certificate is for another name: {error}"
        );
    }
}

#[tokio::test]
async fn what_fails_is_told_apart_and_no_secret_is_told() {
    let origin = Origin::plain().await;
    let cases: &[(ProxyKind, Does, Side, &str)] = &[
        (ProxyKind::Connect, Does::WorkFor("another"), Side::Proxy, "login"),
        (
            ProxyKind::Connect,
            Does::Say(b"HTTP/1.1 403 Forbidden\r\n\r\n"),
            Side::Proxy,
            "refused (403)",
        ),
        (
            ProxyKind::Connect,
            Does::Say(b"HTTP/1.1 301 Moved\r\nLocation: /\r\n\r\n"),
            Side::Proxy,
            "refused (301)",
        ),
        (
            ProxyKind::Connect,
            Does::Say(b"HTTP/1.1 502 Bad Gateway\r\n\r\n"),
            Side::Target,
            "reach the target",
        ),
        (
            ProxyKind::Connect,
            Does::Say(b"HTTP/1.1 504 Gateway Timeout\r\n\r\n"),
            Side::Target,
            "reach the target",
        ),
        (
            ProxyKind::Connect,
            Does::Say(b"SSH-2.0-canary\r\n"),
            Side::Proxy,
            "not speak HTTP",
        ),
        (
            ProxyKind::Connect,
            Does::Say(b"HTTP/1.1 two hundred\r\n\r\n"),
            Side::Proxy,
            "not speak HTTP",
        ),
        (
            ProxyKind::Connect,
            Does::Say(b"HTTP/1.1 200 OK\r\nVia"),
            Side::Proxy,
            "closed",
        ),
        (ProxyKind::Connect, Does::Say(b""), Side::Proxy, "closed"),
        (ProxyKind::Connect, Does::Endless, Side::Proxy, "bytes of header"),
        (ProxyKind::Connect, Does::Silence, Side::Proxy, "in time"),
        (ProxyKind::Socks5, Does::WorkFor("another"), Side::Proxy, "login"),
        (
            ProxyKind::Socks5,
            Does::Say(&[5, 0xff]),
            Side::Proxy,
            "no user and password",
        ),
        (ProxyKind::Socks5, Does::Say(&[5, 1]), Side::Proxy, "did not offer"),
        (
            ProxyKind::Socks5,
            Does::Say(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            Side::Proxy,
            "not speak SOCKS5",
        ),
        (ProxyKind::Socks5, Does::Say(&[5]), Side::Proxy, "closed"),
        (ProxyKind::Socks5, Does::Say(b""), Side::Proxy, "closed"),
        (
            ProxyKind::Socks5,
            Does::Reply(&[5, 2, 0, 1, 0, 0, 0, 0, 0, 0]),
            Side::Proxy,
            "allow",
        ),
        (
            ProxyKind::Socks5,
            Does::Reply(&[5, 4, 0, 1, 0, 0, 0, 0, 0, 0]),
            Side::Target,
            "host",
        ),
        (
            ProxyKind::Socks5,
            Does::Reply(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]),
            Side::Target,
            "refused",
        ),
        (
            ProxyKind::Socks5,
            Does::Reply(&[4, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
            Side::Proxy,
            "not speak SOCKS5",
        ),
        (
            ProxyKind::Socks5,
            Does::Reply(&[5, 0, 0, 9, 0, 0]),
            Side::Proxy,
            "kind of address",
        ),
        (ProxyKind::Socks5, Does::Reply(&[5, 0, 0]), Side::Proxy, "closed"),
        (ProxyKind::Socks5, Does::Silence, Side::Proxy, "in time"),
    ];
    for (kind, does, wanted, word) in cases {
        let proxy = Proxy::start(*kind, origin.address, *does).await;
        let way = proxy.way(Some("canary-user"));
        let mut asked = reach(proxy.address, &way);
        if matches!(does, Does::Silence) {
            asked.times.connect = Duration::from_millis(50);
        }
        let error = Client::new().fails(asked).await;
        let told = format!("{error} {error:?} {:?}", peer(asked));
        assert_eq!(side(&error), *wanted, "{kind:?} {does:?}: {error}");
        assert!(error.to_string().contains(word), "{kind:?} {does:?}: {error}");
        assert!(!told.contains("canary"), "neither login nor answer: {told}");
        assert!(!told.contains(PASSWORD));
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_there_or_drips_is_the_proxys_fault() {
    let free = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for kind in BOTH {
        let drips = Proxy::start(kind, free, Does::Drip).await;
        let way = drips.way(None);
        let mut asked = reach(drips.address, &way);
        asked.times.connect = Duration::from_millis(300);
        let error = Client::new().fails(asked).await;
        assert_eq!(side(&error), Side::Proxy, "{kind:?}: {error}");
        assert!(error.to_string().contains("in time"), "{kind:?}: {error}");

        let error = Client::new().fails(reach(free, &way)).await;
        assert_eq!(side(&error), Side::Proxy, "{kind:?}: {error}");
        assert!(error.to_string().contains("can't be reached"), "{error}");

        // It works, but goes away as soon as it is asked for more: not known to be its fault.
        let works = Proxy::start(kind, free, Does::Work).await;
        let way = works.way(None);
        assert_eq!(
            side(&*Client::new().fails(reach(works.address, &way)).await),
            Side::Target
        );
    }
}

#[tokio::test]
async fn the_whole_connect_is_bounded_also_when_a_proxy_keeps_it_going() {
    let authority = Authority::new();
    // A TLS provider that never shakes hands.
    let deaf = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(ProxyKind::Socks5, deaf.local_addr().unwrap(), Does::Work).await;
    let mut rule = proxy.rule(None);
    rule.tls = Some(crate::certificates::files(Some(&authority), None).into());
    let way = Way::new(&rule).unwrap();
    let mut asked = over_tls(proxy.address, &way);
    asked.times = ConnectTimes {
        connect: Duration::from_secs(60),
        total: Duration::from_secs(60),
        ..asked.times
    };
    assert_eq!(
        peer(asked).options.total_connection_timeout,
        Some(Duration::from_secs(60))
    );
    asked.times.connect = Duration::from_millis(100);
    asked.times.total = Duration::from_millis(100);
    let error = Client::new().fails(asked).await;
    assert_eq!(*error.etype(), pingora::ErrorType::ConnectTimedout, "{error}");
}

#[tokio::test]
async fn nothing_is_lost_behind_the_header() {
    let origin = Origin::plain().await;
    for kind in BOTH {
        let first = Does::WorkWithFirst(b"first words of the target");
        let proxy = Proxy::start(kind, origin.address, first).await;
        let way = proxy.way(None);
        let peer = peer(reach(proxy.address, &way));
        let tunnel = peer.options.custom_l4.clone().unwrap();
        let mut stream = L4Connect::connect(&*tunnel, &peer._address).await.unwrap();
        let mut text = [0; 25];
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read_exact(&mut text));
        read.await.expect("nothing came").unwrap();
        assert_eq!(&text, b"first words of the target", "{kind:?}");
    }
}

#[test]
fn logins_that_cannot_be_sent_are_refused_at_load() {
    let long = "x".repeat(256);
    for (kind, user, password, good) in [
        (ProxyKind::Connect, "user", "pass:word", true),
        (ProxyKind::Connect, "us:er", "x", false),
        (ProxyKind::Connect, "user", "x\r\nX-Other: 1", false),
        (ProxyKind::Connect, "user", &long, true),
        (ProxyKind::Socks5, "us:er", "x", true),
        (ProxyKind::Socks5, "user", "", false),
        (ProxyKind::Socks5, "user", &long, false),
    ] {
        let rule = Rule {
            kind,
            host: "proxy.example".into(),
            port: 1080,
            login: Some((user.into(), Secret::new(password))),
        };
        let way = Way::new(&Egress {
            proxy: Some(rule.into()),
            ..Egress::default()
        });
        assert_eq!(way.is_ok(), good, "{kind:?} {user} {password}");
    }
}
