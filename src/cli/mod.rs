//! The command line: one file per command. Exit codes: 0 done, 1 what you gave is wrong, 2 it could not be carried out.

pub mod alerts;
pub mod audit;
pub mod check;
pub mod client;
pub mod credentials;
pub mod env;
pub mod groups;
mod key_import;
pub mod keys;
pub mod ledger;
pub mod policy_flags;
pub mod prices;
pub mod route;
pub mod run;
pub mod sandbox;
pub mod secrets;
mod table;
pub mod tokens;
mod typed;
mod upgrade;
pub mod usage;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{self, Config};

/// One door to every language-model provider.
#[derive(Parser, Debug)]
#[command(name = "tollgate", version, about, max_term_width = 100)]
pub struct Arguments {
    /// The configuration file.
    #[arg(long, global = true, default_value = "conf/tollgate.toml", value_name = "FILE")]
    pub conf: PathBuf,
    /// What to do; without a command: run.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Starts the gateway.
    Run(run::Run),
    /// Loads configuration and rules and prints every problem with file, line and help.
    Check(check::Check),
    /// Client keys, through the admin API of the running gateway.
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Groups of client keys, with limits of their own above those of their keys.
    #[command(subcommand)]
    Groups(groups::Groups),
    /// Tokens of the admin API, and how far each goes.
    #[command(subcommand)]
    Tokens(tokens::Tokens),
    /// Who changed what.
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Keys of providers, through the admin API of the running gateway.
    #[command(subcommand)]
    Credentials(credentials::Credentials),
    /// Secrets in the gateway's store: keys of providers, passwords of proxies.
    #[command(subcommand)]
    Secrets(secrets::Secrets),
    /// What was used: sums and rows.
    #[command(subcommand)]
    Usage(usage::Usage),
    /// What models cost: reads tables of prices.
    #[command(subcommand)]
    Prices(prices::PricesCommand),
    /// The books: do they add up, and what to do if a file of theirs is damaged.
    #[command(subcommand)]
    Ledger(ledger::Ledger),
    /// What is wrong with the gateway, and whether webhooks are told.
    #[command(subcommand)]
    Alerts(alerts::Alerts),
    /// Where requests go, and why.
    #[command(subcommand)]
    Route(route::Route),
    /// A stand-in provider that speaks all four dialects.
    Sandbox(sandbox::Sandbox),
    /// Replaces the running process by this binary, without a failed request.
    Upgrade(upgrade::Upgrade),
    /// Prints the settings which point a client at this gateway: `eval "$(tollgate env claude)"`.
    Env(env::Env),
}

/// Why a command failed, and whose fault it is.
#[derive(Debug)]
pub enum Failure {
    /// What was given is wrong: exit code 1. Already told if empty.
    Given(String),
    /// It could not be carried out: exit code 2.
    NotDone(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::NotDone(error.into())
    }
}

/// Runs the command and says how it went.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // Help was asked for, or what was given is wrong.
        Err(told) => {
            let _ = told.print();
            return ExitCode::from(u8::from(told.use_stderr()));
        }
    };
    let conf = &arguments.conf;
    let outcome = match arguments.command.unwrap_or(Command::Run(run::Run::default())) {
        Command::Run(run) => run.execute(conf),
        Command::Check(check) => check.execute(conf),
        Command::Keys(keys) => keys.execute(conf),
        Command::Groups(groups) => groups.execute(conf),
        Command::Tokens(tokens) => tokens.execute(conf),
        Command::Audit(audit) => audit.execute(conf),
        Command::Credentials(credentials) => credentials.execute(conf),
        Command::Secrets(secrets) => secrets.execute(conf),
        Command::Usage(usage) => usage.execute(conf),
        Command::Prices(prices) => prices.execute(conf),
        Command::Ledger(ledger) => ledger.execute(conf),
        Command::Alerts(alerts) => alerts.execute(conf),
        Command::Route(route) => route.execute(conf),
        Command::Sandbox(sandbox) => sandbox.execute(),
        Command::Upgrade(upgrade) => upgrade.execute(conf),
        Command::Env(env) => env.execute(conf),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Given(told)) => {
            if !told.is_empty() {
                eprintln!("tollgate: {told}");
            }
            ExitCode::from(1)
        }
        Err(Failure::NotDone(error)) => {
            eprintln!("tollgate: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// The first names with commas between them, at most so many; `...` stands for the others.
fn first_of<'a>(names: impl ExactSizeIterator<Item = &'a str>, most: usize) -> String {
    let more = (names.len() > most).then_some("...");
    names.take(most).chain(more).collect::<Vec<_>>().join(", ")
}

/// The configuration; what is wrong with it is what was given.
fn configuration(conf: &Path) -> Result<Config, Failure> {
    let (config, _) = config::load::load(conf).map_err(|problems| Failure::Given(wrong(&problems)))?;
    Ok(config)
}

/// What is wrong, without warnings.
fn wrong(problems: &config::Problems) -> String {
    let wrong = problems.iter().filter(|problem| !problem.warning);
    wrong.map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Writes to standard output. That nobody reads on (`| head`) is no failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Writes JSON to standard output, for programs.
fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    print(&(serde_json::to_string_pretty(value)? + "\n"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn commands_are_understood() {
        for line in [
            "tollgate keys create --name n --owner o --tag a --tag b --json",
            "tollgate keys list --url http://127.0.0.1:1 --token-file t",
            "tollgate keys show AbCdEfGhIjKl",
            "tollgate keys revoke AbCdEfGhIjKl --json",
            "tollgate keys list --group g --owner o --tag t --state revoked",
            "tollgate keys create --name n --group g --expires 30d --budget month:money=100 --budget day:requests=5,tokens=9 \
             --rpm 60 --tpm 100000 --concurrent 4 --models gpt-*,{a,b}-x --providers p,q --routes r --networks 10.0.0.0/8 \
             --markup 1.25 --time-zone Europe/Berlin --disabled",
            "tollgate keys update AbCdEfGhIjKl --name n --clear expires,models --rpm 0 --expires 2030-01-31T12:00:00Z",
            "tollgate keys disable AbCdEfGhIjKl",
            "tollgate keys enable AbCdEfGhIjKl",
            "tollgate keys rotate AbCdEfGhIjKl --overlap 1h --json",
            "tollgate keys import f --group g --rpm 5",
            "tollgate groups create g --description d --budget total:money=0.5",
            "tollgate groups update g --clear budgets,description",
            "tollgate groups list --json",
            "tollgate groups show g",
            "tollgate groups delete g",
            "tollgate tokens create --name n --role viewer --expires 90d",
            "tollgate tokens list",
            "tollgate tokens revoke AbCdEfGhIjKl",
            "tollgate audit list --limit 5 --json",
            "tollgate audit verify",
            "tollgate credentials list --provider p --json",
            "tollgate credentials verify",
            "tollgate credentials verify --provider p main --url http://127.0.0.1:1",
            "tollgate credentials disable p/main --json",
            "tollgate credentials enable main --provider p",
            "tollgate credentials add p main --weight 2 --tag a --tag b --requests-per-minute 60 --concurrent 4 --json",
            "tollgate credentials remove p/main",
            "tollgate secrets list --json",
            "tollgate secrets set p.main --token-file t",
            "tollgate secrets delete p.main --force",
            "tollgate secrets rotate --new-key conf/new.key",
            "tollgate usage report --by key,model,provider,credential,day --from 7d --until 2026-01-31 --json",
            "tollgate usage report --key k --model m --provider p --credential c",
            "tollgate usage report --by group,route,upstream_model,hour,week,month --group g --sort charge --limit 10 --csv",
            "tollgate usage reconcile f --provider p",
            "tollgate usage reconcile f --provider p --format openai --from 2026-01-30 --until 2026-02-01 --tolerance 0.001 \
             --exact-models --all --json",
            "tollgate usage export --format csv --out f --from 24h --group g",
            "tollgate usage export --json",
            "tollgate alerts list --json",
            "tollgate alerts test",
            "tollgate alerts test ops --url http://127.0.0.1:1",
            "tollgate ledger verify --json",
            "tollgate ledger verify --data d",
            "tollgate ledger repair",
            "tollgate ledger repair --data d --dry-run --json",
            "tollgate --conf other.toml usage export",
            "tollgate env claude --model m --url https://gateway.example --key k --shell fish",
            "tollgate route explain f --path /v1/messages --header a:b --header c:d --key k --tag t --tag u --json",
            "tollgate route explain - --owner o --client 2001:db8::1 --at 2026-01-31T22:00:00Z",
            "tollgate env codex --file",
            "tollgate run --take-over",
            "tollgate upgrade --take-environment --wait --json",
            "tollgate env gemini --json",
            "tollgate prices import table.json --provider a --provider b=c --out f --only-used --dry-run --json",
        ] {
            Arguments::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
        for line in [
            "tollgate keys create",
            "tollgate keys show",
            "tollgate keys create --name n --budget year:money=1",
            "tollgate keys create --name n --budget day",
            "tollgate keys create --name n --budget day:money=1e3",
            "tollgate keys create --name n --expires soon",
            "tollgate keys create --name n --expires 2020-01-31T12:00:00Z",
            "tollgate keys create --name n --rpm -1",
            "tollgate keys update AbCdEfGhIjKl --clear name",
            "tollgate keys list --state good",
            "tollgate tokens create --name n --role root",
            "tollgate credentials disable",
            "tollgate credentials add p",
            "tollgate credentials add p main the-secret-itself",
            "tollgate secrets set p.main the-secret-itself",
            "tollgate secrets rotate",
            "tollgate usage report --by year",
            "tollgate usage report --json --csv",
            "tollgate usage report --sort name",
            "tollgate usage reconcile f",
            "tollgate usage reconcile f --provider p --tolerance 2",
            "tollgate usage reconcile f --provider p --from 7d",
            "tollgate usage reconcile f --provider p --format pdf",
            "tollgate usage export --format xml",
            "tollgate route explain",
            "tollgate route explain f --header nothing",
            "tollgate route explain f --at today",
            "tollgate env",
            "tollgate env emacs",
            "tollgate env claude --shell tcsh",
            "tollgate env codex --file --json",
        ] {
            assert!(Arguments::try_parse_from(line.split(' ')).is_err(), "{line} is wrong");
        }
    }
}
