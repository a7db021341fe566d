//! Properties: whatever is said, there and back again it is said still; however a stream is cut, the same is written.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;
use tollgate::dialects::{ALL, Dialect, Upstream};
use tollgate::ir::{
    Block, Content, LossReport, Message, Request, Role, Tool, ToolCall, ToolDefinition, ToolKind, ToolResult,
};

use crate::{fixtures, pipeline, prepare, recordings};

fn runner(cases: u32) -> TestRunner {
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(cases);
    TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    })
}

/// A turn of a conversation.
#[derive(Clone, Debug)]
enum Turn {
    User(Vec<String>),
    Assistant(String),
    /// Calls, each with its arguments and its result.
    Tools(Option<String>, Vec<(usize, BTreeMap<String, String>, String)>),
}

/// Text with what JSON, SSE and people put into it. Never blank: not every dialect takes that.
fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9 \"\\\\/\n\t{}\\[\\]:,é☂𝄞\u{7f}\u{2028}]{0,24}[a-z]"
}

fn turn() -> impl Strategy<Value = Turn> {
    let arguments = prop::collection::btree_map("[a-z_]{1,6}", text(), 0..3);
    let call = (0..3_usize, arguments, text());
    prop_oneof![
        prop::collection::vec(text(), 1..3).prop_map(Turn::User),
        text().prop_map(Turn::Assistant),
        (prop::option::of(text()), prop::collection::vec(call, 1..4))
            .prop_map(|(text, calls)| Turn::Tools(text, calls)),
    ]
}

fn tool_name(number: usize) -> String {
    ["get_weather", "run", "look-up"][number].to_owned()
}

/// A conversation which begins with the user.
fn conversation() -> impl Strategy<Value = Request> {
    let system = prop::option::of(text());
    (system, text(), prop::collection::vec(turn(), 0..5)).prop_map(|(system, first, turns)| {
        let mut request = Request {
            model: "a-model".into(),
            ..Request::default()
        };
        let message = |role, blocks| Message {
            blocks,
            ..Message::new(role, "messages[0]")
        };
        request
            .system
            .extend(system.map(|text| message(Role::System, vec![Block::text(text, "system")])));
        request.messages.push(message(Role::User, vec![Block::text(first, "")]));
        let mut calls_made = 0;
        for turn in turns {
            match turn {
                Turn::User(texts) => {
                    let blocks = texts.into_iter().map(|text| Block::text(text, "")).collect();
                    request.messages.push(message(Role::User, blocks));
                }
                Turn::Assistant(text) => request
                    .messages
                    .push(message(Role::Assistant, vec![Block::text(text, "")])),
                Turn::Tools(text, calls) => {
                    let mut said: Vec<Block> = text.map(|text| Block::text(text, "")).into_iter().collect();
                    let mut results = Vec::new();
                    for (tool, arguments, result) in calls {
                        calls_made += 1;
                        let id = format!("call_{calls_made}x");
                        said.push(Block::new(
                            Content::ToolCall(ToolCall {
                                id: id.clone(),
                                name: tool_name(tool),
                                arguments: serde_json::to_string(&arguments).expect("JSON"),
                                kind: ToolKind::Function,
                                namespace: None,
                            }),
                            "",
                        ));
                        results.push(Block::new(
                            Content::ToolResult(ToolResult {
                                call: id,
                                name: Some(tool_name(tool)),
                                blocks: vec![Block::text(result, "")],
                                is_error: None,
                                kind: ToolKind::Function,
                            }),
                            "",
                        ));
                    }
                    request.messages.push(message(Role::Assistant, said));
                    request.messages.push(message(Role::User, results));
                }
            }
        }
        request.tools.extend((0..3).map(|number| Tool {
            kind: ToolDefinition::Function {
                name: tool_name(number),
                description: None,
                parameters: Some(serde_json::json!({"type": "object", "properties": {"a": {"type": "string"}}})),
                strict: None,
                namespace: None,
            },
            cache: None,
            at: "tools[0]".into(),
            native: Vec::new(),
        }));
        request
    })
}

/// What was said, without how: neighbouring turns of one speaker are one.
#[derive(Debug, PartialEq)]
struct Said {
    role: Role,
    text: String,
    calls: Vec<(String, Value)>,
    results: Vec<(String, String)>,
}

fn said(request: &Request) -> Vec<Said> {
    let mut all: Vec<Said> = Vec::new();
    for message in request.all_messages() {
        let role = if message.role == Role::Developer {
            Role::System
        } else {
            message.role
        };
        if all.last().is_none_or(|last| last.role != role) {
            all.push(Said {
                role,
                text: String::new(),
                calls: Vec::new(),
                results: Vec::new(),
            });
        }
        let last = all.last_mut().expect("just pushed");
        for block in &message.blocks {
            match &block.content {
                Content::Text(text) => last.text.push_str(text),
                Content::ToolCall(call) => {
                    let arguments = serde_json::from_str(&call.arguments).unwrap_or(Value::Null);
                    last.calls.push((call.name.clone(), arguments));
                }
                Content::ToolResult(result) => {
                    let text: String = result.blocks.iter().filter_map(Block::as_text).collect();
                    // Results are objects in one dialect: a wrapped text is that text.
                    let wrapped = serde_json::from_str::<BTreeMap<String, String>>(&text).ok();
                    let text = wrapped
                        .filter(|map| map.len() == 1)
                        .and_then(|map| map.into_values().next())
                        .unwrap_or(text);
                    last.results.push((result.name.clone().unwrap_or_default(), text));
                }
                _ => {}
            }
        }
    }
    all
}

/// Into a dialect's JSON and out of it.
fn through(request: &Request, from: &dyn Dialect, to: &dyn Dialect) -> Result<Request, TestCaseError> {
    let mut loss = LossReport::default();
    let fail = |what: String| TestCaseError::fail(format!("{}: {what}", to.id()));
    let (prepared, _) = prepare::request(request.clone(), from, to, &mut loss);
    let upstream = Upstream {
        model: fixtures::model(to.id().as_str()),
        stream: false,
        ask_usage: false,
    };
    let written = to
        .encode_request(&prepared, &upstream, &mut loss)
        .map_err(|error| fail(error.to_string()))?;
    let target = recordings::target(to.id().as_str(), false);
    let mut read = to
        .decode_request(&target, &written)
        .map_err(|error| fail(error.to_string()))?;
    read.link_tools();
    Ok(read)
}

#[test]
fn conversations_survive_the_way_there_and_back() {
    let pair = (0..ALL.len(), 0..ALL.len());
    let result = runner(300).run(&(pair, conversation()), |((a, b), request)| {
        let (a, b) = (ALL[a], ALL[b]);
        let first = through(&request, a, a)?;
        prop_assert_eq!(said(&first), said(&request), "into {}", a.id());
        let there = through(&first, a, b)?;
        prop_assert_eq!(said(&there), said(&first), "{} -> {}", a.id(), b.id());
        let back = through(&there, b, a)?;
        prop_assert_eq!(said(&back), said(&first), "{} -> {} -> {}", a.id(), b.id(), a.id());
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn any_chunking_writes_the_same() {
    let streams: Vec<_> = fixtures::answers().into_iter().filter(|answer| answer.stream).collect();
    let input = (
        any::<prop::sample::Index>(),
        0..ALL.len(),
        prop::collection::vec(1..200_usize, 1..8),
    );
    let result = runner(300).run(&input, |(stream, to, sizes)| {
        let answer = stream.get(&streams);
        let bytes = answer.body.as_bytes();
        let mut chunks = Vec::new();
        let (mut rest, mut turn) = (bytes, 0);
        while !rest.is_empty() {
            let (chunk, more) = rest.split_at(sizes[turn % sizes.len()].min(rest.len()));
            chunks.push(chunk);
            (rest, turn) = (more, turn + 1);
        }
        let (whole, end) = pipeline::convert_stream(answer.dialect, ALL[to], std::iter::once(bytes));
        let (cut, cut_end) = pipeline::convert_stream(answer.dialect, ALL[to], chunks.into_iter());
        prop_assert_eq!(end, cut_end);
        prop_assert_eq!(whole.out, cut.out, "{} to {}", answer.id, ALL[to].id());
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}
