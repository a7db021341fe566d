//! The old process's side: it starts the new one, hands over, and afterwards speaks for what it has still under way.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::ledger::Ledger;
use crate::limits::Accounts;

use super::metrics::{self, Phase};
use super::owner::{self, Out, Remote};
use super::wire::{self, FromNew, FromOld, Offered, Receiver, Sender};
use super::{Conversation, Order, PROTOCOL, SharedSockets, Step, UpgradeError};

/// How long the new process may take from the moment it has the accounts until it serves: all is loaded by then, and requests of this
/// one wait for it. Less than they wait for an answer ([`owner::ANSWER`]).
const SWITCH: Duration = Duration::from_secs(10);

/// The running gateway, as an upgrade sees it.
pub trait Incumbent: Send + Sync {
    /// Its listening sockets, once more.
    fn sockets(&self) -> io::Result<Vec<SharedSockets>>;

    /// Its data folder.
    fn data(&self) -> std::path::PathBuf;

    /// Lets go of store, books and audit log. It goes on serving clients; changes through the admin API wait.
    fn release(&self) -> Result<(), String>;

    /// Takes all of that back.
    fn take_back(&self);

    /// Where conversations were answered.
    fn conversations(&self) -> Vec<Conversation>;

    /// The new one serves: it accepts no more, says so on every connection, and leaves when nothing is under way.
    fn retire(&self, successor: Successor);
}

/// What an old process knows of the one that took its place.
pub struct Successor {
    remote: Arc<Remote>,
    out: mpsc::Sender<Out>,
}

impl Successor {
    /// Tells how much is still under way here.
    pub fn draining(&self, in_flight: u64, connections: u64) {
        let message = FromOld::Draining { in_flight, connections };
        // Where nobody listens any more, nobody has to know.
        let _ = self.out.send(Out::Message(message));
    }
}

/// Ends a new process that did not come to serve.
struct Unborn(Option<Child>);

impl Unborn {
    fn end(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Unborn {
    fn drop(&mut self) {
        self.end();
    }
}

/// Starts the new program, with its end of the link as its standard input.
fn start(order: &Order, theirs: UnixStream) -> io::Result<Child> {
    let mut command = Command::new(&order.program);
    command.arg("--conf").arg(&order.conf).args(["run", "--take-over"]);
    if let Some(environment) = &order.environment {
        command.env_clear().envs(environment.iter().cloned());
        // These are the service's, not those of who asks: systemd's.
        for name in [
            "NOTIFY_SOCKET",
            "CREDENTIALS_DIRECTORY",
            "STATE_DIRECTORY",
            "WATCHDOG_USEC",
        ] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
    }
    let theirs = std::os::fd::OwnedFd::from(theirs);
    command.stdin(Stdio::from(theirs)).spawn()
}

/// Replaces this process by a new one. Blocking; `prepare` bounds the time until the new one serves; `told` hears of each step. After an
/// error this process goes on as before.
pub fn hand_over(
    order: &Order,
    incumbent: &Arc<dyn Incumbent>,
    accounts: &Arc<Accounts>,
    ledger: &Ledger,
    prepare: Duration,
    told: &dyn Fn(Step),
) -> Result<u32, UpgradeError> {
    let begun = Instant::now();
    metrics::phase(Phase::Preparing);
    let result = Attempt::begin(order, incumbent, ledger, prepare, told)
        .and_then(|attempt| attempt.hand_over(incumbent, accounts, ledger, told));
    match result {
        Ok(pid) => {
            told(Step::Serving {
                pid,
                milliseconds: begun.elapsed().as_millis().try_into().unwrap_or(u64::MAX),
            });
            metrics::phase(Phase::Draining);
            Ok(pid)
        }
        Err(error) => {
            metrics::phase(Phase::Serving);
            metrics::ended(false);
            told(Step::Failed { why: error.to_string() });
            Err(error)
        }
    }
}

/// One upgrade under way.
struct Attempt {
    child: Unborn,
    pid: u32,
    sender: Sender,
    receiver: Receiver,
    until: Instant,
    prepare: Duration,
}

impl Attempt {
    fn begin(
        order: &Order,
        incumbent: &Arc<dyn Incumbent>,
        ledger: &Ledger,
        prepare: Duration,
        told: &dyn Fn(Step),
    ) -> Result<Self, UpgradeError> {
        let until = Instant::now() + prepare;
        let shared = incumbent.sockets()?;
        let (ours, theirs) = UnixStream::pair()?;
        let child = start(order, theirs).map_err(|source| UpgradeError::Start {
            program: order.program.clone(),
            source,
        })?;
        let pid = child.id();
        told(Step::Started { pid });
        let (sender, receiver) = wire::link(ours)?;
        let mut attempt = Attempt {
            child: Unborn(Some(child)),
            pid,
            sender,
            receiver,
            until,
            prepare,
        };
        attempt.offer(&shared, incumbent, ledger)?;
        Ok(attempt)
    }

    fn offer(
        &mut self,
        shared: &[SharedSockets],
        incumbent: &Arc<dyn Incumbent>,
        ledger: &Ledger,
    ) -> Result<(), UpgradeError> {
        let offered = |shared: &SharedSockets| Offered {
            role: shared.role,
            address: shared.address,
            count: shared.sockets.len(),
        };
        let offer = FromOld::Offer {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            boot: ledger.boot().into(),
            data: incumbent.data(),
            sockets: shared.iter().map(offered).collect(),
        };
        let sockets: Vec<_> = shared
            .iter()
            .flat_map(|shared| &shared.sockets)
            .map(AsFd::as_fd)
            .collect();
        Ok(self.sender.send_with(&offer, &sockets)?)
    }

    /// The next message, within the time there is. Of a process that ended it is told how.
    fn next(&mut self) -> Result<FromNew, UpgradeError> {
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(UpgradeError::TooLate(self.prepare));
            }
            self.receiver.patience(Some(left))?;
            match self.receiver.receive() {
                Ok(Some(FromNew::Unknown)) => {}
                Ok(Some(FromNew::Failed { why })) => return Err(UpgradeError::Refused(why)),
                Ok(Some(message)) => return Ok(message),
                Ok(None) => return Err(self.ended()),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Err(UpgradeError::TooLate(self.prepare));
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Err(self.ended()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn ended(&mut self) -> UpgradeError {
        /// How long a process that closed the link may take to end.
        const LAST: Duration = Duration::from_secs(2);
        const LOOK: Duration = Duration::from_millis(10);
        let until = Instant::now() + LAST;
        while let Some(child) = &mut self.child.0 {
            match child.try_wait() {
                Ok(Some(status)) => return UpgradeError::Ended(format!("{status}; its log says why")),
                Ok(None) if Instant::now() < until => std::thread::sleep(LOOK),
                _ => break,
            }
        }
        UpgradeError::Ended("it closed the link".into())
    }

    fn hand_over(
        mut self,
        incumbent: &Arc<dyn Incumbent>,
        accounts: &Arc<Accounts>,
        ledger: &Ledger,
        told: &dyn Fn(Step),
    ) -> Result<u32, UpgradeError> {
        let mut given = Given {
            incumbent,
            accounts,
            released: false,
            switched: None,
        };
        let successor = match self.steps(&mut given, ledger, told).and_then(|()| given.keep()) {
            Ok(successor) => successor,
            Err(error) => {
                // What it holds can be taken back only when it is gone.
                self.child.end();
                return Err(error);
            }
        };
        metrics::ended(true);
        listen(
            self.receiver,
            successor.remote.clone(),
            accounts.clone(),
            self.child.0.take(),
        );
        incumbent.retire(successor);
        Ok(self.pid)
    }

    /// Up to the moment the new process serves.
    fn steps(&mut self, given: &mut Given<'_>, ledger: &Ledger, told: &dyn Fn(Step)) -> Result<(), UpgradeError> {
        match self.next()? {
            FromNew::Checked { protocol, version, .. } if protocol == PROTOCOL => told(Step::Checked { version }),
            other => return Err(UpgradeError::Unexpected(format!("{other:?}"))),
        }
        metrics::phase(Phase::HandingOver);
        given.released = true;
        given.incumbent.release().map_err(UpgradeError::Release)?;
        told(Step::Released);
        self.sender.send(&FromOld::Released)?;
        match self.next()? {
            FromNew::Loaded => told(Step::Loaded),
            other => return Err(UpgradeError::Unexpected(format!("{other:?}"))),
        }
        self.until = self.until.min(Instant::now() + SWITCH);
        self.sender.patience(Some(SWITCH))?;
        let remote = self.switch(given, ledger)?;
        // Answers to requests that come meanwhile may be among what it says.
        loop {
            match self.next()? {
                FromNew::Serving => break,
                message => remote.answered(message),
            }
        }
        Ok(self.sender.patience(None)?)
    }

    /// Gives the accounts to the new process.
    fn switch(&mut self, given: &mut Given<'_>, ledger: &Ledger) -> Result<Arc<Remote>, UpgradeError> {
        let conversations = given.incumbent.conversations();
        let (remote, out, outbox) = owner::remote();
        let accounts = given.accounts.hand_over(remote.clone(), Instant::now());
        given.switched = Some(Successor {
            remote: remote.clone(),
            out,
        });
        // What was settled before is in the journal before the new process reads it.
        if !ledger.write_out() {
            return Err(UpgradeError::Release("the journal can't be written".into()));
        }
        self.sender.send(&FromOld::Switch {
            accounts,
            conversations,
        })?;
        let mut sender = self.sender.try_clone()?;
        let ledger = ledger.clone();
        std::thread::Builder::new().name("successor".into()).spawn(move || {
            // An error is the other's end, which the reader sees.
            let _ = owner::send(&outbox, &mut sender, || ledger.write_out());
        })?;
        Ok(remote)
    }
}

/// What the new process was given. It comes back if this is dropped.
struct Given<'a> {
    incumbent: &'a Arc<dyn Incumbent>,
    accounts: &'a Arc<Accounts>,
    /// Store, books and audit log.
    released: bool,
    /// The accounts.
    switched: Option<Successor>,
}

impl Given<'_> {
    /// The new process keeps it.
    fn keep(&mut self) -> Result<Successor, UpgradeError> {
        let unasked = || UpgradeError::Unexpected("it serves without the accounts".into());
        let successor = self.switched.take().ok_or_else(unasked)?;
        self.released = false;
        Ok(successor)
    }
}

impl Drop for Given<'_> {
    fn drop(&mut self) {
        if let Some(successor) = self.switched.take() {
            // In this order: who asked there asks here again.
            self.accounts.take_back();
            successor.remote.close();
        }
        if self.released {
            self.incumbent.take_back();
        }
    }
}

/// Hears the answers of the process that serves, until it ends.
fn listen(mut receiver: Receiver, remote: Arc<Remote>, accounts: Arc<Accounts>, child: Option<Child>) {
    let hear = move || {
        if receiver.patience(None).is_ok() {
            while let Ok(Some(message)) = receiver.receive() {
                remote.answered(message);
            }
        }
        tracing::error!("the process that took this one's place is gone; this one finishes what it began by itself");
        accounts.take_back();
        remote.close();
        if let Some(mut child) = child {
            let _ = child.wait();
        }
    };
    if let Err(error) = std::thread::Builder::new().name("successor-link".into()).spawn(hear) {
        tracing::error!(%error, "the process that took this one's place can't be heard");
    }
}
