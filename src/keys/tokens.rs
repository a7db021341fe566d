//! Tokens of the admin API: who may operate the gateway, and how far. Only a keyed hash of a token is stored.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use hmac::{Hmac, Mac as _};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::client_key::{KeyText, has_form, public_part};
use super::fit::check_name;
use super::{KeysError, MasterKey, ct_eq, ring};
use crate::clock::{Clock, UnixMicros};
use crate::config::Secret;
use crate::store::{Store, StoreError};

/// What every admin token begins with.
const PREFIX: &[u8] = b"tg-admin-";
/// Most tokens, the revoked ones too.
pub const TOKENS_MAX: usize = 10_000;
/// The version of records: JSON.
const VERSION: u8 = 1;

/// How far somebody may go. Each may do all that those before may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Looks.
    Viewer,
    /// Changes keys, groups, credentials, rules.
    Operator,
    /// All: admin tokens, the audit log, secrets of providers, prices, the ledger's repair.
    Owner,
}

impl Role {
    /// All, weakest first.
    pub const ALL: [Role; 3] = [Role::Viewer, Role::Operator, Role::Owner];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Owner => "owner",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word is no role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a role is viewer, operator or owner")]
pub struct NoRole;

impl FromStr for Role {
    type Err = NoRole;

    fn from_str(word: &str) -> Result<Self, NoRole> {
        Role::ALL.into_iter().find(|role| role.as_str() == word).ok_or(NoRole)
    }
}

/// What is known of a token. Never the token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminToken {
    /// Its public part.
    pub id: Arc<str>,
    /// A name for people.
    pub name: String,
    /// How far it goes.
    pub role: Role,
    /// Its last four characters.
    pub last4: String,
    /// When it was made.
    pub created_at: UnixMicros,
    /// When it ends by itself; `None`: never.
    #[serde(default)]
    pub expires_at: Option<UnixMicros>,
    /// When it was revoked; `None`: it is good.
    #[serde(default)]
    pub revoked_at: Option<UnixMicros>,
}

/// Why a token can't be made or revoked.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// There is none of that id.
    #[error("there is no admin token {0}")]
    NoSuchToken(Arc<str>),
    /// As for keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

impl From<StoreError> for TokensError {
    fn from(error: StoreError) -> Self {
        TokensError::Keys(error.into())
    }
}

/// All admin tokens but the one in `admin.token`.
pub struct Tokens {
    store: Arc<Store>,
    keyed: Hmac<Sha256>,
    clock: Clock,
    known: RwLock<BTreeMap<Arc<str>, Stored>>,
    /// Held for the whole of a change; `known` only for a moment, so that no call waits for the disk.
    changing: Mutex<()>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Stored {
    token: Arc<AdminToken>,
    mac: [u8; 32],
}

impl Tokens {
    /// Loads all of them.
    pub fn load(store: Arc<Store>, master: &MasterKey, clock: Clock) -> Result<Self, KeysError> {
        let mut known = BTreeMap::new();
        for (id, value) in store.tokens().all()? {
            let read = match value.split_first() {
                Some((&VERSION, form)) => serde_json::from_slice::<Stored>(form).ok(),
                _ => None,
            };
            let stored = read.ok_or_else(|| {
                StoreError::Failed(format!(
                    "the admin token {} is unreadable",
                    String::from_utf8_lossy(&id)
                ))
            })?;
            known.insert(stored.token.id.clone(), stored);
        }
        Ok(Tokens {
            store,
            keyed: ring::keyed(&master.derive("admin-token/v1")),
            clock,
            known: RwLock::new(known),
            changing: Mutex::new(()),
        })
    }

    /// Makes a token, `tg-admin-<12 public>-<32 secret>`. The text is shown once and never stored. Blocking.
    pub fn create(
        &self,
        name: String,
        role: Role,
        expires_at: Option<UnixMicros>,
    ) -> Result<(Arc<AdminToken>, Secret), TokensError> {
        check_name("name", &name)?;
        let _changing = self.changing.lock();
        if self.known.read().len() >= TOKENS_MAX {
            return Err(KeysError::Full("admin tokens", TOKENS_MAX).into());
        }
        let fresh = || KeyText::fresh(PREFIX, None).map_err(KeysError::Random);
        let mut text = fresh()?;
        while self.known.read().contains_key(&*text.id().0) {
            text = fresh()?;
        }
        let token = Arc::new(AdminToken {
            id: text.id().0,
            name,
            role,
            last4: text.last4(),
            created_at: self.clock.now(),
            expires_at,
            revoked_at: None,
        });
        let mac = self.mac(text.0.expose().as_bytes());
        let stored = Stored {
            token: token.clone(),
            mac,
        };
        self.put(&stored)?;
        self.known.write().insert(token.id.clone(), stored);
        Ok((token, text.0))
    }

    /// Whose token this is; `None`: it is not one of ours, revoked or expired.
    pub fn authenticate(&self, presented: &[u8]) -> Option<Arc<AdminToken>> {
        if !has_form(presented, PREFIX) {
            return None;
        }
        let id = public_part(std::str::from_utf8(presented).ok()?)?;
        let mac = self.mac(presented);
        let known = self.known.read();
        let stored = known.get(id)?;
        let token = &stored.token;
        let over = token.expires_at.is_some_and(|end| end <= self.clock.now());
        let good = ct_eq(&stored.mac, &mac) && token.revoked_at.is_none() && !over;
        good.then(|| token.clone())
    }

    /// All, the revoked ones too, oldest first.
    pub fn list(&self) -> Vec<Arc<AdminToken>> {
        let known = self.known.read();
        let mut all: Vec<_> = known.values().map(|stored| stored.token.clone()).collect();
        all.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        all
    }

    /// Revokes one: refused from now on. Twice is no error. Blocking.
    pub fn revoke(&self, id: &str) -> Result<Arc<AdminToken>, TokensError> {
        let _changing = self.changing.lock();
        let Some(stored) = self.known.read().get(id).cloned() else {
            return Err(TokensError::NoSuchToken(id.into()));
        };
        if stored.token.revoked_at.is_some() {
            return Ok(stored.token);
        }
        let token = Arc::new(AdminToken {
            revoked_at: Some(self.clock.now()),
            ..AdminToken::clone(&stored.token)
        });
        let stored = Stored {
            token: token.clone(),
            mac: stored.mac,
        };
        self.put(&stored)?;
        self.known.write().insert(token.id.clone(), stored);
        Ok(token)
    }

    fn mac(&self, text: &[u8]) -> [u8; 32] {
        self.keyed.clone().chain_update(text).finalize().into_bytes().into()
    }

    fn put(&self, stored: &Stored) -> Result<(), StoreError> {
        let mut value = vec![VERSION];
        serde_json::to_writer(&mut value, stored)
            .map_err(|e| StoreError::Failed(format!("a token can't be encoded: {e}")))?;
        self.store.tokens().put(&stored.token.id, &value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_lives_from_making_to_revoking_over_restarts() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual(UnixMicros(5));
        let open = || {
            let store = Arc::new(Store::open(&folder.path().join("store"), 16 << 20).unwrap());
            let master = MasterKey::load(&folder.path().join("master.key"), true).unwrap();
            Tokens::load(store, &master, clock.clone()).unwrap()
        };
        let tokens = open();
        let (token, text) = tokens
            .create("robot".into(), Role::Operator, Some(UnixMicros(9)))
            .unwrap();
        let text = text.expose();
        assert!(text.starts_with("tg-admin-") && text.len() == 54 && text.ends_with(&token.last4));
        assert_eq!(tokens.authenticate(text.as_bytes()), Some(token.clone()));
        for at in 0..text.len() {
            let mut wrong = text.as_bytes().to_vec();
            wrong[at] ^= 1;
            assert_eq!(tokens.authenticate(&wrong), None, "byte {at}");
        }
        assert_eq!(tokens.authenticate(&text.as_bytes()[..53]), None);
        assert_eq!(tokens.authenticate(b""), None);
        drop(tokens);
        let tokens = open();
        assert_eq!(tokens.authenticate(text.as_bytes()), Some(token.clone()));
        clock.set(UnixMicros(9));
        assert_eq!(tokens.authenticate(text.as_bytes()), None, "it has expired");
        clock.set(UnixMicros(5));
        let revoked = tokens.revoke(&token.id).unwrap();
        assert_eq!(tokens.revoke(&token.id).unwrap(), revoked);
        assert_eq!(tokens.authenticate(text.as_bytes()), None);
        drop(tokens);
        let tokens = open();
        assert_eq!(tokens.authenticate(text.as_bytes()), None);
        assert_eq!(tokens.list(), [revoked]);
        assert!(matches!(tokens.revoke("nobody"), Err(TokensError::NoSuchToken(_))));
        assert!(tokens.create(" ".into(), Role::Viewer, None).is_err());
    }

    #[test]
    fn roles_are_in_order() {
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Owner);
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        assert_eq!("root".parse::<Role>(), Err(NoRole));
    }
}
