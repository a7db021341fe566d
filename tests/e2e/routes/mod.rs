//! The routing language, end to end: each condition, each action, and that `tollgate route explain` tells what happens.
//!
//! One scripted provider stands for any number of them: provider `x` is reached below `/x`. Routes of these tests send to a model
//! named after the route, so that `x-tollgate-model` tells which was taken.

mod affinity;
mod choosing;
mod edits;
mod examples;
mod explain;
mod failing;
mod inside;
mod matches;
mod names;
mod system;

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::support::client::Reply;
use crate::support::dialect::{ALL, Dialect, record};
use crate::support::gateway::{Gateway, Options, PROVIDER_KEY, configuration};
use crate::support::provider::{Answer, Provider, Received, Step};

/// What is asked with this word is not answered as long as the client waits.
const SLOWLY: &str = "slowly";

/// The name of a dialect in the rules.
fn word(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Chat => "openai_chat",
        Dialect::Responses => "openai_responses",
        Dialect::Messages => "anthropic",
        Dialect::Gemini => "gemini",
    }
}

/// A provider of the rules: its lines, the dialects it speaks, its credentials with lines of theirs.
struct Member {
    name: &'static str,
    more: &'static str,
    speaks: Vec<Dialect>,
    credentials: Vec<(&'static str, &'static str)>,
}

fn member(name: &'static str) -> Member {
    Member {
        name,
        more: "",
        speaks: ALL.to_vec(),
        credentials: vec![("main", "")],
    }
}

impl Member {
    fn more(mut self, lines: &'static str) -> Self {
        self.more = lines;
        self
    }

    fn speaks(mut self, dialects: &[Dialect]) -> Self {
        self.speaks = dialects.to_vec();
        self
    }

    fn credentials(mut self, credentials: &[(&'static str, &'static str)]) -> Self {
        self.credentials = credentials.to_vec();
        self
    }

    /// Its section of the rules, for a provider at this address. Its keys are files of the folder.
    fn rules(&self, address: std::net::SocketAddr) -> String {
        let name = self.name;
        let base = |dialect: &Dialect| {
            let version = match dialect {
                Dialect::Chat | Dialect::Responses => "/v1",
                Dialect::Messages | Dialect::Gemini => "",
            };
            format!("{} = \"http://{address}/{name}{version}\"", word(*dialect))
        };
        let dialects: Vec<String> = self.speaks.iter().map(base).collect();
        let mut text = format!(
            "[provider.{name}]\ndialects = {{ {} }}\nhealth = \"off\"\n{}\n",
            dialects.join(", "),
            self.more
        );
        for (credential, more) in &self.credentials {
            text += &format!(
                "[[provider.{name}.credential]]\nname = \"{credential}\"\nkey = \"file:keys/{name}-{credential}\"\n{more}\n"
            );
        }
        text
    }
}

/// A gateway and its providers.
struct World {
    gateway: Gateway,
    provider: Provider,
    says: Arc<Mutex<HashMap<String, Answer>>>,
    members: String,
}

/// Lines of the configuration.
#[derive(Clone, Copy, Default)]
struct Lines {
    top: &'static str,
    timeouts: &'static str,
}

impl World {
    async fn start(members: Vec<Member>, rules: &str) -> Self {
        Self::start_with(Lines::default(), members, rules).await
    }

    async fn start_with(lines: Lines, members: Vec<Member>, rules: &str) -> Self {
        let says: Arc<Mutex<HashMap<String, Answer>>> = Arc::default();
        let mut usual = HashMap::new();
        for dialect in ALL {
            for stream in [false, true] {
                let answer = record(dialect, "sandbox/chat,tokens=5", stream).await;
                usual.insert((word(dialect), stream), answer);
            }
        }
        let script = says.clone();
        let provider = Provider::start(move |request| {
            let (member, credential) = seat(request);
            let (own, all) = (format!("{member}/{credential}"), place(request).0);
            let said = script.lock();
            let said = said.get(&own).or_else(|| said.get(&all)).cloned();
            match memchr::memmem::find(&request.body, SLOWLY.as_bytes()) {
                Some(_) => Answer::raw(vec![Step::Hang]),
                None => said.unwrap_or_else(|| answer(&usual, request)),
            }
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        for name in ["conf", "rules", "keys"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let mut sections = String::new();
        for member in &members {
            for (credential, _) in &member.credentials {
                let file = format!("{}-{credential}", member.name);
                fs::write(folder.path().join("keys").join(file), key_of(member.name, credential)).unwrap();
            }
            sections += &member.rules(provider.address);
        }
        fs::write(folder.path().join("rules/10.toml"), &sections).unwrap();
        fs::write(folder.path().join("rules/20.toml"), rules).unwrap();
        let options = Options {
            timeouts: lines.timeouts,
            limits: "requests_per_address = 100000",
            ..Options::default()
        };
        let gateway = Gateway::start_in(folder, options, |path, ports, options| {
            fs::write(path, format!("{}\n{}", lines.top, configuration(ports, options))).unwrap();
        })
        .await;
        World {
            gateway,
            provider,
            says,
            members: sections,
        }
    }

    /// What a provider, or one of its credentials (`provider/credential`), is answered from now on.
    fn say(&self, member: &str, answer: Answer) {
        self.says.lock().insert(member.to_owned(), answer);
    }

    /// All answer as usual again.
    fn all_well(&self) {
        self.says.lock().clear();
    }

    /// Other routes, at once.
    async fn reload(&self, rules: &str) {
        fs::write(self.gateway.path("rules/20.toml"), rules).unwrap();
        let reply = self.gateway.admin("POST", "/api/v1/reload", None).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }

    async fn send(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
        self.gateway.post_with(path, headers, body.to_string().as_bytes()).await
    }

    /// A plain request.
    async fn ask(&self, dialect: Dialect, model: &str, stream: bool) -> Reply {
        self.gateway
            .post(&dialect.path(model, stream), &dialect.body(model, stream))
            .await
    }

    /// Which route took it, by the model that was asked; a refusal by its status.
    async fn taken(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> String {
        taken_by(&self.send(path, headers, body).await)
    }

    /// The same of a plain request of the chat dialect with these headers.
    async fn chat(&self, model: &str, headers: &[(&str, &str)]) -> String {
        self.taken(&Dialect::Chat.path(model, false), headers, &plain(Dialect::Chat, model))
            .await
    }

    /// Makes a client key by the command line: its id and the key itself.
    async fn key(&self, name: &str, owner: Option<&str>, tags: &[&str]) -> (String, String) {
        let mut arguments = vec!["keys", "create", "--json", "--name", name];
        if let Some(owner) = owner {
            arguments.extend(["--owner", owner]);
        }
        for tag in tags {
            arguments.extend(["--tag", tag]);
        }
        let (code, out, err) = self.gateway.cli(&arguments).await;
        assert_eq!(code, 0, "{err}");
        let made: Value = serde_json::from_str(&out).unwrap();
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        (text("id"), text("key"))
    }

    /// How often each provider was called since this was asked last.
    fn calls(&self) -> HashMap<String, usize> {
        let mut calls = HashMap::new();
        for request in self.provider.received() {
            *calls.entry(place(&request).0).or_default() += 1;
        }
        self.provider.forget();
        calls
    }

    /// The provider's name, and the credential, of the latest call.
    fn seat(&self) -> (String, String) {
        seat(&self.provider.last())
    }
}

/// The key of a credential.
fn key_of(member: &str, credential: &str) -> String {
    format!("{member}.{credential}.{PROVIDER_KEY}")
}

/// The provider's name, and the rest of the target.
fn place(request: &Received) -> (String, String) {
    let path = request.target.trim_start_matches('/');
    let (member, rest) = path.split_once('/').unwrap_or((path, ""));
    (member.to_owned(), format!("/{rest}"))
}

fn seat(request: &Received) -> (String, String) {
    let key = ["authorization", "x-api-key", "x-goog-api-key"]
        .into_iter()
        .find_map(|name| request.header(name))
        .expect("a key");
    let mut words = key.trim_start_matches("Bearer ").split('.');
    let mut next = || words.next().unwrap().to_owned();
    (next(), next())
}

fn dialect_of(request: &Received) -> Dialect {
    let (_, path) = place(request);
    match path.as_str() {
        path if path.starts_with("/v1/responses") => Dialect::Responses,
        path if path.starts_with("/v1/messages") => Dialect::Messages,
        path if path.starts_with("/v1beta") => Dialect::Gemini,
        _ => Dialect::Chat,
    }
}

/// The body as JSON.
fn json_of(request: &Received) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

type Usual = HashMap<(&'static str, bool), Bytes>;

fn answer(usual: &Usual, request: &Received) -> Answer {
    let (_, path) = place(request);
    let json = |value: Value| Answer::json(200, value.to_string());
    if path.contains("count_tokens") || path.ends_with("/input_tokens") {
        return json(json!({"object": "response.input_tokens", "input_tokens": 3}));
    }
    if path.contains(":countTokens") {
        return json(json!({"totalTokens": 3}));
    }
    if path.ends_with("/embeddings") {
        return json(
            json!({"object": "list", "model": "m", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
            "usage": {"prompt_tokens": 3, "total_tokens": 3}}),
        );
    }
    if path.contains("mbedContent") {
        return json(json!({"embedding": {"values": [0.5]}, "embeddings": [{"values": [0.5]}]}));
    }
    let stream = path.contains(":streamGenerate") || json_of(request)["stream"] == true;
    let answer = usual[&(word(dialect_of(request)), stream)].clone();
    match stream {
        true => Answer::events([answer]),
        false => Answer::json(200, answer),
    }
}

fn taken_by(reply: &Reply) -> String {
    match (reply.status, reply.header("x-tollgate-model")) {
        (200, Some(model)) => model.to_owned(),
        (status, _) => status.to_string(),
    }
}

/// A route of this name for this `model` (TOML) under these conditions, to the model of its own name at provider `p`.
fn route(name: &str, model: &str, when: &str) -> String {
    let when = match when {
        "" => String::new(),
        when => format!("when = {{ {when} }}\n"),
    };
    format!(
        "[[route]]\nname = \"{name}\"\nmodel = {model}\n{when}targets = [{{ provider = \"p\", model = \"{name}\" }}]\n"
    )
}

/// A small request in any dialect, as JSON.
fn plain(dialect: Dialect, model: &str) -> Value {
    asking(dialect, model, "Hello")
}

/// A request with this text.
fn asking(dialect: Dialect, model: &str, text: &str) -> Value {
    match dialect {
        Dialect::Chat => json!({"model": model, "messages": [{"role": "user", "content": text}]}),
        Dialect::Responses => json!({"model": model, "input": text}),
        Dialect::Messages => json!({"model": model, "max_tokens": 64, "messages": [{"role": "user", "content": text}]}),
        Dialect::Gemini => json!({"contents": [{"role": "user", "parts": [{"text": text}]}]}),
    }
}

/// `base` with these fields.
fn with(mut base: Value, more: Value) -> Value {
    let Value::Object(more) = more else { panic!("an object") };
    for (name, value) in more {
        base[name] = value;
    }
    base
}
