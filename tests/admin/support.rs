//! A gateway's admin side in this process: store, keys, ledger, rules and the router, on a port of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tollgate::admin::{self, AdminState, Audit};
use tollgate::alerts::Alerts;
use tollgate::app::surroundings::Surroundings;
use tollgate::clock::{Clock, UnixMicros};
use tollgate::config::{self, Secret};
use tollgate::egress::{Names, Policy, Probe};
use tollgate::ids::{AttemptId, KeyId, RequestId};
use tollgate::ir::{FinishKind, Usage};
use tollgate::keys::{Keys, MasterKey, Tokens};
use tollgate::ledger::{Closing, Ended, Ledger, Opening};
use tollgate::money::NanoUsd;
use tollgate::rules::{self, Live};
use tollgate::secrets::Vault;
use tollgate::store::Store;
use tollgate::upstream::LiveFleet;
use tollgate::upstream::health::{ByRules, Checks};

/// The admin token: nowhere to be seen but in requests.
pub const TOKEN: &str = "canary-admin-token-4f1c";
/// The key of the provider `paid`: nowhere to be seen at all.
pub const PROVIDER_KEY: &str = "sk-canary-provider-key-77aa";
/// What time it is: 2026-01-31T12:00:00Z.
pub const NOW: UnixMicros = UnixMicros(1_769_860_800_000_000);

/// One hour in microseconds.
pub const HOUR: i64 = 3_600_000_000;

pub struct Gateway {
    pub url: String,
    pub keys: Arc<Keys>,
    pub ledger: Ledger,
    pub checks: Checks,
    pub fleet: Arc<LiveFleet>,
    pub folder: TempDir,
    http: reqwest::Client,
    server: tokio::task::JoinHandle<()>,
}

impl Gateway {
    pub async fn start() -> Self {
        Self::start_with_token(TOKEN).await
    }

    pub async fn start_with_token(token: &str) -> Self {
        Self::start_with(token, Probe::new(Policy::default())).await
    }

    /// With the test of addresses under another policy.
    pub async fn start_with_probe(probe: Probe) -> Self {
        Self::start_with(TOKEN, probe).await
    }

    /// After this was entered at other times: of it only rows are left that are kept.
    pub async fn start_after(entered: &[&dyn Fn(&Ledger)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for enter in entered {
            let store = Arc::new(Store::open(&folder.path().join("store"), 16 << 20).expect("the store opens"));
            let journal = folder.path().join("journal");
            let ledger = Ledger::start(&journal, &ledger_settings(), store, Arc::default(), Clock::manual(NOW))
                .expect("the ledger starts");
            enter(&ledger);
            // Its last pass removes what is old.
            ledger.shut_down();
        }
        Self::start_in(folder, TOKEN, Probe::new(Policy::default())).await
    }

    async fn start_with(token: &str, probe: Probe) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self::start_in(folder, token, probe).await
    }

    async fn start_in(folder: TempDir, token: &str, probe: Probe) -> Self {
        let path = |name: &str| folder.path().join(name);
        let clock = Clock::manual(NOW);
        let store = Arc::new(Store::open(&path("store"), 16 << 20).expect("the store opens"));
        let master = MasterKey::load(&path("master.key"), true).expect("a master key");
        let keys =
            Arc::new(Keys::load(Arc::clone(&store), &master, Arc::default(), clock.clone()).expect("the keys load"));
        let tokens = Arc::new(Tokens::load(Arc::clone(&store), &master, clock.clone()).expect("the tokens load"));
        let vault = Arc::new(Vault::load(Arc::clone(&store), &master, None, clock.clone()).expect("the secrets open"));
        let ledger = Ledger::start(
            &path("journal"),
            &ledger_settings(),
            store,
            Arc::default(),
            clock.clone(),
        )
        .expect("the ledger starts");
        std::fs::create_dir(path("rules")).expect("a folder");
        std::fs::write(path("paid.key"), PROVIDER_KEY).expect("a file");
        write_rules(folder.path(), &good_rules(&path("paid.key")));
        let (compiled, _warnings) = rules::compile(&path("rules"), &clock).expect("the rules are good");
        let surroundings = Surroundings::new(Arc::clone(&vault), Vec::new());
        let live = Live::with(path("rules"), compiled, clock.clone(), Box::new(surroundings));
        let fleet = Arc::new(LiveFleet::new(live.load().clone()));
        let follower = fleet.clone();
        live.on_change(Box::new(move |rules| follower.replace(rules.clone())));
        let names = Arc::new(Names::new(Default::default(), Duration::from_secs(2)));
        let settings = tollgate::config::HealthSettings::default();
        let dial = ByRules {
            names,
            timeout: settings.timeout,
        };
        let checks = Checks::new(fleet.clone(), Box::new(dial), clock.clone(), &settings);
        let state = AdminState {
            keys: Arc::clone(&keys),
            vault,
            ledger: ledger.clone(),
            rules: live,
            fleet: fleet.clone(),
            checks: checks.clone(),
            token: Secret::new(token),
            tokens,
            started: UnixMicros(NOW.0 - HOUR),
            clock,
            audit: Arc::new(Audit::open(&path("audit.jsonl")).expect("the audit log opens")),
            probe: Arc::new(probe),
            pause: admin::Pause::default(),
            alerts: Alerts::new(&Default::default(), Policy::default(), Clock::manual(NOW)),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let service = admin::router(state).into_make_service_with_connect_info::<SocketAddr>();
        let server = tokio::spawn(async move { axum::serve(listener, service).await.expect("it serves") });
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        Gateway {
            url,
            keys,
            ledger,
            checks,
            fleet,
            folder,
            http,
            server,
        }
    }

    /// A request without a token.
    pub fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    /// A request with the token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.bare(method, path).bearer_auth(TOKEN)
    }

    /// A token of this role.
    pub async fn token(&self, role: &str) -> String {
        let wanted = serde_json::json!({ "name": role, "role": role });
        let made = self.post("/api/v1/tokens", &wanted).await;
        assert_eq!(made.status, 201, "{}", made.text);
        made.json()["token"].as_str().expect("a token").to_owned()
    }

    /// Asks and expects an answer.
    pub async fn get(&self, path: &str) -> Value {
        let answer = Answer::of(self.request(Method::GET, path)).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.json()
    }

    /// Writes and reads the answer.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        Answer::of(self.request(Method::POST, path).json(body)).await
    }

    /// The lines of the audit log.
    pub fn audit_lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("audit.jsonl")).expect("the audit log");
        text.lines()
            .map(|line| serde_json::from_str(line).expect("a JSON line"))
            .collect()
    }

    /// Enters an attempt into the ledger which began so many microseconds before now.
    pub fn enter(&self, ago: i64, change: impl FnOnce(&mut Opening, &mut Closing)) -> AttemptId {
        enter(&self.ledger, ago, change)
    }
}

fn ledger_settings() -> config::Ledger {
    config::Ledger {
        durability: config::Durability::Process,
        queue: 1024,
        segment: 16 << 20,
        sync_every: Duration::from_millis(5),
        min_free: 0,
        ballast: 0,
        ..config::Ledger::default()
    }
}

/// Enters an attempt into a ledger which began so many microseconds before [`NOW`].
pub fn enter(ledger: &Ledger, ago: i64, change: impl FnOnce(&mut Opening, &mut Closing)) -> AttemptId {
    let mut opening = Opening {
        id: AttemptId::new(),
        request: RequestId("request-1".into()),
        attempt: 1,
        at: UnixMicros(NOW.0 - ago),
        key: KeyId("AbCdEfGhIjKl".into()),
        route: "a route".into(),
        provider: "paid".into(),
        credential: "main".into(),
        operation: "chat".into(),
        client_dialect: "dialect".into(),
        provider_dialect: "dialect".into(),
        model: "small".into(),
        upstream_model: "small-1".into(),
        stream: true,
        group: "".into(),
        reserved: NanoUsd::ZERO,
        prompt_tokens: 0,
        prompt_cost: None,
        prompt_charge: NanoUsd::ZERO,
    };
    let mut closing = Closing {
        status: Some(200),
        usage: Some(Usage {
            input: 10,
            cache_read: 3,
            output: 5,
            reasoning: 2,
            ..Usage::default()
        }),
        finish: Some(FinishKind::Stop),
        response_id: Some("answer-1".into()),
        request_bytes: 100,
        response_bytes: 1000,
        first_byte_us: Some(1500),
        total_us: 9000,
        ..Closing::default()
    };
    change(&mut opening, &mut closing);
    let id = opening.id;
    let mut entry = ledger.open(opening);
    entry.closing = closing;
    entry.close(Ended::Complete);
    id
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.server.abort();
        self.ledger.shut_down();
    }
}

/// An answer, read.
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    pub async fn of(request: RequestBuilder) -> Self {
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status(), response.headers().clone());
        Answer {
            status,
            headers,
            text: response.text().await.expect("a text"),
        }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text))
    }

    /// Checks that it is a refusal of the one shape, and returns its word.
    pub fn refused(&self, status: u16, told: &str) -> (String, Option<String>) {
        assert_eq!(self.status, status, "{told}: {}", self.text);
        assert_eq!(
            self.headers["content-type"], "application/json",
            "{told}: {}",
            self.text
        );
        let json = self.json();
        assert_eq!(
            json.as_object().map(|object| object.len()),
            Some(1),
            "{told}: only `error`: {json}"
        );
        let error = json["error"]
            .as_object()
            .unwrap_or_else(|| panic!("{told}: no error: {json}"));
        assert!(
            error["message"].as_str().is_some_and(|message| !message.is_empty()),
            "{told}: no message: {json}"
        );
        for field in error.keys() {
            assert!(
                ["code", "message", "field", "problems"].contains(&field.as_str()),
                "{told}: {field}"
            );
        }
        let field = error
            .get("field")
            .map(|field| field.as_str().expect("a text").to_owned());
        (error["code"].as_str().expect("a code").to_owned(), field)
    }
}

pub fn good_rules(key_file: &Path) -> String {
    format!(
        r#"
[provider.paid]
dialects = {{ openai_chat = "https://paid.example/v1" }}
headers = {{ x-title = "shown by name only" }}
timeouts = {{ connect = "3s" }}

[[provider.paid.credential]]
name = "main"
key = "file:{}"
weight = 3

[[provider.paid.credential]]
name = "spare"
key = "env:TOLLGATE_TEST_VARIABLE_WHICH_IS_NOT_SET"

[[route]]
name = "a route"
model = ["small", "small-*"]
targets = [{{ provider = "paid", model = "small-1", weight = 2 }}]
"#,
        key_file.display()
    )
}

pub fn write_rules(folder: &Path, text: &str) {
    std::fs::write(folder.join("rules/10.toml"), text).expect("the rules are written");
}

/// Where the rules' key is.
pub fn key_file(folder: &Path) -> PathBuf {
    folder.join("paid.key")
}
