//! What a repair writes: the journal of what is taken over, and files in the place of damaged ones.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::ids::AttemptId;
use crate::ledger::LedgerError;
use crate::ledger::form::{self, Kind};
use crate::ledger::salvage;
use crate::ledger::segment::{self, State, io_error};
use crate::store::frames::Salt;

use super::judge::{Damaged, Fate};

/// Writes what is taken over into a journal of its own; its file.
pub(super) fn take_over(
    folder: &Path,
    damaged: &[Damaged],
    fate: impl Fn(&AttemptId) -> Fate,
) -> Result<PathBuf, LedgerError> {
    let boot = uuid::Uuid::now_v7().simple().to_string();
    let path = segment::segment_path(folder, &boot, 1);
    let mut opened = HashMap::new();
    let mut closed = HashSet::new();
    write_file(&path, new_salt(folder)?, |write| {
        for file in damaged {
            salvage::scan(&file.segment, file.spare, |payload, head| {
                if fate(&head.id) != Fate::TakenOver {
                    return Ok(());
                }
                match head.kind {
                    Kind::Opened => {
                        opened.insert(head.id, payload.to_vec());
                    }
                    Kind::Closed if closed.insert(head.id) => {
                        let mut opening = Vec::new();
                        if let Some(row) = form::read_closed(payload)
                            && form::write_opened(&row.opening.to_opening(), &mut opening).is_ok()
                        {
                            write(&opening)?;
                            write(payload)?;
                        }
                    }
                    Kind::Closed => {}
                }
                Ok(())
            })?;
        }
        for (id, opening) in &opened {
            if !closed.contains(id) {
                write(opening)?;
            }
        }
        Ok(())
    })?;
    segment::sync_folder(folder)?;
    Ok(path)
}

/// Puts what stays of a file in its place, with `rows` behind it, and moves it away; where it is then.
pub(super) fn replace<'a>(
    folder: &Path,
    file: &Damaged,
    fate: impl Fn(&AttemptId) -> Fate,
    mut rows: impl Iterator<Item = &'a [u8]>,
) -> Result<PathBuf, LedgerError> {
    let salt = match file.found.salt.or(file.spare) {
        Some(salt) => salt,
        None => new_salt(folder)?,
    };
    let path = segment::segment_path(folder, &file.boot, file.number).with_extension("tgj.repaired");
    let from = &file.segment;
    let takes_its_name = from.state == State::Repaired;
    let mut closed = HashSet::new();
    let fresh = write_fresh(&path, salt, |write| {
        salvage::scan(from, file.spare, |payload, head| {
            let stays = match (fate(&head.id), head.kind) {
                (Fate::Stays, Kind::Closed) => closed.insert(head.id),
                (Fate::Stays | Fate::OpeningStays, Kind::Opened) => true,
                _ => false,
            };
            if stays { write(payload) } else { Ok(()) }
        })?;
        rows.try_for_each(write)
    })?;
    // The file whose name the new one takes stands under both names until it does: there is never none.
    let aside = match takes_its_name {
        true => Some(keep_aside(folder, &from.path)?),
        false => None,
    };
    fs::rename(&fresh, &path).map_err(io_error(&fresh))?;
    segment::sync_folder(folder)?;
    match aside {
        Some(aside) => Ok(aside),
        None => segment::move_aside(folder, &from.path),
    }
}

/// Gives a file a second name among the damaged ones.
fn keep_aside(folder: &Path, path: &Path) -> Result<PathBuf, LedgerError> {
    let aside = segment::make_aside_folder(folder)?;
    let to = segment::place_aside(folder, path)?;
    // Not every file system can.
    if fs::hard_link(path, &to).is_err() {
        fs::copy(path, &to)
            .and_then(|_| File::open(&to)?.sync_all())
            .map_err(io_error(&to))?;
        segment::give_to_owner(folder, &to)?;
    }
    segment::sync_folder(&aside)?;
    Ok(to)
}

/// Moves away what a repair that was killed had replaced already.
pub(super) fn move_superseded(folder: &Path) -> Result<(), LedgerError> {
    for segments in segment::list(folder)?.values() {
        for segment in segments.values().filter(|segment| segment.state == State::Repaired) {
            for suffix in ["tgj", "tgj.done", "tgj.damaged"] {
                let before = segment.path.with_extension("").with_extension(suffix);
                if before.exists() {
                    segment::move_aside(folder, &before)?;
                }
            }
        }
    }
    Ok(())
}

fn new_salt(folder: &Path) -> Result<Salt, LedgerError> {
    getrandom::u64()
        .map(Salt::new)
        .map_err(|e| io_error(folder)(io::Error::other(e.to_string())))
}

/// Writes a journal file, which is there whole or not at all. The caller syncs the folder.
fn write_file(
    path: &Path,
    salt: Salt,
    fill: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result<(), LedgerError>) -> Result<(), LedgerError>,
) -> Result<(), LedgerError> {
    let fresh = write_fresh(path, salt, fill)?;
    fs::rename(&fresh, path).map_err(io_error(&fresh))
}

/// Writes it whole, synced, under the name it has until it gets its own; that name.
fn write_fresh(
    path: &Path,
    salt: Salt,
    fill: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result<(), LedgerError>) -> Result<(), LedgerError>,
) -> Result<PathBuf, LedgerError> {
    let fresh = path.with_extension("new");
    let file = segment::create_private(&fresh).map_err(io_error(&fresh))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    out.write_all(&salt.header()).map_err(io_error(&fresh))?;
    let mut record = Vec::new();
    fill(&mut |payload| {
        record.clear();
        // It was a record before, so it is not too long.
        let _ = salt.append(&mut record, |out| {
            out.extend_from_slice(payload);
            Ok::<_, std::convert::Infallible>(())
        });
        out.write_all(&record).map_err(io_error(&fresh))
    })?;
    segment::give_to_owner(fresh.parent().unwrap_or(Path::new(".")), &fresh)?;
    let file = out.into_inner().map_err(|e| io_error(&fresh)(e.into_error()))?;
    file.sync_all().map_err(io_error(&fresh))?;
    Ok(fresh)
}
