//! `tollgate route explain`, as it is run.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::Folder;

const RULES: &str = r#"
[provider.a]
dialects = { openai_chat = "http://a.invalid/v1" }
auth = "none"

[provider.b]
dialects = { anthropic = "http://b.invalid" }
[[provider.b.credential]]
name = "main"
key = "env:B_KEY"

[[route]]
name = "one"
model = "m-*"
targets = [{ provider = "a", model = "at-a", weight = 3 }, { provider = "b" }]
"#;

const BODY: &str = r#"{"model":"m-1","stream":true,"messages":[{"role":"user","content":"Hello"}]}"#;

fn folder() -> Folder {
    let folder = Folder::new();
    std::fs::create_dir(folder.path().join("conf")).unwrap();
    std::fs::create_dir(folder.path().join("rules")).unwrap();
    folder.write("conf/tollgate.toml", "");
    folder.write("rules/a.toml", RULES);
    folder.write("body.json", BODY);
    folder
}

fn explain(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(["route", "explain"])
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end before it reads.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn a_body_is_explained_to_people() {
    let folder = folder();
    let output = explain(folder.path(), &["body.json"], "");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("request   openai_chat chat, a stream, model m-1, about "),
        "{text}"
    );
    assert_eq!(
        lines[1..],
        [
            "",
            "name      m-1",
            "route     \"one\": taken",
            "strategy  weighted; affinity auto",
            "TIER    PROVIDER  MODEL  DIALECT      WEIGHT",
            "target  a         at-a   openai_chat       3",
            "target  b         m-1    -                 1  left out: inactive: the environment variable B_KEY is not set",
            "",
            "tried in this order, were each to fail at its provider",
            "   PROVIDER  MODEL  CREDENTIAL",
            "1  a         at-a   -",
        ],
        "{text}"
    );
}

#[test]
fn a_recorded_request_brings_its_own_path_and_headers() {
    let folder = folder();
    let recorded = "POST /v1/messages?beta=true HTTP/1.1\r\nHost: x\r\nauthorization: Bearer a-key\r\n\r\n\
                    {\"model\":\"b/any\",\"max_tokens\":9,\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}";
    let output = explain(folder.path(), &["-", "--json"], recorded);
    let told = json(&output);
    assert_eq!(output.status.code(), Some(1), "b has no key");
    assert_eq!(told["request"]["dialect"], "anthropic");
    assert_eq!(told["names"][0]["provider"], "b");
    assert!(told["refused"].as_str().unwrap().contains("credentials"), "{told}");
}

#[test]
fn what_goes_nowhere_or_can_not_be_read() {
    let folder = folder();
    let none = BODY.replace("m-1", "none");
    let output = explain(folder.path(), &["-", "--json"], &none);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        json(&output)["refused"]
            .as_str()
            .unwrap()
            .contains("`none` is not offered")
    );
    for (arguments, input, says) in [
        (&["missing.json"][..], "", "missing.json can't be read"),
        (&["-"], "{\"messages\":[]}", "the field `model` is missing"),
        (&["-", "--path", "/nowhere"], BODY, "no API format has POST /nowhere"),
        (&["-"], "hello", "neither a JSON object nor an HTTP request"),
        (
            &["-"],
            "POST /v1/messages HTTP/1.1\nsk-secret\n\n{}",
            "line 2 of the file: a header is written name:value",
        ),
    ] {
        let output = explain(folder.path(), arguments, input);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(says), "{error}");
        assert!(!error.contains("sk-secret"), "{error}");
    }
    folder.write("rules/b.toml", "[[route]]\n");
    let output = explain(folder.path(), &["body.json"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("rules/b.toml"));
}
