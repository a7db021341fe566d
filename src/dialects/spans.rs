//! Where members and elements stand in JSON text that was checked before, and how members come and go without a byte of
//! the rest changing: what edits of request bodies are made of.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;

use super::Splice;
use super::cursor::{Cursor, unescape};

/// One member of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Its name, escapes resolved.
    pub name: Cow<'a, str>,
    /// The offset of the name's opening quote.
    pub start: usize,
    /// Where its value stands.
    pub value: Range<usize>,
}

/// The members of an object, in order. Ends early where the text is no JSON.
pub struct Members<'a> {
    cursor: Cursor<'a>,
    more: bool,
}

/// The members of the object which stands at `at` (white space before it is passed over); of anything else: none.
pub fn members(text: &[u8], at: usize) -> Members<'_> {
    let (cursor, more) = inside(text, at, b'{');
    Members { cursor, more }
}

/// A cursor behind the bracket `open` at `at`, and whether something stands before the closing one.
fn inside(text: &[u8], at: usize, open: u8) -> (Cursor<'_>, bool) {
    let mut cursor = Cursor::new(text);
    cursor.at = at;
    // The closing ones stand two behind the opening ones in ASCII.
    let more = cursor.next() == Ok(open) && cursor.open(open + 2) == Ok(true);
    (cursor, more)
}

impl<'a> Iterator for Members<'a> {
    type Item = Member<'a>;

    fn next(&mut self) -> Option<Member<'a>> {
        if !std::mem::take(&mut self.more) {
            return None;
        }
        self.cursor.white_space();
        let start = self.cursor.at;
        let (raw, escaped) = self.cursor.raw_key().ok()?;
        let name = match escaped {
            false => String::from_utf8_lossy(raw),
            // A lone surrogate is no text: such a name is nobody's.
            true => unescape(raw).map_or_else(|_| String::from_utf8_lossy(raw), Cow::Owned),
        };
        let from = self.cursor.at;
        self.cursor.skip().ok()?;
        let value = from..self.cursor.at;
        self.more = self.cursor.more(b'}') == Ok(true);
        Some(Member { name, start, value })
    }
}

/// The elements of an array, in order. Ends early where the text is no JSON.
pub struct Elements<'a> {
    cursor: Cursor<'a>,
    more: bool,
}

/// The elements of the array which stands at `at` (white space before it is passed over); of anything else: none.
pub fn elements(text: &[u8], at: usize) -> Elements<'_> {
    let (cursor, more) = inside(text, at, b'[');
    Elements { cursor, more }
}

impl Iterator for Elements<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        if !std::mem::take(&mut self.more) {
            return None;
        }
        self.cursor.white_space();
        let start = self.cursor.at;
        self.cursor.skip().ok()?;
        let end = self.cursor.at;
        self.more = self.cursor.more(b']') == Ok(true);
        Some(start..end)
    }
}

/// The value of the member of that name; of several the last, as most parsers take it.
pub(super) fn value_of(text: &[u8], at: usize, name: &str) -> Option<Range<usize>> {
    members(text, at)
        .filter(|member| member.name == name)
        .last()
        .map(|member| member.value)
}

/// The object has a member of that name which is neither `false` nor `null`. (Lax servers take `"true"` and `1` for `true`, and of a
/// field that stands twice they may take either.)
pub(super) fn asks(text: &[u8], name: &str) -> bool {
    members(text, 0)
        .filter(|member| member.name == name)
        .any(|member| !matches!(&text[member.value], b"false" | b"null"))
}

/// The text of a JSON string; `None` if it is none.
pub(super) fn text_of<'a>(text: &'a [u8], at: &Range<usize>) -> Option<Cow<'a, str>> {
    let mut cursor = Cursor::new(text.get(at.clone())?);
    match cursor.byte() {
        Ok(b'"') => cursor.string_text().ok(),
        _ => None,
    }
}

/// The edits that take members out of the object at `at` and put `append` (members as JSON, with commas between them,
/// none at its ends; may be empty) behind the others. Commas come out right, wherever the members stand.
pub fn rewrite(text: &[u8], at: usize, mut drop: impl FnMut(&Member<'_>) -> bool, append: &[u8]) -> Vec<Splice> {
    let mut splices = Vec::new();
    // The end of the last member that stays, and where the members began that go after it.
    let mut kept: Option<usize> = None;
    let mut going: Option<Range<usize>> = None;
    for member in members(text, at) {
        if drop(&member) {
            let start = going.map_or(member.start, |going| going.start);
            going = Some(start..member.value.end);
            continue;
        }
        if let Some(going) = going.take() {
            splices.push(Splice {
                at: going.start..member.start,
                with: Bytes::new(),
            });
        }
        kept = Some(member.value.end);
    }
    let after = |end: usize| kept.unwrap_or(end);
    let at = match (going, kept) {
        (Some(going), _) => after(going.start)..going.end,
        (None, Some(kept)) => kept..kept,
        (None, None) => {
            let mut cursor = Cursor::new(text);
            cursor.at = at;
            cursor.white_space();
            let inside = (cursor.at + 1).min(text.len());
            inside..inside
        }
    };
    if !at.is_empty() || !append.is_empty() {
        let comma: &[u8] = if kept.is_some() && !append.is_empty() {
            b","
        } else {
            b""
        };
        splices.push(Splice {
            at,
            with: [comma, append].concat().into(),
        });
    }
    splices
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::translate::splice;

    #[test]
    fn members_and_elements_are_found() {
        let text = br#" { "a" : 1, "b\u0063":[ 1 , {"x":2},"]" ] ,"a":{} } "#;
        let found: Vec<_> = members(text, 0)
            .map(|m| {
                (
                    m.name.into_owned(),
                    String::from_utf8_lossy(&text[m.value]).into_owned(),
                )
            })
            .collect();
        let want = [("a", "1"), ("bc", r#"[ 1 , {"x":2},"]" ]"#), ("a", "{}")];
        assert_eq!(found, want.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let list = value_of(text, 0, "bc").expect("there");
        let found: Vec<_> = elements(text, list.start).map(|at| &text[at]).collect();
        assert_eq!(found, [&b"1"[..], br#"{"x":2}"#, br#""]""#]);
        assert_eq!(value_of(text, 0, "a").map(|at| &text[at]), Some(&b"{}"[..]), "the last");
        for none in [&b"[1]"[..], b"{}", b"{ }", b"", b"{", b"7"] {
            assert_eq!(members(none, 0).count(), 0);
        }
        assert_eq!(elements(b"[]", 0).count() + elements(b"{}", 0).count(), 0);
    }

    #[test]
    fn members_come_and_go_in_every_position() {
        let names = ["a", "b", "c", "d"];
        for space in ["", " ", "\n\t"] {
            for count in 0..=4usize {
                for gone in 0..1u32 << count {
                    for append in ["", r#""x":1"#, r#""x":1,"y":[]"#] {
                        let all: Vec<String> = names[..count]
                            .iter()
                            .map(|name| format!("{space}\"{name}\"{space}:{space}[\"{name}\"]{space}"))
                            .collect();
                        let body = format!("{space}{{{}{space}}}{space}", all.join(","));
                        let goes = |name: &str| {
                            names
                                .iter()
                                .position(|n| *n == name)
                                .is_some_and(|i| gone >> i & 1 == 1)
                        };
                        let splices = rewrite(body.as_bytes(), 0, |m| goes(&m.name), append.as_bytes());
                        assert!(gone > 0 || !append.is_empty() || splices.is_empty());
                        let edited = splice::apply(&body.clone().into(), splices);
                        let edited: serde_json::Value = serde_json::from_slice(&edited)
                            .unwrap_or_else(|error| panic!("{body} without {gone:b}: {error}: {edited:?}"));
                        let left: Vec<&str> = edited
                            .as_object()
                            .expect("an object")
                            .keys()
                            .map(String::as_str)
                            .collect();
                        let mut want: Vec<&str> = names[..count].iter().copied().filter(|n| !goes(n)).collect();
                        want.extend(["x", "y"].iter().take(append.matches(':').count()));
                        assert_eq!(left, want, "{body} without {gone:b}");
                    }
                }
            }
        }
    }
}
