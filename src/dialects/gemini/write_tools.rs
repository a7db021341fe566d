//! Requests written: tools. A function's schema goes as JSON Schema (`parametersJsonSchema`), as it is.

use serde_json::{Map, Value, json};

use super::DIALECT;
use super::request::settle;
use crate::ir::{LossReport, Request, Tool, ToolChoice, ToolDefinition};

/// `tools`: all functions in one entry, tools of the provider's in one each.
pub(super) fn tools(request: &Request, loss: &mut LossReport) -> Vec<Value> {
    let (mut entries, mut functions, mut place) = (Vec::new(), Vec::new(), None);
    for tool in &request.tools {
        if let Some(cache) = &tool.cache {
            loss.dropped(cache.at.to_string(), "prompts are cached without being told");
        }
        match &tool.kind {
            ToolDefinition::Function {
                name,
                description,
                parameters,
                strict,
                ..
            } => {
                place.get_or_insert(entries.len());
                if *strict == Some(true) {
                    loss.dropped(format!("{}.strict", tool.at), "schemas are followed loosely");
                }
                functions.push(function(tool, name, description, parameters, loss));
            }
            // Where the target has no custom tools they come as functions.
            ToolDefinition::Custom { .. } => loss.dropped(tool.at.to_string(), "tools take JSON"),
            ToolDefinition::Native(native) if native.dialect == DIALECT => {
                let mut entry = Map::new();
                entry.insert(super::fields::name(&native.key), native.json.clone());
                entries.push(Value::Object(entry));
            }
            ToolDefinition::Native(native) => {
                loss.dropped(native.at.to_string(), "a tool of another provider");
            }
        }
    }
    if let Some(place) = place {
        entries.insert(place, json!({ "functionDeclarations": functions }));
    }
    entries
}

fn function(
    tool: &Tool,
    name: &str,
    description: &Option<String>,
    parameters: &Option<Value>,
    loss: &mut LossReport,
) -> Value {
    let mut out = Map::new();
    out.insert("name".into(), name.into());
    if let Some(description) = description {
        out.insert("description".into(), description.as_str().into());
    }
    if let Some(schema) = parameters {
        out.insert("parametersJsonSchema".into(), schema.clone());
    }
    settle(&tool.native, &mut out, loss);
    Value::Object(out)
}

/// `functionCallingConfig`, which is refused where there are no functions.
pub(super) fn config(request: &Request, loss: &mut LossReport) -> Option<Value> {
    let choice = request.tool_choice.as_ref()?;
    let function = |tool: &Tool| matches!(tool.kind, ToolDefinition::Function { .. });
    if !request.tools.iter().any(function) {
        if !matches!(choice.value, ToolChoice::Auto | ToolChoice::None) {
            loss.dropped(choice.at, "there are no functions to choose among");
        }
        return None;
    }
    Some(match &choice.value {
        ToolChoice::Auto => json!({"mode": "AUTO"}),
        ToolChoice::None => json!({"mode": "NONE"}),
        ToolChoice::Required => json!({"mode": "ANY"}),
        ToolChoice::Tool(name) => json!({"mode": "ANY", "allowedFunctionNames": [name]}),
        ToolChoice::Allowed { required: true, names } => json!({"mode": "ANY", "allowedFunctionNames": names}),
        // Names go with `ANY` and with this mode, in which the model may also answer in words.
        ToolChoice::Allowed { required: false, names } => json!({"mode": "VALIDATED", "allowedFunctionNames": names}),
        ToolChoice::Native(native) if native.dialect == DIALECT => json!({"mode": native.json}),
        ToolChoice::Native(native) => {
            loss.dropped(native.at.to_string(), "the Gemini API has no such choice");
            return None;
        }
    })
}
