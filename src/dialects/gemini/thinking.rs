//! `thinkingConfig`: how hard a model is to think, as its generation says it.
//!
//! Google's "Gemini thinking": models from 3 on take a `thinkingLevel`, those of 2.5 a `thinkingBudget` in tokens; saying
//! both is refused. A budget goes as it is to either (3 takes it "for backwards compatibility"). A word becomes a level, or
//! the budget of the hub's table within the model's range. Thoughts are asked for (`includeThoughts`) if the client wants
//! to see them; who sets how hard to think and says nothing of seeing, as the other dialects' clients, gets them too, since
//! there reasoning is shown.

use serde_json::{Map, Value, json};

use crate::ir::{Budget, Effort, LossReport, Reasoning, Wish};

/// How a model is told to think.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    /// By level; `minimal`: knows `MINIMAL`, `medium`: knows `MEDIUM`.
    Level { minimal: bool, medium: bool },
    /// By budget: the least and most tokens, and whether it can be turned off.
    Budget { least: u64, most: u64, off: bool },
    /// It does not think.
    None,
}

/// A model's generation: 3.1 of `gemini-3.1-pro`.
fn generation(model: &str) -> Option<f32> {
    let rest = model.strip_prefix("gemini-")?;
    rest.split('-').next()?.parse().ok()
}

fn plain(model: &str) -> String {
    model.rsplit('/').next().unwrap_or(model).to_ascii_lowercase()
}

/// True for models which refuse a function call in the history without its thought signature (Google's "Thought
/// signatures": Gemini 3 and newer).
pub(super) fn insists_on_signatures(model: &str) -> bool {
    generation(&plain(model)).is_some_and(|generation| generation >= 3.0)
}

/// What a model's name says. Ranges: "Gemini thinking", "Set budget"; levels: the table of Vertex AI's "Thinking".
pub(super) fn family(model: &str) -> Family {
    let model = plain(model);
    let flash = model.contains("flash");
    match generation(&model) {
        Some(..3.0) if model.contains("image") || model.contains("tts") => Family::None,
        Some(3.0..) => Family::Level {
            // Later ones have no `MINIMAL`; what is sure is used.
            minimal: ["gemini-3-flash", "gemini-3.1-flash", "gemini-3.5-flash"]
                .iter()
                .any(|m| model.starts_with(m)),
            medium: !model.starts_with("gemini-3-pro"),
        },
        Some(2.5..) if model.contains("flash-lite") => Family::Budget {
            least: 512,
            most: 24_576,
            off: true,
        },
        Some(2.5..) if flash => Family::Budget {
            least: 1,
            most: 24_576,
            off: true,
        },
        Some(2.5..) => Family::Budget {
            least: 128,
            most: 32_768,
            off: false,
        },
        Some(_) => Family::None,
        None if model.starts_with("gemma") => Family::None,
        None if model.contains("pro") => Family::Budget {
            least: 128,
            most: 32_768,
            off: false,
        },
        None => Family::Budget {
            least: 1,
            most: 24_576,
            off: true,
        },
    }
}

/// The `thinkingConfig` of a request; empty where there is nothing to say.
pub(super) fn config(reasoning: &Reasoning, model: &str, loss: &mut LossReport) -> Map<String, Value> {
    let mut out = Map::new();
    let (wish, at) = reasoning.wish();
    let family = family(model);
    if family == Family::None {
        if !matches!(wish, Wish::Unsaid | Wish::Off) {
            loss.dropped(at, "this model does not think");
        }
        return out;
    }
    match (wish, family) {
        (Wish::Unsaid, _) => {}
        // Who gave the number gets the number, whatever the model.
        (Wish::Off, Family::Budget { off: true, .. }) => set(&mut out, "thinkingBudget", json!(0)),
        (Wish::Off, _)
            if reasoning
                .budget
                .as_ref()
                .is_some_and(|b| b.at.ends_with("thinkingBudget")) =>
        {
            set(&mut out, "thinkingBudget", json!(0));
        }
        (Wish::Off, Family::Level { minimal, .. }) => {
            loss.approximated(at, "this model always thinks; it is told to think least");
            set(
                &mut out,
                "thinkingLevel",
                json!(if minimal { "MINIMAL" } else { "LOW" }),
            );
        }
        (Wish::Off, Family::Budget { least, .. }) => {
            loss.approximated(at, "this model always thinks; it is told to think least");
            set(&mut out, "thinkingBudget", json!(least));
        }
        (Wish::Budget(Budget::Dynamic), _) => set(&mut out, "thinkingBudget", json!(-1)),
        (Wish::Budget(Budget::Tokens(tokens)), Family::Budget { least, most, .. })
            if !at.ends_with("thinkingBudget") =>
        {
            let within = tokens.clamp(least, most);
            if within != tokens {
                loss.approximated(at, "the budget is out of this model's range");
            }
            set(&mut out, "thinkingBudget", json!(within));
        }
        (Wish::Budget(Budget::Tokens(tokens)), _) => set(&mut out, "thinkingBudget", json!(tokens)),
        (Wish::Effort(effort), Family::Level { minimal, medium }) => {
            let word = level(effort, minimal, medium);
            if !word.eq_ignore_ascii_case(effort.as_str()) {
                loss.approximated(at, "this model has no such level");
            }
            set(&mut out, "thinkingLevel", json!(word));
        }
        (Wish::Effort(effort), Family::Budget { least, most, .. }) => {
            loss.approximated(at, "this model takes a budget, not a level");
            set(&mut out, "thinkingBudget", json!(effort.budget().clamp(least, most)));
        }
        // It thinks by itself, but for the smallest of 2.5.
        (Wish::On, Family::Budget { .. }) => set(&mut out, "thinkingBudget", json!(-1)),
        (Wish::On, _) | (_, Family::None) => {}
    }
    let shown = match &reasoning.visible {
        Some(visible) => visible.value,
        None => !matches!(wish, Wish::Unsaid | Wish::Off),
    };
    if shown {
        set(&mut out, "includeThoughts", json!(true));
    }
    if let Some(summary) = reasoning.summary.as_ref().filter(|summary| summary.value != "auto") {
        loss.approximated(summary.at, "thoughts come in one kind of summary");
    }
    out
}

fn set(out: &mut Map<String, Value>, name: &str, value: Value) {
    out.insert(name.to_owned(), value);
}

fn level(effort: Effort, minimal: bool, medium: bool) -> &'static str {
    match effort {
        Effort::None | Effort::Minimal if minimal => "MINIMAL",
        Effort::None | Effort::Minimal | Effort::Low => "LOW",
        Effort::Medium if medium => "MEDIUM",
        Effort::Medium | Effort::High | Effort::XHigh | Effort::Max => "HIGH",
    }
}
