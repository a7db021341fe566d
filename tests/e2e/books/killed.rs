//! Killed at random under load, again and again: what was answered is in the book once, and no budget is overdrawn over restarts.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::*;
use crate::support::dialect::ALL;
use crate::support::gateway::Options;
use crate::support::{HEAVY, Random};

const CLIENTS: usize = 16;
const MODELS: [&str; 5] = [
    "dear,tokens=3",
    "dear,tokens=30,pace=2ms",
    "cheap,tokens=8,first=20ms",
    "dear,status=429",
    "dear,tokens=20,fault=stop:3",
];
/// Keys' budgets in nano-dollars: one that runs out early, two that run out with their group's, one that does not. About 8,000,000 a
/// round and key would be used.
const BUDGETS: [u64; 4] = [10_000_000, 150_000_000, 150_000_000, 1_000_000_000_000];
const OF_GROUP: u64 = 40_000_000;

/// They last as many times longer.
fn times() -> u64 {
    if is_long() { 8 } else { 1 }
}

fn budget(nanos: u64) -> Limits {
    dollars(&NanoUsd(nanos * times()).to_string())
}

/// Answered in full: request, status.
type Answered = Arc<Mutex<Vec<(String, u16)>>>;

async fn client(
    gateway: SocketAddr,
    keys: Arc<Vec<Key>>,
    (round, number): (usize, usize),
    stop: Arc<AtomicBool>,
    answered: Answered,
) {
    for request in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let id = format!("r{round}-c{number}-{request}");
        let at = number + request;
        let call = Call {
            key: &keys[at % keys.len()].text,
            id: &id,
            dialect: ALL[at / 2 % 4],
            model: MODELS[at % MODELS.len()],
            stream: at % 3 != 0,
            leave: None,
        };
        let Some(reply) = ask(gateway, &call).await else {
            continue;
        };
        // What the gateway refuses itself has no row.
        let refused = reply.header("x-should-retry") == Some("false") && reply.status == 429;
        let busy = reply.status == 429 && reply.header("x-tollgate-provider").is_none();
        if refused || busy {
            tokio::time::sleep(Duration::from_millis(20)).await;
        } else {
            answered.lock().push((id, reply.status));
        }
    }
}

/// Budgets in nano-dollars, by account.
fn budgets(keys: &[Key]) -> BTreeMap<String, NanoUsd> {
    let own = keys.iter().zip(BUDGETS);
    let own = own.map(|(key, budget)| (format!("key:{}", key.id), NanoUsd(budget * times())));
    own.chain([("group:team".to_owned(), NanoUsd(OF_GROUP * times()))])
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_with_budgets() {
    let _heavy = HEAVY.lock().await;
    let rounds = if is_long() { 50 } else { 5 };
    let provider = Provider::start("p").await;
    let dialects = ["openai_chat", "openai_responses", "anthropic", "gemini"];
    let route = "[[route]]\nname = \"all\"\nmodel = \"*\"\ntargets = [{ provider = \"p\" }]\n";
    let mut gateway = Gateway::start(Options {
        rules: vec![("10.toml", format!("{PRICES}{}{route}", provider.rules(&dialects)))],
        limits: "requests_per_address = 100000\nassumed_output = 200",
        ..Options::default()
    })
    .await;
    let group = |number: usize| (number == 1 || number == 2).then_some("team");
    let wanted = BUDGETS.iter().enumerate();
    let wanted = wanted
        .map(|(number, nanos)| (group(number), 1_000_000, budget(*nanos)))
        .collect();
    let keys = Arc::new(make_keys(&mut gateway, &[("team", budget(OF_GROUP))], wanted).await);
    let budgets = budgets(&keys);

    let answered: Answered = Arc::default();
    let mut random = Random(0x5eed ^ u64::from(std::process::id()));
    let (mut starts, mut interrupted, mut unlucky) = (Vec::new(), 0, 0);
    for round in 0..rounds {
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let (http, keys) = (gateway.ports.http, keys.clone());
            clients.spawn(client(http, keys, (round, number), stop.clone(), answered.clone()));
        }
        tokio::time::sleep(Duration::from_millis(300 + random.below(1200))).await;
        gateway.kill();
        stop.store(true, Ordering::Relaxed);
        clients.join_all().await;
        let began = Instant::now();
        gateway.restart().await;
        let first = Call {
            key: &keys[3].text,
            id: &format!("first-{round}"),
            dialect: ALL[round % 4],
            model: MODELS[0],
            stream: false,
            leave: None,
        };
        let reply = ask(gateway.ports.http, &first).await.expect("it serves again");
        assert_eq!(reply.status, 200, "round {round}: {}", reply.text());
        starts.push(began.elapsed());
        answered.lock().push((first.id.to_owned(), 200));
        gateway.idle().await;

        // Balances are right at once, not only when the store has caught up.
        let shown = balances(&gateway, &keys).await;
        for (account, budget) in &budgets {
            assert!(
                shown[account] <= *budget,
                "round {round}: {account} used {} of {budget}",
                shown[account]
            );
        }
        let answered = answered.lock().clone();
        let rows = gateway.settled_rows(answered.len()).await;
        let mut book: HashMap<&str, &Value> = HashMap::new();
        for row in &rows {
            let twice = book.insert(row["request"].as_str().unwrap(), row);
            assert!(twice.is_none(), "round {round}: {row} and {twice:?}");
        }
        let mut not_closed = 0;
        for (id, status) in &answered {
            let row = book
                .get(id.as_str())
                .unwrap_or_else(|| panic!("round {round}: {id} was answered ({status})"));
            not_closed += usize::from(row["ended"] == "interrupted");
        }
        let lost = provider.sandboxed.sandbox.served();
        let lost: Vec<_> = lost
            .iter()
            .filter(|call| !book.contains_key(call.id.as_deref().unwrap()))
            .collect();
        assert!(
            lost.is_empty(),
            "round {round}: the provider was called and the book does not know: {lost:?}"
        );
        let found = rows.iter().filter(|row| row["ended"] == "interrupted").count() - interrupted;
        assert!(found <= CLIENTS, "round {round}: {found} were under way and are marked");
        assert!(
            not_closed - unlucky <= CLIENTS,
            "round {round}: {not_closed} of those answered were not closed"
        );
        (interrupted, unlucky) = (interrupted + found, not_closed);
        let verdict = verify(&gateway, &format!("round {round}")).await;
        println!(
            "round {round}: {:?} until it served; {} answered, {} rows, {found} interrupted, {not_closed} answered and not closed (all rounds); \
             used {}; {} accounts verified",
            starts[round],
            answered.len(),
            rows.len(),
            shown.values().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            verdict["accounts"],
        );
        if round % 5 == 4 {
            check_at_rest(&mut gateway, &keys, shown).await;
        }
    }
    assert!(interrupted > rounds, "requests were under way: {interrupted}");
    let used = balances(&gateway, &keys).await;
    for account in [format!("key:{}", keys[0].id), "group:team".to_owned()] {
        let (used, most) = (used[&account].0, budgets[&account].0);
        assert!(
            used > most / 2,
            "{account} was used up, but for what one request may use: {used} of {most}"
        );
    }
    starts.sort_unstable();
    println!(
        "{rounds} kills: until it served again {:?} at the middle, {:?} at most; {interrupted} interrupted, {unlucky} of them answered",
        starts[rounds / 2],
        starts[rounds - 1]
    );
    if is_long() {
        // Two seconds are promised; this machine is shared, and the binary not optimised.
        assert!(starts[rounds / 2] < Duration::from_secs(2) && starts[rounds - 1] < Duration::from_secs(6));
    }
}

/// What was shown is what the rows come to; the interrupted ones are charged their prompt, and nothing is reserved any more.
async fn check_at_rest(gateway: &mut Gateway, keys: &[Key], shown: BTreeMap<String, NanoUsd>) {
    for key in keys {
        let bearer = format!("Bearer {}", key.text);
        let own = client::send(gateway.ports.http, "GET", "/v1/key", &[("authorization", &bearer)], b"")
            .await
            .json();
        for budget in own["limits"]["budgets"].as_array().unwrap() {
            assert_eq!(budget["usd"]["reserved"], "0", "{own}");
        }
    }
    assert_eq!(gateway.stop().await, 0, "{}", gateway.log());
    let (rows, _) = at_rest(gateway);
    assert_eq!(sums(&rows, keys), shown, "rows and balances");
    let ids: HashSet<_> = rows.iter().map(|row| row.opening.id.to_string()).collect();
    assert_eq!(ids.len(), rows.len());
    for row in rows
        .iter()
        .filter(|row| row.ended == tollgate::ledger::Ended::Interrupted)
    {
        let closing = &row.closing;
        assert!(
            closing.estimated && closing.charge == row.opening.prompt_charge,
            "{row:?}"
        );
        assert!(
            closing.charge.0 > 0 && closing.charge <= row.opening.reserved,
            "{row:?}"
        );
        assert_eq!(closing.charge.0, cost(row), "{row:?}");
    }
    gateway.restart().await;
}
