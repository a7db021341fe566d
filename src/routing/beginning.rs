//! The stable beginning of a conversation: its instructions, its tools, and its messages up to and with the first of the user. Later
//! turns of the conversation begin with the same, so that a hash of it names the conversation where its client does not.
//!
//! Only texts of some length count: what moves from turn to turn within the beginning (marks for caches, say) is short. The
//! body was peeked, so it is well-formed JSON.

use std::hash::Hasher;
use std::ops::Range;

/// Shortest text that counts, in bytes as it stands in the JSON.
const MIN_TEXT: usize = 24;
/// Shortest beginning by which a conversation is known: about the 1,024 tokens from which on providers cache prompts (OpenAI's
/// guide on prompt caching: "available for prompts containing 1024 tokens or more", at about four characters a token).
const MIN_BEGINNING: usize = 4 << 10;
/// Most bytes of text that are hashed: by then conversations have parted.
const MAX_HASHED: usize = 64 << 10;
/// Most bytes that are looked at.
const MAX_LOOKED_AT: usize = 256 << 10;

/// Feeds the beginning to the hash. `None`: there is none, or it is too short.
pub(super) fn read(
    preamble: &[Range<usize>],
    prompt: Option<Range<usize>>,
    body: &[u8],
    hasher: &mut impl Hasher,
) -> Option<()> {
    let mut reader = Reader {
        hasher,
        hashed: 0,
        looked_at: 0,
    };
    for span in preamble {
        reader.texts(body.get(span.clone())?);
    }
    if let Some(prompt) = prompt.and_then(|span| body.get(span)) {
        for element in Elements::of(&prompt[..prompt.len().min(MAX_LOOKED_AT)]) {
            reader.texts(element);
            if reader.is_full() || is_users(element) {
                break;
            }
        }
    }
    (reader.hashed >= MIN_BEGINNING).then_some(())
}

struct Reader<'h, H> {
    hasher: &'h mut H,
    hashed: usize,
    looked_at: usize,
}

impl<H: Hasher> Reader<'_, H> {
    fn is_full(&self) -> bool {
        self.hashed >= MAX_HASHED || self.looked_at >= MAX_LOOKED_AT
    }

    /// The long texts of a piece of JSON, names of fields among them.
    fn texts(&mut self, json: &[u8]) {
        let json = &json[..json.len().min(MAX_LOOKED_AT.saturating_sub(self.looked_at))];
        self.looked_at += json.len();
        for text in Texts(json) {
            if self.hashed >= MAX_HASHED {
                return;
            }
            if text.len() < MIN_TEXT {
                continue;
            }
            let text = &text[..text.len().min(MAX_HASHED - self.hashed)];
            self.hashed += text.len();
            self.hasher.write(text);
            // Where one ends and the next begins is part of it; no text holds this byte.
            self.hasher.write_u8(0xff);
        }
    }
}

/// The strings of a piece of JSON, as they stand there, without quotes. One that is cut off at the end counts.
struct Texts<'a>(&'a [u8]);

impl<'a> Iterator for Texts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let from = memchr::memchr(b'"', self.0)? + 1;
        let rest = self.0.get(from..)?;
        let end = end_of_text(rest);
        self.0 = rest.get(end + 1..).unwrap_or_default();
        rest.get(..end)
    }
}

/// Where a string ends which begins here.
fn end_of_text(rest: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = rest.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        if rest[at + found] == b'"' {
            return at + found;
        }
        at += found + 2;
    }
    rest.len()
}

/// The elements of an array; what is none is its own only element.
struct Elements<'a> {
    rest: &'a [u8],
    array: bool,
}

impl<'a> Elements<'a> {
    fn of(json: &'a [u8]) -> Self {
        let json = json.trim_ascii();
        match json.first() {
            Some(b'[') => Elements {
                rest: &json[1..],
                array: true,
            },
            _ => Elements {
                rest: json,
                array: false,
            },
        }
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let between = |byte: &u8| byte.is_ascii_whitespace() || *byte == b',';
        let from = self.rest.iter().position(|byte| !between(byte))?;
        let rest = &self.rest[from..];
        if self.array && rest[0] == b']' {
            return None;
        }
        let end = end_of_value(rest);
        self.rest = if self.array { &rest[end..] } else { &[] };
        Some(&rest[..end])
    }
}

/// Where a value ends which begins here; at least one byte on.
fn end_of_value(json: &[u8]) -> usize {
    let mut depth = 0usize;
    let mut at = 0;
    while let Some(byte) = json.get(at) {
        match byte {
            b'"' => at += 1 + end_of_text(&json[at + 1..]),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => return at.max(1),
            _ => {}
        }
        at += 1;
        if depth == 0 && matches!(byte, b'"' | b'}' | b']') {
            break;
        }
    }
    at.clamp(1, json.len())
}

/// The element is the user's: it says so, or it is a plain text, or an object that says neither whose nor what it is (as one dialect
/// allows it of the first message).
fn is_users(element: &[u8]) -> bool {
    match element.first() {
        Some(b'"') => true,
        Some(b'{') => {
            let (mut role, mut kind) = (None, false);
            let mut at = 1;
            while let Some((name, value, next)) = member(element, at) {
                match name {
                    b"role" => role = Some(value),
                    b"type" => kind = true,
                    _ => {}
                }
                at = next;
            }
            match role {
                Some(role) => role == b"\"user\"",
                None => !kind,
            }
        }
        _ => false,
    }
}

/// The member of an object from `at` on: its name, its value, and where the next begins.
fn member(object: &[u8], at: usize) -> Option<(&[u8], &[u8], usize)> {
    let from = at + memchr::memchr(b'"', object.get(at..)?)? + 1;
    let end = from + end_of_text(object.get(from..)?);
    let colon = end + memchr::memchr(b':', object.get(end..)?)? + 1;
    let value = colon
        + object
            .get(colon..)?
            .iter()
            .position(|byte| !byte.is_ascii_whitespace())?;
    let length = end_of_value(object.get(value..)?);
    Some((
        &object[from..end],
        object.get(value..value + length)?.trim_ascii(),
        value + length,
    ))
}
