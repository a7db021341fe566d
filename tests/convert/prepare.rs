//! What stands between a request's decoder and its encoder, in small (see `pipeline.rs`): links, foreign tokens, custom
//! tools and groups which the target does not have.

use serde_json::json;
use tollgate::dialects::Dialect;
use tollgate::ir::{Block, Content, LossReport, Request, ToolDefinition, ToolKind};

const FOREIGN: &str = "a token which only its own provider understands";
const CUSTOM: &str = "a tool of free text becomes a function with one text";
const GROUP: &str = "the group becomes part of the name";

/// A request as `translate/` hands it to an encoder, and the tokens that were stripped on the way (their losses are
/// `translate/`'s, and speak of nothing but the token).
pub fn request(
    mut request: Request,
    from: &dyn Dialect,
    to: &dyn Dialect,
    loss: &mut LossReport,
) -> (Request, LossReport) {
    let mut stripped = LossReport::default();
    request.link_tools();
    if from.id() == to.id() {
        return (request, stripped);
    }
    for tool in &mut request.tools {
        if let ToolDefinition::Custom {
            name,
            description,
            format,
            namespace,
        } = &tool.kind
            && !to.has_custom_tools()
        {
            if format.is_some() {
                loss.approximated(tool.at.to_string(), CUSTOM);
            }
            let description = match (description, format) {
                (description, Some(format)) => Some(format!("{} {format}", description.as_deref().unwrap_or(""))),
                (description, None) => description.clone(),
            };
            tool.kind = ToolDefinition::Function {
                name: name.clone(),
                description: description.clone(),
                parameters: Some(
                    json!({"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}),
                ),
                strict: None,
                namespace: namespace.clone(),
            };
        }
        if !to.has_tool_namespaces()
            && let ToolDefinition::Function { name, namespace, .. } | ToolDefinition::Custom { name, namespace, .. } =
                &mut tool.kind
            && let Some(group) = namespace.take()
        {
            *name = format!("{group}__{name}");
            loss.approximated(tool.at.to_string(), GROUP);
        }
    }
    for block in request
        .system
        .iter_mut()
        .chain(&mut request.messages)
        .flat_map(|message| &mut message.blocks)
    {
        settle(block, to, &mut stripped);
    }
    (request, stripped)
}

fn settle(block: &mut Block, to: &dyn Dialect, stripped: &mut LossReport) {
    if block.opaque.take().is_some() {
        stripped.dropped(block.at.to_string(), FOREIGN);
    }
    match &mut block.content {
        Content::ToolCall(call) => {
            if call.kind == ToolKind::Custom && !to.has_custom_tools() {
                call.kind = ToolKind::Function;
                call.arguments = json!({"input": call.arguments}).to_string();
            }
            if !to.has_tool_namespaces()
                && let Some(group) = call.namespace.take()
            {
                call.name = format!("{group}__{}", call.name);
            }
        }
        Content::ToolResult(result) => {
            if !to.has_custom_tools() {
                result.kind = ToolKind::Function;
            }
            for block in &mut result.blocks {
                settle(block, to, stripped);
            }
        }
        _ => {}
    }
}
