//! Collects what went wrong, so that all of it is shown at once.

use std::collections::BTreeMap;

/// Most failures printed per group.
const SHOWN: usize = 30;

/// What was checked, and what failed, by group (a pair of dialects, most often).
#[derive(Default)]
pub struct Report {
    checked: usize,
    wrong: BTreeMap<String, Vec<String>>,
}

impl Report {
    /// One check of a group.
    pub fn check(&mut self, group: &str, holds: bool, what: impl FnOnce() -> String) {
        self.checked += 1;
        if !holds {
            self.wrong.entry(group.to_owned()).or_default().push(what());
        }
    }

    /// Shows all failures; fails if there are any, or if nothing was checked where `must_check` says that there is
    /// something to check.
    pub fn end(self, name: &str, must_check: bool) {
        let failed: usize = self.wrong.values().map(Vec::len).sum();
        println!("{name}: {} checks, {failed} failed", self.checked);
        for (group, lines) in &self.wrong {
            println!("  {group}: {} failed", lines.len());
            for line in lines.iter().take(SHOWN) {
                println!("    {line}");
            }
        }
        assert!(!must_check || self.checked > 0, "{name}: nothing was checked");
        assert_eq!(failed, 0, "{name}: {failed} of {} checks failed", self.checked);
    }
}

/// The first characters of a text.
pub fn short(text: &str) -> String {
    let cut: String = text.chars().take(160).collect();
    if cut.len() < text.len() {
        format!("{cut}…")
    } else {
        cut
    }
}
