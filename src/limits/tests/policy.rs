//! Which limits can be set.

use super::*;
use crate::limits::policy::{MAX_BUDGET_MONEY, MAX_BUDGET_TOKENS};

fn message(limits: Limits) -> String {
    limits.check().unwrap_err().to_string()
}

#[test]
fn what_can_be_set() {
    assert_eq!(Limits::default().check(), Ok(()));
    let all = Limits {
        requests_per_minute: Some(0),
        tokens_per_minute: Some(1),
        concurrent: Some(0),
        budgets: Window::ALL
            .map(|window| Budget {
                window,
                requests: Some(0),
                tokens: Some(MAX_BUDGET_TOKENS),
                money: Some(MAX_BUDGET_MONEY),
            })
            .to_vec(),
        time_zone: Some("Asia/Shanghai".into()),
    };
    assert_eq!(all.check(), Ok(()));
    let text = serde_json::to_string(&all).unwrap();
    assert_eq!(serde_json::from_str::<Limits>(&text).unwrap(), all);
}

#[test]
fn what_can_not() {
    let zone = |name: &str| Limits {
        time_zone: Some(name.into()),
        ..Limits::default()
    };
    assert_eq!(
        message(zone("shanghai")),
        "time_zone: no time zone is called \"shanghai\"; did you mean \"Asia/Shanghai\"?"
    );
    assert!(message(zone("Mars/Olympus")).contains("Europe/Berlin"));
    assert!(message(zone(&"x".repeat(10_000))).len() < 200);
    assert!(message(zone("")).starts_with("time_zone"));
    let mut twice = money(Window::Day, 1);
    twice.budgets.extend(money(Window::Day, 2).budgets);
    assert!(message(twice).contains("two for the window \"day\""));
    assert!(message(budget(Window::Week, None, None, None)).contains("\"week\" limits nothing"));
    assert!(message(budget(Window::Week, None, Some(u64::MAX), None)).starts_with("budgets.tokens"));
    assert!(message(budget(Window::Week, Some(u64::MAX), None, None)).starts_with("budgets.requests"));
    assert!(message(money(Window::Total, u64::MAX)).contains("1000000000 dollars"));
    let absurd = Limits {
        requests_per_minute: Some(u64::MAX),
        ..Limits::default()
    };
    assert!(message(absurd).starts_with("requests_per_minute"));
}

#[test]
fn what_they_bound_is_known_without_a_lock() {
    let bounds = |limits: Limits| {
        let chain = team(Limits::default(), limits);
        (chain.bounds_answers(), chain.bounds_money())
    };
    assert_eq!(bounds(Limits::default()), (false, false));
    assert_eq!(bounds(budget(Window::Day, Some(1), None, None)), (false, false));
    assert_eq!(bounds(budget(Window::Day, None, Some(1), None)), (true, false));
    assert_eq!(bounds(money(Window::Total, 1)), (true, true));
    let minute = Limits {
        tokens_per_minute: Some(1),
        ..Limits::default()
    };
    assert_eq!(bounds(minute), (true, false));
}
