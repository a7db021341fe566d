//! What the rules can't know by themselves: values that don't stand in them (the process's environment, or a test's), and
//! whether certificates can be used.

use std::collections::HashMap;

use super::egress::TlsFiles;

/// Longest value taken.
const MAX_VALUE: usize = 16 << 10;

/// The environment. An error says why there is no value, naming the variable and never a value.
pub trait Environment {
    /// The raw value; `None`: not set.
    fn raw(&self, name: &str) -> Option<std::ffi::OsString>;

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

/// Whether it can be a variable's name.
pub(super) fn is_name(name: &str) -> bool {
    name.len() <= 128
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.bytes().next().is_none_or(|b| b.is_ascii_digit())
}
