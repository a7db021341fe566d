//! What stands, and what of it is told: one message when a condition has held for long enough, one when it has been gone for
//! long enough. A pure state machine: time comes in.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::clock::UnixMicros;
use crate::config::alerts::{self, Condition};

use super::words::{Kind, Message};
use super::{Active, Finding};

/// Most conditions kept at once. What is beyond is counted, and told once there is room.
pub(super) const MAX_STANDING: usize = 1024;

/// Which: condition, subject, instance.
type Key = (Condition, String, i64);

/// All that holds, or has not been gone for long.
pub(super) struct Board {
    hold: Duration,
    clear_after: Duration,
    remind: Option<Duration>,
    standing: BTreeMap<Key, Standing>,
    beyond: u64,
}

struct Standing {
    finding: Finding,
    since: UnixMicros,
    began: Instant,
    told: Option<Told>,
    gone: Option<Instant>,
}

struct Told {
    at: Instant,
    level: u32,
}

impl Board {
    pub(super) fn new(settings: &alerts::Alerts) -> Self {
        Board {
            hold: settings.hold,
            clear_after: settings.clear_after,
            remind: settings.remind,
            standing: BTreeMap::new(),
            beyond: 0,
        }
    }

    /// Takes what holds now; gives what is to be told, in the order of conditions.
    pub(super) fn turn(&mut self, found: Vec<Finding>, now: Instant, at: UnixMicros) -> Vec<Message> {
        let mut messages = Vec::new();
        let mut found: BTreeMap<Key, Finding> = found.into_iter().map(|finding| (key(&finding), finding)).collect();
        self.standing.retain(|key, standing| match found.remove(key) {
            Some(finding) => {
                standing.holds(finding);
                true
            }
            None => standing.is_gone(now, at, self.clear_after, &mut messages),
        });
        let room = MAX_STANDING.saturating_sub(self.standing.len());
        self.beyond = found.len().saturating_sub(room) as u64;
        for (key, finding) in found.into_iter().take(room) {
            let standing = Standing {
                finding,
                since: at,
                began: now,
                told: None,
                gone: None,
            };
            self.standing.insert(key, standing);
        }
        for standing in self.standing.values_mut().filter(|one| one.gone.is_none()) {
            let Some(kind) = standing.due(now, self.hold, self.remind) else {
                continue;
            };
            standing.told = Some(Told {
                at: now,
                level: standing.finding.level,
            });
            messages.push(Message::of(kind, &standing.finding, standing.since, at));
        }
        messages
    }

    /// What was told and stands.
    pub(super) fn active(&self) -> Vec<Active> {
        let told = self.standing.values().filter(|standing| standing.told.is_some());
        told.map(|standing| Active {
            finding: standing.finding.clone(),
            since: standing.since,
        })
        .collect()
    }

    /// How many of a condition were told and stand.
    pub(super) fn count(&self, condition: Condition) -> usize {
        let of = |(key, standing): &(&Key, &Standing)| key.0 == condition && standing.told.is_some();
        self.standing.iter().filter(of).count()
    }

    /// How many hold beyond those that are kept.
    pub(super) fn beyond(&self) -> u64 {
        self.beyond
    }
}

fn key(finding: &Finding) -> Key {
    (finding.condition, finding.subject.clone(), finding.instance)
}

impl Standing {
    fn holds(&mut self, finding: Finding) {
        self.gone = None;
        self.finding = finding;
    }

    /// Whether it is kept all the same. What was never told is forgotten at once: it begins anew.
    fn is_gone(&mut self, now: Instant, at: UnixMicros, after: Duration, messages: &mut Vec<Message>) -> bool {
        if self.told.is_none() {
            return false;
        }
        let gone = *self.gone.get_or_insert(now);
        if now.saturating_duration_since(gone) < after {
            return true;
        }
        messages.push(Message::of(Kind::Recovered, &self.finding, self.since, at));
        false
    }

    /// What is to be told of it now.
    fn due(&self, now: Instant, hold: Duration, remind: Option<Duration>) -> Option<Kind> {
        match &self.told {
            None => (now.saturating_duration_since(self.began) >= hold).then_some(Kind::Raised),
            Some(told) if self.finding.level > told.level => Some(Kind::Raised),
            Some(told) => remind
                .is_some_and(|every| now.saturating_duration_since(told.at) >= every)
                .then_some(Kind::Reminder),
        }
    }
}
