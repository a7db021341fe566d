//! Choosing a credential: by each strategy, among one, ten and a thousand, when all can be used and when most cool. Each
//! measurement takes a seat and gives it back. And a reload: what is learned of 1,000 credentials for 50 models is carried over.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use tollgate::config::Secret;
use tollgate::rules::{
    Credential, CredentialLimits, Egress, Health, HttpVersions, Provider, RouteTimeouts, Strategy, StreamUsage,
};
use tollgate::upstream::{Failure, Lane, Outcome, Pool, RetryBudget, Want};

const STRATEGIES: [(&str, Strategy); 5] = [
    ("weighted", Strategy::Weighted),
    ("round_robin", Strategy::RoundRobin),
    ("least_used", Strategy::LeastUsed),
    ("least_latency", Strategy::LeastLatency),
    ("adaptive", Strategy::Adaptive),
];

fn provider(credentials: usize, limits: CredentialLimits, heavier: u32) -> Arc<Provider> {
    let credential = |index: usize| {
        Arc::new(Credential {
            name: format!("c{index}").into(),
            secret: Some(Secret::new(format!("sk-0123456789abcdef0123456789abcdef-{index}"))),
            stored: None,
            inactive: None,
            weight: index as u32 % 7 + 1 + heavier,
            tags: Vec::new(),
            limits,
            egress: Egress::default(),
        })
    };
    Arc::new(Provider {
        name: "example".into(),
        bases: Vec::new(),
        connect_to: Vec::new(),
        auth: None,
        http: HttpVersions::H1,
        stream_usage: StreamUsage::Ask,
        headers: Vec::new(),
        credentials: (0..credentials).map(credential).collect(),
        timeouts: RouteTimeouts::default(),
        strategy: Strategy::Weighted,
        egress: Egress::default(),
        health: Health::default(),
        cooldown: true,
        inactive: None,
    })
}

fn want(strategy: Strategy) -> Want<'static> {
    Want {
        strategy,
        tags: &[],
        tried: &[],
        sticky: None,
        tokens: 1000,
        prompt: 100,
    }
}

/// Lets all but so many cool for an hour.
fn cool(lane: &Arc<Lane>, left: usize, now: Instant) {
    let outcome = Outcome {
        failure: Some(Failure::RateLimited),
        retry_after: Some(Duration::from_secs(3600)),
        ..Outcome::default()
    };
    let all: Vec<_> = std::iter::from_fn(|| lane.choose(&want(Strategy::RoundRobin), now).ok())
        .take(1000)
        .collect();
    all.iter().skip(left).for_each(|hold| hold.settle(&outcome, now));
}

fn choose(c: &mut Criterion) {
    let now = Instant::now();
    let mut group = c.benchmark_group("choose");
    for (name, strategy) in STRATEGIES {
        for (credentials, left) in [(1, 1), (10, 10), (1000, 1000), (1000, 10)] {
            let lane = Pool::new(provider(credentials, CredentialLimits::default(), 0), None).lane("model");
            cool(&lane, left, now);
            group.bench_function(format!("{name}/{left} of {credentials}"), |b| {
                b.iter(|| black_box(&lane).choose(black_box(&want(strategy)), now).is_ok());
            });
        }
    }
    let limits = CredentialLimits {
        requests_per_minute: Some(u64::MAX),
        tokens_per_minute: Some(u64::MAX),
        concurrent: Some(1000),
    };
    let lane = Pool::new(provider(1000, limits, 0), None).lane("model");
    group.bench_function("weighted/1000 of 1000, all with limits", |b| {
        b.iter(|| {
            black_box(&lane)
                .choose(black_box(&want(Strategy::Weighted)), now)
                .is_ok()
        });
    });
    let lane = Pool::new(provider(1000, CredentialLimits::default(), 0), None).lane("model");
    cool(&lane, 0, now);
    group.bench_function("weighted/0 of 1000", |b| {
        b.iter(|| {
            black_box(&lane)
                .choose(black_box(&want(Strategy::Weighted)), now)
                .is_ok()
        });
    });
    let lane = Pool::new(provider(1000, CredentialLimits::default(), 0), None).lane("model");
    let success = Outcome {
        first_token: Some(Duration::from_millis(300)),
        tokens: Some(900),
        ..Outcome::default()
    };
    group.bench_function("weighted/1000 of 1000, and settle", |b| {
        b.iter(|| {
            lane.choose(&want(Strategy::Weighted), now)
                .map(|hold| hold.settle(&success, now))
                .is_ok()
        });
    });
    group.bench_function("standing/1000", |b| b.iter(|| black_box(&lane).standing(now)));
    let budget = RetryBudget::new(0.2, 100, now);
    group.bench_function("retry budget", |b| {
        b.iter(|| {
            (0..5).for_each(|_| budget.deposit());
            budget.withdraw(now)
        });
    });
    group.finish();
}

fn reload(c: &mut Criterion) {
    let mut group = c.benchmark_group("reload");
    let limits = CredentialLimits::default();
    let pool = Pool::new(provider(1000, limits, 0), None);
    let now = Instant::now();
    for model in 0..50 {
        cool(&pool.lane(&format!("model {model}")), 10, now);
    }
    for (name, next) in [
        ("1000 credentials, 50 models, the same", provider(1000, limits, 0)),
        ("1000 credentials, 50 models, other weights", provider(1000, limits, 1)),
        ("1000 credentials, 50 models, one less", provider(999, limits, 0)),
    ] {
        group.bench_function(name, |b| b.iter(|| Pool::new(next.clone(), Some(&pool))));
    }
    group.finish();
}

criterion_group!(benches, choose, reload);
criterion_main!(benches);
