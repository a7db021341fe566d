//! The tools a request offers, and how they may be used.

use serde_json::Value;

use super::{CacheHint, Native, Path};

/// A tool on offer.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// What it is.
    pub kind: ToolDefinition,
    /// The prompt up to here is to be cached.
    pub cache: Option<CacheHint>,
    /// Where it stood.
    pub at: Path,
    /// Fields only its own dialect knows.
    pub native: Vec<Native>,
}

/// What a tool is.
#[derive(Clone, Debug, PartialEq)]
pub enum ToolDefinition {
    /// A function of the client's, with arguments in JSON.
    Function {
        /// Its name.
        name: String,
        /// What it is for.
        description: Option<String>,
        /// JSON Schema of the arguments (2020-12 as decoders write it); `None`: it takes none.
        parameters: Option<Value>,
        /// The arguments must follow the schema exactly.
        strict: Option<bool>,
        /// The group it belongs to, where the dialect groups tools.
        namespace: Option<String>,
    },
    /// A tool of the client's which takes free text.
    Custom {
        /// Its name.
        name: String,
        /// What it is for.
        description: Option<String>,
        /// A grammar for the text, as the dialect writes it.
        format: Option<Value>,
        /// The group it belongs to, where the dialect groups tools.
        namespace: Option<String>,
    },
    /// A tool of the provider's: web search, code execution …
    Native(Native),
}

/// Whether and which tools are to be called.
#[derive(Clone, Debug, PartialEq)]
pub enum ToolChoice {
    /// As the model likes.
    Auto,
    /// None.
    None,
    /// At least one.
    Required,
    /// This one.
    Tool(String),
    /// Some of these: at least one if `required`.
    Allowed {
        /// At least one.
        required: bool,
        /// Which.
        names: Vec<String>,
    },
    /// Something only its own dialect knows.
    Native(Native),
}
