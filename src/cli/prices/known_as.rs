//! What tables of prices call providers that are called otherwise here (`rules/10-providers.toml`).

/// The table's name, and ours. LiteLLM and models.dev; all others have the same name there as here, or none.
const KNOWN_AS: &[(&str, &str)] = &[
    ("google", "gemini"),
    ("cloudflare-workers-ai", "cloudflare"),
    ("siliconflow-cn", "siliconflow"),
];

/// Our name for a provider of a table, unless it is the same.
pub(super) fn ours(theirs: &str) -> Option<&'static str> {
    KNOWN_AS.iter().find(|(name, _)| *name == theirs).map(|(_, ours)| *ours)
}
