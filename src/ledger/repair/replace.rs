//! What a repair writes: the journal of what is taken over, and files in the place of damaged ones.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::ids::AttemptId;
use crate::ledger::LedgerError;
use crate::ledger::form::{self, Kind};
use crate::ledger::salvage;
use crate::ledger::segment::{self, State, io_error};
use crate::store::frames::Salt;

use super::judge::{Damaged, Fate};
use super::name;

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

/// Puts what stays of a file in its place, with `rows` behind it, and moves it away.
pub(super) fn replace<'a>(
    folder: &Path,
    file: &Damaged,
    fate: impl Fn(&AttemptId) -> Fate,
    mut rows: impl Iterator<Item = &'a [u8]>,
) -> Result<(), LedgerError> {
    let salt = match file.found.salt.or(file.spare) {
        Some(salt) => salt,
        None => new_salt(folder)?,
    };
    let path = segment::segment_path(folder, &file.boot, file.number).with_extension("tgj.repaired");
    let mut from = file.segment.clone();
    let takes_its_name = from.state == State::Repaired;
    if takes_its_name {
        from.path = set_aside(folder, &from.path)?;
    }
    let mut closed = HashSet::new();
    write_file(&path, salt, |write| {
        salvage::scan(&from, file.spare, |payload, head| {
            let stays = match (fate(&head.id), head.kind) {
                (Fate::Stays, Kind::Closed) => closed.insert(head.id),
                (Fate::Stays | Fate::OpeningStays, Kind::Opened) => true,
                _ => false,
            };
            if stays { write(payload) } else { Ok(()) }
        })?;
        rows.try_for_each(write)
    })?;
    segment::sync_folder(folder)?;
    if !takes_its_name {
        set_aside(folder, &from.path)?;
    }
    Ok(())
}

/// Moves a file to those which were damaged; where it is then.
fn set_aside(folder: &Path, path: &Path) -> Result<PathBuf, LedgerError> {
    let aside = segment::set_aside_folder(folder);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&aside)
        .map_err(io_error(&aside))?;
    let to = aside.join(name(path));
    if to.exists() {
        return Err(io_error(&to)(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "an earlier repair left it here: move it away first",
        )));
    }
    fs::rename(path, &to).map_err(io_error(path))?;
    segment::sync_folder(&aside)?;
    segment::sync_folder(folder)?;
    Ok(to)
}

/// Moves away what a repair that was killed had replaced already.
pub(super) fn move_superseded(folder: &Path) -> Result<(), LedgerError> {
    for segments in segment::list(folder)?.values() {
        for segment in segments.values().filter(|segment| segment.state == State::Repaired) {
            for suffix in ["tgj", "tgj.done", "tgj.damaged"] {
                let before = segment.path.with_extension("").with_extension(suffix);
                if before.exists() {
                    set_aside(folder, &before)?;
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
    let fresh = path.with_extension("new");
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)
        .map_err(io_error(&fresh))?;
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
    let file = out.into_inner().map_err(|e| io_error(&fresh)(e.into_error()))?;
    file.sync_all().map_err(io_error(&fresh))?;
    fs::rename(&fresh, path).map_err(io_error(&fresh))
}
