//! The most a request can cost in tokens: upper bounds, for who must never be charged more than a budget holds. What is likely
//! is in [`estimate`](super::estimate).

use memchr::memmem;
use serde_json::Value;

use crate::dialects::{Dialect, settings, spans};
use crate::ir::{Content, Media, MediaKind, MediaSource, Native, Request, ToolDefinition};

use super::estimate;

/// Bodies up to this size are bounded by their bytes, if nothing in them stands for more than its bytes: a token has at least one byte of
/// text, and what the body is wrapped in has more bytes than the tokens a provider wraps a message in.
pub const BY_BYTES: usize = 16 * 1024;

/// Bytes of text per token, for an estimate without reading a body: four characters of English (see `estimate`), and about as many
/// bytes of Chinese.
const BYTES_PER_TOKEN: u64 = 4;

/// Most tokens of one picture: 48,169 is the largest number we know of (OpenAI, "Images and vision": gpt-4o-mini, 2833 and 5667 for each
/// of eight tiles); others stay below 5,000.
const MOST_PER_PICTURE: u64 = 50_000;

/// What providers add to a prompt with tools, at most (Anthropic, "Tool use": up to 804 tokens of instructions).
const MOST_FOR_TOOLS: u64 = 1_000;

/// What fields of a dialect's own are called that bring more into a prompt than stands there: content cached at the provider, searches.
const FETCHING: [&str; 3] = ["cached", "search", "plugin"];

/// Tokens of the prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prompt {
    /// Probably.
    pub expected: u64,
    /// At most.
    pub most: u64,
    /// Pictures in it.
    pub pictures: u32,
    /// Something in it stands for content whose size nobody here knows: a stored conversation, a file at the provider, a document's
    /// pages, a film, what the provider's own tools find. The model's context is the only bound then.
    pub open: bool,
}

/// What may stand for more tokens than it has bytes (media, stored content, tools of the provider's), or could hide the name of such a
/// field by escapes. One in a text of the user's costs no more than reading the body.
const MARKS: [&[u8]; 13] = [
    b"://",
    b"plugin",
    b"data",
    b"Data",
    b"file",
    b"File",
    b"_id\"",
    b"tools\"",
    b"search",
    b"ached",
    b"\"prompt\"",
    b"\\u00",
    b"\\/",
];

/// Bounds a prompt by the bytes of its body; `None`: it must be read ([`most`]).
pub fn by_bytes(body: &[u8]) -> Option<Prompt> {
    let plain = body.len() <= BY_BYTES && !MARKS.iter().any(|mark| memmem::find(body, mark).is_some());
    plain.then(|| Prompt {
        expected: rough(body.len()),
        most: body.len() as u64,
        ..Prompt::default()
    })
}

/// About so many tokens has a text of so many bytes.
pub fn rough(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(BYTES_PER_TOKEN)
}

/// Bounds the prompt of a conversation that was read from a body of so many bytes. `expected`: the estimate.
pub fn most(request: &Request, body: usize, expected: u64) -> Prompt {
    let mut media = Bound {
        open: request.bound.is_some(),
        ..Bound::default()
    };
    for message in request.all_messages() {
        for block in &message.blocks {
            media.content(&block.content);
        }
    }
    if !request.tools.is_empty() {
        media.tokens += MOST_FOR_TOOLS;
    }
    let fetches = |native: &Native| {
        let key = native.key.to_ascii_lowercase();
        FETCHING.iter().any(|word| key.contains(word))
    };
    media.open |= request.native.iter().any(fetches);
    media.open |= request
        .tools
        .iter()
        .any(|tool| matches!(tool.kind, ToolDefinition::Native(_)));
    // All that is not a medium's base64 is taken for text: at most a token a byte.
    let text = (body as u64).saturating_sub(media.bytes);
    let most = text.saturating_add(media.tokens);
    Prompt {
        expected,
        most: most.max(expected),
        pictures: media.pictures,
        open: media.open,
    }
}

/// Bounds the prompt of a request that could not be read here.
pub fn unread(body: usize) -> Prompt {
    Prompt {
        expected: rough(body),
        most: body as u64,
        open: true,
        ..Prompt::default()
    }
}

/// Bounds any request by what was read of it.
pub fn of(decoded: &super::Decoded, body: usize) -> Prompt {
    match decoded {
        super::Decoded::Chat(request) => most(request, body, estimate::prompt_tokens(request)),
        super::Decoded::Embeddings(request) => {
            let expected = estimate::embedding_tokens(request);
            Prompt {
                expected,
                most: (body as u64).max(expected),
                ..Prompt::default()
            }
        }
    }
}

#[derive(Default)]
struct Bound {
    /// Bytes of base64.
    bytes: u64,
    /// Tokens of media.
    tokens: u64,
    pictures: u32,
    open: bool,
}

impl Bound {
    fn content(&mut self, content: &Content) {
        match content {
            Content::ToolResult(result) => {
                for block in &result.blocks {
                    self.content(&block.content);
                }
            }
            Content::Media(media) => self.medium(media),
            Content::Text(_)
            | Content::Reasoning(_)
            | Content::Refusal(_)
            | Content::ToolCall(_)
            | Content::Native(_) => {}
        }
    }

    fn medium(&mut self, medium: &Media) {
        self.pictures = self.pictures.saturating_add(u32::from(medium.kind == MediaKind::Image));
        match (&medium.source, medium.kind) {
            (MediaSource::Text(_), _) => {}
            (MediaSource::Inline(data), MediaKind::Image) => {
                self.bytes += data.len() as u64;
                self.tokens += MOST_PER_PICTURE;
            }
            (_, MediaKind::Image) => self.tokens += MOST_PER_PICTURE,
            // A second of sound is 10 tokens (OpenAI) or 32 (Gemini), and more bytes than that in any format they take.
            (MediaSource::Inline(_), MediaKind::Audio) => {}
            _ => self.open = true,
        }
    }
}

/// What a body says of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Nothing.
    Nothing,
    /// This; if it says several, the largest.
    Number(u64),
    /// Something that is no whole number from 0 on.
    Odd,
}

/// Reads a number from a body, at a path as of edits ([`settings`]).
pub fn number(body: &[u8], dialect: &dyn Dialect, path: &str) -> Said {
    let Ok(Some(names)) = settings::resolve(dialect, path) else {
        return Said::Nothing;
    };
    within(body, dialect, &names)
}

/// Reads a word from a body, at such a path; of several the last.
pub fn word(body: &[u8], dialect: &dyn Dialect, path: &str) -> Option<String> {
    let names = settings::resolve(dialect, path).ok()??;
    let mut at = 0..body.len();
    for name in &names {
        let text = &body[at.clone()];
        let members = spans::members(text, 0).filter(|member| dialect.same_field(name, &member.name));
        let value = members.map(|member| member.value).last()?;
        at = at.start + value.start..at.start + value.end;
    }
    serde_json::from_slice(&body[at]).ok()
}

fn within(text: &[u8], dialect: &dyn Dialect, names: &[String]) -> Said {
    let Some((name, rest)) = names.split_first() else {
        return leaf(text);
    };
    let found = spans::members(text, 0).filter(|member| dialect.same_field(name, &member.name));
    found
        .map(|member| within(&text[member.value], dialect, rest))
        .fold(Said::Nothing, |one, other| match (one, other) {
            (Said::Odd, _) | (_, Said::Odd) => Said::Odd,
            (Said::Number(one), Said::Number(other)) => Said::Number(one.max(other)),
            (Said::Nothing, other) => other,
            (one, Said::Nothing) => one,
        })
}

fn leaf(text: &[u8]) -> Said {
    let whole =
        |number: f64| (number >= 0.0 && number.fract() == 0.0 && number < u64::MAX as f64).then_some(number as u64);
    let number = match serde_json::from_slice(text) {
        Ok(Value::Null) => return Said::Nothing,
        Ok(Value::Number(number)) => number.as_u64().or_else(|| whole(number.as_f64()?)),
        // JSON of protocol buffers may write numbers as texts.
        Ok(Value::String(text)) => text.parse().ok(),
        _ => None,
    };
    number.map_or(Said::Odd, Said::Number)
}

#[cfg(test)]
#[path = "bound_tests.rs"]
mod tests;
