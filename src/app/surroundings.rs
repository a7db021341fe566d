//! What the rules of a running gateway are compiled with: this machine, and the secrets in its store.

use std::ffi::OsString;
use std::sync::Arc;

use crate::config::Secret;
use crate::egress::Machine;
use crate::rules::egress::TlsFiles;
use crate::rules::environment::Environment;
use crate::secrets::Vault;

/// The machine and the vault; and secrets beside those of the rules, which are to be hidden too.
#[derive(Clone)]
pub struct Surroundings {
    vault: Arc<Vault>,
    beside: Arc<[Secret]>,
}

impl Surroundings {
    /// What rules are compiled with. `beside`: secrets no rule may name.
    pub fn new(vault: Arc<Vault>, beside: Vec<Secret>) -> Self {
        Surroundings {
            vault,
            beside: beside.into(),
        }
    }
}

impl Environment for Surroundings {
    fn raw(&self, name: &str) -> Option<OsString> {
        Machine.raw(name)
    }

    fn stored(&self, name: &str) -> Result<Secret, String> {
        self.vault.get(name).ok_or_else(|| match self.vault.has(name) {
            true => format!("the secret {name} was changed in the store and can't be opened; enter it again"),
            false => format!("there is no secret {name} in the store; enter it with `tollgate secrets set {name}`"),
        })
    }

    fn hidden(&self) -> Vec<Secret> {
        let mut hidden = self.vault.secrets();
        hidden.extend(self.beside.iter().cloned());
        hidden
    }

    fn check(&self, files: &TlsFiles) -> Result<(), String> {
        Machine.check(files)
    }
}
