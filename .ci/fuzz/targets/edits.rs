//! What rules change in bodies of clients: an edited body is one still, has what was set, and is the same when edited again.
#![no_main]

use bytes::Bytes;
use http::{HeaderMap, Method};
use libfuzzer_sys::fuzz_target;
use serde_json::json;
use tollgate::dialects::{self, Line};
use tollgate::translate::edit::{self, Change, EditError, How};
use tollgate::translate::splice;

const PATHS: [&str; 5] = [
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1beta/models/a:generateContent",
    "/v1beta/models/a:countTokens",
];

fuzz_target!(|input: &[u8]| {
    let (number, object) = (json!(1), json!({"x": [1]}));
    let changes = [
        ("tools", How::Remove),
        ("max_output_tokens", How::Set(&number)),
        ("temperature", How::Default(&number)),
        ("a.b", How::Set(&object)),
        ("a.c", How::Remove),
        ("metadata.user_id", How::Default(&number)),
    ]
    .map(|(path, how)| Change { path, how });
    for path in PATHS {
        let headers = HeaderMap::new();
        let line = Line {
            method: &Method::POST,
            path,
            query: "",
            headers: &headers,
        };
        let target = dialects::find(line).expect("a known path");
        if target.dialect.peek(&target, input).is_err() {
            continue;
        }
        let body = Bytes::copy_from_slice(input);
        let splices = target.dialect.add_instructions(&body, Some("be \"brief\""), Some("\n"));
        let added = splice::apply(&body, splices);
        target
            .dialect
            .peek(&target, &added)
            .expect("with instructions it is a body still");
        match edit::apply(&body, target.dialect, &changes) {
            Ok(edited) => {
                target
                    .dialect
                    .peek(&target, &edited)
                    .expect("an edited body is a body still");
                let again = edit::apply(&edited, target.dialect, &changes);
                assert_eq!(again.as_ref(), Ok(&edited), "editing it again changes nothing");
            }
            Err(error) => assert!(matches!(error, EditError::NotAnObject { .. }), "{error}"),
        }
    }
});
