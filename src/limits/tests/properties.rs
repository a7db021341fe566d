//! Whatever happens in whatever order on however many threads: the balance is the sum of the rows, nothing sticks, no budget is
//! passed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use parking_lot::Mutex;
use proptest::prelude::*;

use super::*;

const WINDOWS: [(Window, u64); 4] = [
    (Window::Day, 400),
    (Window::Week, 1000),
    (Window::Month, 1500),
    (Window::Total, 2500),
];

fn limits(zone: &str) -> Limits {
    let budget = |(window, most)| Budget {
        window,
        requests: Some(most / 10),
        tokens: Some(most),
        money: Some(NanoUsd(most)),
    };
    Limits {
        budgets: WINDOWS.map(budget).to_vec(),
        time_zone: Some(zone.into()),
        ..Limits::default()
    }
}

#[derive(Clone, Copy, Debug)]
enum End {
    Settle,
    Drop,
    Panic,
    /// The last of them outlives the ones that follow.
    Later,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    most: u64,
    used: u64,
    first: bool,
    /// Hours from the begin; the clock goes to and fro.
    hour: i64,
    end: End,
}

fn step() -> impl Strategy<Value = Step> {
    let end = prop_oneof![
        4 => Just(End::Settle),
        1 => Just(End::Drop),
        1 => Just(End::Panic),
        2 => Just(End::Later),
    ];
    (0u64..60, 0u64..60, any::<bool>(), 0i64..80, end).prop_map(|(most, used, first, hour, end)| Step {
        most,
        used: used.min(most),
        first,
        hour,
        end,
    })
}

/// Settles, and says with which row.
type Settle<'a> = &'a (dyn Fn(Reservation, Spent) + Sync);

fn run(chain: &Chain, steps: &[Step], begin: UnixMicros, now: Instant, settle: Settle<'_>) {
    let mut held = None;
    for step in steps {
        let at = UnixMicros(begin.0 + step.hour * 3_600_000_000);
        let spent = spent(u64::from(step.first), step.used, step.used);
        let estimate = Estimate {
            tokens: step.most,
            most_tokens: step.most,
            money: NanoUsd(step.most),
        };
        let Ok(admission) = chain.enter(at, now) else {
            continue;
        };
        let Ok(reservation) = admission.reserve(estimate, step.first, at, now) else {
            continue;
        };
        match step.end {
            End::Settle => settle(reservation, spent),
            End::Drop => drop(reservation),
            End::Panic => {
                let panicked = catch_unwind(AssertUnwindSafe(move || {
                    let _both = (admission, reservation);
                    std::panic::resume_unwind(Box::new("on purpose"));
                }));
                assert!(panicked.is_err());
            }
            End::Later => {
                if let Some((reservation, spent)) = held.replace((reservation, spent)) {
                    settle(reservation, spent);
                }
            }
        }
        for account in chain.accounts() {
            for (window, (_, most)) in account.view(at, now).windows.iter().zip(WINDOWS) {
                let sum = window.spent.charge + window.reserved.charge;
                assert!(sum.0 <= most, "{sum} of the {}", window.window.as_str());
            }
        }
    }
    if let Some((reservation, spent)) = held {
        settle(reservation, spent);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_balance_is_the_sum_of_the_rows(threads in proptest::collection::vec(proptest::collection::vec(step(), 0..40), 1..5)) {
        let chain = team(limits("Asia/Shanghai"), limits("America/New_York"));
        let (begin, now) = (at("2026-05-30T00:00:00Z"), Instant::now());
        let rows = Mutex::new(Vec::new());
        let settle = |reservation: Reservation, spent: Spent| {
            rows.lock().push((reservation.at(), spent));
            reservation.settle(spent);
        };
        std::thread::scope(|scope| {
            for steps in &threads {
                scope.spawn(|| run(&chain, steps, begin, now, &settle));
            }
        });
        let end = UnixMicros(begin.0 + 80 * 3_600_000_000);
        for account in chain.accounts() {
            assert_quiet(account, end, now);
            let limits = account.limits();
            let mut books = Balance::default();
            for (at, spent) in &*rows.lock() {
                add(&limits, &mut books, *at, *spent);
            }
            add(&limits, &mut books, end, Spent::NOTHING);
            prop_assert_eq!(account.balance(end), books, "of {}", account.id());
        }
    }
}
