//! What each client takes, as its own documentation says; dates are those of the last look.
//!
//! - Claude Code (2.1, November 2026): <https://code.claude.com/docs/en/env-vars>, <https://code.claude.com/docs/en/llm-gateway>
//! - Codex (0.169, November 2026): <https://developers.openai.com/codex/config-reference>
//! - Gemini CLI (0.61, November 2026): <https://github.com/google-gemini/gemini-cli/blob/main/docs/reference/configuration.md>
//! - OpenAI's SDKs: <https://github.com/openai/openai-python#usage>

use serde_json::json;
use toml::Value;

use super::KEY_VARIABLE;

/// For people who have no key.
pub const HOW_TO_MAKE_A_KEY: &str = "make one with `tollgate keys create --name NAME` where the gateway runs, and give it \
     with --key, or as TOLLGATE_KEY";

/// The clients whose settings are known.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Claude Code.
    Claude,
    /// Codex, OpenAI's command-line agent.
    Codex,
    /// Gemini CLI.
    Gemini,
    /// OpenAI's SDKs, and what is built upon them.
    Openai,
}

impl Target {
    /// As the command line says it.
    pub const fn name(self) -> &'static str {
        match self {
            Target::Claude => "claude",
            Target::Codex => "codex",
            Target::Gemini => "gemini",
            Target::Openai => "openai",
        }
    }
}

/// The gateway they are to be pointed at.
pub struct Gateway<'a> {
    /// Scheme, host, port, perhaps a path; without version and without a slash at the end.
    pub url: &'a str,
    /// The client key, or what stands for it.
    pub key: &'a str,
    /// It is a key.
    pub is_key_known: bool,
    /// TLS at an address for which hardly a certificate is made out.
    pub is_tls_by_address: bool,
    /// The model to ask for.
    pub model: Option<&'a str>,
}

/// A file in which a client keeps its settings.
pub struct SettingsFile {
    /// Where it is; `~` is the user's home.
    pub path: &'static str,
    /// What has to be in it.
    pub text: String,
    /// How to get it there, for people; one line each.
    pub how: &'static [&'static str],
}

/// The settings of one client.
pub struct Settings {
    /// Whose.
    pub target: Target,
    /// Environment variables, in order.
    pub variables: Vec<(&'static str, String)>,
    /// Environment variables which would get in the way.
    pub unset: Vec<&'static str>,
    /// Variables nobody needs, each with what it does.
    pub suggested: Vec<(&'static str, String, &'static str)>,
    /// What can't be said by variables.
    pub file: Option<SettingsFile>,
    /// What else there is to know; one line each.
    pub notes: Vec<String>,
}

impl Settings {
    /// The settings which point that client at this gateway.
    pub fn new(target: Target, gateway: &Gateway<'_>) -> Self {
        let mut settings = match target {
            Target::Claude => claude(gateway),
            Target::Codex => codex(gateway),
            Target::Gemini => gemini(gateway),
            Target::Openai => openai(gateway),
        };
        if !gateway.is_key_known {
            settings
                .notes
                .insert(0, format!("No client key is known here: {HOW_TO_MAKE_A_KEY}."));
        }
        if gateway.is_tls_by_address {
            settings.notes.push(
                "The certificate must be valid for this address; give --url https://NAME if it is for a name.".into(),
            );
        }
        settings
    }

    fn with(target: Target, variables: Vec<(&'static str, String)>) -> Self {
        Settings {
            target,
            variables,
            unset: Vec::new(),
            suggested: Vec::new(),
            file: None,
            notes: Vec::new(),
        }
    }
}

fn claude(gateway: &Gateway<'_>) -> Settings {
    let mut settings = Settings::with(
        Target::Claude,
        vec![
            ("ANTHROPIC_BASE_URL", gateway.url.to_owned()),
            ("ANTHROPIC_AUTH_TOKEN", gateway.key.to_owned()),
        ],
    );
    if let Some(model) = gateway.model {
        // Its parts ask for a model by class (a small one for titles, say), so each class is to be this one.
        let names = [
            "ANTHROPIC_MODEL",
            "ANTHROPIC_DEFAULT_FABLE_MODEL",
            "ANTHROPIC_DEFAULT_OPUS_MODEL",
            "ANTHROPIC_DEFAULT_SONNET_MODEL",
            "ANTHROPIC_DEFAULT_HAIKU_MODEL",
        ];
        settings
            .variables
            .extend(names.map(|variable| (variable, model.to_owned())));
        settings.suggested.push((
            "CLAUDE_CODE_ATTRIBUTION_HEADER",
            "0".to_owned(),
            "no line in the prompt that changes with its version: caches of other providers hit more often",
        ));
    }
    // It would be sent beside the token, and a request with two keys is refused.
    settings.unset.push("ANTHROPIC_API_KEY");
    settings.suggested.push((
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
        "1".to_owned(),
        "no updates, telemetry or reports past the gateway",
    ));
    settings
}

fn codex(gateway: &Gateway<'_>) -> Settings {
    let text = |value: &str| Value::String(value.to_owned()).to_string();
    let mut file = format!("model_provider = {}\n", text("tollgate"));
    if let Some(model) = gateway.model {
        file += &format!("model = {}\n", text(model));
    }
    // A provider of its own name: the built-in one can't be overridden. Without WebSockets it need not try one first.
    file += &format!(
        "\n[model_providers.tollgate]\nname = {}\nbase_url = {}\nenv_key = {}\nwire_api = {}\nsupports_websockets = false\n",
        text("Tollgate"),
        text(&format!("{}/v1", gateway.url)),
        text(KEY_VARIABLE),
        text("responses"),
    );
    let mut settings = Settings::with(Target::Codex, vec![(KEY_VARIABLE, gateway.key.to_owned())]);
    settings.file = Some(SettingsFile {
        path: "~/.codex/config.toml",
        text: file,
        how: &[
            "The lines before the table go to the top of the file. Or as a profile, started with `codex --profile tollgate`:",
            "  tollgate env codex --file > ~/.codex/tollgate.config.toml",
        ],
    });
    settings
}

fn gemini(gateway: &Gateway<'_>) -> Settings {
    let mut settings = Settings::with(
        Target::Gemini,
        vec![
            ("GOOGLE_GEMINI_BASE_URL", gateway.url.to_owned()),
            ("GEMINI_API_KEY", gateway.key.to_owned()),
        ],
    );
    if let Some(model) = gateway.model {
        settings.variables.push(("GEMINI_MODEL", model.to_owned()));
    }
    // They choose another way to log in, which leads past the gateway.
    settings.unset = vec!["GOOGLE_GENAI_USE_GCA", "GOOGLE_GENAI_USE_VERTEXAI"];
    let file = json!({ "security": { "auth": { "selectedType": "gemini-api-key" } } });
    settings.file = Some(SettingsFile {
        path: "~/.gemini/settings.json",
        text: format!("{file:#}\n"),
        how: &[
            "It selects the API key as the way to log in; put it into the file that is there, if there is one. Without it",
            "Gemini CLI stops: Invalid auth method selected.",
        ],
    });
    settings
}

fn openai(gateway: &Gateway<'_>) -> Settings {
    let mut settings = Settings::with(
        Target::Openai,
        vec![
            ("OPENAI_BASE_URL", format!("{}/v1", gateway.url)),
            ("OPENAI_API_KEY", gateway.key.to_owned()),
        ],
    );
    if let Some(model) = gateway.model {
        settings.notes.push(format!(
            "The model stands in each request: model = \"{model}\". There is no variable for it."
        ));
    }
    settings
}
