//! Key and group as one, and limits that change under way.

use super::*;

#[test]
fn both_or_none() {
    let start = Instant::now();
    let chain = team(money(Window::Day, 100), money(Window::Day, 10));
    let admission = chain.enter(noon(), start).unwrap();
    let no = refused(admission.reserve(costs(20), true, noon(), start));
    assert_eq!(no.account, AccountId::Group(GroupId("g".into())));
    let group = chain.group().unwrap().clone();
    for account in [chain.key(), &group] {
        let view = account.view(noon(), start);
        assert_eq!((view.in_flight, view.windows[0].reserved), (1, Spent::NOTHING));
    }
    admission
        .reserve(costs(10), true, noon(), start)
        .unwrap()
        .settle(spent(1, 2, 9));
    drop(admission);
    for account in [chain.key(), &group] {
        assert_quiet(account, noon(), start);
        assert_eq!(account.balance(noon()).used(Window::Total).spent, spent(1, 2, 9));
    }
    // A refused request is not in the minute of either.
    let minute = |requests| Limits {
        requests_per_minute: Some(requests),
        ..Limits::default()
    };
    let chain = team(minute(10), minute(0));
    assert!(chain.enter(noon(), start).is_err());
    assert_eq!(chain.key().view(noon(), start).standing.requests.unwrap().remaining, 10);
}

#[test]
fn what_lasts_longest_is_told() {
    let start = Instant::now();
    let chain = team(
        Limits {
            concurrent: Some(1),
            ..Limits::default()
        },
        money(Window::Total, 1),
    );
    chain.group().unwrap().book(noon(), spent(1, 1, 1));
    assert_eq!(
        refused(chain.enter(noon(), start)).limit,
        Limit::Budget(Window::Total, Unit::Money)
    );
    let mut limits = money(Window::Month, 5);
    limits.budgets.extend(money(Window::Day, 5).budgets);
    let chain = super::chain(limits);
    chain.key().book(noon(), spent(1, 1, 5));
    assert_eq!(
        refused(chain.enter(noon(), start)).limit,
        Limit::Budget(Window::Month, Unit::Money)
    );
}

#[test]
fn key_and_group_have_clocks_of_their_own() {
    let start = Instant::now();
    let mut there = money(Window::Day, 10);
    there.time_zone = Some("Asia/Shanghai".into());
    let chain = team(there, money(Window::Day, 100));
    let admission = chain.enter(noon(), start).unwrap();
    admission
        .reserve(costs(10), true, noon(), start)
        .unwrap()
        .settle(spent(1, 0, 10));
    // Midnight in Shanghai.
    let later = at("2026-06-10T16:00:00Z");
    admission
        .reserve(costs(10), true, later, start)
        .unwrap()
        .settle(spent(1, 0, 10));
    assert_eq!(chain.key().balance(later).used(Window::Day).spent.charge, NanoUsd(10));
    assert_eq!(
        chain.group().unwrap().balance(later).used(Window::Day).spent.charge,
        NanoUsd(20)
    );
}

#[test]
fn limits_change_while_requests_are_under_way() {
    let (chain, start) = (chain(Limits::default()), Instant::now());
    let admission = chain.enter(noon(), start).unwrap();
    let held = admission.reserve(costs(50), true, noon(), start).unwrap();
    let mut limits = money(Window::Day, 60);
    limits.concurrent = Some(1);
    limits.tokens_per_minute = Some(100);
    chain.key().set_limits(limits.clone());
    assert_eq!(refused(chain.enter(noon(), start)).limit, Limit::Concurrent);
    let no = refused(admission.reserve(costs(20), false, noon(), start));
    assert_eq!(
        (no.limit, no.left),
        (Limit::Reserved(Window::Day, Unit::Money), 10),
        "what it held counts"
    );
    // The day of another time zone: what was held is given back there, too.
    limits.time_zone = Some("America/Los_Angeles".into());
    chain.key().set_limits(limits);
    assert!(admission.reserve(costs(20), false, noon(), start).is_err());
    held.settle(spent(1, 10, 55));
    let no = refused(admission.reserve(costs(20), false, noon(), start));
    assert_eq!((no.limit, no.left), (Limit::TooLarge(Window::Day, Unit::Money), 5));
    chain.key().set_limits(Limits::default());
    admission
        .reserve(costs(u64::MAX), false, noon(), start)
        .unwrap()
        .settle(spent(0, 0, 1));
    drop(admission);
    assert_quiet(chain.key(), noon(), start);
    assert_eq!(chain.key().balance(noon()).used(Window::Day).spent.charge, NanoUsd(56));
}

#[test]
fn sums_of_anything_are_given_back() {
    let (chain, start) = (chain(Limits::default()), Instant::now());
    let admission = chain.enter(noon(), start).unwrap();
    let huge = Estimate {
        tokens: u64::MAX,
        most_tokens: u64::MAX,
        money: NanoUsd::MAX,
    };
    let held: Vec<_> = (0..10)
        .map(|_| admission.reserve(huge, true, noon(), start).unwrap())
        .collect();
    assert_eq!(chain.key().view(noon(), start).windows[3].reserved.charge, NanoUsd::MAX);
    drop((held, admission));
    assert_quiet(chain.key(), noon(), start);
}

#[test]
fn a_panic_gives_back() {
    let (chain, start) = (team(money(Window::Day, 10), Limits::default()), Instant::now());
    let panicked = std::thread::spawn({
        let chain = chain.clone();
        move || {
            let admission = chain.enter(noon(), start).unwrap();
            let _held = admission.reserve(costs(10), true, noon(), start).unwrap();
            std::panic::resume_unwind(Box::new("on purpose"));
        }
    });
    assert!(panicked.join().is_err());
    assert_quiet(chain.key(), noon(), start);
    assert_quiet(chain.group().unwrap(), noon(), start);
    assert_eq!(chain.key().balance(noon()).used(Window::Day).spent, Spent::NOTHING);
}

#[test]
fn refusals_are_counted_by_scope_and_limit() {
    let chain = team(Limits::default(), money(Window::Total, 0));
    assert!(chain.enter(noon(), Instant::now()).is_err());
    let families = prometheus::default_registry().gather();
    let refused = families
        .iter()
        .find(|family| family.name() == "tollgate_limits_refused_total")
        .unwrap();
    assert_eq!(refused.get_metric().len(), 12, "none is missing, none is a key's");
    let is = |metric: &&prometheus::proto::Metric| {
        let labels = metric.get_label().iter().map(|label| label.value()).collect::<Vec<_>>();
        labels == ["used_up", "group"]
    };
    let counter = refused.get_metric().iter().find(is).unwrap().get_counter();
    assert!(counter.get_value() >= 1.0);
    for gauge in ["tollgate_limits_waiting", "tollgate_limits_reservations"] {
        assert!(families.iter().any(|family| family.name() == gauge), "{gauge}");
    }
}
