//! `tollgate route explain`: where a request goes under the rules as they stand in the files, and why.

mod asked;
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
use crate::routing::{self, Asker, Explanation, Query, affinity};
use crate::rules::{self, Rules};
use crate::upstream::Fleet;

use super::Failure;
use asked::{Asked, read, survey};
use told::told;

/// Longest text of a request that is repeated, in bytes.
const MAX_TOLD: usize = 200;

/// Routes.
#[derive(clap::Subcommand, Debug)]
pub enum Route {
    /// Tells where a request goes under the rules in the files, and why. Asks nobody. Exits 1 if it goes nowhere.
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
    /// Id or name of the client key.
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
        let explanation = self.explain(&config, rules, &asked);
        match self.json {
            true => super::print_json(&explanation)?,
            false => super::print(&told(&explanation))?,
        }
        match explanation.refused {
            None => Ok(()),
            Some(_) => Err(Failure::Given(String::new())),
        }
    }

    fn explain(&self, config: &Config, rules: Rules, asked: &Asked) -> Explanation {
        let fleet = Fleet::new(Arc::new(rules), None);
        let Asked {
            target,
            headers,
            body,
            peek,
        } = asked;
        let asker = self.asker();
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
            permit: None,
        };
        routing::explain(&fleet, &query, &knows, None, Instant::now())
    }

    fn asker(&self) -> Option<Asker<'_>> {
        let given = self.key.is_some() || self.owner.is_some() || !self.tags.is_empty();
        let name = self.key.as_deref().unwrap_or("");
        given.then(|| Asker {
            id: name,
            name,
            owner: self.owner.as_deref(),
            tags: &self.tags,
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
