//! What is measured of alerts.

use std::sync::LazyLock;

use prometheus::{IntCounterVec, IntGaugeVec, register_int_counter_vec, register_int_gauge_vec};

use crate::config::alerts::Condition;

use super::board::Board;

// Each is `None` only if something else took its name.

static TOTAL: LazyLock<Option<IntCounterVec>> = LazyLock::new(|| {
    let help = "Messages to webhooks, by condition (or test, summary) and what became of them: sent, failed (given up after all \
                tries), dropped (the webhook's queue was full), suppressed (beyond its messages an hour: summed up later).";
    register_int_counter_vec!("tollgate_alerts_total", help, &["condition", "result"]).ok()
});

static ACTIVE: LazyLock<Option<IntGaugeVec>> = LazyLock::new(|| {
    let help = "Conditions that were told and stand.";
    register_int_gauge_vec!("tollgate_alerts_active", help, &["condition"]).ok()
});

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Sent,
    Failed,
    Dropped,
    Suppressed,
}

impl Fate {
    const ALL: [Fate; 4] = [Fate::Sent, Fate::Failed, Fate::Dropped, Fate::Suppressed];

    const fn as_str(self) -> &'static str {
        match self {
            Fate::Sent => "sent",
            Fate::Failed => "failed",
            Fate::Dropped => "dropped",
            Fate::Suppressed => "suppressed",
        }
    }
}

pub(super) fn count(condition: &str, fate: Fate) {
    if let Some(total) = &*TOTAL {
        total.with_label_values(&[condition, fate.as_str()]).inc();
    }
}

pub(super) fn active(board: &Board) {
    let Some(active) = &*ACTIVE else { return };
    for condition in Condition::ALL.into_iter().filter(|one| *one != Condition::Heartbeat) {
        let count = i64::try_from(board.count(condition)).unwrap_or(i64::MAX);
        active.with_label_values(&[condition.as_str()]).set(count);
    }
}

/// Puts all of them on the page, at zero.
pub(super) fn declare() {
    for condition in Condition::ALL {
        if let Some(total) = &*TOTAL {
            for fate in Fate::ALL {
                total.with_label_values(&[condition.as_str(), fate.as_str()]);
            }
        }
        if let (Some(active), true) = (&*ACTIVE, condition != Condition::Heartbeat) {
            active.with_label_values(&[condition.as_str()]);
        }
    }
}
