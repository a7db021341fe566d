//! The steady path of a converted stream allocates nothing per delta but in the output buffer: bytes of one dialect in,
//! frames, events, bytes of another dialect out. Encoders whose last event repeats the whole answer keep it, so that their
//! buffers double now and then; that is not per delta.

use bytes::BytesMut;
use tollgate::dialects::{ALL, Answering, Dialect, StreamDecoder, StreamEncoder};
use tollgate::ir::{LossReport, Operation, StreamEvent};
use tollgate::sse::{Content, Framing, Splitter};

/// Deltas which are counted.
const DELTAS: u64 = 512;
/// Most allocations of so many deltas: doublings of a few buffers.
const DOUBLINGS: u64 = 16;

/// The beginning of a stream (up to its first delta), and the usual delta, as providers send them.
struct Stream {
    name: &'static str,
    kind: &'static str,
    begin: &'static [&'static str],
    delta: &'static str,
}

const STREAMS: &[Stream] = &[
    Stream {
        name: "openai_chat",
        kind: "text",
        begin: &[
            r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
        ],
        delta: r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"content":" a word"},"logprobs":null,"finish_reason":null}],"usage":null}"#,
    },
    Stream {
        name: "openai_chat",
        kind: "reasoning",
        begin: &[],
        delta: r#"data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"reasoning_content":" a word"},"logprobs":null,"finish_reason":null}],"usage":null}"#,
    },
    Stream {
        name: "openai_responses",
        kind: "text",
        begin: &[
            r#"data: {"type":"response.created","sequence_number":0,"response":{"id":"resp_1","object":"response","created_at":1700000000,"model":"m","status":"in_progress","output":[]}}"#,
            r#"data: {"type":"response.output_item.added","sequence_number":1,"output_index":0,"item":{"id":"msg_1","type":"message","role":"assistant","status":"in_progress","content":[]}}"#,
            r#"data: {"type":"response.content_part.added","sequence_number":2,"item_id":"msg_1","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[]}}"#,
        ],
        delta: "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":3,\"item_id\":\"msg_1\",\"output_index\":0,\"content_index\":0,\"delta\":\" a word\",\"logprobs\":[]}",
    },
    Stream {
        name: "anthropic",
        kind: "text",
        begin: &[
            r#"data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"usage":{"input_tokens":3,"output_tokens":1}}}"#,
            r#"data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
        ],
        delta: "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" a word\"}}",
    },
    Stream {
        name: "anthropic",
        kind: "reasoning",
        begin: &[
            r#"data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"usage":{"input_tokens":3,"output_tokens":1}}}"#,
            r#"data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
        ],
        delta: "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\" a word\"}}",
    },
    Stream {
        name: "anthropic",
        kind: "arguments",
        begin: &[
            r#"data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"usage":{"input_tokens":3,"output_tokens":1}}}"#,
            r#"data: {"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"toolu_1","name":"f","input":{}}}"#,
            r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"["}}"#,
        ],
        delta: "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"1, \"}}",
    },
    Stream {
        name: "gemini",
        kind: "text",
        begin: &[],
        delta: r#"data: {"candidates": [{"content": {"parts": [{"text": " a word"}],"role": "model"},"index": 0}],"usageMetadata": {"promptTokenCount": 12,"candidatesTokenCount": 34,"totalTokenCount": 46},"modelVersion": "m","responseId": "r"}"#,
    },
];

struct Conversion {
    splitter: Splitter,
    decoder: Box<dyn StreamDecoder>,
    encoder: Box<dyn StreamEncoder>,
    out: BytesMut,
    loss: LossReport,
}

impl Conversion {
    fn new(from: &dyn Dialect, to: &dyn Dialect) -> Self {
        Conversion {
            splitter: Splitter::new(Framing::Sse, 1 << 20),
            decoder: from.stream_decoder(Operation::Chat),
            encoder: to.stream_encoder(Answering {
                request_id: "0199aa00-0000-7000-8000-000000000001".to_owned(),
                ..Answering::default()
            }),
            out: BytesMut::with_capacity(1 << 20),
            loss: LossReport::default(),
        }
    }

    /// One chunk of the provider's; what was written for it is forgotten.
    fn chunk(&mut self, chunk: &[u8]) -> usize {
        let Conversion {
            splitter,
            decoder,
            encoder,
            out,
            loss,
        } = self;
        splitter.feed(chunk, |block| {
            if let Content::Frame(frame) = block.content {
                let read = decoder.frame(frame, &mut |event: StreamEvent<'_>| encoder.event(event, out, loss));
                assert!(read.is_ok(), "{read:?}");
            }
        });
        let written = out.len();
        out.clear();
        written
    }
}

#[test]
fn deltas_allocate_nothing() {
    let mut wrong = Vec::new();
    for stream in STREAMS {
        for to in ALL {
            let from = tollgate::dialects::by_name(stream.name).expect("a dialect");
            let mut conversion = Conversion::new(from, *to);
            for begin in stream.begin {
                conversion.chunk(format!("{begin}\n\n").as_bytes());
            }
            let delta = format!("{}\n\n", stream.delta);
            // The first deltas make what later ones use again.
            for _ in 0..64 {
                conversion.chunk(delta.as_bytes());
            }
            let mut written = 0;
            let info = allocation_counter::measure(|| {
                for _ in 0..DELTAS {
                    written += conversion.chunk(delta.as_bytes());
                }
            });
            println!(
                "{} {} -> {}: {} allocations, {written} bytes",
                stream.name,
                stream.kind,
                to.id(),
                info.count_total
            );
            // Gemini's calls are told when they are whole.
            let told_later = stream.kind == "arguments" && to.id().as_str() == "gemini";
            if written == 0 && !told_later {
                wrong.push(format!(
                    "{} {} -> {}: nothing is written",
                    stream.name,
                    stream.kind,
                    to.id()
                ));
            }
            if info.count_total > DOUBLINGS {
                wrong.push(format!(
                    "{} {} -> {}: {} allocations for {DELTAS} deltas",
                    stream.name,
                    stream.kind,
                    to.id(),
                    info.count_total
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n  {}", wrong.join("\n  "));
}
