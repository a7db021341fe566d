//! `tollgate keys`: client keys, through the admin API of the running gateway.

use std::path::Path;

use super::Failure;
use super::client::{Client, Reach};
use super::table::Table;
use crate::admin::keys::{KeyList, KeyMade, KeyView, KeyWanted};

/// Client keys, through the admin API of the running gateway.
#[derive(clap::Subcommand, Debug)]
pub enum Keys {
    /// Makes a key and prints it. It is shown this once.
    Create {
        /// A name for people.
        #[arg(long)]
        name: String,
        /// Whom it belongs to.
        #[arg(long)]
        owner: Option<String>,
        /// A word by which routes tell keys apart; may be given several times.
        #[arg(long = "tag", value_name = "TAG")]
        tags: Vec<String>,
        /// How to ask, how to print.
        #[command(flatten)]
        how: How,
    },
    /// Lists all keys, oldest first, the revoked ones too.
    List {
        /// How to ask, how to print.
        #[command(flatten)]
        how: How,
    },
    /// Shows one key.
    Show {
        /// Its id: the 12 characters after `sk-tg-`.
        id: String,
        /// How to ask, how to print.
        #[command(flatten)]
        how: How,
    },
    /// Revokes a key: refused from now on.
    Revoke {
        /// Its id: the 12 characters after `sk-tg-`.
        id: String,
        /// How to ask, how to print.
        #[command(flatten)]
        how: How,
    },
}

/// How to ask, how to print.
#[derive(clap::Args, Debug, Default)]
pub struct How {
    /// Prints JSON, for programs.
    #[arg(long)]
    pub json: bool,
    /// How to reach the admin API.
    #[command(flatten)]
    pub reach: Reach,
}

impl Keys {
    /// Runs the command.
    pub fn execute(self, conf: &Path) -> Result<(), Failure> {
        match self {
            Keys::Create { name, owner, tags, how } => {
                let wanted = KeyWanted { name, owner, tags };
                let made: KeyMade = Client::new(conf, &how.reach)?.post("/api/v1/keys", Some(&wanted))?;
                if how.json {
                    return super::print_json(&made);
                }
                // The key alone on standard output, so that a script can take it.
                eprintln!("Made the key {}. It is shown this once: keep it.", made.view.id);
                super::print(&format!("{}\n", made.key))
            }
            Keys::List { how } => {
                let list: KeyList = Client::new(conf, &how.reach)?.get("/api/v1/keys", &[])?;
                if how.json {
                    super::print_json(&list)
                } else {
                    super::print(&table(&list.keys))
                }
            }
            Keys::Show { id, how } => {
                let path = format!("/api/v1/keys/{}", public_part(&id)?);
                show(&Client::new(conf, &how.reach)?.get(&path, &[])?, how.json)
            }
            Keys::Revoke { id, how } => {
                let path = format!("/api/v1/keys/{}/revoke", public_part(&id)?);
                show(&Client::new(conf, &how.reach)?.post(&path, None::<&()>)?, how.json)
            }
        }
    }
}

fn show(key: &KeyView, json: bool) -> Result<(), Failure> {
    if json {
        super::print_json(key)
    } else {
        super::print(&table(std::slice::from_ref(key)))
    }
}

fn table(keys: &[KeyView]) -> String {
    let mut table = Table::new()
        .text("ID")
        .text("NAME")
        .text("OWNER")
        .text("TAGS")
        .text("KEY")
        .text("CREATED")
        .text("REVOKED");
    for key in keys {
        let tags = match key.tags.is_empty() {
            true => "-".to_owned(),
            false => key.tags.join(", "),
        };
        table.row([
            key.id.as_str(),
            &key.name,
            key.owner.as_deref().unwrap_or("-"),
            tags.as_str(),
            &key.hint,
            to_the_second(&key.created_at),
            key.revoked_at.as_deref().map_or("-", to_the_second),
        ]);
    }
    table.render()
}

/// `2026-01-31T12:00:00`: people need no microseconds.
fn to_the_second(time: &str) -> &str {
    time.split_once('.').map_or(time, |(time, _)| time)
}

/// The id within what was typed, which may be a whole key: its secret goes nowhere.
fn public_part(typed: &str) -> Result<&str, Failure> {
    let id = typed.strip_prefix("sk-tg-").unwrap_or(typed);
    let id = id.split_once('-').map_or(id, |(id, _secret)| id);
    if id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        Ok(id)
    } else {
        Err(Failure::Given(
            "a key's id is the 12 characters after `sk-tg-`; `tollgate keys list` shows them".into(),
        ))
    }
}
