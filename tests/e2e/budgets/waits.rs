//! Attempts which wait for room that others have reserved: they hold no seat, and leave with their client.

use std::time::Duration;

use super::*;
use crate::support::until;

const ROUTE: &str =
    "[[route]]\nname = \"patient\"\nmodel = \"patient*\"\ntargets = [{ provider = \"p\" }]\nqueue = \"50s\"\n";

/// Its prompt and its 64 tokens are most of the budget for as long as its answer takes.
const LONG: &str = "patient-priced,tokens=1,first=8s";

async fn in_flight(gateway: &Gateway) -> u64 {
    let reply = gateway.admin("GET", "/api/v1/credentials", None).await.json();
    reply["credentials"][0]["state"]["in_flight"].as_u64().unwrap()
}

/// Until so many wait, and so many seats are taken.
async fn stand(gateway: &Gateway, waiting: u64, taken: u64) {
    until("they stand as they should", Duration::from_secs(20), || async {
        let waits = gateway.metric("tollgate_limits_waiting").await as u64;
        (waits == waiting && in_flight(gateway).await == taken).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_room_holds_no_seat() {
    let (gateway, provider, keys) = setting(ROUTE, "", &[dollars("0.0003")]).await;
    let first = ask(&gateway, &keys[0], Dialect::Messages, LONG);
    let second = async {
        stand(&gateway, 0, 1).await;
        let waits = ask(&gateway, &keys[0], Dialect::Messages, "patient-priced,tokens=1");
        let seen = stand(&gateway, 1, 1);
        tokio::join!(waits, seen).0
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!((first.status, second.status), (200, 200), "{}", second.text());
    gateway.idle().await;
    assert_eq!(provider.sandbox.counts().models["patient-priced,tokens=1"].completed, 1);
    stand(&gateway, 0, 0).await;
    assert_eq!(spent(&gateway, &keys[0]).await.1.0, 0, "nothing sticks");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_waits_no_more() {
    let (gateway, provider, keys) = setting(ROUTE, "", &[dollars("0.0003")]).await;
    let first = ask(&gateway, &keys[0], Dialect::Messages, LONG);
    let second = async {
        stand(&gateway, 0, 1).await;
        let model = "patient-priced,tokens=1";
        let left = begin(&gateway, &keys[0], Dialect::Messages, model, false).await;
        stand(&gateway, 1, 1).await;
        drop(left);
        stand(&gateway, 0, 1).await;
        assert!(
            !provider.sandbox.counts().models.contains_key(model),
            "it was never asked"
        );
    };
    let (first, ()) = tokio::join!(first, second);
    assert_eq!(first.status, 200, "{}", first.text());
    gateway.idle().await;
    assert_eq!(spent(&gateway, &keys[0]).await.1.0, 0, "nothing sticks");
    let text = fs::read_to_string(gateway.path("data/logs/access.log")).unwrap();
    assert_eq!(text.matches("\"ended\":\"client_gone\"").count(), 1, "{text}");
}
