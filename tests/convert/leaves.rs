//! The leaves of a JSON document, and what may stand in their place: unique sentinels for texts and numbers, other words
//! for words, the opposite for booleans.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Number, Value};

/// Fields whose words steer what is asked, with the words that may stand there: such a leaf keeps its word, and is proved
/// by what changes when it has another one. Words which are alone in their list have no other.
const WORDS: &[(&str, &[&str])] = &[
    ("effort", &["low", "high", "xhigh"]),
    ("reasoning_effort", &["low", "high"]),
    ("thinkingLevel", &["LOW", "HIGH"]),
    ("summary", &["auto", "detailed"]),
    ("generate_summary", &["auto", "detailed"]),
    ("verbosity", &["low", "high"]),
    ("detail", &["low", "high"]),
    ("service_tier", &["flex", "priority"]),
    ("service_tier", &["auto", "standard_only"]),
    ("ttl", &["5m", "1h"]),
    ("ttl", &["30m"]),
    ("truncation", &["auto", "disabled"]),
    ("prompt_cache_retention", &["in_memory", "24h"]),
    ("tool_choice", &["required", "none"]),
    ("function_call", &["auto", "none"]),
    ("mode", &["auto", "required"]),
    ("mode", &["explicit", "implicit"]),
    ("mode", &["ANY", "NONE"]),
    ("modalities", &["text", "audio"]),
    ("responseModalities", &["TEXT", "IMAGE"]),
    ("phase", &["commentary", "final_answer"]),
    ("display", &["summarized", "omitted"]),
    ("mime_type", &["image/png", "image/jpeg"]),
    ("media_type", &["image/png", "image/jpeg"]),
    ("mimeType", &["image/png", "image/jpeg"]),
    ("mimeType", &["audio/wav", "audio/mp3"]),
    ("mimeType", &["video/mp4", "video/webm"]),
    ("mimeType", &["application/pdf"]),
    ("mimeType", &["text/plain"]),
    ("mime_type", &["application/pdf"]),
    ("media_type", &["application/pdf"]),
    ("media_type", &["text/plain"]),
    ("responseMimeType", &["application/json"]),
    ("format", &["wav", "mp3"]),
    ("format", &["date-time", "date"]),
    ("syntax", &["lark", "regex"]),
    ("status", &["completed", "incomplete"]),
    ("quality", &["low", "high"]),
];

/// Fields whose text keeps its place and has no other: it says what the rest is, or names a key which stays.
const KEPT: &[&str] = &[
    "type",
    "role",
    "required",
    "propertyOrdering",
    "$ref",
    "$schema",
    "model",
];

/// What stands at a leaf.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A text or a number which was replaced. Any of these texts in the output shows that it is there.
    Sentinel(Vec<String>),
    /// A word or a boolean, with what else may stand there.
    Switch(Vec<Value>),
    /// Something that stays as it is, and is proved by the rest.
    Kept,
}

/// One leaf.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// Its path, as codecs write paths: `messages[0].content[1].text`.
    pub path: String,
    pub kind: Kind,
}

/// Replaces all leaves of a document that can be, and lists them. Equal texts get equal sentinels, so that ids still meet.
pub fn mark(document: &mut Value) -> Vec<Leaf> {
    let mut marker = Marker::default();
    marker.node(document, "", "");
    marker.leaves
}

#[derive(Default)]
struct Marker {
    leaves: Vec<Leaf>,
    texts: HashMap<String, u64>,
    next: u64,
}

impl Marker {
    fn node(&mut self, value: &mut Value, path: &str, key: &str) {
        let kind = match value {
            Value::Object(map) if map.is_empty() => Kind::Kept,
            Value::Array(list) if list.is_empty() => Kind::Kept,
            Value::Object(map) => {
                for (name, value) in map {
                    let path = if path.is_empty() {
                        name.clone()
                    } else {
                        format!("{path}.{name}")
                    };
                    self.node(value, &path, name);
                }
                return;
            }
            Value::Array(list) => {
                for (index, value) in list.iter_mut().enumerate() {
                    self.node(value, &format!("{path}[{index}]"), key);
                }
                return;
            }
            Value::Null => return,
            Value::Bool(on) => Kind::Switch(vec![Value::Bool(!*on)]),
            Value::Number(number) => {
                *number = self.number(number);
                Kind::Sentinel(vec![number.to_string()])
            }
            Value::String(text) => self.text(text, path, key),
        };
        self.leaves.push(Leaf {
            path: path.to_owned(),
            kind,
        });
    }

    fn number(&mut self, number: &Number) -> Number {
        self.next += 1;
        match number.as_i64() {
            Some(whole) if whole >= 1000 => (whole + self.next as i64).into(),
            Some(_) => (700 + self.next as i64).into(),
            None => Number::from_f64(0.5 + self.next as f64 / 8192.0).expect("finite"),
        }
    }

    fn text(&mut self, text: &mut String, path: &str, key: &str) -> Kind {
        let words = WORDS
            .iter()
            .find(|(name, words)| *name == key && words.contains(&text.as_str()));
        if let Some((_, words)) = words {
            let others = words.iter().filter(|word| *word != text);
            return Kind::Switch(others.map(|word| Value::from(*word)).collect());
        }
        if KEPT.contains(&key) || text.is_empty() {
            return Kind::Kept;
        }
        let mut needles = Vec::new();
        self.replace(text, path, &mut needles);
        if needles.is_empty() {
            Kind::Kept
        } else {
            Kind::Sentinel(needles)
        }
    }

    fn replace(&mut self, text: &mut String, path: &str, needles: &mut Vec<String>) {
        if text.starts_with('{')
            && let Ok(mut inner) = serde_json::from_str::<Value>(text)
        {
            // JSON in a text (a call's arguments): all that is in it.
            let mut marker = Marker {
                next: self.next,
                ..Marker::default()
            };
            marker.node(&mut inner, "", "");
            self.next = marker.next;
            let within = marker
                .leaves
                .into_iter()
                .filter(|leaf| matches!(leaf.kind, Kind::Sentinel(_)));
            self.leaves.extend(within.map(|leaf| Leaf {
                path: path.to_owned(),
                kind: leaf.kind,
            }));
            *text = inner.to_string();
            return;
        }
        let number = match self.texts.get(text.as_str()) {
            Some(number) => *number,
            None => {
                self.next += 1;
                self.texts.insert(text.clone(), self.next);
                self.next
            }
        };
        let sentinel = format!("zq{number:04}zq");
        let data = |encoded: &str| is_base64(encoded).then(|| STANDARD.encode(format!("{sentinel} is here")));
        let (head, tail) = text.split_once(',').unwrap_or(("", text));
        if head.starts_with("data:")
            && let Some(encoded) = data(tail)
        {
            *text = format!("{head},{encoded}");
            needles.push(encoded);
        } else if let Some(encoded) = data(text) {
            needles.push(encoded.clone());
            *text = encoded;
        } else if let Some((scheme, _)) = text.split_once("://") {
            *text = format!("{scheme}://{sentinel}.example/x");
        } else {
            text.clone_from(&sentinel);
            // Plain text may become a file, in base64.
            needles.push(STANDARD.encode(&sentinel));
        }
        needles.push(sentinel);
    }
}

/// Fixtures hold base64 of English with a space in it, so that it can be told from words.
fn is_base64(text: &str) -> bool {
    let plain = |bytes: Vec<u8>| bytes.is_ascii() && bytes.contains(&b' ');
    STANDARD.decode(text).is_ok_and(plain)
}

/// Puts another value at a path.
pub fn replaced(document: &Value, path: &str, with: &Value) -> Value {
    let mut document = document.clone();
    let pointer = format!("/{}", path.replace('[', ".").replace(']', "").replace('.', "/"));
    *document.pointer_mut(&pointer).expect("a path of the document") = with.clone();
    document
}

/// True if a loss told at `told` speaks of the leaf at `leaf`: it names it or what it stands in. `deaf` compares as Gemini
/// reads names: `top_k` is `topK`.
pub fn speaks_of(told: &str, leaf: &str, deaf: bool) -> bool {
    let plain = |path: &str| {
        if deaf {
            path.replace('_', "").to_lowercase()
        } else {
            path.to_owned()
        }
    };
    let (told, leaf) = (plain(told), plain(leaf));
    !told.is_empty()
        && leaf
            .strip_prefix(&told)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// True if the output holds the sentinel: as a text, in a text, or as a number of its own.
pub fn holds(output: &str, needle: &str) -> bool {
    let digit = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit() || c == '.');
    output.match_indices(needle).any(|(at, _)| {
        !needle.starts_with(|c: char| c.is_ascii_digit())
            || !digit(output[..at].chars().next_back()) && !digit(output[at + needle.len()..].chars().next())
    })
}

#[test]
fn leaves_are_marked_and_found() {
    let text = STANDARD.encode("some picture bytes");
    let mut document = serde_json::json!({
        "messages": [{"role": "user", "content": "Hello there", "id": "a"}, {"id": "a", "arguments": "{\"x\":[1,\"y\"]}"}],
        "url": format!("data:image/png;base64,{text}"),
        "stream": true,
        "temperature": 0.5,
    });
    let leaves = mark(&mut document);
    let output = document.to_string();
    assert_eq!(document["messages"][0]["id"], document["messages"][1]["id"]);
    assert_eq!(leaves[0].path, "messages[0].role");
    assert_eq!(leaves[0].kind, Kind::Kept);
    let sentinels = leaves.iter().filter_map(|leaf| match &leaf.kind {
        Kind::Sentinel(needles) => Some(needles),
        _ => None,
    });
    let mut count = 0;
    for needles in sentinels {
        count += 1;
        assert!(
            needles.iter().any(|needle| holds(&output, needle)),
            "{needles:?} in {output}"
        );
    }
    assert_eq!(count, 7, "{leaves:?}");
    assert!(speaks_of("messages[0]", "messages[0].content", false));
    assert!(!speaks_of("messages[1]", "messages[10].content", false));
    assert!(!speaks_of("", "messages[0]", false));
    assert!(!holds("{\"a\":7012}", "701"));
    assert_eq!(
        replaced(&document, "messages[1].id", &"b".into())["messages"][1]["id"],
        "b"
    );
}
