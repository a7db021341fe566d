//! Instructions of rules, in every form in which a dialect's own may stand.

use bytes::Bytes;
use serde_json::Value;

use super::*;
use crate::translate::splice;

/// Escapes, an empty line, and what JSON has to escape.
const BEFORE: &str = "be \"brief\"\n";
const AFTER: &str = "é\\";

fn added(dialect: &dyn Dialect, body: &str, before: Option<&str>, after: Option<&str>) -> String {
    let splices = dialect.add_instructions(body.as_bytes(), before, after);
    let edited = splice::apply(&Bytes::from(body.to_owned()), splices);
    let edited = String::from_utf8(edited.to_vec()).expect("UTF-8");
    let _: Value = serde_json::from_str(&edited).unwrap_or_else(|error| panic!("{error}: {edited}"));
    edited
}

/// Fills in the texts as JSON writes them: `<` and `>` without quotes.
fn filled(want: &str) -> String {
    want.replace('<', r#"be \"brief\"\n"#).replace('>', r"é\\")
}

fn check(dialect: &dyn Dialect, cases: &[(&str, &str)]) {
    for (body, want) in cases {
        assert_eq!(added(dialect, body, Some(BEFORE), Some(AFTER)), filled(want), "{body}");
        assert_eq!(added(dialect, body, None, Some("")), *body, "nothing to add");
        // Each alone is the same without the other.
        for (before, after) in [(Some(BEFORE), None), (None, Some(AFTER))] {
            let alone = added(dialect, body, before, after);
            assert_eq!(alone.contains(r#"be \"brief\"\n"#), before.is_some(), "{alone}");
            assert_eq!(alone.contains(r"é\\"), after.is_some(), "{alone}");
        }
    }
}

fn leaves_alone(dialect: &dyn Dialect, bodies: &[&str]) {
    for body in bodies {
        assert_eq!(added(dialect, body, Some(BEFORE), Some(AFTER)), *body);
    }
}

#[test]
fn chat() {
    let cases = [
        (
            r#"{"messages":[]}"#,
            r#"{"messages":[{"role":"system","content":"<\n\n>"}]}"#,
        ),
        (
            r#"{ "messages" : [ {"role":"user","content":"x"} ] }"#,
            r#"{ "messages" : [{"role":"system","content":"<\n\n>"}, {"role":"user","content":"x"} ] }"#,
        ),
        (
            r#"{"messages":[{"content":"old","role":"system"},{"role":"user","content":"x"}]}"#,
            r#"{"messages":[{"content":"<\n\nold\n\n>","role":"system"},{"role":"user","content":"x"}]}"#,
        ),
        (
            r#"{"messages":[{"role":"syst\u0065m","content":""}]}"#,
            r#"{"messages":[{"role":"syst\u0065m","content":"<\n\n>"}]}"#,
        ),
        (
            r#"{"messages":[{"role":"system","content":null}]}"#,
            r#"{"messages":[{"role":"system","content":"<\n\n>"}]}"#,
        ),
        (
            r#"{"messages":[{"role":"developer","content":[ {"type":"text","text":"a"} ]},{"role":"user"},{"role":"system","content":"z"}]}"#,
            r#"{"messages":[{"role":"developer","content":[{"type":"text","text":"<\n\n"}, {"type":"text","text":"a"} ,{"type":"text","text":"\n\n>"}]},{"role":"user"},{"role":"system","content":"z"}]}"#,
        ),
        (
            r#"{"messages":[{"role":"system","content":[ ]}]}"#,
            r#"{"messages":[{"role":"system","content":[{"type":"text","text":"<\n\n>"} ]}]}"#,
        ),
        (
            r#"{"messages":[{"role":"system","content":"a"},{"role":"developer","content":"b\\"},{"role":"system","content":["c"]}]}"#,
            r#"{"messages":[{"role":"system","content":"<\n\na"},{"role":"developer","content":"b\\"},{"role":"system","content":["c",{"type":"text","text":"\n\n>"}]}]}"#,
        ),
    ];
    check(&openai_chat::OpenAiChat, &cases);
    leaves_alone(
        &openai_chat::OpenAiChat,
        &[r#"{"input":"x"}"#, r#"{"messages":null}"#, r#"{"messages":"x"}"#],
    );
}

#[test]
fn responses() {
    check(
        &openai_responses::OpenAiResponses,
        &[
            (r#"{"input":"x"}"#, r#"{"instructions":"<\n\n>","input":"x"}"#),
            (r#"{ }"#, r#"{"instructions":"<\n\n>" }"#),
            (r#"{"instructions":null}"#, r#"{"instructions":"<\n\n>"}"#),
            (r#"{"instructions":""}"#, r#"{"instructions":"<\n\n>"}"#),
            (r#"{"instructions" : "a\""}"#, r#"{"instructions" : "<\n\na\"\n\n>"}"#),
        ],
    );
    leaves_alone(&openai_responses::OpenAiResponses, &[r#"{"instructions":7}"#]);
}

#[test]
fn anthropic() {
    check(
        &anthropic::Anthropic,
        &[
            (r#"{"messages":[]}"#, r#"{"system":"<\n\n>","messages":[]}"#),
            (r#"{"system":null}"#, r#"{"system":"<\n\n>"}"#),
            (r#"{"system":"a"}"#, r#"{"system":"<\n\na\n\n>"}"#),
            (r#"{"system":[]}"#, r#"{"system":[{"type":"text","text":"<\n\n>"}]}"#),
            (
                r#"{"system":[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}}]}"#,
                r#"{"system":[{"type":"text","text":"<"},{"type":"text","text":"a","cache_control":{"type":"ephemeral"}},{"type":"text","text":">"}]}"#,
            ),
        ],
    );
    leaves_alone(&anthropic::Anthropic, &[r#"{"system":7}"#]);
}

#[test]
fn gemini() {
    let whole = r#"{"parts":[{"text":"<\n\n>"}]}"#;
    check(
        &gemini::Gemini,
        &[
            (
                r#"{"contents":[]}"#,
                &format!(r#"{{"systemInstruction":{whole},"contents":[]}}"#),
            ),
            (
                r#"{"contents":[],"system_instruction":null}"#,
                &format!(r#"{{"contents":[],"system_instruction":{whole}}}"#),
            ),
            (
                r#"{"contents":[],"system_instruction":{"parts":[{"text":"a"}]}}"#,
                r#"{"contents":[],"system_instruction":{"parts":[{"text":"<\n\n"},{"text":"a"},{"text":"\n\n>"}]}}"#,
            ),
            (
                r#"{"contents":[],"systemInstruction":{"role":"user","parts":{"text":"a"}}}"#,
                r#"{"contents":[],"systemInstruction":{"role":"user","parts":[{"text":"<\n\n"},{"text":"a"},{"text":"\n\n>"}]}}"#,
            ),
            (
                r#"{"contents":[],"systemInstruction":{"role":"user"}}"#,
                r#"{"contents":[],"systemInstruction":{"parts":[{"text":"<\n\n>"}],"role":"user"}}"#,
            ),
            (
                r#"{"contents":[],"systemInstruction":{}}"#,
                &format!(r#"{{"contents":[],"systemInstruction":{whole}}}"#),
            ),
            (
                r#"{"contents":[],"systemInstruction":{"parts":[ ]}}"#,
                r#"{"contents":[],"systemInstruction":{"parts":[{"text":"<\n\n>"} ]}}"#,
            ),
            (
                r#"{"contents":[],"systemInstruction":"a"}"#,
                r#"{"contents":[],"systemInstruction":"<\n\na\n\n>"}"#,
            ),
            (
                r#"{"contents":[],"systemInstruction":[{"text":"a"}]}"#,
                r#"{"contents":[],"systemInstruction":[{"text":"<\n\n"},{"text":"a"},{"text":"\n\n>"}]}"#,
            ),
            (
                r#"{"generateContentRequest":{"contents":[],"model":"m"}}"#,
                &format!(r#"{{"generateContentRequest":{{"systemInstruction":{whole},"contents":[],"model":"m"}}}}"#),
            ),
        ],
    );
    // Vectors have no instructions.
    leaves_alone(
        &gemini::Gemini,
        &[
            r#"{"content":{"parts":[]}}"#,
            r#"{"requests":[]}"#,
            r#"{"contents":[],"systemInstruction":7}"#,
        ],
    );
}

#[test]
fn silent_streams_are_kept_alive_as_each_dialect_can() {
    for dialect in ALL {
        assert_eq!(dialect.ping(Framing::JsonArray), None);
        let ping = dialect.ping(Framing::Sse);
        assert_eq!(ping.is_none(), dialect.id() == gemini::Gemini.id(), "{}", dialect.id());
        assert!(ping.is_none_or(|ping| ping.ends_with("\n\n")));
        for header in dialect.session_headers() {
            assert!(http::HeaderName::from_bytes(header.as_bytes()).is_ok_and(|name| name.as_str() == *header));
        }
    }
}
