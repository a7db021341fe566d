//! `tollgate check`, as it is run.

use std::path::Path;
use std::process::{Command, Output};

use super::{Folder, PROVIDER};

fn check(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .arg("check")
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .unwrap()
}

fn folder(conf: &str, rules: &[(&str, &str)]) -> Folder {
    let folder = Folder::new();
    std::fs::create_dir(folder.path().join("conf")).unwrap();
    std::fs::create_dir(folder.path().join("rules")).unwrap();
    folder.write("conf/tollgate.toml", conf);
    for (name, text) in rules {
        folder.write(&format!("rules/{name}"), text);
    }
    folder
}

fn text(output: &Output) -> &str {
    assert_eq!(output.stderr, b"", "everything is on standard output");
    std::str::from_utf8(&output.stdout).unwrap()
}

const KEYED: &str = "[provider.b]\ndialects = { openai_chat = \"http://b\" }\n\
                     [[provider.b.credential]]\nname = \"m\"\nkey = \"env:B_KEY\"\n";

#[test]
fn all_is_well() {
    let folder = folder("", &[("a.toml", PROVIDER)]);
    let output = check(folder.path(), &[], &[]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output), "No problems. 1 provider active, 0 routes.\n");
}

#[test]
fn problems_of_both_are_told_and_exit_1() {
    let folder = folder("treads = 1\n", &[("a.toml", "[provider.a]\nauth = \"none\"\n")]);
    let output = check(folder.path(), &[], &[]);
    assert_eq!(output.status.code(), Some(1));
    let text = text(&output);
    assert!(
        text.starts_with("conf/tollgate.toml:1  treads\n    there is no field of this name. Did you mean \"threads\"?")
    );
    assert!(text.contains("\nrules/a.toml:1  provider.a\n    dialects is missing."));
    assert!(text.ends_with("\n2 problems.\n"));
}

#[test]
fn warnings_and_notes_are_no_problems() {
    let folder = folder(
        "metrics.listen = \"0.0.0.0:1\"\n",
        &[("a.toml", PROVIDER), ("b.toml", KEYED)],
    );
    let output = check(folder.path(), &[], &[]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        text(&output),
        "warning: conf/tollgate.toml:1  metrics.listen = \"0.0.0.0:1\"\n    everyone who reaches this address can use \
         it: it asks for no key. 127.0.0.1 is safer.\n\
         note: provider b is inactive: the environment variable B_KEY is not set\n\
         No problems, 1 warning. 1 provider active (1 inactive), 0 routes.\n"
    );
    let output = check(folder.path(), &[], &[("B_KEY", "s3cr3t")]);
    assert!(text(&output).ends_with("No problems, 1 warning. 2 providers active, 0 routes.\n"));
    assert!(!text(&output).contains("s3cr3t"));
}

#[test]
fn routes_without_an_active_provider_are_noted() {
    let route = |name: &str, provider: &str, more: &str| {
        format!(
            "[[route]]\nname = \"{name}\"\nmodel = \"{name}\"\ntargets = [{{ provider = \"{provider}\" }}]\n{more}\n"
        )
    };
    let fallback = "fallback = [{ provider = \"a\" }]";
    let rules = format!(
        "{PROVIDER}{KEYED}{}{}{}{}",
        route("r", "b", ""),
        route("s", "a", ""),
        route("t", "b", fallback),
        route("u", "b", "")
    );
    let folder = folder("", &[("a.toml", &rules)]);
    let output = check(folder.path(), &[], &[]);
    assert_eq!(
        text(&output),
        "note: provider b is inactive: the environment variable B_KEY is not set\n\
         note: 2 routes have no active provider: \"r\", \"u\"\n\
         note: no price is known of a/s: what that costs stands in no report, and keys with a budget of money may not use it\n\
         No problems. 1 provider active (1 inactive), 4 routes.\n"
    );
    let output = check(folder.path(), &["--json"], &[]);
    let json: serde_json::Value = serde_json::from_str(text(&output)).unwrap();
    assert_eq!(json["idle_routes"], serde_json::json!(["r", "u"]));
    assert_eq!(json["unpriced"], serde_json::json!(["a/s"]));
    let output = check(folder.path(), &[], &[("B_KEY", "x")]);
    assert_eq!(
        text(&output),
        "note: no price is known of a/s, b/r, b/t, b/u: what that costs stands in no report, and keys with a budget of money \
         may not use it\nNo problems. 2 providers active, 4 routes.\n"
    );
}

#[test]
fn json() {
    let folder = folder("treads = 1\n", &[("b.toml", KEYED)]);
    let output = check(folder.path(), &["--json"], &[]);
    assert_eq!(output.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_str(text(&output)).unwrap();
    assert_eq!(json["ok"], false);
    assert_eq!(json["problems"][0]["file"], "conf/tollgate.toml");
    assert_eq!(json["problems"][0]["line"], 1);
    assert_eq!(json["problems"][0]["what"], "treads");
    assert_eq!(json["inactive"][0]["what"], "provider b");
    assert_eq!(json["summary"]["providers_inactive"], 1);
}

#[test]
fn another_file_and_another_folder() {
    let folder = Folder::new();
    let output = check(folder.path(), &[], &[]);
    assert_eq!(output.status.code(), Some(1), "neither is there");
    assert!(text(&output).contains("conf/tollgate.toml  there is no such file\n"));
    assert!(text(&output).contains("rules  the rules folder can't be read\n"));
    std::fs::create_dir(folder.path().join("r")).unwrap();
    folder.write("c.toml", "rules = \"r\"\n");
    let output = check(folder.path(), &["--conf", "c.toml"], &[]);
    assert_eq!(text(&output), "No problems. 0 providers active, 0 routes.\n");
}

#[test]
fn arguments_nobody_knows_are_what_was_given_and_help_is_not() {
    let folder = folder("", &[("a.toml", PROVIDER)]);
    let wrong = check(folder.path(), &["--nonsense"], &[]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8(wrong.stderr).unwrap().contains("--nonsense"));
    let help = check(folder.path(), &["--help"], &[]);
    assert_eq!(help.status.code(), Some(0));
    assert!(text(&help).contains("Usage"));
}

#[test]
fn webhooks_without_an_address_are_noted_and_no_problem() {
    let conf = "[[alerts.webhook]]\nname = \"ops\"\nkind = \"slack\"\nurl = \"env:OPS_URL\"\n";
    let folder = folder(conf, &[("a.toml", PROVIDER)]);
    let output = check(folder.path(), &[], &[]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        text(&output),
        "note: webhook ops is inactive: the environment variable OPS_URL is not set\n\
         No problems. 1 provider active, 0 routes.\n"
    );
    let output = check(folder.path(), &[], &[("OPS_URL", "https://10.0.0.1/canary")]);
    let told = text(&output);
    assert!(
        told.contains("webhook ops is inactive: its URL: an address in place of a host name")
            && !told.contains("canary"),
        "{told}"
    );
    let output = check(folder.path(), &[], &[("OPS_URL", "https://hooks.example/canary")]);
    assert_eq!(text(&output), "No problems. 1 provider active, 0 routes.\n");
}

/// Only the running gateway opens its store: what refers to it is no fault of the rules.
#[test]
fn secrets_in_the_store_are_taken_to_be_there() {
    let stored = KEYED.replace("env:B_KEY", "store:b.m");
    let route = "[[route]]\nname = \"all\"\nmodel = \"*\"\ntargets = [{ provider = \"b\" }]\n";
    let folder = folder("", &[("a.toml", &stored), ("b.toml", route)]);
    let output = check(folder.path(), &[], &[]);
    let told = text(&output);
    assert!(told.contains("note: taken to be in the gateway's store"), "{told}");
    assert!(told.contains("b.m\n") && told.contains("1 provider active"), "{told}");
    let output = check(folder.path(), &["--json"], &[]);
    let json: serde_json::Value = serde_json::from_str(text(&output)).unwrap();
    assert_eq!(
        (&json["stored"][0], &json["idle_routes"][0]),
        (&"b.m".into(), &serde_json::Value::Null)
    );
}
