//! What asking for a price and pricing an answer take, for each request: tens of nanoseconds. It only measures: it never fails
//! on a time.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use tollgate::clock::{Clock, UnixMicros};
use tollgate::ir::Usage;
use tollgate::money::Extras;
use tollgate::rules;

fn price(c: &mut Criterion) {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/rules");
    let clock = Clock::manual(UnixMicros(1_795_219_200_000_000));
    let Ok((rules, _)) = rules::compile(shipped.as_ref(), &clock) else {
        return;
    };
    let at = clock.now();
    c.bench_function("prices/look up", |b| {
        b.iter(|| black_box(rules.prices.price(black_box("openai"), black_box("gpt-5.5"), at)));
    });
    let Some(price) = rules.prices.price("openai", "gpt-5.5", at) else {
        return;
    };
    let usage = Usage {
        input: 1_200,
        cache_read: 300_000,
        output: 700,
        reasoning: 2_000,
        ..Usage::default()
    };
    for (name, service) in [("standard", Some("default")), ("flex", Some("flex"))] {
        let extras = Extras {
            service,
            ..Extras::default()
        };
        c.bench_function(&format!("prices/cost, {name}"), |b| {
            b.iter(|| black_box(price.cost(black_box(&usage), black_box(extras))));
        });
    }
    c.bench_function("prices/most", |b| {
        b.iter(|| black_box(price.most(black_box(301_200), black_box(128_000), Extras::default())));
    });
}

criterion_group!(benches, price);
criterion_main!(benches);
