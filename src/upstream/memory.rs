//! What outlives the process: cooldowns, quarantines, the operator's word. A JSON file, `data/cooldowns.json`, with wall-clock
//! times; it holds no secret.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::clock::UnixMicros;

use super::cooldown::{Cooldown, Kept, MAX_TOLD};
use super::{Failure, Fleet};

/// Most cooldowns kept; of more those which last longest.
pub const MAX_ENTRIES: usize = 10_000;

/// Largest file read.
const MAX_BYTES: u64 = 16 << 20;

/// What the file holds; another version is ignored.
const VERSION: u32 = 1;

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    version: u32,
    cooling: Vec<Entry>,
    disabled: Vec<Disabled>,
    /// Added later; files of earlier programs have none.
    #[serde(default)]
    used: Vec<Used>,
}

/// What was used of a credential's limits per minute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Used {
    provider: Arc<str>,
    credential: Arc<str>,
    fingerprint: u32,
    at: UnixMicros,
    /// By how many seconds before.
    requests: Vec<(u64, u64)>,
    tokens: Vec<(u64, u64)>,
}

/// A credential that cools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    provider: Arc<str>,
    credential: Arc<str>,
    /// Of its secret: another secret starts fresh.
    fingerprint: u32,
    /// As a whole, if there is none.
    model: Option<Arc<str>>,
    until: UnixMicros,
    reason: String,
    failures: u32,
    step: u8,
    soft: bool,
}

/// A credential the operator took out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Disabled {
    provider: Arc<str>,
    credential: Arc<str>,
}

impl Memory {
    /// Nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.cooling.is_empty() && self.disabled.is_empty() && self.used.is_empty()
    }

    /// Writes the file (mode 0600) beside the old one and puts it in its place: there is always a whole one.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(self)?;
        let fresh = path.with_extension("json.new");
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    }

    /// Reads the file. One that is missing is empty; one that can't be read is told in the log, and ignored: what it knew is
    /// learned anew.
    pub fn load(path: &Path) -> Self {
        match Self::read(path) {
            Ok(memory) => memory,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Memory::default(),
            Err(error) => {
                let path = path.display();
                tracing::warn!(%path, %error, "the file of cooldowns can't be read: starting without it");
                Memory::default()
            }
        }
    }

    fn read(path: &Path) -> io::Result<Self> {
        let mut text = Vec::new();
        File::open(path)?.take(MAX_BYTES).read_to_end(&mut text)?;
        let memory: Memory = serde_json::from_slice(&text)?;
        if memory.version != VERSION {
            let what = format!("it is of version {}, not {VERSION}", memory.version);
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(memory)
    }
}

impl Fleet {
    /// Changes whenever there is something new to remember.
    pub fn changed(&self) -> u64 {
        let counted = self.pools().map(|pool| pool.roster.changes.counted());
        counted.fold(0, u64::wrapping_add)
    }

    /// What is to outlive the process. `now` and `at` are the same moment.
    pub fn remember(&self, now: Instant, at: UnixMicros) -> Memory {
        let mut memory = Memory {
            version: VERSION,
            ..Memory::default()
        };
        for pool in self.pools() {
            let roster = &pool.roster;
            let entry = |index: usize, model: Option<&Arc<str>>, cooldown: &Cooldown| {
                let kept = cooldown.keep()?;
                let account = &roster.accounts[index];
                Some(Entry {
                    provider: roster.provider.clone(),
                    credential: account.name.clone(),
                    fingerprint: account.fingerprint,
                    model: model.cloned(),
                    until: wall(kept.until, now, at),
                    reason: kept.reason.as_str().to_owned(),
                    failures: kept.failures,
                    step: kept.step,
                    soft: kept.soft,
                })
            };
            for (index, account) in roster.accounts.iter().enumerate() {
                let mut state = account.state.lock();
                memory.cooling.extend(entry(index, None, &state.cooldown));
                let (requests, tokens) = state.used(now);
                if !requests.is_empty() && memory.used.len() < MAX_ENTRIES {
                    memory.used.push(Used {
                        provider: roster.provider.clone(),
                        credential: account.name.clone(),
                        fingerprint: account.fingerprint,
                        at,
                        requests,
                        tokens,
                    });
                }
                if state.disabled {
                    memory.disabled.push(Disabled {
                        provider: roster.provider.clone(),
                        credential: account.name.clone(),
                    });
                }
            }
            for lane in pool.lanes.load().values() {
                let seats = lane.seats.iter().enumerate();
                let cooling =
                    seats.filter_map(|(index, seat)| entry(index, Some(&lane.model), &seat.state.lock().cooldown));
                memory.cooling.extend(cooling);
            }
        }
        if memory.cooling.len() > MAX_ENTRIES {
            memory
                .cooling
                .sort_unstable_by_key(|entry| std::cmp::Reverse(entry.until));
            memory.cooling.truncate(MAX_ENTRIES);
        }
        let name = |entry: &Entry| (entry.provider.clone(), entry.credential.clone(), entry.model.clone());
        memory.cooling.sort_by_cached_key(name);
        memory
    }

    /// Puts back what was remembered, at the start. Entries of credentials which are gone or have another secret are dropped;
    /// a time that has passed means: one request tries it. What has been learned since stays.
    pub fn recall(&self, memory: &Memory, now: Instant, at: UnixMicros) {
        let mut lanes = HashMap::new();
        for entry in memory.cooling.iter().take(MAX_ENTRIES) {
            let Some(pool) = self.pool(&entry.provider) else {
                continue;
            };
            let Some(reason) = Failure::from_name(&entry.reason) else {
                continue;
            };
            let Some(index) = pool.roster.by_name.get(&entry.credential).copied() else {
                continue;
            };
            let account = &pool.roster.accounts[index];
            if account.fingerprint != entry.fingerprint || !pool.roster.cooldown {
                continue;
            }
            let kept = Kept {
                until: monotonic(entry.until, now, at),
                failures: entry.failures,
                step: entry.step,
                soft: entry.soft,
                reason,
            };
            match &entry.model {
                None => account.state.lock().cooldown.recall(kept, now),
                Some(model) => {
                    let lane = lanes
                        .entry((entry.provider.clone(), model.clone()))
                        .or_insert_with(|| pool.lane(model));
                    lane.seats[index].state.lock().cooldown.recall(kept, now)
                }
            };
        }
        for used in memory.used.iter().take(MAX_ENTRIES) {
            let Some(pool) = self.pool(&used.provider) else {
                continue;
            };
            let account = pool.roster.by_name.get(&used.credential);
            let account = account.map(|index| &pool.roster.accounts[*index]);
            if let Some(account) = account.filter(|account| account.fingerprint == used.fingerprint) {
                let ago = u64::try_from(at.0.saturating_sub(used.at.0)).unwrap_or(0) / 1_000_000;
                account.state.lock().recall_used(&used.requests, &used.tokens, ago, now);
            }
        }
        for disabled in &memory.disabled {
            if let Some(pool) = self.pool(&disabled.provider) {
                pool.set_disabled(&disabled.credential, true);
            }
        }
    }
}

fn wall(until: Instant, now: Instant, at: UnixMicros) -> UnixMicros {
    let left = until.saturating_duration_since(now).min(MAX_TOLD);
    UnixMicros(at.0.saturating_add(left.as_micros() as i64))
}

/// A clock that was set back can't bar a credential for longer than anything bars it.
fn monotonic(until: UnixMicros, now: Instant, at: UnixMicros) -> Instant {
    let left = u64::try_from(until.0.saturating_sub(at.0)).unwrap_or(0);
    now + Duration::from_micros(left).min(MAX_TOLD)
}
