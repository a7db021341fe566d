//! How late a thread is with its work, for the metric.
//!
//! A task wakes each [`TICK`]; how much later it runs than it wanted is what any ready task waits for its turn.

use std::time::{Duration, Instant};

use crate::proxy::metrics;

/// How often the task wakes while there are requests …
const TICK: Duration = Duration::from_millis(10);
/// … and while there are none.
const IDLE_TICK: Duration = Duration::from_millis(100);

/// Measures for as long as the runtime lives.
pub async fn measure() {
    loop {
        let due = Instant::now() + if metrics::in_flight() > 0 { TICK } else { IDLE_TICK };
        tokio::time::sleep_until(due.into()).await;
        metrics::lag(due.elapsed());
    }
}
