//! What an endpoint dials next: by DNS or pinned, directly or through a proxy, by credential.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tollgate::egress::{Authority, Names, Side, Ways};
use tollgate::rules::egress::{Proxy as Rule, ProxyKind};
use tollgate::rules::{Base, Credential, CredentialLimits, Egress, Provider};
use tollgate::upstream::{Dial, Endpoint};

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A provider as the rules have it; its credentials and ways are the test's.
fn provider(connect_to: &str) -> Provider {
    let folder = tempfile::tempdir().unwrap();
    let rules = format!(
        "[provider.a]\ndialects = {{ openai_chat = \"https://api.example.com/v1\" }}\nauth = \"none\"\n{connect_to}\n"
    );
    std::fs::write(folder.path().join("10.toml"), rules).unwrap();
    let (mut rules, _) = tollgate::rules::compile(folder.path(), &tollgate::clock::Clock::system()).unwrap();
    rules.by_name.clear();
    Arc::try_unwrap(rules.providers.remove(0)).unwrap_or_else(|_| unreachable!("nobody else holds it"))
}

fn through(host: &str) -> Egress {
    Egress {
        proxy: Some(Arc::new(Rule {
            kind: ProxyKind::Socks5,
            host: host.into(),
            port: 1080,
            login: None,
        })),
        ..Egress::default()
    }
}

fn credential(name: &str, egress: Egress) -> Credential {
    Credential {
        name: name.into(),
        secret: None,
        stored: None,
        inactive: None,
        weight: 1,
        tags: Vec::new(),
        limits: CredentialLimits::default(),
        egress,
    }
}

fn endpoint(provider: &Provider, before: Option<&Endpoint>) -> Endpoint {
    let base: &Base = &provider.bases[0];
    Endpoint::new(base, &provider.connect_to, Arc::new(Ways::new(provider)), before).unwrap()
}

/// The provider has two IPv4 addresses and one of IPv6; proxies have one.
fn names() -> Names {
    let lookup = |host: &str, port: u16| {
        let found: &[&str] = match host {
            "api.example.com" => &["192.0.2.1", "2001:db8::1", "192.0.2.2"],
            "proxy.example" => &["198.51.100.1"],
            "other.example" => &["198.51.100.2"],
            _ => &[],
        };
        Ok(found
            .iter()
            .map(|one| SocketAddr::new(one.parse().unwrap(), port))
            .collect())
    };
    Names::with_lookup(HashMap::new(), Duration::from_secs(20), Arc::new(lookup))
}

/// The next address by the way without a credential.
async fn pick(endpoint: &Endpoint, names: &Names, tried: &[SocketAddr], now: Instant) -> Option<SocketAddr> {
    let dial = endpoint.dial(endpoint.way(None), names, tried, now).await?;
    Some(dial.address)
}

#[tokio::test]
async fn attempts_go_from_address_to_address_and_what_was_learned_survives_a_reload() {
    let (provider, names, now) = (provider(""), names(), Instant::now());
    let first = endpoint(&provider, None);
    assert!(first.peers(now).is_empty());
    let mut tried = Vec::new();
    while let Some(address) = pick(&first, &names, &tried, now).await {
        tried.push(address);
    }
    assert_eq!(
        tried,
        ["192.0.2.1:443", "192.0.2.2:443", "[2001:db8::1]:443"].map(at),
        "IPv6 last"
    );
    first.connected(at("192.0.2.1:443"), None, now);
    first.connected(at("192.0.2.2:443"), Some(Duration::from_millis(30)), now);

    let next = endpoint(&provider, Some(&first));
    let peers = next.peers(now);
    assert_eq!(peers.len(), 3);
    assert_eq!(
        (peers[0].failures, peers[0].until),
        (1, Some(now + Duration::from_secs(1)))
    );
    assert_eq!(peers[1].connect, Some(Duration::from_millis(30)));
    for _ in 0..4 {
        assert_eq!(
            pick(&next, &names, &[], now).await,
            Some(at("192.0.2.2:443")),
            "the other one cools"
        );
        let stranger = endpoint(&provider, None);
        assert_eq!(
            pick(&stranger, &names, &[], now).await,
            Some(at("192.0.2.2:443")),
            "one book for all"
        );
    }
}

#[tokio::test]
async fn a_credential_goes_its_own_way_field_by_field() {
    let mut provider = provider("");
    provider.egress = Egress {
        bind: Some("192.0.2.77".parse().unwrap()),
        ..through("proxy.example")
    };
    let bind = Egress {
        bind: Some("2001:db8::77".parse().unwrap()),
        ..Egress::default()
    };
    let credentials = [
        credential("plain", Egress::default()),
        credential("proxied", through("other.example")),
        credential("bound", bind),
    ];
    provider.credentials = credentials.into_iter().map(Arc::new).collect();
    let (endpoint, names, now) = (endpoint(&provider, None), names(), Instant::now());
    let dial = |name: &'static str| {
        let credential = provider.credentials.iter().find(|one| &*one.name == name).unwrap();
        let way = endpoint.way(Some(credential));
        endpoint.dial(way, &names, &[], now)
    };
    let address = |text| {
        Some(Dial {
            address: at(text),
            pin: None,
        })
    };
    assert_eq!(dial("plain").await, address("198.51.100.1:1080"));
    assert_eq!(dial("proxied").await, address("198.51.100.2:1080"));
    assert_eq!(
        dial("bound").await,
        None,
        "from an IPv6 address no IPv4 proxy can be reached"
    );
    let ahead: Vec<_> = endpoint.authorities().cloned().collect();
    let proxy = |host: &str| Authority::Name {
        host: host.into(),
        port: 1080,
    };
    assert!(ahead.contains(&proxy("proxy.example")) && ahead.contains(&proxy("other.example")));
    assert!(
        !ahead.contains(endpoint.authority()),
        "the proxies resolve the provider's name: {ahead:?}"
    );
}

#[tokio::test]
async fn a_bound_family_is_the_only_one_dialled() {
    let mut provider = provider("");
    provider.egress.bind = Some("2001:db8::77".parse().unwrap());
    let (endpoint, names, now) = (endpoint(&provider, None), names(), Instant::now());
    let six = at("[2001:db8::1]:443");
    assert_eq!(pick(&endpoint, &names, &[], now).await, Some(six));
    assert_eq!(pick(&endpoint, &names, &[six], now).await, None);
}

#[tokio::test]
async fn pins_through_a_proxy_cool_by_themselves() {
    let mut provider = provider("connect_to = [\"203.0.113.1:443\", \"203.0.113.2:443\"]");
    provider.egress = through("proxy.example");
    let (endpoint, names, now) = (endpoint(&provider, None), names(), Instant::now());
    let way = endpoint.way(None);
    let first = endpoint.dial(way, &names, &[], now).await.unwrap();
    assert_eq!(
        (first.address, first.pin),
        (at("198.51.100.1:1080"), Some(at("203.0.113.1:443")))
    );
    endpoint.dialled(way, first, Err(Side::Target), now);
    for _ in 0..4 {
        let next = endpoint.dial(way, &names, &[], now).await.unwrap();
        assert_eq!((next.address, next.pin), (first.address, Some(at("203.0.113.2:443"))));
    }
    let hop = |now| way.known_spot().unwrap().states(now)[0].clone();
    endpoint.dialled(way, first, Err(Side::Proxy), now);
    assert_eq!(hop(now).failures, 1);
    endpoint.dialled(way, first, Err(Side::Target), now);
    assert_eq!(
        (hop(now).failures, hop(now).connect),
        (0, None),
        "whoever says that the target fails works"
    );
    endpoint.dialled(way, first, Ok(Duration::from_millis(9)), now);
    assert_eq!(hop(now).connect, Some(Duration::from_millis(9)));
    endpoint.dialled(way, first, Err(Side::Target), now);
    let peers = endpoint.peers(now);
    assert_eq!(peers.len(), 2, "the proxy is none of the provider's: {peers:?}");
    assert_eq!((peers[0].failures, peers[1].failures), (1, 0));
}

#[tokio::test]
async fn a_broken_way_is_closed_and_not_replaced_by_a_direct_one() {
    let mut provider = provider("");
    let broken = Rule {
        kind: ProxyKind::Connect,
        host: "proxy.example".into(),
        port: 3128,
        login: Some(("us:er".into(), tollgate::config::Secret::new("x"))),
    };
    provider.egress.proxy = Some(Arc::new(broken));
    let (endpoint, names, now) = (endpoint(&provider, None), names(), Instant::now());
    let way = endpoint.way(None);
    assert!(way.why_broken().is_some());
    let ways = Ways::new(&provider);
    let problems: Vec<_> = ways.problems().collect();
    assert!(
        matches!(problems[..], [(None, why)] if why.contains("colon")),
        "{problems:?}"
    );
    assert_eq!(pick(&endpoint, &names, &[], now).await, None);
    // Also for who does not ask.
    let origin = crate::origin::Origin::plain().await;
    crate::client::Client::new()
        .fails(crate::client::reach(origin.address, way))
        .await;
    assert_eq!(origin.connections(), 0);
}
