use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;
use crate::dialects::by_name;

fn dialect(name: &str) -> &'static dyn Dialect {
    by_name(name).expect("a dialect")
}

fn set<'a>(path: &'a str, value: &'a Value) -> Change<'a> {
    Change {
        path,
        how: How::Set(value),
    }
}

fn default<'a>(path: &'a str, value: &'a Value) -> Change<'a> {
    Change {
        path,
        how: How::Default(value),
    }
}

fn remove(path: &str) -> Change<'_> {
    Change { path, how: How::Remove }
}

fn edited(name: &str, body: &str, changes: &[Change<'_>]) -> String {
    let edited = apply(&Bytes::from(body.to_owned()), dialect(name), changes).expect("a change that can be made");
    String::from_utf8(edited.to_vec()).expect("UTF-8")
}

#[test]
fn fields_change_and_the_rest_keeps_its_bytes() {
    let (one, text) = (json!(1), json!("a\"b"));
    let body = "{ \"model\" : \"m\", \"temperature\":0.10,\n \"messages\":[ ] , \"x\" : {\"y\": 1e2 } }\n";
    let cases: [(&[Change<'_>], &str); 9] = [
        (
            &[set("temperature", &one)],
            "{ \"model\" : \"m\", \"temperature\":1,\n \"messages\":[ ] , \"x\" : {\"y\": 1e2 } }\n",
        ),
        (&[default("temperature", &one)], body),
        (
            &[remove("temperature"), remove("x")],
            "{ \"model\" : \"m\", \"messages\":[ ] }\n",
        ),
        (
            &[set("x.z", &text)],
            "{ \"model\" : \"m\", \"temperature\":0.10,\n \"messages\":[ ] , \"x\" : {\"y\": 1e2,\"z\":\"a\\\"b\" } }\n",
        ),
        (
            &[set("a.b", &one), default("a.c", &one), default("a.b", &text)],
            "{ \"model\" : \"m\", \"temperature\":0.10,\n \"messages\":[ ] , \"x\" : {\"y\": 1e2 },\"a\":{\"b\":1,\"c\":1} }\n",
        ),
        (&[remove("a.b"), remove("temperature.x"), remove("x.z")], body),
        (&[set("a", &one), remove("a")], body),
        (
            &[remove("x"), set("x.z", &one)],
            "{ \"model\" : \"m\", \"temperature\":0.10,\n \"messages\":[ ],\"x\":{\"z\":1} }\n",
        ),
        (
            &[set(r"a\.b", &one)],
            "{ \"model\" : \"m\", \"temperature\":0.10,\n \"messages\":[ ] , \"x\" : {\"y\": 1e2 },\"a.b\":1 }\n",
        ),
    ];
    for (changes, want) in cases {
        assert_eq!(edited("openai_chat", body, changes), want, "{changes:?}");
    }
    let same = Bytes::from_static(b"{\"a\":1}");
    let uncopied = apply(&same, dialect("gemini"), &[default("a", &text)]).expect("fine");
    assert_eq!(uncopied.as_ptr(), same.as_ptr());
}

#[test]
fn words_stand_for_the_dialects_own_fields() {
    let limit = json!(50);
    let word = [set("max_output_tokens", &limit)];
    let cases = [
        ("openai_chat", r#"{"a":1}"#, r#"{"a":1,"max_tokens":50}"#),
        ("openai_chat", r#"{"max_tokens":9}"#, r#"{"max_tokens":50}"#),
        (
            "openai_chat",
            r#"{"max_completion_tokens":9}"#,
            r#"{"max_completion_tokens":50}"#,
        ),
        (
            "openai_chat",
            r#"{"max_completion_tokens":9,"max_tokens":8,"a":1}"#,
            r#"{"max_tokens":50,"a":1}"#,
        ),
        ("openai_responses", r#"{}"#, r#"{"max_output_tokens":50}"#),
        ("anthropic", r#"{"max_tokens":9}"#, r#"{"max_tokens":50}"#),
        ("gemini", r#"{}"#, r#"{"generationConfig":{"maxOutputTokens":50}}"#),
        (
            "gemini",
            r#"{"generation_config":{"max_output_tokens":9,"top_p":1}}"#,
            r#"{"generation_config":{"max_output_tokens":50,"top_p":1}}"#,
        ),
        (
            "gemini",
            r#"{"generationConfig":null}"#,
            r#"{"generationConfig":{"maxOutputTokens":50}}"#,
        ),
    ];
    for (name, body, want) in cases {
        assert_eq!(edited(name, body, &word), want, "{name} {body}");
    }
    let seed = json!(7);
    let unknown = [set("seed", &seed)];
    assert_eq!(edited("anthropic", "{}", &unknown), "{}", "it has no such setting");
    // By hand the newer name can be had.
    let renamed = [remove("max_tokens"), set("max_completion_tokens", &limit)];
    assert_eq!(
        edited("openai_chat", r#"{"max_tokens":9,"a":1}"#, &renamed),
        r#"{"a":1,"max_completion_tokens":50}"#
    );
}

#[test]
fn of_several_the_last_is_meant() {
    let one = json!(1);
    let body = r#"{"a":{"b":2},"c":0,"a":{"b":3}}"#;
    assert_eq!(
        edited("openai_chat", body, &[set("a.b", &one)]),
        r#"{"c":0,"a":{"b":1}}"#
    );
    assert_eq!(edited("openai_chat", body, &[remove("a")]), r#"{"c":0}"#);
    assert_eq!(edited("openai_chat", body, &[default("a.b", &one)]), body);
    // Even if the last is as it should be: another parser may take the first.
    assert_eq!(
        edited("openai_chat", r#"{"a":9,"a":1}"#, &[set("a", &one)]),
        r#"{"a":1}"#
    );
    let two_names = r#"{"max_completion_tokens":9,"max_tokens":1}"#;
    assert_eq!(
        edited("openai_chat", two_names, &[set("max_output_tokens", &one)]),
        r#"{"max_tokens":1}"#
    );
    let escaped = r#"{"\u0061":2,"c":0}"#;
    assert_eq!(
        edited("openai_chat", escaped, &[set("a", &one)]),
        r#"{"\u0061":1,"c":0}"#
    );
}

#[test]
fn what_can_t_be_changed_says_why() {
    let one = json!(1);
    let body = Bytes::from_static(br#"{"a":[1],"b":{"c":"text"}}"#);
    let told = |change| apply(&body, dialect("openai_chat"), &[change]).expect_err("refused");
    let at = |at: &str| EditError::NotAnObject {
        path: format!("{at}.x"),
        at: at.into(),
    };
    assert_eq!(told(set("a.x", &one)), at("a"));
    assert_eq!(told(default("b.c.x", &one)), at("b.c").clone());
    assert_eq!(
        told(set("b.c.x", &one)).to_string(),
        "`b.c.x` can't be set: `b.c` is not an object in this request"
    );
    for path in ["model", "stream", "messages", "input", "contents", "messages.0.content"] {
        assert!(matches!(told(remove(path)), EditError::Path(PathError::Fixed(_))));
    }
    let not_json = apply(&Bytes::from_static(b"[]"), dialect("gemini"), &[set("a", &one)]);
    assert_eq!(not_json, Err(EditError::NotJson));
}

/// The same on a parsed object: what `apply` has to come to.
fn model(map: &mut Map<String, Value>, names: &[&str], how: How<'_>) -> Result<(), ()> {
    let (name, rest) = names.split_first().expect("a name");
    if rest.is_empty() {
        match how {
            How::Set(value) => drop(map.insert((*name).into(), value.clone())),
            How::Default(value) if map.get(*name).is_none_or(Value::is_null) => {
                map.insert((*name).into(), value.clone());
            }
            How::Default(_) => {}
            How::Remove => drop(map.shift_remove(*name)),
        }
        return Ok(());
    }
    let remove = matches!(how, How::Remove);
    match map.get_mut(*name) {
        None | Some(Value::Null) if remove => Ok(()),
        None | Some(Value::Null) => {
            let mut inner = Map::new();
            model(&mut inner, rest, how)?;
            map.insert((*name).into(), inner.into());
            Ok(())
        }
        Some(Value::Object(inner)) => model(inner, rest, how),
        Some(_) if remove => Ok(()),
        Some(_) => Err(()),
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[ -~é]{0,5}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec(("[ab\"\\\\.]", inner), 0..3).prop_map(|m| m.into_iter().collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn changes_are_those_of_a_parsed_object(
        members in prop::collection::vec(("[ab\"\\\\.]", value()), 0..4),
        pretty: bool,
        changes in prop::collection::vec((prop::collection::vec("[ab.\\\\]", 1..4), value(), 0..3), 0..5),
    ) {
        let mut want: Map<String, Value> = members.into_iter().collect();
        let body = if pretty { serde_json::to_vec_pretty(&want) } else { serde_json::to_vec(&want) }.expect("a value");
        let paths: Vec<String> = changes
            .iter()
            .map(|(names, ..)| names.iter().map(|n| n.replace('\\', "\\\\").replace('.', "\\.")).collect::<Vec<_>>().join("."))
            .collect();
        let all: Vec<Change<'_>> = changes
            .iter()
            .zip(&paths)
            .map(|((_, value, how), path)| Change {
                path,
                how: match how { 0 => How::Set(value), 1 => How::Default(value), _ => How::Remove },
            })
            .collect();
        let mut result = Ok(());
        for ((names, ..), change) in changes.iter().zip(&all) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            result = result.and_then(|()| model(&mut want, &names, change.how));
        }
        let got = apply(&body.into(), dialect("openai_chat"), &all);
        match result {
            Err(()) => prop_assert!(matches!(got, Err(EditError::NotAnObject { .. })), "{:?}", got),
            Ok(()) => {
                let got = got.map_err(|error| TestCaseError::fail(error.to_string()))?;
                let got: Value = serde_json::from_slice(&got).map_err(|error| TestCaseError::fail(format!("{error}: {got:?}")))?;
                prop_assert_eq!(got, Value::Object(want));
            }
        }
    }
}
