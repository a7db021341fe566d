//! The sandbox's words: a deterministic text of any length, texts cut into words, values made up for a JSON Schema.

use std::fmt;
use std::sync::LazyLock;

use serde_json::{Map, Value};

/// The words, without anything JSON would escape. A text repeats after 64.
const WORDS: [&str; 64] = [
    "lorem",
    "ipsum",
    "dolor",
    "sit",
    "amet",
    "consectetur",
    "adipiscing",
    "elit",
    "sed",
    "do",
    "eiusmod",
    "tempor",
    "incididunt",
    "ut",
    "labore",
    "et",
    "dolore",
    "magna",
    "aliqua",
    "enim",
    "ad",
    "minim",
    "veniam",
    "quis",
    "nostrud",
    "exercitation",
    "ullamco",
    "laboris",
    "nisi",
    "aliquip",
    "ex",
    "ea",
    "commodo",
    "consequat",
    "duis",
    "aute",
    "irure",
    "in",
    "reprehenderit",
    "voluptate",
    "velit",
    "esse",
    "cillum",
    "eu",
    "fugiat",
    "nulla",
    "pariatur",
    "excepteur",
    "sint",
    "occaecat",
    "cupidatat",
    "non",
    "proident",
    "sunt",
    "culpa",
    "qui",
    "officia",
    "deserunt",
    "mollit",
    "anim",
    "id",
    "est",
    "laborum",
    "gate",
];

/// Words rendered ahead, each with the space before it, and where each begins.
struct Rendered {
    text: String,
    /// One more than there are words: the last is the length.
    starts: Vec<usize>,
}

/// Words in [`RENDERED`]; a multiple of the number of [`WORDS`], so that repeating it repeats them.
const RENDERED_WORDS: usize = 1024;

static RENDERED: LazyLock<Rendered> = LazyLock::new(|| {
    let mut text = String::new();
    let mut starts = vec![0];
    for word in WORDS.iter().cycle().take(RENDERED_WORDS) {
        text.push(' ');
        text.push_str(word);
        starts.push(text.len());
    }
    Rendered { text, starts }
});

/// The text of an answer, addressed by word.
#[derive(Clone, Debug)]
pub enum Text {
    /// So many words of the deterministic text.
    Lorem(u32),
    /// A given text and where each of its words ends; space goes with the word after it.
    Given {
        /// The text.
        text: String,
        /// Byte offsets; the last one is the length.
        ends: Vec<usize>,
    },
}

impl Text {
    /// A given text, cut into words.
    pub fn given(text: String) -> Text {
        let mut ends = Vec::new();
        let mut in_word = false;
        for (at, c) in text.char_indices() {
            if c.is_whitespace() && in_word {
                ends.push(at);
            }
            in_word = !c.is_whitespace();
        }
        if in_word {
            ends.push(text.len());
        }
        match ends.last_mut() {
            Some(last) => *last = text.len(),
            None if !text.is_empty() => ends.push(text.len()),
            None => {}
        }
        Text::Given { text, ends }
    }

    /// How many words there are.
    pub fn tokens(&self) -> u32 {
        match self {
            Text::Lorem(tokens) => *tokens,
            Text::Given { ends, .. } => u32::try_from(ends.len()).unwrap_or(u32::MAX),
        }
    }

    /// Appends words `from..to`.
    pub fn push(&self, from: u32, to: u32, out: &mut String) {
        match self {
            Text::Lorem(_) => lorem(from as usize, to as usize, out),
            Text::Given { text, ends } => {
                let offset = |word: u32| match word.checked_sub(1) {
                    Some(before) => ends.get(before as usize).copied().unwrap_or(text.len()),
                    None => 0,
                };
                out.push_str(&text[offset(from)..offset(to)]);
            }
        }
    }

    /// All of it.
    pub fn whole(&self) -> String {
        let mut out = String::new();
        self.push(0, self.tokens(), &mut out);
        out
    }
}

fn lorem(from: usize, to: usize, out: &mut String) {
    let rendered = &*RENDERED;
    let mut at = from;
    while at < to {
        let start = at % RENDERED_WORDS;
        let end = (start + (to - at)).min(RENDERED_WORDS);
        let piece = &rendered.text[rendered.starts[start]..rendered.starts[end]];
        // The very first word has no space before it.
        out.push_str(if at == 0 { &piece[1..] } else { piece });
        at += end - start;
    }
}

/// How many words a text has: the sandbox's idea of tokens.
pub fn words(text: &str) -> u64 {
    text.split_whitespace().count() as u64
}

/// A string as JSON writes it, quotes included.
pub struct Json<'a>(pub &'a str);

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.bytes().any(|b| b < 0x20 || b == b'"' || b == b'\\') {
            return f.write_str(&serde_json::to_string(self.0).map_err(|_| fmt::Error)?);
        }
        f.write_str("\"")?;
        f.write_str(self.0)?;
        f.write_str("\"")
    }
}

/// Deepest nesting of a made-up value; deeper schemas get `null`.
const SAMPLE_DEPTH: u32 = 16;

/// The smallest value that fits a JSON Schema: required properties only, strings are "sandbox", numbers 1.
/// Type names may be in capitals, as Gemini writes them. What the schema does not say is not checked.
pub fn sample(schema: &Value) -> Value {
    sample_in(schema, schema, SAMPLE_DEPTH)
}

fn sample_in(root: &Value, schema: &Value, depth: u32) -> Value {
    if depth == 0 {
        return Value::Null;
    }
    if let Some(pointer) = schema
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|r| r.strip_prefix('#'))
    {
        return root
            .pointer(pointer)
            .map_or(Value::Null, |target| sample_in(root, target, depth - 1));
    }
    if let Some(value) = schema
        .get("const")
        .or_else(|| schema.get("enum").and_then(|e| e.get(0)))
    {
        return value.clone();
    }
    for several in ["anyOf", "oneOf", "allOf"] {
        if let Some(first) = schema.get(several).and_then(|s| s.get(0)) {
            return sample_in(root, first, depth - 1);
        }
    }
    let kind = match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.first().and_then(Value::as_str),
        kind => kind.and_then(Value::as_str),
    };
    match kind.map(str::to_ascii_lowercase).as_deref() {
        Some("string") => string(schema),
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or(Value::from(1)),
        Some("boolean") => Value::Bool(true),
        Some("null") => Value::Null,
        Some("array") => {
            let least = schema
                .get("minItems")
                .and_then(Value::as_u64)
                .unwrap_or(0)
                .min(u64::from(SAMPLE_DEPTH));
            let item = schema
                .get("items")
                .map_or(Value::Null, |items| sample_in(root, items, depth - 1));
            Value::Array((0..least).map(|_| item.clone()).collect())
        }
        Some("object") => object(root, schema, depth),
        _ if schema.get("properties").is_some() => object(root, schema, depth),
        _ => Value::from("sandbox"),
    }
}

fn string(schema: &Value) -> Value {
    // At least as long as asked, within reason; patterns are not honoured.
    let least = schema.get("minLength").and_then(Value::as_u64).unwrap_or(0).min(1024);
    let mut text = "sandbox".to_owned();
    while (text.len() as u64) < least {
        text.push('x');
    }
    match schema.get("maxLength").and_then(Value::as_u64) {
        Some(most) if most < text.len() as u64 => text.truncate(usize::try_from(most).unwrap_or(0)),
        _ => {}
    }
    Value::from(text)
}

fn object(root: &Value, schema: &Value, depth: u32) -> Value {
    let mut object = Map::new();
    let required = schema.get("required").and_then(Value::as_array);
    for name in required.into_iter().flatten().filter_map(Value::as_str) {
        let value = schema.get("properties").and_then(|p| p.get(name));
        object.insert(
            name.to_owned(),
            value.map_or(Value::from("sandbox"), |v| sample_in(root, v, depth - 1)),
        );
    }
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pieces_of_any_size_add_up_to_the_whole() {
        for text in [
            Text::Lorem(3000),
            Text::given("  two words,\nand \u{e9}mu  ".to_owned()),
            Text::given("   ".to_owned()),
            Text::given(String::new()),
        ] {
            let whole = text.whole();
            for step in [1, 3, 1024, 5000] {
                let mut joined = String::new();
                let mut at = 0;
                while at < text.tokens() {
                    let to = (at + step).min(text.tokens());
                    text.push(at, to, &mut joined);
                    at = to;
                }
                assert_eq!(joined, whole, "in steps of {step}");
            }
        }
    }

    #[test]
    fn the_text_has_as_many_words_as_asked() {
        for tokens in [0, 1, 16, 1024, 1025, 5000] {
            assert_eq!(words(&Text::Lorem(tokens).whole()), u64::from(tokens));
        }
        assert_eq!(Text::given("a b\tc".to_owned()).tokens(), 3);
    }

    #[test]
    fn strings_are_escaped_as_json_wants() {
        for text in ["plain", "a\"b", "back\\slash", "line\nend", "\u{1}", "\u{fffd}é"] {
            let written = Json(text).to_string();
            assert_eq!(
                serde_json::from_str::<String>(&written).ok().as_deref(),
                Some(text),
                "{written}"
            );
        }
    }

    #[test]
    fn arguments_are_made_from_the_schema() {
        let schema = json!({
            "$defs": {"place": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}},
            "type": "object",
            "properties": {
                "where": {"$ref": "#/$defs/place"},
                "days": {"type": "integer"},
                "unit": {"type": "string", "enum": ["c", "f"]},
                "tags": {"type": "array", "items": {"type": "string"}, "minItems": 1},
                "maybe": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
                "optional": {"type": "string"},
            },
            "required": ["where", "days", "unit", "tags", "maybe"],
        });
        let expected =
            json!({"where": {"city": "sandbox"}, "days": 1, "unit": "c", "tags": ["sandbox"], "maybe": true});
        assert_eq!(sample(&schema), expected);
        assert_eq!(
            sample(&json!({"type": "OBJECT", "properties": {"a": {"type": "STRING"}}, "required": ["a"]})),
            json!({"a": "sandbox"})
        );
        assert_eq!(
            sample(&json!({"$ref": "#"})),
            Value::Null,
            "a schema which refers to itself ends"
        );
    }
}
