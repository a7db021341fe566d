//! One recording, as far as it is needed here. Its form: `../shared/wire/README.md`.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

/// A recorded exchange.
pub struct Case {
    pub id: String,
    pub wire: String,
    pub provider: String,
    /// The answer came as server-sent events.
    pub stream: bool,
    pub method: String,
    /// With its query.
    pub path: String,
    /// Empty for a GET.
    pub request: Vec<u8>,
    pub status: u16,
    pub content_type: String,
    pub answer: Vec<u8>,
}

#[derive(Deserialize)]
struct Raw {
    id: String,
    wire: String,
    provider: String,
    stream: bool,
    request: RawRequest,
    response: RawResponse,
}

#[derive(Deserialize)]
struct RawRequest {
    method: String,
    path: String,
    body: Option<Value>,
}

#[derive(Deserialize)]
struct RawResponse {
    status: u16,
    #[serde(default)]
    headers: std::collections::HashMap<String, String>,
    body_text: Option<String>,
    sse_text: Option<String>,
}

/// Where material which is not part of the project may be.
pub fn shared() -> PathBuf {
    match std::env::var_os("TOLLGATE_SHARED") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"),
    }
}

/// Where the recordings are, if they are.
pub fn folder() -> Option<PathBuf> {
    let folder = shared().join("wire/cases");
    folder.is_dir().then_some(folder)
}

/// All of them, in the order of their ids.
pub fn load(folder: &Path) -> Vec<Case> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "json") && !path.ends_with("index.json"))
        .collect();
    files.sort();
    files.iter().map(|file| one(file)).collect()
}

fn one(file: &Path) -> Case {
    let raw: Raw = serde_json::from_slice(&std::fs::read(file).unwrap())
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let header = |name: &str| {
        let mut headers = raw.response.headers.iter();
        headers
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.clone())
    };
    let usual = if raw.stream {
        "text/event-stream"
    } else {
        "application/json"
    };
    let text = if raw.stream {
        raw.response.sse_text
    } else {
        raw.response.body_text
    };
    let request = match (&raw.request.body, raw.request.method.as_str()) {
        (_, "GET") => Vec::new(),
        (Some(body), _) => serde_json::to_vec(body).unwrap(),
        (None, _) => serde_json::to_vec(&smallest(&raw.wire, raw.stream)).unwrap(),
    };
    Case {
        content_type: header("content-type").unwrap_or_else(|| usual.to_owned()),
        id: raw.id,
        wire: raw.wire,
        provider: raw.provider,
        stream: raw.stream,
        method: raw.request.method,
        path: raw.request.path,
        request,
        status: raw.response.status,
        answer: text.unwrap_or_default().into_bytes(),
    }
}

/// Of some exchanges only the answer was recorded.
fn smallest(wire: &str, stream: bool) -> Value {
    match wire {
        "gemini" => json!({ "contents": [{ "parts": [{ "text": "ping" }] }] }),
        "openai_responses" => json!({ "model": "m", "input": "ping", "stream": stream }),
        _ => json!({ "model": "m", "messages": [{ "role": "user", "content": "ping" }], "stream": stream }),
    }
}

impl Case {
    /// The dialect it speaks, as rules name it.
    pub fn dialect(&self) -> &'static str {
        let known = [
            ("openai_responses", "openai_responses"),
            ("anthropic", "anthropic"),
            ("gemini", "gemini"),
        ];
        let found = known.iter().find(|(prefix, _)| self.wire.starts_with(prefix));
        found.map_or("openai_chat", |(_, dialect)| dialect)
    }

    /// Lists of models are answered by the gateway itself; the recorded ones pass through `/p/{provider}/...`.
    pub fn passes_through(&self) -> bool {
        self.wire.ends_with("_models")
    }
}
