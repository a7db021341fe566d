//! What limits cost a request: enter, reserve, settle, leave. The time is turned so that no minute is ever full and every
//! sixtieth of a second or so is a new one.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use tollgate::clock::UnixMicros;
use tollgate::ids::{GroupId, KeyId};
use tollgate::limits::{AccountId, Accounts, Budget, Chain, Estimate, Limits, Spent, Window};
use tollgate::money::NanoUsd;

/// 2026-06-10T12:00:00Z.
const NOON: UnixMicros = UnixMicros(1_781_092_800_000_000);

fn all() -> Limits {
    let budget = |window| Budget {
        window,
        requests: Some(1 << 50),
        tokens: Some(1 << 60),
        money: Some(NanoUsd(1 << 60)),
    };
    Limits {
        requests_per_minute: Some(1 << 40),
        tokens_per_minute: Some(1 << 50),
        concurrent: Some(1000),
        budgets: Window::ALL.map(budget).to_vec(),
        time_zone: Some("Asia/Shanghai".into()),
    }
}

fn chain(key: Limits, group: Option<Limits>) -> Chain {
    let accounts = Accounts::new();
    let of_key = accounts.get(&AccountId::Key(KeyId("abcdefghijkl".into())));
    of_key.set_limits(key);
    let of_group = group.map(|limits| {
        let account = accounts.get(&AccountId::Group(GroupId("team".into())));
        account.set_limits(limits);
        account
    });
    Chain::new(of_key, of_group)
}

/// A whole request; `number` moves its time.
fn request(chain: &Chain, start: Instant, number: u64) -> bool {
    let (at, now) = (
        UnixMicros(NOON.0 + number as i64),
        start + Duration::from_micros(number),
    );
    let Ok(admission) = chain.enter(at, now) else {
        return false;
    };
    let estimate = Estimate {
        tokens: 1000,
        most_tokens: 5000,
        money: NanoUsd(1_000_000),
    };
    let Ok(reservation) = admission.reserve(black_box(estimate), true, at, now) else {
        return false;
    };
    reservation.settle(black_box(Spent {
        requests: 1,
        tokens: 900,
        charge: NanoUsd(500_000),
    }));
    true
}

fn limits(c: &mut Criterion) {
    let mut group = c.benchmark_group("limits");
    let start = Instant::now();
    for (name, chain) in [
        ("key without limits", chain(Limits::default(), None)),
        ("key with all", chain(all(), None)),
        ("key and group with all", chain(all(), Some(all()))),
    ] {
        let mut number = 0;
        group.bench_function(name, |b| {
            b.iter(|| {
                number += 1;
                assert!(request(&chain, start, number));
            });
        });
        group.bench_function(format!("{name}, waiting allowed"), |b| {
            let context = &mut std::task::Context::from_waker(std::task::Waker::noop());
            b.iter(|| {
                let entering = std::pin::pin!(chain.enter_within(Duration::from_secs(5), NOON, start));
                std::future::Future::poll(entering, context).is_ready()
            });
        });
    }
    let contended = chain(all(), Some(all()));
    let stop = Arc::new(AtomicBool::new(false));
    let other = std::thread::spawn({
        let (chain, stop) = (contended.clone(), stop.clone());
        move || {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                request(&chain, start, number);
            }
        }
    });
    let mut number = 0;
    group.bench_function("key and group with all, two threads", |b| {
        b.iter(|| {
            number += 1;
            request(&contended, start, number)
        });
    });
    stop.store(true, Ordering::Relaxed);
    let _ = other.join();
    let full = chain(all(), Some(all()));
    let admission = full.enter(NOON, start);
    group.bench_function("standing", |b| {
        b.iter(|| admission.as_ref().map(|admission| admission.standing(start)).ok())
    });
    let account = full.key().clone();
    group.bench_function("view", |b| b.iter(|| account.view(NOON, start)));
    group.finish();
}

criterion_group!(benches, limits);
criterion_main!(benches);
