//! What a model's name says about who will read a request: providers of this dialect differ in what they take, and
//! refuse what they don't know.

/// Whose accent a model's provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vendor {
    /// OpenAI's own models, at OpenAI or a broker. The open ones (`gpt-oss`) are served by others.
    OpenAi {
        /// The model takes settings for reasoning.
        reasons: bool,
    },
    /// Anthropic's models at a broker, who carries over hints for the cache (OpenRouter's "Prompt caching").
    Claude,
    /// Mistral's own API: reasoning as a part of the content, documents as `document_url`, ids of nine characters.
    Mistral,
    /// Perplexity's: documents as `file_url`.
    Perplexity,
    /// DeepSeek's, Z.ai's and Moonshot's own APIs: reasoning is switched by `thinking.type`.
    Switch,
    /// Anyone else.
    Other,
}

/// How the models of Mistral's own API are called ("Models"); at brokers a vendor's name stands before them.
const MISTRAL: [&str; 9] = [
    "mistral-",
    "magistral-",
    "ministral-",
    "codestral-",
    "devstral-",
    "pixtral-",
    "voxtral-",
    "open-mistral-",
    "open-mixtral-",
];

/// How the models of those are called who switch reasoning by `thinking.type` (DeepSeek "Thinking mode", Z.ai "Deep
/// thinking", Moonshot "Thinking models").
const SWITCH: [&str; 3] = ["deepseek-", "glm-", "kimi-"];

impl Vendor {
    /// What the name says.
    pub(super) fn of(model: &str) -> Self {
        let name = model.to_ascii_lowercase();
        let bare = name.strip_prefix("openai/").unwrap_or(&name);
        let bare = bare.strip_prefix("ft:").unwrap_or(bare);
        let o_series = || matches!(bare.as_bytes(), [b'o', b'0'..=b'9', ..]);
        let gpt = (bare.starts_with("gpt-") && !bare.starts_with("gpt-oss")) || bare.starts_with("chatgpt-");
        if gpt || o_series() {
            let answers_at_once = ["gpt-3", "gpt-4", "chatgpt-"]
                .iter()
                .any(|prefix| bare.starts_with(prefix));
            Vendor::OpenAi {
                reasons: !answers_at_once && !bare.contains("-chat"),
            }
        } else if name.contains("claude") || name.contains("anthropic/") {
            Vendor::Claude
        } else if MISTRAL.iter().any(|prefix| name.starts_with(prefix)) {
            Vendor::Mistral
        } else if name.starts_with("sonar") || name.starts_with("perplexity/") {
            Vendor::Perplexity
        } else if SWITCH.iter().any(|prefix| name.starts_with(prefix)) {
            Vendor::Switch
        } else {
            Vendor::Other
        }
    }

    /// One of OpenAI's own models.
    pub(super) fn is_openai(self) -> bool {
        matches!(self, Vendor::OpenAi { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_vendor() {
        for (model, vendor) in [
            ("gpt-5.2", Vendor::OpenAi { reasons: true }),
            ("openai/o3-mini", Vendor::OpenAi { reasons: true }),
            ("gpt-4o", Vendor::OpenAi { reasons: false }),
            ("gpt-5-chat-latest", Vendor::OpenAi { reasons: false }),
            ("openai/gpt-oss-120b", Vendor::Other),
            ("olmo-3", Vendor::Other),
            ("anthropic/claude-haiku-4.5", Vendor::Claude),
            ("mistral-small-latest", Vendor::Mistral),
            ("mistralai/mistral-small", Vendor::Other),
            ("sonar-pro", Vendor::Perplexity),
            ("deepseek-chat", Vendor::Switch),
            ("deepseek/deepseek-v3.2", Vendor::Other),
        ] {
            assert_eq!(Vendor::of(model), vendor, "{model}");
        }
    }
}
