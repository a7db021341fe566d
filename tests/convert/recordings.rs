//! Recorded traffic, where it is there.

use std::collections::BTreeMap;
use std::path::PathBuf;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Deserialize;
use serde_json::Value;
use tollgate::dialects::{self, Dialect, Line, Target};

/// One recorded exchange.
#[derive(Deserialize)]
pub struct Case {
    pub id: String,
    pub wire: String,
    pub stream: bool,
    pub request: Option<Request>,
    pub response: Response,
}

#[derive(Deserialize)]
pub struct Request {
    pub path: String,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    pub body: Option<Value>,
}

#[derive(Deserialize)]
pub struct Response {
    pub status: u16,
    #[serde(default)]
    body_text: Option<String>,
    #[serde(default)]
    sse_text: Option<String>,
}

impl Case {
    /// The answer's body.
    pub fn body(&self) -> &str {
        let body = if self.stream {
            &self.response.sse_text
        } else {
            &self.response.body_text
        };
        body.as_deref().unwrap_or("")
    }

    pub fn dialect(&self) -> &'static dyn Dialect {
        dialects::by_name(&self.wire).expect("a case of a conversation")
    }

    /// What was asked, as the gateway would recognise it.
    pub fn target(&self) -> Target {
        let own = || target(&self.wire, self.stream);
        let Some(request) = &self.request else { return own() };
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let mut headers = HeaderMap::new();
        for (name, value) in &request.headers {
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
                headers.insert(name, value);
            }
        }
        let line = Line {
            method: &Method::POST,
            path,
            query,
            headers: &headers,
        };
        match dialects::find(line) {
            Some(target) if target.dialect.id().as_str() == self.wire => target,
            _ => own(),
        }
    }
}

/// What a client of that dialect asks for a conversation's next message.
pub fn target(dialect: &str, stream: bool) -> Target {
    let path = match (dialect, stream) {
        ("openai_chat", _) => "/v1/chat/completions",
        ("openai_responses", _) => "/v1/responses",
        ("anthropic", _) => "/v1/messages",
        (_, false) => "/v1beta/models/the-model:generateContent",
        (_, true) => "/v1beta/models/the-model:streamGenerateContent",
    };
    let headers = HeaderMap::new();
    let line = Line {
        method: &Method::POST,
        path,
        query: if stream { "alt=sse" } else { "" },
        headers: &headers,
    };
    let target = dialects::find(line).expect("a known path");
    assert_eq!(target.dialect.id().as_str(), dialect);
    target
}

/// The folder shared by all sessions of the project, where it is there.
pub fn shared() -> PathBuf {
    let shared = std::env::var_os("TOLLGATE_SHARED").map(PathBuf::from);
    shared.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"))
}

/// All recorded conversations, in order of their names; none where there are no recordings.
pub fn cases() -> Vec<Case> {
    let folder = shared().join("wire/cases");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        eprintln!("SKIPPED: no recordings in {} (set TOLLGATE_SHARED)", folder.display());
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "json") && !path.ends_with("index.json"));
    paths.sort();
    let mut cases: Vec<Case> = paths
        .iter()
        .map(|path| {
            let text = std::fs::read(path).expect("a recording can be read");
            serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        })
        .collect();
    cases.retain(|case| dialects::by_name(&case.wire).is_some());
    cases
}

/// Recorded conversations which went well.
pub fn answered() -> Vec<Case> {
    let mut cases = cases();
    cases.retain(|case| case.response.status < 400 && !case.body().is_empty());
    cases
}
