//! The new process's side: what it gets from the old one, and how it speaks for both afterwards.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::clock::Clock;
use crate::ledger::Ledger;
use crate::limits::handover::{Inherited, Parties, Returned};
use crate::limits::{AccountId, Accounts, Admission, Estimate, Refused, Reservation};

use super::metrics::{self, Phase};
use super::wire::{self, Answer, FromNew, FromOld, Receiver, Sender};
use super::{Conversation, PROTOCOL, Role, SharedSockets, UpgradeError};

/// How long the old process may take for one step.
const STEP: Duration = Duration::from_secs(60);
/// Shortest time between two readings of the old process's journal.
const FOLLOW: Duration = Duration::from_millis(20);
/// After what time a journal that could not be read is read again.
const BOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long a process may take to end after it closed the link.
const END: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(50);

/// The process that serves until this one does.
pub struct Predecessor {
    sender: Arc<Mutex<Sender>>,
    receiver: Receiver,
    pid: u32,
    boot: String,
    data: PathBuf,
    sockets: Vec<SharedSockets>,
}

/// Tells the old process why this one can't take its place.
#[derive(Clone)]
pub struct Regrets(Arc<Mutex<Sender>>);

impl Regrets {
    /// Tells it; who ends anyway does not mind an error.
    pub fn tell(&self, why: String) {
        let _ = self.0.lock().send(&FromNew::Failed { why });
    }
}

impl Predecessor {
    /// Greets the process that started this one, over its standard input.
    pub fn greet() -> Result<Self, UpgradeError> {
        let stream = io::stdin().as_fd().try_clone_to_owned()?;
        Self::greet_over(UnixStream::from(stream))
    }

    fn greet_over(stream: UnixStream) -> Result<Self, UpgradeError> {
        let (sender, mut receiver) = wire::link(stream)?;
        receiver.patience(Some(STEP))?;
        let (message, mut descriptors) = receiver
            .receive_with()?
            .ok_or_else(|| UpgradeError::Ended("before it said anything".into()))?;
        let FromOld::Offer {
            protocol,
            pid,
            boot,
            data,
            sockets,
            version,
        } = message
        else {
            return Err(UpgradeError::Unexpected(format!("{message:?}")));
        };
        if protocol != PROTOCOL {
            return Err(UpgradeError::Refused(format!(
                "the running process is of version {version}, which hands over in another way: stop it and start this one"
            )));
        }
        if sockets.iter().map(|offered| offered.count).sum::<usize>() != descriptors.len() {
            return Err(UpgradeError::Unexpected("not all sockets came".into()));
        }
        let shared = sockets.into_iter().map(|offered| SharedSockets {
            role: offered.role,
            address: offered.address,
            sockets: descriptors.drain(..offered.count).collect(),
        });
        Ok(Predecessor {
            sender: Arc::new(Mutex::new(sender)),
            receiver,
            pid,
            boot,
            data,
            sockets: shared.collect(),
        })
    }

    /// For telling it that nothing will come of this.
    pub fn regrets(&self) -> Regrets {
        Regrets(self.sender.clone())
    }

    /// Its sockets at this address. What nobody takes is closed with this.
    pub fn take_sockets(&mut self, role: Role, address: SocketAddr) -> Vec<OwnedFd> {
        let mut taken = Vec::new();
        for shared in &mut self.sockets {
            if shared.role == role && shared.address == address {
                taken.append(&mut shared.sockets);
            }
        }
        taken
    }

    /// All that could be checked beforehand is good: waits until store, books and audit log are free. `data`: this process's data folder.
    pub fn checked(&mut self, data: &Path) -> Result<(), UpgradeError> {
        let same = |one: &Path, other: &Path| match (one.canonicalize(), other.canonicalize()) {
            (Ok(one), Ok(other)) => one == other,
            _ => false,
        };
        if !same(data, &self.data) {
            return Err(UpgradeError::Refused(format!(
                "the running process keeps its data in {}, this configuration in {}",
                self.data.display(),
                data.display()
            )));
        }
        self.sender.lock().send(&FromNew::Checked {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
        })?;
        loop {
            match self.receiver.receive()? {
                Some(FromOld::Released) => return Ok(()),
                Some(FromOld::Unknown) => {}
                Some(other) => return Err(UpgradeError::Unexpected(format!("{other:?}"))),
                None => return Err(UpgradeError::Ended("before it released the store".into())),
            }
        }
    }

    /// Everything is loaded: takes over the accounts, and answers for them from now on, on `runtime`. Clients may be served right after.
    pub fn switch(
        mut self,
        accounts: &Arc<Accounts>,
        ledger: &Ledger,
        clock: &Clock,
        runtime: &Handle,
    ) -> Result<Switched, UpgradeError> {
        self.sender.lock().send(&FromNew::Loaded)?;
        let (inherited, conversations) = loop {
            match self.receiver.receive()? {
                Some(FromOld::Switch {
                    accounts,
                    conversations,
                }) => break (accounts, conversations),
                Some(FromOld::Unknown) => {}
                Some(other) => return Err(UpgradeError::Unexpected(format!("{other:?}"))),
                // It died: what it held is found in its journal, like that of any dead process.
                None => break (Vec::new(), Vec::new()),
            }
        };
        // What it settled before is in its journal by now.
        ledger
            .follow_others()
            .map_err(|error| UpgradeError::Unexpected(format!("its journal can't be read: {error}")))?;
        let (at, now) = (clock.now(), Instant::now());
        for one in &inherited {
            accounts.inherit(one, at, now);
        }
        let (given_back, returned) = mpsc::channel();
        let held = Arc::new(Held::default());
        let office = Office {
            accounts: accounts.clone(),
            sender: self.sender.clone(),
            held: held.clone(),
            clock: clock.clone(),
            runtime: runtime.clone(),
        };
        let keeper = Keeper {
            accounts: accounts.clone(),
            ledger: ledger.clone(),
            held,
            inherited: inherited.into_iter().map(|one| (one.account.clone(), one)).collect(),
            boot: self.boot.clone(),
            pid: self.pid,
        };
        let receiver = self.receiver;
        receiver.patience(None)?;
        metrics::predecessors_by(1);
        spawn("predecessor", move || office.answer(receiver, &given_back))?;
        spawn("predecessor-books", move || keeper.follow(&returned))?;
        Ok(Switched {
            sender: self.sender,
            pid: self.pid,
            conversations,
        })
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.into()).spawn(run).map(|_| ())
}

/// The accounts are here.
pub struct Switched {
    sender: Arc<Mutex<Sender>>,
    pid: u32,
    /// Where conversations were answered.
    pub conversations: Vec<Conversation>,
}

impl Switched {
    /// Clients are being served: the old process may leave.
    pub fn serving(&self) {
        metrics::phase(Phase::Draining);
        metrics::ended(true);
        match self.sender.lock().send(&FromNew::Serving) {
            Ok(()) => tracing::info!(
                predecessor = self.pid,
                "this process serves now; the one before finishes what it began"
            ),
            Err(error) => tracing::warn!(%error, predecessor = self.pid, "the process before this one is gone already"),
        }
    }
}

/// What the old process holds here by number.
#[derive(Default)]
struct Held {
    admissions: Mutex<HashMap<u64, Arc<Admission>>>,
    reservations: Mutex<HashMap<u64, Reservation>>,
}

/// Answers what the old process asks.
struct Office {
    accounts: Arc<Accounts>,
    sender: Arc<Mutex<Sender>>,
    held: Arc<Held>,
    clock: Clock,
    runtime: Handle,
}

impl Office {
    fn answer(self, mut receiver: Receiver, given_back: &mpsc::Sender<Vec<Returned>>) {
        loop {
            match receiver.receive() {
                Ok(Some(FromOld::Enter { number, of, wait })) => self.enter(number, &of, wait),
                Ok(Some(FromOld::Reserve {
                    number,
                    of,
                    admission,
                    estimate,
                    first,
                    wait,
                })) => self.reserve(number, &of, admission, (estimate, first), wait),
                Ok(Some(FromOld::GivenBack { returned })) => {
                    let _ = given_back.send(returned);
                }
                Ok(Some(FromOld::Draining { in_flight, .. })) => metrics::predecessor(in_flight),
                Ok(Some(_)) => {}
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%error, "the link to the process before this one broke");
                    // So that it asks here no more.
                    self.sender.lock().hang_up();
                    return;
                }
            }
        }
    }

    fn enter(&self, number: u64, of: &Parties, wait: Duration) {
        let chain = of.chain(&self.accounts);
        let (held, sender, at) = (self.held.clone(), self.sender.clone(), self.clock.now());
        self.runtime.spawn(async move {
            let refused = match chain.enter_within(wait, at, Instant::now()).await {
                Ok(admission) => {
                    held.admissions.lock().insert(number, Arc::new(admission));
                    None
                }
                Err(refused) => Some(refused),
            };
            say(&sender, &FromNew::Entered { number, refused });
        });
    }

    fn reserve(
        &self,
        number: u64,
        of: &Parties,
        admission: Option<u64>,
        (estimate, first): (Estimate, bool),
        wait: Duration,
    ) {
        let admission = admission.and_then(|number| self.held.admissions.lock().get(&number).cloned());
        let admission = admission.unwrap_or_else(|| Arc::new(Admission::of_inherited(of.chain(&self.accounts))));
        let (held, sender, at) = (self.held.clone(), self.sender.clone(), self.clock.now());
        self.runtime.spawn(async move {
            let reserved: Result<Reservation, Refused> = admission
                .reserve_within(wait, estimate, first, at, Instant::now())
                .await;
            let answer = match reserved {
                Ok(reservation) => {
                    let at = reservation.at();
                    held.reservations.lock().insert(number, reservation);
                    Answer::At(at)
                }
                Err(refused) => Answer::Refused(refused),
            };
            say(&sender, &FromNew::Reserved { number, answer });
        });
    }
}

fn say(sender: &Mutex<Sender>, message: &FromNew) {
    if let Err(error) = sender.lock().send(message) {
        tracing::debug!(%error, "the process before this one is gone");
    }
}

/// Books what the old process used, and takes away what it held.
struct Keeper {
    accounts: Arc<Accounts>,
    ledger: Ledger,
    held: Arc<Held>,
    inherited: HashMap<AccountId, Inherited>,
    boot: String,
    pid: u32,
}

impl Keeper {
    fn follow(mut self, returned: &mpsc::Receiver<Vec<Returned>>) {
        while let Ok(first) = returned.recv() {
            let batch: Vec<Returned> = std::iter::once(first).chain(returned.try_iter()).flatten().collect();
            while !self.book() {
                // Nothing may be neither held nor booked.
                std::thread::sleep(BOOK_AGAIN);
            }
            for one in &batch {
                self.take_away(one);
            }
            std::thread::sleep(FOLLOW);
        }
        // The link is closed. Its rows are all there when its lock is free, and what it left open counts as used.
        let until = Instant::now() + END;
        while Instant::now() < until {
            let lives = self.ledger.lives(&self.boot).unwrap_or(false);
            if !lives && self.book() && (self.accounts.are_handed_over() || self.ledger.has_all_of(&self.boot)) {
                break;
            }
            std::thread::sleep(LOOK);
        }
        for one in std::mem::take(&mut self.inherited).into_values() {
            for returned in one.all_returned() {
                self.accounts.given_back(&returned, Instant::now());
            }
        }
        self.held.reservations.lock().clear();
        self.held.admissions.lock().clear();
        metrics::predecessor(0);
        metrics::predecessors_by(-1);
        if !self.accounts.are_handed_over() {
            metrics::phase(Phase::Serving);
        }
        tracing::info!(predecessor = self.pid, "the process before this one has ended");
    }

    /// Where the accounts were handed on meanwhile, the next process reads the journals.
    fn book(&self) -> bool {
        if self.accounts.are_handed_over() {
            return true;
        }
        let followed = self.ledger.follow_others();
        if let Err(error) = &followed {
            tracing::error!(%error, "the journal of the process before this one could not be read for the books; it is tried again");
        }
        followed.is_ok()
    }

    fn take_away(&mut self, returned: &Returned) {
        match returned {
            Returned::Admission(number) => drop(self.held.admissions.lock().remove(number)),
            Returned::Reservation { number, tokens } => {
                let reservation = self.held.reservations.lock().remove(number);
                if let Some(reservation) = reservation {
                    reservation.settle_booked(*tokens);
                }
            }
            Returned::Left(_) | Returned::Settled { .. } => {
                let inherited = returned.account().and_then(|account| self.inherited.get_mut(account));
                if let Some(inherited) = inherited {
                    inherited.take_away(returned);
                }
                self.accounts.given_back(returned, Instant::now());
            }
        }
    }
}
