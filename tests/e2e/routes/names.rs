//! Names: aliases, `provider/model`, the fields `provider` and `models`.

use serde_json::{Value, json};

use super::{World, dialect_of, json_of, member, place, plain, taken_by, with};
use crate::support::dialect::{ALL, Dialect};
use crate::support::provider::{Answer, Received};

const ROUTES: &str = r#"
[alias]
"gpt-4" = "one"
"direct" = "q/special"
"hidden" = "renamed"

[[route]]
name = "one"
model = "one"
targets = [{ provider = "p" }]

[[route]]
name = "renamed"
model = "renamed"
targets = [{ provider = "p", model = "theirs" }]

[[route]]
name = "two"
model = "two"
targets = [{ provider = "q" }]

[[route]]
name = "bad"
model = "bad*"
targets = [{ provider = "bad" }]

[[route]]
name = "slash"
model = "other/*"
targets = [{ provider = "p" }]
"#;

async fn world() -> World {
    let members = vec![member("p"), member("q"), member("bad").more("cooldown = \"off\"")];
    let world = World::start(members, ROUTES).await;
    world.say("bad", Answer::json(500, "{\"error\":{\"message\":\"no\"}}"));
    world
}

/// The model a provider was asked for.
fn asked(request: &Received) -> String {
    match dialect_of(request) {
        Dialect::Gemini => {
            let (_, path) = place(request);
            path.trim_start_matches("/v1beta/models/")
                .rsplit_once(':')
                .unwrap()
                .0
                .to_owned()
        }
        _ => json_of(request)["model"].as_str().unwrap().to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aliases_and_providers_in_the_name() {
    let world = world().await;
    let mut wanted = Vec::new();
    for dialect in ALL {
        for stream in [false, true] {
            for (name, provider, model, route) in [
                ("one", "p", "one", "one"),
                ("gpt-4", "p", "one", "one"),
                ("hidden", "p", "theirs", "renamed"),
                ("direct", "q", "special", ""),
                ("q/special", "q", "special", ""),
                ("q/vendor/name:free", "q", "vendor/name:free", ""),
                // No provider's name: a route's.
                ("other/x", "p", "other/x", "slash"),
            ] {
                let what = format!("{dialect:?}, {name}, stream {stream}");
                let reply = world.ask(dialect, name, stream).await;
                assert_eq!(taken_by(&reply), model, "{what}: {}", reply.text());
                assert_eq!(reply.header("x-tollgate-provider"), Some(provider), "{what}");
                let request = world.provider.last();
                assert_eq!(
                    (place(&request).0.as_str(), asked(&request).as_str()),
                    (provider, model),
                    "{what}"
                );
                wanted.push((reply.header("x-request-id").unwrap().to_owned(), [route, name, model]));
            }
            for name in ["nowhere/one", "q/", "gpt-5", "Gpt-4"] {
                let reply = world.ask(dialect, name, stream).await;
                dialect.check_refusal(name, 404, &reply);
            }
        }
    }
    let rows = world.gateway.settled_rows(wanted.len()).await;
    assert_eq!(rows.len(), wanted.len(), "what was refused has no row");
    for (request, wanted) in wanted {
        let row = rows.iter().find(|row| row["request"] == *request).unwrap();
        assert_eq!([&row["route"], &row["model"], &row["upstream_model"]], wanted, "{row}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_field_provider() {
    let world = world().await;
    for dialect in ALL {
        let path = |model| dialect.path(model, false);
        let send = async |model, more: Value| world.send(&path(model), &[], &with(plain(dialect, model), more)).await;
        // Past all routes, the name as it stands; an alias is followed.
        for (model, asked_for) in [
            ("one", "one"),
            ("anything", "anything"),
            ("gpt-4", "one"),
            ("q/x", "q/x"),
        ] {
            let reply = send(model, json!({"provider": "q", "x_own": 1})).await;
            assert_eq!(taken_by(&reply), asked_for, "{dialect:?}: {}", reply.text());
            let request = world.provider.last();
            assert_eq!(
                (place(&request).0.as_str(), asked(&request).as_str()),
                ("q", asked_for),
                "{dialect:?}"
            );
            let sent = json_of(&request);
            assert!(
                sent.get("provider").is_none(),
                "{dialect:?}: it does not travel: {sent}"
            );
            assert_eq!(sent["x_own"], 1, "{dialect:?}: the rest does");
        }
        let reply = send("one", json!({"provider": "nobody"})).await;
        dialect.check_refusal("an unknown provider", 404, &reply);
        assert!(reply.text().contains("nobody"), "{}", reply.text());
        let reply = send("one", json!({"provider": ""})).await;
        dialect.check_refusal("an empty name", 400, &reply);
        // An object is for the provider (OpenRouter's), byte for byte.
        let body = plain(dialect, "one").to_string();
        let body = format!("{{ \"provider\" : {{\"order\": [ \"x\" ] , \"a\":1.0}},{}", &body[1..]);
        let reply = world.gateway.post(&path("one"), body.as_bytes()).await;
        assert_eq!(taken_by(&reply), "one", "{dialect:?}: {}", reply.text());
        assert_eq!(
            String::from_utf8(world.provider.last().body).unwrap(),
            body,
            "{dialect:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_models() {
    let world = world().await;
    let order = |world: &World| -> Vec<String> {
        let all = world.provider.received();
        world.provider.forget();
        all.iter()
            .map(|request| format!("{} {}", place(request).0, asked(request)))
            .collect()
    };
    for dialect in ALL {
        for stream in [false, true] {
            for (model, models, tried) in [
                ("one", json!(["two"]), vec!["p one"]),
                ("bad", json!(["two"]), vec!["bad bad", "q two"]),
                ("bad", json!(["bad", "bad2", "gpt-4"]), vec!["bad bad", "p one"]),
                ("bad", json!(["nowhere", "q/special"]), vec!["bad bad", "q special"]),
                ("bad", json!(["hidden"]), vec!["bad bad", "p theirs"]),
                // A name that leads nowhere is passed over, the first one too.
                ("nowhere", json!(["nothing", "two"]), vec!["q two"]),
                ("one", Value::Null, vec!["p one"]),
                ("one", json!([]), vec!["p one"]),
            ] {
                let what = format!("{dialect:?}, {model}, {models}, stream {stream}");
                let mut body = with(plain(dialect, model), json!({"models": models.clone(), "x_own": 1}));
                if stream && dialect != Dialect::Gemini {
                    body["stream"] = true.into();
                }
                let reply = world.send(&dialect.path(model, stream), &[], &body).await;
                assert_eq!(reply.status, 200, "{what}: {}", reply.text());
                let sent = json_of(&world.provider.last());
                let stays = models.is_null();
                assert_eq!(
                    sent.get("models").is_some(),
                    stays,
                    "{what}: it does not travel: {sent}"
                );
                assert_eq!(sent["x_own"], 1, "{what}");
                let last = tried.last().unwrap().split(' ').nth(1);
                assert_eq!(reply.header("x-tollgate-model"), last, "{what}");
                // Another name of the same failing provider comes after those of others.
                assert_eq!(order(&world), tried, "{what}");
            }
        }
        let send = async |model, more: Value| {
            let reply = world
                .send(&dialect.path(model, false), &[], &with(plain(dialect, model), more))
                .await;
            world.provider.forget();
            reply
        };
        let reply = send("nowhere", json!({"models": ["nothing"]})).await;
        dialect.check_refusal("all unknown", 404, &reply);
        let reply = send("bad", json!({"models": ["bad3"]})).await;
        assert_eq!(
            (reply.status, reply.header("x-tollgate-attempts")),
            (500, Some("2")),
            "{dialect:?}: all fail"
        );
        for wrong in [json!("two"), json!([1]), json!([""]), json!(vec!["x"; 33])] {
            let reply = send("one", json!({"models": wrong})).await;
            dialect.check_refusal("not a list of names", 400, &reply);
        }
        // With the field `provider` all of them are asked there.
        let reply = send("bad", json!({"provider": "bad", "models": ["bad4"]})).await;
        assert_eq!(reply.status, 500, "{dialect:?}");
        let reply = send("bad", json!({"provider": "q", "models": ["two"]})).await;
        assert_eq!(taken_by(&reply), "bad", "{dialect:?}: nobody but q is asked");
        if dialect != Dialect::Gemini {
            let mut body = with(plain(dialect, "x"), json!({"models": ["bad", "gpt-4"]}));
            body.as_object_mut().unwrap().remove("model");
            let reply = world.send(&dialect.path("", false), &[], &body).await;
            assert_eq!(
                taken_by(&reply),
                "one",
                "{dialect:?}: the first stands in for `model`: {}",
                reply.text()
            );
            assert_eq!(order(&world), ["bad bad", "p one"], "{dialect:?}");
        }
    }
}
