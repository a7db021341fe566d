//! Budgets of calendar windows.

use super::*;

#[test]
fn each_unit_of_each_window() {
    let start = Instant::now();
    for window in Window::ALL {
        for (limits, unit) in [
            (budget(window, Some(1), None, None), Unit::Requests),
            (budget(window, None, Some(10), None), Unit::Tokens),
            (budget(window, None, None, Some(5)), Unit::Money),
        ] {
            let chain = chain(limits);
            let admission = chain.enter(noon(), start).unwrap();
            let one = admission.reserve(costs(5), true, noon(), start).unwrap();
            let no = refused(admission.reserve(costs(5), true, noon(), start));
            assert_eq!(no.limit, Limit::Reserved(window, unit));
            assert_eq!((no.left, no.retry_after), (0, Some(seconds(1))));
            one.settle(spent(1, 10, 5));
            let no = refused(admission.reserve(costs(5), true, noon(), start));
            assert_eq!((no.limit, no.left), (Limit::Budget(window, unit), 0));
            let ends = Calendar::default().span(window, noon()).to;
            let until = Duration::from_micros((ends.0 - noon().0) as u64);
            assert_eq!(no.retry_after, (window != Window::Total).then_some(until));
            assert_eq!(
                refused(chain.enter(noon(), start)).limit,
                no.limit,
                "refused at the door"
            );
            let later = chain.enter(ends, start);
            assert_eq!(later.is_ok(), window != Window::Total);
        }
    }
}

#[test]
fn what_would_never_fit_is_told_so() {
    let (chain, start) = (chain(money(Window::Day, 100)), Instant::now());
    let admission = chain.enter(noon(), start).unwrap();
    admission
        .reserve(costs(70), true, noon(), start)
        .unwrap()
        .settle(spent(1, 1, 60));
    let _held = admission.reserve(costs(30), true, noon(), start).unwrap();
    let no = refused(admission.reserve(costs(41), true, noon(), start));
    assert_eq!(no.limit, Limit::TooLarge(Window::Day, Unit::Money));
    assert_eq!((no.needed, no.left), (41, 40));
    assert_eq!(no.retry_after, Some(seconds(12 * 3600)), "tomorrow it fits");
    let no = refused(admission.reserve(costs(40), true, noon(), start));
    assert_eq!(
        (no.limit, no.needed, no.left),
        (Limit::Reserved(Window::Day, Unit::Money), 40, 10)
    );
    assert!(admission.reserve(costs(10), true, noon(), start).is_ok());
    let no = refused(admission.reserve(costs(101), true, noon(), start));
    assert_eq!(no.retry_after, None, "larger than the budget itself");
    assert_eq!(
        no.to_string(),
        "key k has 0.00000004 USD left of its budget of the day, and this request may need 0.000000101 USD: make it smaller \
         (a shorter prompt, a lower limit of output tokens)"
    );
}

#[test]
fn free_requests_pass_a_budget_that_is_not_used_up() {
    let start = Instant::now();
    let none = chain(money(Window::Month, 0));
    let no = refused(none.enter(noon(), start));
    assert_eq!(
        (no.limit, no.retry_after),
        (Limit::Budget(Window::Month, Unit::Money), None)
    );
    let some = chain(money(Window::Month, 1));
    let admission = some.enter(noon(), start).unwrap();
    let held = admission.reserve(costs(1), true, noon(), start).unwrap();
    let free = admission.reserve(costs(0), true, noon(), start).unwrap();
    held.settle(spent(1, 10, 1));
    free.settle(spent(1, 10, 0));
    assert!(admission.reserve(costs(0), true, noon(), start).is_err());
}

#[test]
fn a_further_attempt_of_the_last_request_is_no_further_request() {
    let (chain, start) = (chain(budget(Window::Day, Some(1), None, None)), Instant::now());
    let admission = chain.enter(noon(), start).unwrap();
    admission
        .reserve(costs(1), true, noon(), start)
        .unwrap()
        .settle(spent(1, 0, 0));
    let again = admission.reserve(costs(1), false, noon(), start).unwrap();
    again.settle(spent(0, 10, 1));
    assert!(admission.reserve(costs(1), true, noon(), start).is_err());
}

#[test]
fn more_than_was_reserved_is_booked() {
    let (chain, start) = (chain(money(Window::Day, 10)), Instant::now());
    let admission = chain.enter(noon(), start).unwrap();
    let reservation = admission.reserve(costs(1), true, noon(), start).unwrap();
    reservation.settle(spent(1, 10, 1000));
    assert_eq!(
        chain.key().balance(noon()).used(Window::Day).spent.charge,
        NanoUsd(1000)
    );
    assert_eq!(refused(chain.enter(noon(), start)).left, 0);
}

#[test]
fn over_midnight_an_attempt_belongs_to_the_old_day() {
    let (chain, start) = (chain(money(Window::Day, 10)), Instant::now());
    let (before, after) = (at("2026-06-10T23:59:59Z"), at("2026-06-11T00:00:01Z"));
    let admission = chain.enter(before, start).unwrap();
    let old = admission.reserve(costs(10), true, before, start).unwrap();
    let void = admission.reserve(costs(0), false, before, start).unwrap();
    let new = admission.reserve(costs(10), true, after, start).unwrap();
    old.settle(spent(1, 5, 8));
    drop(void);
    let view = chain.key().view(after, start);
    assert_eq!(view.windows[0].spent, Spent::NOTHING);
    assert_eq!(view.windows[0].reserved.charge, NanoUsd(10), "the new one's stays");
    for window in &view.windows[1..] {
        assert_eq!(window.spent, spent(1, 5, 8), "{:?}", window.window);
    }
    new.settle(spent(1, 5, 10));
    drop(admission);
    assert_quiet(chain.key(), after, start);
    assert_eq!(chain.key().balance(after).used(Window::Day).spent.charge, NanoUsd(10));
}

#[test]
fn a_clock_set_back_opens_nothing_and_empties_nothing() {
    let (chain, start) = (chain(money(Window::Day, 10)), Instant::now());
    let yesterday = at("2026-06-09T12:00:00Z");
    let admission = chain.enter(noon(), start).unwrap();
    admission
        .reserve(costs(6), true, noon(), start)
        .unwrap()
        .settle(spent(1, 0, 6));
    let back = admission.reserve(costs(4), true, yesterday, start).unwrap();
    assert_eq!(back.at(), at("2026-06-10T00:00:00Z"), "it counts today");
    assert!(admission.reserve(costs(1), true, yesterday, start).is_err());
    let row = back.at();
    back.settle(spent(1, 0, 4));
    assert_eq!(
        refused(chain.enter(yesterday, start)).limit,
        Limit::Budget(Window::Day, Unit::Money)
    );
    assert_eq!(
        chain.key().balance(yesterday).used(Window::Day).spent.charge,
        NanoUsd(10)
    );
    let mut books = Balance::default();
    add(&Limits::default(), &mut books, noon(), spent(1, 0, 6));
    add(&Limits::default(), &mut books, row, spent(1, 0, 4));
    assert_eq!(chain.key().balance(noon()), books, "its row says the same");
    assert!(chain.enter(at("2026-06-11T00:00:00Z"), start).is_ok());
}

#[test]
fn restored_and_replayed_it_goes_on() {
    let start = Instant::now();
    let mut balance = Balance::default();
    add(&Limits::default(), &mut balance, noon(), spent(3, 30, 60));
    let chain = chain(money(Window::Day, 100));
    chain.key().restore(balance);
    chain.key().book(noon(), spent(1, 10, 30));
    let admission = chain.enter(noon(), start).unwrap();
    let no = refused(admission.reserve(costs(11), true, noon(), start));
    assert_eq!((no.limit, no.left), (Limit::TooLarge(Window::Day, Unit::Money), 10));
    admission
        .reserve(costs(10), true, noon(), start)
        .unwrap()
        .settle(spent(1, 10, 10));
    add(&Limits::default(), &mut balance, noon(), spent(2, 20, 40));
    assert_eq!(chain.key().balance(noon()), balance);
    assert_eq!(
        chain
            .key()
            .balance(at("2026-07-01T00:00:00Z"))
            .used(Window::Month)
            .spent,
        Spent::NOTHING
    );
    assert_eq!(
        chain
            .key()
            .balance(at("2026-07-01T00:00:00Z"))
            .used(Window::Total)
            .spent,
        spent(5, 50, 100)
    );
}

#[test]
fn the_view_says_it_all() {
    let mut limits = money(Window::Month, 100);
    limits.time_zone = Some("Asia/Shanghai".into());
    let (chain, start) = (chain(limits.clone()), Instant::now());
    let admission = chain.enter(noon(), start).unwrap();
    admission
        .reserve(costs(3), true, noon(), start)
        .unwrap()
        .settle(spent(1, 2, 3));
    let _held = admission.reserve(costs(7), true, noon(), start).unwrap();
    let view = chain.key().view(noon(), start);
    assert_eq!((view.limits, view.in_flight, view.waiting), (limits.clone(), 1, 0));
    let month = &view.windows[Window::Month as usize];
    assert_eq!(month.begins, Some(at("2026-05-31T16:00:00Z")));
    assert_eq!(month.ends, Some(at("2026-06-30T16:00:00Z")));
    assert_eq!((month.spent, month.reserved), (spent(1, 2, 3), spent(1, 10, 7)));
    assert_eq!(month.budget.as_ref(), limits.budgets.first());
    assert_eq!((view.windows[3].begins, view.windows[3].ends), (None, None));
    // To look at tomorrow makes it no tomorrow.
    let tomorrow = chain.key().view(at("2026-06-11T12:00:00Z"), start);
    assert_eq!(tomorrow.windows[0].spent, Spent::NOTHING);
    assert_eq!(chain.key().balance(noon()).used(Window::Day).spent, spent(1, 2, 3));
}

#[test]
fn more_than_was_reserved_is_booked_and_told() {
    let chain = chain(money(Window::Day, 1000));
    let now = Instant::now();
    let admission = chain.enter(noon(), now).unwrap();
    let settle = |estimate: Estimate, spent: Spent| {
        let reservation = admission.reserve(estimate, false, noon(), now).unwrap();
        reservation.settle(spent)
    };
    let over = |tokens, money| {
        Some(Overshoot {
            tokens,
            money: NanoUsd(money),
        })
    };
    // Ten tokens are reserved.
    assert_eq!(settle(costs(5), spent(0, 10, 5)), None);
    assert_eq!(settle(costs(5), spent(0, 9, 4)), None);
    assert_eq!(settle(costs(5), spent(0, 12, 5)), over(2, 0));
    assert_eq!(settle(costs(5), spent(0, 10, 8)), over(0, 3));
    assert_eq!(settle(Estimate::default(), spent(0, 12, 8)), None, "nobody bounded it");
    let used = chain.key().balance(noon());
    assert_eq!(used.0[Window::Day as usize].spent.charge, NanoUsd(5 + 4 + 5 + 8 + 8));
    drop(admission);
    assert_quiet(chain.key(), noon(), now);
}
