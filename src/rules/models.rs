//! `[[model]]`: what is known of models: their limits, and what they can take.

use crate::config::fields::Fields;

use super::table::{ByModel, Line};
use super::tables::Row;
use super::words::Requirement;

/// Most tokens that are believed of a limit.
const MAX_TOKENS: u64 = 1_000_000_000;

/// What is known of one model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelFacts {
    /// Tokens of prompt and answer together; `None`: unknown.
    pub context: Option<u64>,
    /// Tokens of an answer; `None`: unknown.
    pub output: Option<u64>,
    /// What it can take. [`Requirement::Context`] never stands here.
    pub can: Vec<Requirement>,
}

/// All that is known.
#[derive(Debug, Default)]
pub struct ModelTable(ByModel<ModelFacts>);

impl ModelTable {
    /// Sorts the entries. An error is a glob's own, or that they are too large together.
    pub(super) fn new(lines: Vec<Line<ModelFacts>>) -> Result<Self, globset::Error> {
        ByModel::new(lines).map(ModelTable)
    }

    /// What is known of a model by the name its provider needs. An entry for the provider wins over one for all, then the
    /// very name over a glob, then the earlier entry over the later. `None`: nothing.
    pub fn facts(&self, provider: &str, model: &str) -> Option<&ModelFacts> {
        self.0.get(provider, model)
    }
}

/// What a model can take: what a route can require, but [`Requirement::Context`].
fn abilities() -> impl Iterator<Item = Requirement> {
    Requirement::ALL.into_iter().filter(|one| *one != Requirement::Context)
}

impl Row for ModelFacts {
    const SECTION: &'static str = "model";

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let context = fields.get("context");
        let output = fields.get("output");
        let tokens = |value: &Option<crate::config::value::Value<'_>>| value.as_ref()?.integer(1..=MAX_TOKENS);
        let facts = ModelFacts {
            context: tokens(&context),
            output: tokens(&output),
            can: fields
                .get("can")
                .and_then(|value| value.list())
                .unwrap_or_default()
                .iter()
                .filter_map(|value| value.word_of(abilities(), Requirement::as_str))
                .collect(),
        };
        if let (Some(most), Some(whole), Some(value)) = (facts.output, facts.context, output)
            && most > whole
        {
            value.problem(format!("an answer is part of the context, which is only {whole}"));
        }
        Some(facts)
    }
}
