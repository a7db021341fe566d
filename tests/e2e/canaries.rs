//! A value of its own in every place where there is a secret; then good and bad requests, errors that quote the key, reloads,
//! checks, refused calls, restarts with another master key; then everything that was written or answered is looked through.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::client::{self, Reply};
use crate::support::dialect::{ALL, Dialect};
use crate::support::gateway::{Gateway, Options, configuration};
use crate::support::until;

const BY_ENV: &str = "sk-canary-by-env-5b1f0c7d2e";
const BY_FILE: &str = "sk-canary-by-file-8c2a91d3f4";
const STORED: &str = "sk-canary-stored-1d9e7b3c5a";
const STORED_AGAIN: &str = "sk-canary-stored-again-77e0";
const ADDED: &str = "sk-canary-added-0a6b4c8d2e";
const UNUSED: &str = "sk-canary-unused-4f3e2d1c0b";
const PROXY: &str = "canary-proxy-password-6d5c";
const PROXY_STORED: &str = "canary-proxy-stored-9e8f";
/// A webhook's path, where nobody takes a connection; and what it is signed with.
const WEBHOOK: &str = "canary-webhook-path-2b7d9e1f3a";
const WEBHOOK_SECRET: &str = "canary-webhook-secret-6c4e8a0d2b5f7913";
/// The base 64 of `someone:` and the passwords, as they travel.
const PROXY_SENT: &str = "c29tZW9uZTpjYW5hcnkt";
/// Hexadecimal digits of the master keys.
const MASTER: &str = "ca9a47ca9a47ca9a47ca9a47ca9a47ca9a47ca9a47ca9a47ca9a47ca9a471234";
const MASTER_NEXT: &str = "0ca9a47ca9a47ca9a47ca9a47ca9a47ca9a47ca9a47ca9a47ca9a47ca9a45678";

/// Everything that was answered or printed, by where it came from.
#[derive(Default)]
struct Seen(Vec<(String, Vec<u8>)>);

impl Seen {
    fn reply(&mut self, from: impl Into<String>, reply: Reply) -> Reply {
        let from = from.into();
        let headers = format!("{:?}", reply.headers);
        self.0.push((format!("{from}: headers"), headers.into_bytes()));
        self.0.push((from, reply.body.to_vec()));
        reply
    }

    fn printed(&mut self, from: &str, (code, out, err): (i32, String, String)) -> i32 {
        self.0.push((format!("{from}: stdout"), out.into_bytes()));
        self.0.push((format!("{from}: stderr"), err.into_bytes()));
        code
    }

    fn files(&mut self, folder: &Path) {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                self.files(&path);
            } else if let Ok(bytes) = fs::read(&path) {
                self.0.push((path.display().to_string(), bytes));
            }
        }
    }
}

fn rules() -> String {
    let provider = |name: &str, more: &str, key: &str| {
        let host = "http://sandbox.internal";
        let credential = match key {
            "" => String::new(),
            key => format!("[[provider.{name}.credential]]\nname = \"main\"\nkey = \"{key}\"\n"),
        };
        format!(
            "[provider.{name}]\ndialects = {{ openai_chat = \"{host}/v1\", openai_responses = \"{host}/v1\", anthropic = \"{host}\", \
             gemini = \"{host}\" }}\ncooldown = \"off\"\n{more}\n{credential}\
             [[route]]\nname = \"{name}\"\nmodel = \"{name}*\"\ntargets = [{{ provider = \"{name}\" }}]\n"
        )
    };
    let proxy = |password: &str| {
        format!("proxy = {{ url = \"http://127.0.0.1:9\", user = \"someone\", password = \"{password}\" }}")
    };
    [
        provider("byenv", "", "env:CANARY_KEY"),
        provider("byfile", "", "file:conf/provider.key"),
        provider("bystore", "", "store:kept"),
        provider("proxied", &proxy("env:CANARY_PROXY"), "env:CANARY_KEY"),
        provider("proxiedstore", &proxy("store:proxy"), "store:kept"),
    ]
    .concat()
}

fn private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o400)).unwrap();
}

/// With a secret on its standard input.
async fn cli_with(gateway: &Gateway, arguments: &[&str], input: &'static str) -> (i32, String, String) {
    let file = gateway.path("typed.tmp");
    private(&file, input);
    let mut command = gateway.command();
    command.args(arguments).stdin(fs::File::open(&file).unwrap());
    let out = tokio::task::spawn_blocking(move || command.output().unwrap())
        .await
        .unwrap();
    fs::remove_file(&file).unwrap();
    (
        out.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&out.stdout).into_owned(),
        String::from_utf8_lossy(&out.stderr).into_owned(),
    )
}

async fn drive(gateway: &Gateway, seen: &mut Seen, key: &str) {
    for provider in ["byenv", "byfile", "bystore", "proxied", "proxiedstore"] {
        for dialect in ALL {
            for script in [
                "",
                ",status=401,echo",
                ",status=400,echo",
                ",status=500,echo",
                ",fault=error:2",
                ",fault=reset",
            ] {
                for stream in [false, true] {
                    let model = format!("{provider}{script}");
                    let (name, value) = dialect.key_header(key);
                    let headers = [(name, value.as_str()), ("content-type", "application/json")];
                    let (path, body) = (dialect.path(&model, stream), dialect.body(&model, stream));
                    let reply = client::send(gateway.ports.http, "POST", &path, &headers, &body).await;
                    let proxied = provider.starts_with("proxied");
                    assert_eq!(
                        reply.status == 200,
                        !proxied && (script.is_empty() || (stream && script.contains("error"))),
                        "{model}: {} {}",
                        reply.status,
                        reply.text()
                    );
                    if script.contains("400,echo") && !proxied {
                        assert!(
                            reply.text().contains("***"),
                            "the key was quoted, and hidden: {}",
                            reply.text()
                        );
                    }
                    seen.reply(format!("{dialect:?} {model} {stream}"), reply);
                }
            }
        }
    }
}

/// What is refused, with secrets where they do not belong.
async fn misuse(gateway: &Gateway, seen: &mut Seen, key: &str) {
    let bearer = format!("Bearer {key}");
    for (method, path, headers) in [
        ("GET", format!("/nowhere?key={key}"), vec![]),
        ("GET", format!("/v1/models?key={STORED}"), vec![("x-api-key", STORED)]),
        (
            "POST",
            "/v1/chat/completions".into(),
            vec![("authorization", bearer.as_str()), ("x-api-key", ADDED)],
        ),
        ("POST", "/v1/messages".into(), vec![("authorization", BY_ENV)]),
        (
            "POST",
            "/p/byenv/v1/nothing".into(),
            vec![("authorization", bearer.as_str())],
        ),
    ] {
        let reply = client::send(gateway.ports.http, method, &path, &headers, b"{").await;
        seen.reply(path, reply);
    }
    for (method, path, body) in [
        ("PUT", format!("/api/v1/secrets/{UNUSED}"), json!({ "secret": UNUSED })),
        ("PUT", "/api/v1/secrets/kept".into(), json!({ "secret": [UNUSED] })),
        ("PUT", "/api/v1/secrets/kept".into(), json!({ UNUSED: UNUSED })),
        (
            "PUT",
            "/api/v1/secrets/kept".into(),
            json!({ "secret": format!("{UNUSED}\n") }),
        ),
        ("GET", format!("/api/v1/secrets/{UNUSED}"), Value::Null),
        ("DELETE", format!("/api/v1/secrets/{UNUSED}"), Value::Null),
        ("DELETE", "/api/v1/secrets/kept".into(), Value::Null),
        (
            "POST",
            "/api/v1/credentials".into(),
            json!({ "provider": "byenv", "name": UNUSED, "secret": UNUSED }),
        ),
        (
            "POST",
            "/api/v1/credentials".into(),
            json!({ "provider": UNUSED, "name": "x", "secret": UNUSED }),
        ),
        (
            "POST",
            "/api/v1/credentials".into(),
            json!({ "provider": "byenv", "name": "x", "secret": UNUSED, "weight": 99999 }),
        ),
        (
            "POST",
            format!("/api/v1/credentials/byenv/{UNUSED}/verify"),
            Value::Null,
        ),
        ("DELETE", format!("/api/v1/credentials/byenv/{UNUSED}"), Value::Null),
        ("POST", "/api/v1/alerts/test".into(), json!({ "webhook": "nobody" })),
    ] {
        let reply = gateway
            .admin(method, &path, Some(body).filter(|body| !body.is_null()))
            .await;
        assert!(
            (400..500).contains(&reply.status),
            "{method} {path}: {} {}",
            reply.status,
            reply.text()
        );
        seen.reply(format!("{method} {path}"), reply);
    }
}

async fn look_on(gateway: &Gateway, seen: &mut Seen) {
    for path in [
        "/api/v1/secrets",
        "/api/v1/credentials",
        "/api/v1/providers",
        "/api/v1/routes",
        "/api/v1/status",
        "/api/v1/keys",
        "/api/v1/usage/rows",
        "/api/v1/alerts",
        "/api/v1/openapi.json",
    ] {
        let reply = gateway.admin("GET", path, None).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        seen.reply(path, reply);
    }
    for provider in ["byenv", "byfile", "bystore", "proxied", "proxiedstore"] {
        let path = format!("/api/v1/credentials/{provider}/main/verify");
        let reply = gateway.admin("POST", &path, None).await;
        seen.reply(path, reply);
    }
    let reply = gateway.admin("POST", "/api/v1/reload", None).await;
    seen.reply("reload", reply);
    seen.0.push(("/metrics".into(), gateway.metrics().await.into_bytes()));
    // Nobody takes a connection there.
    assert_eq!(seen.printed("alerts test", gateway.cli(&["alerts", "test"]).await), 2);
    for line in [
        "check",
        "check --json",
        "secrets list",
        "secrets list --json",
        "credentials list",
        "keys list",
        "alerts list",
        "alerts list --json",
    ] {
        let arguments: Vec<&str> = line.split(' ').collect();
        assert_eq!(seen.printed(line, gateway.cli(&arguments).await), 0, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_shows_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["conf", "rules"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("rules/10.toml"), rules()).unwrap();
    private(&folder.path().join("conf/provider.key"), BY_FILE);
    private(&folder.path().join("conf/master.key"), MASTER);
    private(&folder.path().join("conf/next.key"), MASTER_NEXT);
    let options = Options {
        environment: vec![
            ("CANARY_KEY", BY_ENV.into()),
            ("CANARY_PROXY", PROXY.into()),
            ("CANARY_WEBHOOK", format!("http://127.0.0.1:80/{WEBHOOK}")),
            ("CANARY_WEBHOOK_SECRET", WEBHOOK_SECRET.into()),
            ("RUST_LOG", "trace".into()),
        ],
        limits: "requests_per_address = 100000\n",
        ..Options::default()
    };
    let logs = "[logs]\nlevel = \"debug\"\n[alerts]\nfor = \"0s\"\nheartbeat = \"10s\"\n\
                [[alerts.webhook]]\nname = \"ops\"\nkind = \"generic\"\nurl = \"env:CANARY_WEBHOOK\"\n\
                secret = \"env:CANARY_WEBHOOK_SECRET\"\n";
    let mut gateway = Gateway::start_in(folder, options, |path, ports, options| {
        let conf = configuration(ports, options) + logs;
        let conf = conf.replace("[admin]\n", "[admin]\nallow_private = [\"127.0.0.0/8\"]\n");
        fs::write(path, conf).unwrap();
    })
    .await;
    let mut seen = Seen::default();

    // Secrets go in: over the API, and through the command line's standard input.
    for (name, secret) in [("kept", STORED), ("unused", UNUSED)] {
        let body = json!({ "secret": secret });
        let reply = gateway
            .admin("PUT", &format!("/api/v1/secrets/{name}"), Some(body))
            .await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        seen.reply(format!("set {name}"), reply);
    }
    assert_eq!(
        seen.printed(
            "secrets set",
            cli_with(&gateway, &["secrets", "set", "proxy"], PROXY_STORED).await
        ),
        0
    );
    let add = [
        "credentials",
        "add",
        "byfile",
        "second",
        "--weight",
        "2",
        "--tag",
        "gold",
    ];
    assert_eq!(
        seen.printed("credentials add", cli_with(&gateway, &add, ADDED).await),
        0
    );
    assert_eq!(
        seen.printed("a bad one", cli_with(&gateway, &["secrets", "set", ADDED], ADDED).await),
        1
    );
    assert_eq!(
        seen.printed("nothing", cli_with(&gateway, &["secrets", "set", "x"], "").await),
        1
    );

    let made = gateway
        .admin("POST", "/api/v1/keys", Some(json!({ "name": "canary" })))
        .await;
    // The one answer that shows a key: where it is made.
    let key = made.json()["key"].as_str().unwrap().to_owned();
    drive(&gateway, &mut seen, &key).await;
    misuse(&gateway, &mut seen, &key).await;
    look_on(&gateway, &mut seen).await;

    // Another value: requests have it at once.
    let body = json!({ "secret": STORED_AGAIN });
    let changed = gateway.admin("PUT", "/api/v1/secrets/kept", Some(body)).await;
    assert_eq!(changed.status, 200);
    seen.reply("set again", changed);
    let model = "bystore,status=400,echo";
    let reply = gateway
        .post(&Dialect::Chat.path(model, false), &Dialect::Chat.body(model, false))
        .await;
    assert!(reply.text().contains("***"), "{}", reply.text());
    seen.reply("after the change", reply);

    // Another master key: first by a command, which needs the gateway stopped, then with both keys and a kill in between.
    let rotate = ["secrets", "rotate", "--new-key", "conf/next.key"];
    assert_eq!(seen.printed("rotate", gateway.cli(&rotate).await), 1, "it is running");
    assert_eq!(gateway.stop().await, 0);
    assert_eq!(seen.printed("rotate", gateway.cli(&rotate).await), 0);
    assert_eq!(
        seen.printed("old key", gateway.cli(&["run"]).await),
        2,
        "the old key opens nothing any more"
    );
    let conf = gateway.path("conf/tollgate.toml");
    let text = fs::read_to_string(&conf).unwrap();
    fs::write(&conf, format!("master_key = \"conf/next.key\"\n{text}")).unwrap();
    gateway.restart().await;
    drive(&gateway, &mut seen, &key).await;
    assert_eq!(gateway.stop().await, 0);
    let both = format!("master_key = \"conf/master.key\"\nmaster_key_previous = \"conf/next.key\"\n{text}");
    fs::write(&conf, both).unwrap();
    gateway.restart().await;
    gateway.kill();
    gateway.restart().await;
    until("everything is sealed anew", Duration::from_secs(20), || async {
        let list = gateway.admin("GET", "/api/v1/secrets", None).await.json();
        (list["behind"] == 0).then_some(())
    })
    .await;
    until("the log says so", Duration::from_secs(20), || async {
        gateway.log().contains("master_key_previous can go").then_some(())
    })
    .await;
    gateway.signal(Signal::HUP);
    assert_eq!(gateway.stop().await, 0);
    fs::write(&conf, format!("master_key = \"conf/master.key\"\n{text}")).unwrap();
    gateway.restart().await;
    let reply = gateway
        .post(
            &Dialect::Chat.path("bystore", false),
            &Dialect::Chat.body("bystore", false),
        )
        .await;
    assert_eq!(
        reply.status,
        200,
        "keys of clients and of providers outlived both: {}",
        reply.text()
    );
    look_on(&gateway, &mut seen).await;
    gateway.idle().await;
    assert_eq!(gateway.stop().await, 0);

    // All there is.
    let token = gateway.first_run("admin_token");
    seen.files(gateway.path("data").parent().unwrap());
    let raw = |digits: &str| -> Vec<u8> {
        let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        (0..digits.len()).step_by(2).map(byte).collect()
    };
    let canaries: BTreeMap<&str, Vec<u8>> = [
        ("env:", BY_ENV.as_bytes()),
        ("file:", BY_FILE.as_bytes()),
        ("store:", STORED.as_bytes()),
        ("store:, changed", STORED_AGAIN.as_bytes()),
        ("added", ADDED.as_bytes()),
        ("unused", UNUSED.as_bytes()),
        ("proxy", PROXY.as_bytes()),
        ("proxy in the store", PROXY_STORED.as_bytes()),
        ("proxy, as sent", PROXY_SENT.as_bytes()),
        ("webhook", WEBHOOK.as_bytes()),
        ("webhook's secret", WEBHOOK_SECRET.as_bytes()),
        ("client key", &key.as_bytes()[19..]),
        ("first client key", &gateway.key.as_bytes()[19..]),
        ("admin token", token.as_bytes()),
        ("master key, digits", MASTER.as_bytes()),
        ("master key", &raw(MASTER)),
        ("next master key, digits", MASTER_NEXT.as_bytes()),
        ("next master key", &raw(MASTER_NEXT)),
    ]
    .map(|(name, canary)| (name, canary.to_vec()))
    .into();
    // The only places where each may stand.
    let may = |canary: &str, place: &str| match canary {
        "file:" => place.ends_with("conf/provider.key"),
        "first client key" => place.ends_with("data/first-run.toml"),
        "admin token" => place.ends_with("data/first-run.toml") || place.ends_with("data/admin.token"),
        "master key, digits" => place.ends_with("conf/master.key"),
        "next master key, digits" => place.ends_with("conf/next.key"),
        _ => false,
    };
    for wanted in [
        "access.log",
        "audit.jsonl",
        "stderr.log",
        "facts.tgj",
        "credentials-added.toml",
        ".tgj",
        "/metrics",
    ] {
        assert!(
            seen.0.iter().any(|(place, _)| place.contains(wanted)),
            "{wanted} was looked through"
        );
    }
    let mut leaks = Vec::new();
    for (place, bytes) in &seen.0 {
        for (name, canary) in &canaries {
            if memchr::memmem::find(bytes, canary).is_some() && !may(name, place) {
                leaks.push(format!("{name} in {place}"));
            }
        }
    }
    assert!(leaks.is_empty(), "{leaks:#?}");
}
