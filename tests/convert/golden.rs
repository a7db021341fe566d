//! Golden files: telling conversions, each with what came in, what goes out, and what was lost. For people who want to see
//! what the gateway does, and for reviews of changes to it. `TOLLGATE_BLESS=1` writes them anew.

use std::fmt::Write;
use std::path::PathBuf;

use serde_json::Value;
use tollgate::dialects::{self, ALL};
use tollgate::ir::LossReport;

use crate::conservation::Way;
use crate::{answers, conservation, fixtures, pipeline};

/// Requests: the fixture, and the dialect it is written in.
const REQUESTS: &[(&str, &str)] = &[
    ("openai_chat/conversation", "anthropic"),
    ("openai_chat/settings", "openai_responses"),
    ("openai_chat/tools", "gemini"),
    ("openai_chat/custom_tools", "anthropic"),
    ("openai_chat/files", "gemini"),
    ("openai_responses/conversation", "openai_chat"),
    ("openai_responses/reasoning", "anthropic"),
    ("openai_responses/namespaces", "gemini"),
    ("anthropic/conversation", "openai_chat"),
    ("anthropic/thinking_budget", "gemini"),
    ("anthropic/documents", "openai_responses"),
    ("gemini/conversation", "anthropic"),
    ("gemini/settings", "openai_chat"),
    ("gemini/audio", "anthropic"),
];

/// Answers: the fixture, and the dialect of the client.
const ANSWERS: &[(&str, &str)] = &[
    ("openai_chat.tools", "anthropic"),
    ("openai_responses.tools", "openai_chat"),
    ("anthropic.tools", "openai_responses"),
    ("gemini.tools", "openai_chat"),
    ("gemini.blocked", "anthropic"),
    ("anthropic.whole", "gemini"),
];

/// Rewrites the file or compares it.
pub fn bless(path: &PathBuf, text: &str) -> Result<(), String> {
    if std::env::var_os("TOLLGATE_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
        std::fs::write(path, text).expect("the file can be written");
        return Ok(());
    }
    let stored = std::fs::read_to_string(path).unwrap_or_default();
    let differs = stored.lines().zip(text.lines()).position(|(a, b)| a != b);
    if stored == text {
        return Ok(());
    }
    let line = differs.unwrap_or_else(|| stored.lines().count().min(text.lines().count()));
    Err(format!(
        "{}, line {}: stored {:?}, now {:?}",
        path.display(),
        line + 1,
        stored.lines().nth(line).unwrap_or("(nothing)"),
        text.lines().nth(line).unwrap_or("(nothing)")
    ))
}

fn pretty(json: &str) -> String {
    let value: Value = serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"));
    serde_json::to_string_pretty(&value).expect("JSON can be written")
}

fn losses(out: &mut String, loss: &LossReport) {
    if loss.is_empty() {
        out.push_str("nothing\n");
    }
    for loss in loss.losses() {
        let path = if loss.path.is_empty() {
            "(the whole)"
        } else {
            &loss.path
        };
        let _ = writeln!(out, "{} {path}: {}", loss.kind.as_str(), loss.why);
    }
}

fn file(name: &str) -> PathBuf {
    let name = name.replace(['/', '.'], "_");
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/convert/golden/{name}.txt"))
}

fn finish(wrong: Vec<String>) {
    assert!(
        wrong.is_empty(),
        "conversions changed; if that is meant, run with TOLLGATE_BLESS=1 and look at the difference:\n  {}",
        wrong.join("\n  ")
    );
}

#[test]
fn requests_look_as_they_did() {
    let all = fixtures::requests();
    let mut wrong = Vec::new();
    for (id, to) in REQUESTS {
        let fixture = all
            .iter()
            .find(|fixture| fixture.id == *id)
            .unwrap_or_else(|| panic!("no fixture {id}"));
        let dialect = dialects::by_name(to).expect("a dialect");
        let mut text = format!("---- {id}\n{}\n---- to {to}\n", pretty(&fixture.body.to_string()));
        match conservation::convert(
            Way::Gateway,
            fixture.dialect,
            dialect,
            fixtures::model(to),
            &fixture.body,
        ) {
            Ok(Ok(converted)) => {
                let _ = write!(text, "{}\n---- lost\n", pretty(&converted.written));
                losses(&mut text, &converted.loss);
            }
            Ok(Err(error)) => {
                let _ = writeln!(text, "refused: {error}");
            }
            Err(error) => panic!("{id}: {error}"),
        }
        wrong.extend(bless(&file(&format!("{id}_to_{to}")), &text).err());
    }
    finish(wrong);
}

#[test]
fn answers_look_as_they_did() {
    let all = fixtures::answers();
    let mut wrong = Vec::new();
    for (id, to) in ANSWERS {
        let answer = all
            .iter()
            .find(|answer| answer.id == *id)
            .unwrap_or_else(|| panic!("no answer {id}"));
        let dialect = dialects::by_name(to).expect("a dialect");
        let (output, loss) = if answer.stream {
            let (encoding, _) =
                pipeline::convert_stream(answer.dialect, dialect, std::iter::once(answer.body.as_bytes()));
            (String::from_utf8(encoding.out.to_vec()).expect("UTF-8"), encoding.loss)
        } else {
            let response = pipeline::prepare(answers::complete(answer).expect("a whole answer"), dialect);
            let mut loss = LossReport::default();
            let written = dialect.encode_response(&response, &pipeline::answering(), &mut loss);
            (pretty(&String::from_utf8(written).expect("UTF-8")) + "\n", loss)
        };
        let mut text = format!(
            "---- {id}\n{}\n---- to {to}\n{output}---- lost\n",
            answer.body.trim_end()
        );
        losses(&mut text, &loss);
        wrong.extend(bless(&file(&format!("{id}_to_{to}")), &text.replace('\r', "")).err());
    }
    finish(wrong);
}

#[test]
fn every_pair_is_shown_once() {
    for to in ALL {
        let shown = |pairs: &[(&str, &str)]| pairs.iter().any(|(_, name)| *name == to.id().as_str());
        assert!(shown(REQUESTS) && shown(ANSWERS), "nothing is written in {}", to.id());
    }
}
