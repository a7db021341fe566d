//! Tells people by webhook what is wrong with the gateway, and when it is right again.
//!
//! `watch` looks at the other rooms, every other second, and finds what holds now; none of them knows this room. `board`
//! makes messages of what begins and ends (a pure state machine), `cap` keeps their number down, `words` says them in the form
//! of each kind of webhook, `outlet` delivers them, each webhook by a task of its own with a bounded queue.
//!
//! What is told lives as long as the process: after a restart a condition that still stands is told once more. Messages
//! hold names of the rules, ids and counts; never a prompt, an answer or a secret.

mod board;
mod cap;
mod counted;
mod deliver;
mod metrics;
mod outlet;
mod watch;
mod window;
mod words;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::clock::{Clock, UnixMicros};
use crate::config::Secret;
use crate::config::alerts::{self, Condition, Severity};
use crate::egress::{Policy, Post};
use crate::observe::redact::{Masker, printable};

use board::Board;
use deliver::Schedule;
pub use outlet::{Delivery, OutletView, Tested};
use outlet::{Ends, Outlet};
pub use watch::{Expiry, Outside, Sources};
use words::{Kind, Message};

/// How often it is looked what holds.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Longest text of a message's parts, in bytes.
const MAX_TEXT: usize = 1024;

/// How long a test waits until another one has ended.
const TEST_WAIT: Duration = Duration::from_secs(15);

/// Something that holds now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind.
    pub condition: Condition,
    /// Of what: names of the rules, ids; empty: of the gateway.
    pub subject: String,
    /// Tells a subject from an earlier one of the same name: when the budget's window began.
    pub instance: i64,
    /// How grave.
    pub severity: Severity,
    /// How far it went; what has gone further than was told is told again.
    pub level: u32,
    /// What is wrong, as a sentence.
    pub what: String,
    /// What to do.
    pub help: String,
}

impl Finding {
    /// Without secrets and control characters, and not too long.
    fn clean(mut self, masker: &Masker) -> Self {
        for text in [&mut self.subject, &mut self.what, &mut self.help] {
            *text = printable(&masker.mask(text), MAX_TEXT).into_owned();
        }
        self
    }
}

/// A condition that was told and stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Active {
    /// What is found of it.
    pub finding: Finding,
    /// Since when it holds.
    pub since: UnixMicros,
}

/// Why a webhook can't be tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TestError {
    /// There is none of this name.
    #[error("there is no such webhook in [alerts] of the configuration")]
    NoSuchWebhook,
    /// Another test takes long.
    #[error("another test is under way: try again")]
    Busy,
}

/// The webhooks and what they were told. A handle: clones share everything.
#[derive(Clone)]
pub struct Alerts(Arc<Inner>);

struct Inner {
    clock: Clock,
    board: Mutex<Board>,
    outlets: Vec<Arc<Outlet>>,
    /// The delivering end of each, until the alerts run.
    ends: Mutex<Vec<Ends>>,
    heartbeat: Option<Duration>,
    testing: Semaphore,
}

impl Alerts {
    /// Reads where the webhooks are; nothing is told before [`Alerts::run`]. `policy`: where they may lead.
    pub fn new(settings: &alerts::Alerts, policy: Policy, clock: Clock) -> Self {
        Self::with(settings, Post::new(policy), Schedule::default(), clock)
    }

    fn with(settings: &alerts::Alerts, post: Post, schedule: Schedule, clock: Clock) -> Self {
        metrics::declare();
        let post = Arc::new(post);
        let outlets = settings.webhooks.iter().map(|webhook| {
            Outlet::new(
                webhook.clone(),
                settings.max_per_hour,
                post.clone(),
                schedule,
                clock.clone(),
            )
        });
        let (outlets, ends) = outlets.unzip();
        Alerts(Arc::new(Inner {
            clock,
            board: Mutex::new(Board::new(settings)),
            outlets,
            ends: Mutex::new(ends),
            heartbeat: settings.heartbeat,
            testing: Semaphore::new(1),
        }))
    }

    /// Every secret of the webhooks: what is printed is to be masked by them.
    pub fn secrets(&self) -> Vec<Secret> {
        self.0.outlets.iter().flat_map(|outlet| outlet.secrets()).collect()
    }

    /// The webhooks that are inactive, and why.
    pub fn inactive(&self) -> Vec<(String, String)> {
        let why = |outlet: &Arc<Outlet>| Some((outlet.name().to_owned(), outlet.inactive()?.to_owned()));
        self.0.outlets.iter().filter_map(why).collect()
    }

    /// Looks and tells for ever. Once: a second call only looks.
    pub async fn run(self, sources: Sources) {
        for (name, why) in self.inactive() {
            tracing::warn!(webhook = name, why, "a webhook is inactive: it is told nothing");
        }
        for (outlet, end) in self.0.outlets.iter().zip(std::mem::take(&mut *self.0.ends.lock())) {
            if outlet.inactive().is_none() {
                tokio::spawn(outlet.clone().deliver(end));
            }
        }
        let mut watch = watch::Watch::new(sources);
        let mut beat = Instant::now();
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let looked = tokio::task::spawn_blocking(move || {
                let found = watch.look(Instant::now());
                (watch, found)
            });
            let Ok((again, found)) = looked.await else {
                // It panicked, was logged, and what it knew is lost.
                tracing::error!("alerts are not looked for any more");
                return;
            };
            watch = again;
            let now = Instant::now();
            self.turn(found, now);
            if let Some(every) = self.0.heartbeat
                && now >= beat
            {
                beat = now + every;
                self.beat(now);
            }
        }
    }

    /// Tells what has begun and what has ended.
    fn turn(&self, found: Vec<Finding>, now: Instant) {
        let at = self.0.clock.now();
        let messages = {
            let mut board = self.0.board.lock();
            let messages = board.turn(found, now, at);
            metrics::active(&board);
            messages
        };
        for message in messages {
            log(&message);
            self.0.outlets.iter().for_each(|outlet| outlet.offer(&message, now));
        }
        self.0.outlets.iter().for_each(|outlet| outlet.sum_up(now, at));
    }

    fn beat(&self, now: Instant) {
        let standing = self.0.board.lock().active().len();
        let message = Message::heartbeat(standing, self.0.clock.now());
        self.0.outlets.iter().for_each(|outlet| outlet.offer(&message, now));
    }

    /// Sends a test to one webhook, or to each, once and at once. Takes as long as a call may, and waits its turn.
    pub async fn test(&self, name: Option<&str>) -> Result<Vec<Tested>, TestError> {
        let wanted = |outlet: &&Arc<Outlet>| name.is_none_or(|name| outlet.name() == name);
        let outlets: Vec<_> = self.0.outlets.iter().filter(wanted).cloned().collect();
        if outlets.is_empty() && name.is_some() {
            return Err(TestError::NoSuchWebhook);
        }
        let turn = tokio::time::timeout(TEST_WAIT, self.0.testing.acquire()).await;
        let _turn = turn.map_err(|_| TestError::Busy)?;
        let message = Message::test(self.0.clock.now());
        let mut calls = tokio::task::JoinSet::new();
        for outlet in outlets {
            let message = message.clone();
            calls.spawn(async move { outlet.test(&message).await });
        }
        let mut tested = calls.join_all().await;
        tested.sort_by(|a, b| a.webhook.cmp(&b.webhook));
        Ok(tested)
    }

    /// The conditions that were told and stand, and how many stand beyond those that are kept.
    pub fn active(&self) -> (Vec<Active>, u64) {
        let board = self.0.board.lock();
        (board.active(), board.beyond())
    }

    /// Each webhook, and what it was told last.
    pub fn outlets(&self) -> Vec<OutletView> {
        self.0.outlets.iter().map(|outlet| outlet.view()).collect()
    }
}

/// The log has them too, whether or not there is a webhook.
fn log(message: &Message) {
    let (condition, subject) = (message.condition_name(), &*message.subject);
    match (message.kind, message.severity) {
        (Kind::Recovered, _) => tracing::info!(condition, subject, "no longer: {}", message.what),
        (_, Severity::Critical) => tracing::error!(condition, subject, "alert: {}", message.what),
        _ => tracing::warn!(condition, subject, "alert: {}", message.what),
    }
}
