//! Instructions of rules: they join `systemInstruction`.

use std::ops::Range;

use super::fields::camel;
use crate::dialects::Splice;
use crate::dialects::instructions::{BETWEEN, Texts, put_first, splice};
use crate::dialects::spans::members;

/// The last member of that camelCase name, as either style of JSON writes it.
fn value_of(body: &[u8], at: usize, name: &str) -> Option<Range<usize>> {
    let found = members(body, at).filter(|member| camel(&member.name) == name);
    found.last().map(|member| member.value)
}

/// Where the conversation's object begins: the body, or within a request for a count. `None`: there is no conversation (vectors).
fn conversation(body: &[u8]) -> Option<usize> {
    match value_of(body, 0, "generateContentRequest") {
        Some(inner) => (body[inner.start] == b'{').then_some(inner.start),
        None => value_of(body, 0, "contents").map(|_| 0),
    }
}

/// A content (with a list of parts, or one), a list of parts, or a text: what the API reads as instructions.
pub(super) fn add(body: &[u8], before: Option<&str>, after: Option<&str>) -> Vec<Splice> {
    let (Some(texts), Some(at)) = (Texts::new(before, after), conversation(body)) else {
        return Vec::new();
    };
    let content = || format!(r#"{{"parts":[{{"text":{}}}]}}"#, texts.json());
    match value_of(body, at, "systemInstruction") {
        None => vec![put_first(body, at, format!(r#""systemInstruction":{}"#, content()))],
        Some(system) => match body[system.start] {
            b'n' => vec![splice(system, content())],
            b'"' => texts.join(&system),
            b'[' => around(body, &system, texts),
            b'{' => match value_of(body, system.start, "parts") {
                Some(one) if body[one.start] == b'[' => around(body, &one, texts),
                Some(one) if body[one.start] == b'{' => {
                    // A part alone becomes one of a list, and the list goes around it.
                    let [before, after] = texts.beside(BETWEEN);
                    let open = before.map_or("[".to_owned(), |text| format!(r#"[{{"text":{text}}},"#));
                    let close = after.map_or("]".to_owned(), |text| format!(r#",{{"text":{text}}}]"#));
                    vec![splice(one.start..one.start, open), splice(one.end..one.end, close)]
                }
                Some(one) if body[one.start] == b'n' => {
                    vec![splice(one, format!(r#"[{{"text":{}}}]"#, texts.json()))]
                }
                Some(one) if body[one.start] == b'"' => texts.join(&one),
                Some(_) => Vec::new(),
                None => {
                    let parts = format!(r#""parts":[{{"text":{}}}]"#, texts.json());
                    vec![put_first(body, system.start, parts)]
                }
            },
            _ => Vec::new(),
        },
    }
}

fn around(body: &[u8], list: &Range<usize>, texts: Texts<'_>) -> Vec<Splice> {
    texts.around(body, list, BETWEEN, |text| format!(r#"{{"text":{text}}}"#))
}
