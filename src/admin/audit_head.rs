//! What is kept beside the audit log, in `audit.head`: the hash of its last line, and the writes under way.
//!
//! The hash tells of an audit log that was emptied, cut or deleted, also while the gateway was not running. A write is entered
//! here before anything is changed: if the process dies before its line is written, the next start writes one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Largest file that is read, in bytes: [`super::audit_file::MAX_PENDING`] writes of some hundred bytes.
const MAX_FILE: u64 = 1 << 20;

/// Who wants what: the beginning of a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Intent {
    /// When it was asked, RFC 3339.
    pub(super) time: String,
    /// Id of the token, or the fingerprint of the one in `admin.token`.
    pub(super) who: String,
    /// Its role.
    pub(super) role: String,
    /// Address of the caller; `None`: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) from: Option<String>,
    pub(super) method: String,
    /// The path's pattern, `/api/v1/keys/{id}`: what was written in its place may be anything.
    pub(super) path: String,
}

/// A write under way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Pending {
    /// Its number, within this process.
    #[serde(skip)]
    pub(super) number: u64,
    #[serde(flatten)]
    pub(super) intent: Intent,
}

/// The file.
#[derive(Debug)]
pub(super) struct Head {
    path: PathBuf,
    pub(super) said: Said,
}

/// What it says.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Said {
    /// SHA-256 of the last line, hexadecimal; empty: there is none.
    pub(super) last: String,
    /// Writes whose line is not written yet.
    #[serde(default)]
    pub(super) pending: Vec<Pending>,
}

impl Head {
    /// Reads the file beside the audit log `log`; the bool says whether there is one. One that can't be understood is as none,
    /// with an error in the log.
    pub(super) fn read(log: &Path) -> io::Result<(Self, bool)> {
        let path = log.with_extension("head");
        let mut text = Vec::new();
        match File::open(&path) {
            Ok(file) => drop(file.take(MAX_FILE).read_to_end(&mut text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let said = Said::default();
                return Ok((Head { path, said }, false));
            }
            Err(error) => return Err(error),
        }
        let said = serde_json::from_slice(&text);
        let there = said.is_ok();
        if let Err(error) = &said {
            tracing::error!(
                file = %path.display(), %error,
                "what is known of the audit log's end can't be read: whether its end was cut off is not seen this time"
            );
        }
        let said = said.unwrap_or_default();
        Ok((Head { path, said }, there))
    }

    /// Writes it beside, then puts it in its place. With `durable` it also survives a power cut. Blocking.
    pub(super) fn save(&self, durable: bool) -> io::Result<()> {
        let fresh = self.path.with_extension("head.new");
        let text = serde_json::to_vec(&self.said)?;
        let written = (|| {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&fresh)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&fresh, &self.path)?;
            match self.path.parent() {
                Some(folder) if durable && !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
                _ => Ok(()),
            }
        })();
        if written.is_err() {
            // It is of no use to anybody; that it could not be removed either is not the news.
            let _ = fs::remove_file(&fresh);
        }
        written
    }
}
