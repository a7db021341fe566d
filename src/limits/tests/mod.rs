//! Tests of the accounts. Time is turned by hand; only the queue's few look at the machine's.

mod budgets;
mod calendar;
mod chain;
mod crowd;
mod handover;
mod jumps;
mod minutes;
mod policy;
mod properties;
mod queue;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::UnixMicros;
use crate::ids::{GroupId, KeyId};
use crate::money::NanoUsd;

use super::*;

/// A moment, written as RFC 3339.
fn at(text: &str) -> UnixMicros {
    UnixMicros(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
}

/// Noon of a Wednesday.
fn noon() -> UnixMicros {
    at("2026-06-10T12:00:00Z")
}

/// Adds one row, with a calendar that remembers nothing.
fn add(limits: &Limits, balance: &mut Balance, at: UnixMicros, spent: Spent) {
    Calendar::of(limits).add(balance, at, spent);
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn account(limits: Limits) -> Arc<Account> {
    let account = Accounts::new().get(&AccountId::Key(KeyId("k".into())));
    account.set_limits(limits);
    account
}

fn chain(limits: Limits) -> Chain {
    Chain::new(account(limits), None)
}

fn team(key: Limits, group: Limits) -> Chain {
    let accounts = Accounts::new();
    let of_key = accounts.get(&AccountId::Key(KeyId("k".into())));
    let of_group = accounts.get(&AccountId::Group(GroupId("g".into())));
    of_key.set_limits(key);
    of_group.set_limits(group);
    Chain::new(of_key, Some(of_group))
}

fn budget(window: Window, requests: Option<u64>, tokens: Option<u64>, money: Option<u64>) -> Limits {
    Limits {
        budgets: vec![Budget {
            window,
            requests,
            tokens,
            money: money.map(NanoUsd),
        }],
        ..Limits::default()
    }
}

fn money(window: Window, money: u64) -> Limits {
    budget(window, None, None, Some(money))
}

fn costs(money: u64) -> Estimate {
    Estimate {
        tokens: 10,
        most_tokens: 10,
        money: NanoUsd(money),
    }
}

fn spent(requests: u64, tokens: u64, charge: u64) -> Spent {
    Spent {
        requests,
        tokens,
        charge: NanoUsd(charge),
    }
}

fn refused<T>(result: Result<T, Refused>) -> Refused {
    match result {
        Ok(_) => panic!("it should have been refused"),
        Err(refused) => refused,
    }
}

/// Nothing is under way, nothing held.
fn assert_quiet(account: &Account, at: UnixMicros, now: Instant) {
    let view = account.view(at, now);
    assert_eq!((view.in_flight, view.waiting), (0, 0));
    for window in view.windows {
        assert_eq!(window.reserved, Spent::NOTHING, "of the {}", window.window.as_str());
    }
}
