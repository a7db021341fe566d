//! What routing reads of a body beside model and stream: who is to answer, which conversation it is, where its parts stand.

use std::ops::Range;

use super::json::{Watched, place};
use super::spans::{self, text_of};
use super::{Outline, PeekError, Splice, is_model_name};

/// Most names in `models`.
const MAX_MODELS: usize = 32;

/// Longest text taken as a conversation's name, in bytes; longer ones are no names. (OpenAI takes 64 characters.)
pub(super) const MAX_CACHE_KEY: usize = 1024;

/// Reads `provider` and `models`, and notes the edits which take them out. `in_body`: the dialect names the model in the
/// body, so that the first of `models` can stand in for a missing `model`.
///
/// `null` is as good as absent, and stays: OpenRouter's SDKs write it.
pub(super) fn wishes(body: &[u8], fields: &Watched, in_body: bool) -> Result<Outline, PeekError> {
    let mut outline = Outline::default();
    let given = |place: usize| fields.values[place].clone().filter(|at| body[at.start] != b'n');
    let provider = given(place::PROVIDER).filter(|at| body[at.start] == b'"');
    let models = given(place::MODELS);
    if provider.is_none() && models.is_none() {
        return Ok(outline);
    }
    if let Some(at) = &provider {
        let name = text_of(body, at).filter(|name| !name.trim().is_empty());
        let name = name.ok_or(PeekError::WrongType {
            field: "provider",
            expected: "a provider's name, or an object for the provider",
        })?;
        outline.provider = Some(name.into_owned());
    }
    let mut stands_in = None;
    if let Some(at) = &models {
        let wrong = PeekError::WrongType {
            field: "models",
            expected: "a list of at most 32 names of models, each a string of 1 to 256 bytes",
        };
        if body[at.start] != b'[' {
            return Err(wrong);
        }
        for element in spans::elements(body, at.start) {
            let name = text_of(body, &element).filter(|name| is_model_name(name));
            let (Some(name), true) = (name, outline.models.len() < MAX_MODELS) else {
                return Err(wrong);
            };
            if in_body && outline.models.is_empty() && fields.values[place::MODEL].is_none() {
                stands_in = Some(element);
            }
            outline.models.push(name.into_owned());
        }
    }
    let is = |of: &Option<Range<usize>>, at: &Range<usize>| of.as_ref() == Some(at);
    let mut put = None;
    outline.ours = spans::rewrite(
        body,
        0,
        |member| {
            if is(&models, &member.value)
                && let Some(name) = &stands_in
            {
                // In its place, so that commas need no care.
                put = Some(Splice {
                    at: member.start..member.value.end,
                    with: [b"\"model\":", &body[name.clone()]].concat().into(),
                });
                return false;
            }
            is(&models, &member.value) || is(&provider, &member.value)
        },
        b"",
    );
    outline.ours.extend(put);
    Ok(outline)
}

/// Where a dialect has what else the outline tells: places in [`WATCHED`](super::json::WATCHED).
pub(super) struct Places {
    /// A text that names the conversation.
    pub(super) cache_key: &'static [usize],
    /// Instructions and tools.
    pub(super) preamble: &'static [usize],
    /// The conversation.
    pub(super) prompt: &'static [usize],
}

impl Places {
    /// Fills the outline.
    pub(super) fn read(&self, outline: &mut Outline, body: &[u8], fields: &Watched) {
        let given = |place: &usize| fields.values[*place].clone();
        let key = self.cache_key.iter().filter_map(given);
        outline.cache_key = key
            .filter_map(|at| text_of(body, &at))
            .find(|key| (1..=MAX_CACHE_KEY).contains(&key.len()))
            .map(|key| key.into_owned());
        outline.preamble.extend(self.preamble.iter().filter_map(given));
        outline.preamble.sort_unstable_by_key(|at| at.start);
        outline.prompt = self.prompt.iter().find_map(given);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, Method};
    use serde_json::{Value, json};

    use super::*;
    use crate::dialects::{Line, Peek, find};
    use crate::translate::splice;

    pub(super) const PATHS: [&str; 4] = [
        "/v1/chat/completions",
        "/v1/responses",
        "/v1/messages",
        "/v1beta/models/named:generateContent",
    ];

    fn peek(path: &str, body: &str) -> Result<Peek, PeekError> {
        let headers = HeaderMap::new();
        let line = Line {
            method: &Method::POST,
            path,
            query: "",
            headers: &headers,
        };
        let target = find(line).expect("a known path");
        target.dialect.peek(&target, body.as_bytes())
    }

    #[test]
    fn what_is_for_us_goes_and_nothing_else() {
        let others = [
            r#""model":"m""#,
            r#""messages":[]"#,
            r#""x":{"provider":"p","models":[1]}"#,
        ];
        for path in PATHS {
            for provider in ["", r#""provider":"p\u0041""#] {
                for models in ["", r#""models":["a/b", "c"]"#] {
                    for place in 0..=others.len() {
                        for second in 0..=others.len() {
                            let mut all = others.to_vec();
                            all.insert(place, provider);
                            all.insert(second, models);
                            all.retain(|member| !member.is_empty());
                            for join in [",", " ,\n "] {
                                let body = format!(" {{ {} }}\n", all.join(join));
                                let first = peek(path, &body).expect("valid");
                                let outline = &first.outline;
                                assert_eq!(outline.provider.as_deref(), (!provider.is_empty()).then_some("pA"));
                                assert_eq!(outline.models.len(), if models.is_empty() { 0 } else { 2 });
                                let edited = splice::apply(&Bytes::from(body.clone()), outline.ours.clone());
                                let mut want: Value = serde_json::from_str(&body).expect("JSON");
                                let map = want.as_object_mut().expect("an object");
                                map.retain(|name, _| name != "provider" && name != "models");
                                let got: Value = serde_json::from_slice(&edited).expect("still JSON");
                                assert_eq!(got, want, "{body}");
                                let again = peek(path, std::str::from_utf8(&edited).expect("UTF-8")).expect("valid");
                                assert_eq!((again.outline.provider, again.outline.models), (None, Vec::new()));
                                assert_eq!((again.outline.ours, again.model), (Vec::new(), first.model));
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_first_of_models_stands_in_for_a_missing_model() {
        for body in [
            r#"{"models":["a\"b","c"]}"#,
            r#"{"provider":"p","models":["a\"b","c"]}"#,
            r#"{"models" : [ "a\"b" , "c" ] , "provider":"p"}"#,
            r#"{"messages":[],"models":["a\"b","c"],"provider":"p","x":1}"#,
        ] {
            for path in &PATHS[..3] {
                let first = peek(path, body).expect("valid");
                assert_eq!((first.model.as_str(), first.model_span), ("a\"b", None));
                assert_eq!(first.outline.models, ["c"]);
                let edited = splice::apply(&Bytes::from(body), first.outline.ours);
                let again = peek(path, std::str::from_utf8(&edited).expect("UTF-8")).expect("valid");
                assert_eq!(again.model, "a\"b");
                assert!(again.model_span.is_some() && again.outline.ours.is_empty());
            }
            let named = peek(PATHS[3], body).expect("valid");
            assert_eq!((named.model.as_str(), named.outline.models.len()), ("named", 2));
        }
    }

    #[test]
    fn what_is_not_for_us_stays() {
        for body in [
            r#"{"model":"m","provider":{"order":["x"]}}"#,
            r#"{"model":"m","provider":null,"models":null}"#,
            r#"{"model":"m","provider":["x"]}"#,
        ] {
            let outline = peek(PATHS[0], body).expect("valid").outline;
            assert_eq!(outline, Outline::default(), "{body}");
        }
        for body in [
            r#"{"model":"m","models":"x"}"#,
            r#"{"model":"m","models":{}}"#,
            r#"{"model":"m","models":["x",1]}"#,
            r#"{"model":"m","models":[" "]}"#,
            &format!(r#"{{"models":{}}}"#, json!(vec!["m"; MAX_MODELS + 1])),
        ] {
            let told = peek(PATHS[0], body);
            assert!(
                matches!(told, Err(PeekError::WrongType { field: "models", .. })),
                "{body}: {told:?}"
            );
        }
        let told = peek(PATHS[0], r#"{"model":"m","provider":""}"#);
        assert!(matches!(told, Err(PeekError::WrongType { field: "provider", .. })));
        assert_eq!(peek(PATHS[0], r#"{"models":[]}"#), Err(PeekError::MissingModel));
        assert_eq!(
            peek(PATHS[0], r#"{"model":"m","messages":[],"messages":[]}"#),
            Err(PeekError::Duplicate("messages"))
        );
    }

    #[test]
    fn names_of_models_are_bounded() {
        let (longest, longer) = ("m".repeat(256), "m".repeat(257));
        let paths = |name: &str| {
            let mut paths = PATHS.map(str::to_owned);
            paths[3] = paths[3].replace("named", name);
            paths
        };
        for path in paths(&longest) {
            let told = peek(&path, &json!({"model": longest, "models": [longest]}).to_string()).expect("valid");
            assert_eq!(
                (told.model, told.outline.models),
                (longest.clone(), vec![longest.clone()])
            );
        }
        for path in paths(&longer) {
            let told = peek(&path, &json!({"model": longer}).to_string());
            let Err(wrong @ PeekError::WrongType { field: "model", .. }) = told else {
                panic!("{path}: {told:?}")
            };
            assert_eq!(
                wrong.to_string(),
                "the field `model` must be a string of 1 to 256 bytes"
            );
        }
        for path in paths("named") {
            let told = peek(&path, &json!({"model": "m", "models": ["m", longer]}).to_string());
            assert!(
                matches!(told, Err(PeekError::WrongType { field: "models", .. })),
                "{path}: {told:?}"
            );
        }
    }

    #[test]
    fn conversations_are_named_and_their_parts_found() {
        let session = "0f9c1de2-7c1f-4f4e-9d9f-1b2c3d4e5f60";
        let claude = |user: &str| json!({"model": "m", "metadata": {"user_id": user}}).to_string();
        let cases = [
            (
                PATHS[0],
                json!({"model": "m", "prompt_cache_key": "k\n"}).to_string(),
                Some("k\n"),
            ),
            (
                PATHS[1],
                json!({"model": "m", "prompt_cache_key": "k"}).to_string(),
                Some("k"),
            ),
            (
                PATHS[1],
                json!({"model": "m", "prompt_cache_key": ""}).to_string(),
                None,
            ),
            (PATHS[1], json!({"model": "m", "prompt_cache_key": 7}).to_string(), None),
            (
                PATHS[1],
                json!({"model": "m", "prompt_cache_key": "k".repeat(2000)}).to_string(),
                None,
            ),
            (
                PATHS[2],
                claude(&format!("user_0a1b_account__session_{session}")),
                Some(session),
            ),
            (
                PATHS[2],
                claude(&json!({"device_id": "d", "account_uuid": "", "session_id": session}).to_string()),
                Some(session),
            ),
            (PATHS[2], claude("user-17"), None),
            (PATHS[2], claude("user_session_"), None),
            (PATHS[2], claude("{\"session_id\":7}"), None),
            (
                PATHS[2],
                json!({"model": "m", "metadata": {"user_id": 7}}).to_string(),
                None,
            ),
            (PATHS[2], json!({"model": "m", "metadata": "x"}).to_string(), None),
            (
                PATHS[3],
                json!({"cachedContent": "cachedContents/a"}).to_string(),
                Some("cachedContents/a"),
            ),
            (
                PATHS[3],
                json!({"cached_content": "cachedContents/a"}).to_string(),
                Some("cachedContents/a"),
            ),
        ];
        for (path, body, key) in cases {
            let outline = peek(path, &body).expect("valid").outline;
            assert_eq!(outline.cache_key.as_deref(), key, "{body}");
        }
        let parts = [
            (
                PATHS[0],
                r#"{"tools":[1],"model":"m","messages":[2]}"#,
                vec!["[1]"],
                "[2]",
            ),
            (
                PATHS[1],
                r#"{"tools":[1],"model":"m","instructions":"i","input":"2"}"#,
                vec!["[1]", "\"i\""],
                "\"2\"",
            ),
            (
                PATHS[2],
                r#"{"system":[0],"tools":[1],"model":"m","messages":[2]}"#,
                vec!["[0]", "[1]"],
                "[2]",
            ),
            (
                PATHS[3],
                r#"{"tools":[1],"system_instruction":{},"contents":[2]}"#,
                vec!["[1]", "{}"],
                "[2]",
            ),
        ];
        for (path, body, preamble, prompt) in parts {
            let outline = peek(path, body).expect("valid").outline;
            let found: Vec<&str> = outline.preamble.iter().map(|at| &body[at.clone()]).collect();
            assert_eq!(
                (found, outline.prompt.map(|at| &body[at])),
                (preamble, Some(prompt)),
                "{body}"
            );
        }
    }
}
