//! How hard a model is to think: dialects say it as a word (effort, level) or as a number of tokens (budget).
//!
//! Precedence, where several are said: *off* wins over all; then a budget in tokens; then a word; then the bare wish that
//! there be reasoning. An encoder which can say the same kind of thing says it as it came; else it uses the table below and
//! reports the field as approximated.

use super::Set;

/// A word for how hard to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effort {
    /// Not at all.
    None,
    /// Next to nothing.
    Minimal,
    /// Little.
    Low,
    /// The usual.
    Medium,
    /// A lot.
    High,
    /// More.
    XHigh,
    /// As much as it can.
    Max,
}

/// The words, their names, and the budgets they stand for in tokens. The budgets of `low`, `medium` and `high` are those
/// Google's documents give for OpenAI's words ("OpenAI compatibility": 1,024, 8,192 and 24,576); the others are ours.
const TABLE: [(Effort, &str, u64); 7] = [
    (Effort::None, "none", 0),
    (Effort::Minimal, "minimal", 512),
    (Effort::Low, "low", 1024),
    (Effort::Medium, "medium", 8192),
    (Effort::High, "high", 24_576),
    (Effort::XHigh, "xhigh", 32_768),
    (Effort::Max, "max", 65_536),
];

impl Effort {
    /// The word as all dialects write it, in lower case.
    pub fn as_str(self) -> &'static str {
        TABLE[self as usize].1
    }

    /// Reads a word, whatever its case.
    pub fn parse(word: &str) -> Option<Self> {
        TABLE
            .iter()
            .find(|(_, name, _)| name.eq_ignore_ascii_case(word))
            .map(|(effort, ..)| *effort)
    }

    /// The budget it stands for, in tokens.
    pub fn budget(self) -> u64 {
        TABLE[self as usize].2
    }

    /// The word nearest to a budget: the smallest whose own budget is at least as large, up to `high`.
    pub fn of_budget(tokens: u64) -> Self {
        let fits = TABLE.iter().find(|(.., budget)| tokens <= *budget);
        fits.map_or(Effort::High, |(effort, ..)| *effort).min(Effort::High)
    }
}

/// How many tokens may be spent on reasoning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// As many as the model likes.
    Dynamic,
    /// At most so many; 0: none.
    Tokens(u64),
}

/// What a request says of reasoning. All absent: the model's own way.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reasoning {
    /// Reasoning is wanted, or not, with no word of how much.
    pub enabled: Option<Set<bool>>,
    /// How hard, as a word.
    pub effort: Option<Set<Effort>>,
    /// How much, in tokens.
    pub budget: Option<Set<Budget>>,
    /// The client wants to see it: in full or in a summary.
    pub visible: Option<Set<bool>>,
    /// Which kind of summary (`auto`, `concise`, `detailed`).
    pub summary: Option<Set<String>>,
}

/// What it comes to, by precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Nothing was said.
    Unsaid,
    /// No reasoning.
    Off,
    /// With this budget.
    Budget(Budget),
    /// This hard.
    Effort(Effort),
    /// Reasoning, however much.
    On,
}

impl Reasoning {
    /// What was said, by precedence, and the field that said it.
    pub fn wish(&self) -> (Wish, &'static str) {
        let budget = self.budget.as_ref().map(|b| (b.value, b.at));
        let effort = self.effort.as_ref().map(|e| (e.value, e.at));
        if let Some(off) = self.enabled.as_ref().filter(|on| !on.value) {
            return (Wish::Off, off.at);
        }
        match (budget, effort) {
            (Some((Budget::Tokens(0), at)), _) | (None, Some((Effort::None, at))) => (Wish::Off, at),
            (Some((budget, at)), _) => (Wish::Budget(budget), at),
            (None, Some((effort, at))) => (Wish::Effort(effort), at),
            (None, None) => match &self.enabled {
                Some(on) => (Wish::On, on.at),
                None => (Wish::Unsaid, ""),
            },
        }
    }

    /// Nothing was said at all.
    pub fn is_empty(&self) -> bool {
        *self == Reasoning::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_budgets_meet() {
        for (effort, name, budget) in TABLE {
            assert_eq!((effort.as_str(), effort.budget()), (name, budget));
            assert_eq!(Effort::parse(&name.to_uppercase()), Some(effort));
            assert_eq!(Effort::of_budget(budget), effort.min(Effort::High));
        }
        assert_eq!(Effort::of_budget(5000), Effort::Medium);
    }

    #[test]
    fn off_wins_then_budget_then_effort() {
        let mut reasoning = Reasoning {
            effort: Some(Set::new(Effort::Low, "effort")),
            ..Reasoning::default()
        };
        assert_eq!(reasoning.wish(), (Wish::Effort(Effort::Low), "effort"));
        reasoning.budget = Some(Set::new(Budget::Tokens(9), "budget"));
        assert_eq!(reasoning.wish(), (Wish::Budget(Budget::Tokens(9)), "budget"));
        reasoning.enabled = Some(Set::new(false, "on"));
        assert_eq!(reasoning.wish(), (Wish::Off, "on"));
    }
}
