//! Anthropic Messages, on the answering side. Reference: the Messages API and its streaming events.

use std::fmt::Write;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::ask::{Ask, Offer, Refusal, content_text};
use super::events::{Events, Wire, Writer, unique};
use super::plan::{Finish, Plan};
use super::steps::Step;
use super::text::{Json, Text};

/// The signature of every reasoning block: base64, as the real ones are.
const SIGNATURE: &str = "c2FuZGJveC1zaWduYXR1cmU=";

#[derive(Deserialize)]
struct Body<'a> {
    model: Option<String>,
    #[serde(borrow)]
    messages: Option<Vec<Message<'a>>>,
    #[serde(borrow)]
    system: Option<&'a RawValue>,
    stream: Option<bool>,
    tools: Option<Vec<Tool>>,
    tool_choice: Option<Value>,
    output_format: Option<Value>,
    output_config: Option<Value>,
}

#[derive(Deserialize)]
struct Message<'a> {
    role: String,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Block<'a> {
    r#type: String,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Tool {
    name: Option<String>,
    /// Tools of the client have one, those which run at the provider do not.
    input_schema: Option<Box<RawValue>>,
}

/// Reads a request.
pub fn read(body: &[u8]) -> Result<Ask, Refusal> {
    let body: Body<'_> = serde_json::from_slice(body).map_err(|e| Refusal::not_read(&e))?;
    let mut ask = Ask {
        model: body.model.ok_or_else(|| Refusal::missing("model"))?,
        stream: body.stream.unwrap_or(false),
        include_usage: true,
        ..Ask::default()
    };
    ask.content(body.system)?;
    let messages = body.messages.ok_or_else(|| Refusal::missing("messages"))?;
    let last = messages
        .len()
        .checked_sub(1)
        .ok_or_else(|| Refusal::invalid("`messages` is empty", Some("messages")))?;
    for (at, message) in messages.iter().enumerate() {
        let text = ask.content(message.content)?;
        if message.role == "user" {
            ask.last_text = text;
        }
        if at == last {
            ask.tool_result = tool_result(message)?;
        }
    }
    let choice = body.tool_choice.unwrap_or_default();
    if choice["type"] != "none" {
        let tools = body
            .tools
            .into_iter()
            .flatten()
            .filter(|tool| tool.input_schema.is_some());
        ask.tools = tools
            .filter_map(|tool| {
                Some(Offer {
                    name: tool.name?,
                    schema: tool.input_schema,
                })
            })
            .collect();
        if let Some(name) = choice["name"].as_str() {
            ask.insist(name);
        }
    }
    let format = body
        .output_config
        .map(|mut c| c["format"].take())
        .or(body.output_format);
    ask.schema = format.and_then(|mut f| f.get_mut("schema").map(Value::take));
    Ok(ask)
}

/// The result of a tool in a message, if there is one.
fn tool_result(message: &Message<'_>) -> Result<Option<String>, Refusal> {
    let Some(blocks) = message.content.map(RawValue::get).filter(|raw| raw.starts_with('[')) else {
        return Ok(None);
    };
    let blocks: Vec<Block<'_>> = serde_json::from_str(blocks).map_err(|e| Refusal::not_read(&e))?;
    match blocks.iter().find(|block| block.r#type == "tool_result") {
        Some(block) => Ok(Some(content_text(block.content)?.into_owned())),
        None => Ok(None),
    }
}

/// The dialect.
pub struct Anthropic;

fn stop_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "end_turn",
        Finish::ToolCalls => "tool_use",
        Finish::Length => "max_tokens",
        Finish::Filter => "refusal",
    }
}

fn tool_id(plan: &Plan, call: usize) -> String {
    format!("toolu_{}{call:02}", unique(plan.created, plan.number))
}

/// Usage of the message as it stands with so much output; `input_tokens` does not hold cached ones here.
fn usage(plan: &Plan, output: u64) -> String {
    format!(
        r#"{{"input_tokens":{},"cache_creation_input_tokens":0,"cache_read_input_tokens":{},"cache_creation":{{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0}},"output_tokens":{output},"service_tier":"standard"{}}}"#,
        plan.usage.input - plan.usage.cached,
        plan.usage.cached,
        reasoning_details(plan),
    )
}

fn reasoning_details(plan: &Plan) -> String {
    match plan.usage.reasoning {
        0 => String::new(),
        reasoning => format!(r#","output_tokens_details":{{"thinking_tokens":{reasoning}}}"#),
    }
}

fn message(plan: &Plan, content: &str, stop: Option<Finish>, output: u64) -> String {
    let stop = stop.map_or("null".to_owned(), |finish| format!(r#""{}""#, stop_reason(finish)));
    format!(
        r#"{{"id":"msg_{}","type":"message","role":"assistant","model":{},"content":[{content}],"stop_reason":{stop},"stop_sequence":null,"stop_details":null,"usage":{}}}"#,
        unique(plan.created, plan.number),
        Json(&plan.model),
        usage(plan, output),
    )
}

impl Wire for Anthropic {
    fn whole(&self, plan: &Plan) -> String {
        let mut content = String::new();
        if let Some(reasoning) = &plan.reasoning {
            let thinking = reasoning.whole();
            let thinking = Json(&thinking);
            let _ = write!(
                content,
                r#"{{"type":"thinking","thinking":{thinking},"signature":"{SIGNATURE}"}},"#
            );
        }
        if let Some(text) = plan.text().map(Text::whole) {
            let _ = write!(content, r#"{{"type":"text","text":{}}},"#, Json(&text));
        }
        for (at, call) in plan.calls().iter().enumerate() {
            let (id, name, input) = (tool_id(plan, at), Json(&call.name), &call.arguments);
            let _ = write!(
                content,
                r#"{{"type":"tool_use","id":"{id}","name":{name},"input":{input}}},"#
            );
        }
        content.pop();
        message(plan, &content, Some(plan.finish), plan.usage.output_total())
    }

    fn writer(&self, plan: &Plan) -> Box<dyn Writer> {
        Box::new(MessageWriter {
            first_call: usize::from(plan.reasoning.is_some()),
            pinged: false,
            json: String::new(),
        })
    }

    fn error(&self, refusal: &Refusal, number: u64) -> String {
        format!(
            r#"{{"type":"error","error":{},"request_id":"req_{}"}}"#,
            error_object(refusal),
            unique(0, number),
        )
    }

    fn id_header(&self) -> Option<&'static str> {
        Some("request-id")
    }
}

fn error_object(refusal: &Refusal) -> String {
    let kind = match refusal.status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        _ => "api_error",
    };
    format!(r#"{{"type":"{kind}","message":{}}}"#, Json(&refusal.message))
}

struct MessageWriter {
    /// Index of the block after the reasoning: of the text, or of the first call.
    first_call: usize,
    pinged: bool,
    json: String,
}

impl MessageWriter {
    fn event(&mut self, out: &mut Events, name: &str, rest: std::fmt::Arguments<'_>) {
        self.json.clear();
        let _ = write!(self.json, r#"{{"type":"{name}"{rest}}}"#);
        out.sse(Some(name), &self.json);
    }

    fn start(&mut self, out: &mut Events, index: usize, block: std::fmt::Arguments<'_>) {
        self.event(
            out,
            "content_block_start",
            format_args!(r#","index":{index},"content_block":{{{block}}}"#),
        );
        if !self.pinged {
            self.pinged = true;
            self.event(out, "ping", format_args!(""));
        }
    }

    fn delta(&mut self, out: &mut Events, index: usize, kind: &str, field: &str, value: &str) {
        let value = Json(value);
        let delta = format_args!(r#","index":{index},"delta":{{"type":"{kind}","{field}":{value}}}"#);
        self.event(out, "content_block_delta", delta);
    }

    fn stop(&mut self, out: &mut Events, index: usize) {
        self.event(out, "content_block_stop", format_args!(r#","index":{index}"#));
    }
}

impl Writer for MessageWriter {
    fn step(&mut self, plan: &Plan, step: Step<'_>, out: &mut Events) {
        let text = self.first_call;
        match step {
            Step::Start => {
                let start = message(plan, "", None, 1);
                self.event(out, "message_start", format_args!(r#","message":{start}"#));
            }
            Step::ReasoningStart => {
                self.start(
                    out,
                    0,
                    format_args!(r#""type":"thinking","thinking":"","signature":"""#),
                );
            }
            Step::Reasoning { piece, .. } => self.delta(out, 0, "thinking_delta", "thinking", piece),
            Step::ReasoningStop => {
                self.delta(out, 0, "signature_delta", "signature", SIGNATURE);
                self.stop(out, 0);
            }
            Step::TextStart => self.start(out, text, format_args!(r#""type":"text","text":"""#)),
            Step::Text { piece, .. } => self.delta(out, text, "text_delta", "text", piece),
            Step::TextStop => self.stop(out, text),
            Step::CallStart(at) => {
                let (id, name) = (
                    tool_id(plan, at),
                    plan.calls().get(at).map_or("", |call| call.name.as_str()),
                );
                let block = format_args!(r#""type":"tool_use","id":"{id}","name":{},"input":{{}}"#, Json(name));
                self.start(out, text + at, block);
                // The real ones begin with an empty piece, too.
                self.delta(out, text + at, "input_json_delta", "partial_json", "");
            }
            Step::Arguments(at, piece) => self.delta(out, text + at, "input_json_delta", "partial_json", piece),
            Step::CallStop(at) => self.stop(out, text + at),
            Step::Finish => {
                let delta = format_args!(
                    r#","delta":{{"stop_reason":"{}","stop_sequence":null,"stop_details":null}},"usage":{{"input_tokens":{},"cache_creation_input_tokens":0,"cache_read_input_tokens":{},"output_tokens":{}{}}}"#,
                    stop_reason(plan.finish),
                    plan.usage.input - plan.usage.cached,
                    plan.usage.cached,
                    plan.usage.output_total(),
                    reasoning_details(plan),
                );
                self.event(out, "message_delta", delta);
                self.event(out, "message_stop", format_args!(""));
            }
        }
    }

    fn error(&mut self, _plan: &Plan, refusal: &Refusal, out: &mut Events) {
        self.event(out, "error", format_args!(r#","error":{}"#, error_object(refusal)));
    }
}
