//! A client key as it is shown.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::account::AccountView;
use super::policy::PolicyView;
use crate::clock::UnixMicros;
use crate::keys::{KeyRecord, SecretInfo};
use crate::observe::rfc3339;

/// A client key, without its secret.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct KeyView {
    /// Its public part: the twelve characters after `sk-tg-`.
    #[schema(example = "AbCdEfGhIjKl")]
    pub id: String,
    /// A name for people.
    pub name: String,
    /// Whom it belongs to.
    pub owner: Option<String>,
    /// Words by which routes tell keys apart.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Its group.
    pub group: Option<String>,
    /// What people may recognise it by: of its newest secret.
    #[schema(example = "sk-tg-AbCdEfGhIjKl-…wxyz")]
    pub hint: String,
    /// Whether it is good.
    pub state: StateWord,
    /// Goes up with each change: send it as `If-Match` to change only what you saw.
    pub version: u64,
    /// When it was made, RFC 3339.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it ends by itself, RFC 3339; null: never.
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
    /// When it was revoked, RFC 3339; null: it is good.
    #[schema(format = DateTime)]
    pub revoked_at: Option<String>,
    /// Its secrets, newest first; more than one after a rotation.
    pub secrets: Vec<KeySecretView>,
    /// What it may do. Its group's policy holds beside it.
    pub policy: PolicyView,
    /// What it has used.
    pub account: AccountView,
}

/// Whether a key is good: `active`; `disabled` for now; `expired`; `revoked` for good; or its group is disabled or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "said above")]
pub enum StateWord {
    Active,
    Disabled,
    Expired,
    Revoked,
    GroupDisabled,
    GroupDeleted,
}

impl StateWord {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        crate::keys::KeyState::from(self).as_str()
    }
}

impl From<crate::keys::KeyState> for StateWord {
    fn from(state: crate::keys::KeyState) -> Self {
        use crate::keys::KeyState;
        match state {
            KeyState::Active => StateWord::Active,
            KeyState::Disabled => StateWord::Disabled,
            KeyState::Expired => StateWord::Expired,
            KeyState::Revoked => StateWord::Revoked,
            KeyState::GroupDisabled => StateWord::GroupDisabled,
            KeyState::GroupDeleted => StateWord::GroupDeleted,
        }
    }
}

impl From<StateWord> for crate::keys::KeyState {
    fn from(word: StateWord) -> Self {
        use crate::keys::KeyState;
        match word {
            StateWord::Active => KeyState::Active,
            StateWord::Disabled => KeyState::Disabled,
            StateWord::Expired => KeyState::Expired,
            StateWord::Revoked => KeyState::Revoked,
            StateWord::GroupDisabled => KeyState::GroupDisabled,
            StateWord::GroupDeleted => KeyState::GroupDeleted,
        }
    }
}

/// One secret of a key. Never the secret.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct KeySecretView {
    /// What people may recognise it by.
    pub hint: String,
    /// When it was made, RFC 3339.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// Until when it is good, RFC 3339, since a newer one took its place; null: as long as the key is.
    #[schema(format = DateTime)]
    pub until: Option<String>,
}

impl KeyView {
    pub(super) fn of(record: &KeyRecord, now: UnixMicros) -> Self {
        let key = &record.key;
        let time = |at: UnixMicros| rfc3339(at).to_string();
        let secret = |secret: &SecretInfo| KeySecretView {
            hint: secret.hint.clone(),
            created_at: time(secret.made_at),
            until: secret.until.map(time),
        };
        KeyView {
            id: key.id.to_string(),
            name: key.name.clone(),
            owner: key.owner.clone(),
            tags: key.tags.clone(),
            group: key.group.as_ref().map(ToString::to_string),
            hint: record
                .secrets
                .first()
                .map_or(String::new(), |newest| newest.hint.clone()),
            state: record.state(now).into(),
            version: record.revision,
            created_at: time(key.created_at),
            expires_at: key.expires_at.map(time),
            revoked_at: key.revoked_at.map(time),
            secrets: record.secrets.iter().map(secret).collect(),
            policy: (&key.policy).into(),
            account: AccountView::of(record.grant.chain.key(), now),
        }
    }
}
