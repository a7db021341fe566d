//! `tollgate tokens`: the tokens of the admin API.

use std::path::Path;

use super::Failure;
use super::client::Client;
use super::keys::{How, to_the_second};
use super::policy_flags::Expires;
use super::table::Table;
use crate::admin::tokens::{RoleWord, TokenList, TokenMade, TokenView, TokenWanted};
use crate::keys::Role;

/// Tokens of the admin API, for owners.
#[derive(clap::Subcommand, Debug)]
pub enum Tokens {
    /// Makes a token and prints it. It is shown this once.
    Create {
        /// A name for people.
        #[arg(long)]
        name: String,
        /// How far it goes: viewer looks, operator changes keys, groups, credentials and rules, owner may do everything.
        #[arg(long)]
        role: Role,
        /// When it ends by itself: so long from now (`30d`), or a time (`2030-01-31T12:00:00Z`).
        #[arg(long, value_name = "WHEN")]
        expires: Option<Expires>,
        /// How to ask, how to print.
        #[command(flatten)]
        how: How,
    },
    /// Lists all tokens, oldest first, the revoked ones too.
    List {
        /// How to ask, how to print.
        #[command(flatten)]
        how: How,
    },
    /// Revokes a token: refused from now on.
    Revoke {
        /// Its id: the 12 characters after `tg-admin-`.
        id: String,
        /// How to ask, how to print.
        #[command(flatten)]
        how: How,
    },
}

impl Tokens {
    /// Runs the command.
    pub fn execute(self, conf: &Path) -> Result<(), Failure> {
        match self {
            Tokens::Create {
                name,
                role,
                expires,
                how,
            } => {
                let wanted = TokenWanted {
                    name,
                    role: role.into(),
                    expires_at: expires.map(|Expires(at)| at),
                };
                let made: TokenMade = Client::new(conf, &how.reach)?.post("/api/v1/tokens", Some(&wanted))?;
                if how.json {
                    return super::print_json(&made);
                }
                // The token alone on standard output, so that a script can take it.
                eprintln!("Made the token {}. It is shown this once: keep it.", made.view.id);
                super::print(&format!("{}\n", made.token))
            }
            Tokens::List { how } => {
                let list: TokenList = Client::new(conf, &how.reach)?.get("/api/v1/tokens", &[])?;
                match how.json {
                    true => super::print_json(&list),
                    false => super::print(&table(&list.tokens)),
                }
            }
            Tokens::Revoke { id, how } => {
                let id = id.strip_prefix("tg-admin-").unwrap_or(&id);
                let id = id.split_once('-').map_or(id, |(id, _secret)| id);
                if id.len() != 12 || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                    return Err(Failure::Given(
                        "a token's id is the 12 characters after `tg-admin-`; `tollgate tokens list` shows them".into(),
                    ));
                }
                let path = format!("/api/v1/tokens/{id}/revoke");
                let view: TokenView = Client::new(conf, &how.reach)?.post(&path, None::<&()>)?;
                match how.json {
                    true => super::print_json(&view),
                    false => super::print(&table(std::slice::from_ref(&view))),
                }
            }
        }
    }
}

fn table(tokens: &[TokenView]) -> String {
    let mut table = Table::new()
        .text("ID")
        .text("NAME")
        .text("ROLE")
        .text("TOKEN")
        .text("CREATED")
        .text("EXPIRES")
        .text("REVOKED");
    for token in tokens {
        table.row([
            token.id.as_str(),
            &token.name,
            role(token.role),
            &token.hint,
            to_the_second(&token.created_at),
            token.expires_at.as_deref().map_or("-", to_the_second),
            token.revoked_at.as_deref().map_or("-", to_the_second),
        ]);
    }
    table.render()
}

fn role(word: RoleWord) -> &'static str {
    Role::from(word).as_str()
}
