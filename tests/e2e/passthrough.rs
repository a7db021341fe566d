//! Same dialect on both sides: what the provider says arrives byte for byte, however it is cut.

use bytes::Bytes;

use crate::support::dialect::{ALL, Dialect, cut, record};
use crate::support::gateway::{Gateway, Options, rules_for};
use crate::support::provider::{Answer, Provider, Step};
use crate::support::{h2, shown};

/// Odd sizes: within a UTF-8 character, within `data:`, within a line end.
const CUTS: [&[usize]; 4] = [&[1], &[7, 1, 3], &[64, 2], &[1 << 20]];

/// Asks for what the provider's answers are taken from, in each dialect and shape.
const MODEL: &str = "sandbox/x,tokens=24,prompt=50,cached=10,reasoning=3";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_arrive_byte_for_byte_however_they_are_cut() {
    let next = std::sync::Arc::new(parking_lot::Mutex::new(Answer::json(200, "")));
    let script = next.clone();
    let provider = Provider::start(move |_| script.lock().clone()).await;
    let gateway = Gateway::start(Options {
        rules: rules_for(provider.address),
        ..Options::default()
    })
    .await;
    let mut multiplexed = h2::Connection::open(gateway.ports.h2c).await;
    let mut expected_rows = 0;
    for dialect in ALL {
        for stream in [false, true] {
            let answer = record(dialect, MODEL, stream).await;
            for sizes in CUTS {
                let steps: Vec<Step> = cut(&answer, sizes).into_iter().map(Step::Send).collect();
                let content_type = if stream {
                    "text/event-stream; charset=utf-8"
                } else {
                    "application/json; charset=UTF-8"
                };
                *next.lock() = Answer::chunked(content_type, steps);
                let (path, body) = (dialect.path(MODEL, stream), dialect.body(MODEL, stream));
                let what = format!("{dialect:?}, stream: {stream}, cut {sizes:?}");
                let reply = gateway.post(&path, &body).await;
                assert!(
                    reply.status == 200 && reply.complete && reply.body == answer,
                    "{what}:\n {}\n {}",
                    shown(&reply.body),
                    shown(&answer)
                );
                assert_eq!(reply.header("content-type"), Some(content_type), "{what}");
                if stream {
                    assert_eq!(reply.header("cache-control"), Some("no-cache, no-transform"), "{what}");
                } else {
                    assert_eq!(
                        reply.header("content-length"),
                        Some(answer.len().to_string().as_str()),
                        "{what}: a whole answer has a length"
                    );
                }
                let bearer = gateway.bearer();
                let reply = multiplexed
                    .post(
                        &path,
                        &[("authorization", &bearer), ("content-type", "application/json")],
                        body.clone(),
                    )
                    .await;
                assert!(
                    reply.complete && reply.body == answer,
                    "{what}, HTTP/2 to the client: {}",
                    shown(&reply.body)
                );
                expected_rows += 2;
            }
        }
    }
    let rows = gateway.settled_rows(expected_rows).await;
    assert_eq!(rows.len(), expected_rows);
    for row in rows {
        assert_eq!(row["ended"], "complete", "{row}");
        let usage = &row["usage"];
        assert_eq!(
            (usage["input_total"].as_u64(), usage["cache_read"].as_u64()),
            (Some(50), Some(10)),
            "the tap read the usage: {row}"
        );
        assert!(usage["output_total"].as_u64() >= Some(24), "{row}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gemini_streams_without_sse_are_arrays_and_pass_too() {
    let array = "[{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a]\\\"}\"}]}}]}\r\n,\r\n{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"é\"}]},\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":4,\"candidatesTokenCount\":2,\"totalTokenCount\":6}}\r\n]\r\n";
    let provider = Provider::start(move |_| {
        Answer::chunked(
            "application/json; charset=UTF-8",
            cut(&Bytes::from(array), &[1]).into_iter().map(Step::Send).collect(),
        )
    })
    .await;
    let gateway = Gateway::start(Options {
        rules: rules_for(provider.address),
        ..Options::default()
    })
    .await;
    let reply = gateway
        .post(
            "/v1beta/models/g:streamGenerateContent",
            &Dialect::Gemini.body("g", true),
        )
        .await;
    assert_eq!(
        (reply.status, reply.text().as_str(), reply.complete),
        (200, array, true)
    );
    let rows = gateway.settled_rows(1).await;
    assert_eq!(
        (
            &rows[0]["ended"],
            rows[0]["usage"]["input_total"].as_u64(),
            rows[0]["finish"].as_str()
        ),
        (&"complete".into(), Some(4), Some("stop")),
        "{}",
        rows[0]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_answers_arrive_as_they_are() {
    use std::io::Write;
    let plain = record(Dialect::Chat, MODEL, false).await;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let mut brotli = Vec::new();
    brotli::BrotliCompress(
        &mut &plain[..],
        &mut brotli,
        &brotli::enc::BrotliEncoderParams::default(),
    )
    .unwrap();
    let coded = [
        ("gzip", gzip.finish().unwrap()),
        ("br", brotli),
        ("zstd", zstd::encode_all(&plain[..], 3).unwrap()),
    ];
    let answers = coded.clone();
    let provider = Provider::start(move |request| {
        let asked = request.header("accept-encoding").unwrap_or_default().to_owned();
        match answers.iter().find(|(coding, _)| *coding == asked) {
            Some((coding, bytes)) => Answer::json(200, bytes.clone()).header("content-encoding", coding),
            None => Answer::json(200, plain.clone()),
        }
    })
    .await;
    let gateway = Gateway::start(Options {
        rules: rules_for(provider.address),
        ..Options::default()
    })
    .await;
    for (coding, bytes) in &coded {
        let reply = gateway
            .post_with(
                "/v1/chat/completions",
                &[("accept-encoding", coding)],
                &Dialect::Chat.body("m", false),
            )
            .await;
        assert_eq!((reply.status, reply.header("content-encoding")), (200, Some(*coding)));
        assert!(reply.body == *bytes, "{coding}: the provider's own bytes");
    }
    let reply = gateway
        .post("/v1/chat/completions", &Dialect::Chat.body("m", false))
        .await;
    assert_eq!(
        (reply.status, reply.header("content-encoding")),
        (200, None),
        "not asked for, not coded"
    );
    for row in gateway.settled_rows(4).await {
        assert_eq!(
            row["usage"]["input_total"].as_u64(),
            Some(50),
            "the tap reads through the coding: {row}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_is_asked_for_and_withheld_from_who_did_not_ask() {
    let usage = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2,\"total_tokens\":11}}\n\n";
    let before = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"Hi\"},\"finish_reason\":null}]}\n\ndata: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    let all = Bytes::from(format!("{before}{usage}data: [DONE]\n\n"));
    let answer = all.clone();
    let provider = Provider::start(move |_| Answer::events(cut(&answer, &[11]))).await;
    let gateway = Gateway::start(Options {
        rules: rules_for(provider.address),
        ..Options::default()
    })
    .await;

    let body = br#"{"model":"m","stream":true,"messages":[{"role":"user","content":"Hi"}]}"#;
    let reply = gateway.post("/v1/chat/completions", body).await;
    assert_eq!(
        reply.text(),
        format!("{before}data: [DONE]\n\n"),
        "who did not ask does not see it"
    );
    let sent: serde_json::Value = serde_json::from_slice(&provider.last().body).unwrap();
    assert_eq!(sent["stream_options"]["include_usage"], true, "the provider was asked");
    assert_eq!(
        (&sent["model"], &sent["messages"][0]["content"]),
        (&"m".into(), &"Hi".into())
    );

    let asked = br#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"Hi"}]}"#;
    let reply = gateway.post("/v1/chat/completions", asked).await;
    assert!(reply.body == all, "who asked sees it: {}", reply.text());
    assert!(provider.last().body == asked, "and the request is left alone");
    for row in gateway.settled_rows(2).await {
        assert_eq!(
            row["usage"]["input_total"].as_u64(),
            Some(9),
            "metered either way: {row}"
        );
    }
}
