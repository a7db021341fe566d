//! Tools under names that the provider takes, and their own names again in its answer.
//!
//! A dialect without groups of tools gets `group__name`, one without free-text tools gets a function with one text, `input`; and names
//! and ids it would refuse are rewritten. Equal requests give equal names, so that prompt caches hit.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};

use crate::dialects::{Dialect, NameRule};
use crate::ir::{Content, LossReport, Message, Request, Tool, ToolCall, ToolChoice, ToolDefinition, ToolKind};

/// The one argument of a function that stands for a free-text tool.
const INPUT: &str = "input";

/// What answers call tools by, and what the client calls them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolNames {
    by_wire: HashMap<String, Own>,
}

/// A tool as the client knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// Its name.
    pub name: String,
    /// Its group; empty: none.
    pub namespace: String,
    /// Its kind.
    pub kind: ToolKind,
}

impl ToolNames {
    /// No tool has another name or kind on the wire.
    pub fn is_empty(&self) -> bool {
        self.by_wire.is_empty()
    }

    /// The tool the client knows by another name or kind; `None`: it is the same.
    pub fn own(&self, wire: &str) -> Option<&Own> {
        self.by_wire.get(wire)
    }
}

/// Rewrites a request's tools for a provider of that dialect.
pub fn adapt(request: &mut Request, to: &dyn Dialect, loss: &mut LossReport) -> ToolNames {
    let mut names = Names {
        rule: to.tool_name_rule(),
        grouped: to.has_tool_namespaces(),
        custom: to.has_custom_tools(),
        taken: HashSet::new(),
        by_own: HashMap::new(),
        back: ToolNames::default(),
    };
    if let Some(choice) = &mut request.tool_choice
        && let ToolChoice::Allowed { required, names } = &choice.value
        && covers(names, &request.tools)
    {
        choice.value = if *required {
            ToolChoice::Required
        } else {
            ToolChoice::Auto
        };
    }
    for tool in &mut request.tools {
        match &mut tool.kind {
            ToolDefinition::Function { name, namespace, .. } => {
                *name = names.wire(name, namespace, ToolKind::Function);
                if !names.grouped {
                    *namespace = None;
                }
            }
            ToolDefinition::Custom { .. } if !names.custom => {
                let at = tool.at.to_string();
                let custom = std::mem::replace(&mut tool.kind, function("", None));
                tool.kind = names.as_function(custom);
                loss.approximated(
                    at,
                    "the provider has no free-text tools: it is a function with one text",
                );
            }
            ToolDefinition::Custom { name, namespace, .. } => {
                *name = names.wire(name, namespace, ToolKind::Custom);
            }
            ToolDefinition::Native(_) => {}
        }
    }
    for message in &mut request.messages {
        names.message(message);
    }
    if let Some(choice) = &mut request.tool_choice {
        match &mut choice.value {
            ToolChoice::Tool(name) => *name = names.chosen(name),
            ToolChoice::Allowed { names: allowed, .. } => {
                for name in allowed {
                    *name = names.chosen(name);
                }
            }
            _ => {}
        }
    }
    ids(request, to.tool_id_rule());
    names.back
}

/// The names are those of all tools there are: there is nothing to choose among.
fn covers(names: &[String], tools: &[Tool]) -> bool {
    tools.iter().all(|tool| match &tool.kind {
        ToolDefinition::Function { name, .. } | ToolDefinition::Custom { name, .. } => names.contains(name),
        ToolDefinition::Native(_) => false,
    })
}

fn function(name: &str, description: Option<String>) -> ToolDefinition {
    ToolDefinition::Function {
        name: name.to_owned(),
        description,
        parameters: None,
        strict: None,
        namespace: None,
    }
}

struct Names {
    rule: NameRule,
    grouped: bool,
    custom: bool,
    taken: HashSet<String>,
    by_own: HashMap<(String, String), String>,
    back: ToolNames,
}

impl Names {
    /// The name for the wire; the same for the same tool.
    fn wire(&mut self, name: &str, namespace: &Option<String>, kind: ToolKind) -> String {
        let group = namespace.as_deref().unwrap_or("");
        let key = (group.to_owned(), name.to_owned());
        if let Some(known) = self.by_own.get(&key) {
            return known.clone();
        }
        let joined: Cow<'_, str> = if group.is_empty() || self.grouped {
            Cow::Borrowed(name)
        } else {
            Cow::Owned(format!("{group}__{name}"))
        };
        let mut wire = fitted(&joined, self.rule);
        // With groups kept, two groups may have a tool of the same name. A name that was made up is told apart from all.
        if !self.grouped || wire != joined || self.back.by_wire.contains_key(&wire) {
            wire = unique(wire, self.rule, &self.taken);
        }
        self.taken.insert(wire.clone());
        let kind_changes = kind == ToolKind::Custom && !self.custom;
        if wire != name || (!group.is_empty() && !self.grouped) || kind_changes {
            let own = Own {
                name: name.to_owned(),
                namespace: group.to_owned(),
                kind,
            };
            self.back.by_wire.insert(wire.clone(), own);
        }
        self.by_own.insert(key, wire.clone());
        wire
    }

    fn as_function(&mut self, custom: ToolDefinition) -> ToolDefinition {
        let ToolDefinition::Custom {
            name,
            description,
            format,
            namespace,
        } = custom
        else {
            return custom;
        };
        let name = self.wire(&name, &namespace, ToolKind::Custom);
        let mut text = description.unwrap_or_default();
        let grammar = format.as_ref().and_then(grammar);
        if let Some((syntax, definition)) = grammar {
            text.push_str(&format!(
                "\n\nThe `{INPUT}` follows this grammar ({syntax}):\n{definition}"
            ));
        }
        ToolDefinition::Function {
            name,
            description: (!text.is_empty()).then_some(text),
            parameters: Some(json!({
                "type": "object",
                "properties": {INPUT: {"type": "string", "description": "The tool's whole input, as plain text."}},
                "required": [INPUT],
                "additionalProperties": false,
            })),
            strict: None,
            namespace: None,
        }
    }

    fn message(&mut self, message: &mut Message) {
        for block in &mut message.blocks {
            match &mut block.content {
                Content::ToolCall(call) => self.call(call),
                Content::ToolResult(result) => {
                    if let Some(name) = &mut result.name {
                        *name = self.chosen(name);
                    }
                    if !self.custom {
                        result.kind = ToolKind::Function;
                    }
                }
                _ => {}
            }
        }
    }

    fn call(&mut self, call: &mut ToolCall) {
        call.name = self.wire(&call.name, &call.namespace, call.kind);
        if !self.grouped {
            call.namespace = None;
        }
        if call.kind == ToolKind::Custom && !self.custom {
            let mut arguments = Map::new();
            arguments.insert(INPUT.to_owned(), Value::String(std::mem::take(&mut call.arguments)));
            call.arguments = Value::Object(arguments).to_string();
            call.kind = ToolKind::Function;
        }
    }

    /// The wire name of a tool named without its group.
    fn chosen(&self, name: &str) -> String {
        let plain = (String::new(), name.to_owned());
        let known = self.by_own.get(&plain);
        let grouped = || {
            self.by_own
                .iter()
                .find(|((_, own), _)| own == name)
                .map(|(_, wire)| wire)
        };
        known
            .or_else(grouped)
            .cloned()
            .unwrap_or_else(|| fitted(name, self.rule))
    }
}

/// Syntax and definition of a custom tool's grammar, where it has one.
fn grammar(format: &Value) -> Option<(&str, &str)> {
    let inner = format.get("grammar").unwrap_or(format);
    Some((
        inner.get("syntax").and_then(Value::as_str).unwrap_or("text"),
        inner.get("definition").and_then(Value::as_str)?,
    ))
}

/// The text a function that stands for a free-text tool was called with; `None`: its arguments are not what was asked for.
pub fn free_text(arguments: &str) -> Option<String> {
    match serde_json::from_str::<Map<String, Value>>(arguments)
        .ok()?
        .remove(INPUT)?
    {
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// The name, with what the rule forbids replaced, and cut to its length.
fn fitted(name: &str, rule: NameRule) -> String {
    if rule.allows(name) {
        return name.to_owned();
    }
    let mut fitted: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || rule.also.contains(c) {
                c
            } else {
                '_'
            }
        })
        .collect();
    if fitted.is_empty() || (rule.letter_first && !fitted.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')) {
        fitted.insert(0, '_');
    }
    if fitted.len() > rule.max {
        // What was cut off is told apart by a checksum.
        let checksum = format!("_{:08x}", crc32c::crc32c(name.as_bytes()));
        fitted.truncate(rule.max.saturating_sub(checksum.len()));
        fitted.push_str(&checksum);
    }
    fitted
}

/// The name, or the name with the first number that makes it a new one.
fn unique(name: String, rule: NameRule, taken: &HashSet<String>) -> String {
    if !taken.contains(&name) {
        return name;
    }
    let mut number = 2u32;
    loop {
        let suffix = format!("_{number}");
        let mut candidate = name.clone();
        candidate.truncate(rule.max.saturating_sub(suffix.len()));
        candidate.push_str(&suffix);
        if !taken.contains(&candidate) {
            return candidate;
        }
        number += 1;
    }
}

/// Rewrites ids the rule forbids, the same way in calls and results.
fn ids(request: &mut Request, rule: NameRule) {
    let calls = request.messages.iter().flat_map(|message| &message.blocks);
    let fitting = calls.filter_map(|block| match &block.content {
        Content::ToolCall(call) if rule.allows(&call.id) => Some(call.id.clone()),
        _ => None,
    });
    let mut taken: HashSet<String> = fitting.collect();
    let mut renamed: HashMap<String, String> = HashMap::new();
    for block in request.messages.iter_mut().flat_map(|message| &mut message.blocks) {
        match &mut block.content {
            Content::ToolCall(call) if rule.allows(&call.id) => {}
            Content::ToolCall(call) => {
                let id = match renamed.get(&call.id) {
                    Some(id) => id.clone(),
                    None => unique(fitted(&call.id, rule), rule, &taken),
                };
                taken.insert(id.clone());
                renamed.insert(std::mem::replace(&mut call.id, id.clone()), id);
            }
            Content::ToolResult(result) => {
                if let Some(id) = renamed.get(&result.call) {
                    result.call.clone_from(id);
                } else if !rule.allows(&result.call) {
                    result.call = fitted(&result.call, rule);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
