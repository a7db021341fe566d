//! No decoder panics, whatever a provider sends: random bytes, and small streams of our own with mistakes in them.

use bytes::Bytes;
use proptest::prelude::*;
use tollgate::dialects;
use tollgate::ir::{Operation, StreamEvent};
use tollgate::sse::Framing;
use tollgate::translate::{AnswerKind, AnswerPlan, AnswerStream, Coding};

/// A small stream in each dialect, with the things that carry state: tools, reasoning, usage, ends.
const STREAMS: [(&str, &str); 4] = [
    (
        "openai_chat",
        concat!(
            "data: {\"id\":\"1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"reasoning\":\"r\"}}]}\n\n",
            "data: {\"choices\":[{\"index\":1,\"delta\":{\"content\":[{\"type\":\"thinking\",\"thinking\":[{\"text\":\"t\"}]}]}}]}\n\n",
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"{\"}}]}}]}\n\n",
            "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}],\"usage\":null}\n\n",
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":1,\"total_tokens\":15,\"completion_tokens_details\":{\"reasoning_tokens\":5}}}\n\n",
            "data: {\"error\":{\"message\":\"late\",\"code\":500}}\n\ndata: [DONE]\n\n",
        ),
    ),
    (
        "openai_responses",
        concat!(
            "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"model\":\"m\"}}\n\n",
            "event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"output_index\":0,\"item\":{\"type\":\"function_call\",\"name\":\"f\"}}\n\n",
            "event: x\ndata: {\"type\":\"response.function_call_arguments.delta\",\"output_index\":0,\"delta\":\"{}\"}\n\n",
            "event: x\ndata: {\"type\":\"response.output_text.delta\",\"output_index\":1,\"content_index\":0,\"delta\":\"hi\"}\n\n",
            "event: x\ndata: {\"type\":\"response.output_item.done\",\"output_index\":0,\"item\":{\"type\":\"function_call\",\"name\":\"f\",\"arguments\":\"{}\"}}\n\n",
            "event: x\ndata: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\",\"output\":[],\"usage\":{\"input_tokens\":1,\"output_tokens\":2}}}\n\n",
        ),
    ),
    (
        "anthropic",
        concat!(
            "event: message_start\r\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"usage\":{\"input_tokens\":4,\"cache_creation\":{\"ephemeral_1h_input_tokens\":2}}}}\r\n\r\n",
            "event: content_block_start\r\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"f\",\"input\":{}}}\r\n\r\n",
            "event: content_block_delta\r\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\"}}\r\n\r\n",
            "event: content_block_stop\r\ndata: {\"type\":\"content_block_stop\",\"index\":0}\r\n\r\n",
            "event: message_delta\r\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"},\"usage\":{\"output_tokens\":3}}\r\n\r\n",
            "event: message_stop\r\ndata: {\"type\":\"message_stop\"}\r\n\r\n",
        ),
    ),
    (
        "gemini",
        concat!(
            "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"t\",\"thought\":true},{\"functionCall\":{\"name\":\"f\",\"willContinue\":true}}]}}]}\r\n\r\n",
            "data: {\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"partialArgs\":[{\"jsonPath\":\"$.a\"}]}}]},\"finishReason\":\"STOP\"}]}\r\n\r\n",
            "data: {\"usageMetadata\":{\"promptTokenCount\":1,\"thoughtsTokenCount\":2,\"promptTokensDetails\":[{\"modality\":\"AUDIO\",\"tokenCount\":1}]}}\r\n\r\n",
        ),
    ),
];

const CODINGS: [Coding; 5] = [
    Coding::Identity,
    Coding::Gzip,
    Coding::Deflate,
    Coding::Brotli,
    Coding::Zstd,
];
const KINDS: [AnswerKind; 4] = [
    AnswerKind::Stream(Framing::Sse),
    AnswerKind::Stream(Framing::JsonArray),
    AnswerKind::Whole,
    AnswerKind::Error,
];

/// Feeds a body in pieces; no more may come out than went in.
fn run(dialect: usize, kind: AnswerKind, coding: Coding, withhold_usage: bool, body: &[u8], size: usize) {
    let mut stream = AnswerStream::new(AnswerPlan {
        dialect: dialects::ALL[dialect % dialects::ALL.len()],
        operation: Operation::Chat,
        status: 200,
        kind,
        coding,
        withhold_usage,
        max_kept: 512,
        conversion: None,
    });
    let mut out = Vec::new();
    for chunk in body.chunks(size.max(1)) {
        out.extend_from_slice(&stream.chunk(Bytes::copy_from_slice(chunk)));
    }
    let (rest, end) = stream.finish();
    out.extend_from_slice(&rest);
    assert_eq!(stream.finish().1, end, "the end does not change");
    if withhold_usage {
        assert!(out.len() <= body.len());
    } else {
        assert!(body.starts_with(&out), "what goes out is the front of what came in");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(
        body in prop::collection::vec(any::<u8>(), 0..400),
        dialect in 0usize..4, kind in 0usize..4, coding in 0usize..5, size in 1usize..50,
    ) {
        run(dialect, KINDS[kind], CODINGS[coding], false, &body, size);
        let dialect = dialects::ALL[dialect];
        dialect.decode_error(500, &body);
        let mut sink = |_: StreamEvent<'_>| {};
        let _ = dialect.decode_response(Operation::Chat, &body, &mut sink);
        let _ = dialects::json::peek(&body);
    }

    #[test]
    fn streams_with_mistakes(
        which in 0usize..4, dialect in 0usize..5, kind in 0usize..2, size in 1usize..300, withhold: bool,
        edits in prop::collection::vec((0usize..2000, any::<u8>(), 0u8..5), 0..6),
    ) {
        let (name, body) = STREAMS[which];
        let own = dialects::ALL.iter().position(|d| d.id().as_str() == name).expect("a dialect");
        let mut body = body.as_bytes().to_vec();
        for (at, byte, what) in edits {
            let at = at % body.len().max(1);
            match what {
                0 => body.truncate(at),
                1 if at < body.len() => body[at] = byte,
                2 => body.insert(at.min(body.len()), byte),
                3 if at < body.len() => { body.remove(at); }
                _ => { let tail = body[at.min(body.len())..].to_vec(); body.extend(tail); }
            }
            body.truncate(16 << 10);
        }
        // Mostly in its own dialect, sometimes in another.
        let dialect = if dialect == 4 { own } else { dialect };
        run(dialect, KINDS[kind], Coding::Identity, withhold, &body, size);
    }
}
