//! Tokenizers of model families: what a text has in tokens, where its model's maker publishes how to count.

use super::openai_chat;

/// A published tokenizer.
pub trait Tokenizer: Send + Sync {
    /// Its name.
    fn name(&self) -> &'static str;

    /// Its tables are in memory. The first count loads them, which is no work for a thread that serves clients.
    fn is_loaded(&self) -> bool;

    /// Tokens of a text, special tokens taken for text. Time grows with the text, whatever it is.
    fn count(&self, text: &str) -> u64;
}

/// The tokenizer of a model, by the name its provider knows it under; `None`: none is published, or none is in a well-kept crate.
///
/// - OpenAI's models: their own (the `openai_chat` dialect's table).
/// - Anthropic publishes none for its models since Claude 3; its API counts (`count_tokens`).
/// - Google publishes Gemini's as a sentencepiece model, for which there is no well-kept crate without C++; its API counts.
/// - DeepSeek, Qwen, GLM, Kimi, Mistral and Llama publish theirs as `tokenizer.json` files of several MiB each, read by the `tokenizers`
///   crate: too heavy for an estimate after an abort.
pub fn tokenizer(model: &str) -> Option<&'static dyn Tokenizer> {
    openai_chat::tokenizer::of(model)
}
