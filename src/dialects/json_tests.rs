use proptest::prelude::*;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::*;
use crate::dialects::Splice;

fn accepts(body: &[u8]) -> bool {
    fields(body, &[]).is_ok()
}

/// What we mean to accept, by serde_json: an object; strings by grammar, so that lone surrogates pass; no number
/// out of range.
fn serde_accepts(body: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(body) else {
        return false;
    };
    let is_object = text.trim_start_matches([' ', '\n', '\r', '\t']).starts_with('{');
    let numbers = match serde_json::from_str::<Value>(text) {
        Ok(_) => true,
        Err(error) => !error.to_string().contains("out of range"),
    };
    is_object && numbers && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

#[test]
fn accepts_and_rejects_as_the_grammar_does() {
    let good = [
        r#"{}"#,
        " {\"a\" : [ ] } \r\n\t",
        r#"{"a":[1,-0,0.5,1e5,-1E-5,12345678901234567890123]}"#,
        r#"{"a":"\"\\\/\b\f\n\r\t\u00e9\ud83d","b":{"c":[{},[[]],null,true,false]}}"#,
        r#"{"a":1,"a":2}"#,
        "{\"é\":\"\u{7f}\u{80}\"}",
    ];
    let bad = [
        "",
        " ",
        "[]",
        "1",
        "null",
        "{",
        "{}}",
        "{}{}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "{\"a\":[1,]}",
        "{\"a\":[,1]}",
        "{\"a\":[1 2]}",
        "{\"a\":[}",
        "{\"a\":{]}",
        "{a:1}",
        "{\"a\":01}",
        "{\"a\":-}",
        "{\"a\":1.}",
        "{\"a\":.5}",
        "{\"a\":1e}",
        "{\"a\":+1}",
        "{\"a\":nul}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12g4\"}",
        "{\"a\":\"\\u12",
        "{\"a\":\"\n\"}",
        "{\"a\":\"\u{0}\"}",
        "{\"a\":\"",
        "\u{feff}{}",
        "{\"a\":1e999}",
        "{\"a\":1}x",
        "{\"a\":tru",
        "{\"a\":\"\\",
        "{1:2}",
        "{\"a\" 1}",
        "{]",
        "{\"a\":]}",
    ];
    for body in good {
        assert!(
            accepts(body.as_bytes()),
            "well-formed: {body:?}: {:?}",
            fields(body.as_bytes(), &[])
        );
        assert!(serde_accepts(body.as_bytes()), "the judge agrees: {body:?}");
    }
    for body in bad {
        assert!(!accepts(body.as_bytes()), "not well-formed: {body:?}");
        assert!(!serde_accepts(body.as_bytes()), "the judge agrees: {body:?}");
    }
    assert!(!accepts(b"{\"a\":\"\xff\"}"), "not UTF-8");
}

#[test]
fn depth_is_bounded() {
    let nested = |n: usize| format!("{{\"a\":{}{}}}", "[".repeat(n - 1), "]".repeat(n - 1));
    assert!(accepts(nested(MAX_DEPTH).as_bytes()), "as deep as allowed");
    assert_eq!(fields(nested(MAX_DEPTH + 1).as_bytes(), &[]), Err(PeekError::TooDeep));
    let objects = format!("{}1{}", "{\"a\":".repeat(MAX_DEPTH), "}".repeat(MAX_DEPTH));
    assert!(accepts(objects.as_bytes()), "objects nest as arrays do");
}

#[test]
fn finds_fields_at_the_top_only_and_sees_through_escapes() {
    let body = br#" { "x": {"model": 1, "stream": 2}, "mod\u0065l" : "m/1" , "stream":true}"#;
    let (peek, found) = peek(body).expect("valid");
    assert_eq!((peek.model.as_str(), peek.stream), ("m/1", true));
    assert_eq!(&body[peek.model_span.expect("named in the body")], b"\"m/1\"");
    assert_eq!(body[found.close], b'}');
    let twice = br#"{"model":"a","mod\u0065l":"b"}"#;
    assert_eq!(
        super::peek(twice),
        Err(PeekError::Duplicate("model")),
        "an escaped key is the same key"
    );
}

#[test]
fn wrong_models_are_named() {
    let peek = |body: &str| super::peek(body.as_bytes()).map(|(peek, _)| peek.model);
    assert_eq!(peek("{}"), Err(PeekError::MissingModel));
    for model in ["null", "1", "[]", "\"\"", "\"  \"", "\"\\ud800\""] {
        let told = peek(&format!("{{\"model\":{model}}}"));
        assert!(
            matches!(told, Err(PeekError::WrongType { field: "model", .. })),
            "{model}: {told:?}"
        );
    }
    assert!(matches!(
        peek(r#"{"model":"a","stream":"yes"}"#),
        Err(PeekError::WrongType { field: "stream", .. })
    ));
    assert_eq!(peek(r#"{"model":"a","stream":null}"#).as_deref(), Ok("a"));
}

#[test]
fn a_special_byte_is_found_at_every_offset() {
    for special_byte in [b'"', b'\\', 0, 0x1f, b'\n'] {
        for length in [1usize, 7, 8, 9, 31, 32, 33, 63, 64, 65, 100, 127, 200] {
            for place in 0..length {
                let mut body = vec![b'~'; length];
                body[place] = special_byte;
                assert_eq!(
                    special(&body, 0),
                    place,
                    "byte {special_byte:#x} at {place} of {length}"
                );
            }
            assert_eq!(
                special(&vec![0x80; length], 0),
                length,
                "bytes above 0x7f are not special"
            );
            assert_eq!(special(&vec![b' '; length], 0), length, "a space is not special");
        }
    }
}

/// JSON values, small.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[ -~]{0,200}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map("[a-z\"\\\\é]{0,4}", inner, 0..6).prop_map(|m| m.into_iter().collect()),
        ]
    })
}

fn object() -> impl Strategy<Value = Value> {
    prop::collection::hash_map("[a-z\"\\\\é]{0,6}", value(), 0..6).prop_map(|m| m.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn accepts_what_serde_json_accepts(object in object(), pretty: bool, cut in 0usize..400, byte: u8, what in 0..4) {
        let mut body = if pretty { serde_json::to_vec_pretty(&object) } else { serde_json::to_vec(&object) }.expect("a value");
        prop_assert!(accepts(&body));
        let at = cut % body.len();
        match what {
            0 => body.truncate(at),
            1 => body[at] = byte,
            2 => body.insert(at, byte),
            _ => { body.remove(at); }
        }
        prop_assert_eq!(accepts(&body), serde_accepts(&body), "{:?}", String::from_utf8_lossy(&body));
    }

    #[test]
    fn accepts_what_serde_json_accepts_of_rubbish(text in "[\\[\\]{}\",:0-9eE+\\-.truefalsnl \\\\]{0,40}") {
        let body = format!("{{{text}}}");
        prop_assert_eq!(accepts(body.as_bytes()), serde_accepts(body.as_bytes()), "{}", body);
    }

    #[test]
    fn another_model_changes_nothing_else(object in object(), model: String, other: String, pretty: bool) {
        let mut object = object;
        object["model"] = Value::from(format!("m{model}"));
        object["stream"] = Value::Null;
        let body = if pretty { serde_json::to_vec_pretty(&object) } else { serde_json::to_vec(&object) }.expect("a value");
        let peek = match peek(&body) {
            Ok((peek, _)) => peek,
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        };
        prop_assert_eq!(&peek.model, &format!("m{model}"));
        let at = peek.model_span.expect("named in the body");
        let with = serde_json::to_vec(&other).expect("a string");
        let (front, back) = (body[..at.start].to_vec(), body[at.end..].to_vec());
        let spliced = crate::translate::splice::apply(&body.clone().into(), vec![Splice { at, with: with.clone().into() }]);
        prop_assert_eq!(&spliced[..], [front, with, back].concat());
        // Compared as read back: reading a float may change its last digit.
        let mut want: Value = serde_json::from_slice(&body).expect("valid");
        want["model"] = Value::from(other);
        prop_assert_eq!(serde_json::from_slice::<Value>(&spliced).expect("valid"), want);
    }
}
