//! `tollgate secrets`: the secrets in the gateway's store, and the master key they are sealed under.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::anyhow;
use serde::Serialize;

use super::Failure;
use super::client::Client;
use super::keys::{How, to_the_second};
use super::table::Table;
use super::typed::Typed;
use crate::admin::secrets::{SecretList, SecretView};
use crate::clock::Clock;
use crate::config::{SECRET_NAME_RULE, is_secret_name};
use crate::keys::seal::KeyMark;
use crate::keys::{Keys, MasterKey, envelope};
use crate::secrets::Vault;
use crate::store::{Store, StoreError};

/// Secrets in the gateway's store, for `key = "store:NAME"` in the rules.
#[derive(clap::Subcommand, Debug)]
pub enum Secrets {
    /// Lists them: names, when they were entered, who uses them. Never their values.
    List {
        /// How to ask, how to print.
        #[command(flatten)]
        how: How,
    },
    /// Enters a secret, or another in its place: from standard input, or typed without being shown.
    Set {
        /// Its name: a-z, 0-9, -, _ and `.`.
        name: String,
        /// How to ask, how to print.
        #[command(flatten)]
        how: How,
    },
    /// Deletes a secret.
    Delete {
        /// Its name.
        name: String,
        /// Also if the rules refer to it: what uses it becomes inactive at once.
        #[arg(long)]
        force: bool,
        /// How to ask, how to print.
        #[command(flatten)]
        how: How,
    },
    /// Seals everything under another master key, while the gateway is stopped. Client keys stay good. (A running gateway does it
    /// by itself if started with `master_key` and `master_key_previous`.)
    Rotate {
        /// The file with the new master key, as `master_key` will name it.
        #[arg(long, value_name = "FILE")]
        new_key: PathBuf,
    },
}

/// What is sent.
#[derive(Serialize)]
struct Wanted {
    secret: Typed,
}

impl Secrets {
    /// Runs the command.
    pub fn execute(self, conf: &Path) -> Result<(), Failure> {
        match self {
            Secrets::List { how } => {
                let list: SecretList = Client::new(conf, &how.reach)?.get("/api/v1/secrets", &[])?;
                match how.json {
                    true => super::print_json(&list),
                    false => super::print(&table(&list.secrets)),
                }
            }
            Secrets::Set { name, how } => {
                let path = path(&name)?;
                let client = Client::new(conf, &how.reach)?;
                let secret = Typed::read("the secret")?;
                show(&client.put(&path, &Wanted { secret })?, how.json)
            }
            Secrets::Delete { name, force, how } => {
                let query: &[(&str, &str)] = if force { &[("force", "true")] } else { &[] };
                show(&Client::new(conf, &how.reach)?.delete(&path(&name)?, query)?, how.json)
            }
            Secrets::Rotate { new_key } => rotate(conf, &new_key),
        }
    }
}

/// What is no name goes nowhere: it may be the secret.
fn path(name: &str) -> Result<String, Failure> {
    match is_secret_name(name) {
        true => Ok(format!("/api/v1/secrets/{name}")),
        false => Err(Failure::Given(format!("the secret's name {SECRET_NAME_RULE}"))),
    }
}

fn show(secret: &SecretView, json: bool) -> Result<(), Failure> {
    match json {
        true => super::print_json(secret),
        false => super::print(&table(std::slice::from_ref(secret))),
    }
}

fn table(secrets: &[SecretView]) -> String {
    let mut table = Table::new()
        .text("NAME")
        .text("FINGERPRINT")
        .text("CREATED")
        .text("CHANGED")
        .text("USED BY");
    for one in secrets {
        let used_by = match (one.used_by.is_empty(), one.in_use) {
            (false, _) => one.used_by.join(", "),
            (true, true) => "a proxy".to_owned(),
            (true, false) => "-".to_owned(),
        };
        table.row([
            one.name.as_str(),
            one.fingerprint.as_deref().unwrap_or("can't be opened"),
            to_the_second(&one.created_at),
            to_the_second(&one.changed_at),
            &used_by,
        ]);
    }
    table.render()
}

/// Whatever interrupts it: said again, it goes on.
fn rotate(conf: &Path, new_key: &Path) -> Result<(), Failure> {
    let config = super::configuration(conf)?;
    let store = match Store::open(&config.data.join("store"), config.store_cache) {
        Ok(store) => Arc::new(store),
        Err(StoreError::Held) => {
            return Err(Failure::Given(format!(
                "the gateway is running. Stop it first; or set master_key = \"{}\" and master_key_previous = \"{}\" in the \
                 configuration and restart it: then it does this by itself",
                new_key.display(),
                config.master_key.display()
            )));
        }
        Err(error) => return Err(error.into()),
    };
    if !Keys::sealed(&store)? {
        return Err(Failure::Given(
            "nothing is sealed yet: name the new file as master_key and start the gateway".into(),
        ));
    }
    let given = |error: crate::keys::master::MasterKeyError| Failure::Given(error.to_string());
    let old = MasterKey::load(&config.master_key, false).map_err(given)?;
    let new = MasterKey::load(new_key, false).map_err(given)?;
    let (from, to) = (KeyMark::of(&old), KeyMark::of(&new));
    if from == to {
        return Err(Failure::Given("both files hold the same master key".into()));
    }
    envelope::rotate(&store, &old, &new)?;
    let vault = Vault::load(store.clone(), &new, Some(&old), Clock::system())?;
    let count = vault.behind();
    if vault.reseal(usize::MAX)? > 0 {
        return Err(anyhow!("some secrets are still sealed under the old master key; say it again").into());
    }
    super::print(&format!(
        "Sealed anew under the master key {to}, instead of {from}: {count} secrets, and what client keys depend on.\n\
         Now write master_key = \"{}\" into {}, or put that file in the place of {}; then start the gateway, and destroy the old \
         key.\n",
        new_key.display(),
        conf.display(),
        config.master_key.display()
    ))
}
