//! Instructions which a route adds, before and after the client's own, in every dialect and across conversion.

use serde_json::{Value, json};

use super::{World, dialect_of, json_of, member, plain, with};
use crate::support::dialect::{ALL, Dialect};

/// The instructions in a body, in order, as a provider reads them, without surplus empty lines; and how many messages it has.
fn instructions(dialect: Dialect, body: &Value) -> (String, usize) {
    // Parts of a message are one text; messages are apart, and so are blocks of instructions and their parts.
    let apart = matches!(dialect, Dialect::Messages | Dialect::Gemini);
    let between = if apart { "\n\n" } else { "" };
    let text = |value: &Value| -> Option<String> {
        let of = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match value {
            Value::Array(parts) => {
                let texts: Vec<String> = parts.iter().map(|part| of(&part["text"])).collect();
                Some(texts.join(between))
            }
            Value::Null => None,
            text => Some(of(text)),
        }
    };
    let list = |name: &str| body[name].as_array().cloned().unwrap_or_default();
    let of_messages = |name: &str| -> Vec<String> {
        let is = |message: &&Value| message["role"] == "system" || message["role"] == "developer";
        list(name)
            .iter()
            .filter(is)
            .filter_map(|message| text(&message["content"]))
            .collect()
    };
    let texts: Vec<String> = match dialect {
        Dialect::Chat => of_messages("messages"),
        // In a field of their own, or as messages.
        Dialect::Responses => text(&body["instructions"])
            .into_iter()
            .chain(of_messages("input"))
            .collect(),
        Dialect::Messages => text(&body["system"]).into_iter().collect(),
        Dialect::Gemini => ["systemInstruction", "system_instruction"]
            .iter()
            .filter_map(|name| text(&body[name]["parts"]))
            .collect(),
    };
    let messages = match dialect {
        Dialect::Responses if body["input"].is_string() => 1,
        Dialect::Responses => list("input").iter().filter(|item| item["role"] == "user").count(),
        Dialect::Chat => list("messages")
            .iter()
            .filter(|message| message["role"] == "user")
            .count(),
        Dialect::Messages => list("messages").len(),
        _ => list("contents").len(),
    };
    let texts = texts.join("\n\n");
    let said: Vec<&str> = texts.split("\n\n").filter(|text| !text.is_empty()).collect();
    (said.join("\n\n"), messages)
}

/// A request with these instructions, in the forms a dialect has for them.
fn instructed(dialect: Dialect, model: &str, own: Option<&str>) -> Vec<Value> {
    let base = plain(dialect, model);
    let Some(own) = own else { return vec![base] };
    match dialect {
        Dialect::Chat => vec![
            with(
                base.clone(),
                json!({"messages": [{"role": "system", "content": own}, {"role": "user", "content": "Hello"}]}),
            ),
            with(
                base,
                json!({"messages": [{"role": "developer", "content": [{"type": "text", "text": own}]}, {"role": "user", "content": "Hello"}]}),
            ),
        ],
        Dialect::Responses => vec![with(base, json!({"instructions": own}))],
        Dialect::Messages => vec![
            with(base.clone(), json!({"system": own})),
            with(
                base,
                json!({"system": [{"type": "text", "text": own, "cache_control": {"type": "ephemeral"}}]}),
            ),
        ],
        Dialect::Gemini => vec![
            with(base.clone(), json!({"systemInstruction": {"parts": [{"text": own}]}})),
            with(base, json!({"system_instruction": {"parts": [{"text": own}]}})),
        ],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_and_after_in_every_dialect_and_across() {
    let names = ["c", "r", "a", "g"];
    let mut rules = String::new();
    for name in names {
        for (kind, system) in [
            ("before", "before = \"We say \\\"first\\\".\""),
            ("after", "after = \"We say last.\""),
            ("both", "before = \"We say \\\"first\\\".\", after = \"We say last.\""),
        ] {
            rules += &format!(
                "[[route]]\nname = \"{kind} {name}\"\nmodel = \"{kind}-{name}\"\ntargets = [{{ provider = \"{name}\" }}]\nsystem = {{ {system} }}\n"
            );
        }
    }
    let members = ALL
        .iter()
        .zip(names)
        .map(|(dialect, name)| member(name).speaks(&[*dialect]));
    let world = World::start(members.collect(), &rules).await;
    for client in ALL {
        for (upstream, name) in ALL.into_iter().zip(names) {
            for kind in ["before", "after", "both"] {
                for own in [None, Some("The client's own.")] {
                    for body in instructed(client, &format!("{kind}-{name}"), own) {
                        let what = format!("{client:?} to {upstream:?}, {kind}, {body}");
                        let path = client.path(&format!("{kind}-{name}"), false);
                        let reply = world.send(&path, &[], &body).await;
                        assert_eq!(reply.status, 200, "{what}: {}", reply.text());
                        let request = world.provider.last();
                        assert_eq!(dialect_of(&request), upstream, "{what}");
                        let sent = json_of(&request);
                        let first = (kind != "after").then_some("We say \"first\".");
                        let last = (kind != "before").then_some("We say last.");
                        let want: Vec<&str> = [first, own, last].into_iter().flatten().collect();
                        assert_eq!(instructions(upstream, &sent), (want.join("\n\n"), 1), "{what}: {sent}");
                    }
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rest_keeps_its_bytes_and_counts_have_them_too() {
    let rules =
        "[[route]]\nname = \"x\"\nmodel = \"x\"\ntargets = [{ provider = \"p\" }]\nsystem = { before = \"Ours.\" }\n";
    let world = World::start(vec![member("p")], rules).await;
    for (dialect, body, want) in [
        (
            Dialect::Chat,
            r#"{ "model":"x", "messages" : [ {"role":"system", "content" : "\u00e9"},{"role":"user","content":"\u00e9"}], "x_own":1.50 }"#,
            r#"{ "model":"x", "messages" : [ {"role":"system", "content" : "Ours.\n\n\u00e9"},{"role":"user","content":"\u00e9"}], "x_own":1.50 }"#,
        ),
        (
            Dialect::Responses,
            r#"{ "model":"x", "instructions" : "\u00e9", "input" : "\u00e9", "x_own":1.50 }"#,
            r#"{ "model":"x", "instructions" : "Ours.\n\n\u00e9", "input" : "\u00e9", "x_own":1.50 }"#,
        ),
        (
            Dialect::Messages,
            r#"{ "model":"x", "system" : "\u00e9", "max_tokens":9, "messages":[{"role":"user","content":"\u00e9"}], "x_own":1.50 }"#,
            r#"{ "model":"x", "system" : "Ours.\n\n\u00e9", "max_tokens":9, "messages":[{"role":"user","content":"\u00e9"}], "x_own":1.50 }"#,
        ),
    ] {
        let reply = world.gateway.post(&dialect.path("x", false), body.as_bytes()).await;
        assert_eq!(reply.status, 200, "{dialect:?}: {}", reply.text());
        assert_eq!(
            String::from_utf8(world.provider.last().body).unwrap(),
            want,
            "{dialect:?}"
        );
    }
    world
        .send("/v1/messages/count_tokens", &[], &plain(Dialect::Messages, "x"))
        .await;
    let sent = json_of(&world.provider.last());
    assert_eq!(
        instructions(Dialect::Messages, &sent).0,
        "Ours.",
        "they are counted: {sent}"
    );
    world
        .send("/v1/embeddings", &[], &json!({"model": "x", "input": "y"}))
        .await;
    assert_eq!(
        json_of(&world.provider.last()),
        json!({"model": "x", "input": "y"}),
        "what has none gets none"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_name_of_a_wish_list_has_its_own() {
    let rules = "[[route]]\nname = \"one\"\nmodel = \"one\"\ntargets = [{ provider = \"bad\" }]\nsystem = { before = \"Of one.\" }\nset = { temperature = 0.5 }\n\
        [[route]]\nname = \"two\"\nmodel = \"two\"\ntargets = [{ provider = \"p\" }]\nsystem = { after = \"Of two.\" }\nset = { top_p = 0.5 }\n";
    let world = World::start(vec![member("p"), member("bad").more("cooldown = \"off\"")], rules).await;
    world.say("bad", crate::support::provider::Answer::json(500, "{}"));
    for dialect in ALL {
        let body = with(plain(dialect, "one"), json!({"models": ["two"]}));
        let reply = world.send(&dialect.path("one", false), &[], &body).await;
        assert_eq!(super::taken_by(&reply), "two", "{dialect:?}: {}", reply.text());
        let sent = json_of(&world.provider.last());
        assert_eq!(instructions(dialect, &sent).0, "Of two.", "{dialect:?}: {sent}");
        let settings = if dialect == Dialect::Gemini {
            &sent["generationConfig"]
        } else {
            &sent
        };
        assert!(settings.get("temperature").is_none(), "{dialect:?}: {sent}");
        let all = world.provider.received();
        let first = json_of(&all[all.len() - 2]);
        assert_eq!(instructions(dialect, &first).0, "Of one.", "{dialect:?}: {first}");
    }
}
