//! The bounded wait: order, bound, cancelling, time.

use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::*;
use crate::limits::admission::MAX_WAITING;

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(600);

fn one_at_once() -> Limits {
    Limits {
        concurrent: Some(1),
        ..Limits::default()
    }
}

fn waiting(account: &Account) -> usize {
    account.view(noon(), Instant::now()).waiting
}

/// Lets the others go on until so many wait.
async fn until(account: &Account, count: usize) {
    while waiting(account) != count {
        tokio::task::yield_now().await;
    }
}

/// Enters as soon as it may, says so, leaves.
fn visitor(chain: &Chain, name: usize, came: &Arc<Mutex<Vec<usize>>>) -> JoinHandle<bool> {
    let (chain, came) = (chain.clone(), came.clone());
    tokio::spawn(async move {
        let entered = chain.enter_within(LONG, noon(), Instant::now()).await;
        came.lock().push(name);
        entered.is_ok()
    })
}

#[tokio::test]
async fn who_came_first_enters_first() {
    let (chain, came) = (chain(one_at_once()), Arc::default());
    let held = chain.enter(noon(), Instant::now()).unwrap();
    let mut visitors = Vec::new();
    for name in 0..20 {
        visitors.push(visitor(&chain, name, &came));
        until(chain.key(), name + 1).await;
    }
    drop(held);
    // One more, before the first in line had time to come: it may wait, so it does not push in.
    visitors.push(visitor(&chain, 20, &came));
    for visitor in visitors {
        assert!(visitor.await.unwrap());
    }
    assert_eq!(*came.lock(), (0..=20).collect::<Vec<_>>());
    assert_quiet(chain.key(), noon(), Instant::now());
}

#[tokio::test]
async fn keys_of_a_group_stand_in_one_line() {
    let accounts = Accounts::new();
    let group = accounts.get(&AccountId::Group(GroupId("g".into())));
    group.set_limits(one_at_once());
    let came = Arc::default();
    let chains: Vec<_> = ["a", "b"]
        .map(|key| Chain::new(accounts.get(&AccountId::Key(KeyId(key.into()))), Some(group.clone())))
        .into();
    chains[0].key().set_limits(one_at_once());
    let held = chains[1].enter(noon(), Instant::now()).unwrap();
    let mut visitors = Vec::new();
    for name in 0..10 {
        visitors.push(visitor(&chains[name % 2], name, &came));
        until(&group, name + 1).await;
    }
    assert_eq!(refused(chains[0].enter(noon(), Instant::now())).account, *group.id());
    drop(held);
    for visitor in visitors {
        assert!(visitor.await.unwrap());
    }
    assert_eq!(*came.lock(), (0..10).collect::<Vec<_>>());
    for account in accounts.all() {
        assert_quiet(&account, noon(), Instant::now());
    }
}

#[tokio::test]
async fn no_more_than_so_many_wait() {
    let (chain, came) = (chain(one_at_once()), Arc::default());
    let held = chain.enter(noon(), Instant::now()).unwrap();
    let mut visitors: Vec<_> = (0..MAX_WAITING).map(|name| visitor(&chain, name, &came)).collect();
    until(chain.key(), MAX_WAITING).await;
    let no = refused(chain.enter_within(LONG, noon(), Instant::now()).await);
    assert_eq!(no.limit, Limit::Concurrent);
    let last = visitors.split_off(1);
    for visitor in &last {
        visitor.abort();
    }
    until(chain.key(), 1).await;
    drop(held);
    for visitor in visitors {
        assert!(visitor.await.unwrap());
    }
    assert_quiet(chain.key(), noon(), Instant::now());
}

#[tokio::test]
async fn who_is_cancelled_when_its_turn_has_come_passes_it_on() {
    let (chain, came) = (chain(one_at_once()), Arc::default());
    let held = chain.enter(noon(), Instant::now()).unwrap();
    let (first, second) = (visitor(&chain, 0, &came), visitor(&chain, 1, &came));
    until(chain.key(), 2).await;
    drop(held);
    first.abort();
    assert!(first.await.is_err());
    assert!(second.await.unwrap());
    assert_eq!(*came.lock(), [1]);
}

#[tokio::test]
async fn nobody_waits_longer_than_it_wants_or_for_nothing() {
    let (one, start) = (chain(one_at_once()), Instant::now());
    let held = one.enter(noon(), start).unwrap();
    let short = Duration::from_millis(20);
    assert_eq!(
        refused(one.enter_within(short, noon(), start).await).limit,
        Limit::Concurrent
    );
    assert!(one.enter_within(Duration::ZERO, noon(), start).await.is_err());
    // Behind another one it never got to ask; it is told what keeps that one out.
    let first = visitor(&one, 0, &Arc::default());
    until(one.key(), 1).await;
    assert_eq!(
        refused(one.enter_within(short, noon(), start).await).limit,
        Limit::Concurrent
    );
    drop(held);
    assert!(first.await.unwrap());
    assert_quiet(one.key(), noon(), start);

    for limits in [
        Limits {
            requests_per_minute: Some(1),
            ..Limits::default()
        },
        budget(Window::Day, Some(1), None, None),
    ] {
        let chain = chain(limits);
        let admission = chain.enter(noon(), start).unwrap();
        admission
            .reserve(costs(0), true, noon(), start)
            .unwrap()
            .settle(spent(1, 0, 0));
        // Would take the whole half minute.
        assert!(chain.enter_within(seconds(30), noon(), start).await.is_err());
    }
}

#[tokio::test]
async fn time_lets_in_too() {
    let start = Instant::now();
    let chain = chain(Limits {
        requests_per_minute: Some(1),
        ..money(Window::Day, 5)
    });
    let admission = chain.enter(noon(), start).unwrap();
    // A twentieth of a second before its minute is over.
    let soon = start + Duration::from_millis(60_950);
    assert!(chain.enter(noon(), soon).is_err());
    assert!(chain.enter_within(seconds(30), noon(), soon).await.is_ok());

    admission
        .reserve(costs(5), true, noon(), start)
        .unwrap()
        .settle(spent(1, 1, 5));
    let evening = at("2026-06-10T23:59:59.950Z");
    assert!(admission.reserve(costs(5), true, evening, start).is_err());
    let tomorrow = admission
        .reserve_within(seconds(30), costs(5), true, evening, start)
        .await;
    assert!(tomorrow.unwrap().at() >= at("2026-06-11T00:00:00Z"));
}

#[tokio::test]
async fn what_is_given_back_goes_to_who_waits() {
    let start = Instant::now();
    let limits = Limits {
        tokens_per_minute: Some(15),
        ..money(Window::Total, 10)
    };
    let chain = team(Limits::default(), limits);
    let admission = Arc::new(chain.enter(noon(), start).unwrap());
    let held = admission.reserve(costs(10), true, noon(), start).unwrap();
    let waiter = tokio::spawn({
        let admission = admission.clone();
        async move { admission.reserve_within(LONG, costs(4), true, noon(), start).await }
    });
    let group = chain.group().unwrap();
    until(group, 1).await;
    held.settle(spent(1, 2, 6));
    waiter.await.unwrap().unwrap().settle(spent(1, 2, 4));
    drop(admission);
    assert_quiet(group, noon(), start);
}

#[tokio::test]
async fn new_limits_let_in_who_waits() {
    let (chain, came) = (chain(one_at_once()), Arc::default());
    let _held = chain.enter(noon(), Instant::now()).unwrap();
    let visitors: Vec<_> = (0..5).map(|name| visitor(&chain, name, &came)).collect();
    until(chain.key(), 5).await;
    chain.key().set_limits(Limits::default());
    for visitor in visitors {
        assert!(visitor.await.unwrap());
    }
    assert_eq!(waiting(chain.key()), 0);
}
