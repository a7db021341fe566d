//! What must be settled before a repair changes a file: nothing on disk may still name a place in it.
//!
//! A repaired file is shorter, and rows may stand behind its others. Balances and sums on disk which have all of its journal name no
//! place in it; those which have a part of it would go on at the wrong record.

use std::path::Path;

use crate::clock::UnixMicros;
use crate::ledger::LedgerError;
use crate::ledger::checkpoint::Files;
use crate::ledger::ingest::write_both_sums;
use crate::ledger::rollup;
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

/// Writes the sums beside the store, which has all of these journals, so that both files say so too.
pub(super) fn write_sums(folder: &Path, store: &Store, at: UnixMicros) -> Result<(), LedgerError> {
    rollup::roll(store)?;
    write_both_sums(folder, store, at)
}
