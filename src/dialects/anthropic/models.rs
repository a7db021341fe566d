//! What the models of this API differ in: they refuse (400) settings which older or newer ones take.
//!
//! Sources, read on 2026-11-21: Anthropic's migration guides ("Migrating to Claude ..." for Opus 4.6, 4.7, 5 and 5.5, Sonnet
//! 5 and 5.5, Haiku 5.5, Fable 5 and 5.1), its pages on effort, adaptive thinking and mid-conversation system messages,
//! and the 400s that people report. What follows from a name is only claimed of names of known form.

use super::limits;
use crate::ir::Effort;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Opus,
    Sonnet,
    Haiku,
    /// Fable and Mythos: one model under two names.
    Fable,
    /// Names from before there were families, or families of tomorrow.
    Other,
}

/// A model of known name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Model {
    family: Family,
    /// Generation and step: 4.5 is (4, 5).
    version: (u32, u32),
}

impl Model {
    /// Reads a name; `None`: not one of Anthropic's, so that nothing is known of what it refuses.
    pub(super) fn of(name: &str) -> Option<Self> {
        let name = limits::plain(name);
        let rest = name.strip_prefix("claude-")?;
        if rest == "mythos-preview" {
            return Some(Model {
                family: Family::Fable,
                version: (4, 7),
            });
        }
        let (mut family, mut numbers) = (Family::Other, Vec::new());
        for part in rest.split('-') {
            match part {
                "opus" => family = Family::Opus,
                "sonnet" => family = Family::Sonnet,
                "haiku" => family = Family::Haiku,
                "fable" | "mythos" => family = Family::Fable,
                // Longer numbers are dates.
                _ if part.len() <= 2 => numbers.extend(part.parse::<u32>()),
                _ => {}
            }
        }
        let version = (*numbers.first()?, numbers.get(1).copied().unwrap_or(0));
        Some(Model { family, version })
    }

    fn since(self, major: u32, minor: u32) -> bool {
        self.version >= (major, minor)
    }

    /// It can think at all.
    pub(super) fn thinks(self) -> bool {
        self.since(3, 7)
    }

    /// `thinking.type: enabled` with a budget.
    pub(super) fn takes_budget(self) -> bool {
        self.thinks() && !self.adaptive_only()
    }

    /// `thinking.type: adaptive`.
    pub(super) fn takes_adaptive(self) -> bool {
        self.since(4, 6)
    }

    fn adaptive_only(self) -> bool {
        self.since(4, 7)
    }

    /// It thinks unless told not to.
    pub(super) fn thinks_by_default(self) -> bool {
        self.since(5, 0) || self.family == Family::Fable
    }

    /// `thinking.type: disabled` is refused, and there is nothing in its place.
    pub(super) fn always_thinks(self) -> bool {
        self.family == Family::Fable || (self.family == Family::Opus && self.since(5, 5))
    }

    /// `thinking.type: disabled` is refused; `between_tools` is the least there is.
    pub(super) fn thinks_between_tools(self) -> bool {
        self.family == Family::Sonnet && self.since(5, 5)
    }

    /// The nearest word it takes as `output_config.effort`; `None`: it takes none.
    pub(super) fn effort(self, wish: Effort) -> Option<Effort> {
        let wish = wish.max(Effort::Low);
        if self.since(4, 7) {
            Some(wish)
        } else if self.since(4, 6) {
            Some(if wish == Effort::XHigh { Effort::High } else { wish })
        } else if self.family == Family::Opus && self.since(4, 5) {
            Some(wish.min(Effort::High))
        } else {
            None
        }
    }

    /// `temperature`, `top_p` and `top_k` are refused unless they say the default.
    pub(super) fn refuses_sampling(self) -> bool {
        self.adaptive_only()
    }

    /// `temperature` and `top_p` are refused together.
    pub(super) fn takes_one_sampler(self) -> bool {
        self.since(4, 1)
    }

    /// `tool_choice` of type `any` or `tool` is refused.
    pub(super) fn refuses_forced_tools(self) -> bool {
        self.always_thinks() || self.thinks_between_tools()
    }

    /// `role: "system"` within `messages`.
    pub(super) fn takes_system_messages(self) -> bool {
        self.since(4, 8)
    }

    /// `output_config.format`, and `strict` of tools.
    pub(super) fn takes_schemas(self) -> bool {
        self.since(4, 1)
    }
}
