//! What must be settled before a repair changes a file: nothing on disk may still name a place in it.
//!
//! A repaired file is shorter, and rows may stand behind its others. Balances and sums on disk which have all of its journal name no
//! place in it; those which have a part of it would go on at the wrong record.

use std::path::Path;

use crate::clock::UnixMicros;
use crate::ledger::LedgerError;
use crate::ledger::checkpoint::Files;
use crate::ledger::ingest::write_both_sums;
use crate::ledger::{rollup, segment, snapshot, verify};
use crate::store::Store;

use super::judge::Damaged;
use super::{Repair, name};

/// Leaves out the files of journals which the balances or the store do not have whole yet.
pub(super) fn leave_out_unsettled(
    folder: &Path,
    store: &Store,
    damaged: &mut Vec<Damaged>,
    repair: &mut Repair,
) -> Result<(), LedgerError> {
    const SO: &str = "start the gateway once, stop it, and say it again";
    let is_filled = store.rows().rolled()?.is_some();
    let balances = Files::new(folder);
    damaged.retain(|file| {
        let why = match (is_filled, balances.both_have_all_of(&file.boot)) {
            (true, true) => return true,
            (false, _) => "the store was not filled again to the end",
            (true, false) => "not both files of balances (books.tgb, books.tgb.before) have its whole journal",
        };
        repair
            .not_done
            .push(format!("{}: {why}: {SO}", name(&file.segment.path)));
        false
    });
    Ok(())
}

/// Leaves out all files where rows and balances do not come to the same: balances may have rows which the store has not (it broke
/// after the file went bad, say), so what it does not have might be charged twice.
pub(super) fn leave_out_unclear(
    folder: &Path,
    store: &Store,
    damaged: &mut Vec<Damaged>,
    repair: &mut Repair,
) -> Result<(), LedgerError> {
    if damaged.is_empty() {
        return Ok(());
    }
    let differences = verify::differing_totals(folder, store)?;
    let Some(first) = differences.first() else {
        return Ok(());
    };
    for file in damaged.drain(..) {
        repair.not_done.push(format!(
            "{}: its rows may be charged already, and would be charged again: accounts whose rows and balances differ: {}. {first}. \
             Put back a store and journal from before they did, or move the file to {}: then what stands behind its bad places is in \
             no report",
            name(&file.segment.path),
            differences.len(),
            segment::set_aside_folder(folder).display()
        ));
    }
    Ok(())
}

/// Writes the sums beside the store, which has all of these journals, so that both files say so too.
pub(super) fn write_sums(folder: &Path, store: &Store, at: UnixMicros) -> Result<(), LedgerError> {
    rollup::roll(store)?;
    write_both_sums(folder, store, at)?;
    let sums = snapshot::pair(folder);
    segment::give_to_owner(folder, &sums.newest())?;
    segment::give_to_owner(folder, &sums.before())
}
