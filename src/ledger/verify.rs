//! Do the books add up? Journals, rows, sums and balances are read from their beginning and compared with one another (HARDENING L5):
//!
//! - every record of every journal is read (its checksum says whether it is what was written), and as many as were taken in of it;
//! - every attempt that was closed is one row of the store: none missing, none twice;
//! - the rows of each day come to what the sums by day and by hour say;
//! - the rows of each account come to its balance, window by window, as far back as single rows are kept; further back the sums by
//!   day do;
//! - where nothing moves meanwhile: attempts under way are those which are open in the journal, and the accounts requests are
//!   admitted by hold what the books hold.
//!
//! Memory: 8 bytes for each row and each attempt in the journals, up to [`IDS_MAX`] of each; the rest by day and by account.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::limits::{AccountId, Accounts, Balance, Spent, Window};
use crate::store::Store;
use crate::store::rows::BlockKey;
use crate::store::sums::Period;

use super::books::{self, Books, Kept};
use super::form;
use super::query;
use super::reach::Reach;
use super::reader::{End, Reader, Stop};
use super::report::{Cursor, Filter};
use super::rollup::{self, DAY, Name, Sums};
use super::segment::{self, Boot, Position, Segment};
use super::{Closing, LedgerError};

/// Most ids that are compared one by one: 128 MiB for rows and as much for journals. Beyond it only sums are compared.
const IDS_MAX: usize = 16 << 20;
/// Most differences that are told.
const DIFFERENCES_MAX: usize = 100;

/// What comparing journals, rows, sums and balances found. Told as it is, also by the admin API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Verdict {
    /// Everything adds up.
    pub ok: bool,
    /// Journal files that were read.
    pub files: u64,
    /// Closed attempts in them.
    pub closed: u64,
    /// Attempts which are open.
    pub open: u64,
    /// Rows, in the store or still to be taken in.
    pub rows: u64,
    /// Sums by day that were compared.
    pub sums: u64,
    /// Accounts that were compared.
    pub accounts: u64,
    /// Nothing moved meanwhile, so what is under way was compared too.
    pub quiet: bool,
    /// What does not add up, at most 100 of it.
    pub differences: Vec<String>,
    /// Differences that are not told.
    pub more: u64,
    /// What is known to be missing or set aside, and is no difference.
    #[serde(default)]
    pub notes: Vec<String>,
}

impl Verdict {
    pub(super) fn differs(&mut self, what: String) {
        if self.differences.len() < DIFFERENCES_MAX {
            self.differences.push(what);
        } else {
            self.more += 1;
        }
    }
}

/// What is compared.
pub(super) struct Question<'a> {
    pub(super) folder: &'a Path,
    pub(super) store: &'a Store,
    pub(super) books: &'a Books,
    /// With their limits; `None`: their time zones are unknown, so only what was used in total is compared.
    pub(super) accounts: Option<&'a Accounts>,
    /// The journal which is being written, and up to where rows, books and sums have it.
    pub(super) own: Option<(&'a Boot, Position)>,
}

/// Ids, and how many there are. Of more than [`IDS_MAX`] they are only counted.
#[derive(Default)]
struct Ids {
    known: Vec<u64>,
    count: u64,
}

impl Ids {
    fn add(&mut self, id: crate::ids::AttemptId) {
        self.count += 1;
        if self.known.len() < IDS_MAX {
            // 64 random bits (the rest is its time): enough to tell millions apart.
            self.known.push(id.0.as_u64_pair().1);
        }
    }

    /// In order; `None`: not all of them are known.
    fn sorted(&mut self) -> Option<&[u64]> {
        if self.count > self.known.len() as u64 {
            return None;
        }
        self.known.sort_unstable();
        Some(&self.known)
    }
}

/// What the rows come to.
#[derive(Default)]
struct Walk {
    ids: Ids,
    kept: Kept,
    days: BTreeMap<u32, Sums>,
    /// Journal files with a bad place.
    damaged: Vec<Segment>,
}

/// Compares everything; and the journal files with a bad place.
pub(super) fn check(question: &Question<'_>) -> Result<(Verdict, Vec<Segment>), LedgerError> {
    let mut verdict = Verdict::default();
    let none = Accounts::new();
    let accounts = question.accounts.unwrap_or(&none);
    let mut walk = walk(question, accounts, &mut verdict)?;
    let mut closed = journals(question, accounts, &mut walk, &mut verdict)?;
    verdict.rows = walk.ids.count;
    ids(&mut walk.ids, &mut closed, &mut verdict);
    sums(question, &walk, &mut verdict)?;
    balances(question, &walk, &mut verdict)?;
    verdict.notes = Reach::of(question.folder, question.store)?.notes(question.folder);
    verdict.ok = verdict.differences.is_empty();
    Ok((verdict, walk.damaged))
}

/// The first row that is not in the sums.
fn rolled_to(store: &Store) -> Result<Cursor, LedgerError> {
    let rolled = store.rows().rolled()?.unwrap_or_default();
    Ok(Cursor {
        block: rolled.block,
        row: rolled.rows,
    })
}

fn walk(question: &Question<'_>, accounts: &Accounts, verdict: &mut Verdict) -> Result<Walk, LedgerError> {
    let store = question.store;
    let rolled = rolled_to(store)?;
    let mut walk = Walk::default();
    query::scan(store, &Filter::default(), BlockKey(0), |place, row| {
        walk.ids.add(row.opening.id);
        walk.kept.add_row(&row, accounts);
        if place < rolled {
            let day = rollup::number(row.opening.at.0, DAY);
            walk.days.entry(day).or_default().add_row(&row);
        }
        Ok(true)
    })?;
    let total = store.rows().total()?;
    if total != walk.ids.count {
        verdict.differs(format!(
            "the store says it has {total} rows; {} can be read",
            walk.ids.count
        ));
    }
    Ok(walk)
}

/// Reads all journals; the ids of what must be a row. Rows which are not in the store yet are added to the walk.
fn journals(
    question: &Question<'_>,
    accounts: &Accounts,
    walk: &mut Walk,
    verdict: &mut Verdict,
) -> Result<Ids, LedgerError> {
    let removed_before = question.store.rows().removed_before()?;
    let mut closed = Ids::default();
    for (boot, segments) in segment::list(question.folder)? {
        verdict.files += segments.len() as u64;
        let is_own = question.own.is_some_and(|(own, _)| *own == boot);
        let end = match question.own {
            Some((_, end)) if is_own => End::At(end),
            // Another process that lives: as far as it is booked.
            Some(_) => question.books.place_of(&boot).map_or(End::Dead, End::At),
            // Where no gateway runs, all are dead.
            None => End::Dead,
        };
        let applied = question.store.rows().applied(&boot)?;
        let (finished, applied_to) = applied.map_or((false, Position::default()), |applied| {
            let at = Position {
                segment: applied.segment,
                offset: applied.offset,
            };
            (applied.finished, at)
        });
        if !is_own && !finished && question.own.is_some() && matches!(end, End::Dead) {
            continue; // it came to be a moment ago
        }
        let mut reader = Reader::new(boot.clone(), None);
        if let Some(applied) = applied.filter(|_| !is_own) {
            reader = reader.reached(&applied);
        }
        loop {
            let read = reader.read_places(&segments, end, |payload, head, at| {
                verdict.closed += 1;
                if head.at.0 >= removed_before {
                    closed.add(head.id);
                }
                if !finished
                    && !is_own
                    && at >= applied_to
                    && let Some(row) = form::read_closed(payload)
                {
                    walk.ids.add(head.id);
                    walk.kept.add_row(&row, accounts);
                }
                true
            });
            let stop = match read {
                Err(error @ LedgerError::Newer { .. }) => {
                    verdict.differs(error.to_string());
                    break;
                }
                read => read?,
            };
            match stop {
                Stop::End => break,
                Stop::Paused => {}
                Stop::Damaged(segment, error) => {
                    walk.damaged.push(segment);
                    verdict.differs(format!(
                        "{error}; `tollgate ledger repair` takes over what can be read behind it"
                    ));
                }
            }
        }
        if reader.duplicates > 0 {
            verdict.differs(format!(
                "{} attempts were closed twice in the journal {boot}; the first row counts",
                reader.duplicates
            ));
        }
        if is_own {
            verdict.open = reader.open().len() as u64;
            continue;
        }
        if matches!(end, End::At(_)) {
            continue; // what is open there is under way
        }
        for opening in reader.left_open(&segments)? {
            if opening.at.0 >= removed_before {
                closed.add(opening.id);
            }
            if !finished {
                walk.ids.add(opening.id);
                let spent = super::spent(&opening, &Closing::unknown(&opening));
                walk.kept
                    .add(&opening.key.0, &opening.group, opening.at, spent, accounts);
            }
        }
    }
    Ok(closed)
}

fn ids(rows: &mut Ids, closed: &mut Ids, verdict: &mut Verdict) {
    let (Some(rows), Some(closed)) = (rows.sorted(), closed.sorted()) else {
        return;
    };
    for (what, ids) in [("rows", rows), ("attempts in the journals", closed)] {
        let twice = ids.windows(2).filter(|pair| pair[0] == pair[1]).count();
        if twice > 0 {
            verdict.differs(format!("{twice} {what} are there twice"));
        }
    }
    let missing = closed.iter().filter(|id| rows.binary_search(id).is_err()).count();
    if missing > 0 {
        verdict.differs(format!("{missing} attempts which stand in the journals are no rows"));
    }
}

fn sums(question: &Question<'_>, walk: &Walk, verdict: &mut Verdict) -> Result<(), LedgerError> {
    let rows = question.store.rows();
    let mut by_day: BTreeMap<u32, Sums> = BTreeMap::new();
    for sum in rows.sums(Period::Day(0), Period::Day(u32::MAX)) {
        let (period, _, bytes) = sum?;
        if let Period::Day(day) = period {
            verdict.sums += 1;
            by_day.entry(day).or_default().add(&rollup::decode(&bytes)?);
        }
    }
    let mut by_hour: BTreeMap<u32, Sums> = BTreeMap::new();
    for sum in rows.sums(Period::Hour(0), Period::Hour(u32::MAX)) {
        let (period, _, bytes) = sum?;
        if let Period::Hour(hour) = period {
            by_hour.entry(hour / 24).or_default().add(&rollup::decode(&bytes)?);
        }
    }
    // Of a day in which rows were removed, or did not come back, there may be fewer rows.
    let since = rows.removed_before()?;
    let first_whole = rollup::number(since, DAY) + u32::from(since > 0);
    let days: std::collections::BTreeSet<u32> = by_day
        .keys()
        .chain(by_hour.keys())
        .chain(walk.days.keys())
        .copied()
        .collect();
    for day in days {
        let of = |sums: &BTreeMap<u32, Sums>| sums.get(&day).copied().unwrap_or_default();
        let (days, hours, rows) = (of(&by_day), of(&by_hour), of(&walk.days));
        let name = || query::day_name(day);
        if days != hours {
            verdict.differs(format!(
                "{}: the sums by hour come to {}, those by day to {}",
                name(),
                told(&hours),
                told(&days)
            ));
        }
        if day >= first_whole && days != rows {
            verdict.differs(format!(
                "{}: the rows come to {}, the sums to {}",
                name(),
                told(&rows),
                told(&days)
            ));
        }
    }
    Ok(())
}

fn told(sums: &Sums) -> String {
    let Spent { tokens, charge, .. } = sums.spent();
    format!("{} attempts, {tokens} tokens, {charge} dollars", sums.attempts)
}

fn balances(question: &Question<'_>, walk: &Walk, verdict: &mut Verdict) -> Result<(), LedgerError> {
    let rows = question.store.rows();
    let removed_before = rows.removed_before()?;
    let booked: BTreeMap<AccountId, Balance> = question.books.balances().collect();
    let of_rows: BTreeMap<AccountId, Balance> = walk.kept.all().collect();
    let ever = if removed_before > 0 {
        totals(question.store)?
    } else {
        BTreeMap::new()
    };
    let all: std::collections::BTreeSet<&AccountId> = booked.keys().chain(of_rows.keys()).collect();
    for id in all {
        verdict.accounts += 1;
        let booked = booked.get(id).copied().unwrap_or_default();
        let of_rows = of_rows.get(id).copied().unwrap_or_default();
        for ((window, booked), summed) in Window::ALL.into_iter().zip(booked.0).zip(of_rows.0) {
            let (spent, of) = match window {
                Window::Total if removed_before > 0 => (ever.get(id).copied().unwrap_or_default(), "sums"),
                Window::Total => (summed.spent, "rows"),
                _ if question.accounts.is_none() || booked.from.0 < removed_before => continue,
                _ => (summed.spent, "rows"),
            };
            if spent != booked.spent {
                verdict.differs(format!(
                    "{id}, {}: the {of} come to {}, the books to {}",
                    window.as_str(),
                    told_spent(&spent),
                    told_spent(&booked.spent)
                ));
            }
        }
    }
    Ok(())
}

pub(super) fn told_spent(spent: &Spent) -> String {
    format!(
        "{} requests, {} tokens, {} dollars",
        spent.requests, spent.tokens, spent.charge
    )
}

/// What each account used in total, by the sums.
fn totals(store: &Store) -> Result<BTreeMap<AccountId, Spent>, LedgerError> {
    let mut totals: BTreeMap<AccountId, Spent> = BTreeMap::new();
    for sum in store.rows().sums(Period::Day(0), Period::Day(u32::MAX)) {
        let (_, name, bytes) = sum?;
        let (name, sums) = (Name::read(&name)?, rollup::decode(&bytes)?);
        for id in books::accounts_of(name.key, name.group) {
            *totals.entry(id).or_default() += sums.spent();
        }
    }
    Ok(totals)
}

/// Accounts whose rows, with all that is still to be taken in, do not come to their balance: what each used in total. Of a folder of
/// which no gateway is running.
pub(super) fn differing_totals(folder: &Path, store: &Store) -> Result<Vec<String>, LedgerError> {
    let none = Accounts::new();
    let books = Books::look(folder.to_owned(), std::sync::Arc::default())?;
    let mut rest = Walk::default();
    let question = Question {
        folder,
        store,
        books: &books,
        accounts: None,
        own: None,
    };
    journals(&question, &none, &mut rest, &mut Verdict::default())?;
    let rolled = rolled_to(store)?;
    query::scan(store, &Filter::default(), BlockKey(rolled.block), |place, row| {
        if place >= rolled {
            rest.kept.add_row(&row, &none);
        }
        Ok(true)
    })?;
    let mut totals = totals(store)?;
    for (id, balance) in rest.kept.all() {
        *totals.entry(id).or_default() += balance.used(Window::Total).spent;
    }
    let booked: BTreeMap<AccountId, Spent> = books
        .balances()
        .map(|(id, of)| (id, of.used(Window::Total).spent))
        .collect();
    let all: std::collections::BTreeSet<&AccountId> = booked.keys().chain(totals.keys()).collect();
    let differs = |id: &AccountId| {
        let booked = booked.get(id).copied().unwrap_or_default();
        let rows = totals.get(id).copied().unwrap_or_default();
        let told = || {
            format!(
                "{id}: the rows come to {}, its balance to {}",
                told_spent(&rows),
                told_spent(&booked)
            )
        };
        (booked != rows).then(told)
    };
    Ok(all.into_iter().filter_map(differs).collect())
}

/// Verifies a data folder of which no gateway is running. Nothing that is compared is changed: journals are not taken in, a broken
/// store is not moved, nothing is filled again. The store is opened for it, though, which takes its lock, may write what sled and
/// the file of facts owe themselves after a crash, and makes the lock file if there is none.
pub fn verify_folder(data: &Path) -> Result<Verdict, LedgerError> {
    let store = Store::look(&data.join("store"))?;
    let folder = data.join("journal");
    let accounts = std::sync::Arc::new(Accounts::new());
    let books = Books::look(folder.clone(), accounts)?;
    let (verdict, _) = check(&Question {
        folder: &folder,
        store: &store,
        books: &books,
        accounts: None,
        own: None,
    })?;
    Ok(verdict)
}
