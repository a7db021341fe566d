//! Cooldown: what a failure says of a credential is remembered, for as long as the provider said, for the model or the whole
//! account; and what becomes of requests when nobody is left.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::support::dialect::{ALL, Dialect};
use crate::support::gateway::{Gateway, PROVIDER_KEY};
use crate::support::keyed::{Setup, World, seconds_until};
use crate::support::provider::Answer;
use crate::support::until;

pub fn error(status: u16, kind: &str, message: &str) -> Answer {
    Answer::json(
        status,
        json!({"error": {"message": message, "type": kind, "code": kind, "status": kind}}).to_string(),
    )
}

pub fn limited(seconds: u32) -> Answer {
    error(429, "rate_limit_exceeded", "slow down").header("retry-after", &seconds.to_string())
}

fn in_seconds(seconds: i64) -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(seconds)
}

/// What a provider says, to whom; the reason that is to be learned, and for how many seconds.
fn told() -> Vec<(&'static str, Dialect, Answer, &'static str, f64)> {
    use Dialect::{Chat, Gemini, Messages, Responses};
    let busy = |status| error(status, "rate_limit_exceeded", "slow down");
    let date = in_seconds(30).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let soon = in_seconds(120).to_string();
    vec![
        (
            "Retry-After in seconds",
            Chat,
            busy(429).header("retry-after", "9"),
            "rate_limited",
            9.0,
        ),
        (
            "Retry-After as a date",
            Responses,
            busy(429).header("retry-after", &date),
            "rate_limited",
            30.0,
        ),
        (
            "retry-after-ms",
            Chat,
            busy(429).header("retry-after-ms", "7500"),
            "rate_limited",
            7.5,
        ),
        (
            "the limit that is used up",
            Chat,
            busy(429)
                .header("x-ratelimit-remaining-requests", "0")
                .header("x-ratelimit-reset-requests", "6m0s")
                .header("x-ratelimit-remaining-tokens", "1000")
                .header("x-ratelimit-reset-tokens", "1s"),
            "rate_limited",
            360.0,
        ),
        (
            "Anthropic's limits",
            Messages,
            busy(429)
                .header("anthropic-ratelimit-requests-remaining", "0")
                .header("anthropic-ratelimit-requests-reset", &soon),
            "rate_limited",
            120.0,
        ),
        (
            "Google's RetryInfo",
            Gemini,
            Answer::json(
                429,
                json!({"error": {"code": 429, "message": "Resource has been exhausted", "status": "RESOURCE_EXHAUSTED",
                    "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "37s"}]}})
                .to_string(),
            ),
            "rate_limited",
            37.0,
        ),
        (
            "OpenAI's words",
            Chat,
            error(
                429,
                "rate_limit_exceeded",
                "Rate limit reached for gpt-x on tokens per min (TPM): Limit 30000. Please try again in 20s.",
            ),
            "rate_limited",
            20.0,
        ),
        (
            "a word that is a day too long",
            Chat,
            busy(429).header("retry-after", "999999999"),
            "rate_limited",
            86400.0,
        ),
        (
            "529 with a time",
            Messages,
            error(529, "overloaded_error", "Overloaded").header("retry-after", "5"),
            "overloaded",
            5.0,
        ),
        (
            "503 with a time",
            Gemini,
            error(503, "UNAVAILABLE", "The model is overloaded").header("retry-after", "15"),
            "overloaded",
            15.0,
        ),
        (
            "403",
            Chat,
            error(403, "permission_error", "not you"),
            "forbidden",
            60.0,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_is_left_alone_for_as_long_as_the_provider_said() {
    let world = World::start(Setup::default()).await;
    for (n, (what, dialect, answer, reason, seconds)) in told().into_iter().enumerate() {
        let model = format!("m{n}");
        let first = Arc::new(AtomicUsize::new(0));
        world.when(move |_| (first.fetch_add(1, Ordering::SeqCst) == 0).then(|| answer.clone()));
        for _ in 0..5 {
            let reply = world.ask(dialect, &model).await;
            assert_eq!(reply.status, 200, "{what}: {}", reply.text());
        }
        let taken = world.taken();
        assert_eq!(taken.len(), 6, "{what}: one failed, five did well");
        let (out, other) = (&taken[0], &taken[1]);
        assert_ne!(out, other, "{what}");
        assert!(
            taken[1..].iter().all(|key| key == other),
            "{what}: it is left alone: {taken:?}"
        );
        let state = world.standing(out, &model).await;
        assert_eq!(
            (state["standing"].as_str(), state["reason"].as_str()),
            (Some("cooling"), Some(reason)),
            "{what}: {state}"
        );
        let left = seconds_until(&state["until"]);
        assert!(
            left <= seconds + 0.1 && left > seconds - 5.0,
            "{what}: {left} s left, not about {seconds}"
        );
        assert!(world.standing(other, &model).await.is_null(), "{what}");
        // It is about this model: another one on the same credential is asked.
        let elsewhere = format!("other{n}");
        for _ in 0..2 {
            assert_eq!(world.ask(dialect, &elsewhere).await.status, 200, "{what}");
        }
        let mut both = world.taken();
        both.sort();
        assert_eq!(both, ["a", "b"], "{what}: another model");
        let whole = world.credential(out).await;
        assert_eq!(whole["state"]["standing"], "ready", "{what}: {whole}");
    }
    let metric = "tollgate_failures_total{credential=\"a\",failure=\"rate_limited\",provider=\"p\"}";
    assert!(world.gateway.metric(metric).await >= 1.0);
    let seconds = world
        .gateway
        .metric("tollgate_credential_cooldown_seconds{credential=\"a\",provider=\"p\"}")
        .await;
    assert!(seconds > 1.0, "{seconds}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_word_the_pause_is_short_and_then_one_request_tries() {
    let world = World::start(Setup::default()).await;
    world.when(|call| (call.key == "a" && call.before == 0).then(|| error(429, "rate_limit_error", "slow down")));
    while world.calls().iter().all(|call| call.key != "a") {
        assert_eq!(world.ask(Dialect::Chat, "x").await.status, 200);
    }
    let failed = Instant::now();
    world.taken();
    while failed.elapsed() < Duration::from_millis(700) {
        assert_eq!(world.ask(Dialect::Chat, "x").await.status, 200);
    }
    assert!(
        !world.taken().contains(&"a".to_owned()),
        "for a second it is left alone"
    );
    until("it is asked again by itself", Duration::from_secs(10), || async {
        assert_eq!(world.ask(Dialect::Chat, "x").await.status, 200);
        world.calls().iter().any(|call| call.key == "a").then_some(())
    })
    .await;
    for _ in 0..4 {
        world.ask(Dialect::Chat, "x").await;
    }
    assert!(
        world.standing("a", "x").await.is_null(),
        "one success and it is as before"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overload_as_the_first_event_of_a_stream_cools_too() {
    let world = World::start(Setup::default()).await;
    let event = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    let first = AtomicUsize::new(0);
    world.when(move |_| (first.fetch_add(1, Ordering::SeqCst) == 0).then(|| Answer::events([event])));
    let dialect = Dialect::Messages;
    let reply = world
        .gateway
        .post(&dialect.path("x", true), &dialect.body("x", true))
        .await;
    assert_eq!((reply.status, reply.complete), (200, true), "{}", reply.text());
    assert!(reply.text().contains(dialect.last_word()));
    let taken = world.taken();
    let state = world.standing(&taken[0], "x").await;
    assert_eq!(state["reason"], "overloaded", "{state}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spent_account_is_out_for_every_model() {
    for (what, dialect, answer) in [
        (
            "insufficient_quota",
            Dialect::Chat,
            error(
                429,
                "insufficient_quota",
                "You exceeded your current quota, please check your plan and billing details.",
            ),
        ),
        (
            "402",
            Dialect::Messages,
            error(402, "billing_error", "Your credit balance is too low"),
        ),
    ] {
        let world = World::start(Setup::default()).await;
        let first = AtomicUsize::new(0);
        world.when(move |_| (first.fetch_add(1, Ordering::SeqCst) == 0).then(|| answer.clone()));
        assert_eq!(world.ask(dialect, "x").await.status, 200, "{what}");
        let taken = world.taken();
        let out = taken[0].clone();
        for n in 0..6 {
            assert_eq!(
                world.ask(dialect, &format!("other{}", n % 3)).await.status,
                200,
                "{what}"
            );
        }
        assert!(
            !world.taken().contains(&out),
            "{what}: other models go to the other one too"
        );
        let state = world.credential(&out).await["state"].clone();
        assert_eq!(
            (state["standing"].as_str(), state["reason"].as_str()),
            (Some("quarantined"), Some("quota_spent")),
            "{what}: {state}"
        );
        let left = seconds_until(&state["until"]);
        assert!((290.0..=300.1).contains(&left), "{what}: {left}");
        let quarantined =
            format!("tollgate_credential_state{{credential=\"{out}\",provider=\"p\",state=\"quarantined\"}}");
        assert_eq!(world.gateway.metric(&quarantined).await, 1.0, "{what}");
        assert!(world.gateway.log().contains("credential quarantined"), "{what}");
        assert!(
            !world.gateway.log().contains(PROVIDER_KEY),
            "{what}: the log has no key"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_key_is_suspected_then_quarantined() {
    let world = World::start(Setup::default()).await;
    world.when(|call| {
        (call.key == "a").then(|| {
            error(
                401,
                "invalid_api_key",
                &format!("Incorrect API key: a-of-{PROVIDER_KEY}"),
            )
        })
    });
    let ask = || async {
        let reply = world.ask(Dialect::Chat, "x").await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    };
    while world.calls().iter().all(|call| call.key != "a") {
        ask().await;
    }
    let state = world.credential("a").await["state"].clone();
    assert_eq!(
        (state["standing"].as_str(), state["reason"].as_str()),
        (Some("cooling"), Some("unauthorised")),
        "once may be a hiccup: {state}"
    );
    world.taken();
    until("the second refusal", Duration::from_secs(10), || async {
        ask().await;
        world.calls().iter().any(|call| call.key == "a").then_some(())
    })
    .await;
    world.stands("a", "quarantined", Duration::from_secs(2)).await;
    world.taken();
    for n in 0..6 {
        assert_eq!(world.ask(Dialect::Chat, &format!("other{n}")).await.status, 200);
    }
    assert!(!world.taken().contains(&"a".to_owned()));
    let state = world.credential("a").await["state"].clone();
    assert_eq!(state["reason"], "unauthorised", "{state}");
    assert!(seconds_until(&state["until"]) > 290.0, "{state}");
    let metric = "tollgate_credential_state{credential=\"a\",provider=\"p\",state=\"quarantined\"}";
    assert_eq!(world.gateway.metric(metric).await, 1.0);
    assert!(!world.gateway.log().contains(PROVIDER_KEY));

    // The operator knows better: a key that works again is taken back at once.
    world.when(|_| None);
    let reply = world
        .gateway
        .admin("POST", "/api/v1/credentials/p/a/verify", None)
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(!reply.text().contains(PROVIDER_KEY));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_all_cool_the_client_is_told_when_to_come_back() {
    let world = World::start(Setup::default()).await;
    for dialect in ALL {
        let model = format!("{dialect:?}").to_lowercase();
        world.when(|call| Some(limited(if call.key == "a" { 300 } else { 40 })));
        let reply = world.ask(dialect, &model).await;
        assert_eq!(
            reply.status,
            429,
            "{dialect:?}: the last answer as it came: {}",
            reply.text()
        );
        assert_eq!(world.taken().len(), 2, "{dialect:?}: both were asked");
        // The client has its answer a moment before the credential learns of it.
        world.gateway.idle().await;
        for stream in [false, true] {
            let reply = world
                .gateway
                .post(&dialect.path(&model, stream), &dialect.body(&model, stream))
                .await;
            dialect.check_refusal("all cool", 429, &reply);
            let wait: u32 = reply.header("retry-after").expect("when to come back").parse().unwrap();
            assert!((35..=40).contains(&wait), "{dialect:?}: the earlier of both: {wait}");
            assert!(
                reply.text().contains("try again in"),
                "{dialect:?}: it says why: {}",
                reply.text()
            );
        }
        assert_eq!(world.taken(), [""; 0], "{dialect:?}: nobody is called");
    }
    let page = world.gateway.metrics().await;
    assert!(page.contains("upstream_cooling_down"), "counted as what it is");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_all_our_keys_are_at_fault_it_is_our_fault() {
    let world = World::start(Setup::default()).await;
    world.when(|_| Some(error(401, "invalid_api_key", "Incorrect API key provided")));
    for dialect in ALL {
        let model = format!("{dialect:?}").to_lowercase();
        for round in ["refused", "barred"] {
            let reply = world.ask(dialect, &model).await;
            dialect.check_refusal(round, 502, &reply);
            assert!(
                !reply.text().contains("Incorrect API key") && !reply.text().contains(PROVIDER_KEY),
                "{dialect:?}: {}",
                reply.text()
            );
            if matches!(dialect, Dialect::Chat | Dialect::Responses) {
                assert_eq!(
                    reply.json()["error"]["code"],
                    "upstream_credentials_exhausted",
                    "{dialect:?}, {round}"
                );
            }
        }
    }
    // Suspects are tried again, and are quarantined then.
    tokio::time::sleep(Duration::from_millis(1300)).await;
    world.ask(Dialect::Chat, "x").await;
    world.stands("a", "quarantined", Duration::from_secs(2)).await;
    world.stands("b", "quarantined", Duration::from_secs(2)).await;
    world.taken();
    for dialect in ALL {
        dialect.check_refusal("quarantined", 502, &world.ask(dialect, "y").await);
    }
    assert_eq!(world.taken(), [""; 0], "nobody is called");

    // One at fault, one that only cools: it is worth coming back.
    let world = World::start(Setup::default()).await;
    world.when(|call| {
        Some(if call.key == "a" {
            error(402, "billing_error", "pay")
        } else {
            limited(50)
        })
    });
    world.ask(Dialect::Chat, "x").await;
    let reply = world.ask(Dialect::Chat, "x").await;
    Dialect::Chat.check_refusal("one cools", 429, &reply);
    let wait: u32 = reply.header("retry-after").unwrap().parse().unwrap();
    assert!((45..=50).contains(&wait), "{wait}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_credential_speaks_for_itself_ten_times() {
    let only = || Setup {
        credentials: &[("a", "")],
        ..Setup::default()
    };
    let world = World::start(only()).await;
    world.when(|_| Some(limited(300)));
    for n in 0..10 {
        let reply = world.ask(Dialect::Chat, "x").await;
        assert_eq!(
            (reply.status, reply.header("retry-after")),
            (429, Some("300")),
            "answer {n} as it came: {}",
            reply.text()
        );
        assert!(reply.text().contains("slow down"), "{n}: {}", reply.text());
    }
    assert_eq!(world.taken().len(), 10);
    for _ in 0..5 {
        let reply = world.ask(Dialect::Chat, "x").await;
        Dialect::Chat.check_refusal("said often enough", 429, &reply);
        let wait: u32 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!((290..=300).contains(&wait), "{wait}");
    }
    assert_eq!(world.taken(), [""; 0], "from now on we answer ourselves");
    // For another model nothing was said yet.
    world.ask(Dialect::Chat, "other").await;
    assert_eq!(world.taken().len(), 1);

    let world = World::start(only()).await;
    let good = Arc::new(AtomicUsize::new(0));
    let well = good.clone();
    world.when(move |_| {
        (well.load(Ordering::SeqCst) == 0).then(|| error(401, "invalid_api_key", "Incorrect API key provided"))
    });
    for n in 0..6 {
        let reply = world.ask(Dialect::Messages, "x").await;
        Dialect::Messages.check_refusal("a refused key", 502, &reply);
        assert_eq!(world.taken().len(), 1, "{n}: it was asked");
    }
    good.store(1, Ordering::SeqCst);
    let reply = world.ask(Dialect::Messages, "x").await;
    assert_eq!(reply.status, 200, "it works again: {}", reply.text());
    world.stands("a", "ready", Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_requests_one_probes() {
    let world = World::start(Setup::default()).await;
    // `a` fails once; its probe takes long; `b` is well.
    world.when(|call| match (call.key.as_str(), call.before) {
        ("a", 0) => Some(error(429, "rate_limit_error", "slow down").header("retry-after-ms", "400")),
        ("a", 1) => Some(slowly(Duration::from_millis(1500))),
        _ => None,
    });
    while world.calls().iter().all(|call| call.key != "a") {
        assert_eq!(world.ask(Dialect::Chat, "x").await.status, 200);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let all = (0..40).map(|_| world.ask(Dialect::Chat, "x"));
    let began = Instant::now();
    let all = join(all).await;
    assert!(all.iter().all(|reply| reply.status == 200));
    let probes = world.calls().iter().filter(|call| call.key == "a").count() - 1;
    assert!(
        probes == 1 || began.elapsed() < Duration::from_millis(1500),
        "one probes while the others go elsewhere: {probes}"
    );
    assert_eq!(probes, 1, "the others go elsewhere");

    // Nowhere else to go: the others are told to wait.
    world.when(|call| match (call.key.as_str(), call.before) {
        (_, 0) => Some(error(429, "rate_limit_error", "slow down").header("retry-after-ms", "600")),
        _ => Some(slowly(Duration::from_millis(1500))),
    });
    assert_eq!(world.ask(Dialect::Chat, "y").await.status, 429);
    assert_eq!(world.taken().len(), 2);
    tokio::time::sleep(Duration::from_millis(750)).await;
    let all = join((0..40).map(|_| world.ask(Dialect::Chat, "y"))).await;
    let mut taken = world.taken();
    taken.sort();
    assert_eq!(taken, ["a", "b"], "each is probed once");
    let (good, refused): (Vec<_>, Vec<_>) = all.into_iter().partition(|reply| reply.status == 200);
    assert_eq!((good.len(), refused.len()), (2, 38));
    for reply in refused {
        Dialect::Chat.check_refusal("while the probe is out", 429, &reply);
        assert_eq!(reply.header("retry-after"), Some("1"), "it will be known soon");
    }
}

/// Runs them at the same time.
pub async fn join<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<_> = all.map(Box::pin).collect();
    let mut out: Vec<Option<F::Output>> = all.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, out) in all.iter_mut().zip(&mut out) {
            if out.is_none()
                && let std::task::Poll::Ready(done) = future.as_mut().poll(context)
            {
                *out = Some(done);
            }
        }
        if out.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    out.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_remembered_over_a_restart_and_a_kill() {
    let mut world = World::start(Setup::default()).await;
    let first = AtomicUsize::new(0);
    world.when(move |_| (first.fetch_add(1, Ordering::SeqCst) == 0).then(|| limited(600)));
    assert_eq!(world.ask(Dialect::Chat, "x").await.status, 200);
    let out = world.taken()[0].clone();
    let left_alone = |world: &World, what: &str| {
        let taken = world.taken();
        assert!(taken.len() >= 4 && !taken.contains(&out), "{what}: {taken:?}");
    };
    assert_eq!(world.gateway.stop().await, 0);
    check_file(&world.gateway);
    world.gateway.restart().await;
    for _ in 0..4 {
        assert_eq!(world.ask(Dialect::Chat, "x").await.status, 200);
    }
    left_alone(&world, "after SIGTERM");
    let state = world.standing(&out, "x").await;
    assert_eq!(state["reason"], "rate_limited", "{state}");
    let left = seconds_until(&state["until"]);
    assert!((500.0..600.0).contains(&left), "{left}");

    let spent = out.clone();
    world.when(move |call| (call.key == spent && call.model == "z").then(|| error(402, "billing_error", "pay")));
    while world.calls().iter().all(|call| call.key != out) {
        assert_eq!(world.ask(Dialect::Chat, "z").await.status, 200);
    }
    tokio::time::sleep(Duration::from_millis(1500)).await;
    world.gateway.kill();
    check_file(&world.gateway);
    world.gateway.restart().await;
    world.taken();
    for n in 0..4 {
        assert_eq!(world.ask(Dialect::Chat, &format!("other{n}")).await.status, 200);
    }
    left_alone(&world, "after kill -9, for every model");
    let state = world.credential(&out).await["state"].clone();
    assert_eq!(
        (state["standing"].as_str(), state["reason"].as_str()),
        (Some("quarantined"), Some("quota_spent")),
        "{state}"
    );

    // A file that can't be read is told, and no more than that.
    assert_eq!(world.gateway.stop().await, 0);
    std::fs::write(world.gateway.path("data/cooldowns.json"), "{\"version\":1,\"cool").unwrap();
    world.gateway.restart().await;
    world.taken();
    world.when(|_| None);
    for _ in 0..4 {
        assert_eq!(world.ask(Dialect::Chat, "x").await.status, 200);
    }
    assert!(world.taken().contains(&out), "it starts anew");
    assert!(
        world.gateway.log().contains("the file of cooldowns can't be read"),
        "{}",
        world.gateway.log()
    );
}

fn check_file(gateway: &Gateway) {
    let path = gateway.path("data/cooldowns.json");
    let text = std::fs::read_to_string(&path).expect("what cools is written down");
    assert!(!text.contains("CANARY") && !text.contains(PROVIDER_KEY), "{text}");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "nobody else's business");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn turned_off_nothing_cools() {
    let world = World::start(Setup {
        provider: "cooldown = \"off\"",
        ..Setup::default()
    })
    .await;
    world.when(|call| {
        (call.key == "a").then(|| match call.before % 3 {
            0 => limited(600),
            1 => error(401, "invalid_api_key", "no"),
            _ => error(402, "billing_error", "pay"),
        })
    });
    for _ in 0..20 {
        let reply = world.ask(Dialect::Chat, "x").await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    let asked = world.taken().iter().filter(|key| *key == "a").count();
    assert!(asked >= 9, "it keeps its share: {asked}");
    assert_eq!(world.credential("a").await["state"]["standing"], "ready");
    assert!(world.standing("a", "x").await.is_null());
}

/// A good answer, after a while.
pub fn slowly(wait: Duration) -> Answer {
    Answer::json(200, "{\"id\":\"1\"}").after(wait)
}
