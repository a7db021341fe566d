//! Vectors for texts.

use super::{Native, Set, Usage};

/// A request for vectors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EmbeddingRequest {
    /// The model the client asked for.
    pub model: String,
    /// What to embed, in order.
    pub inputs: Vec<EmbeddingInput>,
    /// The client sent one input and not a list of them: the answer's form may depend on it.
    pub single: bool,
    /// How many numbers a vector shall have.
    pub dimensions: Option<Set<u64>>,
    /// The client wants numbers as base64 of little-endian floats of 32 bits.
    pub base64: bool,
    /// Who the end user is.
    pub user: Option<Set<String>>,
    /// What the vectors are for (`RETRIEVAL_QUERY` …), in the dialect's words.
    pub task: Option<Set<String>>,
    /// A title for the text.
    pub title: Option<Set<String>>,
    /// Fields only its own dialect knows.
    pub native: Vec<Native>,
}

/// One thing to embed.
#[derive(Clone, Debug, PartialEq)]
pub enum EmbeddingInput {
    /// A text.
    Text(String),
    /// Numbers of tokens.
    Tokens(Vec<u64>),
    /// Something only its own dialect knows.
    Native(Native),
}

/// The vectors, in the order of the inputs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EmbeddingResponse {
    /// The model that answered; may be empty.
    pub model: String,
    /// The vectors.
    pub vectors: Vec<Vec<f64>>,
    /// What it cost; `None`: not told.
    pub usage: Option<Usage>,
}
