//! Metrics of the process itself, under the names every Prometheus client library gives them.

use std::fs;

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge};

/// Ticks per second of the times in `/proc`: `USER_HZ`, 100 on every architecture this runs on (proc_pid_stat(5)).
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads `/proc/self` at each scrape. Elsewhere than on Linux it yields nothing.
pub(super) struct Process {
    /// One scrape at a time: between reset and set the counter is wrong.
    scrape: Mutex<()>,
    cpu: Counter,
    resident: Gauge,
    virtual_size: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
    threads: Gauge,
    start: Gauge,
}

/// What one look at `/proc/self` found.
#[derive(Debug, PartialEq)]
struct Sample {
    cpu_seconds: f64,
    start_seconds: f64,
    threads: f64,
    resident: f64,
    virtual_size: f64,
    open_fds: f64,
    max_fds: f64,
}

impl Process {
    pub(super) fn new() -> prometheus::Result<Self> {
        Ok(Process {
            scrape: Mutex::new(()),
            cpu: Counter::new(
                "process_cpu_seconds_total",
                "Total user and system CPU time spent in seconds.",
            )?,
            resident: Gauge::new("process_resident_memory_bytes", "Resident memory size in bytes.")?,
            virtual_size: Gauge::new("process_virtual_memory_bytes", "Virtual memory size in bytes.")?,
            open_fds: Gauge::new("process_open_fds", "Number of open file descriptors.")?,
            max_fds: Gauge::new("process_max_fds", "Maximum number of open file descriptors.")?,
            threads: Gauge::new("process_threads", "Number of threads.")?,
            start: Gauge::new(
                "process_start_time_seconds",
                "Start time of the process since unix epoch in seconds.",
            )?,
        })
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        let gauges = [
            &self.resident,
            &self.virtual_size,
            &self.open_fds,
            &self.max_fds,
            &self.threads,
            &self.start,
        ];
        self.cpu
            .desc()
            .into_iter()
            .chain(gauges.into_iter().flat_map(Collector::desc))
            .collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(sample) = Sample::read() else {
            return Vec::new();
        };
        let _one_at_a_time = self.scrape.lock();
        self.cpu.reset();
        self.cpu.inc_by(sample.cpu_seconds);
        let mut families = self.cpu.collect();
        for (gauge, value) in [
            (&self.resident, sample.resident),
            (&self.virtual_size, sample.virtual_size),
            (&self.open_fds, sample.open_fds),
            (&self.max_fds, sample.max_fds),
            (&self.threads, sample.threads),
            (&self.start, sample.start_seconds),
        ] {
            gauge.set(value);
            families.extend(gauge.collect());
        }
        families
    }
}

impl Sample {
    fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        let status = fs::read_to_string("/proc/self/status").ok()?;
        let limits = fs::read_to_string("/proc/self/limits").ok()?;
        let boot = fs::read_to_string("/proc/stat").ok()?;
        // One of them is the descriptor of the listing itself.
        let open_fds = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
        Self::parse(&stat, &status, &limits, &boot, open_fds as f64)
    }

    fn parse(stat: &str, status: &str, limits: &str, boot: &str, open_fds: f64) -> Option<Self> {
        // The second field, the program's name in parentheses, may hold spaces and parentheses: count from its end.
        // What follows is field 3, so field n stands at n - 3.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let line = |text: &str, name: &str| -> Option<f64> {
            let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
            rest.split_ascii_whitespace().next()?.parse().ok()
        };
        Some(Sample {
            cpu_seconds: (field(14)? + field(15)?) / TICKS_PER_SECOND,
            threads: field(20)?,
            start_seconds: line(boot, "btime")? + field(22)? / TICKS_PER_SECOND,
            virtual_size: field(23)?,
            resident: line(status, "VmRSS:")? * 1024.0,
            open_fds,
            // `unlimited` reads as infinity, which Prometheus can say.
            max_fds: line(limits, "Max open files").unwrap_or(f64::INFINITY),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_from_the_name_which_may_hold_anything() {
        let stat = "42 (a ) b) S 1 2 3 0 -1 4194560 100 0 0 0 250 150 0 0 20 0 7 0 5000 123456 99";
        let sample = Sample::parse(
            stat,
            "Name:\tx\nVmRSS:\t    2048 kB\n",
            "Limit  Soft\nMax open files            1024                 4096                 files\n",
            "cpu 1\nbtime 1700000000\n",
            9.0,
        );
        let expected = Sample {
            cpu_seconds: 4.0,
            start_seconds: 1_700_000_050.0,
            threads: 7.0,
            resident: 2_097_152.0,
            virtual_size: 123_456.0,
            open_fds: 9.0,
            max_fds: 1024.0,
        };
        assert_eq!(sample, Some(expected));
    }
}
