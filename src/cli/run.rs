//! `tollgate run`: starts the gateway.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use crate::app::first_run::FirstRun;
use crate::app::{self, StartError};
use crate::config::load::load;
use crate::config::{self, Config};
use crate::upgrade::Predecessor;

use super::Failure;

/// Starts the gateway.
#[derive(clap::Args, Debug, Default)]
pub struct Run {
    /// Takes the place of the process that started this one, which is at the other end of its standard input.
    #[arg(long, hide = true)]
    take_over: bool,
}

impl Run {
    /// Serves until the process is told to stop.
    pub fn execute(self, conf: &Path) -> Result<(), Failure> {
        let predecessor = match self.take_over {
            true => Some(Predecessor::greet().map_err(anyhow::Error::from)?),
            false => None,
        };
        let regrets = predecessor.as_ref().map(Predecessor::regrets);
        let outcome = Self::serve(conf, predecessor);
        if let (Some(regrets), Err(failure)) = (regrets, &outcome) {
            regrets.tell(match failure {
                Failure::Given(told) => told.clone(),
                Failure::NotDone(error) => format!("{error:#}"),
            });
        }
        outcome
    }

    fn serve(conf: &Path, predecessor: Option<Predecessor>) -> Result<(), Failure> {
        let (config, warnings) = load(conf).map_err(|problems| given(&problems))?;
        crate::observe::log::init(&config.logs.level, config.logs.json);
        for warning in &warnings {
            tracing::warn!(file = %warning.file.display(), line = warning.line, what = warning.what, help = warning.help, "configuration");
        }
        harden();
        app::run(config, predecessor, announce).map_err(|error| match error {
            StartError::Rules(problems) | StartError::Certificates(problems) => given(&problems),
            error => Failure::NotDone(error.into()),
        })
    }
}

fn given(problems: &config::Problems) -> Failure {
    Failure::Given(super::wrong(problems) + "\nnothing was started; `tollgate check` looks again")
}

/// No core dumps, no debugger of other processes: this one holds keys (HARDENING S7).
fn harden() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    );
}

/// Says where the gateway serves and, on a first start, how to try it.
fn announce(config: &Config, first: Option<&FirstRun>) {
    // Nobody may read it any more: that is no reason not to serve.
    let _ = super::print(&announcement(config, first));
}

fn announcement(config: &Config, first: Option<&FirstRun>) -> String {
    let listeners: Vec<String> = config.listeners.iter().map(url).collect();
    let mut lines = vec![format!(
        "tollgate {} serves {}",
        env!("CARGO_PKG_VERSION"),
        listeners.join(", ")
    )];
    if let Some(admin) = config.admin.listen {
        lines.push(format!("admin API      http://{admin}/api/v1/openapi.json"));
    }
    if let Some(metrics) = config.metrics {
        lines.push(format!("metrics        http://{metrics}/metrics"));
    }
    let file = config.data.join("first-run.toml");
    if first.is_some() {
        lines.push(format!(
            "first start    a client key and the admin token are in {} (only you can read it)",
            file.display()
        ));
    }
    if config.sandbox.is_some()
        && file.exists()
        && let Some(base) = listeners.first()
    {
        lines.push(format!("try it         {}", curl(base, &file)));
    }
    lines.join("\n") + "\n"
}

/// A line which works as it stands, and does not show the key.
fn curl(base: &str, file: &Path) -> String {
    format!(
        "curl -s {base}/v1/chat/completions -H \"authorization: Bearer $(sed -n 's/^key = \"\\(.*\\)\"/\\1/p' {})\" \
         -d '{{\"model\":\"sandbox/echo\",\"messages\":[{{\"role\":\"user\",\"content\":\"Hello, Tollgate\"}}]}}'",
        file.display()
    )
}

/// Where this machine reaches a listener.
pub(super) fn url(listener: &config::Listener) -> String {
    let host = match listener.listen.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let scheme = if listener.tls.is_some() { "https" } else { "http" };
    format!("{scheme}://{}", SocketAddr::new(host, listener.listen.port()))
}
