//! Which files are damaged, and what the books have of each attempt in them.

use std::collections::HashMap;

use crate::clock::UnixMicros;
use crate::ids::AttemptId;
use crate::ledger::blocks::BlockReader;
use crate::ledger::form::{self, Head, Kind};
use crate::ledger::salvage::{self, Found};
use crate::ledger::segment::{self, Boot, Segment, Segments, State};
use crate::ledger::{Closing, Ended, LedgerError};
use crate::store::Store;
use crate::store::frames::Salt;
use crate::store::rows::BlockKey;

use super::Repair;

/// A damaged file.
pub(super) struct Damaged {
    pub(super) boot: Boot,
    pub(super) number: u32,
    pub(super) segment: Segment,
    pub(super) spare: Option<Salt>,
    pub(super) found: Found,
}

/// An attempt of which something stands in a damaged file.
pub(super) struct Attempt<'a> {
    pub(super) boot: &'a Boot,
    pub(super) at: UnixMicros,
    /// Its row's payload, summed up.
    pub(super) closed: Option<Print>,
    pub(super) there: There,
}

/// What the books have of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum There {
    Nothing,
    Same,
    Other,
    /// Another journal has it: an earlier repair took it over.
    Elsewhere,
}

/// Tells payloads of one attempt apart.
type Print = (u32, usize);

fn print(payload: &[u8]) -> Print {
    (crc32c::crc32c(payload), payload.len())
}

/// What becomes of an attempt's records.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Stays,
    /// The opening stays; the end is left out.
    OpeningStays,
    TakenOver,
    LeftOut,
}

impl Attempt<'_> {
    pub(super) fn fate(&self, removed_before: i64) -> Fate {
        match self.there {
            There::Elsewhere => Fate::LeftOut,
            There::Same => Fate::Stays,
            There::Other => Fate::OpeningStays,
            There::Nothing if self.at.0 < removed_before => Fate::Stays,
            There::Nothing => Fate::TakenOver,
        }
    }
}

/// The damaged files of journals which are taken in.
pub(super) fn find(all: &Segments, store: &Store, repair: &mut Repair) -> Result<Vec<Damaged>, LedgerError> {
    let mut damaged = Vec::new();
    for (boot, segments) in all {
        // Files behind it are empty, as the reader has it.
        let last = segment::last_written(segments);
        let mut spare = None;
        for segment in segments.values() {
            spare = spare.or(salvage::salt(segment)?);
        }
        let finished = store.rows().applied(boot)?.filter(|applied| applied.finished);
        for (&number, segment) in segments {
            let found = salvage::scan(segment, spare, |_, _| Ok(()))?;
            // As [`crate::ledger::reader`] sees it: more of it was taken in than can be read now.
            let ends_short = segment.state != State::Repaired
                && finished.is_some_and(|to| to.segment == number && found.good_to < to.offset);
            if segment.state != State::Damaged && !ends_short && !found.is_damaged(last <= Some(number)) {
                continue;
            }
            let file = segment.path.display();
            if found.is_newer {
                repair.not_done.push(format!(
                    "{file}: it is of a form this program does not know: repair it with the newer one that wrote it"
                ));
            } else if found.unknown > 0 {
                repair.not_done.push(format!(
                    "{file}: {} records are of a kind this program does not know: repair it with the newer one that wrote them",
                    found.unknown
                ));
            } else if finished.is_none() {
                repair.not_done.push(format!(
                    "{file}: its journal is not in the store yet: start the gateway once, stop it, and say it again"
                ));
            } else {
                damaged.push(Damaged {
                    boot: boot.clone(),
                    number,
                    segment: segment.clone(),
                    spare,
                    found,
                });
            }
        }
    }
    Ok(damaged)
}

/// An attempt whose opening can be read in a journal with damaged files, and whose end can't.
pub(super) struct LeftOpen<'a> {
    pub(super) boot: &'a Boot,
    pub(super) opening: Vec<u8>,
    /// The store's row, if it is another than [`Closing::unknown`] makes of the opening.
    pub(super) row: Option<Vec<u8>>,
}

pub(super) fn left_open<'a>(
    damaged: &'a [Damaged],
    all: &Segments,
) -> Result<HashMap<AttemptId, LeftOpen<'a>>, LedgerError> {
    let mut open = HashMap::new();
    for file in damaged.chunk_by(|a, b| a.boot == b.boot).filter_map(<[_]>::first) {
        for segment in all.get(&file.boot).into_iter().flat_map(|segments| segments.values()) {
            salvage::scan(segment, file.spare, |payload, head| {
                match head.kind {
                    Kind::Opened => {
                        let left = LeftOpen {
                            boot: &file.boot,
                            opening: payload.to_vec(),
                            row: None,
                        };
                        open.insert(head.id, left);
                    }
                    Kind::Closed => {
                        open.remove(&head.id);
                    }
                }
                Ok(())
            })?;
        }
    }
    Ok(open)
}

impl LeftOpen<'_> {
    fn look(&mut self, row: &[u8]) {
        let mut interrupted = Vec::new();
        if let Some(opening) = form::read_opened(&self.opening)
            && form::write_closed(
                &opening,
                &Closing::unknown(&opening),
                Ended::Interrupted,
                &mut interrupted,
            )
            .is_ok()
            && interrupted != row
        {
            self.row = Some(row.to_vec());
        }
    }
}

/// What the books have of each attempt in the damaged files, and of those which are left open.
pub(super) fn judge<'a>(
    damaged: &'a [Damaged],
    all: &Segments,
    store: &Store,
    open: &mut HashMap<AttemptId, LeftOpen<'_>>,
) -> Result<HashMap<AttemptId, Attempt<'a>>, LedgerError> {
    let mut attempts: HashMap<AttemptId, Attempt<'a>> = HashMap::new();
    for file in damaged {
        salvage::scan(&file.segment, file.spare, |payload, head| {
            let attempt = attempts.entry(head.id).or_insert(Attempt {
                boot: &file.boot,
                at: head.at,
                closed: None,
                there: There::Nothing,
            });
            if head.kind == Kind::Closed {
                attempt.closed.get_or_insert_with(|| print(payload));
            }
            Ok(())
        })?;
    }
    let mut reader = BlockReader::new()?;
    for span in store.rows().spans(BlockKey(0)) {
        let (key, _) = span?;
        let Some(block) = store.rows().block(key)? else {
            continue;
        };
        for payload in reader.read(block.as_ref())? {
            let Some(Head { id, .. }) = form::head(payload) else {
                continue;
            };
            if let Some(left) = open.get_mut(&id) {
                left.look(payload);
            }
            if let Some(attempt) = attempts.get_mut(&id) {
                attempt.there = if attempt.closed == Some(print(payload)) {
                    There::Same
                } else {
                    There::Other
                };
            }
        }
    }
    for (boot, segments) in all {
        for segment in segments.values() {
            salvage::scan(segment, None, |_, head| {
                if let Some(attempt) = attempts.get_mut(&head.id)
                    && attempt.boot != boot
                {
                    attempt.there = There::Elsewhere;
                }
                Ok(())
            })?;
        }
    }
    Ok(attempts)
}
