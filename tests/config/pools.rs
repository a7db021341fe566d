//! `conf/tollgate.toml`: retries, affinity, health checks, pings, the client's address.

use std::time::Duration;

use super::conf::{loaded, says};

fn is(text: &str, expected: &str) {
    says(text, &format!("tollgate.toml:1  {expected}\n"));
}

#[test]
fn what_is_written_is_taken() {
    let config = loaded(
        r#"
        client_address = [{ header = "CF-Connecting-IP", from = ["173.245.48.0/20", "2400:cb00::/32"] }]
        limits.min_pace = "2KiB"
        timeouts = { ping = "off", ping_before = "5s", commit = "0s" }
        retries = { share = "5%", reserve = 0, wait = "10ms", max_wait = "1s" }
        affinity = { headers = ["x-mine"], ttl = "2d", sessions = 1_000 }
        health = { parallel = 4, timeout = "3s", certificate_warning = "30d" }
        "#,
    );
    let header = &config.client_address[0];
    assert_eq!((header.header.as_str(), header.from.len()), ("cf-connecting-ip", 2));
    assert_eq!(config.limits.min_pace, 2048);
    let timeouts = &config.timeouts;
    assert_eq!(
        (timeouts.ping, timeouts.ping_before),
        (None, Some(Duration::from_secs(5)))
    );
    assert_eq!(timeouts.commit, Duration::ZERO);
    let retries = &config.retries;
    assert_eq!((retries.share_percent, retries.reserve), (5, 0));
    assert_eq!(
        (retries.wait, retries.max_wait),
        (Duration::from_millis(10), Duration::from_secs(1))
    );
    assert_eq!(config.affinity.headers, ["x-mine"]);
    assert_eq!(config.affinity.ttl, Duration::from_secs(2 * 24 * 3600));
    assert_eq!(config.affinity.sessions, 1000);
    assert_eq!(
        (config.health.parallel, config.health.timeout),
        (4, Duration::from_secs(3))
    );
    assert_eq!(config.health.certificate_warning, Duration::from_secs(30 * 24 * 3600));
}

#[test]
fn defaults() {
    let config = loaded("");
    assert_eq!((config.limits.attempts, config.limits.min_pace), (5, 0));
    let timeouts = &config.timeouts;
    assert_eq!(timeouts.ping, Some(Duration::from_secs(15)));
    assert_eq!(timeouts.ping_before, Some(Duration::from_secs(30)));
    assert_eq!(timeouts.commit, Duration::from_secs(2));
    assert!(config.affinity.headers.iter().any(|header| header == "session_id"));
    assert!(config.client_address.is_empty());
}

#[test]
fn retries() {
    let share = "it must be a share in whole percent, from \"0%\" to \"100%\"";
    is(
        "retries.share = \"101%\"",
        &format!("retries.share = \"101%\"\n    {share}"),
    );
    is(
        "retries.share = \"2.5%\"",
        &format!("retries.share = \"2.5%\"\n    {share}"),
    );
    is("retries.share = 20", &format!("retries.share = 20\n    {share}"));
    is(
        "retries.reserve = -1",
        "retries.reserve = -1\n    it must be from 0 to 1000000",
    );
    is(
        "retries.wait = \"2s\"",
        "retries.wait = \"2s\"\n    the first wait (retries.wait = 2s) is longer than the longest (retries.max_wait = \
         800ms). Raise the one or lower the other.",
    );
}

#[test]
fn pings_and_commitment() {
    is(
        "timeouts.ping = \"1ms\"",
        "timeouts.ping = \"1ms\"\n    it must be from 10ms to 1day",
    );
    is(
        "timeouts.ping = false",
        "timeouts.ping = false\n    it must be a time, as in \"15s\", not true or false",
    );
    is(
        "timeouts.commit = \"2m\"",
        "timeouts.commit = \"2m\"\n    it must be from 0s to 1m",
    );
    is(
        "limits.min_pace = \"1GiB\"",
        "limits.min_pace = \"1GiB\"\n    it must be from 0 to 1MiB",
    );
}

#[test]
fn affinity() {
    is(
        "affinity.headers = [\"x y\"]",
        "affinity.headers[0] = \"x y\"\n    this is not a header's name, as \"x-session-id\" is",
    );
    is(
        "affinity.headers = [\"Authorization\"]",
        "affinity.headers[0] = \"Authorization\"\n    keys travel in this header, and it is the same for all \
         conversations of a client. Remove it.",
    );
    is(
        "affinity.sessions = 0",
        "affinity.sessions = 0\n    it must be from 1 to 1000000",
    );
}

#[test]
fn client_addresses() {
    is(
        "client_address = [{ header = \"x-real-ip\" }]",
        "client_address[0]\n    from is missing. Write from = [\"10.0.0.0/8\"], the networks of those who set it.",
    );
    is(
        "client_address = [{ header = \"x-real-ip\", from = [] }]",
        "client_address[0].from\n    there must be one network at least: a header that anyone may set says nothing",
    );
    is(
        "client_address = [{ header = \"X-Forwarded-For\", from = [\"10.0.0.0/8\"] }]",
        "client_address[0].header = \"X-Forwarded-For\"\n    this header lists several addresses; the networks which set \
         it belong into trusted_proxies",
    );
    is(
        "client_address = [{ header = \"x-real-ip\", from = [\"10.0.0\"] }]",
        "client_address[0].from[0] = \"10.0.0\"\n    it must be a network or an address, as in \"10.0.0.0/8\" or \
         \"192.0.2.7\"",
    );
}

#[test]
fn health() {
    is(
        "health.parallel = 0",
        "health.parallel = 0\n    it must be from 1 to 1024",
    );
    is(
        "health.certificate_warning = \"2y\"",
        "health.certificate_warning = \"2y\"\n    it must be from 0s to 365days",
    );
}
