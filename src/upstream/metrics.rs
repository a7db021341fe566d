//! What is measured of credentials and retries. Labels are names of the rules.

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use prometheus::{
    GaugeVec, IntCounter, IntCounterVec, IntGaugeVec, register_gauge_vec, register_int_counter,
    register_int_counter_vec, register_int_gauge_vec,
};

use super::{CoolState, Failure};

// Each is `None` only if something else took its name.

static STATE: LazyLock<Option<IntGaugeVec>> = LazyLock::new(|| {
    let help = "How each credential stands, 1 for the state it is in: the worst over its models.";
    register_int_gauge_vec!("tollgate_credential_state", help, &["provider", "credential", "state"]).ok()
});

static COOLDOWN: LazyLock<Option<GaugeVec>> = LazyLock::new(|| {
    let help = "Seconds until each credential may be asked again: the longest over its models, 0 if it may.";
    register_gauge_vec!(
        "tollgate_credential_cooldown_seconds",
        help,
        &["provider", "credential"]
    )
    .ok()
});

static FAILURES: LazyLock<Option<IntCounterVec>> = LazyLock::new(|| {
    let help = "Failed attempts, by credential and kind of failure.";
    register_int_counter_vec!("tollgate_failures_total", help, &["provider", "credential", "failure"]).ok()
});

static DENIED: LazyLock<Option<IntCounter>> = LazyLock::new(|| {
    let help = "Retries that were not made because the retry budget was spent.";
    register_int_counter!("tollgate_retries_denied_total", help).ok()
});

type Named = (Arc<str>, Arc<str>);

/// Credentials which stand on the page: who is gone from the rules leaves it.
static PUBLISHED: Mutex<Option<HashSet<Named>>> = Mutex::new(None);

pub(super) fn failed(provider: &str, credential: &str, failure: Failure) {
    if let Some(failures) = &*FAILURES {
        failures
            .with_label_values(&[provider, credential, failure.as_str()])
            .inc();
    }
}

pub(super) fn retry_denied() {
    if let Some(denied) = &*DENIED {
        denied.inc();
    }
}

/// Puts these on the page, and takes all others from it: provider, credential, its state, seconds it cools.
pub(super) fn publish(credentials: impl Iterator<Item = (Arc<str>, Arc<str>, CoolState, f64)>) {
    let (Some(states), Some(cooldowns)) = (&*STATE, &*COOLDOWN) else {
        return;
    };
    LazyLock::force(&DENIED);
    let mut published = PUBLISHED.lock();
    let mut gone = published.take().unwrap_or_default();
    let mut now = HashSet::new();
    for (provider, credential, state, seconds) in credentials {
        for each in CoolState::ALL {
            let value = i64::from(each == state);
            states
                .with_label_values(&[&*provider, &*credential, each.as_str()])
                .set(value);
        }
        cooldowns.with_label_values(&[&*provider, &*credential]).set(seconds);
        let named = (provider, credential);
        gone.remove(&named);
        now.insert(named);
    }
    for (provider, credential) in gone {
        // An error says that it was not there.
        let _ = cooldowns.remove_label_values(&[&*provider, &*credential]);
        for each in CoolState::ALL {
            let _ = states.remove_label_values(&[&*provider, &*credential, each.as_str()]);
        }
    }
    *published = Some(now);
}
