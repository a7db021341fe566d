//! How many tokens an answer may have at most, by model. The API insists on `max_tokens`; other dialects do not.
//!
//! Source: column `max_output_tokens` of the community's table of prices and limits (LiteLLM 1.106.2, MIT), read on
//! 2026-11-21, for the models of Anthropic and of others who offer this dialect beside their own (DeepSeek, Moonshot,
//! Z.AI). Models that are not in it any more (Claude 4.1 and older): Anthropic's models overview, as it stood when they
//! were current.

/// What an unknown model is asked for: every model of the last years can do it.
pub(super) const UNKNOWN: u64 = 8192;

/// Beginnings of names, and limits in tokens. The longest beginning that ends where a part of the name ends wins, so that
/// `claude-opus-5` is also `claude-opus-5-5` and `claude-opus-5-20261001`.
const LIMITS: &[(&str, u64)] = &[
    ("claude-fable-5", 128_000),
    ("claude-mythos-5", 128_000),
    ("claude-mythos-preview", 128_000),
    ("claude-opus-5", 128_000),
    ("claude-opus-4-8", 128_000),
    ("claude-opus-4-7", 128_000),
    ("claude-opus-4-6", 128_000),
    ("claude-opus-4-5", 64_000),
    ("claude-sonnet-5", 128_000),
    ("claude-sonnet-4-6", 128_000),
    ("claude-sonnet-4-5", 64_000),
    ("claude-haiku-5-5", 128_000),
    ("claude-haiku-4-5", 64_000),
    // Legacy.
    ("claude-opus-4", 32_000),
    ("claude-sonnet-4", 64_000),
    ("claude-3-7-sonnet", 64_000),
    ("claude-3-5", 8192),
    ("claude-3", 4096),
    ("claude-2", 4096),
    ("claude-instant", 4096),
    // Others who offer this dialect.
    ("deepseek-chat", 8192),
    ("deepseek-reasoner", 65_536),
    ("deepseek-flash", 393_216),
    ("deepseek-v4", 393_216),
    ("kimi-k2-5", 262_144),
    ("kimi-k2-6", 262_144),
    ("kimi-k2-7", 262_144),
    ("glm-4-5", 32_000),
    ("glm-4-6", 128_000),
    ("glm-4-7", 128_000),
    ("glm-5", 128_000),
];

/// The name in one spelling: lower case, without what stands before the family (`us.anthropic.`, `anthropic/`), parts
/// divided by hyphens (`claude-opus-4.5`, `claude-opus-4-5@20251101`).
pub(super) fn plain(model: &str) -> String {
    let name = model.rsplit('/').next().unwrap_or(model).to_ascii_lowercase();
    let name = name.find("claude").map_or(name.as_str(), |at| &name[at..]);
    name.replace(['.', '@', ':'], "-")
}

/// The limit of a model, in tokens; `None`: it is not in the table.
pub(super) fn max_output(model: &str) -> Option<u64> {
    let name = plain(model);
    let fits = |prefix: &str| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    let known = LIMITS.iter().filter(|(prefix, _)| fits(prefix));
    known.max_by_key(|(prefix, _)| prefix.len()).map(|(_, limit)| *limit)
}
