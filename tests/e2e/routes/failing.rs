//! `fallback_on`: what is asked after a prompt that is too long, content that a policy refuses, and an overload.

use serde_json::json;

use super::{World, member, place, taken_by};
use crate::support::dialect::{ALL, Dialect};
use crate::support::provider::Answer;

const ROUTES: &str = r#"
[[route]]
name = "all"
model = "all"
targets = [{ provider = "a" }, { provider = "b", weight = 0 }]
fallback = [{ provider = "fallback" }]
[route.fallback_on]
context_too_long = [{ provider = "long", model = "longer" }, { provider = "longest" }]
content_policy = [{ provider = "lenient" }]
overloaded = [{ provider = "spare" }]

[[route]]
name = "none"
model = "none"
targets = [{ provider = "a" }]
fallback = [{ provider = "fallback" }]
"#;

/// What providers say of a prompt that is too long, and of content they refuse.
fn errors(dialect: Dialect) -> [(u16, serde_json::Value); 2] {
    match dialect {
        Dialect::Chat | Dialect::Responses => [
            (
                400,
                json!({"error": {"message": "This model's maximum context length is 8192 tokens.", "type": "invalid_request_error",
                    "param": "messages", "code": "context_length_exceeded"}}),
            ),
            (
                400,
                json!({"error": {"message": "Your request was rejected as a result of our safety system.", "type": "invalid_request_error",
                    "param": null, "code": "content_policy_violation"}}),
            ),
        ],
        Dialect::Messages => [
            (
                400,
                json!({"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 208310 tokens > 200000 maximum"}}),
            ),
            (
                400,
                json!({"type": "error", "error": {"type": "invalid_request_error", "message": "Output blocked by content filtering policy"}}),
            ),
        ],
        Dialect::Gemini => [
            (
                400,
                json!({"error": {"code": 400, "status": "INVALID_ARGUMENT",
                    "message": "The input token count (1250074) exceeds the maximum number of tokens allowed (1048576)."}}),
            ),
            (
                400,
                json!({"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "The prompt was blocked due to prohibited content."}}),
            ),
        ],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_class_of_errors_has_its_list() {
    let off = "cooldown = \"off\"";
    let names = ["a", "b", "fallback", "long", "longest", "lenient", "spare"];
    let world = World::start(names.map(|name| member(name).more(off)).into(), ROUTES).await;
    let order = |world: &World| -> Vec<String> {
        let all = world
            .provider
            .received()
            .iter()
            .map(|request| place(request).0)
            .collect();
        world.provider.forget();
        all
    };
    for dialect in ALL {
        for stream in [false, true] {
            let what = format!("{dialect:?}, stream {stream}");
            world.all_well();
            world.provider.forget();
            let [(long, too_long), (refused, policy)] = errors(dialect);

            world.say("a", Answer::json(long, too_long.to_string()));
            let reply = world.ask(dialect, "all", stream).await;
            assert_eq!(taken_by(&reply), "longer", "{what}: {}", reply.text());
            assert_eq!(
                order(&world),
                ["a", "long"],
                "{what}: those of the same length are not asked"
            );
            let reply = world.ask(dialect, "none", stream).await;
            assert_eq!(
                (reply.status, reply.json()),
                (long, too_long.clone()),
                "{what}: as it came"
            );
            assert_eq!(order(&world), ["a"], "{what}");

            world.say("long", Answer::json(long, too_long.to_string()));
            let reply = world.ask(dialect, "all", stream).await;
            assert_eq!(
                (reply.status, reply.header("x-tollgate-attempts")),
                (200, Some("3")),
                "{what}"
            );
            assert_eq!(order(&world), ["a", "long", "longest"], "{what}");
            world.say("longest", Answer::json(long, too_long.to_string()));
            let reply = world.ask(dialect, "all", stream).await;
            assert_eq!((reply.status, reply.json()), (long, too_long), "{what}: the last one's");
            order(&world);

            world.say("a", Answer::json(refused, policy.to_string()));
            let reply = world.ask(dialect, "all", stream).await;
            assert_eq!(reply.status, 200, "{what}: {}", reply.text());
            assert_eq!(order(&world), ["a", "lenient"], "{what}");
            let reply = world.ask(dialect, "none", stream).await;
            assert_eq!((reply.status, reply.json()), (refused, policy), "{what}: as it came");
            order(&world);

            for status in [503, 529] {
                world.say("a", Answer::json(status, "{}"));
                let reply = world.ask(dialect, "all", stream).await;
                assert_eq!(reply.status, 200, "{what}: {}", reply.text());
                assert_eq!(order(&world), ["a", "spare"], "{what}, {status}");
                let reply = world.ask(dialect, "none", stream).await;
                assert_eq!(reply.status, 200, "{what}");
                assert_eq!(order(&world), ["a", "fallback"], "{what}, {status}");
            }
            // Then the others.
            world.say("spare", Answer::json(500, "{}"));
            let reply = world.ask(dialect, "all", stream).await;
            assert_eq!(reply.status, 200, "{what}");
            assert_eq!(order(&world), ["a", "spare", "b"], "{what}");
            // Any other failure knows none of these lists.
            for name in ["a", "b"] {
                world.say(name, Answer::json(500, "{}"));
            }
            let reply = world.ask(dialect, "all", stream).await;
            assert_eq!(reply.status, 200, "{what}");
            assert_eq!(order(&world), ["a", "b", "fallback"], "{what}");
        }
    }
    // A row names what was asked for and what was asked of the provider.
    world.gateway.idle().await;
    let rows = world.gateway.rows().await;
    let row = rows.iter().find(|row| row["provider"] == "long").unwrap();
    assert_eq!(
        (&row["route"], &row["model"], &row["upstream_model"], &row["attempt"]),
        (&json!("all"), &json!("all"), &json!("longer"), &json!(2)),
        "{row}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lists_may_lead_to_another_format() {
    let (firsts, seconds) = (["fc", "fr", "fa", "fg"], ["sc", "sr", "sa", "sg"]);
    let mut members = Vec::new();
    for names in [firsts, seconds] {
        members.extend(
            ALL.iter()
                .zip(names)
                .map(|(dialect, name)| member(name).speaks(&[*dialect])),
        );
    }
    let mut rules = String::new();
    for first in firsts {
        for second in seconds {
            rules += &format!(
                "[[route]]\nname = \"{first} {second}\"\nmodel = \"{first}-{second}\"\ntargets = [{{ provider = \"{first}\" }}]\n\
                 fallback_on = {{ context_too_long = [{{ provider = \"{second}\", model = \"longer\" }}] }}\n"
            );
        }
    }
    let world = World::start(members, &rules).await;
    for (dialect, first) in ALL.into_iter().zip(firsts) {
        let [(status, too_long), _] = errors(dialect);
        world.say(first, Answer::json(status, too_long.to_string()));
        for second in seconds {
            for client in ALL {
                let reply = world.ask(client, &format!("{first}-{second}"), false).await;
                assert_eq!(
                    taken_by(&reply),
                    "longer",
                    "{client:?}: {first}, then {second}: {}",
                    reply.text()
                );
                assert_eq!(reply.header("x-tollgate-provider"), Some(second));
            }
        }
    }
}
