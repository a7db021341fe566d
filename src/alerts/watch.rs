//! Looks at the other rooms for what is to be told. Blocking.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::{Clock, UnixMicros};
use crate::config::alerts::{self, Condition, Severity};
use crate::config::duration;
use crate::keys::Keys;
use crate::ledger::Ledger;
use crate::limits::{Account, AccountId, Accounts, Window as BudgetWindow};
use crate::observe::rfc3339;
use crate::rules::Live;
use crate::upstream::{Checks, CoolState, Fleet, LiveFleet, Pool};

use super::Finding;
use super::counted::Counted;
use super::window::Window;

/// How often what costs more is looked at: every account, the ledger's files.
const SELDOM: Duration = Duration::from_secs(10);

/// ... and how much rarer it is than it takes long: a million accounts are not looked through all the time.
const RARER: u32 = 20;

/// Most budgets that are told of at once, in the order of ids; many more than the board keeps.
const MAX_BUDGETS: usize = 16_384;

/// Over how long refusals for want of room are counted.
const OVERLOAD_WINDOW: Duration = Duration::from_secs(60);

/// How long rows that were closed twice are told of.
const DUPLICATES_WINDOW: Duration = Duration::from_secs(3600);

/// Failures in a row of an address before it counts as one that does not work.
const UNREACHABLE: u32 = 3;

/// A certificate that ends so soon is grave.
const LAST_DAY: i64 = DAY;

const DAY: i64 = 86_400_000_000;

/// The rooms that are looked at.
pub struct Sources {
    /// `[alerts]`.
    pub settings: alerts::Alerts,
    /// What time it is.
    pub clock: Clock,
    /// The rules.
    pub rules: Arc<Live>,
    /// The providers at work.
    pub fleet: Arc<LiveFleet>,
    /// Their checks: when certificates end.
    pub checks: Checks,
    /// The ledger.
    pub ledger: Ledger,
    /// What was used.
    pub accounts: Arc<Accounts>,
    /// Names of keys and groups.
    pub keys: Arc<Keys>,
    /// What else there is.
    pub outside: Arc<dyn Outside>,
}

/// What is known elsewhere in the process, by whoever puts it together.
pub trait Outside: Send + Sync {
    /// The certificates which the gateway itself shows, and when they end.
    fn certificates(&self) -> Vec<Expiry>;

    /// Why the last attempt to replace the process failed; `None`: it did not, or there was none.
    fn failed_upgrade(&self) -> Option<String>;
}

/// When a certificate ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// Whose it is: `listener 0.0.0.0:443, gateway.example`.
    pub name: String,
    /// When it ends.
    pub at: UnixMicros,
}

/// What was seen so far.
pub(super) struct Watch {
    sources: Sources,
    errors: Window<2>,
    no_room: Window<1>,
    duplicates: Window<1>,
    /// When it is looked at accounts and files again; `None`: at once.
    seldom: Option<Instant>,
    /// What was found when it was last looked at accounts and files.
    kept: Vec<Finding>,
}

impl Watch {
    pub(super) fn new(sources: Sources) -> Self {
        Watch {
            errors: Window::new(sources.settings.error_window),
            no_room: Window::new(OVERLOAD_WINDOW),
            duplicates: Window::new(DUPLICATES_WINDOW),
            seldom: None,
            kept: Vec::new(),
            sources,
        }
    }

    /// Everything that holds now.
    pub(super) fn look(&mut self, now: Instant) -> Vec<Finding> {
        let mut found = Vec::new();
        let at = self.sources.clock.now();
        let fleet = self.sources.fleet.load();
        self.counted(now, Counted::now(), &mut found);
        for pool in fleet.pools().filter(|pool| pool.is_usable()) {
            credentials(pool, now, &mut found);
            self.addresses(pool, now, &mut found);
        }
        self.certificates(&fleet, at, &mut found);
        self.reload(&mut found);
        if let Some(why) = self.sources.outside.failed_upgrade() {
            found.push(Finding {
                severity: Severity::Critical,
                what: format!("The process could not be replaced by a new one: {why}. The old one goes on."),
                help: "See the log, and try again.".to_owned(),
                ..finding(Condition::UpgradeFailed, "")
            });
        }
        if self.sources.ledger.is_full() {
            found.push(Finding {
                severity: Severity::Critical,
                what: "The disk which holds the ledger is full: requests are refused.".to_owned(),
                help: "Make room in the data folder; it goes on by itself.".to_owned(),
                ..finding(Condition::Ledger, "full")
            });
        }
        let mut found: Vec<Finding> = found.into_iter().map(|one| one.clean(fleet.masker())).collect();
        if self.seldom.is_none_or(|due| now >= due) {
            let began = Instant::now();
            let mut kept = Vec::new();
            self.ledger(&mut kept);
            self.budgets(at, &mut kept);
            self.kept = kept.into_iter().map(|one| one.clean(fleet.masker())).collect();
            self.seldom = Some(now + SELDOM.max(began.elapsed() * RARER));
        }
        found.extend(self.kept.iter().cloned());
        found
    }

    /// What is only counted.
    fn counted(&mut self, now: Instant, counted: Counted, found: &mut Vec<Finding>) {
        let settings = &self.sources.settings;
        let [requests, failed] = self.errors.grew(now, [counted.requests, counted.failed]);
        let [no_room] = self.no_room.grew(now, [counted.no_room]);
        let [duplicates] = self.duplicates.grew(now, [counted.duplicates]);
        let share = u128::from(failed) * 100;
        if requests >= settings.error_requests && share >= u128::from(requests) * u128::from(settings.error_rate) {
            found.push(Finding {
                severity: Severity::Critical,
                what: format!(
                    "{failed} of {requests} requests ended in errors within {}.",
                    duration::show(settings.error_window)
                ),
                help: "`tollgate credentials list` and the log say which providers fail.".to_owned(),
                ..finding(Condition::ErrorRate, "")
            });
        }
        if no_room >= settings.overload {
            found.push(Finding {
                severity: Severity::Critical,
                what: format!("{no_room} requests were refused for want of room within a minute."),
                help: "The gateway has more to do than it can: look at its memory, its disk and [limits].".to_owned(),
                ..finding(Condition::Overload, "")
            });
        }
        if duplicates > 0 {
            found.push(Finding {
                severity: Severity::Critical,
                what: format!(
                    "{duplicates} attempts were closed twice within an hour. Only the first row of each counts."
                ),
                help: "This is a fault of the gateway: report it with the log.".to_owned(),
                ..finding(Condition::Ledger, "duplicates")
            });
        }
        if counted.books_differ {
            found.push(Finding {
                severity: Severity::Critical,
                what: "The books of the ledger did not add up when they were last compared.".to_owned(),
                help: "`tollgate ledger verify` says where.".to_owned(),
                ..finding(Condition::Ledger, "books")
            });
        }
    }

    /// A provider none of whose addresses takes connections, as far as is known.
    fn addresses(&self, pool: &Arc<Pool>, now: Instant, found: &mut Vec<Finding>) {
        let provider = &*pool.provider.name;
        let peers: Vec<_> = pool
            .endpoints()
            .iter()
            .flat_map(|endpoint| endpoint.peers(now))
            .collect();
        let places = self.sources.checks.of_places(provider);
        let unresolved = !places.is_empty() && places.iter().all(|place| !place.resolves);
        let unreachable = !peers.is_empty() && peers.iter().all(|peer| peer.failures >= UNREACHABLE);
        let what = match (unresolved, unreachable) {
            (true, _) => format!("The name of provider {provider} does not resolve."),
            (_, true) => format!("No address of provider {provider} takes a connection."),
            _ => return,
        };
        found.push(Finding {
            severity: Severity::Critical,
            what,
            help: "`tollgate credentials list` and /api/v1/providers tell more.".to_owned(),
            ..finding(Condition::ProviderDown, &format!("{provider}: addresses"))
        });
    }

    fn certificates(&self, fleet: &Fleet, at: UnixMicros, found: &mut Vec<Finding>) {
        let mut all = self.sources.outside.certificates();
        for provider in &fleet.rules().providers {
            for place in self.sources.checks.of_places(&provider.name) {
                if let Some(end) = place.certificate_expires {
                    let name = format!("provider {}, {}", provider.name, place.place);
                    all.push(Expiry { name, at: end });
                }
            }
        }
        found.extend(
            all.iter()
                .filter_map(|one| expiry(one, at, self.sources.settings.certificate)),
        );
    }

    fn reload(&self, found: &mut Vec<Finding>) {
        let status = self.sources.rules.status();
        if status.ok {
            return;
        }
        let mut wrong = status.problems.iter().filter(|problem| !problem.warning);
        let first = wrong.next().map(|problem| problem.place()).unwrap_or_default();
        let more = match wrong.count() {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        found.push(Finding {
            severity: Severity::Warning,
            what: format!("New rules were refused, the ones before stay in force. Problems: {first}{more}."),
            help: "`tollgate check` tells them.".to_owned(),
            ..finding(Condition::ReloadFailed, "")
        });
    }

    /// The ledger's files and its store.
    fn ledger(&self, found: &mut Vec<Finding>) {
        let mut tell = |subject, what: String, help: &str| {
            found.push(Finding {
                severity: Severity::Critical,
                what,
                help: help.to_owned(),
                ..finding(Condition::Ledger, subject)
            });
        };
        let reach = match self.sources.ledger.reach() {
            Ok(reach) => reach,
            // An upgrade: another process tells from now on.
            Err(error) if error.is_handed_over() => return,
            Err(error) => {
                let what = format!("The ledger can't take its rows into the store: {error}.");
                tell(
                    "store",
                    what,
                    "Rows are safe in the journal. See the log, and start the gateway anew.",
                );
                return;
            }
        };
        if reach.damaged > 0 {
            let files = reach.damaged;
            let what = format!("{files} files of the ledger's journal are damaged.");
            tell("damaged", what, "Stop the gateway and say `tollgate ledger repair`.");
        }
        let Some(refilled) = reach.refilled else { return };
        // Rows that would have been removed for their age by now are no loss.
        if refilled.rows_missing > 0 && reach.rows_since.is_none_or(|since| since.0 <= refilled.rows_since) {
            let what = format!(
                "The store broke and was filled again: {} single rows did not come back.",
                refilled.rows_missing
            );
            tell(
                "rows",
                what,
                "`tollgate ledger verify` tells which; a backup may have them.",
            );
        }
        if refilled.sums_since > 0 {
            let what =
                "The store broke and was filled again without its sums: what is older than the journals is lost.";
            tell(
                "sums",
                what.to_owned(),
                "`tollgate ledger verify` tells more; a backup may have them.",
            );
        }
    }

    fn budgets(&self, at: UnixMicros, found: &mut Vec<Finding>) {
        let shares = &self.sources.settings.budgets;
        if shares.is_empty() {
            return;
        }
        for account in self.sources.accounts.all() {
            if found.len() >= MAX_BUDGETS {
                return;
            }
            for used in used_up(&account, shares, at) {
                let Some(name) = self.name_of(account.id()) else { break };
                found.push(used.finding(account.id(), &name));
            }
        }
    }

    /// What people call it; `None`: it is gone.
    fn name_of(&self, id: &AccountId) -> Option<String> {
        match id {
            AccountId::Key(id) => {
                let key = self.sources.keys.get(id).filter(|key| key.revoked_at.is_none())?;
                Some(format!("key {id} (\"{}\")", key.name))
            }
            AccountId::Group(id) => {
                let group = self.sources.keys.group(id)?;
                group.group.deleted_at.is_none().then(|| format!("group {id}"))
            }
        }
    }
}

/// A budget of which much is used.
struct UsedUp {
    window: BudgetWindow,
    began: i64,
    unit: &'static str,
    /// The largest share, in percent, which is reached.
    share: u32,
    spent: String,
    limit: String,
}

/// The budgets of an account of which one of these shares is used. A budget of zero is closed, not used up.
fn used_up(account: &Account, shares: &[u32], at: UnixMicros) -> Vec<UsedUp> {
    let limits = account.limits();
    if limits.budgets.is_empty() {
        return Vec::new();
    }
    let balance = account.balance(at);
    let mut found = Vec::new();
    for budget in &limits.budgets {
        let used = balance.used(budget.window);
        let money = budget.money.map(|limit| limit.0);
        for (unit, spent, limit) in [
            ("requests", used.spent.requests, budget.requests),
            ("tokens", used.spent.tokens, budget.tokens),
            ("money", used.spent.charge.0, money),
        ] {
            let Some(limit) = limit.filter(|limit| *limit > 0) else {
                continue;
            };
            let reached = |share: &&u32| u128::from(spent) * 100 >= u128::from(limit) * u128::from(**share);
            let Some(share) = shares.iter().filter(reached).max() else {
                continue;
            };
            let show = |amount: u64| match unit {
                "money" => format!("{} dollars", crate::money::NanoUsd(amount)),
                unit => format!("{amount} {unit}"),
            };
            found.push(UsedUp {
                window: budget.window,
                began: used.from.0,
                unit,
                share: *share,
                spent: show(spent),
                limit: show(limit),
            });
        }
    }
    found
}

impl UsedUp {
    fn finding(&self, id: &AccountId, name: &str) -> Finding {
        let window = self.window.as_str();
        let span = match self.window {
            BudgetWindow::Total => "in total".to_owned(),
            _ => format!("this {window}"),
        };
        Finding {
            severity: if self.share >= 100 {
                Severity::Critical
            } else {
                Severity::Warning
            },
            level: self.share,
            instance: self.began,
            what: format!(
                "{name} has used {} of {} {span} ({} % or more).",
                self.spent, self.limit, self.share
            ),
            help: "At 100 % its requests are refused until the window ends or the budget is raised.".to_owned(),
            ..finding(Condition::Budget, &format!("{id} {window} {}", self.unit))
        }
    }
}

/// What is wrong with the credentials of a provider: each that is dead, and whether any is left.
fn credentials(pool: &Arc<Pool>, now: Instant, found: &mut Vec<Finding>) {
    let provider = &*pool.provider.name;
    let states = pool.states(now);
    let mut left = false;
    let mut dead = false;
    for state in states.iter().filter(|state| state.model.is_none()) {
        match state.standing {
            CoolState::Quarantined => dead = true,
            CoolState::Disabled => continue,
            _ => {
                left = true;
                continue;
            }
        }
        let credential = &*state.credential;
        let why = state.reason.map_or("refused", |reason| reason.as_str());
        found.push(Finding {
            severity: Severity::Warning,
            what: format!("Provider {provider} does not take the credential {credential} any more: {why}."),
            help: "Look at the account there; then `tollgate credentials verify` tries it at once.".to_owned(),
            ..finding(Condition::CredentialDead, &format!("{provider}/{credential}"))
        });
    }
    if dead && !left {
        found.push(Finding {
            severity: Severity::Critical,
            what: format!("Provider {provider} takes none of its credentials."),
            help: "Requests go elsewhere where routes say so, and fail where they do not.".to_owned(),
            ..finding(Condition::ProviderDown, &format!("{provider}: credentials"))
        });
    }
}

/// A certificate that ends soon, or has ended.
fn expiry(one: &Expiry, at: UnixMicros, warning: Duration) -> Option<Finding> {
    let left = one.at.0.saturating_sub(at.0);
    if left >= i64::try_from(warning.as_micros()).unwrap_or(i64::MAX) {
        return None;
    }
    let end = rfc3339(one.at);
    let day = end.get(..10).unwrap_or(&end);
    let verb = if left > 0 { "ends" } else { "ended" };
    let grave = left <= LAST_DAY;
    Some(Finding {
        severity: if grave { Severity::Critical } else { Severity::Warning },
        level: u32::from(grave),
        what: format!("The certificate of {} {verb} on {day}.", one.name),
        help: "Whoever runs that server has to renew it.".to_owned(),
        ..finding(Condition::Certificate, &one.name)
    })
}

fn finding(condition: Condition, subject: &str) -> Finding {
    Finding {
        condition,
        subject: subject.to_owned(),
        instance: 0,
        severity: Severity::Warning,
        level: 0,
        what: String::new(),
        help: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::KeyId;
    use crate::limits::{Budget, Limits, Spent};
    use crate::money::NanoUsd;

    #[test]
    fn a_certificate_is_told_ahead_of_time_and_again_on_its_last_day() {
        let one = Expiry {
            name: "listener 0.0.0.0:443".into(),
            at: UnixMicros(100 * DAY),
        };
        let told = |at| expiry(&one, UnixMicros(at), Duration::from_secs(14 * 86_400));
        assert_eq!(told(86 * DAY), None);
        let first = told(86 * DAY + 1).expect("told");
        assert_eq!((first.severity, first.level), (Severity::Warning, 0));
        assert_eq!(
            first.what,
            "The certificate of listener 0.0.0.0:443 ends on 1970-04-11."
        );
        let last = told(99 * DAY).expect("told");
        assert_eq!((last.severity, last.level), (Severity::Critical, 1));
        assert!(told(101 * DAY).expect("told").what.contains("ended on"));
    }

    #[test]
    fn budgets_are_told_by_the_largest_share_that_is_used() {
        let accounts = Accounts::new();
        let id = AccountId::Key(KeyId("k".into()));
        let account = accounts.get(&id);
        let budget = |window, requests: Option<u64>, money: Option<u64>| Budget {
            window,
            requests,
            tokens: None,
            money: money.map(NanoUsd),
        };
        account.set_limits(Limits {
            budgets: vec![
                budget(BudgetWindow::Day, Some(10), None),
                budget(BudgetWindow::Total, Some(0), Some(2_000_000_000)),
            ],
            ..Limits::default()
        });
        let at = UnixMicros(1_769_860_800_000_000);
        let spend = |requests, charge| {
            account.book(
                at,
                Spent {
                    requests,
                    tokens: 0,
                    charge: NanoUsd(charge),
                },
            );
        };
        let told = |at| {
            let used = used_up(&account, &[80, 100], at);
            used.iter().map(|one| one.finding(&id, "key k")).collect::<Vec<_>>()
        };
        spend(7, 1_000_000_000);
        assert_eq!(told(at), [], "and a budget of zero is none");
        spend(1, 0);
        let [first] = &told(at)[..] else { panic!("one") };
        assert_eq!((first.level, first.severity), (80, Severity::Warning));
        assert_eq!(first.subject, "key k day requests");
        assert_eq!(
            first.what,
            "key k has used 8 requests of 10 requests this day (80 % or more)."
        );
        spend(5, 1_500_000_000);
        let both = told(at);
        assert_eq!(both.iter().map(|one| one.level).collect::<Vec<_>>(), [100, 100]);
        assert_eq!(
            both[1].what,
            "key k has used 2.5 dollars of 2 dollars in total (100 % or more)."
        );
        let tomorrow = told(UnixMicros(at.0 + DAY));
        assert_eq!(tomorrow.len(), 1, "a new day: only the total is left: {tomorrow:?}");
        assert_ne!(both[0].instance, 0, "each day is another");
    }
}
