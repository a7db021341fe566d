//! OpenAI's tokenizers, and which model has which.
//!
//! The vocabularies are those of `tiktoken`, in the crate `bpe-openai`, whose time is linear in the text (tiktoken's is not for some). Measured
//! (release, one core of a busy machine): loaded on first use, o200k in 0.15 s and 66 MiB, cl100k in 0.06 s and 30 MiB; then 10 MB of
//! source text a second.
//!
//! Against 33 recorded answers of 50 tokens and more (`tests/wire/tokens.rs`): of texts 0.99 of what OpenAI reported at the median, p10 0.92 (a
//! token at the end, four around an answer of GPT-5's); of calls of tools 0.92. Prompts of plain text: 1.00.
//!
//! Tokens of reasoning that was never shown are in no text and are not counted.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::dialects::Tokenizer;

/// A vocabulary of tiktoken's.
struct Vocabulary {
    name: &'static str,
    tables: fn() -> &'static bpe_openai::Tokenizer,
    loaded: AtomicBool,
}

static O200K: Vocabulary = Vocabulary {
    name: "o200k_base",
    tables: bpe_openai::o200k_base,
    loaded: AtomicBool::new(false),
};

static CL100K: Vocabulary = Vocabulary {
    name: "cl100k_base",
    tables: bpe_openai::cl100k_base,
    loaded: AtomicBool::new(false),
};

impl Tokenizer for Vocabulary {
    fn name(&self) -> &'static str {
        self.name
    }

    fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Relaxed)
    }

    fn count(&self, text: &str) -> u64 {
        let count = (self.tables)().count(text);
        self.loaded.store(true, Ordering::Relaxed);
        count as u64
    }
}

/// Beginnings of names, the first that fits counts: tiktoken's `model.py` (August 2026: `MODEL_TO_ENCODING` and
/// `MODEL_PREFIX_TO_ENCODING`; `o200k_harmony` of gpt-oss is o200k with further special tokens). Names which it does not know and which
/// begin with `gpt-` are newer than it, and take the newer vocabulary. Models older than these are not served any more.
const FAMILIES: [(&str, &Vocabulary); 16] = [
    ("gpt-4o", &O200K),
    ("gpt-4.", &O200K),
    ("gpt-4", &CL100K),
    ("gpt-3.5", &CL100K),
    ("gpt-35", &CL100K),
    ("gpt-2", &CL100K),
    ("gpt-", &O200K),
    ("chatgpt-", &O200K),
    ("o1", &O200K),
    ("o3", &O200K),
    ("o4", &O200K),
    ("text-embedding-3", &CL100K),
    ("text-embedding-ada-002", &CL100K),
    ("davinci-002", &CL100K),
    ("babbage-002", &CL100K),
    ("codex-mini", &O200K),
];

/// The tokenizer of a model; `None`: it is none of OpenAI's. A maker before the name (`openai/gpt-4o`, as aggregators write it) and `ft:` of
/// fine-tuned models are passed over.
pub fn of(model: &str) -> Option<&'static dyn Tokenizer> {
    let name = model.rsplit('/').next().unwrap_or(model);
    let name = name.strip_prefix("ft:").unwrap_or(name);
    let (_, vocabulary) = FAMILIES.iter().find(|(family, _)| {
        name.strip_prefix(family).is_some_and(|rest| {
            // "o1-mini", not "o1x"; "gpt-4-turbo", but "gpt-5.1" of "gpt-".
            family.ends_with(['-', '.'])
                || *family == "gpt-4o"
                || rest.is_empty()
                || rest.starts_with(['-', ':', '@', '.'])
        })
    })?;
    Some(*vocabulary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_have_the_vocabulary_that_tiktoken_gives_them() {
        let o200k = [
            "gpt-4o",
            "gpt-4o-mini-2024-07-18",
            "gpt-4.1-nano",
            "gpt-4.5-preview",
            "gpt-5",
            "gpt-5.1-codex",
            "gpt-oss-120b",
            "openai/gpt-oss-20b:free",
            "chatgpt-4o-latest",
            "o1",
            "o3-mini",
            "o4-mini-2025-04-16",
            "ft:gpt-4o-mini:org::id",
            "gpt-6-turbo",
        ];
        let cl100k = [
            "gpt-4",
            "gpt-4-0613",
            "gpt-4-turbo",
            "gpt-3.5-turbo-1106",
            "gpt-35-turbo",
            "ft:gpt-3.5-turbo:org",
            "text-embedding-3-large",
            "text-embedding-ada-002",
        ];
        for (models, name) in [(&o200k[..], "o200k_base"), (&cl100k, "cl100k_base")] {
            for model in models {
                assert_eq!(of(model).map(|tokenizer| tokenizer.name()), Some(name), "{model}");
            }
        }
        for model in [
            "claude-sonnet-4",
            "gemini-2.5-pro",
            "o1x",
            "deepseek-chat",
            "",
            "llama-4",
            "glm-4.6",
            "olmo-3",
        ] {
            assert!(of(model).is_none(), "{model}");
        }
    }

    #[test]
    fn texts_have_the_tokens_that_tiktoken_counts() {
        // tiktoken 0.12: len(get_encoding(...).encode(...)).
        let text = "The quick brown fox jumps over the lazy dog again.";
        assert_eq!(O200K.count(text), 11);
        assert_eq!(CL100K.count(text), 11);
        assert!(O200K.is_loaded());
        // What looks like a special token is text here, and can't be smuggled in.
        assert!(O200K.count("<|endoftext|>") > 1);
        assert_eq!(O200K.count(""), 0);
    }
}
