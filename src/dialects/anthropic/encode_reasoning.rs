//! Requests, written: how hard to think.
//!
//! Three generations of models say it in three ways: a budget (`thinking.type: enabled`), as the model likes
//! (`adaptive`) with a word for how hard (`output_config.effort`), or both. What was said is written as it was said where
//! the model takes it; else by the table of [`Effort`], reported as approximated.

use serde_json::{Map, Value};

use super::models::Model;
use crate::ir::{Budget, Effort, LossReport, Reasoning, Request, Set, Wish};

/// The least budget (Anthropic's page on extended thinking); it must also be less than `max_tokens`.
const MIN_BUDGET: u64 = 1024;

/// Where this dialect says effort: alone, it does not ask for thinking.
const OWN_EFFORT: &str = "output_config.effort";

/// What is written.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The field `thinking`; empty: it is left out.
    pub(super) thinking: Map<String, Value>,
    /// `output_config.effort`.
    pub(super) effort: Option<Effort>,
    /// The model will think for sure, so that sampling can't be set.
    pub(super) on: bool,
}

/// What else of the request bears on it.
pub(super) struct Around {
    /// The limit of the answer, in tokens.
    pub(super) max_tokens: u64,
    /// A tool must be called.
    pub(super) forced_tools: bool,
    /// See [`super::encode_content::Conversation::unreasoned_calls`].
    pub(super) unreasoned_calls: bool,
}

struct Planner<'a> {
    reasoning: &'a Reasoning,
    model: Option<Model>,
    around: Around,
    plan: Plan,
    loss: &'a mut LossReport,
}

/// Decides what is written.
pub(super) fn plan(request: &Request, model: Option<Model>, around: Around, loss: &mut LossReport) -> Plan {
    let mut planner = Planner {
        reasoning: &request.reasoning,
        model,
        around,
        plan: Plan::default(),
        loss,
    };
    let between_tools = request.native.iter().any(|native| &*native.at == "thinking.type");
    let (wish, at) = request.reasoning.wish();
    match wish {
        Wish::Unsaid => {}
        Wish::Off => planner.off(at, between_tools),
        Wish::Budget(Budget::Tokens(tokens)) => planner.budget(tokens, at),
        Wish::Budget(Budget::Dynamic) | Wish::On => planner.on(wish, at),
        Wish::Effort(effort) => planner.effort(effort, at),
    }
    planner.other_effort(wish);
    planner.shown();
    planner.plan
}

impl Planner<'_> {
    fn is(&self, what: fn(Model) -> bool) -> bool {
        self.model.is_some_and(what)
    }

    fn kind(&mut self, kind: &str) {
        self.plan.thinking.insert("type".into(), kind.into());
    }

    fn off(&mut self, at: &'static str, between_tools: bool) {
        let own = at.starts_with("thinking.");
        if self.is(Model::always_thinks) {
            self.loss
                .approximated(at, "the model always thinks: with the least effort");
            self.plan.effort = Some(Effort::Low);
        } else if self.is(Model::thinks_between_tools) {
            if !between_tools {
                self.loss.approximated(at, "the model always thinks between tools");
            }
            self.kind("between_tools");
        } else if own || self.model.is_none_or(Model::thinks_by_default) {
            self.kind("disabled");
        }
    }

    fn adaptive(&mut self) {
        self.kind("adaptive");
        self.plan.on = true;
    }

    /// Thinking with a budget; false if it can't be.
    fn manual(&mut self, tokens: u64, at: &'static str) {
        let Around {
            max_tokens,
            forced_tools,
            unreasoned_calls,
        } = self.around;
        let why = if max_tokens <= MIN_BUDGET {
            "there is no room for thinking within the answer's limit"
        } else if forced_tools {
            "it may not think when a tool must be called"
        } else if unreasoned_calls {
            "the calls before have no reasoning of its own to go on with"
        } else {
            let mut budget = tokens.max(MIN_BUDGET);
            if budget >= max_tokens {
                // Leaves a quarter for the answer, if that can be.
                budget = (max_tokens - max_tokens / 4).max(MIN_BUDGET).min(max_tokens - 1);
            }
            if budget != tokens {
                self.loss
                    .approximated(at, "a budget is at least 1024 and less than the answer's limit there");
            }
            self.kind("enabled");
            self.plan.thinking.insert("budget_tokens".into(), budget.into());
            self.plan.on = true;
            return;
        };
        self.loss.dropped(at, why);
    }

    fn budget(&mut self, tokens: u64, at: &'static str) {
        if self.model.is_none_or(Model::takes_budget) {
            self.manual(tokens, at);
        } else if self.is(Model::takes_adaptive) {
            self.loss.approximated(at, "the model takes no budget, but a word");
            self.adaptive();
            self.plan.effort = self.model.and_then(|model| model.effort(Effort::of_budget(tokens)));
        } else {
            self.loss.dropped(at, "the model can't think");
        }
    }

    fn on(&mut self, wish: Wish, at: &'static str) {
        if self.is(Model::takes_adaptive) {
            self.adaptive();
        } else if self.is(|model| !model.thinks()) {
            self.loss.dropped(at, "the model can't think");
        } else {
            let why = if wish == Wish::On {
                "thinking has a budget there"
            } else {
                "the model takes no open budget"
            };
            self.loss.approximated(at, why);
            self.manual(Effort::Medium.budget(), at);
        }
    }

    fn effort(&mut self, effort: Effort, at: &'static str) {
        let own = at == OWN_EFFORT;
        let asked = self.reasoning.enabled.as_ref().is_some_and(|on| on.value);
        let word = match self.model {
            Some(model) => model.effort(effort),
            // Whoever speaks this dialect may know its words.
            None => own.then_some(effort),
        };
        let adaptive = self.is(Model::takes_adaptive) || (own && self.model.is_none());
        match word {
            Some(word) if adaptive || (own && !asked) => {
                if word != effort {
                    self.loss.approximated(at, "the model has no such word");
                }
                self.plan.effort = Some(word);
                if !own || asked {
                    self.adaptive();
                }
            }
            _ if self.is(|model| !model.thinks()) => self.loss.dropped(at, "the model can't think"),
            _ => {
                self.loss.approximated(at, "thinking has a budget there");
                self.manual(effort.budget(), at);
            }
        }
    }

    /// A word said beside what won over it: here it stands for more than thinking, so that its own is kept.
    fn other_effort(&mut self, wish: Wish) {
        let Some(Set { value, at }) = &self.reasoning.effort else {
            return;
        };
        if matches!(wish, Wish::Effort(_)) || self.plan.effort.is_some() || *value == Effort::None {
            return;
        }
        let own = *at == OWN_EFFORT;
        let word = match self.model {
            Some(model) => model.effort(*value),
            None => Some(*value),
        };
        // Without thinking, more than high is refused.
        let word = word.map(|word| {
            if wish == Wish::Off {
                word.min(Effort::High)
            } else {
                word
            }
        });
        match word.filter(|_| own) {
            Some(word) => {
                if word != *value {
                    self.loss.approximated(*at, "the model has no such word");
                }
                self.plan.effort = Some(word);
            }
            None => self.loss.dropped(*at, "another field says how hard to think"),
        }
    }

    /// Whether the client sees the thinking.
    fn shown(&mut self) {
        let Reasoning { visible, summary, .. } = self.reasoning;
        let wanted = visible.as_ref().map(|visible| (visible.value, visible.at));
        let wanted = wanted.or(summary.as_ref().map(|summary| (true, summary.at)));
        let Some((show, at)) = wanted else { return };
        if self.plan.thinking.is_empty() && show && self.is(Model::thinks_by_default) {
            self.adaptive();
        }
        if let Some(summary) = summary
            && summary.value != "auto"
            && self.plan.on
        {
            self.loss.approximated(summary.at, "there is one kind of summary there");
        }
        if !self.plan.on {
            if show {
                self.loss.dropped(at, "there is no thinking to be seen");
            }
        } else if self.model.is_some() || at.starts_with("thinking.") {
            let display = if show { "summarized" } else { "omitted" };
            self.plan.thinking.insert("display".into(), display.into());
        } else if !show {
            self.loss.dropped(at, "thinking can't be hidden there");
        }
    }
}
