//! How the process as a whole stands, for the metrics page: looked at when the page is asked for.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use prometheus::{IntGauge, register_int_gauge};

use crate::config::Config;
use crate::ledger::Ledger;
use crate::proxy::byte_budget::ByteBudget;
use crate::upstream::LiveFleet;

/// What is looked at.
#[derive(Clone)]
pub struct Vitals {
    data: PathBuf,
    draining: Arc<AtomicBool>,
    ledger: Ledger,
    bodies: Arc<ByteBudget>,
    answers: Arc<ByteBudget>,
    fleet: Arc<LiveFleet>,
    gauges: Option<Gauges>,
}

#[derive(Clone)]
struct Gauges {
    ready: IntGauge,
    disk_full: IntGauge,
    disk_free: IntGauge,
    bodies: IntGauge,
    answers: IntGauge,
}

impl Gauges {
    fn new() -> prometheus::Result<Self> {
        Ok(Gauges {
            ready: register_int_gauge!(
                "tollgate_ready",
                "1: requests are served, as /readyz says; 0: it is draining, or the disk is full."
            )?,
            disk_full: register_int_gauge!(
                "tollgate_ledger_disk_full",
                "1: nothing is admitted since the disk has less than ledger.min_free."
            )?,
            disk_free: register_int_gauge!("tollgate_data_free_bytes", "Free bytes on the disk of the data folder.")?,
            bodies: register_int_gauge!(
                "tollgate_request_bodies_bytes",
                "Bytes of request bodies held in memory; at most limits.inflight_body."
            )?,
            answers: register_int_gauge!(
                "tollgate_answers_kept_bytes",
                "Bytes of large answers and events held in memory until they are written; at most limits.inflight_answer."
            )?,
        })
    }
}

impl Vitals {
    /// Of these parts.
    pub fn new(
        config: &Config,
        draining: Arc<AtomicBool>,
        ledger: Ledger,
        bodies: Arc<ByteBudget>,
        answers: Arc<ByteBudget>,
        fleet: Arc<LiveFleet>,
    ) -> Self {
        let gauges =
            Gauges::new().inspect_err(|error| tracing::error!(%error, "the metrics page lacks how the process stands"));
        Vitals {
            data: config.data.clone(),
            draining,
            ledger,
            bodies,
            answers,
            fleet,
            gauges: gauges.ok(),
        }
    }

    /// Puts it on the page.
    pub fn publish(&self) {
        self.fleet.load().publish(Instant::now());
        let Some(gauges) = &self.gauges else { return };
        let full = self.ledger.is_full();
        gauges.disk_full.set(full.into());
        gauges
            .ready
            .set((!full && !self.draining.load(Ordering::Relaxed)).into());
        for (gauge, budget) in [(&gauges.bodies, &self.bodies), (&gauges.answers, &self.answers)] {
            gauge.set(i64::try_from(budget.used()).unwrap_or(i64::MAX));
        }
        // Where it can't be told, the last that could stays.
        if let Ok(disk) = rustix::fs::statvfs(&self.data) {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            gauges.disk_free.set(i64::try_from(free).unwrap_or(i64::MAX));
        }
    }
}
