//! `tollgate keys`: client keys, through the admin API of the running gateway.

use std::path::{Path, PathBuf};

use super::Failure;
use super::client::{Client, Reach};
use super::policy_flags::{Clear, Expires, PolicyFlags, print_policy, set};
use super::table::{Table, grouped};
use crate::admin::account::AccountView;
use crate::admin::key_secrets::RotateWanted;
use crate::admin::keys::{KeyList, KeyMade, KeyPatch, KeyView, KeyWanted};
use crate::admin::policy::Set;
use crate::keys::KeyState;

/// Client keys, through the admin API of the running gateway.
#[derive(clap::Subcommand, Debug)]
pub enum Keys {
    /// Makes a key and prints it. It is shown this once.
    Create {
        /// A name for people.
        #[arg(long)]
        name: String,
        /// What it is given.
        #[command(flatten)]
        given: Box<Given>,
        /// Makes it disabled.
        #[arg(long)]
        disabled: bool,
        /// How to ask, how to print.
        #[command(flatten)]
        how: How,
    },
    /// Lists keys, oldest first, the revoked ones too.
    List {
        /// Only those of this group.
        #[arg(long)]
        group: Option<String>,
        /// Only those of this owner.
        #[arg(long)]
        owner: Option<String>,
        /// Only those with this tag.
        #[arg(long)]
        tag: Option<String>,
        /// Only those in this state.
        #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(KeyState::ALL.map(KeyState::as_str)))]
        state: Option<String>,
        /// How to ask, how to print.
        #[command(flatten)]
        how: How,
    },
    /// Shows one key: what it may do, what it used.
    Show(One),
    /// Changes a key. What no flag names stays as it is.
    Update {
        /// Its id: the 12 characters after `sk-tg-`.
        id: String,
        /// A name for people.
        #[arg(long)]
        name: Option<String>,
        /// What it is given.
        #[command(flatten)]
        given: Box<Given>,
        /// What it has no more: `--clear expires,models`.
        #[arg(long, value_delimiter = ',', value_name = "FLAGS")]
        clear: Vec<Clear>,
        /// How to ask, how to print.
        #[command(flatten)]
        how: How,
    },
    /// Refuses a key until it is enabled again.
    Disable(One),
    /// Lets a disabled key be used again.
    Enable(One),
    /// Gives a key a new secret and prints it. It is shown this once; the old one stays good for a while.
    Rotate {
        /// Its id: the 12 characters after `sk-tg-`.
        id: String,
        /// How long the secrets it has stay good; 0s: not at all.
        #[arg(long, default_value = "24h", value_name = "TIME")]
        overlap: String,
        /// How to ask, how to print.
        #[command(flatten)]
        how: How,
    },
    /// Takes over keys of another system. Only their SHA-256 is sent: who has one goes on using it.
    Import {
        /// A file, `-` for standard input: in each line a key or `sha256:HEX`, then a name if you like.
        file: PathBuf,
        /// What all of them are given.
        #[command(flatten)]
        given: Box<Given>,
        /// How to ask, how to print.
        #[command(flatten)]
        how: How,
    },
    /// Revokes a key: refused from now on.
    Revoke(One),
}

/// One key.
#[derive(clap::Args, Debug)]
pub struct One {
    /// Its id: the 12 characters after `sk-tg-`.
    pub id: String,
    /// How to ask, how to print.
    #[command(flatten)]
    pub how: How,
}

/// What a key is given.
#[derive(clap::Args, Debug, Default)]
pub struct Given {
    /// Whom it belongs to.
    #[arg(long)]
    pub owner: Option<String>,
    /// A word by which routes tell keys apart; may be given several times.
    #[arg(long = "tag", value_name = "TAG")]
    pub tags: Vec<String>,
    /// Its group.
    #[arg(long)]
    pub group: Option<String>,
    /// When it ends by itself: so long from now (`30d`), or a time (`2030-01-31T12:00:00Z`).
    #[arg(long, value_name = "WHEN")]
    pub expires: Option<Expires>,
    /// What it may do.
    #[command(flatten)]
    pub policy: PolicyFlags,
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
            Keys::Create {
                name,
                given,
                disabled,
                how,
            } => {
                let policy = given.policy.wanted(&[], disabled.then_some(true));
                let wanted = KeyWanted {
                    name,
                    owner: given.owner,
                    tags: given.tags,
                    group: given.group,
                    expires_at: given.expires.map(|Expires(at)| at),
                    policy,
                };
                let made: KeyMade = Client::new(conf, &how.reach)?.post("/api/v1/keys", Some(&wanted))?;
                tell(&made, "Made the key", how.json)
            }
            Keys::List {
                group,
                owner,
                tag,
                state,
                how,
            } => {
                let filters = [("group", group), ("owner", owner), ("tag", tag), ("state", state)];
                let filters: Vec<_> = filters
                    .iter()
                    .filter_map(|(name, value)| Some((*name, value.as_deref()?)))
                    .collect();
                let client = Client::new(conf, &how.reach)?;
                let keys = client.all("/api/v1/keys", &filters, |page: KeyList| (page.keys, page.next))?;
                if how.json {
                    super::print_json(&KeyList { keys, next: None })
                } else {
                    super::print(&table(&keys))
                }
            }
            Keys::Show(One { id, how }) => {
                let path = format!("/api/v1/keys/{}", public_part(&id)?);
                show(&Client::new(conf, &how.reach)?.get(&path, &[])?, how.json)
            }
            Keys::Update {
                id,
                name,
                given,
                clear,
                how,
            } => {
                if clear.contains(&Clear::Description) {
                    return Err(Failure::Given("--clear description: a key has none; groups do".into()));
                }
                let tags = (!given.tags.is_empty()).then_some(given.tags);
                let patch = KeyPatch {
                    name: name.map_or(Set::Leave, Set::To),
                    owner: set(&clear, Clear::Owner, given.owner),
                    tags: set(&clear, Clear::Tags, tags),
                    group: set(&clear, Clear::Group, given.group),
                    expires_at: set(&clear, Clear::Expires, given.expires.map(|Expires(at)| at)),
                    policy: given.policy.wanted(&clear, None).map_or(Set::Leave, Set::To),
                };
                change(conf, &id, &patch, &how)
            }
            Keys::Disable(One { id, how }) => change(conf, &id, &disabled(true), &how),
            Keys::Enable(One { id, how }) => change(conf, &id, &disabled(false), &how),
            Keys::Rotate { id, overlap, how } => {
                let path = format!("/api/v1/keys/{}/rotate", public_part(&id)?);
                let wanted = RotateWanted { overlap: Some(overlap) };
                let made: KeyMade = Client::new(conf, &how.reach)?.post(&path, Some(&wanted))?;
                tell(&made, "Made a new secret for the key", how.json)
            }
            Keys::Import { file, given, how } => super::key_import::execute(conf, &file, *given, &how),
            Keys::Revoke(One { id, how }) => {
                let path = format!("/api/v1/keys/{}/revoke", public_part(&id)?);
                show(&Client::new(conf, &how.reach)?.post(&path, None::<&()>)?, how.json)
            }
        }
    }
}

fn disabled(disabled: bool) -> KeyPatch {
    KeyPatch {
        policy: PolicyFlags::default()
            .wanted(&[], Some(disabled))
            .map_or(Set::Leave, Set::To),
        ..KeyPatch::default()
    }
}

fn change(conf: &Path, id: &str, patch: &KeyPatch, how: &How) -> Result<(), Failure> {
    let path = format!("/api/v1/keys/{}", public_part(id)?);
    show(&Client::new(conf, &how.reach)?.patch(&path, patch)?, how.json)
}

/// The key alone on standard output, so that a script can take it.
fn tell(made: &KeyMade, what: &str, json: bool) -> Result<(), Failure> {
    if json {
        return super::print_json(made);
    }
    eprintln!("{what} {}. It is shown this once: keep it.", made.view.id);
    super::print(&format!("{}\n", made.key))
}

fn show(key: &KeyView, json: bool) -> Result<(), Failure> {
    if json {
        return super::print_json(key);
    }
    super::print(&table(std::slice::from_ref(key)))?;
    print_policy(&key.policy)?;
    if key.secrets.len() > 1 {
        let mut table = Table::new().text("SECRET").text("MADE").text("GOOD UNTIL");
        for secret in &key.secrets {
            let until = secret.until.as_deref().map_or("-", to_the_second);
            table.row([secret.hint.as_str(), to_the_second(&secret.created_at), until]);
        }
        super::print(&format!("\n{}", table.render()))?;
    }
    super::print(&format!("\n{}", used(&key.account)))
}

/// How an account stands.
pub(super) fn used(account: &AccountView) -> String {
    let mut table = Table::new()
        .text("WINDOW")
        .text("")
        .number("REQUESTS")
        .number("TOKENS")
        .number("DOLLARS")
        .text("UNTIL");
    for window in &account.windows {
        let name = crate::limits::Window::from(window.window).as_str();
        let until = window.until.as_deref().map_or("-", to_the_second);
        let (requests, tokens) = (grouped(window.requests), grouped(window.tokens));
        table.row([name, "used", &requests, &tokens, &window.charge, until]);
        let held = &window.reserved;
        if (held.requests, held.tokens, held.charge.as_str()) != (0, 0, "0") {
            let (requests, tokens) = (grouped(held.requests), grouped(held.tokens));
            table.row(["", "under way", &requests, &tokens, &held.charge, ""]);
        }
        if let Some(left) = &window.left {
            let count = |count: Option<u64>| count.map_or("-".to_owned(), grouped);
            let (requests, tokens) = (count(left.requests), count(left.tokens));
            table.row([
                "",
                "left",
                &requests,
                &tokens,
                left.charge.as_deref().unwrap_or("-"),
                "",
            ]);
        }
    }
    let mut out = table.render();
    let mut now = match account.concurrent {
        Some(most) => format!("{} of {most} requests under way", grouped(account.in_flight)),
        None => format!("{} requests under way", grouped(account.in_flight)),
    };
    if account.waiting > 0 {
        now.push_str(&format!(", {} waiting for room", account.waiting));
    }
    for (minute, what) in [(account.minute.requests, "requests"), (account.minute.tokens, "tokens")] {
        if let Some(left) = minute {
            let (remaining, limit) = (grouped(left.remaining), grouped(left.limit));
            now.push_str(&format!("; {remaining} of {limit} {what} left this minute"));
        }
    }
    out.push_str(&format!("\n{now}\n"));
    out
}

pub(super) fn table(keys: &[KeyView]) -> String {
    let mut table = Table::new()
        .text("ID")
        .text("NAME")
        .text("OWNER")
        .text("GROUP")
        .text("TAGS")
        .text("KEY")
        .text("STATE")
        .text("CREATED")
        .text("EXPIRES");
    for key in keys {
        let tags = match key.tags.is_empty() {
            true => "-".to_owned(),
            false => key.tags.join(", "),
        };
        table.row([
            key.id.as_str(),
            &key.name,
            key.owner.as_deref().unwrap_or("-"),
            key.group.as_deref().unwrap_or("-"),
            tags.as_str(),
            &key.hint,
            key.state.as_str(),
            to_the_second(&key.created_at),
            key.expires_at.as_deref().map_or("-", to_the_second),
        ]);
    }
    table.render()
}

/// `2026-01-31T12:00:00`: people need no microseconds.
pub(super) fn to_the_second(time: &str) -> &str {
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
