//! Requests read: tools, and how they may be used.

use serde_json::{Map, Value};

use super::DIALECT;
use super::fields::{camel, list_or_one, native};
use super::schema::to_json_schema;
use crate::dialects::codec::RequestError;
use crate::dialects::values;
use crate::ir::{Native, Request, Set, Tool, ToolChoice, ToolDefinition};

/// Where the choice of tools stands.
const CHOICE: &str = "toolConfig.functionCallingConfig";

/// `tools`: each entry groups functions, or names tools of the provider's.
pub(super) fn tools(value: Value, at: &str) -> Result<Vec<Tool>, RequestError> {
    let mut tools = Vec::new();
    for (index, entry) in list_or_one(value, at)?.into_iter().enumerate() {
        let at = values::element(at, index);
        for (name, value) in values::fields(values::object(entry, &at)?) {
            let field = values::field(&at, &name);
            if camel(&name) != "functionDeclarations" {
                tools.push(Tool {
                    kind: ToolDefinition::Native(native(&at, &name, "", value)),
                    cache: None,
                    at: field.into(),
                    native: Vec::new(),
                });
                continue;
            }
            for (index, function) in list_or_one(value, &field)?.into_iter().enumerate() {
                let at = values::element(&field, index);
                tools.push(declaration(values::object(function, &at)?, &at)?);
            }
        }
    }
    Ok(tools)
}

/// One `FunctionDeclaration`.
fn declaration(function: Map<String, Value>, at: &str) -> Result<Tool, RequestError> {
    let (mut name, mut description, mut plain, mut json) = (String::new(), None, None, None);
    let mut natives = Vec::new();
    for (key, value) in values::fields(function) {
        let field = values::field(at, &key);
        match camel(&key).as_ref() {
            "name" => name = values::string(value, &field)?,
            "description" => description = Some(values::string(value, &field)?),
            "parameters" => plain = Some((key, value)),
            "parametersJsonSchema" => json = Some(value),
            _ => natives.push(native(at, &key, "", value)),
        }
    }
    if json.is_some()
        && let Some((key, value)) = plain.take()
    {
        // The reference says that they exclude each other.
        natives.push(native(at, &key, "", value));
    }
    Ok(Tool {
        kind: ToolDefinition::Function {
            name,
            description,
            parameters: json.or_else(|| plain.map(|(_, schema)| to_json_schema(schema))),
            strict: None,
            namespace: None,
        },
        cache: None,
        at: at.into(),
        native: natives,
    })
}

/// `toolConfig`.
pub(super) fn config(config: Map<String, Value>, at: &str, request: &mut Request) -> Result<(), RequestError> {
    for (name, value) in values::fields(config) {
        if camel(&name) == "functionCallingConfig" {
            let field = values::field(at, &name);
            calling(values::object(value, &field)?, &field, request)?;
        } else {
            request.native.push(native(at, &name, "toolConfig", value));
        }
    }
    Ok(())
}

/// `functionCallingConfig`.
fn calling(config: Map<String, Value>, at: &str, request: &mut Request) -> Result<(), RequestError> {
    let (mut mode, mut names) = (String::new(), Vec::new());
    for (name, value) in values::fields(config) {
        let field = values::field(at, &name);
        match camel(&name).as_ref() {
            "mode" => mode = values::string(value, &field)?.to_ascii_uppercase(),
            "allowedFunctionNames" => names = values::strings(value, &field)?,
            _ => request.native.push(native(at, &name, CHOICE, value)),
        }
    }
    let choice = match (mode.as_str(), names.len()) {
        ("NONE", _) => ToolChoice::None,
        ("ANY", 0) => ToolChoice::Required,
        ("ANY", 1) => ToolChoice::Tool(names.swap_remove(0)),
        ("ANY", _) => ToolChoice::Allowed { required: true, names },
        ("AUTO", 0) => ToolChoice::Auto,
        ("" | "MODE_UNSPECIFIED", 0) => return Ok(()),
        // Names go with this mode and with `ANY` only.
        ("AUTO" | "VALIDATED" | "" | "MODE_UNSPECIFIED", 1..) => ToolChoice::Allowed { required: false, names },
        _ => ToolChoice::Native(Native {
            dialect: DIALECT,
            at: values::field(at, "mode").into(),
            key: "mode".into(),
            json: Value::String(mode),
        }),
    };
    request.tool_choice = Some(Set::new(choice, CHOICE));
    Ok(())
}
