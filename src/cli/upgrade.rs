//! `tollgate upgrade`: replaces the running process by this binary.

use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use crate::clock::Clock;
use crate::egress::Machine;
use crate::rules;
use crate::upgrade::{Order, Step, control};

use super::{Failure, configuration, print, wrong};

/// How long the running gateway may say nothing. It bounds the upgrade itself (`upgrade.prepare`).
const SILENCE: Duration = Duration::from_secs(24 * 3600);

/// Replaces the running process by this binary: hands over the listening sockets and the store, waits until the new one serves.
#[derive(clap::Args, Debug)]
pub struct Upgrade {
    /// Gives the new process the environment of this command; without, it gets that of the running one. For systemd, which reads the
    /// service's variables anew for ExecReload.
    #[arg(long)]
    take_environment: bool,
    /// Waits until the old process has left, too.
    #[arg(long)]
    wait: bool,
    /// Each step as a JSON line.
    #[arg(long)]
    json: bool,
}

impl Upgrade {
    /// Exit code 1: configuration or rules are wrong, or the new process says so. 2: there is no gateway, or it did not come about.
    pub fn execute(self, conf: &Path) -> Result<(), Failure> {
        let config = configuration(conf)?;
        rules::compile_with(&config.rules, &Clock::system(), &Machine).map_err(|problems| {
            Failure::Given(wrong(&problems) + "\nnothing was replaced; `tollgate check` looks again")
        })?;
        let order = Order {
            program: std::env::current_exe().context("which program this is can't be told")?,
            conf: conf.canonicalize().with_context(|| conf.display().to_string())?,
            environment: self.take_environment.then(|| {
                let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
                    Some((name.into_string().ok()?, value.into_string().ok()?))
                };
                std::env::vars_os().filter_map(text).collect()
            }),
        };
        let path = control::path(&config.data);
        let mut link = UnixStream::connect(&path).with_context(|| {
            format!(
                "no gateway answers at {}: is one running, with this configuration, and are you its user?",
                path.display()
            )
        })?;
        link.set_read_timeout(Some(SILENCE))?;
        let mut line = serde_json::to_vec(&order)?;
        line.push(b'\n');
        link.write_all(&line)?;
        self.follow(BufReader::new(link))
    }

    fn follow(&self, steps: impl BufRead) -> Result<(), Failure> {
        let mut serves = false;
        let mut told_draining = false;
        for line in steps.lines() {
            let line = line.context("the running gateway")?;
            if self.json {
                print(&(line.clone() + "\n"))?;
            }
            let step: Step = serde_json::from_str(&line).context("the running gateway said something unexpected")?;
            if let Step::Failed { why } = &step {
                return Err(Failure::NotDone(anyhow::anyhow!(
                    "nothing was replaced, the running process goes on: {why}"
                )));
            }
            if matches!(step, Step::Serving { .. }) {
                serves = true;
            }
            let draining = matches!(step, Step::Draining { .. });
            if !self.json {
                self.tell(&step, told_draining)?;
            }
            told_draining |= draining;
            if draining && !self.wait {
                break;
            }
        }
        if !serves {
            return Err(Failure::NotDone(anyhow::anyhow!(
                "the running process ended before the new one served"
            )));
        }
        if self.wait && !self.json {
            print("the old process has left\n")?;
        }
        Ok(())
    }

    fn tell(&self, step: &Step, again: bool) -> Result<(), Failure> {
        let text = match step {
            Step::Started { pid } => format!("new process {pid} started"),
            Step::Checked { version } => format!("tollgate {version}: configuration, rules and addresses are good"),
            Step::Released => "store and books handed over".to_owned(),
            Step::Loaded => "keys, balances and rules loaded".to_owned(),
            Step::Serving { pid, milliseconds } => format!("process {pid} serves, after {milliseconds} ms"),
            Step::Draining {
                pid,
                in_flight,
                connections,
            } => {
                // Told once, or counted down where somebody looks.
                if again && !std::io::stdout().is_terminal() {
                    return Ok(());
                }
                let text = format!("old process {pid} finishes {in_flight} requests on {connections} connections");
                if self.wait && std::io::stdout().is_terminal() {
                    return print(&format!("\r\x1b[K{text}"));
                }
                text
            }
            Step::Failed { .. } | Step::Unknown => return Ok(()),
        };
        print(&(text + "\n"))
    }
}
