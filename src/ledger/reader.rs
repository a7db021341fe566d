//! Reads a journal, its own tail as well as a dead process's, from where the store left off.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::ids::AttemptId;
use crate::store::frames::{FRAME_LEN, HEADER_LEN, MAX_PAYLOAD, Next, Salt};
use crate::store::rows::Applied;

use super::LedgerError;
use super::form::{self, Head, Kind};
use super::salvage;
use super::segment::{self, Boot, Position, Segment, State, io_error};

/// How much of a file is read at once, in bytes. Holds several of the longest records.
const CHUNK: usize = 1 << 20;
const _: () = assert!(CHUNK > 2 * (MAX_PAYLOAD + FRAME_LEN));

/// A place in one journal, and the attempts which are open there.
pub(super) struct Reader {
    pub(super) boot: Boot,
    /// What comes next.
    pub(super) at: Position,
    /// Rows before this are in the store. Ahead of `at` only while the openings of attempts that were open are looked
    /// up again.
    applied: Position,
    /// What ended before this is in the store, or in the sums it is given; also what can't be read any more.
    known: Position,
    /// Up to here it was read before: where it is read only to a place before this, something of it is gone.
    reached: Position,
    /// Attempts which began before a damage that came about after what is behind it was taken in: their ends may have stood there, and
    /// be rows or sums already. Nothing is made of them.
    doubtful: HashSet<AttemptId>,
    /// Where the openings without a row stand.
    open: HashMap<AttemptId, Position>,
    /// A part of the journal was not read (damaged, or its files are gone): rows may come whose opening was not seen.
    gaps: bool,
    /// Rows which came a second time, and were left out.
    pub(super) duplicates: u64,
    file: Option<(Segment, File, Salt)>,
    chunk: Vec<u8>,
}

/// Why reading stopped.
#[derive(Debug)]
pub(super) enum Stop {
    /// All that there is was read.
    End,
    /// `each` had enough for now: go on with the same arguments.
    Paused,
    /// A bad place, at the error's `at`, which is not the journal's torn end; reading goes on with the next segment.
    Damaged(Segment, LedgerError),
}

/// Where a journal ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// It is being written: up to here.
    At(Position),
    /// Its process is dead: with its last file, whose torn end is left out. An end is torn only where no good record stands behind it:
    /// all else is damage, also in this file.
    Dead,
    /// Another process is writing it: with the last whole record there is now.
    Alive,
}

impl Reader {
    pub(super) fn new(boot: Boot, applied: Option<Applied>) -> Self {
        let applied = applied.unwrap_or_default();
        let known = Position {
            segment: applied.segment,
            offset: applied.offset,
        };
        Reader {
            boot,
            at: Position {
                segment: applied.open_segment,
                offset: applied.open_offset,
            },
            applied: known,
            known,
            reached: known,
            doubtful: HashSet::new(),
            open: HashMap::new(),
            gaps: false,
            duplicates: 0,
            file: None,
            chunk: Vec::new(),
        }
    }

    /// Goes on at a place where these attempts were open.
    pub(super) fn resume(boot: Boot, at: Position, open: HashMap<AttemptId, Position>) -> Self {
        let mut reader = Reader::new(boot, None);
        reader.at = at;
        reader.applied = at;
        reader.known = at;
        reader.open = open;
        reader
    }

    /// What is read again was known up to here.
    pub(super) fn was_known_to(mut self, to: &Applied) -> Self {
        let known = match to.finished {
            true => Position {
                segment: u32::MAX,
                offset: u64::MAX,
            },
            false => Position {
                segment: to.segment,
                offset: to.offset,
            },
        };
        self.known = self.known.max(known);
        self.reached(to)
    }

    /// It was read up to here before.
    pub(super) fn reached(mut self, to: &Applied) -> Self {
        self.reached = self.reached.max(Position {
            segment: to.segment,
            offset: to.offset,
        });
        self
    }

    /// How many attempts may have ended where the journal can't be read, and be known already.
    pub(super) fn doubtful(&self) -> usize {
        self.doubtful.len()
    }

    /// The attempts which are open here, and where their openings stand.
    pub(super) fn open(&self) -> &HashMap<AttemptId, Position> {
        &self.open
    }

    /// What the store shall remember with the rows read so far.
    pub(super) fn progress(&self, finished: bool) -> Applied {
        let at = self.at.max(self.applied);
        // Never behind what was read, also while openings are looked up again.
        let open = self.open.values().min().copied().unwrap_or(at).min(self.at);
        Applied {
            segment: at.segment,
            offset: at.offset,
            open_segment: open.segment,
            open_offset: open.offset,
            finished,
        }
    }

    /// The segment before which nothing is needed any more.
    pub(super) fn first_needed(&self) -> u32 {
        self.progress(false).open_segment
    }

    /// Reads on; `each` gets every row which is not in the store yet, and says whether it can take more.
    pub(super) fn read(
        &mut self,
        segments: &BTreeMap<u32, Segment>,
        end: End,
        mut each: impl FnMut(&[u8], Head) -> bool,
    ) -> Result<Stop, LedgerError> {
        self.read_places(segments, end, |payload, head, _| each(payload, head))
    }

    /// The same; `each` is told where each row stands, too.
    pub(super) fn read_places(
        &mut self,
        segments: &BTreeMap<u32, Segment>,
        end: End,
        mut each: impl FnMut(&[u8], Head, Position) -> bool,
    ) -> Result<Stop, LedgerError> {
        self.gaps |= has_gaps(segments, self.at == Position::default());
        loop {
            let Some((&number, segment)) = segments.range(self.at.segment..).next() else {
                return Ok(Stop::End);
            };
            if number != self.at.segment {
                if self.at != Position::default() {
                    tracing::warn!(
                        boot = self.boot,
                        from = self.at.segment,
                        to = number,
                        "segments are not there"
                    );
                }
                self.go_to(number);
            }
            let (limit, is_last) = match end {
                End::At(end) if number > end.segment => return Ok(Stop::End),
                End::At(end) if number == end.segment => (Some(end.offset), true),
                End::At(_) => (None, false),
                End::Dead | End::Alive => (None, segments.range(number + 1..).next().is_none()),
            };
            let stop = self.read_segment(segment, limit, &mut each)?;
            // Files behind it that hold no record were made in the journal's last moment: a power cut may leave their names, and this file
            // torn.
            let may_be_torn = matches!(end, End::Dead) && segment::last_written(segments) <= Some(number);
            match stop {
                SegmentStop::Paused => return Ok(Stop::Paused),
                SegmentStop::Whole if is_last && !(may_be_torn && self.ends_short(segment)) => return Ok(Stop::End),
                SegmentStop::Whole if is_last => {
                    return Ok(self.damaged(segment, "it ends before what was taken in of it".into()));
                }
                SegmentStop::Whole => self.go_to(number + 1),
                SegmentStop::Torn(why) if may_be_torn && self.is_torn_end(segment)? => {
                    // Of one that was taken in it was told then.
                    if segment.state == State::Fresh {
                        tracing::warn!(
                            file = %segment.path.display(),
                            at = self.at.offset,
                            why,
                            "the journal of a dead process has a torn end, which is left out"
                        );
                    }
                    return Ok(Stop::End);
                }
                // Its writer is in the middle of it.
                SegmentStop::Torn(_) if is_last && matches!(end, End::Alive) => return Ok(Stop::End),
                SegmentStop::Torn(why) | SegmentStop::Bad(why) => return Ok(self.damaged(segment, why)),
                SegmentStop::Unknown => return Err(newer(segment)),
            }
        }
    }

    /// Is the bad place it stopped at, in the last file of a dead process, one that a write which was not finished leaves?
    fn is_torn_end(&self, segment: &Segment) -> Result<bool, LedgerError> {
        Ok(segment.state != State::Damaged
            && !self.ends_short(segment)
            && !salvage::is_good_behind(segment, self.at.offset)?)
    }

    /// Was more of this file read before? (A repaired one is shorter than it was.)
    fn ends_short(&self, segment: &Segment) -> bool {
        segment.state != State::Repaired && self.at.segment == self.reached.segment && self.at < self.reached
    }

    /// Goes on behind a damaged file.
    fn damaged(&mut self, segment: &Segment, why: String) -> Stop {
        let error = LedgerError::Damaged {
            file: segment.path.clone(),
            at: self.at.offset,
            why,
        };
        self.gaps = true;
        if self.at < self.known {
            self.doubtful.extend(self.open.drain().map(|(id, _)| id));
        }
        self.go_to(self.at.segment + 1);
        Stop::Damaged(segment.clone(), error)
    }

    fn go_to(&mut self, number: u32) {
        self.at = Position {
            segment: number,
            offset: 0,
        };
        self.file = None;
    }

    fn read_segment(
        &mut self,
        segment: &Segment,
        limit: Option<u64>,
        each: &mut impl FnMut(&[u8], Head, Position) -> bool,
    ) -> Result<SegmentStop, LedgerError> {
        let (segment, file, salt) = match self.file.take() {
            Some(open) => open,
            None => {
                let file = File::open(&segment.path).map_err(io_error(&segment.path))?;
                let mut header = Vec::new();
                read_at(&file, &mut header, 0, HEADER_LEN).map_err(io_error(&segment.path))?;
                if header.len() < HEADER_LEN {
                    return Ok(SegmentStop::Torn("its header is cut".into()));
                }
                match Salt::from_header(&header) {
                    Ok(salt) => (segment.clone(), file, salt),
                    Err(_) if Salt::is_of_other_format(&header) => return Err(newer(segment)),
                    Err(_) if salvage::is_blank(&file, &segment.path)? => {
                        return Ok(SegmentStop::Torn("its header was not written".into()));
                    }
                    Err(why) => return Ok(SegmentStop::Bad(why)),
                }
            }
        };
        self.at.offset = self.at.offset.max(HEADER_LEN as u64);
        let stop = loop {
            let room = limit.map_or(CHUNK as u64, |limit| limit.saturating_sub(self.at.offset));
            let wanted = usize::try_from(room).unwrap_or(CHUNK).min(CHUNK);
            self.chunk.clear();
            let mut chunk = std::mem::take(&mut self.chunk);
            read_at(&file, &mut chunk, self.at.offset, wanted).map_err(io_error(&segment.path))?;
            let stop = self.read_chunk(&chunk, salt, chunk.len() < CHUNK, each);
            self.chunk = chunk;
            if let Some(stop) = stop {
                break stop;
            }
        };
        self.file = Some((segment, file, salt));
        Ok(stop)
    }

    /// Reads the records of a chunk; `None`: the next chunk is needed.
    fn read_chunk(
        &mut self,
        chunk: &[u8],
        salt: Salt,
        is_end: bool,
        each: &mut impl FnMut(&[u8], Head, Position) -> bool,
    ) -> Option<SegmentStop> {
        let mut rest = chunk;
        loop {
            if rest.is_empty() {
                return is_end.then_some(SegmentStop::Whole);
            }
            let payload = match salt.next(rest) {
                Next::Record(payload) => payload,
                Next::Cut if is_end => return Some(SegmentStop::Torn("its last record is cut".into())),
                Next::Cut => return None,
                Next::Bad(why) => return Some(SegmentStop::Torn(why.into())),
            };
            let Some(head) = form::head(payload) else {
                return Some(SegmentStop::Unknown);
            };
            let here = self.at;
            let length = FRAME_LEN + payload.len();
            self.at.offset += length as u64;
            rest = &rest[length..];
            match head.kind {
                Kind::Opened => {
                    self.open.insert(head.id, here);
                }
                Kind::Closed => {
                    self.doubtful.remove(&head.id);
                    let is_second = self.open.remove(&head.id).is_none() && !self.gaps;
                    if here < self.applied {
                        continue;
                    }
                    if is_second {
                        self.duplicates += 1;
                        tracing::error!(id = %head.id, boot = self.boot, "an attempt was closed twice; the first row counts");
                        continue;
                    }
                    if !each(payload, head, here) {
                        return Some(SegmentStop::Paused);
                    }
                }
            }
        }
    }

    /// The openings which have no row, oldest first, read again from their files.
    pub(super) fn left_open(&self, segments: &BTreeMap<u32, Segment>) -> Result<Vec<super::Opening>, LedgerError> {
        let mut places: Vec<Position> = self.open.values().copied().collect();
        places.sort_unstable();
        let mut openings = Vec::with_capacity(places.len());
        let mut open_file: Option<(u32, File, Salt)> = None;
        let mut bytes = Vec::new();
        for place in places {
            let Some(segment) = segments.get(&place.segment) else {
                continue;
            };
            if open_file.as_ref().is_none_or(|(number, ..)| *number != place.segment) {
                let file = File::open(&segment.path).map_err(io_error(&segment.path))?;
                bytes.clear();
                read_at(&file, &mut bytes, 0, HEADER_LEN).map_err(io_error(&segment.path))?;
                let Ok(salt) = Salt::from_header(&bytes) else {
                    continue; // it was good when it was read a moment ago
                };
                open_file = Some((place.segment, file, salt));
            }
            if let Some((_, file, salt)) = &open_file {
                bytes.clear();
                read_at(file, &mut bytes, place.offset, FRAME_LEN + MAX_PAYLOAD).map_err(io_error(&segment.path))?;
                if let Next::Record(payload) = salt.next(&bytes) {
                    openings.extend(form::read_opened(payload));
                }
            }
        }
        Ok(openings)
    }
}

/// How the first record of a segment begins; `None`: none is readable.
pub(super) fn first(segment: &Segment) -> Result<Option<Head>, LedgerError> {
    let file = File::open(&segment.path).map_err(io_error(&segment.path))?;
    let mut bytes = Vec::new();
    read_at(&file, &mut bytes, 0, HEADER_LEN + FRAME_LEN + MAX_PAYLOAD).map_err(io_error(&segment.path))?;
    let Ok(salt) = Salt::from_header(&bytes) else {
        return Ok(None);
    };
    match salt.next(bytes.get(HEADER_LEN..).unwrap_or_default()) {
        Next::Record(payload) => Ok(form::head(payload)),
        Next::Cut | Next::Bad(_) => Ok(None),
    }
}

/// Is something damaged or missing? (Segments before all that is needed may have been removed.)
fn has_gaps(segments: &BTreeMap<u32, Segment>, from_the_first: bool) -> bool {
    let first = match segments.first_key_value() {
        Some((&number, _)) if !from_the_first => number,
        _ => 1,
    };
    (first..).zip(segments).any(|(wanted, (&number, segment))| {
        wanted != number || matches!(segment.state, State::Damaged | State::Repaired)
    })
}

/// Why reading a segment stopped.
enum SegmentStop {
    Whole,
    Paused,
    /// As a torn end looks.
    Torn(String),
    /// As no torn end looks.
    Bad(String),
    /// A good record of a kind this program does not know.
    Unknown,
}

fn newer(segment: &Segment) -> LedgerError {
    LedgerError::Newer {
        file: segment.path.clone(),
    }
}

/// Appends up to `wanted` bytes from `offset` on; fewer only at the file's end.
pub(super) fn read_at(file: &File, out: &mut Vec<u8>, offset: u64, wanted: usize) -> std::io::Result<()> {
    let start = out.len();
    out.resize(start + wanted, 0);
    let mut filled = 0;
    while filled < wanted {
        match file.read_at(&mut out[start + filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    out.truncate(start + filled);
    Ok(())
}
