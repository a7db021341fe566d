//! Requests, written: tools, and which are to be called.

use serde_json::{Map, Value, json};

use super::encode_cache::CachePlan;
use super::models::Model;
use super::{DIALECT, schema};
use crate::ir::{LossReport, Native, Request, Tool, ToolChoice, ToolDefinition};

/// The field `tools`.
pub(super) fn tools(
    request: &Request,
    model: Option<Model>,
    caches: &CachePlan<'_>,
    loss: &mut LossReport,
) -> Vec<Value> {
    let mut tools = Vec::with_capacity(request.tools.len());
    for tool in &request.tools {
        let Some(mut node) = definition(tool, model, loss) else {
            if let Some(hint) = &tool.cache {
                loss.dropped(hint.at.to_string(), "its tool is left out");
            }
            Native::settle(&tool.native, DIALECT, loss, |_| {});
            continue;
        };
        Native::settle(&tool.native, DIALECT, loss, |native| {
            node.insert(native.key.to_string(), native.json.clone());
        });
        caches.put(tool.cache.as_ref(), &mut node, loss);
        tools.push(Value::Object(node));
    }
    tools
}

fn definition(tool: &Tool, model: Option<Model>, loss: &mut LossReport) -> Option<Map<String, Value>> {
    let at = &*tool.at;
    let (name, description) = match &tool.kind {
        ToolDefinition::Native(native) => {
            let mut node = None;
            Native::settle([native], DIALECT, loss, |own| node = own.json.as_object().cloned());
            return node;
        }
        ToolDefinition::Function { name, description, .. } | ToolDefinition::Custom { name, description, .. } => {
            (name, description)
        }
    };
    let mut node = Map::new();
    node.insert("name".into(), name.as_str().into());
    if let Some(description) = description {
        node.insert("description".into(), description.as_str().into());
    }
    match &tool.kind {
        ToolDefinition::Function { parameters, strict, .. } => {
            let (input, changed) = schema::input(parameters.as_ref());
            if changed {
                loss.approximated(
                    at.to_owned(),
                    "arguments are one object there, without alternatives at its top",
                );
            }
            let strict = *strict == Some(true);
            if strict && (model.is_none_or(Model::takes_schemas) && schema::is_strict(&input)) {
                node.insert("strict".into(), true.into());
            } else if strict {
                loss.dropped(
                    format!("{at}.strict"),
                    "the schema or the model allows no strict arguments there",
                );
            }
            node.insert("input_schema".into(), input);
        }
        // Became functions before; should one come nevertheless, its text is an argument.
        _ => {
            let input = json!({"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]});
            node.insert("input_schema".into(), input);
            loss.approximated(at.to_owned(), "tools take JSON there");
        }
    }
    Some(node)
}

/// The field `tool_choice`. Without tools it is refused.
pub(super) fn choice(request: &Request, any_tools: bool, model: Option<Model>, loss: &mut LossReport) -> Option<Value> {
    let serial = request.parallel_tool_calls.as_ref().filter(|parallel| !parallel.value);
    if !any_tools {
        const WHY: &str = "nothing is to be chosen without tools there";
        if let Some(choice) = &request.tool_choice
            && !matches!(choice.value, ToolChoice::Auto | ToolChoice::None)
        {
            loss.dropped(choice.at, WHY);
        }
        if let Some(parallel) = serial {
            loss.dropped(parallel.at, WHY);
        }
        return None;
    }
    let refuses_forced = model.is_some_and(Model::refuses_forced_tools);
    let mut node = Map::new();
    let mut put = |kind: &str| node.insert("type".into(), kind.into());
    match &request.tool_choice {
        None if serial.is_none() => return None,
        None => put("auto"),
        Some(set) => match &set.value {
            ToolChoice::Auto => put("auto"),
            ToolChoice::None => put("none"),
            ToolChoice::Required | ToolChoice::Tool(_) if refuses_forced => {
                loss.approximated(set.at, "the model can't be forced to call a tool");
                put("auto")
            }
            ToolChoice::Required => put("any"),
            ToolChoice::Tool(name) => {
                put("tool");
                node.insert("name".into(), name.as_str().into())
            }
            ToolChoice::Allowed { required: true, names } if names.len() == 1 && !refuses_forced => {
                put("tool");
                node.insert("name".into(), names[0].as_str().into())
            }
            ToolChoice::Allowed { required, .. } => {
                loss.approximated(set.at, "tools can't be chosen from among those offered there");
                put(if *required && !refuses_forced { "any" } else { "auto" })
            }
            ToolChoice::Native(native) => {
                Native::settle([native], DIALECT, loss, |own| {
                    node.extend(own.json.as_object().cloned().unwrap_or_default());
                });
                None
            }
        },
    };
    if node.is_empty() && serial.is_some() {
        node.insert("type".into(), "auto".into());
    }
    if let Some(parallel) = &request.parallel_tool_calls {
        if node.get("type").is_some_and(|kind| kind == "none") {
            if !parallel.value {
                loss.dropped(parallel.at, "no tool is to be called");
            }
        } else {
            node.insert("disable_parallel_tool_use".into(), (!parallel.value).into());
        }
    }
    (!node.is_empty()).then_some(Value::Object(node))
}
