//! The file of the facts: append-only, synced record by record; and how it is joined with the index.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::facts::{Fact, Indexed, Room, index};
use super::frames::{FRAME_LEN, HEADER_LEN, Next, Salt};
use super::{StoreError, codec};

/// Superseded records in the file above which it is written anew at the next start (together with: more than half).
const SUPERSEDED_KEPT: usize = 1000;

/// What the index holds of a room.
pub(super) struct Held {
    room: Room,
    entries: Vec<(sled::IVec, sled::IVec)>,
}

impl Held {
    /// Reads all of it.
    pub(super) fn of(room: Room, tree: &sled::Tree) -> Result<Self, sled::Error> {
        let entries = tree.iter().collect::<Result<_, _>>()?;
        Ok(Held { room, entries })
    }
}

/// The file.
pub(super) struct FactsLog {
    path: PathBuf,
    file: File,
    salt: Salt,
    length: u64,
    version: u64,
    /// A failed write or sync was met: what the file holds is unknown, nothing more is appended (fsyncgate).
    failed: bool,
    /// It belongs to another process now.
    closed: bool,
}

impl FactsLog {
    /// Opens the file, joins it with the trees, heals both. `held`: what the trees hold, by room.
    pub(super) fn open(path: &Path, trees: &[(Room, &sled::Tree)], held: &[Held]) -> Result<Self, StoreError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(StoreError::io(path, &e)),
        };
        let read = read(&bytes);
        if let Some(why) = &read.damage {
            let copy = path.with_extension(format!("tgj.damaged-{}", uuid::Uuid::now_v7().simple()));
            fs::copy(path, &copy).map_err(|e| StoreError::io(&copy, &e))?;
            tracing::error!(
                why,
                kept = %copy.display(),
                "the file of client keys was damaged; it is mended from what could be read and from the store"
            );
        }
        let records = read.facts.len();
        let joined = join(read.facts, held)?;
        for fact in &joined.unindexed {
            for (_, tree) in trees.iter().filter(|(room, _)| *room == fact.room) {
                index(tree, fact)?;
            }
        }
        let superseded = records.saturating_sub(joined.facts.len());
        let rewrite = joined.unwritten
            || read.salt.is_none()
            || read.damage.is_some()
            || superseded > SUPERSEDED_KEPT.max(joined.facts.len());
        let version = joined.facts.iter().map(|fact| fact.version).max().unwrap_or(0);
        let log = match read.salt {
            Some(salt) if !rewrite => {
                let file = File::options()
                    .append(true)
                    .open(path)
                    .map_err(|e| StoreError::io(path, &e))?;
                let mut log = FactsLog {
                    path: path.to_owned(),
                    file,
                    salt,
                    length: read.good,
                    version,
                    failed: false,
                    closed: false,
                };
                log.cut_torn_end()?;
                log
            }
            _ => FactsLog::write_anew(path, &joined.facts, version)?,
        };
        Ok(log)
    }

    /// Another process writes it from now on.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// The newest version there is.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Writes the file anew with the newest version of each fact only: what was superseded is not in it any more.
    pub(super) fn drop_superseded(&mut self, trees: &[(Room, &sled::Tree)]) -> Result<(), StoreError> {
        if self.closed {
            return Err(StoreError::HandedOver);
        }
        if self.failed {
            return Err(StoreError::Failed("writing facts failed before".into()));
        }
        let mut held = Vec::new();
        for &(room, tree) in trees {
            held.push(Held::of(room, tree)?);
        }
        let facts = join(Vec::new(), &held)?.facts;
        // An index that missed a change must not be taken for the truth: the next start joins the two.
        if facts.iter().map(|fact| fact.version).max().unwrap_or(0) != self.version {
            return Err(StoreError::Failed("the index of the facts is behind their file".into()));
        }
        match FactsLog::write_anew(&self.path, &facts, self.version) {
            Ok(fresh) => {
                *self = fresh;
                Ok(())
            }
            Err(error) => {
                // It may have failed after the fresh file took the place: what is appended to the old one would be lost.
                let same =
                    || -> std::io::Result<bool> { Ok(fs::metadata(&self.path)?.ino() == self.file.metadata()?.ino()) };
                self.failed = !same().unwrap_or(false);
                Err(error)
            }
        }
    }

    /// Writes a fresh file beside the old one and puts it in its place.
    fn write_anew(path: &Path, facts: &[Fact<'_>], version: u64) -> Result<Self, StoreError> {
        let salt = Salt::new(random()?);
        let mut bytes = salt.header().to_vec();
        for fact in facts {
            encode(salt, fact, &mut bytes)?;
        }
        let fresh = path.with_extension("tgj.new");
        let write = || -> std::io::Result<File> {
            match fs::remove_file(&fresh) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            let mut file = File::options().append(true).create_new(true).mode(0o600).open(&fresh)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&fresh, path)?;
            if let Some(folder) = path.parent() {
                File::open(folder)?.sync_all()?;
            }
            Ok(file)
        };
        let file = write().map_err(|e| StoreError::io(path, &e))?;
        Ok(FactsLog {
            path: path.to_owned(),
            file,
            salt,
            length: bytes.len() as u64,
            version,
            failed: false,
            closed: false,
        })
    }

    fn cut_torn_end(&mut self) -> Result<(), StoreError> {
        let cut = || -> std::io::Result<()> {
            if self.file.metadata()?.len() > self.length {
                self.file.set_len(self.length)?;
                self.file.sync_all()?;
            }
            Ok(())
        };
        cut().map_err(|e| StoreError::io(&self.path, &e))
    }

    pub(super) fn append(&mut self, facts: &[Fact<'_>]) -> Result<(), StoreError> {
        if self.closed {
            return Err(StoreError::HandedOver);
        }
        if self.failed {
            return Err(StoreError::Failed(format!(
                "{}: writing failed before; restart to have it checked",
                self.path.display()
            )));
        }
        let mut bytes = Vec::new();
        for fact in facts {
            encode(self.salt, fact, &mut bytes)?;
        }
        if let Err(e) = self.file.write_all(&bytes).and_then(|()| self.file.sync_data()) {
            self.failed = true;
            // Best effort: what was refused should not come back at the next start.
            if let Err(e) = self.file.set_len(self.length) {
                tracing::error!(error = %e, file = %self.path.display(), "a refused change could not be cut off");
            }
            return Err(StoreError::io(&self.path, &e));
        }
        self.length += bytes.len() as u64;
        self.version = facts.last().map_or(self.version, |fact| fact.version);
        Ok(())
    }
}

/// All facts, each in its newest version, wherever that stood.
struct Joined<'a> {
    facts: Vec<Fact<'a>>,
    /// Those which the index has not.
    unindexed: Vec<Fact<'a>>,
    /// There are some which the file has not.
    unwritten: bool,
}

fn join<'a>(written: Vec<Fact<'a>>, held: &'a [Held]) -> Result<Joined<'a>, StoreError> {
    let mut newest: HashMap<(Room, &'a [u8]), Fact<'a>> = HashMap::with_capacity(written.len());
    for fact in written {
        let known = newest.entry((fact.room, fact.key)).or_insert(fact);
        if known.version < fact.version {
            *known = fact;
        }
    }
    let mut facts = Vec::new();
    let mut unwritten = false;
    for held in held {
        for (key, bytes) in &held.entries {
            let Indexed { version, value } = codec::decode(bytes)?;
            match newest.get(&(held.room, &**key)) {
                // What the index has in this version is done with; what is left are those which it has not.
                Some(known) if known.version == version => facts.extend(newest.remove(&(held.room, &**key))),
                Some(known) if known.version > version => {}
                Some(_) | None => {
                    unwritten = true;
                    newest.remove(&(held.room, &**key));
                    facts.push(Fact {
                        version,
                        room: held.room,
                        key,
                        value,
                    });
                }
            }
        }
    }
    let unindexed: Vec<Fact<'a>> = newest.into_values().collect();
    facts.extend(&unindexed);
    Ok(Joined {
        facts,
        unindexed,
        unwritten,
    })
}

fn encode(salt: Salt, fact: &Fact<'_>, out: &mut Vec<u8>) -> Result<(), StoreError> {
    let value = codec::encode(fact)?;
    let fits = salt.append(out, |out| {
        out.extend_from_slice(&value);
        Ok::<_, StoreError>(())
    })?;
    if fits {
        Ok(())
    } else {
        Err(StoreError::Failed("a fact is too long".into()))
    }
}

fn random() -> Result<u64, StoreError> {
    getrandom::u64().map_err(|e| StoreError::Failed(format!("the system's randomness: {e}")))
}

/// What could be read of a file.
#[derive(Default)]
struct Read<'a> {
    salt: Option<Salt>,
    facts: Vec<Fact<'a>>,
    /// Where the last good record ends.
    good: u64,
    /// Something other than a torn end is wrong.
    damage: Option<String>,
}

/// Reads all records, those after a damaged place too: the salt in every checksum makes a false one as good as
/// impossible, and each fact stands for itself.
fn read(bytes: &[u8]) -> Read<'_> {
    let mut read = Read::default();
    if bytes.is_empty() {
        return read;
    }
    let salt = match Salt::from_header(bytes) {
        Ok(salt) => salt,
        Err(why) => {
            read.damage = Some(why);
            return read;
        }
    };
    read.salt = Some(salt);
    let mut at = HEADER_LEN;
    let mut bad = None;
    while at < bytes.len() {
        match salt.next(&bytes[at..]) {
            Next::Record(payload) => {
                at += FRAME_LEN + payload.len();
                match codec::decode(payload) {
                    Ok(fact) => read.facts.push(fact),
                    Err(e) => read.damage = Some(e.to_string()),
                }
                if let Some((from, why)) = bad.take() {
                    read.damage = Some(format!("at byte {from}: {why}"));
                }
                read.good = at as u64;
            }
            Next::Cut => {
                bad.get_or_insert((at, "a record is cut"));
                at += 1;
            }
            Next::Bad(why) => {
                bad.get_or_insert((at, why));
                at += 1;
            }
        }
    }
    read.good = read.good.max(HEADER_LEN as u64);
    read
}
