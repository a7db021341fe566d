//! OpenAI Responses, on the answering side. Reference: `POST /responses` of OpenAI's OpenAPI document, and its stream
//! events.

use std::fmt::Write;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::ask::{Ask, Offer, Refusal, content_text};
use super::events::{Events, Wire, Writer, unique};
use super::openai_chat;
use super::plan::{Finish, Plan};
use super::steps::Step;
use super::text::{Json, Text};

#[derive(Deserialize)]
struct Body<'a> {
    model: Option<String>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    instructions: Option<String>,
    stream: Option<bool>,
    tools: Option<Vec<Value>>,
    tool_choice: Option<Value>,
    text: Option<Value>,
    metadata: Option<Value>,
    parallel_tool_calls: Option<bool>,
}

#[derive(Deserialize)]
struct Item<'a> {
    r#type: Option<String>,
    role: Option<String>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    output: Option<&'a RawValue>,
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
    ask.heard(body.instructions.as_deref().unwrap_or_default());
    let input = body.input.ok_or_else(|| Refusal::missing("input"))?;
    if input.get().starts_with('[') {
        let items: Vec<Item<'_>> = serde_json::from_str(input.get()).map_err(|e| Refusal::not_read(&e))?;
        let last = items.len().saturating_sub(1);
        for (at, item) in items.iter().enumerate() {
            let text = ask.content(item.content)?;
            let result = content_text(item.output)?;
            ask.heard(&result);
            if item.role.as_deref() == Some("user") {
                ask.last_text = text;
            }
            if at == last && item.r#type.as_deref() == Some("function_call_output") {
                ask.tool_result = Some(result.into_owned());
            }
        }
    } else {
        ask.last_text = ask.content(Some(input))?;
    }
    let mut tools = body.tools.unwrap_or_default();
    let choice = body.tool_choice.unwrap_or(Value::from("auto"));
    if choice != "none" {
        ask.tools = tools
            .iter()
            .filter(|tool| tool["type"] == "function")
            .filter_map(offer)
            .collect();
        if let Some(name) = choice["name"].as_str() {
            ask.insist(name);
        }
    }
    // The answer repeats a function tool with all its fields.
    for tool in tools
        .iter_mut()
        .filter(|tool| tool["type"] == "function")
        .filter_map(Value::as_object_mut)
    {
        tool.entry("strict").or_insert(Value::Bool(true));
        tool.entry("parameters").or_insert(Value::Null);
    }
    let format = body.text.as_ref().and_then(|text| text.get("format")).cloned();
    let format = format.unwrap_or_else(|| serde_json::json!({"type": "text"}));
    ask.schema = format.get("schema").cloned();
    if format["type"] == "json_object" {
        ask.schema = Some(serde_json::json!({"type": "object"}));
    }
    ask.repeated = format!(
        r#""instructions":{},"tools":{},"tool_choice":{choice},"parallel_tool_calls":{},"metadata":{},"text":{{"format":{format}}},"#,
        Value::from(body.instructions),
        Value::from(tools),
        body.parallel_tool_calls.unwrap_or(true),
        body.metadata
            .filter(Value::is_object)
            .unwrap_or_else(|| serde_json::json!({})),
    );
    Ok(ask)
}

fn offer(tool: &Value) -> Option<Offer> {
    let schema = tool
        .get("parameters")
        .and_then(|p| serde_json::value::to_raw_value(p).ok());
    Some(Offer {
        name: tool["name"].as_str()?.to_owned(),
        schema,
    })
}

/// The dialect.
pub struct OpenAiResponses;

fn usage(plan: &Plan) -> String {
    let usage = plan.usage;
    format!(
        r#"{{"input_tokens":{},"input_tokens_details":{{"cached_tokens":{},"cache_write_tokens":0}},"output_tokens":{},"output_tokens_details":{{"reasoning_tokens":{}}},"total_tokens":{}}}"#,
        usage.input,
        usage.cached,
        usage.output_total(),
        usage.reasoning,
        usage.total(),
    )
}

/// How far the response is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage<'a> {
    InProgress,
    Finished,
    Failed(&'a str),
}

fn status(plan: &Plan) -> &'static str {
    match plan.finish {
        Finish::Stop | Finish::ToolCalls => "completed",
        Finish::Length | Finish::Filter => "incomplete",
    }
}

/// The response object; `output` without the brackets.
fn response(plan: &Plan, stage: Stage<'_>, output: &str) -> String {
    let (status, usage) = match stage {
        Stage::InProgress => ("in_progress", String::new()),
        Stage::Finished => (status(plan), format!(r#","usage":{}"#, usage(plan))),
        Stage::Failed(_) => ("failed", String::new()),
    };
    let completed = if status == "completed" {
        plan.created.to_string()
    } else {
        "null".to_owned()
    };
    let details = match (stage, plan.finish) {
        (Stage::Finished, Finish::Length) => r#"{"reason":"max_output_tokens"}"#,
        (Stage::Finished, Finish::Filter) => r#"{"reason":"content_filter"}"#,
        _ => "null",
    };
    let error = match stage {
        Stage::Failed(message) => format!(r#"{{"code":"server_error","message":{}}}"#, Json(message)),
        _ => "null".to_owned(),
    };
    format!(
        r#"{{"id":"resp_{}","object":"response","created_at":{},"status":"{status}","completed_at":{completed},"background":false,"error":{error},"incomplete_details":{details},"max_output_tokens":null,"max_tool_calls":null,"model":{},"output":[{output}],{}"previous_response_id":null,"prompt_cache_key":null,"reasoning":{{"effort":null,"summary":null}},"safety_identifier":null,"service_tier":"default","store":false,"temperature":1.0,"top_logprobs":0,"top_p":1.0,"truncation":"disabled"{usage}}}"#,
        unique(plan.created, plan.number),
        plan.created,
        Json(&plan.model),
        plan.repeated,
    )
}

fn reasoning_id(plan: &Plan) -> String {
    format!("rs_{}", unique(plan.created, plan.number))
}

fn message_id(plan: &Plan) -> String {
    format!("msg_{}", unique(plan.created, plan.number))
}

fn call_item_id(plan: &Plan, at: usize) -> String {
    format!("fc_{}{at:02}", unique(plan.created, plan.number))
}

fn reasoning_item(plan: &Plan, text: Option<&str>) -> String {
    let summary = text.map_or(String::new(), |t| {
        format!(r#"{{"type":"summary_text","text":{}}}"#, Json(t))
    });
    format!(
        r#"{{"id":"{}","type":"reasoning","summary":[{summary}]}}"#,
        reasoning_id(plan)
    )
}

fn text_part(text: &str) -> String {
    format!(
        r#"{{"type":"output_text","annotations":[],"logprobs":[],"text":{}}}"#,
        Json(text)
    )
}

fn message_item(plan: &Plan, text: Option<&str>) -> String {
    let status = if text.is_some() { status(plan) } else { "in_progress" };
    let (id, content) = (message_id(plan), text.map_or(String::new(), text_part));
    format!(r#"{{"id":"{id}","type":"message","status":"{status}","content":[{content}],"role":"assistant"}}"#)
}

fn call_item(plan: &Plan, at: usize, done: bool) -> String {
    let Some(call) = plan.calls().get(at) else {
        return String::new();
    };
    let (status, arguments) = if done {
        ("completed", call.arguments.as_str())
    } else {
        ("in_progress", "")
    };
    let (id, unique) = (call_item_id(plan, at), unique(plan.created, plan.number));
    let (name, arguments) = (Json(&call.name), Json(arguments));
    format!(
        r#"{{"id":"{id}","type":"function_call","status":"{status}","arguments":{arguments},"call_id":"call_{unique}{at:02}","name":{name}}}"#
    )
}

/// All items of the finished response.
fn output(plan: &Plan) -> String {
    let mut items = Vec::new();
    if let Some(reasoning) = &plan.reasoning {
        items.push(reasoning_item(plan, Some(&reasoning.whole())));
    }
    if let Some(text) = plan.text() {
        items.push(message_item(plan, Some(&text.whole())));
    }
    items.extend((0..plan.calls().len()).map(|at| call_item(plan, at, true)));
    items.join(",")
}

impl Wire for OpenAiResponses {
    fn whole(&self, plan: &Plan) -> String {
        response(plan, Stage::Finished, &output(plan))
    }

    fn writer(&self, plan: &Plan) -> Box<dyn Writer> {
        let first = usize::from(plan.reasoning.is_some());
        Box::new(ResponseWriter {
            first,
            sequence: 0,
            json: String::new(),
        })
    }

    fn error(&self, refusal: &Refusal, _number: u64) -> String {
        openai_chat::error_body(refusal)
    }

    fn id_header(&self) -> Option<&'static str> {
        Some("x-request-id")
    }
}

struct ResponseWriter {
    /// Index of the item after the reasoning.
    first: usize,
    sequence: u64,
    json: String,
}

impl ResponseWriter {
    /// An event; its members after type and number, each with a comma before it.
    fn event(&mut self, out: &mut Events, name: &str, members: std::fmt::Arguments<'_>) {
        self.json.clear();
        let _ = write!(
            self.json,
            r#"{{"type":"{name}","sequence_number":{}{members}}}"#,
            self.sequence
        );
        self.sequence += 1;
        out.sse(Some(name), &self.json);
    }

    fn item(&mut self, out: &mut Events, name: &str, index: usize, item: &str) {
        self.event(out, name, format_args!(r#","output_index":{index},"item":{item}"#));
    }

    fn reasoning(&mut self, plan: &Plan, out: &mut Events, name: &str, member: &str, value: std::fmt::Arguments<'_>) {
        let id = reasoning_id(plan);
        let place = format_args!(r#","item_id":"{id}","output_index":0,"summary_index":0,"{member}":{value}"#);
        self.event(out, name, place);
    }

    fn text(&mut self, plan: &Plan, out: &mut Events, name: &str, members: std::fmt::Arguments<'_>) {
        let (id, index) = (message_id(plan), self.first);
        self.event(
            out,
            name,
            format_args!(r#","item_id":"{id}","output_index":{index},"content_index":0{members}"#),
        );
    }

    fn reasoning_done(&mut self, plan: &Plan, out: &mut Events) {
        let text = plan.reasoning.as_ref().map(Text::whole).unwrap_or_default();
        let json = Json(&text);
        self.reasoning(
            plan,
            out,
            "response.reasoning_summary_text.done",
            "text",
            format_args!("{json}"),
        );
        let part = format_args!(r#"{{"type":"summary_text","text":{json}}}"#);
        self.reasoning(plan, out, "response.reasoning_summary_part.done", "part", part);
        self.item(out, "response.output_item.done", 0, &reasoning_item(plan, Some(&text)));
    }

    fn text_done(&mut self, plan: &Plan, out: &mut Events) {
        let text = plan.text().map(Text::whole).unwrap_or_default();
        let done = format_args!(r#","logprobs":[],"text":{}"#, Json(&text));
        self.text(plan, out, "response.output_text.done", done);
        self.text(
            plan,
            out,
            "response.content_part.done",
            format_args!(r#","part":{}"#, text_part(&text)),
        );
        self.item(
            out,
            "response.output_item.done",
            self.first,
            &message_item(plan, Some(&text)),
        );
    }

    fn call_done(&mut self, plan: &Plan, out: &mut Events, at: usize) {
        let Some(call) = plan.calls().get(at) else { return };
        let (id, index) = (call_item_id(plan, at), self.first + at);
        let (name, arguments) = (Json(&call.name), Json(&call.arguments));
        let members = format_args!(r#","item_id":"{id}","output_index":{index},"name":{name},"arguments":{arguments}"#);
        self.event(out, "response.function_call_arguments.done", members);
        self.item(out, "response.output_item.done", index, &call_item(plan, at, true));
    }
}

impl Writer for ResponseWriter {
    fn step(&mut self, plan: &Plan, step: Step<'_>, out: &mut Events) {
        match step {
            Step::Start => {
                let begun = response(plan, Stage::InProgress, "");
                for name in ["response.created", "response.in_progress"] {
                    self.event(out, name, format_args!(r#","response":{begun}"#));
                }
            }
            Step::ReasoningStart => {
                self.item(out, "response.output_item.added", 0, &reasoning_item(plan, None));
                let part = format_args!(r#"{{"type":"summary_text","text":""}}"#);
                self.reasoning(plan, out, "response.reasoning_summary_part.added", "part", part);
            }
            Step::Reasoning { piece, .. } => {
                let delta = Json(piece);
                self.reasoning(
                    plan,
                    out,
                    "response.reasoning_summary_text.delta",
                    "delta",
                    format_args!("{delta}"),
                );
            }
            Step::ReasoningStop => self.reasoning_done(plan, out),
            Step::TextStart => {
                self.item(out, "response.output_item.added", self.first, &message_item(plan, None));
                self.text(
                    plan,
                    out,
                    "response.content_part.added",
                    format_args!(r#","part":{}"#, text_part("")),
                );
            }
            Step::Text { piece, .. } => {
                let delta = format_args!(r#","logprobs":[],"delta":{}"#, Json(piece));
                self.text(plan, out, "response.output_text.delta", delta);
            }
            Step::TextStop => self.text_done(plan, out),
            Step::CallStart(at) => {
                self.item(
                    out,
                    "response.output_item.added",
                    self.first + at,
                    &call_item(plan, at, false),
                );
            }
            Step::Arguments(at, piece) => {
                let (id, index, delta) = (call_item_id(plan, at), self.first + at, Json(piece));
                let members = format_args!(r#","item_id":"{id}","output_index":{index},"delta":{delta}"#);
                self.event(out, "response.function_call_arguments.delta", members);
            }
            Step::CallStop(at) => self.call_done(plan, out, at),
            Step::Finish => {
                let name = match status(plan) {
                    "completed" => "response.completed",
                    _ => "response.incomplete",
                };
                let done = response(plan, Stage::Finished, &output(plan));
                self.event(out, name, format_args!(r#","response":{done}"#));
            }
        }
    }

    fn error(&mut self, plan: &Plan, refusal: &Refusal, out: &mut Events) {
        let message = Json(&refusal.message);
        let members = format_args!(r#","code":"server_error","message":{message},"param":null"#);
        self.event(out, "error", members);
        let failed = response(plan, Stage::Failed(&refusal.message), "");
        self.event(out, "response.failed", format_args!(r#","response":{failed}"#));
    }
}
