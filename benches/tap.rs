//! The taps: one text delta of each dialect, decoded and counted; a whole answer of each; then a chunk through the whole
//! `AnswerStream`.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tollgate::dialects;
use tollgate::ir::Operation;
use tollgate::sse::{Frame, Framing};
use tollgate::translate::{AnswerKind, AnswerPlan, AnswerStream, Coding, Meter};

/// The usual frame of each dialect: event and data of a text delta, as its providers send them today.
const DELTAS: [(&str, Option<&str>, &str); 4] = [
    (
        "openai_chat",
        None,
        r#"{"id":"chatcmpl-0123456789abcdefghijklmnopq","object":"chat.completion.chunk","created":1700000000,"model":"gpt-x-2026-01-01","service_tier":"default","system_fingerprint":"fp_0123456789","choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"abcdefghijk"}"#,
    ),
    (
        "openai_responses",
        Some("response.output_text.delta"),
        r#"{"type":"response.output_text.delta","sequence_number":17,"item_id":"msg_0123456789abcdef0123456789abcdef","output_index":0,"content_index":0,"delta":" word","logprobs":[],"obfuscation":"abcdefghijk"}"#,
    ),
    (
        "anthropic",
        Some("content_block_delta"),
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":" a few words at once"}}"#,
    ),
    (
        "gemini",
        None,
        r#"{"candidates": [{"content": {"parts": [{"text": " a few words at once"}],"role": "model"},"index": 0}],"usageMetadata": {"promptTokenCount": 12,"candidatesTokenCount": 34,"totalTokenCount": 146,"promptTokensDetails": [{"modality": "TEXT","tokenCount": 12}],"thoughtsTokenCount": 100},"modelVersion": "gemini-x","responseId": "0123456789abcdef"}"#,
    ),
];

/// A short whole answer of each dialect, with the fields its providers send today.
const ANSWERS: [(&str, &str); 4] = [
    (
        "openai_chat",
        r#"{"id":"chatcmpl-0123456789abcdefghijklmnopq","object":"chat.completion","created":1700000000,"model":"gpt-x-2026-01-01","choices":[{"index":0,"message":{"role":"assistant","content":"Hello! How can I help you today?","refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}},"service_tier":"default"}"#,
    ),
    (
        "openai_responses",
        r#"{"id":"resp_0123456789abcdef0123456789abcdef","object":"response","created_at":1700000000,"status":"completed","error":null,"incomplete_details":null,"instructions":null,"max_output_tokens":null,"model":"gpt-x-2026-01-01","output":[{"type":"message","id":"msg_0123456789abcdef0123456789abcdef","status":"completed","role":"assistant","content":[{"type":"output_text","text":"Hello! How can I help you today?","annotations":[]}]}],"parallel_tool_calls":true,"previous_response_id":null,"reasoning":{"effort":null,"summary":null},"store":true,"temperature":1.0,"text":{"format":{"type":"text"}},"tool_choice":"auto","tools":[],"top_p":1.0,"truncation":"disabled","usage":{"input_tokens":36,"input_tokens_details":{"cached_tokens":0},"output_tokens":87,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":123},"user":null,"metadata":{}}"#,
    ),
    (
        "anthropic",
        r#"{"id":"msg_0123456789abcdefghijklmn","type":"message","role":"assistant","model":"claude-x-20260101","content":[{"type":"text","text":"Hello! How can I help you today?"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":19,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0},"output_tokens":10,"service_tier":"standard"}}"#,
    ),
    (
        "gemini",
        r#"{"candidates": [{"content": {"parts": [{"text": "Hello! How can I help you today?"}],"role": "model"},"finishReason": "STOP","index": 0}],"usageMetadata": {"promptTokenCount": 12,"candidatesTokenCount": 34,"totalTokenCount": 146,"promptTokensDetails": [{"modality": "TEXT","tokenCount": 12}],"thoughtsTokenCount": 100},"modelVersion": "gemini-x","responseId": "0123456789abcdef"}"#,
    ),
];

fn answers(c: &mut Criterion) {
    let mut group = c.benchmark_group("answer");
    for (name, body) in ANSWERS {
        let Some(dialect) = dialects::by_name(name) else {
            continue;
        };
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut meter = Meter::default();
                let end = dialect.decode_response(Operation::Chat, black_box(body.as_bytes()), &mut meter);
                (end, meter)
            });
        });
        // A long text with escapes in it, as code has.
        let text = "    if (a == 1) {\\n        return \\\"y\\\";\\n    }\\n".repeat(400);
        let long = body.replace("Hello!", &text);
        group.throughput(Throughput::Bytes(long.len() as u64));
        group.bench_function(format!("{name}/long"), |b| {
            b.iter(|| {
                let mut meter = Meter::default();
                let end = dialect.decode_response(Operation::Chat, black_box(long.as_bytes()), &mut meter);
                (end, meter)
            });
        });
    }
    group.finish();
}

fn taps(c: &mut Criterion) {
    let mut group = c.benchmark_group("tap");
    for (name, event, data) in DELTAS {
        let Some(dialect) = dialects::by_name(name) else {
            continue;
        };
        let mut decoder = dialect.stream_decoder(Operation::Chat);
        let mut meter = Meter::default();
        let frame = Frame {
            event,
            data: data.as_bytes(),
        };
        group.bench_function(name, |b| b.iter(|| decoder.frame(black_box(frame), &mut meter).is_ok()));
    }
    group.finish();
}

fn chunks(c: &mut Criterion) {
    let mut group = c.benchmark_group("answer_stream");
    for (name, event, data) in DELTAS {
        let Some(dialect) = dialects::by_name(name) else {
            continue;
        };
        let event = event.map(|event| format!("event: {event}\n")).unwrap_or_default();
        let chunk = Bytes::from(format!("{event}data: {data}\n\n"));
        for withhold_usage in [false, true] {
            if withhold_usage && name != "openai_chat" {
                continue;
            }
            let mut stream = AnswerStream::new(AnswerPlan {
                dialect,
                operation: Operation::Chat,
                status: 200,
                kind: AnswerKind::Stream(Framing::Sse),
                coding: Coding::Identity,
                withhold_usage,
                max_kept: 1 << 20,
                conversion: None,
            });
            let name = if withhold_usage {
                format!("{name}, usage withheld")
            } else {
                name.to_owned()
            };
            group.bench_function(format!("{name}/chunk"), |b| {
                b.iter(|| stream.chunk(black_box(chunk.clone())))
            });
            if name == "openai_chat" {
                let (front, back) = (chunk.slice(..150), chunk.slice(150..));
                group.bench_function(format!("{name}/frame in two chunks"), |b| {
                    b.iter(|| {
                        (
                            stream.chunk(black_box(front.clone())),
                            stream.chunk(black_box(back.clone())),
                        )
                    });
                });
            }
        }
    }
    group.finish();
}

criterion_group!(benches, taps, answers, chunks);
criterion_main!(benches);
