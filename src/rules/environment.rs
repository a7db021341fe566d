//! What the rules can't know by themselves: values that don't stand in them (the process's environment, or a test's; secrets
//! in the gateway's store), and whether certificates can be used.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::config::Secret;

use super::egress::TlsFiles;

/// Longest value taken.
const MAX_VALUE: usize = 16 << 10;

/// The environment. An error says why there is no value, naming the variable and never a value.
pub trait Environment {
    /// The raw value; `None`: not set.
    fn raw(&self, name: &str) -> Option<std::ffi::OsString>;

    /// A secret of the gateway's store; an error says why there is none. Who only reads rules has no store.
    fn stored(&self, name: &str) -> Result<Secret, String> {
        Err(format!(
            "the secret {name} is in the gateway's store, which only the running gateway opens"
        ))
    }

    /// Secrets which are to be hidden although no rule may name them.
    fn hidden(&self) -> Vec<Secret> {
        Vec::new()
    }

    /// Whether TLS can be done with these files; an error says what is wrong, without their content. Who only reads rules
    /// takes all that look like PEM.
    fn check(&self, files: &TlsFiles) -> Result<(), String> {
        let _ = files;
        Ok(())
    }

    /// The value without white space around it.
    fn get(&self, name: &str) -> Result<String, String> {
        let raw = self
            .raw(name)
            .ok_or_else(|| format!("the environment variable {name} is not set"))?;
        let text = raw
            .into_string()
            .map_err(|_| format!("the environment variable {name} is not UTF-8"))?;
        match text.trim() {
            "" => Err(format!("the environment variable {name} is empty")),
            text if text.len() > MAX_VALUE => Err(format!("the environment variable {name} is too long")),
            text => Ok(text.to_owned()),
        }
    }
}

/// The process's own.
#[derive(Clone, Copy, Debug)]
pub struct Process;

impl Environment for Process {
    fn raw(&self, name: &str) -> Option<std::ffi::OsString> {
        std::env::var_os(name)
    }
}

/// Exactly these values.
impl Environment for HashMap<&str, &str> {
    fn raw(&self, name: &str) -> Option<std::ffi::OsString> {
        HashMap::get(self, name).map(Into::into)
    }
}

/// Another environment, and which secrets of the store it was asked for.
pub(super) struct Noting<'a> {
    inner: &'a dyn Environment,
    asked: RefCell<BTreeSet<Arc<str>>>,
}

impl<'a> Noting<'a> {
    pub(super) fn new(inner: &'a dyn Environment) -> Self {
        Noting {
            inner,
            asked: RefCell::default(),
        }
    }

    /// The names asked for.
    pub(super) fn asked(self) -> BTreeSet<Arc<str>> {
        self.asked.into_inner()
    }
}

impl Environment for Noting<'_> {
    fn raw(&self, name: &str) -> Option<std::ffi::OsString> {
        self.inner.raw(name)
    }

    fn stored(&self, name: &str) -> Result<Secret, String> {
        self.asked.borrow_mut().insert(name.into());
        self.inner.stored(name)
    }

    fn hidden(&self) -> Vec<Secret> {
        self.inner.hidden()
    }

    fn check(&self, files: &TlsFiles) -> Result<(), String> {
        self.inner.check(files)
    }
}
