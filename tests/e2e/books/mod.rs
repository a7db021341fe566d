//! The books against everybody who knows better: the providers' own counts, the prices in the rules, the clients. `TOLLGATE_LONG=1` runs
//! them for long: ten minutes of mixed work, fifty kills.

mod full;
mod killed;
mod mixed;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tollgate::clock::Clock;
use tollgate::config;
use tollgate::ids::GroupId;
use tollgate::keys::master::MasterKey;
use tollgate::keys::{Keys, NewGroup, NewKey, Policy};
use tollgate::ledger::{Filter, GroupBy, Ledger, ReportLine, Row};
use tollgate::limits::{Accounts, Budget, Limits, Window};
use tollgate::money::NanoUsd;
use tollgate::store::Store;

use crate::support::client::{self, Connection};
use crate::support::dialect::Dialect;
use crate::support::gateway::Gateway;
use crate::support::sandboxed::Sandboxed;

/// Whether to take the time.
fn is_long() -> bool {
    std::env::var_os("TOLLGATE_LONG").is_some_and(|value| value == "1")
}

/// A provider with a name.
struct Provider {
    name: &'static str,
    sandboxed: Sandboxed,
}

impl Provider {
    async fn start(name: &'static str) -> Self {
        let sandboxed = Sandboxed::start().await;
        Provider { name, sandboxed }
    }

    /// Its rules; `dialects` of `openai_chat`, `openai_responses`, `anthropic`, `gemini`. It is asked whatever it answered before.
    fn rules(&self, dialects: &[&str]) -> String {
        let (name, address) = (self.name, self.sandboxed.address);
        let dialects = dialects.iter().map(|dialect| match *dialect {
            "openai_chat" | "openai_responses" => format!("{dialect} = \"http://{address}/v1\""),
            _ => format!("{dialect} = \"http://{address}\""),
        });
        let dialects = dialects.collect::<Vec<_>>().join(", ");
        format!(
            "[provider.{name}]\ndialects = {{ {dialects} }}\nhealth = \"off\"\ncooldown = \"off\"\n\
             [[provider.{name}.credential]]\nname = \"main\"\nkey = \"env:E2E_PROVIDER_KEY\"\n"
        )
    }
}

/// Dollars for a million tokens; [`cost`] is the same.
const PRICES: &str = "[[price]]\nname = \"dear*\"\ninput = 3\ncached = 0.3\noutput = 15\n\
                      [[price]]\nname = \"cheap*\"\ninput = 0.1\noutput = 0.4\nreasoning = 0.55\n";

/// What a row's tokens come to by [`PRICES`], in nano-dollars, rounded up once.
fn cost(row: &Row) -> u64 {
    let usage = row.closing.usage.unwrap_or_default();
    // Nano-dollars for a million tokens: input, cached, output, reasoning.
    let rates: [u128; 4] = match &*row.opening.upstream_model {
        model if model.starts_with("dear") => [3_000_000_000, 300_000_000, 15_000_000_000, 15_000_000_000],
        model if model.starts_with("cheap") => [100_000_000, 100_000_000, 400_000_000, 550_000_000],
        model => panic!("{model} has no price"),
    };
    let counts = [
        usage.input + usage.cache_write_5m + usage.cache_write_1h,
        usage.cache_read,
        usage.output,
        usage.reasoning,
    ];
    let sum: u128 = counts
        .iter()
        .zip(rates)
        .map(|(count, rate)| u128::from(*count) * rate)
        .sum();
    u64::try_from(sum.div_ceil(1_000_000)).unwrap()
}

/// A client key of a gateway.
#[derive(Clone)]
struct Key {
    id: String,
    text: String,
    group: Option<&'static str>,
    /// Millionths.
    markup: u64,
}

impl Key {
    /// What this cost is charged.
    fn charge(&self, cost: u64) -> u64 {
        (cost * self.markup).div_ceil(1_000_000)
    }
}

/// A budget of so many dollars for good.
fn dollars(amount: &str) -> Limits {
    let money = Budget {
        window: Window::Total,
        requests: None,
        tokens: None,
        money: Some(amount.parse().unwrap()),
    };
    Limits {
        budgets: vec![money],
        ..Limits::default()
    }
}

/// A key to be made: its group, its markup in millionths, its limits.
type Wanted = (Option<&'static str>, u64, Limits);

/// Puts groups and keys into the store of a running gateway, which is started again for it.
async fn make_keys(gateway: &mut Gateway, groups: &[(&'static str, Limits)], wanted: Vec<Wanted>) -> Vec<Key> {
    assert_eq!(gateway.stop().await, 0, "{}", gateway.log());
    let made = {
        let store = Arc::new(Store::open(&gateway.path("data/store"), 1 << 20).unwrap());
        let master = MasterKey::load(&gateway.path("conf/master.key"), false).unwrap();
        let keys = Keys::load(store.clone(), &master, Arc::new(Accounts::new()), Clock::system()).unwrap();
        for (name, limits) in groups {
            let policy = Policy {
                limits: limits.clone(),
                ..Policy::default()
            };
            let new = NewGroup {
                policy,
                ..NewGroup::default()
            };
            keys.create_group(name, new).unwrap();
        }
        let made = wanted.into_iter().enumerate().map(|(number, (group, markup, limits))| {
            let policy = Policy {
                limits,
                markup: Some(
                    format!("{}.{:06}", markup / 1_000_000, markup % 1_000_000)
                        .parse()
                        .unwrap(),
                ),
                ..Policy::default()
            };
            let new = NewKey {
                name: format!("key {number}"),
                group: group.map(|group| GroupId(group.into())),
                policy,
                ..NewKey::default()
            };
            let (key, text) = keys.create(new).unwrap();
            Key {
                id: key.id.to_string(),
                text: text.0.expose().to_owned(),
                group,
                markup,
            }
        });
        let made: Vec<Key> = made.collect();
        store.flush().unwrap();
        made
    };
    gateway.restart().await;
    made
}

/// What a client asks for.
struct Call<'a> {
    key: &'a str,
    id: &'a str,
    dialect: Dialect,
    model: &'a str,
    stream: bool,
    /// It goes away so long after it asked.
    leave: Option<Duration>,
}

/// One request on a connection of its own; its answer, if it came to its end.
async fn ask(http: SocketAddr, call: &Call<'_>) -> Option<client::Reply> {
    ask_over(&mut None, http, call).await
}

/// The same over a connection that is kept as long as the gateway allows it.
async fn ask_over(kept: &mut Option<Connection>, http: SocketAddr, call: &Call<'_>) -> Option<client::Reply> {
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => Connection::try_open(http).await.ok()?,
    };
    let body = call.dialect.body(call.model, call.stream);
    let length = body.len().to_string();
    let (name, value) = call.dialect.key_header(call.key);
    let headers = [
        (name, value.as_str()),
        ("content-type", "application/json"),
        ("x-request-id", call.id),
        ("content-length", &length),
    ];
    let head = client::head("POST", &call.dialect.path(call.model, call.stream), &headers);
    connection.send(&[head, body].concat()).await;
    if let Some(after) = call.leave {
        tokio::time::sleep(after).await;
        return None;
    }
    let reply = connection.try_reply(false).await?;
    if !reply.closes() {
        *kept = Some(connection);
    }
    reply.complete.then_some(reply)
}

/// What the admin API says an account was charged in total.
async fn charged(gateway: &Gateway, kind: &str, id: &str) -> NanoUsd {
    let reply = gateway.admin("GET", &format!("/api/v1/{kind}/{id}"), None).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let view = reply.json();
    let windows = view["account"]["windows"].as_array().unwrap();
    let total = windows.iter().find(|one| one["window"] == "total").unwrap();
    total["charge"].as_str().unwrap().parse().unwrap()
}

/// … of all keys and groups, by `key:ID` and `group:NAME`.
async fn balances(gateway: &Gateway, keys: &[Key]) -> BTreeMap<String, NanoUsd> {
    let mut found = BTreeMap::new();
    for key in keys {
        found.insert(format!("key:{}", key.id), charged(gateway, "keys", &key.id).await);
        if let Some(group) = key.group {
            found.insert(format!("group:{group}"), charged(gateway, "groups", group).await);
        }
    }
    found
}

/// What rows come to, likewise; accounts without rows too.
fn sums(rows: &[Row], keys: &[Key]) -> BTreeMap<String, NanoUsd> {
    let mut found: BTreeMap<String, NanoUsd> = BTreeMap::new();
    for key in keys {
        found.insert(format!("key:{}", key.id), NanoUsd::ZERO);
        found.extend(key.group.map(|group| (format!("group:{group}"), NanoUsd::ZERO)));
    }
    for row in rows {
        let names = [
            format!("key:{}", row.opening.key),
            format!("group:{}", row.opening.group),
        ];
        for name in names {
            if let Some(sum) = found.get_mut(&name) {
                sum.0 += row.closing.charge.0;
            }
        }
    }
    found
}

/// Journals, rows, sums and balances agree, with nothing under way.
async fn verify(gateway: &Gateway, when: &str) -> Value {
    let reply = gateway.admin("GET", "/api/v1/ledger/verify", None).await;
    assert_eq!(reply.status, 200, "{when}: {}", reply.text());
    let verdict = reply.json();
    assert_eq!(verdict["ok"], true, "{when}: {verdict}");
    assert_eq!(verdict["open"], 0, "{when}: {verdict}");
    verdict
}

/// All rows, with sums by key, of a gateway that stands still: read with the library, since the admin API shows less.
fn at_rest(gateway: &Gateway) -> (Vec<Row>, Vec<ReportLine>) {
    let store = Arc::new(Store::open(&gateway.path("data/store"), 16 << 20).unwrap());
    let settings = config::Ledger {
        ballast: 0,
        ..config::Ledger::default()
    };
    let folder = gateway.path("data/journal");
    let ledger = Ledger::start(&folder, &settings, store, Arc::new(Accounts::new()), Clock::system()).unwrap();
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let page = ledger.rows(&Filter::default(), after, usize::MAX).unwrap();
        rows.extend(page.rows);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let report = ledger.report(&Filter::default(), &[GroupBy::Key]).unwrap();
    (rows, report)
}
