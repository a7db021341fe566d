//! Requests read: the body's fields. What a part, a tool or a setting says is read in files of its own.

use serde_json::{Map, Value};

use super::fields::{camel, native};
use super::{DIALECT, Gemini, request_config, request_contents, request_tools, write_embeddings, write_request};
use crate::dialects::*;
use crate::ir::{EmbeddingRequest, LossReport, Message, Native, Operation, Request, Role, Set};

/// "Must start with a letter or an underscore. Must be alphameric, underscores, dots, colons or dashes, with a maximum
/// length of 64": what the API says when it refuses a name. Some versions take no colons.
const NAMES: NameRule = NameRule {
    max: 64,
    also: "_-.",
    letter_first: true,
};

/// Ids are any string; some proxies are narrower.
const IDS: NameRule = NameRule {
    max: 128,
    also: "_-",
    letter_first: false,
};

impl RequestCodec for Gemini {
    fn decode_request(&self, target: &Target, body: &[u8]) -> Result<Request, RequestError> {
        let mut request = Request {
            model: target.model.clone().unwrap_or_default(),
            stream: target.stream == Some(true),
            ..Request::default()
        };
        let body = values::body(body)?;
        if target.operation == Operation::CountTokens {
            decode_count(body, &mut request)?;
        } else {
            decode(body, "", &mut request)?;
        }
        // Instructions within the conversation, before anything else was said, stand with the others.
        let leading = request.messages.iter().take_while(|m| m.role == Role::System).count();
        request.system.extend(request.messages.drain(..leading));
        Ok(request)
    }

    fn encode_request(
        &self,
        request: &Request,
        to: &Upstream<'_>,
        loss: &mut LossReport,
    ) -> Result<Vec<u8>, EncodeError> {
        write_request::body(request, to, loss).map(|body| write::document(&body))
    }

    fn encode_count_request(
        &self,
        request: &Request,
        to: &Upstream<'_>,
        loss: &mut LossReport,
    ) -> Option<Result<Vec<u8>, EncodeError>> {
        let inner = write_request::body(request, to, loss);
        Some(inner.map(|mut inner| {
            let mut whole = Map::new();
            whole.insert("model".into(), super::full_name(to.model).into());
            whole.append(&mut inner);
            let mut body = Map::new();
            body.insert("generateContentRequest".into(), Value::Object(whole));
            write::document(&body)
        }))
    }

    fn count_names_model(&self, body: &[u8]) -> bool {
        [&b"generateContentRequest"[..], b"generate_content_request"]
            .iter()
            .any(|name| memchr::memmem::find(body, name).is_some())
    }

    fn tool_name_rule(&self) -> NameRule {
        NAMES
    }

    fn tool_id_rule(&self) -> NameRule {
        IDS
    }

    fn has_tool_call_tokens(&self) -> bool {
        true
    }

    fn decode_embeddings(&self, target: &Target, body: &[u8]) -> Option<Result<EmbeddingRequest, RequestError>> {
        Some(super::embeddings::decode(target, body))
    }

    fn encode_embeddings(
        &self,
        request: &EmbeddingRequest,
        to: &Upstream<'_>,
        loss: &mut LossReport,
    ) -> Option<Result<Vec<u8>, EncodeError>> {
        Some(write_embeddings::request(request, to, loss))
    }
}

/// A request for a count: contents alone, or a whole request in a field of its own.
fn decode_count(body: Map<String, Value>, request: &mut Request) -> Result<(), RequestError> {
    let mut bare = Map::new();
    for (name, value) in values::fields(body) {
        if camel(&name) == "generateContentRequest" {
            decode(values::object(value, &name)?, &name, request)?;
        } else {
            bare.insert(name, value);
        }
    }
    decode(bare, "", request)
}

/// Reads the fields of a request; `parent` is where its object stands.
fn decode(body: Map<String, Value>, parent: &str, request: &mut Request) -> Result<(), RequestError> {
    for (name, value) in values::fields(body) {
        let at = values::field(parent, &name);
        match camel(&name).as_ref() {
            "contents" => request.messages.extend(request_contents::contents(value, &at)?),
            "systemInstruction" => request.system.push(system(value, &at)?),
            "tools" => request.tools.extend(request_tools::tools(value, &at)?),
            "toolConfig" => request_tools::config(values::object(value, &at)?, &at, request)?,
            "generationConfig" => request_config::generation(values::object(value, &at)?, &at, request)?,
            "serviceTier" => {
                let tier = values::string(value, &at)?.to_ascii_lowercase();
                request.service_tier = Some(Set::new(tier, "serviceTier"));
            }
            // The path names it.
            "model" => {}
            _ => request.native.push(native(parent, &name, "", value)),
        }
    }
    Ok(())
}

/// `systemInstruction`: a content, of which the role says nothing; or a text.
fn system(value: Value, at: &str) -> Result<Message, RequestError> {
    let mut message = match value {
        Value::Object(mut content) => {
            content.shift_remove("role");
            request_contents::content(content, at)?
        }
        Value::Array(parts) => {
            let mut message = Message::new(Role::System, at);
            message.blocks = request_contents::parts(Value::Array(parts), at)?;
            message
        }
        text => {
            let mut message = Message::new(Role::System, at);
            message
                .blocks
                .push(crate::ir::Block::text(values::string(text, at)?, at));
            message
        }
    };
    message.role = Role::System;
    Ok(message)
}

/// What the dialect's own natives are put back into.
pub(super) fn settle<'n>(
    natives: impl IntoIterator<Item = &'n Native>,
    map: &mut Map<String, Value>,
    loss: &mut LossReport,
) {
    Native::settle(natives, DIALECT, loss, |native| {
        super::fields::put(map, &native.key, native.json.clone());
    });
}
