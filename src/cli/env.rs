//! `tollgate env`: the settings which point a client at this gateway, as lines for a shell, as the client's own settings
//! file, or as JSON. Asks nobody: address and key come from the command line, the environment and the gateway's files.

mod clients;
mod shell;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;

use serde_json::json;
use url::Url;

use super::Failure;
use crate::config::{self, Config, Secret};
pub use clients::Target;
use clients::{Gateway, Settings};
pub use shell::Shell;

/// The environment variable with a client key.
pub const KEY_VARIABLE: &str = "TOLLGATE_KEY";

/// What stands for the key if none is known. No client takes an empty one.
const NO_KEY: &str = "PUT-A-CLIENT-KEY-HERE";

/// The settings which point a client at this gateway. The client key is among them.
#[derive(clap::Args, Debug)]
pub struct Env {
    /// Which client.
    #[arg(value_enum, value_name = "CLIENT")]
    target: Target,
    /// The model it is to ask for, as the routes know it; without it the client's own choice.
    #[arg(long, value_parser = word)]
    model: Option<String>,
    /// The gateway's address, instead of the configuration's first listener: `https://gateway.example`.
    #[arg(long, value_parser = address)]
    url: Option<Url>,
    /// The client key; without it TOLLGATE_KEY, then the key of the first start in the data folder.
    #[arg(long, value_parser = secret)]
    key: Option<Secret>,
    /// The shell that is to take them.
    #[arg(long, value_enum, default_value_t = Shell::Sh)]
    shell: Shell,
    /// Prints the client's settings file alone, for those which need one.
    #[arg(long, conflicts_with_all = ["json", "shell"])]
    file: bool,
    /// Prints JSON, for programs.
    #[arg(long, conflicts_with = "shell")]
    json: bool,
}

/// Where the key came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum KeySource {
    Option,
    Variable,
    FirstRun,
    Nowhere,
}

impl KeySource {
    const fn as_str(self) -> &'static str {
        match self {
            KeySource::Option => "option",
            KeySource::Variable => "environment",
            KeySource::FirstRun => "first-run.toml",
            KeySource::Nowhere => "none",
        }
    }
}

impl Env {
    /// Runs the command.
    pub fn execute(self, conf: &Path) -> Result<(), Failure> {
        let given = std::env::var(KEY_VARIABLE).ok().filter(|key| !key.is_empty());
        let (told, source) = self.tell(conf, given)?;
        if source == KeySource::Nowhere && !self.file {
            // Whoever evaluates the lines does not see their comments.
            eprintln!("tollgate: no client key is known here; {}", clients::HOW_TO_MAKE_A_KEY);
        }
        super::print(&told)
    }

    /// What is printed; `variable`: the key in the environment.
    fn tell(&self, conf: &Path, variable: Option<String>) -> Result<(String, KeySource), Failure> {
        let config = match (config::load::load(conf), &self.url) {
            (Ok((config, _warnings)), _) => Some(config),
            // The gateway is somewhere else, and so is its configuration.
            (Err(_), Some(_)) => None,
            (Err(problems), None) => return Err(unusable(&problems)),
        };
        let (key, source) = self.key(config.as_ref(), variable)?;
        let (url, is_tls_by_address) = match (&self.url, config.as_ref().and_then(|config| config.listeners.first())) {
            (Some(url), _) => (base(url), false),
            (None, Some(listener)) => (super::run::url(listener), listener.tls.is_some()),
            (None, None) => return Err(Failure::Given("the configuration has no listener; give --url".into())),
        };
        let settings = Settings::new(
            self.target,
            &Gateway {
                url: &url,
                key: key.as_ref().map_or(NO_KEY, Secret::expose),
                is_key_known: source != KeySource::Nowhere,
                is_tls_by_address,
                model: self.model.as_deref(),
            },
        );
        let told = if self.json {
            json_of(&settings, &url, source)?
        } else if self.file {
            let file = settings.file.ok_or_else(|| {
                Failure::Given(format!(
                    "{} needs no settings file: environment variables are enough",
                    self.target.name()
                ))
            })?;
            file.text
        } else {
            self.shell.write(&settings)
        };
        Ok((told, source))
    }

    /// The key that is known here, if one is.
    fn key(&self, config: Option<&Config>, variable: Option<String>) -> Result<(Option<Secret>, KeySource), Failure> {
        if let Some(key) = &self.key {
            return Ok((Some(key.clone()), KeySource::Option));
        }
        if let Some(text) = variable {
            let key = secret(&text).map_err(|told| Failure::Given(format!("{KEY_VARIABLE}: {told}")))?;
            return Ok((Some(key), KeySource::Variable));
        }
        // Another gateway's key would be refused there, and had no business to be sent.
        let Some(config) = config.filter(|_| self.url.is_none()) else {
            return Ok((None, KeySource::Nowhere));
        };
        let file = config.data.join("first-run.toml");
        match std::fs::read_to_string(&file) {
            Ok(text) => {
                // What is wrong with the text is not told: it would quote the file.
                let table: Option<toml::Table> = text.parse().ok();
                let key = table.as_ref().and_then(|table| table.get("key")?.as_str());
                let key = key.and_then(|key| secret(key).ok());
                let key = key.ok_or_else(|| Failure::Given(format!("{} holds no client key", file.display())))?;
                Ok((Some(key), KeySource::FirstRun))
            }
            // Moved to where secrets are kept, or somebody else's.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
                Ok((None, KeySource::Nowhere))
            }
            Err(error) => Err(anyhow::Error::new(error).context(file.display().to_string()).into()),
        }
    }
}

fn unusable(problems: &config::Problems) -> Failure {
    let mut told = String::from("the configuration can't be used; correct it, or give --url");
    for problem in problems.iter().filter(|problem| !problem.warning) {
        told.push_str(&format!("\n{problem}"));
    }
    Failure::Given(told)
}

fn json_of(settings: &Settings, url: &str, source: KeySource) -> Result<String, Failure> {
    let map = |variables: &[(&str, String)]| -> serde_json::Map<String, serde_json::Value> {
        variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect()
    };
    let value = json!({
        "client": settings.target.name(),
        "url": url,
        "key_source": source.as_str(),
        "variables": map(&settings.variables),
        "unset": settings.unset,
        "suggested": map(&settings.suggested.iter().map(|(name, value, _)| (*name, value.clone())).collect::<Vec<_>>()),
        "file": settings.file.as_ref().map(|file| json!({ "path": file.path, "text": file.text })),
        "notes": settings.notes,
    });
    Ok(serde_json::to_string_pretty(&value)? + "\n")
}

/// One word of printable ASCII: what a key or a model's name is. Nothing else may get into lines which a shell
/// evaluates, not even into their comments.
fn word(text: &str) -> Result<String, &'static str> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("one word of printable ASCII is expected");
    }
    Ok(text.to_owned())
}

fn secret(text: &str) -> Result<Secret, &'static str> {
    word(text.trim()).map(Secret::new)
}

fn address(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "an address like https://gateway.example is expected")?;
    let plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    match matches!(url.scheme(), "http" | "https") && url.has_host() && plain && url.password().is_none() {
        true => Ok(url),
        false => Err("an address like https://gateway.example is expected: http or https, host, port, path, no more"),
    }
}

/// The address without the version, which some clients want behind it and others add themselves.
fn base(url: &Url) -> String {
    let text = url.as_str().trim_end_matches('/');
    text.strip_suffix("/v1").unwrap_or(text).to_owned()
}
