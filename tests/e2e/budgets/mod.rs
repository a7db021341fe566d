//! What keys may do and use: refusals in every dialect, headers, reservations, bills.

mod beyond;
mod bills;
mod crowd;
mod extras;
mod leavers;
mod refusals;
mod unread;
mod waits;

use std::fs;
use std::sync::Arc;

use serde_json::Value;
use tollgate::clock::Clock;
use tollgate::keys::master::MasterKey;
use tollgate::keys::{Keys, NewKey, Policy};
use tollgate::limits::{Accounts, Budget, Limits, Window};
use tollgate::store::Store;

use crate::support::client::{self, Connection, Reply};
use crate::support::dialect::Dialect;
use crate::support::gateway::{Gateway, Options, provider_rules, rules_for};
use crate::support::sandboxed::Sandboxed as Provider;

/// One dollar for a million tokens of input, two for output.
const PRICES: &str = "[[price]]\nname = \"*priced*\"\ninput = 1\noutput = 2\n";

/// A gateway before a sandbox, and keys with these policies. `more`: another file of rules.
async fn setting(more: &str, limits: &'static str, policies: &[Policy]) -> (Gateway, Provider, Vec<String>) {
    let provider = Provider::start().await;
    let (gateway, keys) = setting_at(provider.address, more, limits, policies).await;
    (gateway, provider, keys)
}

/// The same before any provider.
async fn setting_at(
    address: std::net::SocketAddr,
    more: &str,
    limits: &'static str,
    policies: &[Policy],
) -> (Gateway, Vec<String>) {
    let mut rules = rules_for(address);
    rules.insert(1, ("15.toml", format!("{more}\n{PRICES}")));
    let mut gateway = Gateway::start(Options {
        rules,
        limits,
        ..Options::default()
    })
    .await;
    assert_eq!(gateway.stop().await, 0, "{}", gateway.log());
    let keys = make_keys(&gateway, policies);
    gateway.restart().await;
    (gateway, keys)
}

/// Keys put into the store of a gateway that stands still.
fn make_keys(gateway: &Gateway, policies: &[Policy]) -> Vec<String> {
    let store = Arc::new(Store::open(&gateway.path("data/store"), 1 << 20).unwrap());
    let master = MasterKey::load(&gateway.path("conf/master.key"), false).unwrap();
    let keys = Keys::load(store.clone(), &master, Arc::new(Accounts::new()), Clock::system()).unwrap();
    let made = policies.iter().map(|policy| {
        let new = NewKey {
            name: "limited".into(),
            policy: policy.clone(),
            ..NewKey::default()
        };
        keys.create(new).unwrap().1.0.expose().to_owned()
    });
    let made = made.collect();
    store.flush().unwrap();
    made
}

/// A policy with one budget of money, in dollars, for good.
fn dollars(amount: &str) -> Policy {
    budget(Budget {
        window: Window::Total,
        requests: None,
        tokens: None,
        money: Some(amount.parse().unwrap()),
    })
}

fn budget(budget: Budget) -> Policy {
    limits(Limits {
        budgets: vec![budget],
        ..Limits::default()
    })
}

fn limits(limits: Limits) -> Policy {
    Policy {
        limits,
        ..Policy::default()
    }
}

/// A request of a dialect with a key.
async fn ask(gateway: &Gateway, key: &str, dialect: Dialect, model: &str) -> Reply {
    post(
        gateway,
        key,
        dialect,
        &dialect.path(model, false),
        &dialect.body(model, false),
    )
    .await
}

async fn post(gateway: &Gateway, key: &str, dialect: Dialect, path: &str, body: &[u8]) -> Reply {
    let (name, value) = dialect.key_header(key);
    let headers = [(name, value.as_str()), ("content-type", "application/json")];
    client::send(gateway.ports.http, "POST", path, &headers, body).await
}

/// A request of a dialect with a key, sent on a connection of its own; its answer is not read yet.
async fn begin(gateway: &Gateway, key: &str, dialect: Dialect, model: &str, stream: bool) -> Connection {
    let body = dialect.body(model, stream);
    let (name, value) = dialect.key_header(key);
    let length = body.len().to_string();
    let headers = [
        (name, value.as_str()),
        ("content-type", "application/json"),
        ("content-length", &length),
    ];
    let head = client::head("POST", &dialect.path(model, stream), &headers);
    let mut connection = Connection::open(gateway.ports.http).await;
    connection.send(&[head, body].concat()).await;
    connection
}

/// What `GET /v1/key` says.
async fn own(gateway: &Gateway, key: &str) -> Value {
    let bearer = format!("Bearer {key}");
    let reply = client::send(gateway.ports.http, "GET", "/v1/key", &[("authorization", &bearer)], b"").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

/// Dollars of a budget for good: used, and reserved.
async fn spent(gateway: &Gateway, key: &str) -> (tollgate::money::NanoUsd, tollgate::money::NanoUsd) {
    let own = own(gateway, key).await;
    let total = own["limits"]["budgets"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["window"] == "total")
        .unwrap()
        .clone();
    let money = |name: &str| total["usd"][name].as_str().unwrap().parse().unwrap();
    (money("used"), money("reserved"))
}

/// The lines of the access log for requests that reached a provider, once there are so many.
async fn lines(gateway: &Gateway, count: usize) -> Vec<Value> {
    crate::support::until(
        "the access log has its lines",
        std::time::Duration::from_secs(20),
        || async {
            let text = fs::read_to_string(gateway.path("data/logs/access.log")).unwrap_or_default();
            let all = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let all: Vec<Value> = all.filter(|line| line["attempts"].as_u64() > Some(0)).collect();
            (all.len() >= count).then_some(all)
        },
    )
    .await
}
