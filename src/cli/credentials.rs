//! `tollgate credentials`: the keys of providers, through the admin API of the running gateway.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use serde::Serialize;

use super::Failure;
use super::client::Client;
use super::keys::{How, to_the_second};
use super::table::{MAX_CELL, Table};
use super::typed::Typed;
use crate::admin::added::LimitsWanted;
use crate::admin::credentials::{CredentialList, CredentialStatus, Verified};
use crate::observe::redact::printable;

/// Verifications asked for at once. The gateway has a bound of its own.
const AT_ONCE: usize = 8;
/// Longest reason, in bytes, where it is told in full.
const MAX_REASON: usize = 2000;

/// Keys of providers, through the admin API of the running gateway.
#[derive(clap::Subcommand, Debug)]
pub enum Credentials {
    /// Lists them: how each stands, and what the last check found.
    List {
        /// Only this provider's.
        #[arg(long, value_name = "NAME")]
        provider: Option<String>,
        /// How to ask, how to print.
        #[command(flatten)]
        how: How,
    },
    /// Checks them now, each with a real, cheap call. Exit code 1 if one is at fault.
    Verify {
        /// Only this one: `PROVIDER/NAME`, or a name that only one provider has. Without it: all.
        name: Option<String>,
        /// Only this provider's.
        #[arg(long, value_name = "NAME")]
        provider: Option<String>,
        /// How to ask, how to print.
        #[command(flatten)]
        how: How,
    },
    /// Adds a key to a provider, in force at once. The key comes from standard input, or is typed without being shown.
    Add(Add),
    /// Takes one out that was added this way, and deletes its key.
    Remove(One),
    /// Takes one out of the choice until it is enabled again; requests under way end.
    Disable(One),
    /// Lets one be chosen again: disabled no more, and what cools it is forgotten (a quota that was paid, a quarantine).
    Enable(One),
}

/// A credential to be added.
#[derive(clap::Args, Debug)]
pub struct Add {
    /// The provider, as the rules call it.
    pub provider: String,
    /// A name for it there: a-z, 0-9, - and _.
    pub name: String,
    /// Its share; 0: only if all others are unusable.
    #[arg(long)]
    pub weight: Option<u32>,
    /// A word by which targets pick among credentials; may be given several times.
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// Requests in any 60 seconds, at most.
    #[arg(long, value_name = "COUNT")]
    pub requests_per_minute: Option<u64>,
    /// Tokens (prompt and answer) in any 60 seconds, at most.
    #[arg(long, value_name = "COUNT")]
    pub tokens_per_minute: Option<u64>,
    /// Requests under way at once, at most.
    #[arg(long, value_name = "COUNT")]
    pub concurrent: Option<u32>,
    /// How to ask, how to print.
    #[command(flatten)]
    pub how: How,
}

/// What is sent.
#[derive(Serialize)]
struct Wanted {
    provider: String,
    name: String,
    secret: Typed,
    weight: Option<u32>,
    tags: Vec<String>,
    limits: LimitsWanted,
}

impl Add {
    fn execute(self, conf: &Path) -> Result<(), Failure> {
        let client = Client::new(conf, &self.how.reach)?;
        let wanted = Wanted {
            secret: Typed::read("the key")?,
            provider: self.provider,
            name: self.name,
            weight: self.weight,
            tags: self.tags,
            limits: LimitsWanted {
                requests_per_minute: self.requests_per_minute,
                tokens_per_minute: self.tokens_per_minute,
                concurrent: self.concurrent,
            },
        };
        show(&client.post("/api/v1/credentials", Some(&wanted))?, self.how.json)
    }
}

fn show(status: &CredentialStatus, json: bool) -> Result<(), Failure> {
    match json {
        true => super::print_json(status),
        false => super::print(&table(std::slice::from_ref(status))),
    }
}

/// One credential.
#[derive(clap::Args, Debug)]
pub struct One {
    /// `PROVIDER/NAME`, or a name that only one provider has.
    pub name: String,
    /// Its provider.
    #[arg(long, value_name = "NAME")]
    pub provider: Option<String>,
    /// How to ask, how to print.
    #[command(flatten)]
    pub how: How,
}

impl Credentials {
    /// Runs the command.
    pub fn execute(self, conf: &Path) -> Result<(), Failure> {
        match self {
            Credentials::List { provider, how } => {
                let list = all(&Client::new(conf, &how.reach)?, provider.as_deref())?;
                if how.json {
                    super::print_json(&list)
                } else {
                    super::print(&table(&list.credentials))
                }
            }
            Credentials::Verify { name, provider, how } => {
                let client = Client::new(conf, &how.reach)?;
                let list = all(&client, provider_of(provider.as_deref(), name.as_deref()))?.credentials;
                let wanted = match name {
                    Some(name) => vec![pick(list, &name)?],
                    // Without a key there is nothing to verify.
                    None => list.into_iter().filter(|one| one.active).collect(),
                };
                verify(&client, &wanted, how.json)
            }
            Credentials::Add(add) => add.execute(conf),
            Credentials::Remove(one) => {
                let client = Client::new(conf, &one.how.reach)?;
                let list = all(&client, provider_of(one.provider.as_deref(), Some(&one.name)))?.credentials;
                let found = pick(list, &one.name)?;
                let path = format!("/api/v1/credentials/{}/{}", found.provider, found.name);
                show(&client.delete(&path, &[])?, one.how.json)
            }
            Credentials::Disable(one) => one.change(conf, "disable"),
            Credentials::Enable(one) => one.change(conf, "enable"),
        }
    }
}

impl One {
    fn change(self, conf: &Path, action: &str) -> Result<(), Failure> {
        let client = Client::new(conf, &self.how.reach)?;
        let list = all(&client, provider_of(self.provider.as_deref(), Some(&self.name)))?.credentials;
        let path = path(&pick(list, &self.name)?, action);
        show(&client.post(&path, None::<&()>)?, self.how.json)
    }
}

fn all(client: &Client, provider: Option<&str>) -> Result<CredentialList, Failure> {
    let query: Vec<(&str, &str)> = provider.map(|name| ("provider", name)).into_iter().collect();
    client.get("/api/v1/credentials", &query)
}

/// The provider that is meant: said, or the part before the slash.
fn provider_of<'a>(said: Option<&'a str>, name: Option<&'a str>) -> Option<&'a str> {
    said.or_else(|| name?.split_once('/').map(|(provider, _)| provider))
}

/// The one that is meant.
fn pick(list: Vec<CredentialStatus>, name: &str) -> Result<CredentialStatus, Failure> {
    let plain = name.split_once('/').map_or(name, |(_, name)| name);
    let provider = name.split_once('/').map(|(provider, _)| provider);
    let fits = |one: &CredentialStatus| one.name == plain && provider.is_none_or(|provider| one.provider == provider);
    let mut found: Vec<CredentialStatus> = list.into_iter().filter(fits).collect();
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        (None, _) => Err(Failure::Given(
            "there is no such credential; `tollgate credentials list` shows them".into(),
        )),
        (Some(_), false) => Err(Failure::Given(format!(
            "several providers have a credential {plain}: say which, as PROVIDER/{plain}"
        ))),
    }
}

/// Both names are made of a-z, 0-9, - and _: nothing to escape.
fn path(one: &CredentialStatus, action: &str) -> String {
    format!("/api/v1/credentials/{}/{}/{action}", one.provider, one.name)
}

/// All verifications, for programs.
#[derive(Serialize)]
struct AllVerified<'a> {
    verified: &'a [Verified],
}

fn verify(client: &Client, wanted: &[CredentialStatus], json: bool) -> Result<(), Failure> {
    let bar = match std::io::stderr().is_terminal() && wanted.len() > 1 {
        true => ProgressBar::new(wanted.len() as u64),
        false => ProgressBar::hidden(),
    };
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos} of {len} {msg}") {
        bar.set_style(style);
    }
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Result<Verified, Failure>)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(wanted.len()) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(one) = wanted.get(at) else { break };
                    bar.set_message(format!("{}/{}", one.provider, one.name));
                    let verified = client.post(&path(one, "verify"), None::<&()>);
                    bar.inc(1);
                    let failed = verified.is_err();
                    done.lock().push((at, verified));
                    // What fails for one (the gateway is gone) would for all.
                    if failed {
                        next.store(wanted.len(), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    bar.finish_and_clear();
    let mut done = done.into_inner();
    done.sort_by_key(|(at, _)| *at);
    let verified = done
        .into_iter()
        .map(|(_, verified)| verified)
        .collect::<Result<Vec<Verified>, Failure>>()?;
    if json {
        super::print_json(&AllVerified { verified: &verified })?;
    } else {
        super::print(&verified_table(&verified))?;
    }
    match verified.iter().any(|one| one.good == Some(false)) {
        // The table said which.
        true => Err(Failure::Given(String::new())),
        false => Ok(()),
    }
}

fn verified_table(verified: &[Verified]) -> String {
    let mut table = Table::new()
        .text("PROVIDER")
        .text("CREDENTIAL")
        .text("GOOD")
        .text("FOUND")
        .number("MS")
        .text("SAID");
    for one in verified {
        table.row([
            one.provider.as_str(),
            &one.name,
            match one.good {
                Some(true) => "yes",
                Some(false) => "no",
                None => "?",
            },
            &one.check.result,
            &one.check.took_ms.to_string(),
            one.check.words.as_deref().unwrap_or("-"),
        ]);
    }
    table.render()
}

fn table(credentials: &[CredentialStatus]) -> String {
    let mut table = Table::new()
        .text("PROVIDER")
        .text("CREDENTIAL")
        .text("STATE")
        .text("REASON")
        .text("UNTIL")
        .text("MODELS")
        .number("WEIGHT")
        .number("IN FLIGHT")
        .text("TAGS")
        .text("LAST CHECK");
    let mut whole = String::new();
    for one in credentials {
        let models: Vec<String> = one
            .models
            .iter()
            .filter(|model| model.state.standing != "ready")
            .map(|model| format!("{} {}", model.model, model.state.standing))
            .collect();
        let or_none = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        let reason = one.state.reason.as_deref().or(one.inactive.as_deref());
        // Advice stands at the end of a reason: what does not fit into a cell is told in full below.
        if let Some(reason) = reason.filter(|reason| reason.len() > MAX_CELL) {
            let reason = printable(reason, MAX_REASON);
            whole.push_str(&format!("\n{}/{}: {reason}\n", one.provider, one.name));
        }
        let checked = one.last_check.as_ref();
        table.row([
            one.provider.clone(),
            one.name.clone(),
            one.state.standing.clone(),
            or_none(reason.unwrap_or_default().to_owned()),
            or_none(to_the_second(one.state.until.as_deref().unwrap_or_default()).to_owned()),
            or_none(models.join(", ")),
            one.weight.to_string(),
            one.state.in_flight.to_string(),
            or_none(one.tags.join(", ")),
            checked.map_or("-".to_owned(), |check| {
                format!("{} {}", check.result, to_the_second(&check.at))
            }),
        ]);
    }
    table.render() + &whole
}
