//! Hot reload: the folder is watched; the last good rules stay in force.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::clock::{Clock, UnixMicros};
use crate::config::{Problem, Problems};

use super::Rules;

/// The rules in force. Cheap to read: one per request.
pub struct Live {
    current: ArcSwap<Rules>,
    folder: PathBuf,
    clock: Clock,
}

/// What became of the last reload.
#[derive(Clone, Debug)]
pub struct ReloadStatus {
    /// When it was tried.
    pub at: UnixMicros,
    /// Whether new rules are in force since.
    pub ok: bool,
    /// What stood in its way, or warnings.
    pub problems: Vec<Problem>,
}

impl Live {
    /// Starts with these rules.
    pub fn new(folder: PathBuf, rules: Rules, clock: Clock) -> Arc<Self> {
        Arc::new(Live {
            current: ArcSwap::from_pointee(rules),
            folder,
            clock,
        })
    }

    /// The rules in force.
    pub fn load(&self) -> arc_swap::Guard<Arc<Rules>> {
        self.current.load()
    }

    /// Reads the folder again: all or nothing.
    pub fn reload(&self) -> Result<Problems, Problems> {
        let (rules, warnings) = super::compile(&self.folder, &self.clock)?;
        self.current.store(Arc::new(rules));
        Ok(warnings)
    }
}
