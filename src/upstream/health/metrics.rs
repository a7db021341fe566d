//! What checks measure. Every label's values come from the rules or are addresses of what they name, and only the first
//! [`MAX_SERIES`] of a kind have one.

use std::collections::HashSet;
use std::sync::LazyLock;

use parking_lot::Mutex;
use prometheus::{IntCounterVec, IntGaugeVec, register_int_counter_vec, register_int_gauge_vec};

/// Most series of one gauge.
const MAX_SERIES: usize = 4096;

pub(super) static CHECKS: LazyLock<IntCounterVec> = LazyLock::new(|| {
    registered(register_int_counter_vec!(
        "tollgate_health_check_total",
        "Active checks of credentials and addresses, by provider and what they found.",
        &["provider", "result"]
    ))
});
pub(super) static CREDENTIAL_UP: LazyLock<Bounded> = LazyLock::new(|| {
    Bounded::new(registered(register_int_gauge_vec!(
        "tollgate_health_up",
        "Whether the last check that could tell found the credential good; absent: none could yet.",
        &["provider", "credential"]
    )))
});
pub(super) static PEER_UP: LazyLock<Bounded> = LazyLock::new(|| {
    Bounded::new(registered(register_int_gauge_vec!(
        "tollgate_peer_up",
        "Whether the last check reached the address; absent: not checked yet.",
        &["provider", "address"]
    )))
});
pub(super) static RESOLVES: LazyLock<Bounded> = LazyLock::new(|| {
    Bounded::new(registered(register_int_gauge_vec!(
        "tollgate_dns_up",
        "Whether the last check found an address for the host; absent: not checked yet.",
        &["provider", "host"]
    )))
});
pub(super) static CERTIFICATE: LazyLock<Bounded> = LazyLock::new(|| {
    Bounded::new(registered(register_int_gauge_vec!(
        "tollgate_certificate_expiry_seconds",
        "When the certificate which the host showed last expires, in seconds since 1970.",
        &["provider", "host"]
    )))
});

// Names and help texts are literals, registered once in the process: registration can't fail.
fn registered<T>(registration: prometheus::Result<T>) -> T {
    match registration {
        Ok(metric) => metric,
        Err(error) => unreachable!("a metric is registered once, under a valid name: {error}"),
    }
}

/// A gauge by two labels that forgets what is gone and has a bound.
pub(super) struct Bounded {
    gauge: IntGaugeVec,
    series: Mutex<HashSet<[String; 2]>>,
}

impl Bounded {
    fn new(gauge: IntGaugeVec) -> Self {
        Bounded {
            gauge,
            series: Mutex::default(),
        }
    }

    /// Sets it; a series too many is left out.
    pub(super) fn set(&self, provider: &str, of: &str, value: i64) {
        let mut series = self.series.lock();
        let labels = [provider.to_owned(), of.to_owned()];
        if series.len() < MAX_SERIES || series.contains(&labels) {
            self.gauge.with_label_values(&[provider, of]).set(value);
            series.insert(labels);
        }
    }

    /// Forgets it.
    pub(super) fn forget(&self, provider: &str, of: &str) {
        let mut series = self.series.lock();
        if series.remove(&[provider.to_owned(), of.to_owned()]) {
            // It is there, as it is listed.
            let _ = self.gauge.remove_label_values(&[provider, of]);
        }
    }
}
