//! What rules change in a body: fields set, given a default, taken out. Works by splices: what no change names keeps its bytes.
//!
//! Semantics are those of changing the parsed object, one change after the other, with two additions. `null` is as good as
//! absent: a default takes its place, and so does an object that a path needs. And where a field stands several times, or
//! under two names of one field ([`Dialect::same_field`]), the last is meant, and with anything but a default the others go, so
//! that every parser sees the same.

use std::ops::Range;

use bytes::Bytes;
use serde_json::Value;

use super::splice;
use crate::dialects::settings::{self, PathError};
use crate::dialects::{Dialect, Splice, spans};

/// One change.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// Where: see [`settings`].
    pub path: &'a str,
    /// What becomes of it.
    pub how: How<'a>,
}

/// What becomes of a field.
#[derive(Clone, Copy, Debug)]
pub enum How<'a> {
    /// It has this value, whatever the client said. Objects on the way are made. It keeps the name that the body has for it.
    Set(&'a Value),
    /// It has this value if the client said nothing.
    Default(&'a Value),
    /// It goes. Nothing happens if there is none.
    Remove,
}

/// Why a body can't be changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The rule is wrong.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Something on the way is a list, a text or the like: the client sent something else than the rule expects.
    #[error("`{path}` can't be set: `{at}` is not an object in this request")]
    NotAnObject {
        /// The path of the change, as the rule writes it.
        path: String,
        /// What is not an object, in the dialect's own names.
        at: String,
    },
    /// The body is no JSON object (peek refuses such).
    #[error("the body is not a JSON object")]
    NotJson,
}

/// Makes the changes in order, later ones seeing earlier ones. A change of a setting which the dialect does not have is left out.
/// Without a change that changes something the body is returned as it is, uncopied.
pub fn apply(body: &Bytes, dialect: &dyn Dialect, changes: &[Change<'_>]) -> Result<Bytes, EditError> {
    let mut steps = Vec::with_capacity(changes.len());
    for change in changes {
        if let Some(names) = settings::resolve(dialect, change.path)? {
            steps.push(Step { names, change });
        }
    }
    let mut fields: Vec<Field<'_>> = Vec::new();
    for step in &steps {
        match fields
            .iter_mut()
            .find(|field| dialect.same_field(field.name, &step.names[0]))
        {
            Some(field) => field.steps.push((step, 0)),
            None => fields.push(Field::new(step, 0)),
        }
    }
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(EditError::NotJson);
    }
    Ok(splice::apply(body, object(body, dialect, fields)?))
}

/// A change, and the names its path comes to in the dialect.
struct Step<'a> {
    names: Vec<String>,
    change: &'a Change<'a>,
}

/// A member of one object, and what is done to it: steps, with the place of its name in their paths.
struct Field<'s> {
    name: &'s str,
    steps: Vec<(&'s Step<'s>, usize)>,
    /// Where its value stands; of several the last.
    value: Option<Range<usize>>,
    /// It stands several times.
    several: bool,
}

impl<'s> Field<'s> {
    fn new(step: &'s Step<'s>, depth: usize) -> Self {
        Field {
            name: &step.names[depth],
            steps: vec![(step, depth)],
            value: None,
            several: false,
        }
    }

    /// Of several only the last may stay, even if that is as it should be.
    fn settles(&self) -> bool {
        let firm = |how| !matches!(how, How::Default(_));
        self.several && self.steps.iter().any(|(step, _)| firm(step.change.how))
    }
}

/// What becomes of a member.
#[derive(PartialEq, Eq)]
enum Fate {
    /// Nothing.
    Stays,
    /// It goes, and all of its name.
    Goes,
    /// All of its name go but the last, whose value may have changed.
    Changes,
}

/// The edits of the object that `text` begins with.
fn object(text: &[u8], dialect: &dyn Dialect, mut fields: Vec<Field<'_>>) -> Result<Vec<Splice>, EditError> {
    for member in spans::members(text, 0) {
        if let Some(field) = fields
            .iter_mut()
            .find(|field| dialect.same_field(field.name, &member.name))
        {
            field.several = field.value.replace(member.value).is_some();
        }
    }
    let mut splices = Vec::new();
    let mut append = Vec::new();
    let mut fates = Vec::with_capacity(fields.len());
    for field in &fields {
        let old = field.value.clone().map(|at| &text[at]);
        let (new, name) = value(old, dialect, field)?;
        fates.push(match (new, &field.value) {
            (Became::Same, _) if field.settles() => Fate::Changes,
            (Became::Same, _) | (Became::Gone, None) => Fate::Stays,
            (Became::Gone, Some(_)) => Fate::Goes,
            (Became::New(json), Some(at)) if name.is_none() => {
                splices.push(Splice {
                    at: at.clone(),
                    with: json.into(),
                });
                Fate::Changes
            }
            // New, or taken out and set again, maybe by another of its names.
            (Became::New(json), old) => {
                if !append.is_empty() {
                    append.push(b',');
                }
                append.extend_from_slice(Value::from(name.unwrap_or(field.name)).to_string().as_bytes());
                append.push(b':');
                append.extend_from_slice(&json);
                if old.is_some() { Fate::Goes } else { Fate::Stays }
            }
        });
    }
    let goes = |member: &spans::Member<'_>| {
        let mut both = fields.iter().zip(&fates);
        both.find(|(field, _)| dialect.same_field(field.name, &member.name))
            .is_some_and(|(field, fate)| match fate {
                Fate::Stays => false,
                Fate::Goes => true,
                Fate::Changes => field.value.as_ref() != Some(&member.value),
            })
    };
    if !append.is_empty() || fates.iter().any(|fate| *fate != Fate::Stays) {
        splices.extend(spans::rewrite(text, 0, goes, &append));
    }
    Ok(splices)
}

/// What a value became.
enum Became {
    Same,
    New(Vec<u8>),
    Gone,
}

/// Does a field's steps to its value, one after the other. With the name it has from now on, if it was not there when it was
/// last set.
fn value<'s>(
    old: Option<&[u8]>,
    dialect: &dyn Dialect,
    field: &Field<'s>,
) -> Result<(Became, Option<&'s str>), EditError> {
    let mut now: Option<Bytes> = old.map(Bytes::copy_from_slice);
    let (mut touched, mut name) = (false, None);
    for &(step, depth) in &field.steps {
        let is_last = depth + 1 == step.names.len();
        let said = now.as_ref().filter(|json| &json[..] != b"null");
        let next = match (step.change.how, said) {
            (How::Remove, _) if is_last => None,
            (How::Set(new), _) if is_last => Some(json(new)),
            (How::Default(new), None) if is_last => Some(json(new)),
            (How::Default(_), Some(_)) if is_last => continue,
            (How::Remove, None) => continue,
            (How::Remove, Some(inner)) if inner[0] != b'{' => continue,
            (_, Some(inner)) if inner[0] != b'{' => {
                return Err(EditError::NotAnObject {
                    path: step.change.path.to_owned(),
                    at: step.names[..=depth].join("."),
                });
            }
            (_, inner) => {
                let inner = inner.cloned().unwrap_or_else(|| Bytes::from_static(b"{}"));
                let edits = object(&inner, dialect, vec![Field::new(step, depth + 1)])?;
                if edits.is_empty() {
                    continue;
                }
                Some(splice::apply(&inner, edits))
            }
        };
        if now.is_none() && next.is_some() {
            name = Some(step.names[depth].as_str());
        }
        touched |= now != next;
        now = next;
    }
    let became = match now {
        _ if !touched => Became::Same,
        Some(json) => Became::New(json.into()),
        None => Became::Gone,
    };
    Ok((became, name))
}

fn json(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}

#[cfg(test)]
#[path = "edit_tests.rs"]
mod tests;
