//! Reads every file of the folder and compiles them together.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::clock::Clock;
use crate::config::problem::part;
use crate::config::source::{Document, Report, Source};
use crate::config::{Problem, Problems};

use super::environment::{Environment, Process};
use super::folder::Folder;
use super::names::{self, Names};
use super::route::{self, Known, Taken};
use super::{Provider, Rules, provider};

/// Most providers.
const MAX_PROVIDERS: usize = 10_000;
/// Most routes.
const MAX_ROUTES: usize = 20_000;

const LATER: &[(&str, &str)] = &[("price", "prices"), ("prices", "prices"), ("alias", "aliases")];

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
    compile_folder(Folder::read(folder), folder, clock, environment)
}

/// Compiles what was read.
pub(super) fn compile_folder(
    read: Folder,
    folder: &Path,
    clock: &Clock,
    environment: &dyn Environment,
) -> Result<(Rules, Problems), Problems> {
    let report = Report::default();
    read.problems.into_iter().for_each(|problem| report.add(problem));
    let rules = join(&read.sources, folder, &report, environment, |providers, routes| {
        Rules::new(providers, routes, clock.now(), read.digest)
    });
    let files: Vec<&Path> = read.sources.iter().map(|source| source.file.as_path()).collect();
    match (part(report.into_problems(&files)), rules) {
        ((wrong, warnings), Some(rules)) if wrong.is_empty() => Ok((rules, warnings)),
        ((wrong, warnings), _) => Err(wrong.into_iter().chain(warnings).collect()),
    }
}

type Made = Result<Rules, globset::Error>;

fn join(
    sources: &[Source],
    folder: &Path,
    report: &Report,
    environment: &dyn Environment,
    make: impl FnOnce(Vec<Arc<Provider>>, Vec<Arc<super::Route>>) -> Made,
) -> Option<Rules> {
    let documents: Vec<Document<'_>> = sources.iter().map(|source| source.parse(report)).collect();
    let (names, providers) = providers(&documents, report, environment);
    let by_name: HashMap<Arc<str>, Arc<Provider>> = providers.iter().map(|p| (p.name.clone(), p.clone())).collect();
    let known = Known {
        providers: &by_name,
        names: &names,
    };
    let routes = routes(&documents, report, &known);
    for (count, most, thing) in [
        (providers.len(), MAX_PROVIDERS, "providers"),
        (routes.len(), MAX_ROUTES, "routes"),
    ] {
        if count > most {
            let help = format!("there may be {most} at most");
            report.add(Problem::of_file(folder, format!("{count} {thing}"), help));
            return None;
        }
    }
    make(providers, routes)
        .map_err(|error| {
            let help = format!("{error}. Make them fewer or shorter.");
            report.add(Problem::of_file(folder, "the model globs of all routes together", help));
        })
        .ok()
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
    for document in documents {
        let report = if document.sound { report } else { &silent };
        let mut root = document.root(report, LATER);
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
            providers.extend(provider::compile(name, &value, environment).map(Arc::new));
        }
    }
    (names, providers)
}

fn routes(documents: &[Document<'_>], report: &Report, known: &Known<'_>) -> Vec<Arc<super::Route>> {
    let (mut names, mut taken) = (Names::default(), Taken::default());
    let mut routes = Vec::new();
    for document in documents.iter().filter(|document| document.sound) {
        let mut root = document.root(report, LATER);
        // Asked for again, so that it is known; a provider that is no table was told of before.
        let _ = root.get("provider");
        routes.extend(
            route::all(&mut root, known, &mut names, &mut taken)
                .into_iter()
                .map(Arc::new),
        );
        root.finish();
    }
    routes
}
