//! Accounts that go from one process to another, and on to a third: as if there were one account all the time.

use std::collections::HashMap;
use std::sync::Arc;

use futures_core::future::BoxFuture;
use parking_lot::Mutex;
use proptest::prelude::*;

use super::*;
use crate::limits::handover::{Inherited, NotGranted, Owner, Parties, Returned};

/// The link between two processes, without the wire: what is given back arrives when [`Link::deliver`] says so.
struct Link {
    to: Arc<Accounts>,
    at: UnixMicros,
    now: Instant,
    next: Mutex<u64>,
    admissions: Mutex<HashMap<u64, Arc<Admission>>>,
    reservations: Mutex<HashMap<u64, Reservation>>,
    returned: Mutex<Vec<Returned>>,
    gone: Mutex<bool>,
}

impl Link {
    fn between(from: &Accounts, to: &Arc<Accounts>, at: UnixMicros, now: Instant) -> (Arc<Link>, Vec<Inherited>) {
        let link = Arc::new(Link {
            to: to.clone(),
            at,
            now,
            next: Mutex::new(0),
            admissions: Mutex::default(),
            reservations: Mutex::default(),
            returned: Mutex::default(),
            gone: Mutex::new(false),
        });
        let inherited = from.hand_over(link.clone(), now);
        for one in &inherited {
            // As it would be over the wire.
            let text = serde_json::to_string(one).unwrap();
            to.inherit(&serde_json::from_str(&text).unwrap(), at, now);
        }
        (link, inherited)
    }

    fn number(&self) -> u64 {
        let mut next = self.next.lock();
        *next += 1;
        *next
    }

    /// What was given back arrives; rows of it are booked by then.
    fn deliver(&self) {
        for returned in std::mem::take(&mut *self.returned.lock()) {
            self.admissions
                .lock()
                .retain(|number, _| returned != Returned::Admission(*number));
            if let Returned::Reservation { number, tokens } = returned
                && let Some(reservation) = self.reservations.lock().remove(&number)
            {
                reservation.settle_booked(tokens);
            }
            self.to.given_back(&returned, self.now);
        }
    }
}

impl Owner for Link {
    fn enter(&self, of: Parties, wait: Duration) -> BoxFuture<'_, Result<u64, NotGranted>> {
        Box::pin(async move {
            if *self.gone.lock() {
                return Err(NotGranted::Gone);
            }
            let admission = of.chain(&self.to).enter_within(wait, self.at, self.now).await;
            let number = self.number();
            self.admissions
                .lock()
                .insert(number, Arc::new(admission.map_err(NotGranted::Refused)?));
            Ok(number)
        })
    }

    fn reserve(
        &self,
        of: Parties,
        admission: Option<u64>,
        estimate: Estimate,
        first: bool,
        wait: Duration,
    ) -> BoxFuture<'_, Result<(u64, UnixMicros), NotGranted>> {
        Box::pin(async move {
            if *self.gone.lock() {
                return Err(NotGranted::Gone);
            }
            let admission = admission.and_then(|number| self.admissions.lock().get(&number).cloned());
            let admission = admission.unwrap_or_else(|| Arc::new(Admission::of_inherited(of.chain(&self.to))));
            let got = admission.reserve_within(wait, estimate, first, self.at, self.now).await;
            let reservation = got.map_err(NotGranted::Refused)?;
            let (number, at) = (self.number(), reservation.at());
            self.reservations.lock().insert(number, reservation);
            Ok((number, at))
        })
    }

    fn give_back(&self, returned: Returned) {
        self.returned.lock().push(returned);
    }
}

fn block<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(future)
}

/// A process: its accounts, and the chain of one key in one group.
fn process(key: &Limits, group: &Limits) -> (Arc<Accounts>, Chain) {
    let accounts = Arc::new(Accounts::new());
    let parties = Parties {
        key: AccountId::Key(KeyId("k".into())),
        group: Some(AccountId::Group(GroupId("g".into()))),
    };
    let chain = parties.chain(&accounts);
    chain.key().set_limits(key.clone());
    chain.group().unwrap().set_limits(group.clone());
    (accounts, chain)
}

fn budget(requests: u64, money: u64) -> Limits {
    Limits {
        budgets: vec![Budget {
            window: Window::Total,
            requests: Some(requests),
            tokens: None,
            money: Some(NanoUsd(money)),
        }],
        ..Limits::default()
    }
}

fn estimate(money: u64) -> Estimate {
    Estimate {
        tokens: money,
        most_tokens: money,
        money: NanoUsd(money),
    }
}

#[derive(Clone, Copy, Debug)]
enum Act {
    /// A request enters the process of this age (0: the newest), and reserves so much.
    Begin(usize, u64),
    /// One of those under way uses so much of what it reserved, in percent.
    End(usize, u64),
    /// One of those under way is dropped.
    Drop(usize),
    /// What was given back arrives.
    Deliver,
    /// Another process takes over.
    Upgrade,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (0usize..3, 1u64..40).prop_map(|(age, most)| Act::Begin(age, most)),
        6 => (0usize..8, 0u64..=100).prop_map(|(which, percent)| Act::End(which, percent)),
        1 => (0usize..8).prop_map(Act::Drop),
        2 => Just(Act::Deliver),
        1 => Just(Act::Upgrade),
    ]
}

/// One under way: which process it is in, and what it reserved.
struct UnderWay {
    process: usize,
    most: u64,
    _admission: Admission,
    reservation: Reservation,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn over_all_processes_no_budget_is_passed_and_nothing_sticks(acts in proptest::collection::vec(act(), 0..80)) {
        const MONEY: u64 = 300;
        let (key, group) = (budget(60, MONEY), budget(50, MONEY + 50));
        let (at, now) = (at("2026-05-30T00:00:00Z"), Instant::now());
        let mut processes = vec![process(&key, &group)];
        let mut links: Vec<Arc<Link>> = Vec::new();
        let mut under_way: Vec<UnderWay> = Vec::new();
        // Rows that are in a journal, and not booked by the newest process yet.
        let mut rows: Vec<(UnixMicros, Spent)> = Vec::new();
        let mut spent_in_truth = Spent::NOTHING;
        let book = |newest: &Chain, rows: &mut Vec<(UnixMicros, Spent)>| {
            for (at, spent) in rows.drain(..) {
                newest.accounts().for_each(|account| account.book(at, spent));
            }
        };
        for act in acts {
            match act {
                Act::Begin(age, most) => {
                    let process = processes.len().saturating_sub(1 + age.min(processes.len() - 1));
                    let chain = &processes[process].1;
                    let Ok(admission) = block(chain.enter_within(Duration::ZERO, at, now)) else { continue };
                    let got = block(admission.reserve_within(Duration::ZERO, estimate(most), true, at, now));
                    if let Ok(reservation) = got {
                        under_way.push(UnderWay { process, most, _admission: admission, reservation });
                    }
                }
                Act::End(which, percent) if which < under_way.len() => {
                    let UnderWay { process, most, reservation, .. } = under_way.swap_remove(which);
                    let used = spent(1, most * percent / 100, most * percent / 100);
                    spent_in_truth += used;
                    // The newest process settles in its own accounts; what others used it reads in their journals.
                    if process + 1 < processes.len() {
                        rows.push((reservation.at(), used));
                    }
                    prop_assert_eq!(reservation.settle(used), None);
                }
                Act::Drop(which) if which < under_way.len() => drop(under_way.swap_remove(which)),
                Act::End(..) | Act::Drop(_) => {}
                Act::Deliver => {
                    book(&processes[processes.len() - 1].1, &mut rows);
                    links.iter().for_each(|link| link.deliver());
                }
                Act::Upgrade if processes.len() < 4 => {
                    let (old, _) = processes[processes.len() - 1].clone();
                    let (next, chain) = process(&key, &group);
                    // Balances come from the journals of all.
                    chain.accounts().for_each(|account| account.book(at, spent_in_truth));
                    rows.clear();
                    links.push(Link::between(&old, &next, at, now).0);
                    processes.push((next, chain));
                }
                Act::Upgrade => {}
            }
            // What accounts show may be more: what is given back and not delivered yet is held beside its row.
            let held: u64 = under_way.iter().map(|one| one.most).sum();
            prop_assert!(spent_in_truth.charge.0 + held <= MONEY, "{} and {held}", spent_in_truth.charge);
            prop_assert!(spent_in_truth.requests + under_way.len() as u64 <= 50);
        }
        under_way.clear();
        book(&processes[processes.len() - 1].1, &mut rows);
        // From the oldest to the newest: each link tells on what it heard.
        for _ in 0..links.len() {
            links.iter().for_each(|link| link.deliver());
        }
        let newest = &processes[processes.len() - 1].1;
        for account in newest.accounts() {
            assert_quiet(account, at, now);
            prop_assert_eq!(account.balance(at).0[3].spent, spent_in_truth);
        }
    }
}

#[test]
fn what_a_dead_process_held_is_given_back_whole() {
    let (at, now) = (at("2026-05-30T00:00:00Z"), Instant::now());
    let key = Limits {
        concurrent: Some(2),
        ..budget(10, 100)
    };
    let ((old, chain), (next, newest)) = (process(&key, &budget(10, 100)), process(&key, &budget(10, 100)));
    let admission = chain.enter(at, now).unwrap();
    let reservation = admission.reserve(estimate(70), true, at, now).unwrap();
    let (link, mut inherited) = Link::between(&old, &next, at, now);
    assert_eq!(newest.key().view(at, now).windows[3].reserved.charge, NanoUsd(70));
    // One of what it holds is given back in time ...
    drop(reservation);
    for returned in link.returned.lock().drain(..) {
        for one in &mut inherited {
            if returned.account() == Some(&one.account) {
                one.take_away(&returned);
            }
        }
        next.given_back(&returned, now);
    }
    assert_eq!(newest.key().view(at, now).windows[3].reserved.charge, NanoUsd(0));
    let second = newest.enter(at, now).unwrap();
    assert!(newest.enter(at, now).is_err(), "two are under way");
    // ... the rest when it dies.
    for returned in inherited.iter().flat_map(Inherited::all_returned) {
        next.given_back(&returned, now);
    }
    std::mem::forget(admission);
    drop(second);
    for account in newest.accounts() {
        assert_quiet(account, at, now);
    }
}

#[test]
fn when_the_owner_is_gone_the_accounts_are_ours_again() {
    let (at, now) = (at("2026-05-30T00:00:00Z"), Instant::now());
    let ((old, chain), (next, _)) = (
        process(&budget(10, 100), &budget(10, 100)),
        process(&budget(10, 100), &budget(10, 100)),
    );
    let (link, _) = Link::between(&old, &next, at, now);
    let admission = block(chain.enter_within(Duration::ZERO, at, now)).unwrap();
    let reservation = block(admission.reserve_within(Duration::ZERO, estimate(60), true, at, now)).unwrap();
    *link.gone.lock() = true;
    old.take_back();
    reservation.settle(spent(1, 50, 50));
    // A request which the owner had let in goes on.
    let again = block(admission.reserve_within(Duration::ZERO, estimate(40), false, at, now)).unwrap();
    assert_eq!(
        chain.key().view(at, now).windows[3].spent.charge,
        NanoUsd(50),
        "what was used is known"
    );
    again.settle(spent(0, 40, 40));
    drop(admission);
    assert!(block(chain.enter_within(Duration::ZERO, at, now)).is_ok());
    for account in chain.accounts() {
        assert_quiet(account, at, now);
    }
}

#[test]
fn minutes_go_along() {
    let (at, now) = (at("2026-05-30T00:00:00Z"), Instant::now());
    let limits = Limits {
        requests_per_minute: Some(3),
        tokens_per_minute: Some(100),
        ..Limits::default()
    };
    let ((old, chain), (next, newest)) = (
        process(&limits, &Limits::default()),
        process(&limits, &Limits::default()),
    );
    let later = |seconds: i64| {
        (
            UnixMicros(at.0 + seconds * 1_000_000),
            now + Duration::from_secs(seconds as u64),
        )
    };
    let (first_at, first) = later(0);
    let admission = chain.enter(first_at, first).unwrap();
    let reservation = admission.reserve(estimate(80), true, first_at, first).unwrap();
    let (then_at, then) = later(20);
    let second = chain.enter(then_at, then).unwrap();
    let (switch_at, switch) = later(30);
    let (_link, _) = Link::between(&old, &next, switch_at, switch);
    let third = newest.enter(switch_at, switch).unwrap();
    assert!(newest.enter(switch_at, switch).is_err(), "three in this minute");
    assert!(
        third.reserve(estimate(30), true, switch_at, switch).is_err(),
        "80 tokens of the old process's count"
    );
    drop((second, reservation, admission));
    let (end_at, end) = later(62);
    assert!(
        newest.enter(end_at, end).is_ok(),
        "the first request is over a minute old"
    );
    assert!(third.reserve(estimate(30), true, end_at, end).is_ok());
}
