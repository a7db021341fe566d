//! Messages and the blocks they are made of: in requests, and in answers read to their end.

use serde_json::Value;

use super::stream::{Citation, Logprob, MediaKind, ToolKind};
use super::{Native, Opaque, Path};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The one who set the model up.
    System,
    /// The same, where the dialect tells the application's author from the platform.
    Developer,
    /// The user. Tool results are the user's blocks, whatever role the wire gives them.
    User,
    /// The model.
    Assistant,
}

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What, in order.
    pub blocks: Vec<Block>,
    /// The speaker's name, where the dialect has one.
    pub name: Option<String>,
    /// Where it stood.
    pub at: Path,
    /// Fields only its own dialect knows.
    pub native: Vec<Native>,
}

impl Message {
    /// A message without blocks.
    pub fn new(role: Role, at: impl Into<Path>) -> Self {
        Message {
            role,
            blocks: Vec::new(),
            name: None,
            at: at.into(),
            native: Vec::new(),
        }
    }

    /// The texts of its text blocks, joined.
    pub fn text(&self) -> String {
        self.blocks.iter().filter_map(Block::as_text).collect()
    }
}

/// A unit of content.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// What it is.
    pub content: Content,
    /// The prompt up to here is to be cached.
    pub cache: Option<CacheHint>,
    /// The provider-bound token of this block.
    pub opaque: Option<Opaque>,
    /// What its text refers to.
    pub citations: Vec<Citation<'static>>,
    /// Log probabilities of its tokens (answers only).
    pub logprobs: Vec<Logprob>,
    /// Where it stood.
    pub at: Path,
    /// Fields only its own dialect knows.
    pub native: Vec<Native>,
}

impl Block {
    /// A block with nothing but its content.
    pub fn new(content: Content, at: impl Into<Path>) -> Self {
        Block {
            content,
            cache: None,
            opaque: None,
            citations: Vec::new(),
            logprobs: Vec::new(),
            at: at.into(),
            native: Vec::new(),
        }
    }

    /// A text.
    pub fn text(text: impl Into<String>, at: impl Into<Path>) -> Self {
        Block::new(Content::Text(text.into()), at)
    }

    /// Its text, if it is a text block.
    pub fn as_text(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// How long a prompt cache should last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheHint {
    /// As the dialect wrote it (`5m`, `1h`); `None`: its default.
    pub ttl: Option<Box<str>>,
    /// The hint's own path.
    pub at: Path,
}

/// What a block is.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Visible text.
    Text(String),
    /// An image, a sound, a film, a document.
    Media(Media),
    /// Reasoning: in full or as a summary; an empty text with an opaque token is reasoning nobody may see.
    Reasoning(String),
    /// A call of one of the client's tools.
    ToolCall(ToolCall),
    /// What a tool gave back.
    ToolResult(ToolResult),
    /// The model refuses, in words.
    Refusal(String),
    /// Something only its own dialect knows: server tools, and what comes next year.
    Native(Native),
}

/// An image, a sound, a film, a document.
#[derive(Clone, Debug, PartialEq)]
pub struct Media {
    /// What it is.
    pub kind: MediaKind,
    /// Where its bytes are.
    pub source: MediaSource,
    /// Its type (`image/png`); `None`: unknown.
    pub mime: Option<String>,
    /// A file name or title.
    pub name: Option<String>,
    /// How closely to look (`low`, `high`, `auto`).
    pub detail: Option<String>,
}

/// Where media are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaSource {
    /// Here, as base64 (standard alphabet, padded, without white space).
    Inline(String),
    /// Here, as plain text (documents).
    Text(String),
    /// At an address, which the provider fetches; we never do.
    Url(String),
    /// At the provider, under this id.
    File(String),
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolCall {
    /// Its id; empty where the dialect gave none (see `Request::link_tools`).
    pub id: String,
    /// The tool's name.
    pub name: String,
    /// The arguments as they came: JSON text for functions (which may be cut), anything for custom tools.
    pub arguments: String,
    /// What kind of tool.
    pub kind: ToolKind,
    /// The group the tool belongs to, where the dialect groups tools.
    pub namespace: Option<String>,
}

/// What a tool gave back.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolResult {
    /// The call's id; empty where the dialect gave none (see `Request::link_tools`).
    pub call: String,
    /// The tool's name; `None` where the dialect did not say (see `Request::link_tools`).
    pub name: Option<String>,
    /// What: texts and media.
    pub blocks: Vec<Block>,
    /// The tool failed; `None`: not said.
    pub is_error: Option<bool>,
    /// What kind of tool.
    pub kind: ToolKind,
}

/// The JSON object in `arguments`: an empty text is no arguments; text that is not a JSON object gives `None`.
pub fn arguments_object(arguments: &str) -> Option<serde_json::Map<String, Value>> {
    if arguments.trim().is_empty() {
        return Some(serde_json::Map::new());
    }
    match serde_json::from_str(arguments) {
        Ok(Value::Object(map)) => Some(map),
        _ => None,
    }
}
