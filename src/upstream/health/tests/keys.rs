//! What checks of keys may bar and lift, beside what model calls say of them.

use super::*;
use crate::rules::Strategy;
use crate::upstream::{Outcome, Want};

/// Lets a model call with the only credential come to this.
fn model_call(house: &House, provider: &str, failure: Option<Failure>, now: Instant) {
    let want = Want {
        strategy: Strategy::Weighted,
        tags: &[],
        tried: &[],
        sticky: None,
        tokens: 0,
        prompt: 0,
    };
    let lane = house.fleet.load().pool(provider).unwrap().lane("m");
    let hold = lane.choose_lone(&want, now).unwrap_or_else(|no| panic!("{no:?}"));
    let outcome = Outcome {
        failure,
        ..Default::default()
    };
    hold.settle(&outcome, now);
}

fn standing(house: &House, provider: &str) -> (CoolState, Option<Instant>) {
    let state = &house.fleet.load().pool(provider).unwrap().states(Instant::now())[0];
    (state.standing, state.until)
}

#[tokio::test]
async fn a_model_that_answers_lifts_a_spent_quota_and_a_list_does_not() {
    let loopback = Loopback::plain(by_key).await;
    let dialects = format!("openai_chat = \"http://{}/v1\"", loopback.address);
    let toml = provider("model", &dialects, &["good"]) + &provider("list", &dialects, &["good"]);
    let house = House::new(&toml, Box::new(direct()), |provider| {
        if &*provider.name == "model" {
            provider.health.model = Some("small-1".into());
        }
    });
    for (name, after) in [("model", CoolState::Ready), ("list", CoolState::Quarantined)] {
        model_call(&house, name, Some(Failure::QuotaSpent), Instant::now());
        assert_eq!(standing(&house, name).0, CoolState::Quarantined);
        assert_eq!(house.checks.verify(name, "good").await.unwrap().finding, Finding::Ok);
        assert_eq!(standing(&house, name).0, after, "{name}");
    }
}

#[tokio::test]
async fn a_key_that_may_not_list_models_is_left_to_its_model_calls() {
    let loopback = Loopback::plain(by_key).await;
    let dialects = format!("openai_chat = \"http://{}/v1\"", loopback.address);
    let house = House::plain(&(provider("never", &dialects, &["dead"]) + &provider("works", &dialects, &["dead"])));
    let verify = async |name: &str| house.checks.verify(name, "dead").await.unwrap();

    // No word but the lists': dead, but never for longer because of them.
    let dead = Finding::Failed(Failure::Unauthorised);
    assert_eq!(verify("never").await.finding, dead);
    assert_eq!(verify("never").await.finding, dead);
    let quarantined = standing(&house, "never");
    assert_eq!(quarantined.0, CoolState::Quarantined);
    for _ in 0..3 {
        assert_eq!(verify("never").await.finding, dead);
        assert_eq!(standing(&house, "never"), quarantined);
    }
    // A call that was under way, or is the first one after: it knows better.
    model_call(&house, "never", None, Instant::now());
    assert_eq!(standing(&house, "never").0, CoolState::Ready);

    for name in ["never", "works"] {
        model_call(&house, name, None, Instant::now());
        for _ in 0..3 {
            let result = verify(name).await;
            assert_eq!(result.finding, Finding::Unproven, "{}", result.words);
            assert_eq!(standing(&house, name), (CoolState::Ready, None));
        }
        // Calls fail too: now the lists are believed again.
        model_call(&house, name, Some(Failure::Unauthorised), Instant::now());
        assert_eq!(verify(name).await.finding, dead);
        assert_eq!(standing(&house, name).0, CoolState::Quarantined);
    }
}
