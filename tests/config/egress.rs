//! Providers and credentials: strategy, proxy, local address, certificates, health checks, tags, limits.

use std::time::Duration;

use tollgate::rules::egress::ProxyKind;
use tollgate::rules::{Provider, Strategy};

use super::Folder;
use super::rules::{credential, says};

/// A provider with these lines; they begin at line 4.
fn provider(lines: &str) -> String {
    format!("[provider.a]\ndialects = {{ openai_chat = \"https://a/v1\" }}\nauth = \"none\"\n{lines}\n")
}

fn compiled(text: &str, environment: &[(&str, &str)]) -> std::sync::Arc<Provider> {
    let folder = Folder::with(&[("a.toml", text)]);
    let (rules, warnings) = folder
        .compile(environment)
        .map_err(|problems| panic!("{}", folder.show(&problems)))
        .unwrap();
    assert_eq!(folder.show(&warnings), "");
    rules.providers[0].clone()
}

#[test]
fn what_is_written_is_taken() {
    let text = provider(
        "strategy = \"least_latency\"\ncooldown = \"off\"\nbind = \"192.0.2.7\"\nproxy = \"socks5://[::1]:1080\"\n\
         health = { every = \"1m\", path = \"/health\" }",
    );
    let provider = compiled(&text, &[]);
    assert_eq!(provider.strategy, Strategy::LeastLatency);
    assert!(!provider.cooldown);
    assert_eq!(provider.egress.bind, Some("192.0.2.7".parse().unwrap()));
    let proxy = provider.egress.proxy.as_ref().unwrap();
    assert_eq!((proxy.kind, &*proxy.host, proxy.port), (ProxyKind::Socks5, "::1", 1080));
    assert!(proxy.login.is_none());
    assert_eq!(provider.health.every, Some(Duration::from_secs(60)));
    assert_eq!(provider.health.path.as_deref(), Some("/health"));
}

#[test]
fn left_out_it_is_as_ever() {
    let provider = compiled(&provider(""), &[]);
    assert_eq!(provider.strategy, Strategy::Weighted);
    assert!(provider.cooldown && provider.egress.proxy.is_none() && provider.egress.tls.is_none());
    assert_eq!(provider.health.every, Some(Duration::from_secs(300)));
    let off = compiled(&self::provider("health = \"off\""), &[]);
    assert_eq!(off.health.every, None);
}

#[test]
fn a_credential_has_its_own() {
    let text = credential(
        "name = \"m\"\nkey = \"env:KEY\"\ntags = [\"eu\", \"batch\"]\nbind = \"::1\"\n\
         limits = { requests_per_minute = 500, tokens_per_minute = 1_000_000, concurrent = 20 }\n\
         proxy = { url = \"http://Proxy.example:3128\", user = \"me\", password = \"env:PROXY\" }",
    );
    let provider = compiled(&text, &[("KEY", "k"), ("PROXY", "p w")]);
    let credential = &provider.credentials[0];
    assert_eq!(*credential.tags, ["eu".into(), "batch".into()]);
    let limits = credential.limits;
    assert_eq!(limits.requests_per_minute, Some(500));
    assert_eq!(
        (limits.tokens_per_minute, limits.concurrent),
        (Some(1_000_000), Some(20))
    );
    let proxy = credential.egress.proxy.as_ref().unwrap();
    assert_eq!(
        (proxy.kind, &*proxy.host, proxy.port),
        (ProxyKind::Connect, "proxy.example", 3128)
    );
    let (user, password) = proxy.login.as_ref().unwrap();
    assert_eq!((&**user, password.expose()), ("me", "p w"));
    assert!(!format!("{provider:?}").contains("p w"));

    let provider = compiled(&text, &[("KEY", "k")]);
    let credential = &provider.credentials[0];
    assert!(
        credential.secret.is_none(),
        "without its proxy's password it is not used"
    );
    assert_eq!(
        credential.inactive.as_deref(),
        Some("the password of its proxy: the environment variable PROXY is not set")
    );
}

#[test]
fn a_provider_waits_for_its_proxys_password() {
    let text = provider("proxy = { url = \"http://p:1\", user = \"u\", password = \"env:PROXY\" }");
    assert_eq!(
        compiled(&text, &[]).inactive.as_deref(),
        Some("the password of its proxy: the environment variable PROXY is not set")
    );
    assert_eq!(compiled(&text, &[("PROXY", "x")]).inactive, None);
}

#[test]
fn proxies() {
    let example = "write it as \"socks5://127.0.0.1:1080\" or \"http://proxy.example:3128\"";
    for (written, help) in [
        ("127.0.0.1:1080", format!("it is not a URL; {example}")),
        ("ftp://p:1", format!("the scheme must be socks5 or http; {example}")),
        (
            "https://p:1",
            "TLS to the proxy itself is not offered; it must be http:// or socks5://".to_owned(),
        ),
        ("http://p", format!("the port is missing; {example}")),
        ("socks5://[::1]", format!("the port is missing; {example}")),
        ("http://p:0", format!("the port must be from 1 to 65535; {example}")),
        (
            "http://p:1/x",
            format!("a proxy has a host and a port, no path; {example}"),
        ),
        ("http://a b:1", format!("the host is not valid; {example}")),
    ] {
        says(
            &provider(&format!("proxy = \"{written}\"")),
            &format!("4  provider.a.proxy = \"{written}\"\n    {help}\n"),
        );
    }
    says(
        &provider("proxy = \"socks5://me:hunter2@p:1\""),
        "4  provider.a.proxy\n    user and password must not stand in the URL. Write proxy = { url = \"...\", user = \
         \"...\", password = \"env:NAME\" }, with the password in that environment variable.\n",
    );
    says(
        &provider("proxy = { url = \"http://p:1\", user = \"me\" }"),
        "4  provider.a.proxy.user = \"me\"\n    user and password belong together; write both, or neither\n",
    );
    says(
        &provider("proxy = { url = \"http://p:1\", user = \"me\", password = \"hunter2\" }"),
        "4  provider.a.proxy.password\n    a password must not stand in this file (if this is one, replace it now): put \
         the password into an environment variable and write \"env:NAME\", or into a file of its own and write \
         \"file:PATH\", or into the gateway (`tollgate secrets set NAME`) and write \"store:NAME\".\n",
    );
    says(
        &provider("proxy = { url = \"http://p:1\", user = \"a:b\", password = \"env:P\" }"),
        "4  provider.a.proxy.user = \"a:b\"\n    a proxy's user has 1 to 255 bytes, without colons and control \
         characters\n",
    );
    says(
        &provider("proxy = { user = \"a\", password = \"env:P\" }"),
        "4  provider.a.proxy\n    url is missing. Write url = \"socks5://127.0.0.1:1080\".\n",
    );
}

#[test]
fn local_addresses() {
    says(
        &provider("bind = \"eth0\""),
        "4  provider.a.bind = \"eth0\"\n    it must be an address of this machine, without a port, as in \
         \"192.0.2.7\"\n",
    );
    says(
        &provider("bind = \"0.0.0.0\""),
        "4  provider.a.bind = \"0.0.0.0\"\n    this means any address; leave it out\n",
    );
}

const CERT: &str = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n";

#[test]
fn certificates() {
    let files = Folder::new();
    let file = |name: &str, text: &str| files.write(name, text).display().to_string();
    let (cert, key) = (file("cert.pem", CERT), file("key.pem", KEY));
    let provider_with = |tls: &str| provider(&format!("tls = {tls}"));
    let tls = |text: &str| {
        let provider = compiled(&provider_with(text), &[]);
        provider.egress.tls.clone().unwrap()
    };
    let both = tls(&format!("{{ ca = \"{cert}\", cert = \"{cert}\", key = \"{key}\" }}"));
    assert_eq!(both.ca.as_deref(), Some(CERT.as_bytes()));
    let (chain, secret) = both.identity.as_ref().unwrap();
    assert_eq!((chain.as_slice(), secret.expose()), (CERT.as_bytes(), KEY));
    assert!(!format!("{both:?}").contains("PRIVATE"));
    assert!(tls(&format!("{{ ca = \"{cert}\" }}")).identity.is_none());

    let what = |field: &str, path: &str| format!("4  provider.a.tls.{field} = \"{path}\"");
    says(
        &provider_with(&format!("{{ cert = \"{cert}\" }}")),
        &format!(
            "{}\n    its private key is missing. Write key = \"FILE\" beside it.\n",
            what("cert", &cert)
        ),
    );
    says(
        &provider_with(&format!("{{ key = \"{key}\" }}")),
        &format!(
            "{}\n    its certificate is missing. Write cert = \"FILE\" beside it.\n",
            what("key", &key)
        ),
    );
    says(
        &provider_with(&format!("{{ cert = \"{key}\", key = \"{cert}\" }}")),
        &format!(
            "{}\n    there is no certificate in the file (-----BEGIN CERTIFICATE-----)\n\
             {}\n    there is no private key in the file (-----BEGIN PRIVATE KEY-----)\n",
            what("cert", &key),
            what("key", &cert)
        ),
    );
    says(
        &provider_with("{ ca = \"/nonexistent/ca.pem\" }"),
        "4  provider.a.tls.ca = \"/nonexistent/ca.pem\"\n    the file can't be read: it does not exist\n",
    );
    let large = file("large.pem", &CERT.repeat(20_000));
    says(
        &provider_with(&format!("{{ ca = \"{large}\" }}")),
        &format!(
            "{}\n    the file can't be read: it is larger than 1MiB, the most that is read\n",
            what("ca", &large)
        ),
    );
    says(
        &provider_with("{ }"),
        "4  provider.a.tls\n    it says nothing. Write ca = \"FILE\", or cert and key, or leave it out.\n",
    );
    says(
        &provider_with(&format!("{{ ca = \"{cert}\" }}")).replace("https", "http"),
        "warning: 4  provider.a.tls\n    it says nothing here: all of the provider's URLs are http://, without TLS. Write \
         https:// there.\n",
    );
}

#[test]
fn health_checks() {
    says(
        &provider("health = \"on\""),
        "4  provider.a.health = \"on\"\n    it must be \"off\", or as in { every = \"5m\" }\n",
    );
    says(
        &provider("health = { every = \"1s\" }"),
        "4  provider.a.health.every = \"1s\"\n    it must be from 5s to 1day\n",
    );
    says(
        &provider("health = { path = \"models\" }"),
        "4  provider.a.health.path = \"models\"\n    it is a path below the base URL, as in \"/models\": it begins with a \
         slash and has 256 visible characters at most\n",
    );
    says(
        &provider("health = { path = \"/m\", model = \"m\" }"),
        "4  provider.a.health.model = \"m\"\n    one of path and model is asked, not both. Remove one of them.\n",
    );
}

#[test]
fn words_and_numbers() {
    says(
        &provider("strategy = \"fastest\""),
        "4  provider.a.strategy = \"fastest\"\n    it must be one of these.   (known: weighted, round_robin, least_used, \
         least_latency, adaptive, cheapest)\n",
    );
    says(
        &provider("cooldown = false"),
        "4  provider.a.cooldown = false\n    it must be a text in quotes, not true or false\n",
    );
    let limits = |limits: &str| credential(&format!("name = \"m\"\nkey = \"env:KEY\"\nlimits = {limits}"));
    says(
        &limits("{ concurrent = 0 }"),
        "6  provider.a.credential[0].limits.concurrent = 0\n    it must be from 1 to 1000000\n",
    );
    says(
        &limits("{ rpm = 5 }"),
        "6  provider.a.credential[0].limits.rpm\n    there is no field of this name.   (known: requests_per_minute, \
         tokens_per_minute, concurrent)\n",
    );
    says(
        &credential("name = \"m\"\nkey = \"env:KEY\"\ntags = [\"a b\"]"),
        "6  provider.a.credential[0].tags[0] = \"a b\"\n    a tag is one word of 1 to 64 bytes\n",
    );
}
