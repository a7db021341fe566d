//! Who may be asked, and how often: limits of credentials, the budget of retries, requests that are sent once, and the operator's
//! word.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use crate::cooldown::{error, join, limited, slowly};
use crate::support::dialect::Dialect;
use crate::support::gateway::PROVIDER_KEY;
use crate::support::keyed::{Call, Setup, World};
use crate::support::provider::{Answer, Step};
use crate::support::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_exact_under_load() {
    // Of tokens 40 are asked for and a few estimated for the prompt, so that 4 fit while none has ended.
    for (what, limits, exactly) in [
        ("requests", "limits = { requests_per_minute = 10 }", 10),
        ("tokens", "limits = { tokens_per_minute = 200 }", 4),
    ] {
        let body = json!({"model": "x", "max_tokens": 40, "messages": [{"role": "user", "content": "Hi"}]}).to_string();
        let body = body.as_bytes();
        let slow = |_: &Call| Some(slowly(Duration::from_millis(1000)));
        let world = World::start(Setup {
            credentials: &[("a", limits), ("b", "weight = 0")],
            ..Setup::default()
        })
        .await;
        world.when(slow);
        let all = join((0..64).map(|_| world.gateway.post("/v1/chat/completions", body))).await;
        assert!(all.iter().all(|reply| reply.status == 200), "{what}");
        let taken = world.taken();
        let by_a = taken.iter().filter(|key| *key == "a").count();
        assert_eq!(
            (taken.len(), by_a),
            (64, exactly),
            "{what}: each is asked once, of `a` exactly so many"
        );
        assert_eq!(
            world.credential("a").await["state"]["standing"],
            "ready",
            "a limit is no fault"
        );

        // Nowhere else to go.
        let world = World::start(Setup {
            credentials: &[("a", limits)],
            ..Setup::default()
        })
        .await;
        world.when(slow);
        let all = join((0..64).map(|_| world.gateway.post("/v1/chat/completions", body))).await;
        let good = all.iter().filter(|reply| reply.status == 200).count();
        assert_eq!((world.taken().len(), good), (exactly, exactly), "{what}");
        for reply in all.iter().filter(|reply| reply.status != 200) {
            Dialect::Chat.check_refusal(what, 429, reply);
            let wait: u32 = reply.header("retry-after").expect("when").parse().unwrap();
            assert!((50..=61).contains(&wait), "{what}: {wait}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bound_of_concurrent_requests_holds_and_frees() {
    let world = World::start(Setup {
        credentials: &[("a", "limits = { concurrent = 10 }"), ("b", "weight = 0")],
        ..Setup::default()
    })
    .await;
    let slow = || slowly(Duration::from_millis(1200));
    world.when(move |call| (call.key == "a").then(slow));
    let all = join((0..64).map(|_| world.ask(Dialect::Chat, "x"))).await;
    assert!(all.iter().all(|reply| reply.status == 200));
    let by_a = world.taken().iter().filter(|key| *key == "a").count();
    assert_eq!(by_a, 10, "exactly so many at once");
    // Which ended: there is room again, at once.
    let all = join((0..10).map(|_| world.ask(Dialect::Chat, "x"))).await;
    assert!(all.iter().all(|reply| reply.status == 200));
    assert_eq!(world.taken(), ["a"; 10]);

    let world = World::start(Setup {
        credentials: &[("a", "limits = { concurrent = 10 }")],
        ..Setup::default()
    })
    .await;
    world.when(move |_| Some(slow()));
    let all = join((0..64).map(|_| world.ask(Dialect::Chat, "x"))).await;
    let (good, refused): (Vec<_>, Vec<_>) = all.into_iter().partition(|reply| reply.status == 200);
    assert_eq!((good.len(), refused.len(), world.taken().len()), (10, 54, 10));
    for reply in refused {
        Dialect::Chat.check_refusal("all seats are taken", 429, &reply);
        assert_eq!(reply.header("retry-after"), Some("1"));
    }
    // A client that goes away frees its place as well.
    world.when(|call| (call.model == "hang").then(|| Answer::raw(vec![Step::Hang])));
    let body = Dialect::Chat.body("hang", false);
    let bearer = world.gateway.bearer();
    let length = body.len().to_string();
    let mut clients = Vec::new();
    for _ in 0..10 {
        let mut client = crate::support::client::Connection::open(world.gateway.ports.http).await;
        let headers = [("authorization", bearer.as_str()), ("content-length", length.as_str())];
        client
            .send(&crate::support::client::head("POST", "/v1/chat/completions", &headers))
            .await;
        client.send(&body).await;
        clients.push(client);
    }
    until("ten are waiting", Duration::from_secs(10), || async {
        (world.calls().len() == 10).then_some(())
    })
    .await;
    assert_eq!(world.ask(Dialect::Chat, "x").await.status, 429);
    drop(clients);
    until("their places are free", Duration::from_secs(10), || async {
        (world.ask(Dialect::Chat, "x").await.status == 200).then_some(())
    })
    .await;
}

// --- The retry budget, and what is sent once.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spent_budget_lets_failures_pass() {
    let world = World::start(Setup {
        provider: "cooldown = \"off\"",
        timeouts: "[retries]\nshare = \"0%\"\nreserve = 5",
        ..Setup::default()
    })
    .await;
    world.when(|call| (call.key == "a").then(|| error(500, "server_error", "as it came")));
    let (mut good, mut failed) = (0, 0);
    for _ in 0..40 {
        let reply = world.ask(Dialect::Chat, "x").await;
        match reply.status {
            200 => good += 1,
            500 => {
                failed += 1;
                assert!(reply.text().contains("as it came"), "{}", reply.text());
            }
            other => panic!("{other}: {}", reply.text()),
        }
    }
    // Those that `a` failed were repeated until the budget was spent; from then on each has its turn.
    assert_eq!(good + failed, 40);
    assert!((15..=18).contains(&failed), "{failed}");
    let denied = world.gateway.metric("tollgate_retries_denied_total").await;
    assert_eq!(denied as usize, failed);
    let rows = world.gateway.settled_rows(40).await;
    assert_eq!(rows.len(), world.taken().len(), "each attempt has its row");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_would_do_harm_twice_is_sent_once() {
    let world = World::start(Setup {
        provider: "cooldown = \"off\"",
        timeouts: "first_byte = \"300ms\"\nfirst_byte_whole = \"300ms\"",
        ..Setup::default()
    })
    .await;
    let bodies = [
        ("a job", r#"{"model":"x","input":"Hi","background":true}"#, true),
        (
            "a conversation",
            r#"{"model":"x","conversation":"conv_1","input":"Hi"}"#,
            true,
        ),
        ("neither", r#"{"model":"x","input":"Hi","background":false}"#, false),
    ];
    for (what, body, once) in bodies {
        for (how, answer, repeats) in [
            ("a reset", Answer::raw(vec![Step::Reset]), false),
            ("silence", Answer::raw(vec![Step::Hang]), false),
            ("500", error(500, "server_error", "broken"), false),
            ("503", error(503, "server_error", "busy"), false),
            (
                "half an answer",
                Answer::raw(vec![
                    Step::Send(
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{".into(),
                    ),
                    Step::Cut,
                ]),
                false,
            ),
            ("429", limited(1), true),
            ("401", error(401, "invalid_api_key", "no"), true),
            ("402", error(402, "billing_error", "pay"), true),
        ] {
            let first = AtomicUsize::new(0);
            world.when(move |_| (first.fetch_add(1, Ordering::SeqCst) == 0).then(|| answer.clone()));
            let reply = world.gateway.post("/v1/responses", body.as_bytes()).await;
            let calls = world.taken().len();
            if once && !repeats {
                assert_eq!(calls, 1, "{what}, {how}: it was sent once");
                assert_ne!(reply.status, 200, "{what}, {how}");
            } else {
                assert_eq!((calls, reply.status), (2, 200), "{what}, {how}: {}", reply.text());
            }
        }
    }
    // A refused connection: nobody can have begun.
    let rules = world.keys.provider(
        "closed",
        "127.0.0.1:9".parse().unwrap(),
        "cooldown = \"off\"",
        &[("c", "")],
    ) + "[[route]]\nname = \"closed\"\nmodel = \"closed\"\ntargets = [{ provider = \"closed\" }]\nfallback = [{ provider = \"p\", model = \"x\" }]\n";
    std::fs::write(world.gateway.path("rules/15.toml"), rules).unwrap();
    world.when(|_| None);
    let body = br#"{"model":"closed","input":"Hi","background":true}"#;
    until("the new rules are in force", Duration::from_secs(10), || async {
        let reply = world.gateway.post("/v1/responses", body).await;
        (reply.status == 200 && reply.header("x-tollgate-attempts") == Some("2")).then_some(())
    })
    .await;
}

// --- The operator's word.

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disabled_credential_is_out_at_once_and_stays_out() {
    let mut world = World::start(Setup::default()).await;
    let asked = |world: &World| {
        let mut taken = world.taken();
        taken.sort();
        taken.dedup();
        taken
    };
    let ask = |world: World| async move {
        for _ in 0..4 {
            assert_eq!(world.ask(Dialect::Chat, "x").await.status, 200);
        }
        world
    };
    world = ask(world).await;
    assert_eq!(asked(&world), ["a", "b"]);
    let reply = world
        .gateway
        .admin("POST", "/api/v1/credentials/p/a/disable", None)
        .await;
    assert_eq!(
        (reply.status, &reply.json()["state"]["standing"]),
        (200, &"disabled".into())
    );
    world = ask(world).await;
    assert_eq!(asked(&world), ["b"], "at once");
    assert_eq!(world.gateway.stop().await, 0);
    world.gateway.restart().await;
    world = ask(world).await;
    assert_eq!(asked(&world), ["b"], "also after a restart");
    assert_eq!(world.credential("a").await["state"]["standing"], "disabled");

    let (code, out, err) = world.gateway.cli(&["credentials", "disable", "p/b"]).await;
    assert_eq!(code, 0, "{out}{err}");
    let reply = world.ask(Dialect::Chat, "x").await;
    Dialect::Chat.check_refusal("all disabled", 502, &reply);
    let (code, out, err) = world.gateway.cli(&["credentials", "enable", "a"]).await;
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("ready"), "{out}");
    world = ask(world).await;
    assert_eq!(asked(&world), ["a"], "at once");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    world.gateway.kill();
    world.gateway.restart().await;
    world = ask(world).await;
    assert_eq!(asked(&world), ["a"], "also after kill -9");
    let (code, out, err) = world.gateway.cli(&["credentials", "list"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("disabled") && out.contains("ready"), "{out}");
    assert!(!out.contains(PROVIDER_KEY), "{out}");
    let (code, out, _) = world.gateway.cli(&["credentials", "disable", "p/none"]).await;
    assert_ne!(code, 0, "{out}");
}
