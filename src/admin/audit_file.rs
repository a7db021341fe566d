//! The file of the audit log, `data/audit.jsonl`: one JSON line a call, chained by hashes, and no change without one.
//!
//! Each line holds the SHA-256 of the line before it (without its line end), so that a line taken out or changed later is seen by
//! whoever reads the file ([`super::audit_log`] does). Before a write is carried out its intent is entered in [`Head`] and room
//! for its line is set aside: where that fails nothing is changed. What could not be written after all is written before the next
//! write may begin, or, if the process died, at the next start.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::audit_head::{Head, Intent, Pending};
use crate::observe::append::Appender;

/// Longest line, in bytes; how far back the last line is looked for when the file is opened.
pub(super) const MAX_LINE: u64 = 64 * 1024;

/// Longest name of what was changed, in bytes, where the line is too long: of a longer one the first quarter as many characters.
const MAX_TARGET: usize = 1024;

/// Most writes at once; room is set aside for the lines of all.
pub(super) const MAX_PENDING: usize = 64;

/// Most files beside the audit log that are looked at for what it continues.
const MAX_BESIDE: usize = 1000;

/// The open audit log.
pub struct Audit {
    path: PathBuf,
    inner: Mutex<Inner>,
}

struct Inner {
    file: Appender,
    /// It ends within a line.
    torn: bool,
    head: Head,
    /// Lines of what was done that could not be written yet, with their writes' numbers: at most [`MAX_PENDING`].
    owed: Vec<(u64, Line)>,
    /// The number of the next write.
    next: u64,
}

/// [`MAX_PENDING`] writes are under way.
#[derive(Debug, thiserror::Error)]
#[error("too many writes at once")]
pub(super) struct TooMany;

/// A write whose intent is entered.
#[derive(Debug)]
pub(super) struct Begun {
    number: u64,
}

/// One line.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Line {
    #[serde(flatten)]
    pub(super) intent: Intent,
    #[serde(flatten)]
    pub(super) outcome: Outcome,
}

/// What became of a call.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Outcome {
    /// The answer's status; 0: not known.
    pub(super) status: u16,
    /// The word of a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refused: Option<String>,
    /// The answer was given before: nothing was done.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) replayed: bool,
    /// The process died before it was written down what became of it: it may have been done.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) interrupted: bool,
    /// What was changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) change: Option<Change>,
}

/// What is read of a line again.
#[derive(Deserialize)]
struct Written {
    #[serde(flatten)]
    intent: Intent,
    previous: String,
}

/// A line with the hash of the one before.
#[derive(Serialize)]
struct Chained<'a> {
    #[serde(flatten)]
    line: &'a Line,
    previous: &'a str,
}

/// What a call changed; a handler leaves it on its response.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Change {
    /// Which thing: a key's id.
    pub(super) target: String,
    /// What it was given. Never a secret.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub(super) values: Value,
}

impl Audit {
    /// Opens or makes the file, for the owner only, and goes on with its chain. A file that does not end with the line written
    /// last is told in the log, and goes on from that line: the check finds it. Blocking.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = Appender::open(path, 0o600)?;
        let (mut head, known) = Head::read(path)?;
        let mut last = last_line(path, file.length()?)?;
        let hash = |last: &Option<Last>| last.as_ref().map(|last| digest(&last.line)).unwrap_or_default();
        let mut goes_on = !known || hash(&last) == head.said.last;
        // Mostly it is the last line; only behind a crash the file is read.
        if !goes_on {
            goes_on = follow(path, &mut head)?;
            // Half a line is a crash's where the line which is known as the last is whole: its write is under way still.
            if let Some(half) = last
                .as_ref()
                .filter(|last| last.is_half() && (goes_on || last.start == 0))
            {
                tracing::warn!(file = %path.display(), at = half.start, "half a line at the audit log's end is taken out");
                file.cut_to(half.start)?;
                last = last_line(path, half.start)?;
            }
        }
        let torn = last.as_ref().is_some_and(|last| !last.ended);
        let ends = hash(&last);
        if goes_on {
            if !known && !ends.is_empty() {
                tracing::error!(
                    file = %path.display(),
                    "audit.head, which says how the audit log ends, can't be read or is not there: whether its end was cut off is not \
                     seen this time"
                );
            }
            head.said.last = ends;
        } else if !matches!(moved_away(path, &head.said.last), Ok(Some(_))) {
            tracing::error!(
                file = %path.display(), last = head.said.last,
                "the audit log does not end with the line that was written last: lines were changed or taken out of it, or it was \
                 emptied, deleted or moved to another folder (`tollgate audit verify`); put it back from a backup"
            );
        }
        let interrupted = head.said.pending.iter_mut().zip(0..).map(|(pending, number)| {
            pending.number = number;
            let outcome = Outcome {
                interrupted: true,
                ..Outcome::default()
            };
            (
                number,
                Line {
                    intent: pending.intent.clone(),
                    outcome,
                },
            )
        });
        let owed: Vec<_> = interrupted.collect();
        let mut inner = Inner {
            file,
            torn,
            head,
            next: owed.len() as u64,
            owed,
        };
        if let Err(error) = inner.settle().and_then(|()| inner.head.save(true)) {
            tracing::error!(%error, "the audit log can't be written: changes by the admin API are refused until it can");
        }
        Ok(Audit {
            path: path.to_owned(),
            inner: Mutex::new(inner),
        })
    }

    /// Opens it once more: another process had it meanwhile. Blocking.
    pub fn reopen(&self) -> io::Result<()> {
        let fresh = Audit::open(&self.path)?.inner.into_inner();
        *self.inner.lock() = fresh;
        Ok(())
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Does something while nothing is written; it is told the hash of the last line. Blocking.
    pub(super) fn while_still<T>(&self, work: impl FnOnce(&str) -> T) -> T {
        work(&self.inner.lock().head.said.last)
    }

    /// Enters what somebody wants to change, durably, and sets room aside for its line. On an error nothing may be changed.
    /// With [`TooMany`] within: too many are under way. Blocking.
    pub(super) fn begin(&self, intent: Intent) -> io::Result<Begun> {
        let mut inner = self.inner.lock();
        inner.settle()?;
        let pending = inner.head.said.pending.len();
        if pending >= MAX_PENDING {
            return Err(io::Error::other(TooMany));
        }
        if inner.file.follow_path()? {
            inner.torn = false;
        }
        inner.file.reserve(MAX_LINE * (pending as u64 + 1))?;
        let number = inner.next;
        inner.next += 1;
        inner.head.said.pending.push(Pending { number, intent });
        if let Err(error) = inner.head.save(true) {
            inner.forget(number);
            return Err(error);
        }
        Ok(Begun { number })
    }

    /// Writes the line of a write, and syncs it to disk. On an error it is written later, before the next write begins. Blocking.
    pub(super) fn end(&self, begun: &Begun, intent: Intent, outcome: Outcome) -> io::Result<()> {
        let mut inner = self.inner.lock();
        inner.owed.push((begun.number, Line { intent, outcome }));
        inner.settle()
    }

    /// Writes the line of a call that changed nothing. Blocking.
    pub(super) fn record(&self, intent: Intent, outcome: Outcome) -> io::Result<()> {
        let mut inner = self.inner.lock();
        inner.settle()?;
        inner.append(&Line { intent, outcome })?;
        inner.save();
        Ok(())
    }
}

impl Inner {
    /// Writes what could not be written before.
    fn settle(&mut self) -> io::Result<()> {
        if self.owed.is_empty() {
            return Ok(());
        }
        while let Some((number, line)) = self.owed.first().cloned() {
            self.append(&line)?;
            self.owed.remove(0);
            self.forget(number);
        }
        self.save();
        Ok(())
    }

    /// Saves the head behind a line: if that fails, it is found out from the file.
    fn save(&self) {
        if let Err(error) = self.head.save(false) {
            tracing::warn!(%error, "how the audit log ends could not be written down; it is with the next change");
        }
    }

    fn forget(&mut self, number: u64) {
        self.head.said.pending.retain(|pending| pending.number != number);
    }

    fn append(&mut self, line: &Line) -> io::Result<()> {
        if self.file.follow_path()? {
            self.torn = false;
        }
        let mut text = self.text(line)?;
        if text.len() as u64 >= MAX_LINE {
            let mut short = line.clone();
            if let Some(change) = &mut short.outcome.change {
                change.values = Value::String("too long to be recorded".into());
                if change.target.len() > MAX_TARGET {
                    change.target = change.target.chars().take(MAX_TARGET / 4).collect();
                }
            }
            text = self.text(&short)?;
        }
        let digest = digest(&text);
        text.push(b'\n');
        if self.torn {
            // Half a line must not swallow this one.
            text.insert(0, b'\n');
        }
        let length = self.file.length()?;
        let written = self.file.write_all(&text).and_then(|()| self.file.sync());
        if let Err(error) = written {
            // If this fails too, the check tells where.
            let _ = self.file.cut_to(length);
            return Err(error);
        }
        self.torn = false;
        self.head.said.last = digest;
        Ok(())
    }

    fn text(&self, line: &Line) -> io::Result<Vec<u8>> {
        let previous = &self.head.said.last;
        Ok(serde_json::to_vec(&Chained { line, previous })?)
    }
}

/// SHA-256 of a line, hexadecimal.
pub(super) fn digest(line: &[u8]) -> String {
    Sha256::digest(line).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether the file has the line which [`Head`] knows as the last, or one that follows it (the file may have been moved away between
/// them). Lines behind it were written just before the process died: what was under way and has one of them is under way no more.
fn follow(path: &Path, head: &mut Head) -> io::Result<bool> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut found = head.said.last.is_empty();
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut reader).take(2 * MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(found);
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let done = serde_json::from_slice::<Written>(text).ok();
        if let Some(done) = done.filter(|done| found || done.previous == head.said.last) {
            found = true;
            let pending = &mut head.said.pending;
            if let Some(at) = pending.iter().position(|pending| pending.intent == done.intent) {
                pending.remove(at);
            }
        } else {
            found |= digest(text) == head.said.last;
        }
    }
}

/// The file beside the audit log whose last line has this hash: what it continues (`audit.jsonl.1`, as logrotate moves it away).
pub(super) fn moved_away(path: &Path, last: &str) -> io::Result<Option<PathBuf>> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Ok(None);
    };
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    for entry in std::fs::read_dir(folder)?.take(MAX_BESIDE) {
        // One that is gone meanwhile, or is not ours to read, is not it.
        let Ok(entry) = entry else { continue };
        let beside = entry.file_name();
        let beside = beside.to_string_lossy();
        if beside == name || !beside.starts_with(name) || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let length = entry.metadata().map_or(0, |file| file.len());
        if let Ok(Some(found)) = last_line(&entry.path(), length)
            && digest(&found.line) == last
        {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

/// The last line of a file.
struct Last {
    /// Where it begins.
    start: u64,
    /// Without its line end.
    line: Vec<u8>,
    /// It has one.
    ended: bool,
}

impl Last {
    /// Not all of it was written.
    fn is_half(&self) -> bool {
        !self.ended && serde_json::from_slice::<Written>(&self.line).is_err()
    }
}

/// The last line before `end`.
fn last_line(path: &Path, end: u64) -> io::Result<Option<Last>> {
    let mut file = File::open(path)?;
    let from = end.saturating_sub(MAX_LINE);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(end - from).read_to_end(&mut tail)?;
    let ended = tail.ends_with(b"\n");
    let tail = tail.strip_suffix(b"\n").unwrap_or(&tail);
    let start = memchr::memrchr(b'\n', tail).map_or(0, |at| at + 1);
    Ok((!tail.is_empty()).then(|| Last {
        start: from + start as u64,
        line: tail[start..].to_vec(),
        ended,
    }))
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
