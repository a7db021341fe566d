//! Many clients on one key: never more than its budget, never much less.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::*;
use crate::support::client::Connection;
use crate::support::dialect::Dialect;

/// Clients at once.
const CLIENTS: u32 = 200;

/// Every answer is 100 tokens of 2 dollars a million and a prompt of 10 at 1 dollar: 210,000 nano-dollars. Reserved are 100 tokens and the
/// bytes of the body.
const MODEL: &str = "priced,prompt=10,tokens=100";

fn body(model: &str, stream: bool) -> Vec<u8> {
    let stream = if stream { ",\"stream\":true" } else { "" };
    format!(
        "{{\"model\":\"{model}\",\"max_tokens\":100{stream},\"messages\":[{{\"role\":\"user\",\"content\":\"Hi\"}}]}}"
    )
    .into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_clients_use_up_a_budget_and_no_more() {
    crowd("0.1", 0).await;
}

/// Two processes at once have one budget.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn and_no_more_while_the_binary_is_replaced() {
    crowd("0.4", 3).await;
}

async fn crowd(budget: &str, upgrades: u32) {
    let (gateway, _provider, keys) = setting("", "", &[dollars(budget)]).await;
    let (gateway, key) = (Arc::new(gateway), Arc::new(keys[0].clone()));
    let turn = Arc::new(AtomicU32::new(0));
    let clients = (0..CLIENTS).map(|_| {
        let (gateway, key, turn) = (gateway.clone(), key.clone(), turn.clone());
        tokio::spawn(async move {
            loop {
                // A tenth fails, a tenth goes away within the answer.
                let done = match turn.fetch_add(1, Ordering::Relaxed) % 10 {
                    0 => attempt(&gateway, &key, &format!("{MODEL},status=500")).await,
                    1 => abort(&gateway, &key).await,
                    _ => attempt(&gateway, &key, MODEL).await,
                };
                if done {
                    return;
                }
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    for _ in 0..upgrades {
        gateway.upgrade().await;
    }
    for client in clients {
        client.await.unwrap();
    }
    if upgrades > 0 {
        gateway.alone(Duration::from_secs(60)).await;
    }
    gateway.idle().await;
    let (used, reserved) = spent(&gateway, &key).await;
    let budget: tollgate::money::NanoUsd = budget.parse().unwrap();
    let most = 200 * 1000 + body(&format!("{MODEL},status=500,pace=20ms"), true).len() as u64 * 1000;
    assert_eq!(reserved.0, 0, "nothing sticks");
    assert!(used <= budget, "{used} of {budget}");
    assert!(
        budget.saturating_sub(used).0 <= most,
        "{used} of {budget}: more than one request's {most} is left"
    );
}

/// One request; true: the budget is used up.
async fn attempt(gateway: &Gateway, key: &str, model: &str) -> bool {
    let reply = post(gateway, key, Dialect::Chat, "/v1/chat/completions", &body(model, false)).await;
    match reply.status {
        200 | 500 => false,
        429 if reply.header("x-should-retry") == Some("false") => true,
        429 => {
            tokio::time::sleep(Duration::from_millis(20)).await;
            false
        }
        status => panic!("{status}: {}", reply.text()),
    }
}

/// A stream, left after its beginning; true: the budget is used up.
async fn abort(gateway: &Gateway, key: &str) -> bool {
    let body = body(&format!("{MODEL},pace=20ms"), true);
    let (bearer, length) = (format!("Bearer {key}"), body.len().to_string());
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
        ("content-length", &length),
    ];
    let mut connection = Connection::open(gateway.ports.http).await;
    let mut bytes = client::head("POST", "/v1/chat/completions", &headers);
    bytes.extend_from_slice(&body);
    connection.send(&bytes).await;
    let Some((status, headers)) = connection.head().await else {
        return false;
    };
    status == 429
        && headers
            .iter()
            .any(|(name, value)| name == "x-should-retry" && value == "false")
}
