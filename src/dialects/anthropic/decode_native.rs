//! Blocks only this dialect knows (server tools ...), gathered: they are told when they are complete, so that a stream
//! tells them as a whole answer has them.

use serde_json::{Map, Value};

use super::wire::DeltaWire;

/// Most bytes kept of what comes in pieces; further ones are lost.
const MAX_PIECES: usize = 4 << 20;

/// One such block, so far.
pub(super) struct Native {
    /// Its number on the wire.
    pub(super) wire: u32,
    /// Its number in the hub.
    pub(super) block: u32,
    kind: String,
    json: String,
    /// Pieces of its `input`.
    input: String,
    /// What else came in pieces.
    fields: Map<String, Value>,
    bytes: usize,
}

impl Native {
    /// A block, as it stands where it begins.
    pub(super) fn new(wire: u32, block: u32, kind: &str, json: &str) -> Self {
        Native {
            wire,
            block,
            kind: kind.to_owned(),
            json: json.to_owned(),
            input: String::new(),
            fields: Map::new(),
            bytes: 0,
        }
    }

    /// Takes a delta, whose JSON stands beside it.
    pub(super) fn piece(&mut self, delta: &DeltaWire<'_>, json: &[u8]) {
        self.bytes = self.bytes.saturating_add(json.len());
        if self.bytes > MAX_PIECES {
            return;
        }
        if delta.kind.as_str() == "input_json_delta" {
            self.input.push_str(delta.partial_json.as_str());
        } else if let Ok(Value::Object(fields)) = serde_json::from_slice(json) {
            for (key, piece) in fields.into_iter().filter(|(key, _)| key != "type") {
                append(&mut self.fields, key, piece);
            }
        }
    }

    /// Its type, and its JSON with the pieces in their places.
    pub(super) fn complete(self) -> (String, String) {
        if self.input.is_empty() && self.fields.is_empty() {
            return (self.kind, self.json);
        }
        let Ok(Value::Object(mut block)) = serde_json::from_str(&self.json) else {
            return (self.kind, self.json);
        };
        if !self.input.is_empty() {
            let input = serde_json::from_str(&self.input).unwrap_or(Value::String(self.input));
            block.insert("input".into(), input);
        }
        block.extend(self.fields);
        (self.kind, Value::Object(block).to_string())
    }
}

/// A piece of a field: texts are joined, anything else takes the place of what was there.
fn append(fields: &mut Map<String, Value>, key: String, piece: Value) {
    match (fields.get_mut(&key), piece) {
        (Some(Value::String(text)), Value::String(piece)) => text.push_str(&piece),
        (_, piece) => drop(fields.insert(key, piece)),
    }
}
