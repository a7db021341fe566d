//! Two hundred at once on one budget: charged at most all of it, and what is left is less than one of them may need.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

const CROWD: u64 = 200;
/// What one may need.
const MOST: u64 = 100;
const BUDGET: u64 = 200_000;

/// What becomes of the `number`th: of five, one fails, is dropped, or panics in turn.
fn fate(number: u64) -> u64 {
    if number.is_multiple_of(5) { number / 5 % 3 } else { 3 }
}

fn is_over(no: &Refused) -> bool {
    matches!(no.limit, Limit::Budget(..) | Limit::TooLarge(..))
}

fn attempt(admission: Admission, reservation: Reservation, number: u64) -> u64 {
    let used = number * 7919 % (MOST + 1);
    match fate(number) {
        0 => {
            // The provider failed: the row says it cost nothing.
            reservation.settle(spent(1, 0, 0));
            0
        }
        1 => {
            drop(reservation);
            0
        }
        2 => {
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
                let _both = (admission, reservation);
                std::panic::resume_unwind(Box::new("on purpose"));
            }));
            assert!(ended.is_err());
            0
        }
        _ => {
            reservation.settle(spent(1, used, used));
            used
        }
    }
}

fn assert_spent(chain: &Chain, charged: u64, start: Instant) {
    for account in chain.accounts() {
        assert_quiet(account, noon(), start);
        let spent = account.balance(noon()).used(Window::Total).spent.charge.0;
        assert_eq!(spent, charged);
        assert!(spent <= BUDGET, "{spent} of {BUDGET}");
        assert!(BUDGET - spent < MOST, "{} unused", BUDGET - spent);
    }
}

#[test]
fn threads_that_are_refused_try_again() {
    let start = Instant::now();
    let chain = team(money(Window::Total, BUDGET), money(Window::Day, BUDGET));
    let (charged, barrier) = (AtomicU64::new(0), Barrier::new(CROWD as usize));
    std::thread::scope(|scope| {
        for thread in 0..CROWD {
            let (chain, charged, barrier) = (&chain, &charged, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for number in (thread..).step_by(CROWD as usize) {
                    let Ok(admission) = chain.enter(noon(), start) else {
                        return;
                    };
                    let reservation = loop {
                        match admission.reserve(costs(MOST), true, noon(), start) {
                            Ok(reservation) => break reservation,
                            Err(no) if is_over(&no) => return,
                            Err(_) => std::thread::yield_now(),
                        }
                    };
                    charged.fetch_add(attempt(admission, reservation, number), Ordering::Relaxed);
                }
            });
        }
    });
    assert_spent(&chain, charged.into_inner(), start);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_that_wait_all_come_in() {
    let start = Instant::now();
    let mut few_at_once = money(Window::Total, BUDGET);
    few_at_once.concurrent = Some(30);
    // The group holds them back once they are in.
    let chain = team(few_at_once, money(Window::Day, BUDGET));
    let tasks: Vec<_> = (0..CROWD)
        .map(|task| {
            let chain = chain.clone();
            tokio::spawn(async move {
                let mut charged = 0;
                for number in (task..).step_by(CROWD as usize) {
                    let admission = match chain.enter_within(seconds(600), noon(), start).await {
                        Ok(admission) => admission,
                        Err(no) => {
                            assert!(is_over(&no), "{no}");
                            break;
                        }
                    };
                    let reserved = admission.reserve_within(seconds(600), costs(MOST), true, noon(), start);
                    let reservation = match reserved.await {
                        Ok(reservation) => reservation,
                        Err(no) => {
                            assert!(is_over(&no), "{no}");
                            break;
                        }
                    };
                    tokio::task::yield_now().await;
                    charged += attempt(admission, reservation, number);
                }
                charged
            })
        })
        .collect();
    let mut charged = 0;
    for task in tasks {
        charged += task.await.unwrap();
    }
    assert_spent(&chain, charged, start);
}
