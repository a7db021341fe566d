//! Whether a model can take what a request asks of it, by the table of models (`require` of a route). What the table does not
//! know is taken to be able: the provider will say so if it is not.

use crate::ir::MediaKind;
use crate::rules::{ModelFacts, Requirement};

use super::Survey;

/// The first requirement that the model does not meet.
pub(super) fn lacks(require: &[Requirement], survey: &Survey, facts: &ModelFacts) -> Option<Requirement> {
    let meets = |requirement: Requirement| match requirement {
        Requirement::Context => fits(survey, facts),
        able => !asks(survey, able) || facts.can.contains(&able),
    };
    require.iter().copied().find(|requirement| !meets(*requirement))
}

/// Prompt and requested answer fit the context, the answer its own limit.
fn fits(survey: &Survey, facts: &ModelFacts) -> bool {
    let output = survey.output_tokens.unwrap_or(0);
    facts
        .context
        .is_none_or(|context| survey.prompt_tokens.saturating_add(output) <= context)
        && facts.output.is_none_or(|limit| output <= limit)
}

/// The request asks for it.
fn asks(survey: &Survey, requirement: Requirement) -> bool {
    let media = |kind| survey.media.contains(&kind);
    match requirement {
        Requirement::Context => true,
        Requirement::Tools => survey.tools,
        Requirement::Vision => media(MediaKind::Image),
        Requirement::Documents => media(MediaKind::Document),
        Requirement::Audio => media(MediaKind::Audio),
        Requirement::Video => media(MediaKind::Video),
        Requirement::Structured => survey.structured,
        Requirement::Reasoning => survey.reasoning,
    }
}

/// What is missing, in words that follow "can't take".
pub(super) const fn missing(requirement: Requirement) -> &'static str {
    match requirement {
        Requirement::Context => "so many tokens of prompt and answer",
        Requirement::Tools => "tools",
        Requirement::Vision => "images",
        Requirement::Documents => "documents",
        Requirement::Audio => "audio",
        Requirement::Video => "video",
        Requirement::Structured => "structured output",
        Requirement::Reasoning => "reasoning",
    }
}
