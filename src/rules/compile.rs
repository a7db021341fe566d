//! Reads every file of the folder and compiles them together.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use crate::clock::{Clock, UnixMicros};
use crate::config::problem::part;
use crate::config::source::{Document, Report, Source};
use crate::config::value::Value;
use crate::config::{Problem, Problems, Secret};

use super::alias::Aliases;
use super::environment::{Environment, Noting, Process};
use super::folder::Folder;
use super::lint::Lint;
use super::names::{self, Names};
use super::patterns::{self, Patterns};
use super::prices::Entry;
use super::route::{self, Written};
use super::tables::Lines;
use super::target::Known;
use super::{ModelFacts, ModelTable, PriceTable, Provider, Route, Rules, credential, provider};

/// Most providers.
const MAX_PROVIDERS: usize = 10_000;
/// Most routes.
const MAX_ROUTES: usize = 20_000;

/// Reads and compiles `folder/*.toml` in name order; every problem at once. Warnings come along with the rules.
pub fn compile(folder: &Path, clock: &Clock) -> Result<(Rules, Problems), Problems> {
    compile_with(folder, clock, &Process)
}

/// As [`compile`], with the values of `env:NAME` and `${NAME}` from elsewhere than the process.
pub fn compile_with(
    folder: &Path,
    clock: &Clock,
    environment: &dyn Environment,
) -> Result<(Rules, Problems), Problems> {
    compile_folder(&Folder::read(folder), folder, clock, environment)
}

/// Compiles what was read.
pub(super) fn compile_folder(
    read: &Folder,
    folder: &Path,
    clock: &Clock,
    environment: &dyn Environment,
) -> Result<(Rules, Problems), Problems> {
    let report = Report::default();
    read.problems.iter().for_each(|problem| report.add(problem.clone()));
    let noting = Noting::new(environment);
    let joined = join(&read.sources, folder, &report, &noting);
    let rules = joined.map(|joined| Rules {
        stored: noting.asked(),
        hidden: hidden(&joined.providers, environment),
        ..joined.rules(clock.now(), read.digest)
    });
    let files: Vec<&Path> = read.sources.iter().map(|source| source.file.as_path()).collect();
    match (part(report.into_problems(&files)), rules) {
        ((wrong, warnings), Some(rules)) if wrong.is_empty() => Ok((rules, warnings)),
        ((wrong, warnings), _) => Err(wrong.into_iter().chain(warnings).collect()),
    }
}

/// Secrets beside those of credentials.
fn hidden(providers: &[Arc<Provider>], environment: &dyn Environment) -> Vec<Secret> {
    let of_credentials = providers.iter().flat_map(|provider| &provider.credentials);
    let egresses = of_credentials.map(|credential| &credential.egress);
    let egresses = egresses.chain(providers.iter().map(|provider| &provider.egress));
    let logins = egresses.filter_map(|egress| egress.proxy.as_ref()?.login.as_ref());
    let passwords = logins.map(|(_, password)| password.clone());
    passwords.chain(environment.hidden()).collect()
}

/// What all files say together.
struct Joined {
    providers: Vec<Arc<Provider>>,
    by_name: HashMap<Arc<str>, Arc<Provider>>,
    routes: Vec<Arc<Route>>,
    patterns: Patterns,
    aliases: HashMap<Arc<str>, Arc<str>>,
    models: ModelTable,
    prices: PriceTable,
}

impl Rules {
    /// Providers and routes alone, without aliases and tables. An error is a glob's.
    pub fn new(
        providers: Vec<Arc<Provider>>,
        routes: Vec<Arc<Route>>,
        loaded_at: UnixMicros,
        digest: u32,
    ) -> Result<Self, globset::Error> {
        let numbered = (0u32..).zip(&routes);
        let patterns =
            Patterns::new(numbered.flat_map(|(n, route)| route.models.iter().map(move |model| (model.as_str(), n))))?;
        let joined = Joined {
            by_name: providers.iter().map(|p| (p.name.clone(), p.clone())).collect(),
            providers,
            routes,
            patterns,
            aliases: HashMap::new(),
            models: ModelTable::default(),
            prices: PriceTable::default(),
        };
        Ok(joined.rules(loaded_at, digest))
    }
}

impl Joined {
    fn rules(self, loaded_at: UnixMicros, digest: u32) -> Rules {
        Rules {
            providers: self.providers,
            by_name: self.by_name,
            routes: self.routes,
            loaded_at,
            digest,
            aliases: self.aliases,
            models: self.models,
            prices: self.prices,
            stored: BTreeSet::new(),
            hidden: Vec::new(),
            patterns: self.patterns,
        }
    }
}

/// `None`: there is too much of something, and that is reported.
fn join(sources: &[Source], folder: &Path, report: &Report, environment: &dyn Environment) -> Option<Joined> {
    let documents: Vec<Document<'_>> = sources.iter().map(|source| source.parse(report)).collect();
    let (names, providers) = providers(&documents, report, environment);
    let by_name: HashMap<Arc<str>, Arc<Provider>> = providers.iter().map(|p| (p.name.clone(), p.clone())).collect();
    let known = Known {
        providers: &by_name,
        names: &names,
    };
    let read = read(&documents, report, &known);
    for (count, most, thing) in [
        (providers.len(), MAX_PROVIDERS, "providers"),
        (read.routes.len(), MAX_ROUTES, "routes"),
    ] {
        if count > most {
            let help = format!("there may be {most} at most");
            report.add(Problem::of_file(folder, format!("{count} {thing}"), help));
            return None;
        }
    }
    let too_large = |what: &str, error: globset::Error| {
        let help = format!("{error}. Make them fewer or shorter.");
        report.add(Problem::of_file(
            folder,
            format!("the model globs of all {what} together"),
            help,
        ));
    };
    let numbered = read.routes.iter().zip(0_u32..);
    let patterns = numbered.flat_map(|(written, n)| written.models.iter().map(move |(model, _)| (*model, n)));
    let patterns = Patterns::new(patterns)
        .map_err(|error| too_large("routes", error))
        .ok()?;
    let models = ModelTable::new(read.models.lines)
        .map_err(|error| too_large("models", error))
        .ok()?;
    let prices = PriceTable::new(read.prices.lines)
        .map_err(|error| too_large("prices", error))
        .ok()?;
    let spelt = read.routes.iter().flat_map(|written| &written.models);
    let spelt: Vec<&str> = spelt
        .map(|(model, _)| *model)
        .filter(|model| patterns::is_name(model))
        .collect();
    let whole = documents.iter().all(|document| document.sound);
    let aliases = read.aliases.flatten(&patterns, &spelt, &names, whole);
    let lint = Lint {
        routes: &read.routes,
        patterns: &patterns,
        aliases: &read.aliases,
        providers: &names,
        models: &models,
        prices: &prices,
    };
    lint.warn();
    let routes = read.routes.into_iter().filter_map(|written| written.route).collect();
    Some(Joined {
        providers,
        by_name,
        routes,
        patterns,
        aliases,
        models,
        prices,
    })
}

/// The names of all providers, and those which are sound. A file with a syntax error gives its names only: what else it
/// says can't be trusted, but routes elsewhere shall not be blamed for it.
fn providers(
    documents: &[Document<'_>],
    report: &Report,
    environment: &dyn Environment,
) -> (Vec<String>, Vec<Arc<Provider>>) {
    let mut taken = Names::default();
    let (mut names, mut providers) = (Vec::new(), Vec::new());
    let silent = Report::default();
    let mut elsewhere: HashMap<&str, Vec<Value<'_>>> = HashMap::new();
    for document in documents.iter().filter(|document| document.sound) {
        for (provider, value) in credential::elsewhere(&mut document.root(report)) {
            elsewhere.entry(provider).or_default().push(value);
        }
    }
    for document in documents {
        let report = if document.sound { report } else { &silent };
        let mut root = document.root(report);
        for (name, value) in root.table("provider").entries() {
            if !document.sound {
                names.push(name.to_owned());
                continue;
            }
            if !names::is_name(name) {
                value.clone().problem(names::RULE);
            } else if taken.claim("provider", name, &value) {
                names.push(name.to_owned());
            }
            let credentials = elsewhere.remove(name).unwrap_or_default();
            providers.extend(provider::compile(name, &value, &credentials, environment).map(Arc::new));
        }
    }
    for (name, credentials) in elsewhere {
        if !names.iter().any(|known| known == name) {
            for credential in credentials {
                credential.problem("there is no provider of the name it says");
            }
        }
    }
    (names, providers)
}

/// What the files say beside their providers.
#[derive(Default)]
struct Read<'a> {
    routes: Vec<Written<'a>>,
    aliases: Aliases<'a>,
    models: Lines<ModelFacts>,
    prices: Lines<Entry>,
}

fn read<'a>(documents: &'a [Document<'a>], report: &'a Report, known: &Known<'_>) -> Read<'a> {
    let mut names = Names::default();
    let mut read = Read::default();
    for document in documents.iter().filter(|document| document.sound) {
        let mut root = document.root(report);
        // Asked for again, so that it is known; a provider that is no table was told of before.
        let _ = (root.get("provider"), root.get("credential"));
        read.routes.extend(route::all(&mut root, known, &mut names));
        read.aliases.read(&mut root);
        read.models.read(&mut root, known.names);
        read.prices.read(&mut root, known.names);
        root.finish();
    }
    read
}
