//! Client keys: made and revoked through the CLI and the admin API, refused at once, and written down nowhere.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::support::client::{self, Connection, Reply};
use crate::support::dialect::Dialect;
use crate::support::gateway::{Gateway, Options, PROVIDER_KEY, rules_for};
use crate::support::h2;
use crate::support::provider::{Answer, Provider};

const CHAT: &str = "/v1/chat/completions";

async fn setting() -> (Gateway, Provider) {
    let provider = Provider::start(|_| Answer::json(200, format!("{{\"id\":\"x\",\"choices\":[{{\"index\":0,\"message\":{{\"content\":\"CANARY-answer\"}},\"finish_reason\":\"stop\"}}],\"leak\":\"{PROVIDER_KEY}\"}}"))).await;
    (
        Gateway::start(Options {
            rules: rules_for(provider.address),
            ..Options::default()
        })
        .await,
        provider,
    )
}

async fn on(connection: &mut Connection, key: &str) -> Reply {
    let body = Dialect::Chat.body("m", false);
    let (bearer, length) = (format!("Bearer {key}"), body.len().to_string());
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
        ("content-length", &length),
    ];
    connection
        .send(&[client::head("POST", CHAT, &headers), body].concat())
        .await;
    connection.reply().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_key_is_refused_at_once_on_open_connections_too() {
    let (mut gateway, provider) = setting().await;
    let made = gateway
        .admin("POST", "/api/v1/keys", Some(json!({ "name": "by api", "owner": "me" })))
        .await;
    assert_eq!(made.status, 201, "{}", made.text());
    let (by_api, api_id) = (
        made.json()["key"].as_str().unwrap().to_owned(),
        made.json()["id"].as_str().unwrap().to_owned(),
    );
    let (code, out, err) = gateway.cli(&["keys", "create", "--name", "by cli"]).await;
    assert_eq!(code, 0, "{err}");
    let by_cli = out.trim().to_owned();
    assert!(
        by_cli.starts_with("sk-tg-") && by_cli.len() == "sk-tg-".len() + 12 + 1 + 32,
        "{by_cli}"
    );
    let cli_id = by_cli[6..18].to_owned();

    let mut first = Connection::open(gateway.ports.http).await;
    let mut second = Connection::open(gateway.ports.http).await;
    let mut multiplexed = h2::Connection::open(gateway.ports.h2c).await;
    let bearer = format!("Bearer {by_api}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    for _ in 0..3 {
        assert_eq!(on(&mut first, &by_api).await.status, 200);
        assert_eq!(on(&mut second, &by_cli).await.status, 200);
        assert_eq!(
            multiplexed
                .post(CHAT, &headers, Dialect::Chat.body("m", false))
                .await
                .status,
            200
        );
    }
    let called = provider.count();
    let revoked = gateway
        .admin("POST", &format!("/api/v1/keys/{api_id}/revoke"), None)
        .await;
    assert_eq!(revoked.status, 200, "{}", revoked.text());
    let reply = on(&mut first, &by_api).await;
    assert_eq!(reply.status, 401, "on the connection that was open");
    assert_eq!(reply.json()["error"]["code"], "revoked_api_key");
    assert_eq!(
        multiplexed
            .post(CHAT, &headers, Dialect::Chat.body("m", false))
            .await
            .status,
        401,
        "on HTTP/2"
    );
    assert_eq!(
        on(&mut second, &by_cli).await.status,
        200,
        "the other key is none the worse"
    );
    let (code, _, err) = gateway.cli(&["keys", "revoke", &cli_id]).await;
    assert_eq!(code, 0, "{err}");
    assert_eq!(on(&mut second, &by_cli).await.status, 401);
    assert_eq!(provider.count(), called + 1, "who is refused reaches no provider");

    let (code, out, err) = gateway.cli(&["keys", "list", "--json"]).await;
    assert_eq!(code, 0, "{err}");
    let list: serde_json::Value = serde_json::from_str(&out).unwrap();
    let keys = list["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 3, "{list}");
    assert_eq!(
        keys.iter().filter(|key| key["revoked_at"].is_string()).count(),
        2,
        "{list}"
    );
    let (code, out, _) = gateway.cli(&["keys", "list"]).await;
    assert!(code == 0 && out.contains("by cli") && out.contains("by api"), "{out}");

    assert_eq!(gateway.stop().await, 0);
    gateway.restart().await;
    for (key, status) in [(&by_api, 401), (&by_cli, 401), (&gateway.key, 200)] {
        let mut connection = Connection::open(gateway.ports.http).await;
        assert_eq!(on(&mut connection, key).await.status, status, "as before the restart");
    }
    assert_eq!(gateway.stop().await, 0);
    let (code, _, err) = gateway.cli(&["keys", "list"]).await;
    assert_eq!(code, 2, "nobody to ask: {err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_api_wants_its_token() {
    let (gateway, _provider) = setting().await;
    for headers in [
        vec![],
        vec![("authorization", "Bearer wrong")],
        vec![("authorization", "Bearer ")],
    ] {
        let reply = client::send(gateway.ports.admin, "GET", "/api/v1/keys", &headers, &[]).await;
        assert_eq!(reply.status, 401, "{headers:?}: {}", reply.text());
    }
    let bearer = gateway.bearer();
    let reply = client::send(
        gateway.ports.admin,
        "GET",
        "/api/v1/keys",
        &[("authorization", &bearer)],
        &[],
    )
    .await;
    assert_eq!(reply.status, 401, "a client's key is not the token");
    let reply = client::send(
        gateway.ports.http,
        "GET",
        "/api/v1/keys",
        &[("authorization", &bearer)],
        &[],
    )
    .await;
    assert_eq!(reply.status, 404, "the admin API is not on the clients' listener");
}

/// All files below a folder.
fn files(folder: &Path, found: &mut Vec<(std::path::PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, found);
        } else if let Ok(bytes) = fs::read(&path) {
            found.push((path, bytes));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_and_no_prompt_is_written_down() {
    let (mut gateway, _provider) = setting().await;
    let made = gateway
        .admin("POST", "/api/v1/keys", Some(json!({ "name": "scanned" })))
        .await
        .json()["key"]
        .as_str()
        .unwrap()
        .to_owned();
    let secret = made[made.len() - 32..].to_owned();
    let first = gateway.key[gateway.key.len() - 32..].to_owned();
    let token = gateway.first_run("admin_token");
    let http = gateway.ports.http;
    let prompt = br#"{"model":"m","messages":[{"role":"user","content":"CANARY-prompt"}]}"#;
    for headers in [
        ("authorization", format!("Bearer {made}")),
        ("x-api-key", made.clone()),
        ("x-goog-api-key", made.clone()),
    ] {
        client::send(
            http,
            "POST",
            CHAT,
            &[(headers.0, &headers.1), ("content-type", "application/json")],
            prompt,
        )
        .await;
    }
    // In places where it does not belong, and where errors are made of it.
    client::send(
        http,
        "POST",
        &format!("/v1beta/models/m:generateContent?key={made}"),
        &[],
        b"{\"contents\":\"CANARY-prompt\"}",
    )
    .await;
    client::send(http, "GET", &format!("/nowhere?key={made}"), &[], &[]).await;
    client::send(http, "GET", &format!("/p/p/files?key={made}"), &[], &[]).await;
    client::send(
        http,
        "POST",
        CHAT,
        &[("authorization", &format!("Bearer {made}x"))],
        b"CANARY-prompt no JSON",
    )
    .await;
    client::send(
        http,
        "POST",
        CHAT,
        &[("authorization", &format!("Basic {made}"))],
        b"{}",
    )
    .await;
    let mut connection = Connection::open(http).await;
    connection
        .send(format!("GARBAGE {made}\r\nauthorization: Bearer {made}\r\n\r\n").as_bytes())
        .await;
    connection.rest().await;
    let page = gateway.metrics().await;
    gateway.idle().await;
    assert_eq!(gateway.stop().await, 0);

    let mut found = vec![("/metrics".into(), page.into_bytes())];
    files(&gateway.path("data"), &mut found);
    found.push(("stderr".into(), gateway.log().into_bytes()));
    found.push(("stdout".into(), gateway.out().into_bytes()));
    let names: Vec<String> = found.iter().map(|(path, _)| path.display().to_string()).collect();
    assert!(
        names.iter().any(|name| name.ends_with("access.log")),
        "the access log was looked through: {names:?}"
    );
    for (path, bytes) in &found {
        let name = path.file_name().unwrap().to_string_lossy();
        let holds = |canary: &str| memchr::memmem::find(bytes, canary.as_bytes()).is_some();
        assert!(!holds(&secret), "{}: a client key's secret", path.display());
        assert!(
            !holds("CANARY-"),
            "{}: a provider's key, a prompt or an answer",
            path.display()
        );
        assert!(
            !holds(&first) || name == "first-run.toml",
            "{}: the first key",
            path.display()
        );
        assert!(
            !holds(&token) || name == "first-run.toml" || name == "admin.token",
            "{}: the admin token",
            path.display()
        );
    }
    for name in ["data/first-run.toml", "data/admin.token", "conf/master.key"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(gateway.path(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{name} is its owner's only: {mode:o}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_gone_is_told_and_a_short_admin_token_refused() {
    let (mut gateway, _provider) = setting().await;
    assert!(!gateway.log().contains("are gone"), "{}", gateway.log());
    assert_eq!(gateway.stop().await, 0);
    fs::remove_dir_all(gateway.path("data/store")).unwrap();
    gateway.restart().await;
    let log = gateway.log();
    let line = log
        .lines()
        .find(|line| line.contains("all client keys, groups, admin tokens and secrets are gone"));
    assert!(
        line.is_some_and(|line| line.contains("ERROR") && line.contains("backup")),
        "{log}"
    );
    assert_eq!(gateway.stop().await, 0);

    fs::write(gateway.path("data/admin.token"), "12345\n").unwrap();
    let (code, _, told) = gateway.cli(&[]).await;
    assert_ne!(code, 0, "{told}");
    assert!(
        told.contains("must have at least 32") && !told.contains("12345"),
        "{told}"
    );
}
