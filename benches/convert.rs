//! Conversion, by pair of dialects: one text delta from the provider's frame to the client's; a whole answer of 2 KiB; the
//! request of an agent with 20 tools and 30 messages.

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::{HeaderMap, Method};
use serde_json::{Value, json};
use tollgate::dialects::{self, ALL, Answering, Dialect, Line, Target, Upstream};
use tollgate::ir::response::{Accumulator, fold};
use tollgate::ir::{
    Block, Content, EventSink, FinishKind, FinishReason, LossReport, Message, Operation, Request, Response, Role,
    StreamEvent, Tool, ToolCall, ToolDefinition, ToolKind, ToolResult, Usage,
};
use tollgate::sse::Frame;

/// What comes first in a stream, and the usual frame of a text delta, as providers send them today.
const DELTAS: [(&str, &[&str], &str); 4] = [
    (
        "openai_chat",
        &[],
        r#"{"id":"chatcmpl-0123456789abcdefghijklmnopq","object":"chat.completion.chunk","created":1700000000,"model":"gpt-x-2026-01-01","service_tier":"default","system_fingerprint":"fp_0123456789","choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"abcdefghijk"}"#,
    ),
    (
        "openai_responses",
        &[
            r#"{"type":"response.created","sequence_number":0,"response":{"id":"resp_1","object":"response","created_at":1700000000,"model":"gpt-x","status":"in_progress","output":[]}}"#,
            r#"{"type":"response.output_item.added","sequence_number":1,"output_index":0,"item":{"id":"msg_0123456789abcdef0123456789abcdef","type":"message","role":"assistant","status":"in_progress","content":[]}}"#,
            r#"{"type":"response.content_part.added","sequence_number":2,"item_id":"msg_0123456789abcdef0123456789abcdef","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[]}}"#,
        ],
        r#"{"type":"response.output_text.delta","sequence_number":17,"item_id":"msg_0123456789abcdef0123456789abcdef","output_index":0,"content_index":0,"delta":" word","logprobs":[],"obfuscation":"abcdefghijk"}"#,
    ),
    (
        "anthropic",
        &[
            r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[],"stop_reason":null,"usage":{"input_tokens":3,"output_tokens":1}}}"#,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
        ],
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" a few words at once"}}"#,
    ),
    (
        "gemini",
        &[],
        r#"{"candidates": [{"content": {"parts": [{"text": " a few words at once"}],"role": "model"},"index": 0}],"usageMetadata": {"promptTokenCount": 12,"candidatesTokenCount": 34,"totalTokenCount": 146,"promptTokensDetails": [{"modality": "TEXT","tokenCount": 12}],"thoughtsTokenCount": 100},"modelVersion": "gemini-x","responseId": "0123456789abcdef"}"#,
    ),
];

fn answering() -> Answering {
    Answering {
        request_id: "0199aa00-0000-7000-8000-000000000001".to_owned(),
        created: 1_700_000_000,
        ..Answering::default()
    }
}

fn frame(data: &str) -> Frame<'_> {
    Frame {
        event: None,
        data: data.as_bytes(),
    }
}

/// Deltas after which a stream begins anew: what encoders keep of an answer stays as small as answers are.
const ANSWER: u32 = 1000;

fn deltas(c: &mut Criterion) {
    let mut group = c.benchmark_group("delta");
    for (name, begin, delta) in DELTAS {
        let from = dialects::by_name(name).expect("a dialect");
        for to in ALL {
            group.bench_function(format!("{name} to {}", to.id()), |b| {
                let (mut out, mut loss) = (BytesMut::with_capacity(1 << 16), LossReport::default());
                let start = || {
                    let mut decoder = from.stream_decoder(Operation::Chat);
                    let mut encoder = to.stream_encoder(answering());
                    let (mut out, mut loss) = (BytesMut::new(), LossReport::default());
                    for data in begin {
                        let mut write = |event: StreamEvent<'_>| encoder.event(event, &mut out, &mut loss);
                        decoder.frame(frame(data), &mut write).expect("a frame of the dialect");
                    }
                    (decoder, encoder)
                };
                let (mut decoder, mut encoder) = start();
                let mut count = 0;
                b.iter(|| {
                    count += 1;
                    if count % ANSWER == 0 {
                        (decoder, encoder) = start();
                    }
                    out.clear();
                    let mut write = |event: StreamEvent<'_>| encoder.event(event, &mut out, &mut loss);
                    decoder.frame(frame(black_box(delta)), &mut write).is_ok()
                });
            });
        }
    }
    group.finish();
}

/// An answer with some reasoning, about 1.5 KiB of text, and a call.
fn answer() -> Response {
    let text = "A sentence with \"quotes\", a line break\nand `code`. ".repeat(30);
    let mut response = Response {
        id: "answer-1".into(),
        model: "a-model".into(),
        usage: Some(Usage {
            input: 100,
            cache_read: 50,
            output: 400,
            reasoning: 100,
            ..Usage::default()
        }),
        ..Response::default()
    };
    let mut folder = Accumulator::new(ALL[0].id());
    folder.event(StreamEvent::Finish {
        candidate: 0,
        reason: FinishReason::new(FinishKind::ToolCalls, "tool_calls"),
    });
    response.candidates = folder.into_response().candidates;
    response.candidates[0].blocks = vec![
        Block::new(Content::Reasoning("A thought or two about it.".into()), ""),
        Block::text(text, ""),
        call(1),
    ];
    response
}

fn call(number: usize) -> Block {
    Block::new(
        Content::ToolCall(ToolCall {
            id: format!("call_{number}"),
            name: "tool_3".into(),
            arguments: r#"{"path":"src/main.rs","from":1,"to":200}"#.into(),
            kind: ToolKind::Function,
            namespace: None,
        }),
        "messages[1].content[0]",
    )
}

fn answers(c: &mut Criterion) {
    let mut group = c.benchmark_group("whole answer");
    for from in ALL {
        let body = from.encode_response(&answer(), &answering(), &mut LossReport::default());
        for to in ALL {
            group.throughput(Throughput::Bytes(body.len() as u64));
            group.bench_function(format!("{} to {}", from.id(), to.id()), |b| {
                b.iter(|| {
                    let response = fold(from.id(), |sink| {
                        let read = from.decode_response(Operation::Chat, black_box(&body), sink);
                        debug_assert!(read.is_ok());
                    });
                    to.encode_response(&response, &answering(), &mut LossReport::default())
                });
            });
        }
    }
    group.finish();
}

/// 30 messages with calls, results and text; 20 tools.
fn request() -> Request {
    let schema: Value = json!({"type": "object", "properties": {
        "path": {"type": "string", "description": "The file's path, from the root of the project"},
        "from": {"type": "integer", "description": "First line"},
        "to": {"type": "integer", "description": "Last line"},
        "mode": {"type": "string", "enum": ["read", "write", "both"]}}, "required": ["path"]});
    let mut request = Request {
        model: "a-model".into(),
        stream: true,
        ..Request::default()
    };
    let message = |role, blocks| Message {
        blocks,
        ..Message::new(role, "messages[0]")
    };
    let text = "Some lines of text, with \"quotes\" and line breaks,\nas files and people have them. ".repeat(6);
    request
        .system
        .push(message(Role::System, vec![Block::text(text.repeat(8), "system")]));
    request
        .messages
        .push(message(Role::User, vec![Block::text(text.clone(), "")]));
    for number in 0..14 {
        request.messages.push(message(
            Role::Assistant,
            vec![Block::text("Let me look at it.", ""), call(number)],
        ));
        let result = ToolResult {
            call: format!("call_{number}"),
            name: Some("tool_3".into()),
            blocks: vec![Block::text(text.clone(), "")],
            is_error: None,
            kind: ToolKind::Function,
        };
        request
            .messages
            .push(message(Role::User, vec![Block::new(Content::ToolResult(result), "")]));
    }
    request.tools.extend((0..20).map(|number| Tool {
        kind: ToolDefinition::Function {
            name: format!("tool_{number}"),
            description: Some(text.clone()),
            parameters: Some(schema.clone()),
            strict: None,
            namespace: None,
        },
        cache: None,
        at: "tools[0]".into(),
        native: Vec::new(),
    }));
    request
}

fn target(dialect: &dyn Dialect) -> Target {
    let path = match dialect.id().as_str() {
        "openai_chat" => "/v1/chat/completions",
        "openai_responses" => "/v1/responses",
        "anthropic" => "/v1/messages",
        _ => "/v1beta/models/a-model:streamGenerateContent",
    };
    let headers = HeaderMap::new();
    let line = Line {
        method: &Method::POST,
        path,
        query: "",
        headers: &headers,
    };
    dialects::find(line).expect("a known path")
}

fn requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("agent request");
    let upstream = Upstream {
        model: "a-model",
        stream: true,
        ask_usage: true,
    };
    for from in ALL {
        let body = from
            .encode_request(&request(), &upstream, &mut LossReport::default())
            .expect("it can be said");
        let target = target(*from);
        for to in ALL {
            group.throughput(Throughput::Bytes(body.len() as u64));
            group.bench_function(format!("{} to {}", from.id(), to.id()), |b| {
                b.iter(|| {
                    let mut request = from
                        .decode_request(&target, black_box(&body))
                        .expect("a request of the dialect");
                    request.link_tools();
                    to.encode_request(&request, &upstream, &mut LossReport::default())
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, deltas, answers, requests);
criterion_main!(benches);
