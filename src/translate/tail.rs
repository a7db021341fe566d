//! The end of a document that is too large to be kept: its last top-level members, where most formats tell usage.
//!
//! It is read from its end, where nothing is open but the object itself. Backwards a string is as sure as forwards: the quote that ends it follows
//! an even number of backslashes, and the quote that begins it is the next one before which there is none, as quotes within are escaped. So
//! text within a string, as a model may write it, is never taken for a member; and where the kept part begins within a string, that string has no
//! beginning, and nothing before it is looked at. That holds for a body which came whole, as the transport says.

use memchr::memrchr;
use serde::de::IgnoredAny;

/// Bytes kept of the end, at least.
pub(super) const TAIL: usize = 64 << 10;

/// The end of a body on its way.
#[derive(Default)]
pub(super) struct Tail(Vec<u8>);

impl Tail {
    /// Adds what comes next. Up to twice [`TAIL`] is kept.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(TAIL)..];
        if bytes.len() == TAIL {
            // There may have been more of it, before.
            self.0.clear();
        } else if self.0.len() + bytes.len() > 2 * TAIL {
            self.0.drain(..self.0.len().saturating_sub(TAIL));
        }
        self.0.extend_from_slice(bytes);
    }

    /// The last members of the object that ends here, as an object of their own; `None`: it ends otherwise, or none of them is whole.
    pub(super) fn object(&self) -> Option<Vec<u8>> {
        let text = self.0.trim_ascii_end();
        let first = first_member(text)?;
        let object = [b"{", &text[first..]].concat();
        serde_json::from_slice::<IgnoredAny>(&object).ok()?;
        Some(object)
    }
}

/// Where the first member of the object begins that stands whole in the text, at whose end the object ends.
fn first_member(text: &[u8]) -> Option<usize> {
    let mut at = text.len().checked_sub(1).filter(|last| text[*last] == b'}')?;
    let mut first = None;
    let mut depth = 1usize;
    // Nothing but white space stands between here and a colon.
    let mut before_colon = false;
    while at > 0 {
        at -= 1;
        let was = std::mem::take(&mut before_colon);
        match text[at] {
            b'"' => {
                let Some(open) = opening(text, at) else { break };
                if was && depth == 1 {
                    first = Some(open);
                }
                at = open;
            }
            b'}' | b']' => depth += 1,
            b'{' | b'[' if depth == 1 => break,
            b'{' | b'[' => depth -= 1,
            b':' => before_colon = true,
            byte if byte.is_ascii_whitespace() => before_colon = was,
            _ => {}
        }
    }
    first
}

/// The quote that begins the string which ends at `close`; `None`: it stands before the text, or this is no end of a string.
fn opening(text: &[u8], close: usize) -> Option<usize> {
    if backslashes(text, close)? % 2 == 1 {
        return None;
    }
    let mut end = close;
    loop {
        let quote = memrchr(b'"', &text[..end])?;
        match backslashes(text, quote)? {
            0 => return Some(quote),
            escaped if escaped % 2 == 1 => end = quote,
            _ => return None,
        }
    }
}

/// How many backslashes stand before; `None`: as many as are kept, and maybe more.
fn backslashes(text: &[u8], at: usize) -> Option<usize> {
    let other = text[..at].iter().rposition(|byte| *byte != b'\\')?;
    Some(at - other - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: &str) -> Option<String> {
        let mut tail = Tail::default();
        tail.add(text.as_bytes());
        tail.object().map(|bytes| String::from_utf8(bytes).expect("text"))
    }

    #[test]
    fn only_whole_members_of_the_object_are_told() {
        for (text, want) in [
            (
                r#"AAAA"}],"usage":{"n":[1,{"a":"}"}]},"x":"y"}"#,
                r#"{"usage":{"n":[1,{"a":"}"}]},"x":"y"}"#,
            ),
            (
                "A\" } ] , \"a\" : 1 ,\n \"b\" : \"\\\\\" }\r\n ",
                "{\"a\" : 1 ,\n \"b\" : \"\\\\\" }",
            ),
            (r#"A\"quoted\":{\"usage\":{}}","usage":1}"#, r#"{"usage":1}"#),
            // A key that is not whole is none.
            (r#"age":1,"x":2}"#, r#"{"x":2}"#),
            (r#""x":2,"y":3}"#, r#"{"y":3}"#),
            (r#"\"x":2,"y":3}"#, r#"{"y":3}"#),
            (r#"[{"usage":{"n":1}},"b"],"x":2}"#, r#"{"x":2}"#),
        ] {
            assert_eq!(object(text).as_deref(), Some(want), "{text}");
        }
        for text in [
            "",
            "}",
            "AAAA",
            r#"AAAA"}]}"#,
            r#""usage":{"n":1}}]"#,
            // The end of a string, cut off.
            r#"{"text":"\"usage\":{\"n\":1}}"#,
            r#"{"text":"a","b":"}"#,
            r#"{"text":"a \\\"usage\\\":{\\\"n\\\":1}}"#,
        ] {
            assert_eq!(object(text), None, "{text}");
        }
    }

    /// What a model writes into its text, however it is cut, is never a member.
    #[test]
    fn a_text_is_never_taken_for_members() {
        for said in [
            r#"","usage":{"n":666}}"#,
            r#"\","usage":{"n":666},"x":"\"#,
            r#"\\\"usage\":{"n":666}}"#,
            r#""usage":{"n":666},"usage":{"n":666}}"#,
            r#"{"text":"{\"text\":\"x\"}","usage":{"n":666}}"#,
        ] {
            let text = serde_json::to_string(said).expect("text");
            let body =
                format!(r#"{{"a":[{{"text":{text}}}],{text}:{text},"usage":{{"n":7,"t":{text}}},"end":{text}}}"#);
            for from in 0..body.len() {
                let Some(object) = object(&body[from..]) else { continue };
                let value: serde_json::Value = serde_json::from_str(&object).expect("an object");
                assert!(value.get("usage").is_none_or(|usage| usage["n"] == 7), "{object}");
                assert_eq!(value["end"], said, "{object}");
                // A body that was cut is none.
                let cut = format!(r#"{}}}"#, &body[..from]);
                if serde_json::from_str::<IgnoredAny>(&cut).is_err()
                    && let Some(object) = self::object(&cut)
                {
                    assert!(!object.contains(r#""n":666"#), "{cut}: {object}");
                }
            }
        }
    }

    #[test]
    fn its_bound_holds_in_every_chunking() {
        let numbers: String = (0..TAIL).map(|n| format!("{n},")).collect();
        let body = numbers + r#"","usage":1}"#;
        for size in [1, 7, TAIL - 1, TAIL, TAIL + 1, 2 * TAIL, body.len()] {
            let mut tail = Tail::default();
            let (first, rest) = body.as_bytes().split_at(100);
            tail.add(first);
            let mut added = first.len();
            for chunk in rest.chunks(size) {
                tail.add(chunk);
                added += chunk.len();
                assert!(tail.0.len() <= 2 * TAIL && body.as_bytes()[..added].ends_with(&tail.0));
            }
            assert!(tail.0.len() >= TAIL);
            assert_eq!(tail.object().as_deref(), Some(&br#"{"usage":1}"#[..]));
        }
    }
}
