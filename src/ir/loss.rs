//! What could not be said in the other dialect. The encoder reports it where it happens, with the path of the field in
//! the words of the dialect it came from.

use std::borrow::Cow;

/// Most losses kept with their paths; further ones are only counted.
pub const MAX_KEPT: usize = 64;

/// Longest path in a [`LossReport::summary`], in characters.
const MAX_PATH: usize = 200;

/// What became of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LossKind {
    /// It was left out.
    Dropped,
    /// Something near it was said instead.
    Approximated,
    /// Something was said that nobody had said, as the other dialect must have it.
    Synthesized,
}

impl LossKind {
    /// The name used in headers, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            LossKind::Dropped => "dropped",
            LossKind::Approximated => "approximated",
            LossKind::Synthesized => "synthesized",
        }
    }

    /// All kinds, for metrics.
    pub const ALL: [LossKind; 3] = [LossKind::Dropped, LossKind::Approximated, LossKind::Synthesized];
}

/// One loss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// What became of it.
    pub kind: LossKind,
    /// Which field, as its own dialect names it: `messages[3].content[0].cache_control`.
    pub path: Cow<'static, str>,
    /// Why, for people.
    pub why: &'static str,
}

/// The losses of one conversion, each told once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LossReport {
    losses: Vec<Loss>,
    counts: [u32; 3],
}

impl LossReport {
    /// A field was left out.
    pub fn dropped(&mut self, path: impl Into<Cow<'static, str>>, why: &'static str) {
        self.add(LossKind::Dropped, path.into(), why);
    }

    /// Something near a field was said instead.
    pub fn approximated(&mut self, path: impl Into<Cow<'static, str>>, why: &'static str) {
        self.add(LossKind::Approximated, path.into(), why);
    }

    /// A field was made up, as the other dialect must have it.
    pub fn synthesized(&mut self, path: impl Into<Cow<'static, str>>, why: &'static str) {
        self.add(LossKind::Synthesized, path.into(), why);
    }

    fn add(&mut self, kind: LossKind, path: Cow<'static, str>, why: &'static str) {
        let loss = Loss { kind, path, why };
        // A stream may lose the same field with every event.
        if self.losses.contains(&loss) {
            return;
        }
        self.counts[kind as usize] = self.counts[kind as usize].saturating_add(1);
        if self.losses.len() < MAX_KEPT {
            self.losses.push(loss);
        }
    }

    /// Takes over what another report says.
    pub fn merge(&mut self, other: LossReport) {
        let kept = other.losses.len();
        for loss in other.losses {
            self.add(loss.kind, loss.path, loss.why);
        }
        let counted: u32 = other.counts.iter().sum();
        if counted as usize > kept {
            // Those without a path can't be told apart from ours: they count.
            self.counts[0] = self.counts[0].saturating_add(counted - u32::try_from(kept).unwrap_or(counted));
        }
    }

    /// How many of a kind.
    pub fn count(&self, kind: LossKind) -> u32 {
        self.counts[kind as usize]
    }

    /// Nothing was lost nor made up.
    pub fn is_empty(&self) -> bool {
        self.counts == [0; 3]
    }

    /// Something the client said was left out or changed: what `on_loss = "reject"` refuses.
    pub fn has_lost(&self) -> bool {
        self.count(LossKind::Dropped) + self.count(LossKind::Approximated) > 0
    }

    /// A line for headers and logs: how many of each kind, and the first path; `None`: nothing was lost nor made up.
    /// `dropped=2; approximated=1; first=messages[3].cache_control`.
    pub fn summary(&self) -> Option<String> {
        use std::fmt::Write;
        let first = self.losses.iter().min_by_key(|loss| loss.kind)?;
        let mut line = String::new();
        for kind in LossKind::ALL {
            if self.count(kind) > 0 {
                // Writing into a string can't fail.
                let _ = write!(line, "{}={}; ", kind.as_str(), self.count(kind));
            }
        }
        line.push_str("first=");
        let printable = first.path.chars().filter(|c| c.is_ascii_graphic());
        line.extend(printable.take(MAX_PATH));
        Some(line)
    }

    /// The losses kept, in the order in which they happened; at most [`MAX_KEPT`].
    pub fn losses(&self) -> &[Loss] {
        &self.losses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_loss_is_told_once() {
        let mut report = LossReport::default();
        for _ in 0..3 {
            report.dropped("seed", "no such field");
        }
        report.synthesized("max_tokens", "mandatory");
        assert_eq!(report.losses().len(), 2);
        assert_eq!(report.count(LossKind::Dropped), 1);
        assert!(report.has_lost());
        assert_eq!(
            report.summary().as_deref(),
            Some("dropped=1; synthesized=1; first=seed")
        );
        assert_eq!(LossReport::default().summary(), None);
    }

    #[test]
    fn losses_are_bounded_but_counted() {
        let mut report = LossReport::default();
        for i in 0..1000 {
            report.dropped(format!("messages[{i}].name"), "no such field");
        }
        assert_eq!(
            (report.losses().len(), report.count(LossKind::Dropped)),
            (MAX_KEPT, 1000)
        );
        let mut all = LossReport::default();
        all.merge(report);
        assert_eq!(all.count(LossKind::Dropped), 1000);
    }
}
