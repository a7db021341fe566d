//! Affinity: a conversation stays with the provider, credential and model it began with, so that the provider's prompt cache hits.
//!
//! A conversation is known by what its client calls it (a header, or the body's cache key), else by its stable beginning. A hash of
//! that, mixed with the client's key, so that nobody can follow another's conversation, leads to where it was last.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName};
use parking_lot::Mutex;

use crate::dialects::Outline;

use super::beginning;
use super::hash;

/// Longest name of a session; a longer one is no name.
const MAX_NAME: usize = 512;

/// A conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its hash.
    pub id: u64,
    /// The client names it; else it is known by its beginning.
    pub named: bool,
}

impl Session {
    /// Stands for any that is known by its beginning only.
    pub const UNNAMED: Session = Session { id: 0, named: false };
}

/// A conversation at one route: the key of [`Affinities`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope(pub(super) u64);

/// Where a conversation was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sticky {
    /// The provider.
    pub provider: Arc<str>,
    /// Its credential; `None`: the provider wants none.
    pub credential: Option<Arc<str>>,
    /// The model, by the name the provider needs; `None`: the one the client says.
    pub model: Option<Arc<str>>,
}

/// What became of a conversation's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kept {
    /// It was not known.
    Fresh,
    /// It stayed where it was.
    Stayed,
    /// It went elsewhere.
    Moved,
}

impl Kept {
    /// The name used in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kept::Fresh => "fresh",
            Kept::Stayed => "stayed",
            Kept::Moved => "moved",
        }
    }
}

/// The conversation, if the client names it: in a header, first those of the configuration, then the client's dialect's; else by the
/// body's cache key. `key`: the public part of the client's key. Costs next to nothing.
pub fn named(
    dialect_headers: &[&str],
    configured: &[HeaderName],
    headers: &HeaderMap,
    outline: &Outline,
    key: &str,
) -> Option<Session> {
    // Looked up by their names as they are: a name in a text would be parsed each time.
    let configured = configured.iter().map(|name| (name.as_str(), headers.get(name)));
    let of_dialect = dialect_headers.iter().map(|name| (*name, headers.get(*name)));
    let of_header = configured.chain(of_dialect).find_map(|(name, value)| {
        let value = value?.as_bytes().trim_ascii();
        is_name(value).then(|| hash::of(&("header", name, value, key)))
    });
    let of_body = || {
        let value = outline.cache_key.as_deref()?.trim().as_bytes();
        is_name(value).then(|| hash::of(&("cache_key", value, key)))
    };
    let id = of_header.or_else(of_body)?;
    Some(Session { id, named: true })
}

fn is_name(value: &[u8]) -> bool {
    (1..=MAX_NAME).contains(&value.len())
}

/// The conversation by its stable beginning, if that is long enough for providers to cache it. Hashes at most 64 KiB.
pub fn by_beginning(outline: &Outline, body: &[u8], key: &str) -> Option<Session> {
    let mut hasher = hash::begin();
    ("beginning", key).hash(&mut hasher);
    beginning::read(&outline.preamble, outline.prompt.clone(), body, &mut hasher)?;
    Some(Session {
        id: hasher.finish(),
        named: false,
    })
}

/// Tables among which conversations are spread, so that threads seldom wait for each other.
const SHARDS: usize = 16;

/// Where conversations were. Bounded: the oldest are forgotten. It outlives a reload of the rules: a name that is gone from them is
/// simply not found.
pub struct Affinities {
    shards: Box<[Mutex<Shard>]>,
    /// Entries of one generation of one shard.
    room: usize,
    live: Duration,
}

/// Two generations: when the young one is full, it becomes the old one, and the old one is dropped. What is asked for moves to the
/// young one. So forgetting costs nothing but the drop, and what is in use stays.
#[derive(Default)]
struct Shard {
    young: HashMap<u64, Entry>,
    old: HashMap<u64, Entry>,
}

struct Entry {
    sticky: Sticky,
    until: Instant,
}

impl Affinities {
    /// A table of about so many conversations (between half and all of them are kept once it is full), each remembered for `live`
    /// after its last success.
    pub fn new(entries: usize, live: Duration) -> Self {
        Affinities {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            room: (entries / SHARDS / 2).max(1),
            live,
        }
    }

    /// Where it was; `None`: not known, or too long ago.
    pub fn get(&self, scope: Scope, now: Instant) -> Option<Sticky> {
        let mut shard = self.shard(scope)?.lock();
        if let Some(entry) = shard.young.get(&scope.0) {
            return (now < entry.until).then(|| entry.sticky.clone());
        }
        let entry = shard.old.remove(&scope.0).filter(|entry| now < entry.until)?;
        let sticky = entry.sticky.clone();
        shard.put(scope.0, entry, self.room);
        Some(sticky)
    }

    /// An attempt succeeded there.
    pub fn keep(&self, scope: Scope, sticky: Sticky, now: Instant) -> Kept {
        let Some(shard) = self.shard(scope) else {
            return Kept::Fresh;
        };
        let mut shard = shard.lock();
        let entry = Entry {
            sticky: sticky.clone(),
            until: now.checked_add(self.live).unwrap_or(now),
        };
        let old = shard.old.remove(&scope.0);
        let known = match shard.young.get_mut(&scope.0) {
            Some(young) => Some(std::mem::replace(young, entry)),
            None => {
                shard.put(scope.0, entry, self.room);
                old
            }
        };
        match known.filter(|entry| now < entry.until) {
            None => Kept::Fresh,
            Some(entry) if entry.sticky == sticky => Kept::Stayed,
            Some(_) => Kept::Moved,
        }
    }

    /// All that are remembered, for another process: the conversation, where it was, and how long that is remembered yet.
    pub fn all(&self, now: Instant) -> Vec<(u64, Sticky, Duration)> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            let old = shard.old.iter().filter(|(id, _)| !shard.young.contains_key(id));
            let entries = shard.young.iter().chain(old);
            all.extend(entries.filter_map(|(id, entry)| {
                let left = entry.until.checked_duration_since(now)?;
                Some((*id, entry.sticky.clone(), left))
            }));
        }
        all
    }

    /// Takes over what another process remembered.
    pub fn recall(&self, id: u64, sticky: Sticky, left: Duration, now: Instant) {
        if let Some(shard) = self.shard(Scope(id)) {
            let until = now.checked_add(left.min(self.live)).unwrap_or(now);
            shard.lock().put(id, Entry { sticky, until }, self.room);
        }
    }

    fn shard(&self, scope: Scope) -> Option<&Mutex<Shard>> {
        let at = usize::try_from(scope.0 >> 32).unwrap_or(0) % SHARDS;
        self.shards.get(at)
    }
}

impl Shard {
    fn put(&mut self, scope: u64, entry: Entry, room: usize) {
        if self.young.len() >= room {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(scope, entry);
    }
}

#[cfg(test)]
impl Affinities {
    /// Conversations remembered, those which are too old among them.
    pub(super) fn len(&self) -> usize {
        let count = |shard: &Mutex<Shard>| {
            let shard = shard.lock();
            shard.young.len() + shard.old.len()
        };
        self.shards.iter().map(count).sum()
    }
}
