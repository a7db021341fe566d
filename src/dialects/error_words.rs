//! What providers' errors say in words only: most have no code for a prompt that is too long, and none for a wait of six
//! minutes.

use super::reset;
use crate::ir::{Cause, ErrorKind};

/// Most of a text that is searched, in characters.
const MAX_SEARCHED: usize = 4096;

/// Codes and types for a prompt that is too long: OpenAI, Mistral, llama.cpp, and gateways'.
const TOO_LONG_CODES: [&str; 6] = [
    "context_length_exceeded",
    "too_many_prompt_tokens",
    "exceed_context_size_error",
    "context_window_exceeded",
    "model_context_window_exceeded",
    "prompt_too_long",
];

/// Parts of messages about it, in lower case, and whose they are.
const TOO_LONG: [&str; 20] = [
    // Anthropic: "prompt is too long: 3333404 tokens > 200000 maximum".
    "prompt is too long",
    // Anthropic: "input length and `max_tokens` exceed context limit: ...".
    "exceed context limit",
    // OpenAI, DeepSeek, OpenRouter, Mistral, vLLM: "This model's maximum context length is ... tokens".
    "maximum context length",
    // OpenAI Responses: "Your input exceeds the context window of this model".
    "exceeds the context window",
    // MiniMax: "invalid params, context window exceeds limit".
    "context window exceeds limit",
    // Groq: "Please reduce the length of the messages or completion".
    "reduce the length of the messages",
    // Gemini: "The input token count (1250074) exceeds the maximum number of tokens allowed (1048576)".
    "exceeds the maximum number of tokens allowed",
    // xAI: "This model's maximum prompt length is 131072 but the request contains 537812 tokens".
    "maximum prompt length",
    // llama.cpp: "the request exceeds the available context size".
    "exceeds the available context size",
    // LM Studio: "the number of tokens to keep ... is greater than the context length".
    "greater than the context length",
    // SGLang: "The input (... tokens) is longer than the model's context length".
    "longer than the model's context length",
    // Ollama: "the input length exceeds the context length".
    "exceeds the context length",
    // Moonshot: "Your request exceeded model token limit".
    "exceeded model token limit",
    // Bedrock: "Input is too long for requested model".
    "input is too long",
    // SiliconFlow: "length of prompt_tokens (...) must be less than max_seq_len (...)".
    "max_seq_len",
    // Alibaba: "Range of input length should be [1, 30720]".
    "range of input length should be",
    // Zhipu and others: "The total length of all messages is too long".
    "length of all messages is too long",
    // Mistral: "Prompt contains ... tokens ..., too large for model with ... maximum context length".
    "too large for model with",
    // Others'.
    "context length exceeded",
    "context_length_exceeded",
];

/// Codes for content that is refused: OpenAI, Azure, Alibaba, Gemini (reasons of blocks), OpenAI's pictures.
const POLICY_CODES: [&str; 10] = [
    "content_policy_violation",
    "content_filter",
    "ResponsibleAIPolicyViolation",
    "data_inspection_failed",
    "DataInspectionFailed",
    "PROHIBITED_CONTENT",
    "BLOCKLIST",
    "SAFETY",
    "moderation_blocked",
    "content_moderation",
];

/// Parts of messages about it, in lower case, and whose they are.
const POLICY: [&str; 12] = [
    // Anthropic: "Output blocked by content filtering policy".
    "blocked by content filtering policy",
    // Azure: "The response was filtered due to the prompt triggering Azure OpenAI's content management policy".
    "content management policy",
    // OpenAI: "Your request was rejected as a result of our safety system".
    "result of our safety system",
    // OpenAI, with the code `invalid_prompt`: "... flagged as potentially violating our usage policy".
    "violating our usage policy",
    // xAI, with 403: "Content violates usage guidelines".
    "violates usage guidelines",
    // DeepSeek: "Content Exists Risk".
    "content exists risk",
    // OpenRouter, with 403: "... requires moderation ... Your input was flagged ...".
    "input was flagged",
    // Gemini: "The prompt was blocked ...", "... prohibited content ...".
    "prohibited_content",
    "prompt was blocked",
    // MiniMax: "input new_sensitive".
    "new_sensitive",
    // Alibaba: "Input data may contain inappropriate content".
    "inappropriate content",
    "content policy violation",
];

/// Parts of messages that speak of an account without money, where the status is another than 402: Anthropic (400), SiliconFlow
/// (403), DeepSeek, Gemini and xAI (429).
const DRY: [&str; 6] = [
    "credit balance is too low",
    "balance is insufficient",
    "insufficient balance",
    "insufficient credits",
    "credits are depleted",
    "used all available credits",
];

/// Parts of messages about limits per time: such an error is none of the above, even if it speaks of tokens.
const LIMITS: [&str; 4] = ["rate limit", "per min", "per day", "(tpm)"];

/// What stands before a time to wait: OpenAI and Groq ("Please try again in 6m0s"), Gemini ("Please retry in 48.9s"), Azure
/// ("Please retry after 3 seconds").
const WAITS: [&str; 3] = ["try again in ", "retry in ", "retry after "];

/// What an error says: its codes as they are, its texts in lower case.
pub(super) struct Said<'a> {
    codes: Vec<&'a str>,
    texts: [String; 2],
}

impl<'a> Said<'a> {
    pub(super) fn new(codes: [&'a str; 3], reasons: impl Iterator<Item = &'a str>, texts: [&str; 2]) -> Self {
        let lower = |text: &str| {
            text.chars()
                .take(MAX_SEARCHED)
                .map(|c| c.to_ascii_lowercase())
                .collect()
        };
        Said {
            codes: codes
                .into_iter()
                .chain(reasons)
                .filter(|code| !code.is_empty())
                .collect(),
            texts: texts.map(lower),
        }
    }

    fn has_code(&self, codes: &[&str]) -> bool {
        self.codes.iter().any(|code| codes.contains(code))
    }

    fn speaks_of(&self, parts: &[&str]) -> bool {
        self.texts
            .iter()
            .any(|text| parts.iter().any(|part| text.contains(part)))
    }
}

/// What of the request was at fault, where another model might take it.
pub(super) fn cause(kind: ErrorKind, said: &Said<'_>) -> Option<Cause> {
    let too_long = said.has_code(&TOO_LONG_CODES) || said.speaks_of(&TOO_LONG);
    let policy = || said.has_code(&POLICY_CODES) || said.speaks_of(&POLICY);
    let limits = || said.speaks_of(&LIMITS);
    match kind {
        ErrorKind::InvalidRequest | ErrorKind::RequestTooLarge | ErrorKind::Api if too_long && !limits() => {
            Some(Cause::ContextTooLong)
        }
        ErrorKind::InvalidRequest | ErrorKind::Permission | ErrorKind::Api if policy() => Some(Cause::ContentPolicy),
        _ => None,
    }
}

/// The account has no money left, whatever the status said.
pub(super) fn is_dry(kind: ErrorKind, said: &Said<'_>) -> bool {
    let may = matches!(
        kind,
        ErrorKind::InvalidRequest | ErrorKind::Permission | ErrorKind::RateLimit | ErrorKind::Api
    );
    may && said.speaks_of(&DRY)
}

/// The wait a message asks for, in whole seconds, rounded up.
pub(super) fn wait(said: &Said<'_>) -> Option<u32> {
    let wait = said.texts.iter().find_map(|text| {
        WAITS.iter().find_map(|before| {
            let (_, rest) = text.split_once(before)?;
            reset::in_words(rest)
        })
    })?;
    u32::try_from(wait.as_millis().div_ceil(1000)).ok()
}

#[cfg(test)]
#[path = "error_words_tests.rs"]
mod tests;
