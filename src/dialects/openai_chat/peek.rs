//! What routing reads of a chat request, and the splice that asks for usage in the stream.

use bytes::Bytes;

use crate::dialects::json::{self, Watched, place};
use crate::dialects::outline::Places;
use crate::dialects::{Peek, PeekError, Splice};
use crate::ir::Operation;

const PLACES: Places = Places {
    cache_key: &[place::CACHE_KEY],
    preamble: &[place::TOOLS],
    prompt: &[place::MESSAGES, place::INPUT],
};

pub(super) fn peek(operation: Operation, body: &[u8]) -> Result<Peek, PeekError> {
    let (mut peek, fields) = json::peek(body)?;
    PLACES.read(&mut peek.outline, body, &fields);
    if operation == Operation::Embeddings {
        peek.stream = false;
    } else if peek.stream {
        peek.ask_usage = ask_usage(body, &fields)?;
    }
    Ok(peek)
}

/// The edit that sets `stream_options.include_usage`; `None` if the client has set it.
fn ask_usage(body: &[u8], fields: &Watched) -> Result<Option<Splice>, PeekError> {
    let splice = |at, with: &'static str| Splice {
        at,
        with: Bytes::from_static(with.as_bytes()),
    };
    let Some(options) = fields.values[place::STREAM_OPTIONS].clone() else {
        // The object has a field before its end: `model`.
        return Ok(Some(splice(
            fields.close..fields.close,
            r#","stream_options":{"include_usage":true}"#,
        )));
    };
    match body[options.start] {
        b'{' => {}
        b'n' => return Ok(Some(splice(options, r#"{"include_usage":true}"#))),
        _ => {
            return Err(PeekError::WrongType {
                field: "stream_options",
                expected: "an object",
            });
        }
    }
    let inner = json::fields(&body[options.clone()], &["include_usage"])?;
    Ok(match &inner.values[0] {
        Some(at) => {
            let at = options.start + at.start..options.start + at.end;
            (&body[at.clone()] != b"true").then(|| splice(at, "true"))
        }
        None if inner.is_empty => Some(splice(options, r#"{"include_usage":true}"#)),
        None => Some(splice(options.start + 1..options.start + 1, r#""include_usage":true,"#)),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::translate::splice;

    #[test]
    fn usage_is_asked_for_in_every_form_and_nothing_else_changes() {
        let options = [
            None,
            Some("null"),
            Some("{}"),
            Some("{ }"),
            Some(r#"{"include_usage":false}"#),
            Some(r#"{"include_usage" : null , "x":1}"#),
            Some(r#"{"x":{"include_usage":true}}"#),
            Some(r#"{"include_obfuscation":false}"#),
        ];
        for stream_options in options {
            for order in [
                ["\"model\":\"m\"", "\"stream\":true"],
                ["\"stream\":true", "\"model\":\"m\""],
            ] {
                let field = stream_options
                    .map(|options| format!(",\"stream_options\":{options}"))
                    .unwrap_or_default();
                let body = format!("{{{}{field},{}}}\n", order[0], order[1]);
                let peek = peek(Operation::Chat, body.as_bytes()).expect("valid");
                let edit = peek.ask_usage.expect("usage was not asked for");
                let spliced = splice::apply(&body.clone().into(), vec![edit]);
                let mut want: Value = serde_json::from_str(&body).expect("valid");
                if !want["stream_options"].is_object() {
                    want["stream_options"] = json!({});
                }
                want["stream_options"]["include_usage"] = json!(true);
                let got: Value = serde_json::from_slice(&spliced).expect("the spliced body is valid JSON");
                assert_eq!(got, want, "{body}");
            }
        }
    }

    #[test]
    fn usage_is_not_asked_for_twice_or_where_it_is_useless() {
        for body in [
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
            r#"{"model":"m","stream":false}"#,
            r#"{"model":"m"}"#,
        ] {
            assert_eq!(
                peek(Operation::Chat, body.as_bytes()).map(|p| p.ask_usage),
                Ok(None),
                "{body}"
            );
        }
        let body = br#"{"model":"m","stream":true,"input":"x"}"#;
        assert_eq!(
            peek(Operation::Embeddings, body).map(|p| (p.stream, p.ask_usage)),
            Ok((false, None))
        );
        let body = br#"{"model":"m","stream":true,"stream_options":7}"#;
        assert!(matches!(
            peek(Operation::Chat, body),
            Err(PeekError::WrongType {
                field: "stream_options",
                ..
            })
        ));
    }
}
