//! Repairs damaged journal files, where no gateway runs: what can still be read and is in no book is taken over.
//!
//! Reading stops at a damaged place, and goes on with the journal's next file; the file is kept as `.damaged`. Here each good record
//! of it is read, also those behind the damage ([`super::salvage`]), and goes by what the store has of its attempt:
//!
//! - its very row: it stays in the file (which becomes `.repaired`, without what is bad), so that a store which is filled again
//!   finds it;
//! - another row (it was entered as interrupted, since its end could not be read): that one counts, as it is in balances and
//!   reports; the end is left out and counted;
//! - none, and it began when all rows were still kept: it is taken over, into a journal of its own, which the next start takes in
//!   as it does any dead process's. An attempt whose end is nowhere is interrupted then;
//! - none, and it is older: nobody can say whether it was in the books. It stays in the file.
//!
//! And where only the store still has a row, its record being bad, it is written into the file again.
//!
//! So no attempt is in two journals, and saying it twice takes nothing over twice. First it is made sure that balances and sums on disk
//! have the whole journal ([`settled`]), and that rows and balances come to the same: else nobody can say what is charged already, and
//! nothing is repaired. Then the journal of what is taken over is made, whole or not at all; then each file is replaced. Killed in
//! between, the next repair goes on. The files as they were found are moved to `damaged/`, with a line in `damaged/repairs.jsonl` of
//! each repair.

mod judge;
mod replace;
mod settled;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::ids::AttemptId;
use crate::store::Store;

use super::LedgerError;
use super::query;
use super::segment::{self, io_error};
use judge::{Attempt, Fate, There, find, judge, left_open};
use replace::{move_superseded, replace, take_over};
use settled::{leave_out_unclear, leave_out_unsettled, write_sums};

/// What a repair did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// When, RFC 3339.
    pub at: String,
    /// Nothing was changed.
    pub dry_run: bool,
    /// Damaged files.
    pub files: Vec<RepairedFile>,
    /// Rows that were in no book. They are at the next start of the gateway.
    pub taken_over: u64,
    /// Attempts that were in no book, and whose end can't be read: interrupted at the next start.
    pub interrupted: u64,
    /// Rows which were in the books already.
    pub in_the_books: u64,
    /// Rows whose record can't be read, written anew from the store.
    pub from_the_store: u64,
    /// Attempts that were entered as interrupted before their end could be read: so they stay.
    pub settled_otherwise: u64,
    /// Rows from before single rows are kept, of which nobody can say whether they were in the books: not taken over.
    pub too_old: u64,
    /// The journal of what was taken over.
    pub journal: Option<PathBuf>,
    /// Files that could not be repaired, and why.
    pub not_done: Vec<String>,
}

/// One damaged file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairedFile {
    /// Its name in the journal's folder.
    pub file: String,
    /// Good records in it.
    pub records: u64,
    /// Bytes which are part of none.
    pub bad_bytes: u64,
    /// Where it is now, as it was found.
    pub moved_to: PathBuf,
}

/// Repairs the journals of a data folder of which no gateway is running; `dry_run`: only says what it would do.
pub fn repair_folder(data: &Path, dry_run: bool, clock: &Clock) -> Result<Repair, LedgerError> {
    let store = Store::look(&data.join("store"))?;
    let folder = data.join("journal");
    let mut repair = Repair {
        at: query::time_name(clock.now().0),
        dry_run,
        ..Repair::default()
    };
    if !dry_run {
        move_superseded(&folder)?;
    }
    let all = segment::list(&folder)?;
    let mut damaged = find(&all, &store, &mut repair)?;
    leave_out_unsettled(&folder, &store, &mut damaged, &mut repair)?;
    leave_out_unclear(&folder, &store, &mut damaged, &mut repair)?;
    if damaged.is_empty() {
        return Ok(repair);
    }
    let mut open = left_open(&damaged, &all)?;
    let attempts = judge(&damaged, &all, &store, &mut open)?;
    open.retain(|_, left| left.row.is_some());
    repair.from_the_store = open.len() as u64;
    let removed_before = store.rows().removed_before()?;
    count(&attempts, removed_before, &mut repair);
    for file in &damaged {
        repair.files.push(RepairedFile {
            file: name(&file.segment.path),
            records: file.found.records,
            bad_bytes: file.found.bad_bytes,
            moved_to: segment::place_aside(&folder, &file.segment.path)?,
        });
    }
    if dry_run {
        return Ok(repair);
    }
    write_sums(&folder, &store, clock.now())?;
    let fate = |id: &AttemptId| {
        attempts
            .get(id)
            .map_or(Fate::Stays, |attempt| attempt.fate(removed_before))
    };
    if repair.taken_over + repair.interrupted > 0 {
        repair.journal = Some(take_over(&folder, &damaged, fate)?);
    }
    for (at, file) in damaged.iter().enumerate() {
        // Rows stand behind their openings: in the last of the journal's files that is replaced.
        let is_last = damaged.get(at + 1).is_none_or(|next| next.boot != file.boot);
        let rows = open.values().filter(|left| is_last && *left.boot == file.boot);
        repair.files[at].moved_to = replace(&folder, file, fate, rows.filter_map(|left| left.row.as_deref()))?;
    }
    write_down(&folder, &repair)?;
    Ok(repair)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn count(attempts: &HashMap<AttemptId, Attempt<'_>>, removed_before: i64, repair: &mut Repair) {
    for attempt in attempts.values() {
        let is_row = attempt.closed.is_some();
        match attempt.fate(removed_before) {
            Fate::TakenOver if is_row => repair.taken_over += 1,
            Fate::TakenOver => repair.interrupted += 1,
            Fate::OpeningStays if is_row => repair.settled_otherwise += 1,
            Fate::Stays if is_row && attempt.there == There::Nothing => repair.too_old += 1,
            Fate::Stays | Fate::LeftOut if is_row => repair.in_the_books += 1,
            _ => {}
        }
    }
}

/// One line of JSON for each repair.
fn write_down(folder: &Path, repair: &Repair) -> Result<(), LedgerError> {
    let path = segment::set_aside_folder(folder).join("repairs.jsonl");
    let write = || -> io::Result<()> {
        let mut line = serde_json::to_vec(repair)?;
        line.push(b'\n');
        let mut file = File::options().append(true).create(true).mode(0o600).open(&path)?;
        file.write_all(&line)?;
        file.sync_all()
    };
    write().map_err(io_error(&path))?;
    segment::give_to_owner(folder, &path)
}

#[cfg(test)]
mod tests;
