//! The most a request can cost in tokens: upper bounds, for who must never be charged more than a budget holds. What is likely
//! is in [`estimate`](super::estimate).

use serde_json::Value;

use crate::dialects::{Dialect, settings, spans};
use crate::ir::{Content, Media, MediaKind, MediaSource, Request};

pub use super::stored::Turns;
use super::{estimate, plain, stored};

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
    /// So often the provider may read a prompt for one answer, or so many prompts there are: each at most as long as the model's context.
    pub turns: Turns,
}

/// Bounds a prompt by the bytes of its body; `None`: it must be read ([`most`]).
pub fn by_bytes(body: &[u8]) -> Option<Prompt> {
    let plain = body.len() <= BY_BYTES && plain::is_plain(body);
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
        open: stored::refers(request),
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
    // All that is not a medium's base64 is taken for text: at most a token a byte.
    let text = (body as u64).saturating_sub(media.bytes);
    let most = text.saturating_add(media.tokens);
    Prompt {
        expected,
        most: most.max(expected),
        pictures: media.pictures,
        open: media.open,
        turns: stored::turns(request),
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
                open: stored::refers_to_media(request),
                turns: Turns::Said(request.inputs.len() as u64),
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

impl Said {
    /// The larger of two.
    fn or_more(self, other: Said) -> Said {
        match (self, other) {
            (Said::Odd, _) | (_, Said::Odd) => Said::Odd,
            (Said::Number(one), Said::Number(other)) => Said::Number(one.max(other)),
            (Said::Nothing, other) => other,
            (one, Said::Nothing) => one,
        }
    }
}

/// What a body says of how long its answer may become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The limit of each candidate: under the name that the model's provider knows best ([`Dialect::output_limit`]), if it stands there,
    /// else under another of its names.
    pub limit: Said,
    /// The limit stands once or not at all, under a name which the model's provider knows: every parser reads the same there.
    pub settled: bool,
    /// How many candidates are to be written.
    pub candidates: Said,
    /// It says what the answer will probably be. What the model does not take of that is billed as if it had been written (OpenAI,
    /// "Predicted Outputs").
    pub predicted: bool,
}

/// Reads it, in one pass over the body.
pub fn answer(body: &[u8], dialect: &dyn Dialect, model: &str) -> Answer {
    let limit = settings::place(dialect, "max_output_tokens").unwrap_or_default();
    // `best_of`: so many are written, and the best of them is told (OpenAI's legacy completions, and servers after them).
    let [n, best_of, prediction] =
        ["n", "best_of", "prediction"].map(|word| settings::place(dialect, word).unwrap_or_default());
    let best = dialect.output_limit(model).unwrap_or_default();
    let mut found = Limit {
        dialect,
        model,
        best: best.rsplit('.').next().unwrap_or_default(),
        by_best: Said::Nothing,
        by_any: Said::Nothing,
        settled: true,
    };
    let (mut places, mut candidates, mut predicted) = (0, Said::Nothing, false);
    for member in spans::members(body, 0) {
        let value = &body[member.value.clone()];
        if let Some(rest) = behind(limit, &member.name, dialect) {
            places += 1;
            found.take(&member.name, value, rest);
        }
        for count in [n, best_of] {
            if let Some(rest) = behind(count, &member.name, dialect) {
                candidates = candidates.or_more(within(value, dialect, rest));
            }
        }
        predicted |= behind(prediction, &member.name, dialect).is_some() && value != b"null";
    }
    Answer {
        limit: if found.by_best == Said::Nothing {
            found.by_any
        } else {
            found.by_best
        },
        settled: found.settled && places <= 1,
        candidates,
        predicted,
    }
}

/// The rest of a dotted path that begins with this name (empty: it is the name); `None`: it begins otherwise, or is empty.
fn behind<'a>(path: &'a str, name: &str, dialect: &dyn Dialect) -> Option<&'a str> {
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    (!first.is_empty() && dialect.same_field(first, name)).then_some(rest)
}

/// The limit of the answer, as far as it was found.
struct Limit<'a> {
    dialect: &'a dyn Dialect,
    model: &'a str,
    /// The name which the model's provider knows best.
    best: &'a str,
    by_best: Said,
    by_any: Said,
    settled: bool,
}

impl Limit<'_> {
    /// Takes a member on the way to it: `rest` is the way from there.
    fn take(&mut self, name: &str, value: &[u8], rest: &str) {
        if rest.is_empty() {
            let said = leaf(value);
            self.settled &= self.dialect.knows_limit(self.model, name);
            self.by_any = self.by_any.or_more(said);
            if name == self.best {
                self.by_best = self.by_best.or_more(said);
            }
            return;
        }
        let mut places = 0;
        for member in spans::members(value, 0) {
            if let Some(rest) = behind(rest, &member.name, self.dialect) {
                places += 1;
                self.take(&member.name, &value[member.value.clone()], rest);
            }
        }
        self.settled &= places <= 1;
    }
}

/// Reads a word from a body, at a path as of edits ([`settings`]); of several the last.
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

fn within(text: &[u8], dialect: &dyn Dialect, path: &str) -> Said {
    if path.is_empty() {
        return leaf(text);
    }
    spans::members(text, 0)
        .filter_map(|member| {
            Some(within(
                &text[member.value],
                dialect,
                behind(path, &member.name, dialect)?,
            ))
        })
        .fold(Said::Nothing, Said::or_more)
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
