//! The lanes of a provider, one for each model that was asked for. Names of models come from clients: how many are kept is
//! bounded, and made-up ones make room for those in use.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use parking_lot::Mutex;

use super::Lane;
use super::lane::Roster;

/// Most models of one provider with a lane of their own. Of more, those used longest ago go; where none can go, the rest
/// share one.
pub(super) const MAX_LANES: usize = 512;

/// So many go at once: looking for them costs more than adding one.
const GO: usize = MAX_LANES / 8;

/// Where no lane could go it is not looked again before this.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The lane of requests without a model: passthrough. No model's name is empty.
pub(super) const PASSTHROUGH: &str = "";

/// The lane of models beyond [`MAX_LANES`], by the name the admin API shows.
const SHARED: &str = "*";

type ByModel = HashMap<Arc<str>, Arc<Lane>>;

/// The lanes of a pool.
pub(super) struct Lanes {
    by_model: ArcSwap<ByModel>,
    /// How many were ever added: the time by which use is told. A lane is marked once in between, so that a model everybody asks
    /// for is not written to by everybody.
    added: AtomicU64,
    /// Held while one is added; when to look again for lanes that can go, if none could.
    adding: Mutex<Option<Instant>>,
}

impl Lanes {
    /// These lanes, of the pool before if there was one.
    pub(super) fn new(by_model: ByModel, before: Option<&Lanes>) -> Self {
        let added = before.map_or(0, |before| before.added.load(Ordering::Relaxed));
        Lanes {
            by_model: ArcSwap::from_pointee(by_model),
            added: added.into(),
            adding: Mutex::default(),
        }
    }

    /// All there are.
    pub(super) fn load(&self) -> Guard<Arc<ByModel>> {
        self.by_model.load()
    }

    /// The lane of a model, added if there is none.
    pub(super) fn get(&self, model: &str, roster: &Arc<Roster>) -> Arc<Lane> {
        if let Some(lane) = self.known(model) {
            return lane;
        }
        let mut adding = self.adding.lock();
        if let Some(lane) = self.known(model) {
            return lane;
        }
        let known = self.load();
        let special = [PASSTHROUGH, SHARED].iter().filter(|name| known.contains_key(**name));
        let mut go = Vec::new();
        let mut model = model;
        if model != PASSTHROUGH && known.len() - special.count() >= MAX_LANES {
            let now = Instant::now();
            if adding.is_none_or(|look_again| look_again <= now) {
                go = can_go(&known, now);
                *adding = go.is_empty().then(|| now + LOOK_AGAIN);
            }
            if go.is_empty() {
                model = SHARED;
                if let Some(lane) = self.known(model) {
                    return lane;
                }
            }
        }
        let model: Arc<str> = model.into();
        let lane = Arc::new(Lane::new(model.clone(), roster.clone()));
        let mut lanes = HashMap::clone(&known);
        go.iter().for_each(|name| drop(lanes.remove(name)));
        lanes.insert(model, lane.clone());
        self.by_model.store(Arc::new(lanes));
        let added = self.added.fetch_add(1, Ordering::Relaxed) + 1;
        lane.totals.used.store(added, Ordering::Relaxed);
        lane
    }

    fn known(&self, model: &str) -> Option<Arc<Lane>> {
        let lane = self.load().get(model)?.clone();
        let added = self.added.load(Ordering::Relaxed);
        if lane.totals.used.load(Ordering::Relaxed) != added {
            lane.totals.used.store(added, Ordering::Relaxed);
        }
        Some(lane)
    }
}

/// Lanes nobody would miss: nothing under way, nothing that cools. Those used longest ago, at most [`GO`].
fn can_go(known: &ByModel, now: Instant) -> Vec<Arc<str>> {
    let own = known
        .iter()
        .filter(|(model, _)| ![PASSTHROUGH, SHARED].contains(&&***model));
    let mut lanes: Vec<_> = own
        .map(|(model, lane)| (lane.totals.used.load(Ordering::Relaxed), model, lane))
        .collect();
    lanes.sort_unstable_by_key(|(used, ..)| *used);
    let idle = lanes.into_iter().filter(|(.., lane)| lane.is_idle(now));
    idle.take(GO).map(|(_, model, _)| model.clone()).collect()
}
