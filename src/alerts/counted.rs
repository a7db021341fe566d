//! What other rooms count, read by name from the registry of metrics, as a scrape would.

use prometheus::proto::{MetricFamily, MetricType};

/// Errors of our own that mean: there was no room for the request.
const NO_ROOM: [&str; 2] = ["overloaded", "ledger_behind"];

/// How requests end that failed although their status says nothing of it.
const BROKEN: [&str; 4] = ["upstream_broke", "upstream_failed", "timed_out", "panicked"];

/// The counters that matter, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// Requests of clients for which a provider was to be asked.
    pub(super) requests: u64,
    /// Those of them that ended with a 5xx, or broke off.
    pub(super) failed: u64,
    /// Requests refused for want of room.
    pub(super) no_room: u64,
    /// Attempts closed a second time.
    pub(super) duplicates: u64,
    /// Accounts and books came to different sums.
    pub(super) books_differ: bool,
}

impl Counted {
    /// As they are now.
    pub(super) fn now() -> Self {
        Self::of(&prometheus::gather())
    }

    fn of(families: &[MetricFamily]) -> Self {
        let mut counted = Counted::default();
        for family in families {
            match family.name() {
                "tollgate_requests_total" => {
                    for (labels, count) in series(family) {
                        // Those without an operation are not for providers: pings of load balancers, what scanners send.
                        if label(&labels, "operation").is_empty() {
                            continue;
                        }
                        counted.requests += count;
                        if label(&labels, "status").starts_with('5') || BROKEN.contains(&label(&labels, "ended")) {
                            counted.failed += count;
                        }
                    }
                }
                "tollgate_refusals_total" => {
                    let refused = series(family).filter(|(labels, _)| NO_ROOM.contains(&label(labels, "code")));
                    counted.no_room += refused.map(|(_, count)| count).sum::<u64>();
                }
                "tollgate_ledger_duplicates_total" => counted.duplicates = series(family).map(|(_, count)| count).sum(),
                "tollgate_ledger_books_ok" => counted.books_differ = series(family).any(|(_, ok)| ok == 0),
                _ => {}
            }
        }
        counted
    }
}

type Labels<'a> = Vec<(&'a str, &'a str)>;

/// Labels and value of each series. Counters and gauges of ours are whole numbers.
fn series(family: &MetricFamily) -> impl Iterator<Item = (Labels<'_>, u64)> {
    let counter = family.get_field_type() == MetricType::COUNTER;
    family.get_metric().iter().map(move |metric| {
        let labels = metric.get_label().iter().map(|pair| (pair.name(), pair.value()));
        let value = match counter {
            true => metric.get_counter().get_value(),
            false => metric.get_gauge().get_value(),
        };
        (labels.collect(), value as u64)
    })
}

fn label<'a>(labels: &Labels<'a>, name: &str) -> &'a str {
    labels
        .iter()
        .find(|(known, _)| *known == name)
        .map_or("", |(_, value)| value)
}

#[cfg(test)]
mod tests {
    use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

    use super::*;

    #[test]
    fn what_counts_is_found_by_its_name_and_labels() {
        let registry = Registry::new();
        let labels = ["dialect", "operation", "status", "ended"];
        let requests = IntCounterVec::new(Opts::new("tollgate_requests_total", "x"), &labels).unwrap();
        for (operation, status, ended, count) in [
            ("", "200", "local", 1000),
            ("", "404", "refused", 1000),
            ("chat", "200", "complete", 50),
            ("chat", "429", "refused", 5),
            ("chat", "200", "client_gone", 3),
            ("chat", "200", "upstream_broke", 2),
            ("chat", "503", "refused", 4),
            ("passthrough", "502", "upstream_failed", 1),
        ] {
            requests
                .with_label_values(&["d", operation, status, ended])
                .inc_by(count);
        }
        let refusals = IntCounterVec::new(Opts::new("tollgate_refusals_total", "x"), &["code"]).unwrap();
        refusals.with_label_values(&["overloaded"]).inc_by(6);
        refusals.with_label_values(&["invalid_api_key"]).inc_by(60);
        let duplicates = IntCounter::new("tollgate_ledger_duplicates_total", "x").unwrap();
        duplicates.inc_by(2);
        let books = IntGauge::new("tollgate_ledger_books_ok", "x").unwrap();
        books.set(1);
        for metric in [
            Box::new(requests) as Box<dyn prometheus::core::Collector>,
            Box::new(refusals),
            Box::new(duplicates),
            Box::new(books.clone()),
        ] {
            registry.register(metric).unwrap();
        }
        let mut expected = Counted {
            requests: 65,
            failed: 7,
            no_room: 6,
            duplicates: 2,
            books_differ: false,
        };
        assert_eq!(Counted::of(&registry.gather()), expected);
        books.set(0);
        expected.books_differ = true;
        assert_eq!(Counted::of(&registry.gather()), expected);
        assert_eq!(Counted::of(&[]), Counted::default(), "what nobody counted is nothing");
    }
}
