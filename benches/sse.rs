//! SSE decoding alone: frames found and read, in chunks as they come. Times are per chunk where the name says so.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tollgate::sse::{Content, Framing, Splitter};

const FRAME: &str = "data: {\"id\":\"chatcmpl-0123456789\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"gpt-x\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n";

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("sse");
    let array_frame = format!(",{}", &FRAME[6..FRAME.len() - 2]);
    for (name, framing, frame) in [
        ("sse", Framing::Sse, FRAME),
        ("json_array", Framing::JsonArray, array_frame.as_str()),
    ] {
        let mut feed = |name: String, chunks: Vec<&[u8]>| {
            let mut splitter = Splitter::new(framing, 1 << 20);
            group.throughput(Throughput::Bytes(chunks.iter().map(|c| c.len() as u64).sum()));
            group.bench_function(name, |b| {
                b.iter(|| {
                    let mut length = 0;
                    for chunk in &chunks {
                        splitter.feed(black_box(chunk), |block| {
                            if let Content::Frame(frame) = block.content {
                                length += frame.data.len();
                            }
                        });
                    }
                    length
                });
            });
        };
        feed(format!("{name}/one frame in one chunk"), vec![frame.as_bytes()]);
        let (front, back) = frame.as_bytes().split_at(100);
        feed(format!("{name}/one frame in two chunks"), vec![front, back]);
        let many = frame.repeat(80);
        feed(format!("{name}/80 frames in one chunk"), vec![many.as_bytes()]);
    }
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
