//! Every recorded exchange of `../shared/wire`, replayed through the built gateway, same dialect: what the client gets is
//! what the provider sent, byte for byte, and the ledger holds the recording's own usage.
//!
//! The recordings are not part of the project: where they are missing the test says so and passes. `TOLLGATE_SHARED`
//! names the folder they are in (default: `../shared`).
//!
//! The provider is declared with `stream_usage = "always"`: nothing is asked for that the client did not ask, so nothing is
//! withheld. (What is asked and withheld is tested elsewhere.)

mod case;
mod gateway;
mod judge;
mod replay;
mod truth;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use case::Case;
use gateway::Gateway;
use judge::{Received, Verdict};
use replay::{Pieces, Provider};
use tokio::sync::Semaphore;

/// Exchanges under way at once.
const PARALLEL: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_exchanges_pass_unchanged_and_are_metered() {
    let Some(folder) = case::folder() else {
        eprintln!("SKIPPED: no recordings at {}", case::shared().display());
        return;
    };
    let began = Instant::now();
    let cases: Arc<Vec<Case>> = Arc::new(case::load(&folder));
    assert!(
        cases.len() > 100,
        "{} recordings are too few to prove anything",
        cases.len()
    );
    let provider = Provider::start(cases.clone()).await;
    let gateway = Arc::new(Gateway::start(provider.address).await);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();

    let (permits, mut exchanges) = (Arc::new(Semaphore::new(PARALLEL)), Vec::new());
    for index in 0..cases.len() {
        for pieces in [Pieces::Recorded, Pieces::Bytes] {
            let (cases, gateway, client) = (cases.clone(), gateway.clone(), client.clone());
            let permits = permits.clone();
            exchanges.push(tokio::spawn(async move {
                let _permit = permits.acquire_owned().await.unwrap();
                let received = gateway.exchange(&client, &cases[index], index, pieces).await;
                (index, pieces, received)
            }));
        }
    }
    let mut answers: Vec<(usize, Pieces, Received)> = Vec::new();
    for exchange in exchanges {
        answers.push(exchange.await.unwrap());
    }
    let seen = provider.seen();
    let rows = gateway.rows(&client, answers.len()).await;
    let mut by_request: HashMap<&str, Vec<&serde_json::Value>> = HashMap::new();
    for row in &rows {
        by_request
            .entry(row["request"].as_str().unwrap())
            .or_default()
            .push(row);
    }

    let mut verdict = Verdict::default();
    for (index, pieces, received) in &answers {
        let case = &cases[*index];
        let rows = by_request.remove(received.request_id.as_str()).unwrap_or_default();
        let sent = seen.get(&(*index, *pieces)).map(Vec::as_slice).unwrap_or_default();
        verdict.judge(case, *pieces, received, sent, &rows);
    }
    verdict.stray_rows(by_request.into_keys());
    eprintln!("{verdict}\nin {:.0?}", began.elapsed());
    gateway.stop();
    assert!(verdict.is_clean(), "see the list above");
}
