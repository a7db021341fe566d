//! What is measured of limits. No names of keys: a gateway may have any number of them.

use std::sync::LazyLock;

use prometheus::{IntCounter, IntGauge, register_int_counter_vec, register_int_gauge};

use super::account::AccountId;
use super::admission::Overshoot;
use super::refused::{Limit, Unit};

// Each is `None` only if something else took its name.

/// Counters in the order of [`SCOPES`] and, within each, of [`LIMITS`].
static REFUSED: LazyLock<Option<Vec<IntCounter>>> = LazyLock::new(|| {
    let help = "Requests refused because of a limit, by whose it is and which.";
    let refused = register_int_counter_vec!("tollgate_limits_refused_total", help, &["scope", "limit"]).ok()?;
    let each = |scope| LIMITS.map(move |limit| (scope, limit));
    let counters = SCOPES.into_iter().flat_map(each);
    Some(
        counters
            .map(|(scope, limit)| refused.with_label_values(&[scope, limit]))
            .collect(),
    )
});

static WAITING: LazyLock<Option<IntGauge>> = LazyLock::new(|| {
    let help = "Requests that wait for room within a limit.";
    register_int_gauge!("tollgate_limits_waiting", help).ok()
});

static RESERVATIONS: LazyLock<Option<IntGauge>> = LazyLock::new(|| {
    let help = "Attempts that hold a reservation.";
    register_int_gauge!("tollgate_limits_reservations", help).ok()
});

/// Counters of tokens and of money.
static OVERSHOOTS: LazyLock<Option<[IntCounter; 2]>> = LazyLock::new(|| {
    let help = "Attempts that used more than they had reserved: their bound was none. By unit (tokens, money).";
    let overshoots = register_int_counter_vec!("tollgate_limits_overshoots_total", help, &["unit"]).ok()?;
    Some(["tokens", "money"].map(|unit| overshoots.with_label_values(&[unit])))
});

const SCOPES: [&str; 2] = ["key", "group"];

const LIMITS: [&str; 6] = [
    "requests_per_minute",
    "tokens_per_minute",
    "concurrent",
    "used_up",
    "too_large",
    "reserved",
];

pub(super) fn refused(account: &AccountId, limit: Limit) {
    let scope = match account {
        AccountId::Key(_) => 0,
        AccountId::Group(_) => 1,
    };
    let limit = match limit {
        Limit::Minute(Unit::Tokens) => 1,
        Limit::Minute(_) => 0,
        Limit::Concurrent => 2,
        Limit::Budget(..) => 3,
        Limit::TooLarge(..) => 4,
        Limit::Reserved(..) => 5,
    };
    if let Some(counter) = REFUSED.as_ref().and_then(|all| all.get(scope * LIMITS.len() + limit)) {
        counter.inc();
    }
}

/// An attempt used more than it reserved.
pub(super) fn overshot(overshoot: &Overshoot) {
    if let Some([tokens, money]) = &*OVERSHOOTS {
        tokens.inc_by(u64::from(overshoot.tokens > 0));
        money.inc_by(u64::from(overshoot.money.0 > 0));
    }
}

/// One more waits, or one less.
pub(super) fn waits(change: i64) {
    if let Some(waiting) = &*WAITING {
        waiting.add(change);
    }
}

/// One more reservation is open, or one less.
pub(super) fn reserved(change: i64) {
    if let Some(reservations) = &*RESERVATIONS {
        reservations.add(change);
    }
}

/// Puts all of them on the page, at zero.
pub(super) fn declare() {
    LazyLock::force(&REFUSED);
    LazyLock::force(&OVERSHOOTS);
    LazyLock::force(&WAITING);
    LazyLock::force(&RESERVATIONS);
}
