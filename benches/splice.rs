//! Splice: another model's name and the request for usage put into a body.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use http::{HeaderMap, Method};
use tollgate::dialects::{self, Line, Splice};
use tollgate::translate::splice;

fn apply(c: &mut Criterion) {
    let headers = HeaderMap::new();
    let line = Line {
        method: &Method::POST,
        path: "/v1/chat/completions",
        query: "",
        headers: &headers,
    };
    let Some(target) = dialects::find(line) else { return };
    let mut group = c.benchmark_group("splice");
    for (name, size) in [("1KiB", 900), ("100KiB", 100 << 10), ("1MiB", 1 << 20)] {
        let text = "x".repeat(size);
        let body = format!(r#"{{"model":"a","stream":true,"messages":[{{"role":"user","content":"{text}"}}]}}"#);
        let body = Bytes::from(body);
        let Ok(peek) = target.dialect.peek(&target, &body) else {
            return;
        };
        let model = peek.model_span.map(|at| Splice {
            at,
            with: Bytes::from_static(b"\"another-model\""),
        });
        let edits: Vec<Splice> = model.into_iter().chain(peek.ask_usage).collect();
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |b| b.iter(|| splice::apply(black_box(&body), edits.clone())));
    }
    group.finish();
}

criterion_group!(benches, apply);
criterion_main!(benches);
