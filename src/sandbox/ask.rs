//! What a request asks, whatever its dialect, and why a request is refused.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::text::{sample, words};

/// A tool the client offers.
pub struct Offer {
    /// Its name.
    pub name: String,
    /// The JSON Schema of its arguments, not parsed yet.
    pub schema: Option<Box<RawValue>>,
}

impl Offer {
    /// Arguments that fit the schema.
    pub fn arguments(&self) -> Value {
        let schema = self.schema.as_ref().and_then(|s| serde_json::from_str(s.get()).ok());
        match schema.as_ref().map(sample) {
            Some(Value::Object(arguments)) => Value::Object(arguments),
            _ => Value::Object(serde_json::Map::new()),
        }
    }
}

/// A chat request, as far as the sandbox cares.
#[derive(Default)]
pub struct Ask {
    /// The model, as asked.
    pub model: String,
    /// A stream is asked for.
    pub stream: bool,
    /// Words of all texts of the request.
    pub words: u64,
    /// The last text of the user.
    pub last_text: String,
    /// Tools on offer; empty if the client forbids their use. The one it insists on comes first.
    pub tools: Vec<Offer>,
    /// The result of a tool, if that is the last message.
    pub tool_result: Option<String>,
    /// The JSON Schema which the answer must fit.
    pub schema: Option<Value>,
    /// The stream shall report usage (OpenAI Chat only says so if asked).
    pub include_usage: bool,
    /// A stream is framed as a JSON array (Gemini).
    pub json_array: bool,
    /// JSON members of the request which the answer repeats, each followed by a comma (OpenAI Responses).
    pub repeated: String,
}

impl Ask {
    /// Takes in a text of the request.
    pub fn heard(&mut self, text: &str) {
        self.words += words(text);
    }

    /// Takes in a content: a string, or parts with texts. Returns its text, joined.
    pub fn content(&mut self, raw: Option<&RawValue>) -> Result<String, Refusal> {
        let text = content_text(raw)?;
        self.heard(&text);
        Ok(text.into_owned())
    }

    /// Puts the tool of that name first.
    pub fn insist(&mut self, name: &str) {
        if let Some(at) = self.tools.iter().position(|tool| tool.name == name) {
            self.tools.swap(0, at);
        }
    }
}

#[derive(Deserialize)]
struct Part<'a> {
    text: Option<String>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

/// The text of a content: a string; an array of parts with `text` (or a nested `content`); one such part; or null.
pub fn content_text(raw: Option<&RawValue>) -> Result<Cow<'_, str>, Refusal> {
    let Some(raw) = raw.map(RawValue::get) else {
        return Ok(Cow::Borrowed(""));
    };
    let wrong = |_| Refusal::invalid("the content of a message must be a string or a list of parts", None);
    match raw.as_bytes().first() {
        Some(b'"') => match serde_json::from_str::<&str>(raw) {
            Ok(text) => Ok(Cow::Borrowed(text)),
            Err(_) => serde_json::from_str::<String>(raw).map(Cow::Owned).map_err(wrong),
        },
        Some(b'[') => {
            let mut joined = String::new();
            for part in serde_json::from_str::<Vec<Part<'_>>>(raw).map_err(wrong)? {
                push_part(&part, &mut joined)?;
            }
            Ok(Cow::Owned(joined))
        }
        Some(b'{') => {
            let mut joined = String::new();
            push_part(&serde_json::from_str(raw).map_err(wrong)?, &mut joined)?;
            Ok(Cow::Owned(joined))
        }
        _ => Ok(Cow::Borrowed("")),
    }
}

fn push_part(part: &Part<'_>, joined: &mut String) -> Result<(), Refusal> {
    let nested = content_text(part.content)?;
    for text in [part.text.as_deref().unwrap_or_default(), &nested] {
        if !text.is_empty() && !joined.is_empty() {
            joined.push('\n');
        }
        joined.push_str(text);
    }
    Ok(())
}

/// A request that is not answered as asked; each dialect writes it in its own shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// For people.
    pub message: String,
    /// The request field at fault.
    pub param: Option<&'static str>,
    /// Seconds for `Retry-After`.
    pub retry: Option<u32>,
}

impl Refusal {
    /// A refusal of that status.
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Refusal {
            status,
            message: message.into(),
            param: None,
            retry: None,
        }
    }

    /// The request is wrong (400).
    pub fn invalid(message: impl Into<String>, param: Option<&'static str>) -> Self {
        Refusal {
            param,
            ..Refusal::new(400, message)
        }
    }

    /// The body is no JSON, or not of the expected form (400).
    pub fn not_read(error: &serde_json::Error) -> Self {
        Refusal::invalid(format!("the body can't be read: {error}"), None)
    }

    /// A required field is missing (400).
    pub fn missing(field: &'static str) -> Self {
        Refusal::invalid(format!("the field `{field}` is missing"), Some(field))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str) -> String {
        let raw: &RawValue = serde_json::from_str(json).expect("JSON");
        content_text(Some(raw)).map(Cow::into_owned).expect(json)
    }

    #[test]
    fn contents_of_every_form_give_their_text() {
        assert_eq!(text(r#""plain""#), "plain");
        assert_eq!(text(r#""line\nend""#), "line\nend");
        assert_eq!(
            text(r#"[{"type":"text","text":"a"},{"type":"image"},{"type":"text","text":"b"}]"#),
            "a\nb"
        );
        assert_eq!(text(r#"{"text":"one part"}"#), "one part");
        assert_eq!(
            text(r#"[{"type":"tool_result","content":[{"type":"text","text":"deep"}]}]"#),
            "deep"
        );
        assert_eq!(text("null"), "");
    }
}
