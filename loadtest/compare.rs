//! All peers against the same sandbox, in interleaved rounds: what disturbs one disturbs all.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::machine;
use crate::peers::{NAMES, Peer, Programs, requests};
use crate::report::{Memory, Report, Requests, Sse};
use crate::streams::Streams;

/// Sandbox, nginx, bare Pingora and tollgate in interleaved rounds; writes a section into RESULTS.md.
#[derive(clap::Args)]
pub struct Compare {
    #[command(flatten)]
    programs: Programs,
    /// Who takes part; one that can't be started is left out, and the results say so.
    #[arg(long, value_delimiter = ',', default_values = NAMES)]
    peers: Vec<String>,
    /// Rounds of requests.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Rounds of streams.
    #[arg(long, default_value_t = 3)]
    sse_rounds: usize,
    /// Seconds per round.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Connections in a round of requests.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Bytes of a request body.
    #[arg(long, default_value_t = 1024)]
    size: usize,
    /// Streams in a round of streams.
    #[arg(long, default_value_t = 200)]
    streams: usize,
    /// Time between two events of such a stream.
    #[arg(long, default_value = "10ms")]
    pace: String,
    /// Streams open at once for the measure of memory, with an event a second each; 0: leave it out.
    #[arg(long, default_value_t = 2000)]
    idle_streams: usize,
    /// The file of results; the new section becomes its first.
    #[arg(long, default_value = "loadtest/RESULTS.md")]
    results: PathBuf,
}

/// Run before a peer is measured, unmeasured.
const WARM_UP: f64 = 0.5;
/// Wait between opening all streams and measuring.
const SETTLE: Duration = Duration::from_millis(500);
/// Wait between opening the streams whose memory is measured, and measuring it: each has then shown several events.
const SETTLE_MEMORY: Duration = Duration::from_secs(3);

impl Compare {
    /// Runs everything and writes the results.
    pub fn run(&self) -> anyhow::Result<()> {
        if let Some(unknown) = self.peers.iter().find(|name| !NAMES.contains(&name.as_str())) {
            bail!("there is no peer {unknown}: say some of {}", NAMES.join(","));
        }
        let dir = tempfile::tempdir()?;
        let mut report = Report::new(self.conditions());
        self.timed(dir.path(), &mut report)?;
        if self.idle_streams > 0 {
            self.memory(dir.path(), &mut report)?;
        }
        report.write(&self.results)?;
        println!("{}", report.markdown());
        eprintln!("written to {}", self.results.display());
        Ok(())
    }

    fn conditions(&self) -> Vec<String> {
        let mut lines = machine::description();
        lines.push(format!(
            "nginx: {}",
            machine::version(&self.programs.nginx.to_string_lossy(), "-v")
        ));
        lines.push(format!(
            "Threads: {} per peer, {} for the sandbox, 1 for the driver, all on this machine",
            self.programs.threads, self.programs.sandbox_threads
        ));
        let command = std::env::args().map(|a| if a.contains(' ') { format!("{a:?}") } else { a });
        lines.push(format!("Command: `{}`", command.collect::<Vec<_>>().join(" ")));
        lines
    }

    fn wanted(&self) -> impl Iterator<Item = &'static str> {
        NAMES
            .into_iter()
            .filter(|name| self.peers.iter().any(|wanted| wanted == name))
    }

    /// Requests and streams, in rounds.
    fn timed(&self, dir: &Path, report: &mut Report) -> anyhow::Result<()> {
        let (_upstream, sandbox) = self.programs.sandbox()?;
        let mut peers = Vec::new();
        for name in self.wanted() {
            match self.programs.start(name, sandbox, dir) {
                Ok(peer) => peers.push(peer),
                Err(error) => report.leave_out(name, &error),
            }
        }
        if peers.is_empty() {
            bail!("no peer could be started");
        }
        for round in 0..self.rounds {
            for at in 0..peers.len() {
                // Each round begins with another one.
                let peer = &peers[(at + round) % peers.len()];
                match self.requests(peer, round) {
                    Ok(row) => {
                        eprintln!("round {round}: {}", row.line());
                        report.requests.push(row);
                    }
                    Err(error) => report.leave_out(peer.name, &error),
                }
            }
        }
        for round in 0..self.sse_rounds {
            for at in 0..peers.len() {
                let peer = &peers[(at + round) % peers.len()];
                match self.sse(peer, round) {
                    Ok(row) => {
                        eprintln!("round {round}: {}", row.line());
                        report.sse.push(row);
                    }
                    Err(error) => report.leave_out(peer.name, &error),
                }
            }
        }
        Ok(())
    }

    fn requests(&self, peer: &Peer, round: usize) -> anyhow::Result<Requests> {
        let run = |seconds| requests(peer, "sandbox/small", self.size, self.connections, seconds).run();
        run(WARM_UP)?;
        let before = machine::cpu_seconds(peer.process.id())?;
        let outcome = run(self.seconds)?;
        let cpu = machine::cpu_seconds(peer.process.id())? - before;
        let at = |quantile| outcome.latency.value_at_quantile(quantile);
        Ok(Requests {
            peer: peer.name,
            round,
            requests: outcome.requests,
            errors: outcome.errors,
            first_error: outcome.first_error.clone(),
            rps: outcome.rps(),
            cpu_micros: cpu * 1e6 / outcome.requests.max(1) as f64,
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
        })
    }

    fn sse(&self, peer: &Peer, round: usize) -> anyhow::Result<Sse> {
        let open = self.open(peer, self.streams, &self.pace)?;
        std::thread::sleep(SETTLE);
        let (cpu, events, begun) = (machine::cpu_seconds(peer.process.id())?, open.events(), Instant::now());
        std::thread::sleep(Duration::from_secs_f64(self.seconds));
        let (events, seconds) = (open.events() - events, begun.elapsed().as_secs_f64());
        let cpu = machine::cpu_seconds(peer.process.id())? - cpu;
        Ok(Sse {
            peer: peer.name,
            round,
            events_per_second: events as f64 / seconds,
            errors: open.errors(),
            cpu_micros: cpu * 1e6 / events.max(1) as f64,
        })
    }

    fn open(&self, peer: &Peer, streams: usize, pace: &str) -> anyhow::Result<crate::streams::Open> {
        let streams = Streams {
            http2: 0,
            url: peer.url.clone(),
            model: format!("sandbox/small,tokens=1000000,pace={pace}"),
            size: self.size,
            streams,
            seconds: self.seconds,
            header: peer.headers.clone(),
        };
        streams.open()
    }

    /// Memory of fresh processes, one peer at a time.
    fn memory(&self, dir: &Path, report: &mut Report) -> anyhow::Result<()> {
        let (_upstream, sandbox) = self.programs.sandbox()?;
        for name in self.wanted() {
            match self.memory_of(name, sandbox, dir) {
                Ok(row) => {
                    eprintln!("{}", row.line());
                    report.memory.push(row);
                }
                Err(error) => report.leave_out(name, &error),
            }
        }
        Ok(())
    }

    fn memory_of(&self, name: &'static str, sandbox: SocketAddr, dir: &Path) -> anyhow::Result<Memory> {
        let peer = self.programs.start(name, sandbox, &dir.join("memory"))?;
        requests(&peer, "sandbox/small", self.size, 8, WARM_UP).run()?;
        let before = machine::resident(peer.process.id())?;
        let open = self.open(&peer, self.idle_streams, "1s")?;
        std::thread::sleep(SETTLE_MEMORY);
        let after = machine::resident(peer.process.id())?;
        Ok(Memory {
            peer: peer.name,
            streams: self.idle_streams,
            errors: open.errors(),
            before,
            after,
        })
    }
}
