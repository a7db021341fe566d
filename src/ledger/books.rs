//! The books: the balance of every account, kept from the journals alone, in their order.
//!
//! At a start they are found from the newest checkpoint ([`super::checkpoint`]) and the journals behind it, and put into the
//! accounts, before the first request. Afterwards a thread of its own ([`super::bookkeeper`]) follows the journal and writes
//! checkpoints. Nothing here knows the store: books are right, and the gateway serves, whatever became of it.
//!
//! A balance does not depend on the order of rows ([`Calendar::add`]), so the books and the accounts, in which attempts settle in
//! another order, come to the same.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use crate::clock::UnixMicros;
use crate::ids::{GroupId, KeyId};
use crate::limits::{AccountId, Accounts, Balance, Calendar, Spent};

use super::checkpoint::{Checkpoint, Files, Mark};
use super::form::{self, RowRef};
use super::reader::{End, Reader, Stop};
use super::segment::{self, Boot, Position, Segment, State};
use super::{Closing, LedgerError, spent};

/// The balances, and how far in each journal they go.
pub(super) struct Books {
    folder: PathBuf,
    own: Boot,
    accounts: Arc<Accounts>,
    kept: Kept,
    boots: BTreeMap<Boot, Followed>,
    /// Something is in them which no checkpoint holds.
    pub(super) changed: bool,
    /// Rows of attempts that were closed before: left out.
    pub(super) twice: u64,
    /// How many of these the metric has.
    pub(super) told_twice: u64,
    /// Rows added since they were opened.
    pub(super) rows: u64,
}

/// How far one journal was followed.
enum Followed {
    /// To its end: nothing more will come.
    Finished,
    To(Box<Reader>),
}

impl Books {
    /// The books as `checkpoint` has them.
    pub(super) fn new(folder: PathBuf, own: Boot, accounts: Arc<Accounts>, checkpoint: Checkpoint) -> Self {
        let mut kept = Kept::default();
        for (id, balance) in checkpoint.accounts {
            kept.entry(&id, &accounts).balance = balance;
        }
        let follow = |mark: Mark| {
            if mark.finished {
                return (mark.boot, Followed::Finished);
            }
            let at = mark.position();
            let open = mark
                .open
                .into_iter()
                .map(|(id, segment, offset)| (id, Position { segment, offset }))
                .collect();
            (
                mark.boot.clone(),
                Followed::To(Box::new(Reader::resume(mark.boot, at, open))),
            )
        };
        Books {
            boots: checkpoint.marks.into_iter().map(follow).collect(),
            folder,
            own,
            accounts,
            kept,
            changed: false,
            twice: 0,
            told_twice: 0,
            rows: 0,
        }
    }

    /// The books of a folder of which no process is alive. Nothing is written.
    pub(super) fn look(folder: PathBuf, accounts: Arc<Accounts>) -> Result<Self, LedgerError> {
        let checkpoint = Files::new(&folder).load()?.unwrap_or_default();
        let mut books = Books::new(folder, Boot::new(), accounts, checkpoint);
        for (boot, segments) in segment::list(&books.folder)? {
            books.refuse_repaired(&boot, &segments)?;
            if let Some(mut reader) = books.reader(&boot) {
                books.follow_other(&mut reader, &segments, true, false)?;
            }
        }
        Ok(books)
    }

    /// A place in a journal is of no use once files of it were repaired.
    fn refuse_repaired(&self, boot: &Boot, segments: &BTreeMap<u32, Segment>) -> Result<(), LedgerError> {
        match self.boots.get(boot) {
            Some(Followed::To(reader)) if reader.at != Position::default() => {
                let from = Files::new(&self.folder).newest();
                segment::refuse_repaired(&self.folder, &from, "balances", segments)
            }
            _ => Ok(()),
        }
    }

    /// The reader of a journal that is not finished.
    fn reader(&mut self, boot: &Boot) -> Option<Reader> {
        match self.boots.remove(boot) {
            Some(Followed::To(reader)) => Some(*reader),
            Some(Followed::Finished) => {
                self.boots.insert(boot.clone(), Followed::Finished);
                None
            }
            None => Some(Reader::new(boot.clone(), None)),
        }
    }

    /// Puts the balances into the accounts.
    pub(super) fn restore(&self) {
        for (id, balance) in self.kept.all() {
            self.accounts.get(&id).restore(balance);
        }
    }

    /// Reads the own journal up to `end`, which must be synced: what a power cut could take back is not booked.
    pub(super) fn follow(&mut self, end: Position) -> Result<(), LedgerError> {
        let own = self.own.clone();
        let Some(mut reader) = self.reader(&own) else {
            return Ok(()); // a living process's journal is not finished
        };
        let result = if reader.at == end {
            Ok(())
        } else {
            self.changed = true;
            self.kept.look_again();
            segment::list(&self.folder).and_then(|mut boots| {
                let segments = boots.remove(&self.own).unwrap_or_default();
                self.read(&mut reader, &segments, End::At(end), false)
            })
        };
        self.boots.insert(self.own.clone(), Followed::To(Box::new(reader)));
        result
    }

    /// Takes in what other processes wrote: all of it, and what they left open, if they are dead; what is there now if they live.
    /// `live`: the accounts are in use, and get each row too.
    ///
    /// One that can't be read keeps none of the others from being read; the first error is told.
    pub(super) fn follow_others(&mut self, live: bool) -> Result<(), LedgerError> {
        over_renames(|| self.follow_each(live))
    }

    fn follow_each(&mut self, live: bool) -> Result<(), LedgerError> {
        let all = segment::list(&self.folder)?;
        self.boots.retain(|boot, _| *boot == self.own || all.contains_key(boot));
        self.kept.look_again();
        let mut result = Ok(());
        for (boot, segments) in &all {
            if *boot == self.own {
                continue;
            }
            let followed = self.follow_one(boot, segments, live);
            result = result.and(followed);
        }
        result
    }

    fn follow_one(&mut self, boot: &Boot, segments: &BTreeMap<u32, Segment>, live: bool) -> Result<(), LedgerError> {
        if matches!(self.boots.get(boot), Some(Followed::Finished)) {
            return Ok(());
        }
        self.refuse_repaired(boot, segments)?;
        let dead = segment::dead(&self.folder, boot)?;
        let Some(mut reader) = self.reader(boot) else {
            return Ok(());
        };
        let before = reader.at;
        let result = self.follow_other(&mut reader, segments, dead.is_some(), live);
        self.changed |= dead.is_some() || reader.at != before;
        let followed = match (&result, &dead) {
            (Ok(()), Some(_)) => Followed::Finished,
            _ => Followed::To(Box::new(reader)),
        };
        self.boots.insert(boot.clone(), followed);
        result?;
        self.let_go(boot, segments, dead);
        Ok(())
    }

    /// Is nothing more to come from this journal? One that is not there any more was finished.
    pub(super) fn has_all_of(&self, boot: &str) -> bool {
        !matches!(self.boots.get(boot), Some(Followed::To(_)))
    }

    /// Up to where the journal of another living process is booked.
    pub(super) fn place_of(&self, boot: &str) -> Option<Position> {
        match self.boots.get(boot) {
            Some(Followed::To(reader)) => Some(reader.at),
            _ => None,
        }
    }

    /// Syncs the files of others up to where they are booked. Those before the last are synced when they are full.
    pub(super) fn sync_others(&self) -> Result<(), LedgerError> {
        for (boot, followed) in self.boots.iter().filter(|(boot, _)| **boot != self.own) {
            let Followed::To(reader) = followed else { continue };
            let path = segment::segment_path(&self.folder, boot, reader.at.segment);
            match File::open(&path).and_then(|file| file.sync_data()) {
                // Under another name it is taken in, and so was synced before.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                synced => synced.map_err(segment::io_error(&path))?,
            }
        }
        Ok(())
    }

    fn follow_other(
        &mut self,
        reader: &mut Reader,
        segments: &BTreeMap<u32, Segment>,
        dead: bool,
        live: bool,
    ) -> Result<(), LedgerError> {
        self.read(reader, segments, if dead { End::Dead } else { End::Alive }, live)?;
        if dead {
            // As the ingest enters them.
            for opening in reader.left_open(segments)? {
                let unknown = spent(&opening, &Closing::unknown(&opening));
                self.book(&opening.key.0, &opening.group, opening.at, unknown, live);
            }
        }
        Ok(())
    }

    /// A lock file that only asking made is removed again.
    fn let_go(&self, boot: &str, segments: &BTreeMap<u32, Segment>, dead: Option<File>) {
        if dead.is_some() && segments.values().all(|segment| segment.state != State::Fresh) {
            segment::remove_lock(&self.folder, boot);
        }
    }

    fn read(
        &mut self,
        reader: &mut Reader,
        segments: &BTreeMap<u32, Segment>,
        end: End,
        live: bool,
    ) -> Result<(), LedgerError> {
        let twice = reader.duplicates;
        let result = loop {
            let stop = reader.read(segments, end, |payload, _| {
                match form::read_closed(payload) {
                    Some(row) => self.add(&row, live),
                    None => tracing::error!("a row of the journal is unreadable: was it written by a newer program?"),
                }
                true
            });
            match stop {
                Ok(Stop::End) => break Ok(()),
                // The ingest tells of it.
                Ok(Stop::Damaged(..) | Stop::Paused) => {}
                Err(e) => break Err(e),
            }
        };
        self.twice += reader.duplicates - twice;
        result
    }

    fn add(&mut self, row: &RowRef<'_>, live: bool) {
        let opening = &row.opening;
        self.book(opening.key, opening.group, opening.at, row.spent(), live);
    }

    fn book(&mut self, key: &str, group: &str, at: UnixMicros, spent: Spent, live: bool) {
        self.rows += 1;
        self.kept.add(key, group, at, spent, &self.accounts);
        if live {
            book(&self.accounts, key, group, at, spent);
        }
    }

    /// What a checkpoint holds.
    pub(super) fn checkpoint(&self, at: UnixMicros) -> Checkpoint {
        let mark = |(boot, followed): (&Boot, &Followed)| match followed {
            Followed::Finished => Mark {
                boot: boot.clone(),
                segment: 0,
                offset: 0,
                finished: true,
                open: Vec::new(),
            },
            Followed::To(reader) => Mark {
                boot: boot.clone(),
                segment: reader.at.segment,
                offset: reader.at.offset,
                finished: false,
                open: reader
                    .open()
                    .iter()
                    .map(|(id, at)| (*id, at.segment, at.offset))
                    .collect(),
            },
        };
        Checkpoint {
            at,
            accounts: self.kept.all().collect(),
            marks: self.boots.iter().map(mark).collect(),
        }
    }

    /// Every account's balance.
    pub(super) fn balances(&self) -> impl Iterator<Item = (AccountId, Balance)> + '_ {
        self.kept.all()
    }

    /// Up to where the own journal is booked, and how many attempts are open there.
    pub(super) fn own_place(&self) -> (Position, u64) {
        match self.boots.get(&self.own) {
            Some(Followed::To(reader)) => (reader.at, reader.open().len() as u64),
            _ => (Position::default(), 0),
        }
    }
}

/// Reads once more where a segment was renamed between being listed and being opened: then it is there under its new name.
pub(super) fn over_renames(mut read: impl FnMut() -> Result<(), LedgerError>) -> Result<(), LedgerError> {
    /// Further readings; each may meet another renaming.
    const AGAIN: u32 = 2;
    let mut result = read();
    for _ in 0..AGAIN {
        match &result {
            Err(LedgerError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => result = read(),
            _ => break,
        }
    }
    result
}

/// The accounts of a row.
pub(super) fn accounts_of(key: &str, group: &str) -> impl Iterator<Item = AccountId> {
    let group = (!group.is_empty()).then(|| group_account(group));
    std::iter::once(key_account(key)).chain(group)
}

/// Adds a row to the accounts themselves.
pub(super) fn book(accounts: &Accounts, key: &str, group: &str, at: UnixMicros, spent: Spent) {
    for id in accounts_of(key, group) {
        accounts.get(&id).book(at, spent);
    }
}

fn key_account(key: &str) -> AccountId {
    AccountId::Key(KeyId(key.into()))
}

fn group_account(group: &str) -> AccountId {
    AccountId::Group(GroupId(group.into()))
}

/// Balances by account. Grows with keys and groups, of which there are few to rows.
#[derive(Default)]
pub(super) struct Kept {
    keys: Table,
    groups: Table,
    /// Which reading this is: limits are asked for once in each.
    reading: u64,
}

#[derive(Default)]
struct Table {
    places: HashMap<Box<str>, usize>,
    entries: Vec<Entry>,
}

struct Entry {
    id: AccountId,
    balance: Balance,
    /// As the limits named it when `calendar` was made.
    zone: Option<String>,
    /// Kept from row to row: to ask a time zone anew costs more than all else that is done for a row.
    calendar: Calendar,
    reading: u64,
}

impl Kept {
    /// Limits (the time zone is in them) may be others by now.
    pub(super) fn look_again(&mut self) {
        self.reading += 1;
    }

    /// Adds one row to the accounts of its key and its group.
    pub(super) fn add_row(&mut self, row: &RowRef<'_>, accounts: &Accounts) {
        let opening = &row.opening;
        self.add(opening.key, opening.group, opening.at, row.spent(), accounts);
    }

    /// The same, of the fields that count.
    pub(super) fn add(&mut self, key: &str, group: &str, at: UnixMicros, spent: Spent, accounts: &Accounts) {
        let reading = self.reading;
        let add = |entry: &mut Entry| entry.calendar.add(&mut entry.balance, at, spent);
        add(self.keys.entry(key, reading, accounts, key_account));
        if !group.is_empty() {
            add(self.groups.entry(group, reading, accounts, group_account));
        }
    }

    fn entry(&mut self, id: &AccountId, accounts: &Accounts) -> &mut Entry {
        match id {
            AccountId::Key(KeyId(key)) => self.keys.entry(key, self.reading, accounts, key_account),
            AccountId::Group(GroupId(group)) => self.groups.entry(group, self.reading, accounts, group_account),
        }
    }

    /// In no order.
    pub(super) fn all(&self) -> impl Iterator<Item = (AccountId, Balance)> + '_ {
        let entries = self.keys.entries.iter().chain(&self.groups.entries);
        entries.map(|entry| (entry.id.clone(), entry.balance))
    }
}

impl Table {
    fn entry(&mut self, id: &str, reading: u64, accounts: &Accounts, account: fn(&str) -> AccountId) -> &mut Entry {
        let at = match self.places.get(id) {
            Some(&at) => at,
            None => {
                let at = self.entries.len();
                let account = account(id);
                self.places.insert(id.into(), at);
                let limits = accounts.get(&account).limits();
                self.entries.push(Entry {
                    calendar: Calendar::of(&limits),
                    zone: limits.time_zone,
                    id: account,
                    balance: Balance::default(),
                    reading,
                });
                at
            }
        };
        let entry = &mut self.entries[at];
        if entry.reading != reading {
            let limits = accounts.get(&entry.id).limits();
            if limits.time_zone != entry.zone {
                entry.calendar = Calendar::of(&limits);
                entry.zone = limits.time_zone;
            }
            entry.reading = reading;
        }
        entry
    }
}
