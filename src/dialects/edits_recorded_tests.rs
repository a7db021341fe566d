//! What routing reads and what rules add, on recorded traffic, where it is there (`TOLLGATE_SHARED`, or `../shared` beside the
//! project): skipped loudly where it is not.

use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::ir::{Message, Request};
use crate::routing::Survey;
use crate::translate::edit::{self, Change, How};
use crate::translate::splice;

const BEFORE: &str = "\"before\" \u{1F980}";
const AFTER: &str = "after\\";

fn folder() -> PathBuf {
    let shared = std::env::var("TOLLGATE_SHARED").map_or_else(
        |_| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    );
    shared.join("wire/cases")
}

/// Every recorded case of a conversation: its id, its dialect, the case.
fn cases() -> Vec<(String, &'static dyn Dialect, Value)> {
    let Ok(index) = fs::read(folder().join("index.json")) else {
        eprintln!("SKIPPED: no recorded traffic in {}", folder().display());
        return Vec::new();
    };
    let index: Value = serde_json::from_slice(&index).expect("an index");
    let entries = index.as_array().expect("a list").iter();
    entries
        .filter_map(|entry| {
            let dialect = by_name(entry["wire"].as_str()?)?;
            let id = entry["id"].as_str().expect("an id").to_owned();
            let json = fs::read(folder().join(format!("{id}.json"))).expect("a case");
            Some((id, dialect, serde_json::from_slice(&json).expect("JSON")))
        })
        .collect()
}

fn target(dialect: &dyn Dialect) -> Target {
    let mut target = dialect.own_target(Operation::Chat, false).expect("chat").0;
    target.model = Some("m".into());
    target
}

fn texts<'a>(messages: impl IntoIterator<Item = &'a Message>) -> Vec<&'a str> {
    let blocks = messages.into_iter().flat_map(|message| &message.blocks);
    blocks
        .filter_map(|block| block.as_text())
        .filter(|text| !text.is_empty())
        .collect()
}

/// What the instructions are to be: the texts stand around the dialect's own field; where they are messages, around all that
/// lead.
fn want(dialect: &dyn Dialect, request: &Request, body: &Value) -> String {
    let names = ["instructions", "system", "systemInstruction", "system_instruction"];
    let around = match names
        .iter()
        .any(|name| body.get(name).is_some_and(|value| !value.is_null()))
    {
        _ if dialect.id() == openai_chat::OpenAiChat.id() => request.system.len(),
        field => usize::from(field),
    };
    let (inside, rest) = request.system.split_at(around.min(request.system.len()));
    let mut all = vec![BEFORE];
    all.extend(texts(inside));
    all.push(AFTER);
    all.extend(texts(rest));
    all.join("\n\n")
}

#[test]
fn every_recorded_request_is_read_and_added_to() {
    let (mut read, mut joined) = (0, 0);
    for (id, dialect, case) in cases() {
        let json = &case["request"]["body"];
        if !json.is_object() {
            continue;
        }
        let target = target(dialect);
        for body in [
            json.to_string().into_bytes(),
            serde_json::to_vec_pretty(json).expect("JSON"),
        ] {
            let body = Bytes::from(body);
            let Ok(peek) = dialect.peek(&target, &body) else {
                continue;
            };
            assert_eq!(peek.outline.ours, [], "{id}: nothing in it is for us");
            assert_eq!(splice::apply(&body, peek.outline.ours), body);
            let prompt = peek.outline.prompt.map(|at| &body[at]);
            let of = |names: &[&str]| names.iter().find_map(|name| json.get(name)).cloned();
            let read_back = prompt.map(|json| serde_json::from_slice::<Value>(json).expect("JSON"));
            assert_eq!(read_back, of(&["messages", "input", "contents"]), "{id}");
            let Ok(request) = dialect.decode_request(&target, &body) else {
                continue;
            };
            let survey = Survey::of(&request, 0);
            assert_eq!(survey.tools, !request.tools.is_empty(), "{id}");
            read += 1;

            let limit = json!(77);
            let set = [Change {
                path: "max_output_tokens",
                how: How::Set(&limit),
            }];
            let changed = edit::apply(&body, dialect, &set).expect("a limit can be set");
            let changed = dialect.decode_request(&target, &changed).expect("still a request");
            assert_eq!(Survey::of(&changed, 0).output_tokens, Some(77), "{id}");
            assert_eq!(texts(&changed.messages), texts(&request.messages), "{id}");

            let splices = dialect.add_instructions(&body, Some(BEFORE), Some(AFTER));
            let edited = splice::apply(&body, splices);
            dialect
                .peek(&target, &edited)
                .unwrap_or_else(|error| panic!("{id}: {error}"));
            let added = dialect.decode_request(&target, &edited);
            let added = added.unwrap_or_else(|error| panic!("{id}: {error}"));
            // Parts of our own carry the empty line themselves, as some join parts with nothing between.
            let told = texts(&added.system).join("\n\n").replace("\n\n\n\n", "\n\n");
            let wanted = want(dialect, &request, json).replace("\n\n\n\n", "\n\n");
            assert_eq!(told, wanted, "{id}");
            assert_eq!(texts(&added.messages), texts(&request.messages), "{id}");
            assert_eq!(
                (added.messages.len(), added.tools.len()),
                (request.messages.len(), request.tools.len())
            );
            joined += 1;
        }
    }
    eprintln!("{read} bodies read, {joined} added to");
}

#[test]
fn recorded_errors_tell_their_causes() {
    use crate::ir::Cause;
    let mut found = Vec::new();
    for (id, dialect, case) in cases() {
        let status = case["response"]["status"]
            .as_u64()
            .and_then(|status| u16::try_from(status).ok());
        let (Some(status @ 400..), Some(body)) = (status, case["response"]["body_text"].as_str()) else {
            continue;
        };
        let error = dialect.decode_error(status, body.as_bytes());
        let too_long = ["too long", "context length", "context window", "input token count"];
        let expected = too_long
            .iter()
            .any(|part| body.contains(part))
            .then_some(Cause::ContextTooLong);
        assert_eq!(error.cause, expected, "{id}: {body}");
        found.extend(error.cause);
    }
    if !cases().is_empty() {
        assert!(found.len() >= 5, "{}", found.len());
    }
}
