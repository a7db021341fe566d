//! Our own requests and answers: `fixtures/DIALECT/*.json` are requests, `fixtures/answers/DIALECT.NAME.{json,sse}` answers.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tollgate::dialects::{self, Dialect};

use crate::answers::Answer;

/// A request of ours.
pub struct Fixture {
    /// `openai_chat/tools`.
    pub id: String,
    pub dialect: &'static dyn Dialect,
    pub body: Value,
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

/// A model that speaks a dialect: encoders know what models take.
pub fn model(dialect: &str) -> &'static str {
    match dialect {
        "openai_chat" | "openai_responses" => "gpt-5.5",
        "anthropic" => "claude-opus-4-6",
        _ => "gemini-2.5-flash",
    }
}

impl Fixture {
    /// A model of its own dialect that takes all it says.
    pub fn own_model(&self) -> &'static str {
        let text = self.body.to_string();
        let says = |what: &str| text.contains(what);
        match self.dialect.id().as_str() {
            "gemini" if says("thinkingLevel") || says("\"parts\":[{\"inlineData\"") => "gemini-3.5-flash",
            "anthropic" if says("\"role\":\"system\"") => "claude-opus-5-5",
            "anthropic" if says("top_p") => "claude-3-7-sonnet-20250219",
            "openai_chat" if says("reasoning_content") => "glm-4.6",
            "openai_chat" if says("temperature") => "gpt-4.1",
            name => model(name),
        }
    }
}

/// The folder of the fixtures.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/convert/fixtures")
}

fn stem(path: &Path) -> String {
    path.file_stem().expect("a name").to_string_lossy().into_owned()
}

/// All requests.
pub fn requests() -> Vec<Fixture> {
    let mut fixtures = Vec::new();
    for dialect in dialects::ALL {
        for path in files(&folder().join(dialect.id().as_str())) {
            let text = std::fs::read_to_string(&path).expect("a fixture can be read");
            let mut fixture = Fixture {
                id: format!("{}/{}", dialect.id(), stem(&path)),
                dialect: *dialect,
                body: serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())),
            };
            let own = fixture.own_model();
            if let Some(model) = fixture.body.get_mut("model") {
                *model = own.into();
            }
            fixtures.push(fixture);
        }
    }
    fixtures
}

/// All answers.
pub fn answers() -> Vec<Answer> {
    files(&folder().join("answers"))
        .iter()
        .map(|path| {
            let id = stem(path);
            let dialect = id.split('.').next().unwrap_or("");
            Answer {
                dialect: dialects::by_name(dialect).unwrap_or_else(|| panic!("{id}: no such dialect")),
                stream: path.extension().is_some_and(|extension| extension == "sse"),
                body: std::fs::read_to_string(path).expect("a fixture can be read"),
                id,
            }
        })
        .collect()
}
