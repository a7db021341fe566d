//! How an upgrade goes, for Prometheus. The new process answers the metrics page as soon as it serves.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};

use prometheus::{
    IntCounterVec, IntGauge, IntGaugeVec, register_int_counter_vec, register_int_gauge, register_int_gauge_vec,
};

/// Where a process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No upgrade.
    Serving,
    /// A new process was started and checks.
    Preparing,
    /// Store, accounts and sockets are being handed over.
    HandingOver,
    /// This process serves; one before it still finishes what it began. (In that one: it does so itself.)
    Draining,
}

const PHASES: [(Phase, &str); 4] = [
    (Phase::Serving, "serving"),
    (Phase::Preparing, "preparing"),
    (Phase::HandingOver, "handing_over"),
    (Phase::Draining, "draining"),
];

// Each is `None` only if something else took its name.

static PHASE: LazyLock<Option<IntGaugeVec>> = LazyLock::new(|| {
    let help = "1 for the phase of replacing the running process: serving (none), preparing, handing_over, draining (the process before \
                this one).";
    register_int_gauge_vec!("tollgate_upgrade_phase", help, &["phase"]).ok()
});

static UPGRADES: LazyLock<Option<IntCounterVec>> = LazyLock::new(|| {
    let help = "Upgrades, by result: succeeded (this process took over from another), failed (this one went on).";
    register_int_counter_vec!("tollgate_upgrades_total", help, &["result"]).ok()
});

static PREDECESSOR: LazyLock<Option<IntGauge>> = LazyLock::new(|| {
    let help = "Requests under way in processes which this one takes the place of.";
    register_int_gauge!("tollgate_upgrade_predecessor_in_flight", help).ok()
});

static PREDECESSOR_IN_FLIGHT: AtomicI64 = AtomicI64::new(0);

static PREDECESSORS: AtomicI64 = AtomicI64::new(0);

/// Puts them on the page.
pub fn declare() {
    phase(Phase::Serving);
    if let Some(upgrades) = &*UPGRADES {
        for result in ["succeeded", "failed"] {
            upgrades.with_label_values(&[result]);
        }
    }
    LazyLock::force(&PREDECESSOR);
}

/// It is in this phase now.
pub fn phase(now: Phase) {
    if let Some(gauge) = &*PHASE {
        for (phase, name) in PHASES {
            gauge.with_label_values(&[name]).set(i64::from(phase == now));
        }
    }
}

pub(super) fn ended(succeeded: bool) {
    if let Some(upgrades) = &*UPGRADES {
        let result = if succeeded { "succeeded" } else { "failed" };
        upgrades.with_label_values(&[result]).inc();
    }
}

pub(super) fn predecessor(in_flight: u64) {
    let in_flight = in_flight.try_into().unwrap_or(i64::MAX);
    PREDECESSOR_IN_FLIGHT.store(in_flight, Ordering::Relaxed);
    if let Some(gauge) = &*PREDECESSOR {
        gauge.set(in_flight);
    }
}

pub(super) fn predecessors_by(by: i64) {
    PREDECESSORS.fetch_add(by, Ordering::Relaxed);
}

/// How many processes before this one live, and speak to it.
pub fn predecessors() -> i64 {
    PREDECESSORS.load(Ordering::Relaxed)
}

/// Requests under way in the processes before this one, as they last told.
pub fn predecessor_in_flight() -> i64 {
    PREDECESSOR_IN_FLIGHT.load(Ordering::Relaxed)
}
