use super::*;
use crate::dialects;
use crate::translate::inflate::tests::{CODINGS, encode};

pub(crate) fn plan(dialect: &str, kind: AnswerKind) -> AnswerPlan {
    AnswerPlan {
        dialect: dialects::by_name(dialect).expect("a dialect"),
        operation: Operation::Chat,
        status: 200,
        kind,
        coding: Coding::Identity,
        withhold_usage: false,
        max_kept: 1 << 20,
        conversion: None,
    }
}

const SSE: AnswerKind = AnswerKind::Stream(Framing::Sse);

const CHAT: &str = concat!(
    "data: {\"id\":\"c1\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"}}]}\n\n",
    ": still here\n\n",
    "data: {\"id\":\"c1\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2,\"total_tokens\":5}}\n\n",
    "data: [DONE]\n\n",
);

fn usage_frame() -> &'static str {
    CHAT.split_inclusive("\n\n")
        .find(|frame| frame.contains("usage"))
        .expect("it is there")
}

/// What goes out for a body fed in chunks of `size`, and the stream after its end.
fn run(plan: AnswerPlan, body: &[u8], size: usize) -> (Vec<u8>, StreamEnd, AnswerStream) {
    let mut stream = AnswerStream::new(plan);
    let mut out = Vec::new();
    for chunk in body.chunks(size) {
        out.extend_from_slice(&stream.chunk(Bytes::copy_from_slice(chunk)));
    }
    let (rest, end) = stream.finish();
    out.extend_from_slice(&rest);
    (out, end, stream)
}

#[test]
fn a_stream_passes_unchanged_in_every_chunking() {
    for end in ["\n", "\r\n", "\r"] {
        let body = CHAT.replace('\n', end);
        for size in 1..=body.len() {
            let (out, ended, stream) = run(plan("openai_chat", SSE), body.as_bytes(), size);
            assert_eq!(out, body.as_bytes(), "chunks of {size}, line end {end:?}");
            assert_eq!(ended, StreamEnd::Complete);
            let meter = stream.meter();
            assert_eq!(meter.usage.map(|u| (u.input_total(), u.output_total())), Some((3, 2)));
            assert_eq!((meter.content_events, meter.unread_frames), (1, 0));
            assert_eq!(meter.response_id.as_deref(), Some("c1"));
        }
    }
}

#[test]
fn the_usage_frame_is_withheld_and_nothing_else() {
    for end in ["\n", "\r\n", "\r"] {
        let body = CHAT.replace('\n', end);
        let want = body.replace(&usage_frame().replace('\n', end), "");
        for size in 1..=body.len() {
            let plan = AnswerPlan {
                withhold_usage: true,
                ..plan("openai_chat", SSE)
            };
            let (out, ended, stream) = run(plan, body.as_bytes(), size);
            assert_eq!(
                String::from_utf8_lossy(&out),
                want,
                "chunks of {size}, line end {end:?}"
            );
            assert_eq!(ended, StreamEnd::Complete);
            assert!(stream.meter().usage.is_some(), "withheld, but counted");
        }
    }
}

#[test]
fn a_chunk_at_a_border_is_not_copied() {
    let mut stream = AnswerStream::new(plan("openai_chat", SSE));
    let chunk = Bytes::from_static(CHAT.as_bytes());
    let out = stream.chunk(chunk.clone());
    assert_eq!(out.as_ptr(), chunk.as_ptr(), "the same bytes go out");
    assert_eq!(out.len(), chunk.len());
}

#[test]
fn an_unfinished_frame_is_held_back_and_dropped_if_the_stream_breaks() {
    let mut stream = AnswerStream::new(plan("openai_chat", SSE));
    let whole = CHAT.split_inclusive("\n\n").next().expect("a frame");
    let out = stream.chunk(Bytes::from(format!("{whole}data: {{\"cho")));
    assert_eq!(out, whole.as_bytes());
    assert!(stream.at_border() && stream.can_append_error() && !stream.is_first());
    assert_eq!(stream.finish(), (Bytes::new(), StreamEnd::Truncated));
    assert!(stream.can_append_error(), "what was sent ends with a whole frame");
    assert_eq!(stream.finish(), (Bytes::new(), StreamEnd::Truncated), "idempotent");
    assert_eq!(
        stream.chunk(Bytes::from_static(b"data: x\n\n")),
        Bytes::new(),
        "nothing follows the end"
    );
}

#[test]
fn a_last_frame_without_its_blank_line_is_sent_if_it_completes_the_answer() {
    for body in [CHAT.trim_end(), CHAT.strip_suffix('\n').expect("a blank line")] {
        let (out, end, stream) = run(plan("openai_chat", SSE), body.as_bytes(), 10);
        assert_eq!((out.as_slice(), end), (body.as_bytes(), StreamEnd::Complete));
        assert_eq!(stream.meter().unread_frames, 0);
    }
}

#[test]
fn a_large_frame_goes_out_whole() {
    let long = "x".repeat(200_000);
    let frame = format!("data: {{\"model\":\"m\",\"choices\":[{{\"delta\":{{\"content\":\"{long}\"}}}}]}}\n\n");
    let body = format!("{frame}{CHAT}");
    for size in [1000, 4096, 70_000] {
        let mut stream = AnswerStream::new(plan("openai_chat", SSE));
        let mut out = Vec::new();
        for chunk in body.as_bytes().chunks(size) {
            out.extend_from_slice(&stream.chunk(Bytes::copy_from_slice(chunk)));
            assert!(out.is_empty() || out.len() >= frame.len(), "chunks of {size}");
            assert!(stream.can_append_error());
        }
        let (rest, end) = stream.finish();
        out.extend_from_slice(&rest);
        assert_eq!(out, body.as_bytes(), "chunks of {size}");
        assert_eq!(
            (end, stream.meter().content_events, stream.meter().unread_frames),
            (StreamEnd::Complete, 2, 0)
        );
    }
}

#[test]
fn a_frame_beyond_what_is_kept_ends_the_stream_before_it() {
    let (before, after) = CHAT.split_at(CHAT.find("\n\n").unwrap() + 2);
    let long = format!("data: \"{}\"\n\n", "x".repeat(5000));
    let body = format!("{before}{long}{after}");
    for size in [100, 1000, 3000] {
        let mut stream = AnswerStream::new(AnswerPlan {
            max_kept: 1000,
            conversion: None,
            ..plan("openai_chat", SSE)
        });
        let mut out = Vec::new();
        for chunk in body.as_bytes().chunks(size) {
            assert!(!stream.is_too_large() || stream.chunk(Bytes::copy_from_slice(chunk)).is_empty());
            if !stream.is_too_large() {
                out.extend_from_slice(&stream.chunk(Bytes::copy_from_slice(chunk)));
            }
        }
        assert!(stream.is_too_large() && stream.can_append_error(), "chunks of {size}");
        assert_eq!(out, before.as_bytes(), "chunks of {size}");
    }
}

#[test]
fn a_compressed_stream_flows_and_is_read_along() {
    for coding in CODINGS {
        let body = encode(coding, CHAT.as_bytes());
        for size in [1, 20, body.len()] {
            let (out, end, stream) = run(
                AnswerPlan {
                    coding,
                    ..plan("openai_chat", SSE)
                },
                &body,
                size,
            );
            assert_eq!(out, body, "{coding:?}");
            assert_eq!(end, StreamEnd::Complete, "{coding:?}");
            assert_eq!(stream.meter().usage.map(|u| u.input), Some(3), "{coding:?}");
            assert!(
                !stream.can_append_error(),
                "no error can be written into compressed bytes"
            );
        }
        let cut = &body[..body.len() / 2];
        let (out, end, _) = run(
            AnswerPlan {
                coding,
                ..plan("openai_chat", SSE)
            },
            cut,
            7,
        );
        assert_eq!((out.as_slice(), end), (cut, StreamEnd::Truncated), "{coding:?}");
    }
    let (out, end, _) = run(
        AnswerPlan {
            coding: Coding::Unknown,
            ..plan("openai_chat", SSE)
        },
        b"??",
        1,
    );
    assert_eq!(
        (out.as_slice(), end),
        (&b"??"[..], StreamEnd::Complete),
        "the tap is blind"
    );
}

const WHOLE: &str = r#"{"id":"c","model":"m","choices":[{"message":{"content":"hi"},"finish_reason":"length"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;

#[test]
fn a_whole_answer_is_read_at_its_end() {
    for coding in [Coding::Identity].into_iter().chain(CODINGS) {
        let body = encode(coding, WHOLE.as_bytes());
        let (out, end, stream) = run(
            AnswerPlan {
                coding,
                ..plan("openai_chat", AnswerKind::Whole)
            },
            &body,
            13,
        );
        assert_eq!((out, end), (body, StreamEnd::Complete), "{coding:?}");
        let meter = stream.meter();
        assert_eq!(meter.finish.as_ref().map(|f| &*f.raw), Some("length"));
        assert_eq!(meter.usage.map(|u| u.output), Some(2));
        assert!(!stream.can_append_error());
    }
    let (_, end, _) = run(plan("openai_chat", AnswerKind::Whole), &WHOLE.as_bytes()[..50], 13);
    assert_eq!(end, StreamEnd::Truncated, "a document which is cut");
    let (_, end, stream) = run(plan("openai_chat", AnswerKind::Whole), b"[1]", 13);
    assert_eq!(
        (end, stream.meter().unread_frames),
        (StreamEnd::Complete, 1),
        "whole, but not of the dialect"
    );
    let small = AnswerPlan {
        max_kept: 10,
        conversion: None,
        ..plan("openai_chat", AnswerKind::Whole)
    };
    let (out, end, stream) = run(small, WHOLE.as_bytes(), 13);
    assert_eq!((out.as_slice(), end), (WHOLE.as_bytes(), StreamEnd::Complete));
    assert_eq!(stream.meter().unread_frames, 1, "larger than is kept");
}

#[test]
fn an_error_answer_is_read_for_the_record() {
    let body = br#"{"error":{"message":"slow down","type":"rate_limit_error"}}"#;
    let plan = AnswerPlan {
        status: 429,
        ..plan("openai_chat", AnswerKind::Error)
    };
    let (out, end, stream) = run(plan, body, 5);
    assert_eq!((out.as_slice(), end), (&body[..], StreamEnd::Failed));
    let error = stream.meter().error.as_ref().expect("read");
    assert_eq!((error.status, error.message.as_str()), (429, "slow down"));
}

#[test]
fn a_document_under_a_streams_content_type_is_still_read() {
    let (out, end, stream) = run(plan("openai_chat", SSE), WHOLE.as_bytes(), 7);
    assert_eq!((out.as_slice(), end), (WHOLE.as_bytes(), StreamEnd::Complete));
    assert!(stream.meter().usage.is_some());
    let (out, end, stream) = run(plan("openai_chat", SSE), br#"{"error":{"message":"no"}}"#, 7);
    assert_eq!(
        (out.len(), end),
        (0, StreamEnd::Failed),
        "nothing was sent: the proxy can still answer as it likes"
    );
    assert!(stream.is_first());
    assert_eq!(stream.meter().error.as_ref().map(|e| e.message.as_str()), Some("no"));
}

#[test]
fn a_json_array_is_forwarded_by_elements_and_closed_only_if_complete() {
    let first = r#"[{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}"#;
    let last = ",\r\n{\"candidates\":[{\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":4}}";
    let kind = AnswerKind::Stream(Framing::JsonArray);
    let body = format!("{first}{last}\r\n]\n");
    for size in 1..=body.len() {
        let (out, end, _) = run(plan("gemini", kind), body.as_bytes(), size);
        assert_eq!(
            (out.as_slice(), end),
            (body.as_bytes(), StreamEnd::Complete),
            "chunks of {size}"
        );
        // Ended with its bracket, but without a finish reason: what was sent can take an error element.
        let unfinished = format!("{first}\r\n]");
        let (out, end, stream) = run(plan("gemini", kind), unfinished.as_bytes(), size);
        assert_eq!(
            (out.as_slice(), end),
            (first.as_bytes(), StreamEnd::Truncated),
            "chunks of {size}"
        );
        assert!(stream.can_append_error());
        // Finished, but the array was not closed.
        let open = format!("{first}{last}");
        let (out, end, _) = run(plan("gemini", kind), open.as_bytes(), size);
        assert_eq!(
            (out.as_slice(), end),
            (open.as_bytes(), StreamEnd::Truncated),
            "chunks of {size}"
        );
    }
}

#[test]
fn an_answer_of_work_that_goes_on_is_not_its_end() {
    for status in ["queued", "in_progress"] {
        let body = format!(
            r#"{{"id":"resp_1","object":"response","status":"{status}","background":true,"model":"m","output":[],"usage":null}}"#
        );
        let (out, end, stream) = run(plan("openai_responses", AnswerKind::Whole), body.as_bytes(), 64);
        assert_eq!((&*out, end), (body.as_bytes(), StreamEnd::Unfinished));
        assert_eq!((stream.meter().usage, stream.meter().finish.as_ref()), (None, None));
        // Some send it under a stream's type.
        let (out, end, _) = run(plan("openai_responses", SSE), body.as_bytes(), 64);
        assert_eq!((&*out, end), (body.as_bytes(), StreamEnd::Unfinished));
    }
}

/// Larger than `plan` keeps: a picture, then usage.
fn large(tail: &str) -> String {
    let picture = "A".repeat(2 << 20);
    format!(
        r#"{{"candidates":[{{"content":{{"role":"model","parts":[{{"inlineData":{{"mimeType":"image/png","data":"{picture}"}}}}]}},"finishReason":"STOP"}}]{tail}}}"#
    )
}

#[test]
fn of_an_answer_larger_than_is_kept_usage_is_read_from_its_end() {
    let usage = concat!(
        r#","usageMetadata":{"promptTokenCount":9,"candidatesTokenCount":2520,"#,
        r#""candidatesTokensDetails":[{"modality":"IMAGE","tokenCount":2520}]},"modelVersion":"m"#,
        "\""
    );
    let body = large(usage);
    for size in [1000, 16 << 10, body.len()] {
        let (out, end, stream) = run(plan("gemini", AnswerKind::Whole), body.as_bytes(), size);
        assert_eq!((out.len(), end), (body.len(), StreamEnd::Complete));
        let meter = stream.meter();
        let usage = meter.usage.expect("it stands at the end");
        assert_eq!((usage.input_total(), usage.output_total()), (9, 2520));
        assert_eq!((meter.image_tokens, meter.images_out), (2520, 1));
    }
}

#[test]
fn of_an_answer_larger_than_is_kept_a_text_is_no_usage() {
    let said = r#"\"}]}}],\"usageMetadata\":{\"promptTokenCount\":1,\"candidatesTokenCount\":1}}"#;
    for tail in [String::new(), format!(r#","modelVersion":"{said}""#)] {
        let body = large(&tail);
        let (_, end, stream) = run(plan("gemini", AnswerKind::Whole), body.as_bytes(), 16 << 10);
        assert_eq!((end, stream.meter().usage), (StreamEnd::Complete, None));
        assert!(stream.is_unread(), "so that it is estimated by its bytes");
    }
}

#[test]
fn usage_at_the_end_of_a_large_answer_is_read_in_every_dialect() {
    let text = "word ".repeat(1 << 19);
    for (dialect, body) in [
        (
            "openai_chat",
            format!(
                r#"{{"id":"c","model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":9,"completion_tokens":7,"total_tokens":16}},"service_tier":"default"}}"#
            ),
        ),
        (
            "openai_responses",
            format!(
                r#"{{"id":"r","object":"response","status":"completed","model":"m","output":[{{"type":"message","content":[{{"type":"output_text","text":"{text}"}}]}}],"service_tier":"default","usage":{{"input_tokens":9,"output_tokens":7}},"user":null,"metadata":{{"usage":"x"}}}}"#
            ),
        ),
        (
            "anthropic",
            format!(
                r#"{{"id":"a","type":"message","role":"assistant","model":"m","content":[{{"type":"text","text":"{text}"}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{{"input_tokens":9,"output_tokens":7}}}}"#
            ),
        ),
        (
            "gemini",
            format!(
                r#"{{"candidates":[{{"content":{{"parts":[{{"text":"{text}"}}]}},"finishReason":"STOP"}}],"usageMetadata":{{"promptTokenCount":9,"candidatesTokenCount":7}}}}"#
            ),
        ),
    ] {
        let (_, end, stream) = run(plan(dialect, AnswerKind::Whole), body.as_bytes(), 16 << 10);
        let usage = stream
            .meter()
            .usage
            .unwrap_or_else(|| panic!("{dialect}: it is told at the end"));
        assert_eq!(
            (end, usage.input_total(), usage.output_total()),
            (StreamEnd::Complete, 9, 7),
            "{dialect}"
        );
        let tier = dialect.starts_with("openai").then_some("default");
        assert_eq!(stream.meter().service.as_deref(), tier, "{dialect}");
        assert!(!stream.is_unread(), "{dialect}: what it used is known");
    }
}

#[test]
fn a_whole_answer_is_unread_until_its_end() {
    let body = br#"{"choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}]}"#;
    let mut stream = AnswerStream::new(plan("openai_chat", AnswerKind::Whole));
    stream.chunk(Bytes::from_static(body));
    assert!(stream.is_unread());
    stream.finish();
    assert!(!stream.is_unread());
}
