//! The books: right before a start returns, whatever became of the process, its files and the store before.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::tests::{all_rows, copy, open_at, open_store, open_with, run_attempt, segments, settings};
use super::*;
use crate::ids::{GroupId, KeyId};
use crate::limits::{AccountId, Balance, Calendar};
use crate::store::frames::Salt;

type Balances = BTreeMap<AccountId, Balance>;

/// What the accounts say.
fn live(accounts: &Accounts) -> Balances {
    let now = Clock::system().now();
    accounts
        .all()
        .iter()
        .map(|account| (account.id().clone(), account.balance(now)))
        .collect()
}

/// What the rows come to.
fn expected(rows: &[Row], accounts: &Accounts) -> Balances {
    let mut balances = Balances::new();
    let now = Clock::system().now();
    for row in rows {
        let key = AccountId::Key(KeyId(row.opening.key.0.clone()));
        let group = (!row.opening.group.is_empty()).then(|| AccountId::Group(GroupId(row.opening.group.clone())));
        for id in [key].into_iter().chain(group) {
            let limits = accounts.get(&id).limits();
            let balance = balances.entry(id).or_default();
            Calendar::of(&limits).add(balance, row.opening.at, spent(&row.opening, &row.closing));
        }
    }
    // As an account is shown: windows that are over are empty.
    for (id, balance) in &mut balances {
        let account = Accounts::new().get(id);
        account.set_limits(accounts.get(id).limits());
        account.restore(*balance);
        *balance = account.balance(now);
    }
    balances
}

fn books_files(data: &Path) -> [std::path::PathBuf; 2] {
    ["books.tgb", "books.tgb.before"].map(|name| data.join("journal").join(name))
}

#[test]
fn balances_are_right_before_a_start_returns() {
    let data = tempfile::tempdir().unwrap();
    let mut small = settings();
    small.segment = 16 << 10;
    // A first life, whose end leaves a checkpoint, and a second one that is killed.
    let ledger = open_at(data.path(), &small);
    for n in 0..300 {
        run_attempt(&ledger, n);
    }
    ledger.shut_down();
    drop(ledger);
    assert!(
        books_files(data.path()).iter().all(|file| file.exists()),
        "both files are there after a stop"
    );
    let ledger = open_at(data.path(), &small);
    let open: Vec<_> = (300..303).map(|n| ledger.open(samples::opening(n))).collect();
    for n in 303..600 {
        run_attempt(&ledger, n);
    }
    assert_eq!(ledger.status().rows, 597);
    for damage in ["nothing", "no checkpoint", "newest torn", "both torn", "no store"] {
        let killed = tempfile::tempdir().unwrap();
        copy(data.path(), killed.path());
        let [newest, before] = books_files(killed.path());
        match damage {
            "no checkpoint" => [newest, before].iter().for_each(|file| fs::remove_file(file).unwrap()),
            "newest torn" => fs::write(newest, b"TGBOOKS1").unwrap(),
            "both torn" => [newest, before].iter().for_each(|file| fs::write(file, b"x").unwrap()),
            "no store" => fs::remove_dir_all(killed.path().join("store")).unwrap(),
            _ => {}
        }
        for start in 0..3 {
            let accounts = Arc::new(Accounts::new());
            let again = open_with(killed.path(), &small, accounts.clone());
            let found = live(&accounts);
            let rows = all_rows(&again);
            assert_eq!(rows.len(), 600, "{damage}, start {start}");
            assert_eq!(found, expected(&rows, &accounts), "{damage}, start {start}");
            assert_eq!(
                rows.iter().filter(|row| row.ended == Ended::Interrupted).count(),
                open.len(),
                "{damage}, start {start}"
            );
        }
    }
    drop(open);
}

#[test]
fn what_is_booked_while_it_runs_is_what_a_restart_finds() {
    let data = tempfile::tempdir().unwrap();
    let accounts = Arc::new(Accounts::new());
    let ledger = open_with(data.path(), &settings(), accounts.clone());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let ledger = &ledger;
            scope.spawn(move || {
                for n in 0..500 {
                    run_attempt(ledger, thread * 500 + n);
                }
            });
        }
    });
    let while_it_ran = live(&accounts);
    assert_eq!(while_it_ran, expected(&all_rows(&ledger), &accounts));
    drop(ledger);
    let accounts = Arc::new(Accounts::new());
    let _ledger = open_with(data.path(), &settings(), accounts.clone());
    assert_eq!(live(&accounts), while_it_ran);
}

#[test]
fn balances_outlive_the_journals_they_came_from() {
    let data = tempfile::tempdir().unwrap();
    let mut small = settings();
    small.segment = 4 << 10;
    small.archive = 0;
    let mut balances = None;
    for round in 0..4 {
        let accounts = Arc::new(Accounts::new());
        let ledger = open_with(data.path(), &small, accounts.clone());
        if let Some(balances) = balances {
            assert_eq!(live(&accounts), balances, "round {round}");
        }
        for n in 0..200 {
            run_attempt(&ledger, round * 200 + n);
        }
        let rows = all_rows(&ledger);
        assert_eq!(rows.len() as u64, (round + 1) * 200);
        balances = Some(live(&accounts));
        assert_eq!(live(&accounts), expected(&rows, &accounts), "round {round}");
    }
    // Balances and sums are in two files each: a journal goes once both have it.
    for _ in 0..2 {
        open_at(data.path(), &small).shut_down();
    }
    let left = segments(data.path()).len();
    assert!(
        left <= 2,
        "journals are removed once balances and sums have them: {left} left"
    );
}

#[test]
fn a_living_process_is_followed_and_settled_when_it_dies() {
    let old = tempfile::tempdir().unwrap();
    let ledger = open_at(old.path(), &settings());
    for n in 0..10 {
        run_attempt(&ledger, n);
    }
    let open = ledger.open(samples::opening(10));
    ledger.status();
    let new = tempfile::tempdir().unwrap();
    let accounts = Arc::new(Accounts::new());
    let beside = Ledger::start_with(
        &old.path().join("journal"),
        &settings(),
        open_store(new.path()),
        accounts.clone(),
        Clock::system(),
        Arc::new(|error| panic!("{error}")),
    )
    .unwrap();
    let requests = |accounts: &Accounts| live(accounts).values().map(|b| b.0[3].spent.requests).sum::<u64>();
    let closed: Vec<Row> = (0..10).map(samples::row).collect();
    let of = |rows: &[Row]| -> u64 { expected(rows, &accounts).values().map(|b| b.0[3].spent.requests).sum() };
    assert_eq!(
        requests(&accounts),
        of(&closed),
        "what it closed counts; what is open is its own affair"
    );
    drop(open);
    drop(ledger);
    beside.0.keeper.follow_others().unwrap();
    let rows: Vec<Row> = (0..11).map(samples::row).collect();
    assert_eq!(
        requests(&accounts),
        of(&rows),
        "it died: all is booked, in the accounts too"
    );
    beside.0.keeper.follow_others().unwrap();
    assert_eq!(requests(&accounts), of(&rows), "once");
}

#[test]
fn an_attempt_closed_twice_counts_once() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("journal");
    fs::create_dir_all(&folder).unwrap();
    let salt = Salt::new(5);
    let mut file = salt.header().to_vec();
    let row = samples::row(4);
    salt.append(&mut file, |out| form::write_opened(&row.opening, out))
        .unwrap();
    for _ in 0..3 {
        salt.append(&mut file, |out| {
            form::write_closed(&row.opening, &row.closing, row.ended, out)
        })
        .unwrap();
    }
    fs::write(folder.join(format!("{}-00001.tgj", "a".repeat(32))), file).unwrap();
    let accounts = Arc::new(Accounts::new());
    let ledger = open_with(data.path(), &settings(), accounts.clone());
    assert_eq!(all_rows(&ledger), std::slice::from_ref(&row));
    assert_eq!(live(&accounts), expected(&[row], &accounts));
    assert_eq!(ledger.0.keeper.follow(&ledger.0.journal).twice, 2);
}
