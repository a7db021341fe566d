use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use clap::Parser;
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::cli::{self, Arguments};

/// A checkout with one listener.
struct Checkout {
    folder: TempDir,
    conf: PathBuf,
}

impl Checkout {
    fn new(listener: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let conf = folder.path().join("tollgate.toml");
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        let text = format!("data = {data:?}\n[[listener]]\n{listener}\n[[listener]]\nlisten = \"127.0.0.1:9\"\n");
        fs::write(&conf, text).unwrap();
        Checkout { folder, conf }
    }

    fn first_run(self, text: &str) -> Self {
        fs::write(self.folder.path().join("data/first-run.toml"), text).unwrap();
        self
    }

    /// Runs the command line `tollgate env ...`.
    fn env(&self, line: &str, variable: Option<&str>) -> Result<(String, KeySource), String> {
        let arguments = Arguments::try_parse_from(["tollgate", "env"].into_iter().chain(line.split(' ')));
        let Some(cli::Command::Env(env)) = arguments.map_err(|error| error.to_string())?.command else {
            panic!("{line} is another command");
        };
        env.tell(&self.conf, variable.map(str::to_owned))
            .map_err(|failure| format!("{failure:?}"))
    }

    fn lines(&self, line: &str) -> String {
        self.env(line, Some("sk-tg-key")).unwrap().0
    }

    fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.lines(&format!("{line} --json"))).unwrap()
    }
}

fn checkout() -> Checkout {
    Checkout::new("listen = \"127.0.0.1:8123\"")
}

/// What `sh` has in its environment after it evaluated the lines.
fn evaluated(lines: &str) -> BTreeMap<String, String> {
    let script = "eval \"$LINES_TO_TAKE\"; unset LINES_TO_TAKE; env -0";
    let run = Command::new("sh")
        .args(["-c", script])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LINES_TO_TAKE", lines)
        .env("ANTHROPIC_API_KEY", "sk-other")
        .output()
        .unwrap();
    assert!(run.status.success() && run.stderr.is_empty(), "{lines}\n{run:?}");
    let out = String::from_utf8(run.stdout).unwrap();
    let pairs = out.split('\0').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn a_shell_gets_address_and_key_of_every_client() {
    for (client, variable, value) in [
        ("claude", "ANTHROPIC_BASE_URL", "http://127.0.0.1:8123"),
        ("claude", "ANTHROPIC_AUTH_TOKEN", "sk-tg-key"),
        ("codex", "TOLLGATE_KEY", "sk-tg-key"),
        ("gemini", "GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:8123"),
        ("gemini", "GEMINI_API_KEY", "sk-tg-key"),
        ("openai", "OPENAI_BASE_URL", "http://127.0.0.1:8123/v1"),
        ("openai", "OPENAI_API_KEY", "sk-tg-key"),
    ] {
        let set = evaluated(&checkout().lines(client));
        assert_eq!(set.get(variable).map(String::as_str), Some(value), "{client}");
    }
}

#[test]
fn the_key_that_would_be_sent_beside_the_token_goes() {
    let set = evaluated(&checkout().lines("claude"));
    assert!(!set.contains_key("ANTHROPIC_API_KEY"), "{set:?}");
    assert!(
        !set.contains_key("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"),
        "a suggestion is not set: {set:?}"
    );
    let json = checkout().json("claude");
    assert_eq!(json["unset"][0], "ANTHROPIC_API_KEY");
    assert_eq!(json["suggested"]["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"], "1");
}

#[test]
fn a_model_stands_for_every_class_of_models() {
    let set = evaluated(&checkout().lines("claude --model deepseek/deepseek-chat"));
    for class in [
        "",
        "DEFAULT_FABLE_",
        "DEFAULT_OPUS_",
        "DEFAULT_SONNET_",
        "DEFAULT_HAIKU_",
    ] {
        let variable = format!("ANTHROPIC_{class}MODEL");
        assert_eq!(
            set.get(&variable).map(String::as_str),
            Some("deepseek/deepseek-chat"),
            "{variable}"
        );
    }
    assert!(!evaluated(&checkout().lines("claude")).contains_key("ANTHROPIC_MODEL"));
    assert_eq!(evaluated(&checkout().lines("gemini --model m"))["GEMINI_MODEL"], "m");
    assert!(checkout().lines("openai --model m").contains("model = \"m\""));
}

#[test]
fn the_settings_file_can_be_read_by_its_client() {
    let (file, _) = checkout().env("codex --model fast --file", None).unwrap();
    let file: toml::Table = file.parse().unwrap();
    assert_eq!(file["model_provider"].as_str(), Some("tollgate"));
    assert_eq!(file["model"].as_str(), Some("fast"));
    let provider = &file["model_providers"]["tollgate"];
    assert_eq!(provider["base_url"].as_str(), Some("http://127.0.0.1:8123/v1"));
    assert_eq!(provider["env_key"].as_str(), Some(KEY_VARIABLE));
    assert_eq!(provider["wire_api"].as_str(), Some("responses"));
    assert_eq!(provider["supports_websockets"].as_bool(), Some(false));

    let json = checkout().json("gemini");
    assert_eq!(json["file"]["path"], "~/.gemini/settings.json");
    let file: Value = serde_json::from_str(json["file"]["text"].as_str().unwrap()).unwrap();
    assert_eq!(file["security"]["auth"]["selectedType"], "gemini-api-key");

    let none = checkout().env("openai --file", None).unwrap_err();
    assert!(none.contains("no settings file"), "{none}");
}

#[test]
fn a_file_within_lines_for_a_shell_is_a_comment() {
    for (client, mark) in [("codex", "wire_api"), ("gemini", "selectedType")] {
        let lines = checkout().lines(client);
        let marked: Vec<_> = lines.lines().filter(|line| line.contains(mark)).collect();
        assert!(
            !marked.is_empty() && marked.iter().all(|line| line.starts_with('#')),
            "{lines}"
        );
    }
}

#[test]
fn the_key_comes_from_option_environment_or_first_start_in_this_order() {
    let here = || checkout().first_run("key = \"sk-tg-first\"\nadmin_token = \"t\"\n");
    for (line, variable, expected, source) in [
        (
            "claude --key sk-tg-mine",
            Some("sk-tg-var"),
            "sk-tg-mine",
            KeySource::Option,
        ),
        ("claude", Some("sk-tg-var"), "sk-tg-var", KeySource::Variable),
        ("claude", None, "sk-tg-first", KeySource::FirstRun),
        // The key of this gateway's first start is none of another's.
        ("claude --url https://other.example", None, NO_KEY, KeySource::Nowhere),
    ] {
        let (lines, from) = here().env(line, variable).unwrap();
        assert_eq!(from, source, "{line}");
        assert_eq!(evaluated(&lines)["ANTHROPIC_AUTH_TOKEN"], expected, "{line}");
    }
}

#[test]
fn without_a_key_it_says_how_to_make_one() {
    let (lines, source) = checkout().env("claude", None).unwrap();
    assert_eq!(source, KeySource::Nowhere);
    assert!(
        lines.contains("# No client key is known here") && lines.contains("tollgate keys create"),
        "{lines}"
    );
    let (json, _) = checkout().env("claude --json", None).unwrap();
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["key_source"], "none");
}

#[test]
fn a_broken_first_run_file_is_told_but_not_quoted() {
    for text in [
        "key = sk-tg-unquoted",
        "admin_token = \"t\"",
        "key = \"two words\"",
        "key = 5",
    ] {
        let told = checkout().first_run(text).env("claude", None).unwrap_err();
        assert!(told.contains("holds no client key") && !told.contains(text), "{told}");
    }
}

#[test]
fn the_address_is_that_of_the_first_listener_or_the_given_one() {
    let url = |listener: &str| {
        let (json, _) = Checkout::new(listener).env("claude --json", Some("k")).unwrap();
        serde_json::from_str::<Value>(&json).unwrap()["url"].clone()
    };
    assert_eq!(url("listen = \"0.0.0.0:8124\""), "http://127.0.0.1:8124");
    assert_eq!(url("listen = \"[::]:8125\""), "http://[::1]:8125");
    for given in [
        "https://gateway.example",
        "https://gateway.example/",
        "https://gateway.example/v1/",
    ] {
        let json = checkout().json(&format!("openai --url {given}"));
        assert_eq!(
            json["variables"]["OPENAI_BASE_URL"], "https://gateway.example/v1",
            "{given}"
        );
    }
    let under_a_path = checkout().json("claude --url http://10.0.0.1:8080/llm");
    assert_eq!(
        under_a_path["variables"]["ANTHROPIC_BASE_URL"],
        "http://10.0.0.1:8080/llm"
    );
}

#[test]
fn a_client_on_another_machine_needs_no_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = Checkout {
        conf: folder.path().join("conf/tollgate.toml"),
        folder,
    };
    assert!(
        nowhere
            .env("claude --url https://gateway.example --key k", None)
            .is_ok()
    );
    let told = nowhere.env("claude", None).unwrap_err();
    assert!(told.contains("--url"), "{told}");
}

#[test]
fn nothing_can_slip_a_command_into_the_lines() {
    let nasty = r#"it's"$(exit_1)`\#;&|"#;
    let set = evaluated(&checkout().lines(&format!("claude --model {nasty}")));
    assert_eq!(set["ANTHROPIC_MODEL"], nasty);
    let fish = checkout().lines(r"claude --shell fish --model a\'b");
    assert!(fish.contains(r"set -gx ANTHROPIC_MODEL 'a\\\'b'"), "{fish}");
    let powershell = checkout().lines("claude --shell powershell --model a'$b");
    assert!(powershell.contains("$env:ANTHROPIC_MODEL = 'a''$b'"), "{powershell}");
    for wrong in ["two\nlines", "\u{2019}", "", "with\ttab"] {
        assert!(
            checkout().env(&format!("openai --model {wrong}"), None).is_err(),
            "{wrong:?}"
        );
        assert!(
            checkout().env("openai", Some(&format!("a{wrong}b c"))).is_err(),
            "{wrong:?}"
        );
    }
    for wrong in ["ftp://x", "gateway.example", "http://u:p@h", "http://h/?a=b", "http://"] {
        assert!(
            checkout().env(&format!("openai --url {wrong}"), None).is_err(),
            "{wrong}"
        );
    }
    let quoted = checkout()
        .env("codex --file --url http://h/it%22s --key k", None)
        .unwrap()
        .0;
    assert!(quoted.parse::<toml::Table>().is_ok(), "{quoted}");
}

#[test]
fn every_line_for_other_shells_is_a_setting_or_a_comment() {
    for (shell, set, unset) in [
        ("fish", "set -gx ", "set -e "),
        ("powershell", "$env:", "Remove-Item Env:"),
    ] {
        for client in ["claude", "codex", "gemini", "openai"] {
            let lines = checkout().lines(&format!("{client} --model m --shell {shell}"));
            let known = |line: &str| [set, unset, "#"].iter().any(|start| line.starts_with(start));
            assert!(lines.lines().all(known), "{lines}");
        }
    }
}
