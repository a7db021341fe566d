//! `tollgate groups`: groups of client keys, through the admin API of the running gateway.

use std::path::Path;

use super::Failure;
use super::client::Client;
use super::keys::{How, to_the_second, used};
use super::policy_flags::{Clear, PolicyFlags, print_policy, set};
use super::table::Table;
use crate::admin::groups::{GroupList, GroupPatch, GroupView, GroupWanted};
use crate::admin::policy::Set;

/// Groups of client keys: what their keys may do, and use, together.
#[derive(clap::Subcommand, Debug)]
pub enum Groups {
    /// Makes a group.
    Create {
        /// Its name: letters, digits, `.`, `_` and `-`. It is taken for good.
        id: String,
        /// What it is for.
        #[arg(long)]
        description: Option<String>,
        /// What its keys may do together.
        #[command(flatten)]
        policy: Box<PolicyFlags>,
        /// How to ask, how to print.
        #[command(flatten)]
        how: How,
    },
    /// Lists groups, the deleted ones too.
    List {
        /// How to ask, how to print.
        #[command(flatten)]
        how: How,
    },
    /// Shows one: what its keys may do together, what they used.
    Show(One),
    /// Changes one, for all its keys at once. What no flag names stays as it is.
    Update {
        /// Its name.
        id: String,
        /// What it is for.
        #[arg(long)]
        description: Option<String>,
        /// What its keys may do together.
        #[command(flatten)]
        policy: Box<PolicyFlags>,
        /// What it has no more: `--clear budgets,models`.
        #[arg(long, value_delimiter = ',', value_name = "FLAGS")]
        clear: Vec<Clear>,
        /// How to ask, how to print.
        #[command(flatten)]
        how: How,
    },
    /// Refuses all its keys until it is enabled again.
    Disable(One),
    /// Lets its keys be used again.
    Enable(One),
    /// Deletes one: its keys are refused until each is put into another group or into none.
    Delete(One),
}

/// One group.
#[derive(clap::Args, Debug)]
pub struct One {
    /// Its name.
    pub id: String,
    /// How to ask, how to print.
    #[command(flatten)]
    pub how: How,
}

impl Groups {
    /// Runs the command.
    pub fn execute(self, conf: &Path) -> Result<(), Failure> {
        match self {
            Groups::Create {
                id,
                description,
                policy,
                how,
            } => {
                let wanted = GroupWanted {
                    id,
                    description,
                    policy: policy.wanted(&[], None),
                };
                show(
                    &Client::new(conf, &how.reach)?.post("/api/v1/groups", Some(&wanted))?,
                    how.json,
                )
            }
            Groups::List { how } => {
                let client = Client::new(conf, &how.reach)?;
                let groups = client.all("/api/v1/groups", &[], |page: GroupList| (page.groups, page.next))?;
                match how.json {
                    true => super::print_json(&GroupList { groups, next: None }),
                    false => super::print(&table(&groups)),
                }
            }
            Groups::Show(One { id, how }) => show(&Client::new(conf, &how.reach)?.get(&path(&id)?, &[])?, how.json),
            Groups::Update {
                id,
                description,
                policy,
                clear,
                how,
            } => {
                let of_keys = [Clear::Owner, Clear::Tags, Clear::Group, Clear::Expires];
                if clear.iter().any(|what| of_keys.contains(what)) {
                    return Err(Failure::Given(
                        "--clear: a group has no owner, tags, group or expiry; keys do".into(),
                    ));
                }
                let patch = GroupPatch {
                    description: set(&clear, Clear::Description, description),
                    policy: policy.wanted(&clear, None).map_or(Set::Leave, Set::To),
                };
                show(&Client::new(conf, &how.reach)?.patch(&path(&id)?, &patch)?, how.json)
            }
            Groups::Disable(one) => one.disable(conf, true),
            Groups::Enable(one) => one.disable(conf, false),
            Groups::Delete(One { id, how }) => {
                show(&Client::new(conf, &how.reach)?.delete(&path(&id)?, &[])?, how.json)
            }
        }
    }
}

impl One {
    fn disable(self, conf: &Path, disabled: bool) -> Result<(), Failure> {
        let policy = PolicyFlags::default().wanted(&[], Some(disabled));
        let patch = GroupPatch {
            policy: policy.map_or(Set::Leave, Set::To),
            ..GroupPatch::default()
        };
        let client = Client::new(conf, &self.how.reach)?;
        show(&client.patch(&path(&self.id)?, &patch)?, self.how.json)
    }
}

/// A name is made of characters that need no escape.
fn path(id: &str) -> Result<String, Failure> {
    let good = !id.is_empty()
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    match good && !matches!(id, "." | "..") {
        true => Ok(format!("/api/v1/groups/{id}")),
        false => Err(Failure::Given(
            "a group's name is made of letters, digits, `.`, `_` and `-`; `tollgate groups list` shows them".into(),
        )),
    }
}

fn table(groups: &[GroupView]) -> String {
    let mut table = Table::new()
        .text("GROUP")
        .text("STATE")
        .text("CREATED")
        .text("DESCRIPTION");
    for group in groups {
        let state = match (&group.deleted_at, group.policy.disabled) {
            (Some(_), _) => "deleted",
            (None, true) => "disabled",
            (None, false) => "active",
        };
        table.row([&*group.id, state, to_the_second(&group.created_at), &group.description]);
    }
    table.render()
}

fn show(group: &GroupView, json: bool) -> Result<(), Failure> {
    if json {
        return super::print_json(group);
    }
    super::print(&table(std::slice::from_ref(group)))?;
    print_policy(&group.policy)?;
    super::print(&format!("\n{}", used(&group.account)))
}
