use std::time::{Duration, Instant};

use crate::alerts::Finding;
use crate::alerts::board::{Board, MAX_STANDING};
use crate::alerts::words::{Kind, Message};
use crate::clock::UnixMicros;
use crate::config::Secret;
use crate::config::alerts::{Alerts, Condition, Severity};
use crate::observe::redact::Masker;

const START: i64 = 1_769_860_800_000_000;

/// A board, and a clock that is turned by hand.
struct Told {
    board: Board,
    began: Instant,
    now: u64,
}

impl Told {
    fn new(hold: u64, clear_after: u64, remind: Option<u64>) -> Self {
        let settings = Alerts {
            hold: Duration::from_secs(hold),
            clear_after: Duration::from_secs(clear_after),
            remind: remind.map(Duration::from_secs),
            ..Alerts::default()
        };
        Told {
            board: Board::new(&settings),
            began: Instant::now(),
            now: 0,
        }
    }

    /// So many seconds after the beginning, with what holds then: what is told.
    fn at(&mut self, second: u64, found: &[Finding]) -> Vec<Message> {
        assert!(second >= self.now, "the clock goes forward");
        self.now = second;
        let at = UnixMicros(START + second as i64 * 1_000_000);
        self.board
            .turn(found.to_vec(), self.began + Duration::from_secs(second), at)
    }

    /// Only the kinds.
    fn kinds(&mut self, second: u64, found: &[Finding]) -> Vec<Kind> {
        self.at(second, found).iter().map(|message| message.kind).collect()
    }
}

fn dead(name: &str) -> Finding {
    Finding {
        condition: Condition::CredentialDead,
        subject: name.to_owned(),
        instance: 0,
        severity: Severity::Warning,
        level: 0,
        what: format!("{name} is dead."),
        help: String::new(),
    }
}

#[test]
fn one_message_when_it_begins_and_one_when_it_ends() {
    let mut told = Told::new(30, 120, None);
    let found = [dead("a")];
    for second in (0..30).step_by(2) {
        assert_eq!(told.kinds(second, &found), [], "it must hold first");
    }
    let raised = told.at(30, &found);
    assert_eq!(raised.len(), 1);
    assert_eq!((raised[0].kind, &*raised[0].what), (Kind::Raised, "a is dead."));
    assert_eq!(raised[0].since, UnixMicros(START), "since it was first seen");
    for second in (32..600).step_by(2) {
        assert_eq!(told.kinds(second, &found), [], "told once");
    }
    assert_eq!(told.board.active().len(), 1);
    for second in (600..720).step_by(2) {
        assert_eq!(told.kinds(second, &[]), [], "it must be gone for a while first");
    }
    assert_eq!(told.board.active().len(), 1, "until then it stands");
    let recovered = told.at(720, &[]);
    assert_eq!(recovered.len(), 1);
    assert_eq!(recovered[0].kind, Kind::Recovered);
    assert_eq!(recovered[0].since, UnixMicros(START));
    assert_ne!(recovered[0].id, raised[0].id);
    assert_eq!((told.kinds(722, &[]), told.board.active().len()), (vec![], 0));
    assert_eq!(told.kinds(800, &found), [], "and from the beginning again");
    assert_eq!(told.kinds(830, &found), [Kind::Raised]);
}

#[test]
fn what_flaps_is_not_told_each_time() {
    let mut told = Told::new(30, 120, None);
    let found = [dead("a")];
    // On and off, never for long enough: nothing.
    for second in 0..100 {
        let holds: &[Finding] = if second % 20 < 10 { &found } else { &[] };
        assert_eq!(told.kinds(second, holds), []);
    }
    for second in 100..131 {
        let expected: &[Kind] = if second == 130 { &[Kind::Raised] } else { &[] };
        assert_eq!(told.kinds(second, &found), expected);
    }
    // Off for less than it must be gone: it goes on standing, and is not told again.
    for second in 131..1000 {
        let holds: &[Finding] = if second % 100 < 5 { &found } else { &[] };
        assert_eq!(told.kinds(second, holds), [], "{second}");
    }
}

#[test]
fn each_subject_is_told_for_itself() {
    let mut told = Told::new(0, 0, None);
    let both = told.at(0, &[dead("a"), dead("b")]);
    assert_eq!(both.iter().map(|one| &*one.subject).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(told.board.count(Condition::CredentialDead), 2);
    let one = told.at(1, &[dead("b")]);
    assert_eq!((one.len(), one[0].kind, &*one[0].subject), (1, Kind::Recovered, "a"));
    assert_eq!(told.board.count(Condition::CredentialDead), 1);
    assert_eq!(told.board.count(Condition::Ledger), 0);
}

#[test]
fn what_goes_further_is_told_again_and_each_window_anew() {
    let budget = |level, instance| Finding {
        condition: Condition::Budget,
        level,
        instance,
        ..dead("key k day money")
    };
    let mut told = Told::new(0, 10, None);
    assert_eq!(told.kinds(0, &[budget(80, 1)]), [Kind::Raised]);
    assert_eq!(told.kinds(1, &[budget(80, 1)]), []);
    assert_eq!(told.kinds(2, &[budget(100, 1)]), [Kind::Raised]);
    assert_eq!(told.kinds(3, &[budget(80, 1)]), [], "raised budgets are no news");
    assert_eq!(told.kinds(4, &[budget(100, 1)]), [], "once a window");
    assert_eq!(
        told.kinds(5, &[budget(80, 2)]),
        [Kind::Raised],
        "a new window, used up at once"
    );
    assert_eq!(told.kinds(15, &[budget(80, 2)]), [Kind::Recovered], "the one before");
}

#[test]
fn reminders_come_only_if_wanted_and_as_often() {
    let found = [dead("a")];
    let mut never = Told::new(0, 10, None);
    assert_eq!(never.kinds(0, &found), [Kind::Raised]);
    assert_eq!(never.kinds(1_000_000, &found), []);
    let mut told = Told::new(0, 10, Some(3600));
    assert_eq!(told.kinds(0, &found), [Kind::Raised]);
    assert_eq!(told.kinds(3599, &found), []);
    assert_eq!(told.kinds(3600, &found), [Kind::Reminder]);
    assert_eq!(told.kinds(3602, &found), []);
    assert_eq!(told.kinds(7199, &[]), [], "gone: nothing is to be reminded of");
    assert_eq!(told.kinds(7205, &found), [Kind::Reminder]);
}

#[test]
fn what_is_told_is_masked_short_and_on_one_line() {
    let masker = Masker::new(&[Secret::new("sk-canary-0001")]);
    let finding = Finding {
        what: format!("sk-canary-0001\n{}", "x".repeat(5000)),
        ..dead("a sk-canary-0001")
    };
    let clean = finding.clean(&masker);
    assert_eq!(clean.subject, "a ***");
    assert!(
        clean.what.starts_with("***\\nxxx") && clean.what.len() <= 1024,
        "{}",
        clean.what
    );
}

#[test]
fn what_is_kept_is_bounded_and_what_is_beyond_is_told_when_there_is_room() {
    let mut told = Told::new(0, 0, None);
    let all: Vec<Finding> = (0..MAX_STANDING + 10).map(|n| dead(&format!("{n:05}"))).collect();
    assert_eq!(told.at(0, &all).len(), MAX_STANDING);
    assert_eq!((told.board.active().len(), told.board.beyond()), (MAX_STANDING, 10));
    let next = told.kinds(1, &all[10..]);
    assert_eq!(next.iter().filter(|kind| **kind == Kind::Recovered).count(), 10);
    assert_eq!(next.iter().filter(|kind| **kind == Kind::Raised).count(), 10);
    assert_eq!(told.board.beyond(), 0);
}
