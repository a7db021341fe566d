//! Request bodies: checks that a body is one well-formed JSON object and finds a few of its top-level fields, without
//! building anything. And the objects of answers, read with [`read`].
//!
//! It accepts what RFC 8259 calls an object, in valid UTF-8, with the bounds of HARDENING H3: at most
//! [`MAX_DEPTH`](super::MAX_DEPTH) levels, numbers that fit a finite `f64`, and none of the watched fields twice. Keys written with
//! escapes (`"mod\u0065l"`) are the same keys: otherwise a provider could see another model than we do.

use std::borrow::Cow;
use std::ops::Range;

#[cfg(test)]
use super::MAX_DEPTH;
#[cfg(test)]
use super::cursor::special;
use super::cursor::{Cursor, Wrong};
use super::loose::Obj;
use super::read::{self, Read};
use super::{DecodeError, Peek, PeekError, is_model_name, outline};
use crate::ir::DialectId;

/// Top-level fields which must not stand twice: routing, limits and conversion read them, and two parsers may choose
/// differently among duplicates. Of all dialects together: a name that means nothing in one does not stand twice there
/// either.
pub const WATCHED: [&str; 23] = [
    "model",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "n",
    "models",
    "provider",
    "prompt_cache_key",
    "metadata",
    "cachedContent",
    "cached_content",
    "instructions",
    "system",
    "systemInstruction",
    "system_instruction",
    "tools",
    "messages",
    "input",
    "contents",
    "background",
    "conversation",
];

/// The places in [`WATCHED`] of those read here.
pub(super) mod place {
    pub const MODEL: usize = 0;
    pub const STREAM: usize = 1;
    pub const STREAM_OPTIONS: usize = 2;
    pub const MODELS: usize = 7;
    pub const PROVIDER: usize = 8;
    pub const CACHE_KEY: usize = 9;
    pub const METADATA: usize = 10;
    pub const CACHED_CONTENT: [usize; 2] = [11, 12];
    pub const INSTRUCTIONS: usize = 13;
    pub const SYSTEM: usize = 14;
    pub const SYSTEM_INSTRUCTION: [usize; 2] = [15, 16];
    pub const TOOLS: usize = 17;
    pub const MESSAGES: usize = 18;
    pub const INPUT: usize = 19;
    pub const CONTENTS: usize = 20;
    pub const BACKGROUND: usize = 21;
    pub const CONVERSATION: usize = 22;
}

/// Where the fields of [`WATCHED`] stand.
pub type Watched = Fields<{ WATCHED.len() }>;

/// Where the watched fields of an object stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields<const N: usize> {
    /// The value of each, in the order asked for.
    pub values: [Option<Range<usize>>; N],
    /// The offset of the closing brace.
    pub close: usize,
    /// The object has no field at all.
    pub is_empty: bool,
}

/// Checks `body` and finds the fields named in `watch`.
pub fn fields<const N: usize>(body: &[u8], watch: &[&'static str; N]) -> Result<Fields<N>, PeekError> {
    if let Err(error) = std::str::from_utf8(body) {
        return Err(not_json(error.valid_up_to(), Wrong::Utf8));
    }
    let mut cursor = Cursor::new(body);
    let mut found = Fields {
        values: [const { None }; N],
        close: 0,
        is_empty: true,
    };
    match members(&mut cursor, watch, &mut found) {
        Ok(None) => Ok(found),
        Ok(Some(twice)) => Err(PeekError::Duplicate(twice)),
        Err(Wrong::TooDeep) => Err(PeekError::TooDeep),
        Err(wrong) => Err(not_json(cursor.at, wrong)),
    }
}

/// Passes the whole body and notes the watched fields; the first that stands twice ends it.
fn members<const N: usize>(
    cursor: &mut Cursor<'_>,
    watch: &[&'static str; N],
    found: &mut Fields<N>,
) -> Result<Option<&'static str>, Wrong> {
    if cursor.next()? != b'{' {
        return Err(Wrong::Object);
    }
    let mut more = cursor.open(b'}')?;
    found.is_empty = !more;
    // Most keys are told apart from all watched ones by their length alone.
    let lengths = watch.iter().fold(0u64, |set, name| set | 1 << name.len().min(63));
    let watched = |key: &[u8]| match lengths >> key.len().min(63) & 1 {
        0 => None,
        _ => watch.iter().position(|name| name.as_bytes() == key),
    };
    while more {
        cursor.white_space();
        let index = cursor.key(watched)?;
        let start = cursor.at;
        cursor.skip_bounded()?;
        if let Some(index) = index {
            if found.values[index].is_some() {
                return Ok(Some(watch[index]));
            }
            found.values[index] = Some(start..cursor.at);
        }
        more = cursor.more(b'}')?;
    }
    found.close = cursor.at - 1;
    cursor.end()?;
    Ok(None)
}

/// What routing needs where the body names the model: checks the whole body, then reads `model` and `stream`, and what is
/// said of providers and further models. Also returns the fields ([`WATCHED`]), for what a dialect reads beyond that.
///
/// A body with `models` and no `model` asks for the first of them: [`Outline::ours`](super::Outline::ours) then puts it where
/// it belongs.
pub fn peek(body: &[u8]) -> Result<(Peek, Watched), PeekError> {
    let fields = fields(body, &WATCHED)?;
    let mut outline = outline::wishes(body, &fields, true)?;
    let span = fields.values[place::MODEL].clone();
    let model = match &span {
        None if outline.models.is_empty() => return Err(PeekError::MissingModel),
        None => outline.models.remove(0),
        Some(span) => {
            let model: String = serde_json::from_slice(&body[span.clone()]).map_err(|_| PeekError::MODEL)?;
            if !is_model_name(&model) {
                return Err(PeekError::MODEL);
            }
            model
        }
    };
    let stream = match fields.values[place::STREAM].clone().map(|span| &body[span]) {
        None | Some(b"null" | b"false") => false,
        Some(b"true") => true,
        Some(_) => {
            return Err(PeekError::WrongType {
                field: "stream",
                expected: "a boolean",
            });
        }
    };
    Ok((
        Peek {
            model,
            model_span: span,
            stream,
            ask_usage: None,
            outline,
        },
        fields,
    ))
}

/// Reads a provider's JSON object; the error says where and what kind of mistake, without any of the text.
pub(super) fn object<'a, T: read::Fields<'a>>(dialect: DialectId, data: &'a [u8]) -> Result<T, DecodeError> {
    let mut cursor = Cursor::new(data);
    let mut object = Obj(None);
    let read = cursor
        .next()
        .and_then(|_| object.read(&mut cursor))
        .and_then(|()| cursor.end());
    let why = match (read, object) {
        (Ok(()), Obj(Some(object))) => return Ok(object),
        (Ok(()), Obj(None)) => "not a JSON object".to_owned(),
        (Err(Wrong::Early | Wrong::EarlyInString), _) => "the JSON ends too early".to_owned(),
        (Err(wrong), _) => format!("not JSON: {} at byte {}", wrong.why(), cursor.at),
    };
    Err(DecodeError { dialect, why })
}

/// The text of a value that may be a JSON string or any other JSON: tool-call arguments come as either.
pub(super) fn text_or_raw(raw: &str) -> Cow<'_, str> {
    match raw.as_bytes() {
        b"null" => Cow::Borrowed(""),
        [b'"', ..] => Cursor::new(raw.as_bytes()).string_text().unwrap_or_default(),
        _ => Cow::Borrowed(raw),
    }
}

/// A word told as a raw field: what is no text, or an empty one, is none.
pub(super) fn word(raw: &str) -> Option<Cow<'_, str>> {
    let word = raw.starts_with('"').then(|| text_or_raw(raw))?;
    (!word.is_empty()).then_some(word)
}

fn not_json(at: usize, wrong: Wrong) -> PeekError {
    PeekError::NotJson {
        at,
        why: wrong.why().to_owned(),
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
