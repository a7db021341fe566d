//! Peek: the whole body checked, model and stream found. Beside it serde_json, which builds a value.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tollgate::dialects::{self, json};
use tollgate::ir::Operation;

/// A chat body of about `size` bytes: `paragraph` repeated in its last message.
fn body(size: usize, paragraph: &str) -> Vec<u8> {
    let text = paragraph.repeat(size.div_ceil(paragraph.len()));
    let text = serde_json::to_string(&text).unwrap_or_default();
    let start =
        r#"{"model":"gpt-x","stream":true,"temperature":0.7,"messages":[{"role":"system","content":"Be brief."},"#;
    format!(r#"{start}{{"role":"user","content":{text}}}],"tools":[{{"type":"function","function":{{"name":"f"}}}}]}}"#)
        .into_bytes()
}

fn peek(c: &mut Criterion) {
    let prose = "The quick brown fox jumps over the lazy dog, again and again, until nobody looks any more. ";
    let code = "    if (a[\"x\"] == 1) {\n        return \"y\";\n    }\n";
    let image = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk";
    let chinese = "这是一个很长的问题,需要仔细回答。";
    let mut group = c.benchmark_group("peek");
    for (name, paragraph, size) in [
        ("prose/1KiB", prose, 700),
        ("prose/100KiB", prose, 100 << 10),
        ("prose/1MiB", prose, 1 << 20),
        ("code/100KiB", code, 100 << 10),
        ("chinese/100KiB", chinese, 100 << 10),
        ("base64/30MiB", image, 30 << 20),
    ] {
        let body = body(size, paragraph);
        group.throughput(Throughput::Bytes(body.len() as u64));
        if size > 1 << 20 {
            group.sample_size(10);
        }
        group.bench_function(name, |b| b.iter(|| json::peek(black_box(&body))));
    }
    // Almost no strings: the worst case for a scanner of strings.
    let numbers = format!(
        r#"{{"model":"m","input":[{}1]}}"#,
        "[0.125,-7,{\"a\":null}],".repeat(5000)
    );
    group.throughput(Throughput::Bytes(numbers.len() as u64));
    group.bench_function("numbers/110KiB", |b| {
        b.iter(|| json::peek(black_box(numbers.as_bytes())))
    });
    // An agent's: what routing reads beside the model is all there.
    let text = prose.repeat(1000);
    let agent = format!(
        r#"{{"model":"m","system":[{{"type":"text","text":"{text}"}}],"tools":[{{"name":"f","input_schema":{{}}}}],"metadata":{{"user_id":"user_1_account__session_0f9c1de2-7c1f-4f4e-9d9f-1b2c3d4e5f60"}},"messages":[{{"role":"user","content":"hi"}}],"max_tokens":100,"stream":true}}"#
    );
    let anthropic = dialects::by_name("anthropic").and_then(|dialect| dialect.own_target(Operation::Chat, true));
    if let Some((target, _)) = anthropic {
        group.throughput(Throughput::Bytes(agent.len() as u64));
        group.bench_function("agent/90KiB", |b| {
            b.iter(|| target.dialect.peek(&target, black_box(agent.as_bytes())));
        });
    }
    let body = body(100 << 10, prose);
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("serde_json::Value/100KiB", |b| {
        b.iter(|| serde_json::from_slice::<serde_json::Value>(black_box(&body)));
    });
    group.finish();
}

criterion_group!(benches, peek);
criterion_main!(benches);
