//! Messages, written as items of `input`: each call, result and reasoning is an item of its own, other blocks in a row are
//! the parts of one message.

use serde_json::{Map, Value, json};

use super::encode_tools::is_field_of;
use super::{DIALECT, encode_media, output};
use crate::dialects::EncodeError;
use crate::ir::{Block, Content, LossReport, Message, Native, Role, ToolKind};

/// Why reasoning of others is left out.
const FOREIGN_REASONING: &str = "reasoning can only be returned with its provider's token";

/// The item that a path of this dialect leads into: `input[3]` of `input[3].content[0]`.
pub(super) fn item_of(at: &str) -> Option<&str> {
    let end = at.strip_prefix("input[")?.find(']')?;
    at.get(..="input[".len() + end)
}

/// Writes items.
pub(super) struct Items<'l> {
    own: bool,
    loss: &'l mut LossReport,
    items: Vec<Value>,
    open: Option<Open>,
}

/// An item which may get further parts.
struct Open {
    /// Who speaks.
    role: Role,
    /// It is reasoning, and not a message.
    reasoning: bool,
    /// The item it was read from; `None` in other dialects, where whatever fits goes together.
    from: Option<String>,
    item: Map<String, Value>,
    parts: Vec<Value>,
}

impl<'l> Items<'l> {
    /// `own`: the request was read from this dialect, and is written as it was.
    pub(super) fn new(own: bool, loss: &'l mut LossReport) -> Self {
        Items {
            own,
            loss,
            items: Vec::new(),
            open: None,
        }
    }

    /// The items.
    pub(super) fn finish(mut self) -> Vec<Value> {
        self.close();
        self.items
    }

    fn close(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        if open.reasoning {
            let (summary, content): (Vec<_>, Vec<_>) =
                open.parts.into_iter().partition(|part| part["type"] == "summary_text");
            open.item.insert("summary".into(), summary.into());
            if !content.is_empty() {
                open.item.insert("content".into(), content.into());
            }
        } else {
            open.item.insert("content".into(), open.parts.into());
        }
        self.items.push(Value::Object(open.item));
    }

    fn item(&mut self, item: Value) {
        self.close();
        self.items.push(item);
    }

    /// Adds a message.
    pub(super) fn message(&mut self, message: &Message) -> Result<(), EncodeError> {
        self.close();
        if message.name.is_some() {
            self.loss
                .dropped(format!("{}.name", message.at), "a speaker has no name there");
        }
        let first = self.items.len();
        for block in &message.blocks {
            self.block(block, message.role)?;
        }
        if self.own && message.blocks.is_empty() {
            self.message_item(message.role, &message.at);
        }
        self.close();
        let mut natives = Vec::new();
        Native::settle(&message.native, DIALECT, self.loss, |native| natives.push(native));
        if let Some(Value::Object(item)) = self.items.get_mut(first) {
            for native in natives {
                item.insert(native.key.to_string(), native.json.clone());
            }
        }
        Ok(())
    }

    /// The message item that a part of this role and path belongs to.
    fn message_item(&mut self, role: Role, at: &str) -> &mut Open {
        let word = match role {
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::System => "system",
            Role::Developer => "developer",
        };
        self.open(role, false, at, || json!({"type": "message", "role": word}))
    }

    fn open(&mut self, role: Role, reasoning: bool, at: &str, item: impl FnOnce() -> Value) -> &mut Open {
        let from = item_of(at).filter(|_| self.own).map(str::to_owned);
        // Without such paths, what was thought in two blocks was thought twice.
        let joins = from.is_some() || !reasoning;
        let fits = |open: &Open| joins && open.role == role && open.reasoning == reasoning && open.from == from;
        if !self.open.as_ref().is_some_and(fits) {
            self.close();
        }
        self.open.get_or_insert_with(|| Open {
            role,
            reasoning,
            from,
            item: match item() {
                Value::Object(item) => item,
                _ => Map::new(),
            },
            parts: Vec::new(),
        })
    }

    fn block(&mut self, block: &Block, role: Role) -> Result<(), EncodeError> {
        if let Some(cache) = &block.cache {
            self.loss
                .dropped(cache.at.to_string(), "prompts are cached without being asked");
        }
        // A token that came to stand on something else than reasoning, in a dialect that has no block for it alone.
        if let (Some(token), false) = (&block.opaque, matches!(block.content, Content::Reasoning(_))) {
            self.item(json!({"type": "reasoning", "summary": [], "encrypted_content": &*token.0}));
        }
        match &block.content {
            Content::Text(text) if text.is_empty() && !self.own => {}
            Content::Text(text) => {
                let kind = if role == Role::Assistant {
                    "output_text"
                } else {
                    "input_text"
                };
                let mut part = json!({"type": kind, "text": text});
                self.annotations(block, role, &mut part);
                self.part(block, role, part);
            }
            Content::Refusal(text) if role == Role::Assistant => {
                self.part(block, role, json!({"type": "refusal", "refusal": text}));
            }
            Content::Refusal(text) => self.part(block, role, json!({"type": "input_text", "text": text})),
            Content::Media(media) => {
                let part = encode_media::part(media, &block.at, self.own, self.loss)?;
                if role == Role::Assistant {
                    self.loss
                        .approximated(block.at.to_string(), "only users can show media there");
                    self.part(block, Role::User, part);
                } else {
                    self.part(block, role, part);
                }
            }
            Content::Reasoning(text) => self.reasoning(block, text),
            Content::ToolCall(call) => {
                let mut item = match call.kind {
                    ToolKind::Function => {
                        let arguments = if call.arguments.is_empty() {
                            "{}"
                        } else {
                            &call.arguments
                        };
                        json!({"type": "function_call", "call_id": call.id, "name": call.name, "arguments": arguments})
                    }
                    ToolKind::Custom => json!({
                        "type": "custom_tool_call",
                        "call_id": call.id,
                        "name": call.name,
                        "input": call.arguments,
                    }),
                };
                if let Some(namespace) = &call.namespace {
                    item["namespace"] = namespace.as_str().into();
                }
                self.natives(block, &mut item);
                self.item(item);
            }
            Content::ToolResult(result) => {
                let kind = match result.kind {
                    ToolKind::Function => "function_call_output",
                    ToolKind::Custom => "custom_tool_call_output",
                };
                if result.is_error == Some(true) {
                    self.loss.approximated(
                        format!("{}.is_error", block.at),
                        "only the result's text can tell that it failed",
                    );
                }
                let mut item = json!({"type": kind, "call_id": result.call, "output": ""});
                item["output"] = self.output(&result.blocks)?;
                self.natives(block, &mut item);
                self.item(item);
            }
            Content::Native(native) if native.dialect != DIALECT => {
                self.loss.dropped(native.at.to_string(), "only its own format has it");
            }
            // A part of a message, or an item.
            Content::Native(native) if native.at.contains(".content[") => self.part(block, role, native.json.clone()),
            Content::Native(native) => self.item(native.json.clone()),
        }
        Ok(())
    }

    /// Adds a part to a message, and what the item has beside its parts.
    fn part(&mut self, block: &Block, role: Role, mut part: Value) {
        let mut of_item = Vec::new();
        Native::settle(&block.native, DIALECT, self.loss, |native| {
            if is_field_of(native, &block.at) {
                part[native.key.as_ref()] = native.json.clone();
            } else {
                of_item.push(native);
            }
        });
        let open = self.message_item(role, &block.at);
        open.parts.push(part);
        for native in of_item {
            open.item.insert(native.key.to_string(), native.json.clone());
        }
    }

    fn natives(&mut self, block: &Block, item: &mut Value) {
        Native::settle(&block.native, DIALECT, self.loss, |native| {
            item[native.key.as_ref()] = native.json.clone();
        });
    }

    fn annotations(&mut self, block: &Block, role: Role, part: &mut Value) {
        let mut annotations: Vec<Value> = Vec::new();
        for citation in &block.citations {
            let length = block.as_text().map_or(0, |text| text.chars().count());
            let annotation = match self.own {
                // Whatever kind it is.
                true => Some(citation.json.to_string()),
                false => output::annotation(citation, length).filter(|_| role == Role::Assistant),
            };
            match annotation.and_then(|annotation| serde_json::from_str(&annotation).ok()) {
                Some(annotation) => annotations.push(annotation),
                None => self.loss.dropped(
                    format!("{}.citations", block.at),
                    "only the model's texts can cite, and only sources with an address",
                ),
            }
        }
        if !annotations.is_empty() {
            part["annotations"] = annotations.into();
        }
    }

    fn reasoning(&mut self, block: &Block, text: &str) {
        let own = |native: &Native| native.dialect == DIALECT;
        // Part of an item that has its token, or is known by its id, in another of its parts.
        let begun = self.own
            && self
                .open
                .as_ref()
                .is_some_and(|open| open.reasoning && open.from.as_deref() == item_of(&block.at));
        if block.opaque.is_none() && !begun && !(self.own && item_of(&block.at).is_some()) {
            self.loss.dropped(block.at.to_string(), FOREIGN_REASONING);
            Native::settle(
                block.native.iter().filter(|native| !own(native)),
                DIALECT,
                self.loss,
                |_| (),
            );
            return;
        }
        let kind = if self.own && block.at.contains(".content[") {
            "reasoning_text"
        } else {
            "summary_text"
        };
        let mut part = json!({"type": kind, "text": text});
        let mut of_item = Vec::new();
        let is_part = item_of(&block.at) != Some(&block.at);
        Native::settle(&block.native, DIALECT, self.loss, |native| {
            if is_part && is_field_of(native, &block.at) {
                part[native.key.as_ref()] = native.json.clone();
            } else {
                of_item.push(native);
            }
        });
        let open = self.open(Role::Assistant, true, &block.at, || json!({"type": "reasoning"}));
        for native in of_item {
            open.item.insert(native.key.to_string(), native.json.clone());
        }
        if !text.is_empty() || is_part && item_of(&block.at).is_some() {
            open.parts.push(part);
        }
        if let Some(token) = &block.opaque {
            open.item.insert("encrypted_content".into(), (&*token.0).into());
        }
    }

    /// What a tool gave back: one text as it is, else parts.
    fn output(&mut self, blocks: &[Block]) -> Result<Value, EncodeError> {
        if let [only] = blocks
            && let (Some(text), true) = (only.as_text(), only.native.is_empty() && only.cache.is_none())
        {
            return Ok(text.into());
        }
        let mut parts = Vec::new();
        for block in blocks {
            if let Some(cache) = &block.cache {
                self.loss
                    .dropped(cache.at.to_string(), "prompts are cached without being asked");
            }
            let mut part = match &block.content {
                Content::Text(text) | Content::Reasoning(text) | Content::Refusal(text) => {
                    json!({"type": "input_text", "text": text})
                }
                Content::Media(media) => encode_media::part(media, &block.at, self.own, self.loss)?,
                Content::Native(native) if native.dialect == DIALECT => native.json.clone(),
                Content::Native(_) | Content::ToolCall(_) | Content::ToolResult(_) => {
                    let at = match &block.content {
                        Content::Native(native) => &native.at,
                        _ => &block.at,
                    };
                    self.loss.dropped(at.to_string(), "only its own format has it");
                    continue;
                }
            };
            self.natives(block, &mut part);
            parts.push(part);
        }
        Ok(match parts.is_empty() {
            true => "".into(),
            false => parts.into(),
        })
    }
}
