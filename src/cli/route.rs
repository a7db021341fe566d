//! `tollgate route explain`: where a request goes under the rules as they stand in the files, and why.

mod asked;
mod key;
mod told;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderName, HeaderValue};

use crate::clock::{Clock, UnixMicros};
use crate::config::{self, Config, Problems};
use crate::dialects;
use crate::egress::Machine;
use crate::routing::{self, Asker, Explanation, Permit, Query, affinity};
use crate::rules::{self, Rules};
use crate::upstream::Fleet;

use super::Failure;
use super::client::Reach;
use asked::{Asked, read, survey};
use key::Known;
use told::told;

/// Longest text of a request that is repeated, in bytes.
const MAX_TOLD: usize = 200;

/// Routes.
#[derive(clap::Subcommand, Debug)]
pub enum Route {
    /// Tells where a request goes under the rules in the files, and why. Asks no provider. Exits 1 if it goes nowhere.
    Explain(Explain),
}

impl Route {
    /// Runs the command.
    pub fn execute(self, conf: &Path) -> Result<(), Failure> {
        match self {
            Route::Explain(explain) => explain.execute(conf),
        }
    }
}

/// What of the request is not in the file.
#[derive(clap::Args, Debug)]
pub struct Explain {
    /// A request body (JSON), or a whole HTTP request as text: request line, headers, empty line, body. `-`: standard input.
    pub file: PathBuf,
    /// The path it was sent to, if the file is a body.
    #[arg(long, default_value = "/v1/chat/completions")]
    pub path: String,
    /// A header of the request (repeatable).
    #[arg(long = "header", value_name = "NAME:VALUE", value_parser = header)]
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Id or name of the client key. For an id the running gateway is asked what the key may do.
    #[arg(long)]
    pub key: Option<Arc<str>>,
    /// A tag of the key (repeatable).
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// The key's owner.
    #[arg(long)]
    pub owner: Option<Arc<str>>,
    /// The client's address.
    #[arg(long, value_name = "ADDRESS")]
    pub client: Option<IpAddr>,
    /// When, as RFC 3339 has it: 2026-01-31T22:00:00Z; left out: now.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub at: Option<UnixMicros>,
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
    /// How to reach the admin API.
    #[command(flatten)]
    pub reach: Reach,
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("a header is written name:value")?;
    let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| "this is not a header's name".to_owned())?;
    let value = HeaderValue::from_str(value.trim()).map_err(|_| "this is not a header's value".to_owned())?;
    Ok((name, value))
}

fn time(text: &str) -> Result<UnixMicros, String> {
    let at: jiff::Timestamp = text
        .parse()
        .map_err(|_| "a time is written as 2026-01-31T22:00:00Z".to_owned())?;
    Ok(UnixMicros(at.as_microsecond()))
}

impl Explain {
    /// Runs the command.
    pub fn execute(self, conf: &Path) -> Result<(), Failure> {
        let (config, rules) = compiled(conf)?;
        let text = read(&self.file)?;
        let asked = Asked::of(&self, text)?;
        let known = self.known(conf);
        let explanation = self.explain(&config, rules, &asked, known.as_ref());
        match self.json {
            true => super::print_json(&explanation)?,
            false => super::print(&told(&explanation))?,
        }
        match explanation.refused {
            None => Ok(()),
            Some(_) => Err(Failure::Given(String::new())),
        }
    }

    /// The key as the running gateway has it. Where it can't be asked, or does not know it, nothing is forbidden, and that is said.
    fn known(&self, conf: &Path) -> Option<Known> {
        let id = self.key.as_deref().filter(|text| key::is_id(text))?;
        let known = Known::ask(conf, &self.reach, id);
        known
            .inspect_err(|why| {
                let why = match why {
                    Failure::Given(why) => why.clone(),
                    Failure::NotDone(error) => format!("{error:#}"),
                };
                eprintln!("what the key {id} may do is not known here, and left out: {why}");
            })
            .ok()
    }

    fn explain(&self, config: &Config, rules: Rules, asked: &Asked, known: Option<&Known>) -> Explanation {
        let fleet = Fleet::new(Arc::new(rules), None);
        let Asked {
            target,
            headers,
            body,
            peek,
        } = asked;
        let asker = self.asker(known);
        let survey = survey(target, body);
        // As the gateway: shares of sessions are of those which the client names.
        let session = affinity::named(
            target.dialect.session_headers(),
            &config.affinity.headers,
            headers,
            &peek.outline,
            asker.map_or("", |asker| asker.id),
        );
        let operation = target.operation;
        let knows = |dialect| dialects::knows(dialect, operation);
        let query = Query {
            request: "",
            model: &peek.model,
            wishes: &peek.outline.models,
            provider: peek.outline.provider.as_deref(),
            dialect: target.dialect.id(),
            operation,
            stream: peek.stream,
            asker,
            address: self.client,
            headers,
            at: self.at.unwrap_or_else(|| Clock::system().now()),
            survey: survey.as_ref(),
            session: session.map(|session| session.id),
            permit: known.map(|known| known as &dyn Permit),
        };
        let mut explanation = routing::explain(&fleet, &query, &knows, None, Instant::now());
        if let Some(why) = known.and_then(Known::refused) {
            explanation.refused = Some(why.to_owned());
        }
        explanation
    }

    /// Whose key it is: as the gateway knows it, but for what is given.
    fn asker<'a>(&'a self, known: Option<&'a Known>) -> Option<Asker<'a>> {
        let given = self.key.is_some() || self.owner.is_some() || !self.tags.is_empty();
        let name = self.key.as_deref().unwrap_or("");
        let view = known.map(|known| &known.view);
        given.then(|| Asker {
            id: name,
            name: view.map_or(name, |view| &view.name),
            owner: self.owner.as_deref().or(view.and_then(|view| view.owner.as_deref())),
            tags: match view {
                Some(view) if self.tags.is_empty() => &view.tags,
                _ => &self.tags,
            },
        })
    }
}

/// The configuration, and the rules that it names.
fn compiled(conf: &Path) -> Result<(Config, Rules), Failure> {
    let wrong = |problems: Problems| {
        for problem in problems.iter().filter(|problem| !problem.warning) {
            eprintln!("{problem}");
        }
        Failure::Given("the rules can't be loaded".into())
    };
    let (config, _) = config::load::load(conf).map_err(wrong)?;
    let (rules, _) = rules::compile_with(&config.rules, &Clock::system(), &Machine).map_err(wrong)?;
    Ok((config, rules))
}
