//! A provider with several credentials which can tell them apart, behind a gateway, and what it is asked.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;

use super::dialect::{ALL, Dialect, record};
use super::gateway::{Gateway, Options, PROVIDER_KEY};
use super::provider::{Answer, Provider, Received};
use super::setup::bare_provider;
use super::until;

/// What a good provider answers, in every dialect.
#[derive(Clone)]
pub struct Answers(Arc<HashMap<(usize, bool), Bytes>>);

impl Answers {
    pub async fn record() -> Self {
        let mut all = HashMap::new();
        for (at, dialect) in ALL.into_iter().enumerate() {
            for stream in [false, true] {
                all.insert((at, stream), record(dialect, "sandbox/chat,tokens=5", stream).await);
            }
        }
        Answers(Arc::new(all))
    }

    pub fn to(&self, call: &Call) -> Answer {
        let at = ALL.iter().position(|dialect| *dialect == call.dialect).unwrap();
        let answer = self.0[&(at, call.stream)].clone();
        match call.stream {
            true => Answer::events([answer]),
            false => Answer::json(200, answer),
        }
    }
}

/// A call of the provider.
#[derive(Clone, Debug)]
pub struct Call {
    /// The credential's name.
    pub key: String,
    pub model: String,
    pub dialect: Dialect,
    pub stream: bool,
    /// Calls with this key for this model before, since [`World::when`].
    pub before: usize,
}

impl Call {
    pub fn of(request: &Received) -> Self {
        let dialect = ALL
            .into_iter()
            .find(|dialect| {
                let path = dialect.path("x", false);
                request.target.starts_with(path.split("x:").next().unwrap())
            })
            .unwrap_or(Dialect::Chat);
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let model = match dialect {
            Dialect::Gemini => request.target.split("models/").nth(1).unwrap_or_default(),
            _ => body["model"].as_str().unwrap_or_default(),
        };
        Call {
            key: key_of(request),
            model: model.split(':').next().unwrap_or_default().to_owned(),
            dialect,
            stream: request.target.contains("streamGenerate") || body["stream"] == true,
            before: 0,
        }
    }
}

/// Which credential a request bears; empty: none.
pub fn key_of(request: &Received) -> String {
    let headers = ["authorization", "x-api-key", "x-goog-api-key"];
    let key = headers.iter().find_map(|name| request.header(name)).unwrap_or_default();
    let key = key.strip_prefix("Bearer ").unwrap_or(key);
    key.split("-of-").next().unwrap_or_default().to_owned()
}

/// Files with keys.
pub struct Keys(tempfile::TempDir);

impl Keys {
    pub fn new() -> Self {
        Keys(tempfile::tempdir().unwrap())
    }

    /// A file with this text.
    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) -> std::path::PathBuf {
        let file = self.0.path().join(name);
        std::fs::write(&file, text).unwrap();
        file
    }

    /// A provider of all dialects with these credentials (name, further lines).
    pub fn provider(&self, name: &str, address: SocketAddr, more: &str, credentials: &[(&str, &str)]) -> String {
        self.provider_at(name, &format!("http://{address}"), more, credentials)
    }

    /// … at this URL without a path.
    pub fn provider_at(&self, name: &str, base: &str, more: &str, credentials: &[(&str, &str)]) -> String {
        let mut rules = bare_provider(name, base, more);
        for (credential, lines) in credentials {
            let file = self.file(
                &format!("{name}.{credential}"),
                format!("{credential}-of-{PROVIDER_KEY}"),
            );
            rules += &format!(
                "[[provider.{name}.credential]]\nname = \"{credential}\"\nkey = \"file:{}\"\n{lines}\n",
                file.display()
            );
        }
        rules
    }
}

/// What the provider answers where it is not good.
type Trouble = Box<dyn Fn(&Call) -> Option<Answer> + Send + Sync>;

/// A gateway with one such provider, called `p`, to which every model goes.
pub struct World {
    pub gateway: Gateway,
    pub provider: Provider,
    pub keys: Keys,
    trouble: Arc<Mutex<Arc<Trouble>>>,
    calls: Arc<Mutex<Vec<Call>>>,
    counts: Arc<Mutex<HashMap<(String, String), usize>>>,
}

/// How a world is.
pub struct Setup<'a> {
    /// Name, and further lines of each.
    pub credentials: &'a [(&'a str, &'a str)],
    /// Lines of the provider.
    pub provider: &'a str,
    /// Lines of the route.
    pub route: &'a str,
    /// Lines of `[timeouts]`, and whatever sections follow.
    pub timeouts: &'static str,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Setup {
            credentials: &[("a", ""), ("b", "")],
            provider: "",
            route: "",
            timeouts: "",
        }
    }
}

impl World {
    pub async fn start(setup: Setup<'_>) -> Self {
        let answers = Answers::record().await;
        let trouble: Arc<Mutex<Arc<Trouble>>> = Arc::new(Mutex::new(Arc::new(Box::new(|_| None))));
        let calls: Arc<Mutex<Vec<Call>>> = Arc::default();
        let counts: Arc<Mutex<HashMap<(String, String), usize>>> = Arc::default();
        let (script, log, counted) = (trouble.clone(), calls.clone(), counts.clone());
        let provider = Provider::start(move |request| {
            let mut call = Call::of(request);
            {
                let mut counted = counted.lock();
                let count = counted.entry((call.key.clone(), call.model.clone())).or_default();
                call.before = *count;
                *count += 1;
            }
            log.lock().push(call.clone());
            let trouble = script.lock().clone();
            trouble(&call).unwrap_or_else(|| answers.to(&call))
        })
        .await;
        let keys = Keys::new();
        let rules = vec![
            (
                "10.toml",
                keys.provider("p", provider.address, setup.provider, setup.credentials),
            ),
            (
                "20.toml",
                format!(
                    "[[route]]\nname = \"all\"\nmodel = \"*\"\naffinity = \"off\"\ntargets = [{{ provider = \"p\" }}]\n{}\n",
                    setup.route
                ),
            ),
        ];
        let gateway = Gateway::start(Options {
            rules,
            timeouts: setup.timeouts,
            limits: "requests_per_address = 100000",
            ..Options::default()
        })
        .await;
        World {
            gateway,
            provider,
            keys,
            trouble,
            calls,
            counts,
        }
    }

    /// From now on the provider answers so; `None`: well. Forgets the calls before.
    pub fn when(&self, trouble: impl Fn(&Call) -> Option<Answer> + Send + Sync + 'static) {
        *self.trouble.lock() = Arc::new(Box::new(trouble));
        self.calls.lock().clear();
        self.counts.lock().clear();
    }

    /// The calls since.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().clone()
    }

    /// The credentials of the calls since, in order; forgets them.
    pub fn taken(&self) -> Vec<String> {
        let calls = std::mem::take(&mut *self.calls.lock());
        calls.into_iter().map(|call| call.key).collect()
    }

    pub async fn ask(&self, dialect: Dialect, model: &str) -> super::client::Reply {
        self.gateway
            .post(&dialect.path(model, false), &dialect.body(model, false))
            .await
    }

    /// A credential as the admin API shows it.
    pub async fn credential(&self, name: &str) -> Value {
        credential(&self.gateway, "p", name).await
    }

    /// How it stands for a model; null: as for any other.
    pub async fn standing(&self, name: &str, model: &str) -> Value {
        let all = self.credential(name).await;
        let models = all["models"].as_array().unwrap();
        let of = models.iter().find(|one| one["model"] == model);
        of.map_or(Value::Null, |one| one["state"].clone())
    }

    /// Waits until a credential stands so as a whole.
    pub async fn stands(&self, name: &str, standing: &str, bound: Duration) {
        stands(&self.gateway, "p", name, standing, bound).await;
    }
}

/// A credential as the admin API shows it.
pub async fn credential(gateway: &Gateway, provider: &str, name: &str) -> Value {
    let reply = gateway
        .admin("GET", &format!("/api/v1/credentials?provider={provider}"), None)
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(!reply.text().contains(PROVIDER_KEY), "the admin API shows no key");
    let all = reply.json();
    let found = all["credentials"].as_array().unwrap().iter();
    found
        .into_iter()
        .find(|one| one["name"] == name)
        .unwrap_or_else(|| panic!("no credential {name}: {all}"))
        .clone()
}

/// Waits until a credential stands so as a whole.
pub async fn stands(gateway: &Gateway, provider: &str, name: &str, standing: &str, bound: Duration) {
    until(&format!("{name} is {standing}"), bound, || async {
        let now = credential(gateway, provider, name).await;
        (now["state"]["standing"] == standing).then_some(())
    })
    .await;
}

/// Seconds until an RFC 3339 time.
pub fn seconds_until(at: &Value) -> f64 {
    let at: jiff::Timestamp = at.as_str().unwrap_or_else(|| panic!("no time: {at}")).parse().unwrap();
    at.duration_since(jiff::Timestamp::now()).as_secs_f64()
}
