//! What stands inside a request, as far as conditions of routes ask for it. Read only where a route does.

use crate::ir::{Block, Content, Format, MediaKind, Request, Role, Wish};

/// Most bytes of the last user message that conditions see. Of a longer one its end: agents put their reminders, and people the
/// text they ask about, before what they ask.
pub const MAX_LAST_TEXT: usize = 64 * 1024;

/// What stands inside a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Estimate of the prompt's tokens (`translate::estimate`).
    pub prompt_tokens: u64,
    /// The output limit asked for; `None`: none.
    pub output_tokens: Option<u64>,
    /// It has tools.
    pub tools: bool,
    /// Kinds of media in its messages, and in what tools gave back, each once, in the order in which they come.
    pub media: Vec<MediaKind>,
    /// It asks for structured output: JSON, JSON of a schema, or what its dialect has beyond that (a grammar, an enumeration).
    pub structured: bool,
    /// It asks for reasoning.
    pub reasoning: bool,
    /// The text of the last user message that has any, its blocks in lines of their own; at most [`MAX_LAST_TEXT`] bytes. What
    /// tools gave back is not the user's text.
    pub last_text: String,
}

impl Survey {
    /// Reads a conversation. `prompt_tokens`: the estimate.
    pub fn of(request: &Request, prompt_tokens: u64) -> Self {
        let mut seen = Vec::new();
        for message in request.all_messages() {
            media(&message.blocks, &mut seen);
        }
        let format = request.format.as_ref().map(|format| &format.value);
        Survey {
            prompt_tokens,
            output_tokens: request.sampling.max_tokens.as_ref().map(|limit| limit.value),
            tools: !request.tools.is_empty(),
            media: seen,
            structured: format.is_some_and(|format| *format != Format::Text),
            reasoning: !matches!(request.reasoning.wish().0, Wish::Unsaid | Wish::Off),
            last_text: last_text(request),
        }
    }
}

fn media(blocks: &[Block], seen: &mut Vec<MediaKind>) {
    for block in blocks {
        match &block.content {
            Content::Media(found) if !seen.contains(&found.kind) => seen.push(found.kind),
            Content::ToolResult(result) => media(&result.blocks, seen),
            _ => {}
        }
    }
}

fn last_text(request: &Request) -> String {
    let users = request.messages.iter().rev().filter(|m| m.role == Role::User);
    let texts = |blocks: &[Block]| {
        blocks
            .iter()
            .any(|b| b.as_text().is_some_and(|text| !text.trim().is_empty()))
    };
    let Some(message) = users.into_iter().find(|message| texts(&message.blocks)) else {
        return String::new();
    };
    // From the end, until there is enough.
    let mut parts: Vec<&str> = Vec::new();
    let mut left = MAX_LAST_TEXT;
    for text in message.blocks.iter().rev().filter_map(Block::as_text) {
        left = left.saturating_sub(usize::from(!parts.is_empty()));
        let mut start = text.len().saturating_sub(left);
        while !text.is_char_boundary(start) {
            start += 1;
        }
        let part = &text[start..];
        left -= part.len();
        parts.push(part);
        if part.len() < text.len() || left == 0 {
            break;
        }
    }
    parts.reverse();
    parts.join("\n")
}

#[cfg(test)]
#[path = "survey_tests.rs"]
mod tests;
