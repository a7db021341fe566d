//! One provider at work.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::egress::{Authority, Ways};
use crate::ir::DialectId;
use crate::rules::{Auth, Credential, Provider};

use super::average::Averages;
use super::cooldown::Cooldown;
use super::lane::Roster;
use super::lanes::Lanes;
use super::seat::{self, Account};
use super::{CoolState, CredentialState, Endpoint, Lane};

/// One provider: its endpoints by dialect, and a lane for each model that was asked for.
pub struct Pool {
    /// What the rules say of it.
    pub provider: Arc<Provider>,
    endpoints: Vec<Arc<Endpoint>>,
    pub(super) roster: Arc<Roster>,
    pub(super) lanes: Lanes,
}

/// Counts changes of what is worth remembering over a restart.
#[derive(Clone, Default)]
pub(super) struct Changes(Arc<AtomicU64>);

impl Changes {
    pub(super) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn counted(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Pool {
    /// A pool for a provider. Bases whose URL is not complete are left out. `before`: the pool of this name before a reload,
    /// whose knowledge is carried over: of credentials with the same name and secret, for every model. Requests of the older
    /// pool go on reporting into it.
    pub fn new(provider: Arc<Provider>, before: Option<&Pool>) -> Self {
        let ways = Arc::new(Ways::new(&provider));
        let endpoints = provider.bases.iter().filter_map(|base| {
            let known = before.and_then(|pool| pool.endpoint(base.dialect));
            Endpoint::new(base, &provider.connect_to, ways.clone(), known.map(Arc::as_ref)).map(Arc::new)
        });
        let endpoints = endpoints.collect();
        let before = before.map(|before| (before, &before.roster));
        let (roster, from) = Roster::new(&provider, before.map(|(_, roster)| &**roster));
        let roster = Arc::new(roster);
        let lanes: HashMap<Arc<str>, Arc<Lane>> = before.map_or_else(HashMap::new, |(before, old)| {
            let changed = roster.differs(old, &from);
            let carry = |(model, lane): (&Arc<str>, &Arc<Lane>)| {
                let lane = lane.carried_over(&roster, changed.then_some(&from));
                (model.clone(), Arc::new(lane))
            };
            before.lanes.load().iter().map(carry).collect()
        });
        if before.is_some_and(|(_, old)| old.cooldown) && !roster.cooldown {
            // What cools is ready at once.
            (0..roster.accounts.len()).for_each(|index| roster.forget(index, lanes.values()));
        }
        Pool {
            provider,
            endpoints,
            roster,
            lanes: Lanes::new(lanes, before.map(|(before, _)| &before.lanes)),
        }
    }

    /// The lane of a model, by the name the provider needs; empty: of passthrough. Models beyond the most that are kept may share
    /// one.
    pub fn lane(&self, model: &str) -> Arc<Lane> {
        self.lanes.get(model, &self.roster)
    }

    /// Where it answers in that dialect; `None`: it does not speak it.
    pub fn endpoint(&self, dialect: DialectId) -> Option<&Arc<Endpoint>> {
        self.endpoints.iter().find(|endpoint| endpoint.dialect == dialect)
    }

    /// Its endpoints, in the order of the rules.
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// The dialects it speaks.
    pub fn dialects(&self) -> impl Iterator<Item = DialectId> {
        self.endpoints.iter().map(|endpoint| endpoint.dialect)
    }

    /// It has an address, and a credential if it wants one.
    pub fn is_usable(&self) -> bool {
        !self.endpoints.is_empty() && !self.roster.accounts.is_empty()
    }

    /// Some credential of it may be used for so many tokens only: whoever takes a seat has to say how many it may need.
    pub fn limits_tokens(&self) -> bool {
        self.roster.limits_tokens
    }

    /// Its active credentials, in the order of the rules.
    pub fn credentials(&self) -> &[Arc<Credential>] {
        &self.roster.credentials
    }

    /// How each credential stands, as a whole and for each model where that differs.
    pub fn states(&self, now: Instant) -> Vec<CredentialState> {
        let whole = |account: &Arc<Account>| {
            let state = account.state.lock();
            let mut told = told(account, None, &state.cooldown, &state.averages, now);
            told.in_flight = account.in_flight.load(Ordering::Relaxed);
            if state.disabled {
                (told.standing, told.until) = (CoolState::Disabled, None);
            }
            told
        };
        let mut states: Vec<_> = self.roster.accounts.iter().map(whole).collect();
        let lanes = self.lanes.load();
        let mut lanes: Vec<_> = lanes.values().collect();
        lanes.sort_unstable_by(|a, b| a.model.cmp(&b.model));
        for lane in lanes {
            for seat in lane.seats.iter() {
                let state = seat.state.lock();
                if state.cooldown.is_cooling() {
                    let model = Some(lane.model.clone());
                    let mut told = told(&seat.account, model, &state.cooldown, &state.averages, now);
                    told.in_flight = seat.in_flight.load(Ordering::Relaxed);
                    states.push(told);
                }
            }
        }
        states
    }

    /// The names to be resolved ahead.
    pub fn authorities(&self) -> impl Iterator<Item = &Authority> {
        self.endpoints.iter().flat_map(|endpoint| endpoint.authorities())
    }
}

/// How it stands by this; what is under way is still to be told.
fn told(
    account: &Account,
    model: Option<Arc<str>>,
    cooldown: &Cooldown,
    averages: &Averages,
    now: Instant,
) -> CredentialState {
    let standing = if cooldown.is_quarantined() {
        CoolState::Quarantined
    } else if cooldown.is_half_open(now) {
        CoolState::Probing
    } else if cooldown.is_cooling() {
        CoolState::Cooling
    } else {
        CoolState::Ready
    };
    CredentialState {
        credential: account.name.clone(),
        model,
        standing,
        reason: cooldown.reason().filter(|_| cooldown.is_cooling()),
        until: cooldown.until().filter(|until| *until > now),
        failures: cooldown.failures(),
        in_flight: 0,
        latency: averages.latency(),
        success: averages.success(),
    }
}

impl Roster {
    /// The credentials of a provider, and for each where it stood before.
    fn new(provider: &Arc<Provider>, before: Option<&Roster>) -> (Self, Vec<Option<usize>>) {
        let open = provider.auth == Some(Auth::None);
        let active = provider
            .credentials
            .iter()
            .filter(|credential| credential.inactive.is_none());
        let credentials: Vec<_> = active.cloned().collect();
        let mut names: Vec<(Arc<str>, u32)> = credentials
            .iter()
            .map(|credential| (credential.name.clone(), seat::fingerprint(credential)))
            .collect();
        if names.is_empty() && open {
            names.push(("".into(), 0));
        }
        let (mut accounts, mut from) = (Vec::new(), Vec::new());
        for (name, fingerprint) in &names {
            let known = before.and_then(|before| {
                let index = *before.by_name.get(name)?;
                Some((index, &before.accounts[index]))
            });
            match known {
                Some((index, account)) if account.fingerprint == *fingerprint => {
                    accounts.push(account.clone());
                    from.push(Some(index));
                }
                changed => {
                    let account = Account::new(name.clone(), *fingerprint);
                    account.state.lock().disabled = changed.is_some_and(|(_, old)| old.state.lock().disabled);
                    accounts.push(Arc::new(account));
                    from.push(None);
                }
            }
        }
        let by_name = names
            .into_iter()
            .enumerate()
            .map(|(index, (name, _))| (name, index))
            .collect();
        let limits_tokens = credentials
            .iter()
            .any(|credential| credential.limits.tokens_per_minute.is_some());
        let roster = Roster {
            provider: provider.name.clone(),
            credentials,
            accounts,
            by_name,
            open,
            cooldown: provider.cooldown,
            limits_tokens,
            changes: before.map(|before| before.changes.clone()).unwrap_or_default(),
        };
        (roster, from)
    }

    /// Something has changed that touches the choice: who there is, weights, tags.
    fn differs(&self, old: &Roster, from: &[Option<usize>]) -> bool {
        let moved = || from.iter().enumerate().any(|(index, from)| *from != Some(index));
        let said = |(new, old): (&Arc<Credential>, &Arc<Credential>)| new.weight != old.weight || new.tags != old.tags;
        self.accounts.len() != old.accounts.len()
            || moved()
            || self.credentials.len() != old.credentials.len()
            || self.credentials.iter().zip(&old.credentials).any(said)
    }
}
