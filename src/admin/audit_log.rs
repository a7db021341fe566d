//! `/api/v1/audit`: who changed what, and whether the file that says so is whole. For owners.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::Api;
use super::audit_file::{MAX_LINE, digest, moved_away};
use super::input::{Asked, NoMore};
use super::page::PageOf;
use super::refusal::{AnyRefusal, Refusal};

/// Most bytes of the file that are read for one page.
const WINDOW: u64 = 4 << 20;

/// One call that changed something, tried to, or was forbidden.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditLine {
    /// When, RFC 3339.
    #[schema(format = DateTime)]
    pub time: String,
    /// Id of the token, or the fingerprint of the one in `admin.token`.
    pub who: String,
    /// Its role; null: written before there were roles.
    pub role: Option<String>,
    /// Address of the caller; null: not known.
    pub from: Option<String>,
    /// The method.
    pub method: String,
    /// The path's pattern.
    pub path: String,
    /// The answer's status; 0: not known, see `interrupted`.
    pub status: u16,
    /// The word of a refusal.
    pub refused: Option<String>,
    /// An answer was given again, by its Idempotency-Key: nothing was done.
    #[serde(default)]
    pub replayed: bool,
    /// The process died before it was written down what became of it: it may have been done.
    #[serde(default)]
    pub interrupted: bool,
    /// What was changed: `target`, and the `values` it was given, without secrets.
    #[schema(value_type = Option<Object>)]
    pub change: Option<Value>,
    /// SHA-256 of the line before.
    pub previous: String,
}

/// A page of the audit log.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditPage {
    /// Newest first.
    pub lines: Vec<AuditLine>,
    /// Give this as `cursor` to go on; null: this was the last page.
    pub next: Option<String>,
}

/// Whether the audit log is whole.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditCheck {
    /// Each line holds the hash of the one before, the last is the one that was written last, and what the file continues is
    /// there.
    pub whole: bool,
    /// Lines of the file.
    pub lines: u64,
    /// The first line whose predecessor was changed or taken out, from 1; null: there is none.
    pub broken_at: Option<u64>,
    /// What the file continues: the hash of the last line of one that was moved away, or that was deleted or emptied. Null: it
    /// begins the chain.
    pub continues: Option<String>,
    /// The file beside it that ends with that line (`audit.jsonl.1`); it is not checked itself. Absent: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continued: Option<String>,
}

/// The audit log, newest first, page by page. A file that was moved away is not read.
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit", operation_id = "list_audit", params(PageOf),
    responses((status = 200, description = "A page of the audit log.", body = AuditPage), AnyRefusal))]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Asked(page, _): Asked<PageOf, NoMore>,
) -> Result<Json<AuditPage>, Refusal> {
    let (limit, before) = (page.limit()?, page.after(|text| text.parse::<u64>().ok())?);
    let read = api.blocking(move |state| before_position(state.audit.path(), before, limit));
    read.await?.map(Json).map_err(unreadable)
}

/// Checks the chain of the whole file: a line that was changed or taken out later is found.
#[utoipa::path(get, path = "/api/v1/audit/verify", tag = "audit", operation_id = "verify_audit",
    responses((status = 200, description = "Whether it is whole.", body = AuditCheck), AnyRefusal))]
pub(super) async fn verify(State(api): State<Arc<Api>>, _: Asked<NoMore, NoMore>) -> Result<Json<AuditCheck>, Refusal> {
    let checked = api.blocking(|state| {
        // Nothing may be written between reading and looking at the last hash.
        state.audit.while_still(|last| check(state.audit.path(), last))
    });
    checked.await?.map(Json).map_err(unreadable)
}

fn unreadable(error: io::Error) -> Refusal {
    tracing::error!(%error, "the audit log can't be read");
    Refusal::internal()
}

/// At most `limit` lines which end at or before this position, newest first.
fn before_position(path: &Path, before: Option<u64>, limit: usize) -> io::Result<AuditPage> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        // Moved away, and nothing was written since.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(AuditPage {
                lines: Vec::new(),
                next: None,
            });
        }
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    let end = before.unwrap_or(length).min(length);
    let start = end.saturating_sub(WINDOW);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(end - start).read_to_end(&mut bytes)?;
    // What the window begins with may be half a line; a whole file has none.
    let whole = match start {
        0 => 0,
        _ => memchr::memchr(b'\n', &bytes).map_or(bytes.len(), |at| at + 1),
    };
    let mut lines = Vec::new();
    let mut at = bytes.len();
    while at > whole && lines.len() < limit {
        let line = bytes[whole..at].strip_suffix(b"\n").unwrap_or(&bytes[whole..at]);
        let begin = whole + memchr::memrchr(b'\n', line).map_or(0, |at| at + 1);
        // What is no line of ours is for the check to find.
        lines.extend(serde_json::from_slice::<AuditLine>(bytes[begin..at].trim_ascii()).ok());
        at = begin;
    }
    // No line ends in the window: none of ours is that long.
    let at = if whole == bytes.len() { 0 } else { at };
    let position = start + at as u64;
    Ok(AuditPage {
        lines,
        next: (position > 0).then(|| position.to_string()),
    })
}

/// Follows the chain from the first line to the last, whose hash must be `last`.
fn check(path: &Path, last: &str) -> io::Result<AuditCheck> {
    let mut reader: Box<dyn BufRead> = match File::open(path) {
        Ok(file) => Box::new(BufReader::new(file)),
        // Moved away, and nothing was written since, or deleted.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Box::new(io::empty()),
        Err(error) => return Err(error),
    };
    let (mut lines, mut broken_at) = (0, None);
    let mut continues = None;
    let mut previous: Option<String> = None;
    let mut line = Vec::new();
    loop {
        line.clear();
        // Twice the longest line: one that is longer is not ours.
        if (&mut reader).take(2 * MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        lines += 1;
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let named = serde_json::from_slice::<AuditLine>(text).ok().map(|line| line.previous);
        match (&previous, &named) {
            (Some(previous), Some(named)) if previous == named => {}
            (None, Some(named)) => continues = (!named.is_empty()).then(|| named.clone()),
            _ => broken_at = broken_at.or(Some(lines)),
        }
        previous = Some(digest(text));
    }
    // An empty file continues what was written last.
    let ends = previous.as_deref().unwrap_or(last) == last;
    if lines == 0 {
        continues = (!last.is_empty()).then(|| last.to_owned());
    }
    let continued = match &continues {
        Some(last) => moved_away(path, last)?,
        None => None,
    };
    let name = |path: std::path::PathBuf| Some(path.file_name()?.to_string_lossy().into_owned());
    Ok(AuditCheck {
        whole: broken_at.is_none() && ends && continues.is_some() == continued.is_some(),
        lines,
        broken_at,
        continues,
        continued: continued.and_then(name),
    })
}

impl AuditCheck {
    /// What the file continues is not there: it was deleted, emptied, or moved to another folder.
    pub fn start_is_missing(&self) -> bool {
        self.continues.is_some() && self.continued.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(lines: usize) -> (tempfile::TempDir, std::path::PathBuf, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let (mut text, mut previous) = (String::new(), String::new());
        for status in 0..lines {
            let line = format!(
                r#"{{"time":"t","who":"w","method":"POST","path":"/p","status":{status},"previous":"{previous}"}}"#
            );
            previous = digest(line.as_bytes());
            text += &format!("{line}\n");
        }
        std::fs::write(&path, text).unwrap();
        (folder, path, previous)
    }

    #[test]
    fn pages_hold_every_line_once_newest_first() {
        let (_folder, path, _) = file(25);
        for limit in [1, 7, 25, 100] {
            let (mut read, mut before) = (Vec::new(), None);
            loop {
                let page = before_position(&path, before, limit).unwrap();
                assert!(page.lines.len() <= limit);
                read.extend(page.lines.iter().map(|line| line.status));
                match page.next {
                    Some(next) => before = Some(next.parse().unwrap()),
                    None => break,
                }
            }
            assert_eq!(read, (0..25).rev().collect::<Vec<u16>>(), "{limit}");
        }
        let odd = before_position(&path, Some(u64::MAX), 1).unwrap();
        assert_eq!(odd.lines[0].status, 24);
        assert!(
            before_position(&path, Some(3), 10).unwrap().lines.is_empty(),
            "the middle of a line"
        );
    }

    #[test]
    fn what_is_no_line_does_not_hold_up_the_pages() {
        let (_folder, path, _) = file(3);
        let mut text = std::fs::read(&path).unwrap();
        text.resize(text.len() + WINDOW as usize * 2, 0);
        text.push(b'\n');
        std::fs::write(&path, text).unwrap();
        let (mut read, mut before) = (0, None);
        for _ in 0..9 {
            let page = before_position(&path, before, 10).unwrap();
            read += page.lines.len();
            match page.next {
                Some(next) => before = Some(next.parse().unwrap()),
                None => break,
            }
        }
        assert_eq!(read, 3);
    }

    #[test]
    fn a_line_changed_taken_out_or_cut_off_is_found() {
        let (_folder, path, last) = file(5);
        let whole = check(&path, &last).unwrap();
        assert!(whole.whole && whole.lines == 5 && whole.continues.is_none());
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (change, broken_at) in [
            (text.replace("\"status\":2", "\"status\":9"), Some(4)),
            (text.replace(&format!("{}\n", lines[1]), ""), Some(2)),
            (text.replace(lines[2], "nonsense"), Some(3)),
            (text.replace(&format!("{}\n", lines[4]), ""), None),
        ] {
            std::fs::write(&path, change).unwrap();
            let checked = check(&path, &last).unwrap();
            assert!(!checked.whole);
            assert_eq!(checked.broken_at, broken_at);
        }
    }

    #[test]
    fn a_file_whose_start_is_gone_is_not_whole_unless_it_lies_beside() {
        let (folder, path, last) = file(5);
        let text = std::fs::read_to_string(&path).unwrap();
        let two: String = text.split_inclusive('\n').skip(3).collect();
        let three: String = text.split_inclusive('\n').take(3).collect();
        let beside = folder.path().join("audit.jsonl.1");
        for (here, before, lines) in [(&two, &three, 2), (&String::new(), &text, 0)] {
            std::fs::write(&path, here).unwrap();
            let checked = check(&path, &last).unwrap();
            assert!(!checked.whole && checked.start_is_missing() && checked.lines == lines);
            std::fs::write(&beside, before).unwrap();
            let checked = check(&path, &last).unwrap();
            assert!(checked.whole && !checked.start_is_missing());
            assert_eq!(checked.continued.as_deref(), Some("audit.jsonl.1"));
            std::fs::remove_file(&beside).unwrap();
        }
        std::fs::remove_file(&path).unwrap();
        assert!(!check(&path, &last).unwrap().whole, "deleted");
        assert!(check(&path, "").unwrap().whole, "nothing was written ever");
    }
}
