//! The ledger's metrics, in the default registry.

use std::sync::LazyLock;

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts};

/// The metrics; `None` if they could not be registered (logged once).
pub(super) fn metrics() -> Option<&'static Metrics> {
    static METRICS: LazyLock<Option<Metrics>> = LazyLock::new(|| match Metrics::register() {
        Ok(metrics) => Some(metrics),
        Err(e) => {
            tracing::error!(error = %e, "the ledger's metrics can't be registered");
            None
        }
    });
    METRICS.as_ref()
}

pub(super) struct Metrics {
    pub(super) opened: IntCounter,
    pub(super) closed: IntCounter,
    pub(super) queue: IntGauge,
    pub(super) lag_bytes: IntGauge,
    pub(super) sync_seconds: Histogram,
    pub(super) open: IntGauge,
    pub(super) interrupted: IntCounter,
    pub(super) damaged: IntCounter,
    pub(super) duplicates: IntCounter,
    pub(super) books_ok: IntGauge,
    pub(super) rows_missing: IntGauge,
    pub(super) sums_whole: IntGauge,
}

impl Metrics {
    fn register() -> Result<Self, prometheus::Error> {
        let records = IntCounterVec::new(
            Opts::new("tollgate_ledger_records_total", "Records written to the journal"),
            &["type"],
        )?;
        let metrics = Metrics {
            opened: records.get_metric_with_label_values(&["opened"])?,
            closed: records.get_metric_with_label_values(&["closed"])?,
            queue: IntGauge::new(
                "tollgate_ledger_queue",
                "Records handed over and not yet in the journal's file",
            )?,
            lag_bytes: IntGauge::new("tollgate_ledger_lag_bytes", "Bytes of journal not yet in the store")?,
            sync_seconds: Histogram::with_opts(
                HistogramOpts::new(
                    "tollgate_ledger_sync_seconds",
                    "How long it took to sync the journal to disk",
                )
                .buckets(vec![
                    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0,
                ]),
            )?,
            open: IntGauge::new("tollgate_ledger_open", "Attempts open now")?,
            interrupted: IntCounter::new(
                "tollgate_ledger_interrupted_total",
                "Attempts a dead process left open, marked as interrupted",
            )?,
            damaged: IntCounter::new(
                "tollgate_ledger_damaged_total",
                "Journal files found damaged elsewhere than at a torn end, since this start or before it and not repaired",
            )?,
            duplicates: IntCounter::new(
                "tollgate_ledger_duplicates_total",
                "Attempts closed a second time: only the first row counts",
            )?,
            books_ok: IntGauge::new(
                "tollgate_ledger_books_ok",
                "1: accounts and books came to the same when they were last compared (each minute)",
            )?,
            rows_missing: IntGauge::new(
                "tollgate_ledger_rows_missing",
                "Single rows which a store that broke had, and which no journal brought back, as far as is known",
            )?,
            sums_whole: IntGauge::new(
                "tollgate_ledger_sums_whole",
                "0: a store broke and its sums were unreadable too: sums reach only so far back as journals were kept",
            )?,
        };
        metrics.books_ok.set(1);
        metrics.sums_whole.set(1);
        let registry = prometheus::default_registry();
        registry.register(Box::new(records))?;
        for gauge in [
            &metrics.queue,
            &metrics.lag_bytes,
            &metrics.open,
            &metrics.books_ok,
            &metrics.rows_missing,
            &metrics.sums_whole,
        ] {
            registry.register(Box::new(gauge.clone()))?;
        }
        for counter in [&metrics.interrupted, &metrics.damaged, &metrics.duplicates] {
            registry.register(Box::new(counter.clone()))?;
        }
        registry.register(Box::new(metrics.sync_seconds.clone()))?;
        Ok(metrics)
    }
}
