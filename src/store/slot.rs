//! The place of one of sled's trees, which is empty while another process has the store.

use parking_lot::RwLock;

use super::StoreError;

/// A tree, or none.
pub(super) struct Slot(RwLock<Option<sled::Tree>>);

impl Slot {
    pub(super) fn new(tree: sled::Tree) -> Self {
        Slot(RwLock::new(Some(tree)))
    }

    /// The tree: one more reference to it, which keeps sled open as long as it is held.
    pub(super) fn get(&self) -> Result<sled::Tree, StoreError> {
        self.0.read().clone().ok_or(StoreError::HandedOver)
    }

    pub(super) fn close(&self) {
        *self.0.write() = None;
    }

    pub(super) fn fill(&self, tree: sled::Tree) {
        *self.0.write() = Some(tree);
    }
}
