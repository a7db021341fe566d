//! Texts of rules before and after a request's instructions (the system prompt), as edits: everything else keeps its bytes.
//!
//! Where instructions stand already, the texts join them: into the same string, with an empty line between, or as parts of
//! the same list. So the number of messages stays, and templates of open models that take one system message, and it
//! first, are content (llama.cpp: "System message must be at the beginning"). Prompt caches don't mind either way: they go by
//! the prefix, and a text that is always the same is as good a prefix in one message as in two. What comes *before* is the
//! better place for a cache shared among clients, what comes *after* leaves the client's own prefix as it was.

use std::ops::Range;

use bytes::Bytes;
use serde_json::Value;

use super::Splice;
use super::spans::members;

/// What stands between texts in one string.
pub(super) const BETWEEN: &str = "\n\n";

/// What is to be put where; not both absent, none empty.
#[derive(Clone, Copy)]
pub(super) struct Texts<'t> {
    before: Option<&'t str>,
    after: Option<&'t str>,
}

impl<'t> Texts<'t> {
    /// `None`: there is nothing to be put anywhere.
    pub(super) fn new(before: Option<&'t str>, after: Option<&'t str>) -> Option<Self> {
        let some = |text: Option<&'t str>| text.filter(|text| !text.is_empty());
        let texts = Texts {
            before: some(before),
            after: some(after),
        };
        (texts.before.is_some() || texts.after.is_some()).then_some(texts)
    }

    /// The one before alone, and the one after alone: for where instructions stand in two places.
    pub(super) fn apart(self) -> [Option<Self>; 2] {
        [Self::new(self.before, None), Self::new(None, self.after)]
    }

    /// Both as one, where there are no instructions.
    pub(super) fn whole(self) -> String {
        let both: Vec<&str> = self.before.into_iter().chain(self.after).collect();
        both.join(BETWEEN)
    }

    /// Both as one JSON string.
    pub(super) fn json(self) -> String {
        Value::from(self.whole()).to_string()
    }

    /// Joins them to the JSON string at `at`.
    pub(super) fn join(self, at: &Range<usize>) -> Vec<Splice> {
        if at.len() <= 2 {
            return vec![splice(at.clone(), self.json())];
        }
        let before = self.before.map(|text| {
            let inside = at.start + 1;
            splice(inside..inside, inner(format!("{text}{BETWEEN}")))
        });
        let after = self.after.map(|text| {
            let inside = at.end - 1;
            splice(inside..inside, inner(format!("{BETWEEN}{text}")))
        });
        before.into_iter().chain(after).collect()
    }

    /// Each as a JSON string, to stand in a list beside the client's own, with `between` as part of ours.
    pub(super) fn beside(self, between: &str) -> [Option<String>; 2] {
        let json = |text: String| Value::from(text).to_string();
        let before = self.before.map(|text| json(format!("{text}{between}")));
        [before, self.after.map(|text| json(format!("{between}{text}")))]
    }

    /// Puts them around the elements of the list at `at`, each as what `part` makes of its JSON string. `between`:
    /// [`BETWEEN`] where parts of a list are one text, read without anything between them; nothing where each is a text of its own.
    pub(super) fn around(
        self,
        body: &[u8],
        at: &Range<usize>,
        between: &str,
        part: impl Fn(&str) -> String,
    ) -> Vec<Splice> {
        let (open, close) = (at.start + 1, at.end.saturating_sub(1).max(at.start + 1));
        if body[open..close].iter().all(u8::is_ascii_whitespace) {
            return vec![splice(open..open, part(&self.json()))];
        }
        let [before, after] = self.beside(between);
        let before = before.map(|text| splice(open..open, part(&text) + ","));
        let after = after.map(|text| splice(close..close, format!(",{}", part(&text))));
        before.into_iter().chain(after).collect()
    }
}

/// What a JSON string has between its quotes, for this text.
fn inner(text: String) -> String {
    let json = Value::from(text).to_string();
    json[1..json.len() - 1].to_owned()
}

/// One edit.
pub(super) fn splice(at: Range<usize>, with: String) -> Splice {
    Splice {
        at,
        with: Bytes::from(with),
    }
}

/// The edit which puts a member (`"name":value`) first into the object at `at`.
pub(super) fn put_first(body: &[u8], at: usize, member: String) -> Splice {
    let brace = body[at..].iter().position(|byte| *byte == b'{').unwrap_or(0);
    let inside = at + brace + 1;
    let comma = if members(body, at).next().is_some() { "," } else { "" };
    splice(inside..inside, member + comma)
}
