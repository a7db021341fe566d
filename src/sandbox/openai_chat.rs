//! OpenAI Chat Completions, on the answering side. Reference: `POST /chat/completions` of OpenAI's OpenAPI document.

use std::fmt::Write;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::ask::{Ask, Offer, Refusal, content_text};
use super::events::{Events, Wire, Writer, unique};
use super::plan::{Finish, Plan};
use super::steps::Step;
use super::text::{Json, Text};

#[derive(Deserialize)]
struct Body<'a> {
    model: Option<String>,
    #[serde(borrow)]
    messages: Option<Vec<Message<'a>>>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    tools: Option<Vec<Tool>>,
    tool_choice: Option<Value>,
    response_format: Option<Value>,
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

#[derive(Deserialize)]
struct Message<'a> {
    role: String,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Tool {
    function: Option<Function>,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    parameters: Option<Box<RawValue>>,
}

/// Reads a request.
pub fn read(body: &[u8]) -> Result<Ask, Refusal> {
    let body: Body<'_> = serde_json::from_slice(body).map_err(|e| Refusal::not_read(&e))?;
    let mut ask = Ask {
        model: body.model.ok_or_else(|| Refusal::missing("model"))?,
        stream: body.stream.unwrap_or(false),
        include_usage: body.stream_options.and_then(|o| o.include_usage).unwrap_or(false),
        ..Ask::default()
    };
    let messages = body.messages.ok_or_else(|| Refusal::missing("messages"))?;
    let last = messages
        .len()
        .checked_sub(1)
        .ok_or_else(|| Refusal::invalid("`messages` is empty", Some("messages")))?;
    for (at, message) in messages.iter().enumerate() {
        let text = content_text(message.content)?;
        ask.heard(&text);
        match message.role.as_str() {
            "user" => ask.last_text = text.into_owned(),
            "tool" | "function" if at == last => ask.tool_result = Some(text.into_owned()),
            _ => {}
        }
    }
    let choice = body.tool_choice.unwrap_or_default();
    if choice != "none" {
        let offers = body.tools.into_iter().flatten().filter_map(|tool| tool.function);
        ask.tools = offers
            .map(|f| Offer {
                name: f.name,
                schema: f.parameters,
            })
            .collect();
        if let Some(name) = choice.pointer("/function/name").and_then(Value::as_str) {
            ask.insist(name);
        }
    }
    ask.schema = match body.response_format {
        Some(format) if format["type"] == "json_object" => Some(serde_json::json!({"type": "object"})),
        Some(format) => format.pointer("/json_schema/schema").cloned(),
        None => None,
    };
    Ok(ask)
}

/// The dialect.
pub struct OpenAiChat;

fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::ToolCalls => "tool_calls",
        Finish::Length => "length",
        Finish::Filter => "content_filter",
    }
}

fn call_id(plan: &Plan, call: usize) -> String {
    format!("call_{}{call:02}", unique(plan.created, plan.number))
}

fn usage(plan: &Plan) -> String {
    let usage = plan.usage;
    format!(
        r#"{{"prompt_tokens":{},"completion_tokens":{},"total_tokens":{},"prompt_tokens_details":{{"cached_tokens":{},"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":{},"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}}"#,
        usage.input,
        usage.output_total(),
        usage.total(),
        usage.cached,
        usage.reasoning,
    )
}

impl Wire for OpenAiChat {
    fn whole(&self, plan: &Plan) -> String {
        let mut calls = String::new();
        for (at, call) in plan.calls().iter().enumerate() {
            let comma = if at == 0 { r#","tool_calls":["# } else { "," };
            let (id, name, arguments) = (call_id(plan, at), Json(&call.name), Json(&call.arguments));
            let _ = write!(
                calls,
                r#"{comma}{{"id":"{id}","type":"function","function":{{"name":{name},"arguments":{arguments}}}}}"#
            );
        }
        if !calls.is_empty() {
            calls.push(']');
        }
        let text = plan.text().map(Text::whole);
        let content = text.as_deref().map_or("null".to_owned(), |text| Json(text).to_string());
        format!(
            r#"{{"id":"chatcmpl-{}","object":"chat.completion","created":{},"model":{},"choices":[{{"index":0,"message":{{"role":"assistant","content":{content}{calls},"refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"{}"}}],"usage":{},"service_tier":"default","system_fingerprint":"fp_sandbox"}}"#,
            unique(plan.created, plan.number),
            plan.created,
            Json(&plan.model),
            finish_reason(plan.finish),
            usage(plan),
        )
    }

    fn writer(&self, plan: &Plan) -> Box<dyn Writer> {
        Box::new(ChatWriter {
            head: format!(
                r#"{{"id":"chatcmpl-{}","object":"chat.completion.chunk","created":{},"model":{},"service_tier":"default","system_fingerprint":"fp_sandbox","choices":["#,
                unique(plan.created, plan.number),
                plan.created,
                Json(&plan.model),
            ),
            tail: if plan.include_usage { r#","usage":null}"# } else { "}" },
            json: String::new(),
        })
    }

    fn error(&self, refusal: &Refusal, _number: u64) -> String {
        error_body(refusal)
    }

    fn id_header(&self) -> Option<&'static str> {
        Some("x-request-id")
    }
}

/// An error as OpenAI's APIs write it, all of them.
pub fn error_body(refusal: &Refusal) -> String {
    let (kind, code) = match refusal.status {
        401 => ("invalid_request_error", Some("invalid_api_key")),
        404 => ("invalid_request_error", Some("model_not_found")),
        429 => ("requests", Some("rate_limit_exceeded")),
        400..=499 => ("invalid_request_error", None),
        _ => ("server_error", None),
    };
    let quoted = |word: Option<&str>| word.map_or("null".to_owned(), |w| Json(w).to_string());
    format!(
        r#"{{"error":{{"message":{},"type":"{kind}","param":{},"code":{}}}}}"#,
        Json(&refusal.message),
        quoted(refusal.param),
        quoted(code),
    )
}

struct ChatWriter {
    /// Each chunk up to its choices.
    head: String,
    /// Each chunk from the end of its choices, but for the one with usage.
    tail: &'static str,
    json: String,
}

impl ChatWriter {
    fn chunk(&mut self, out: &mut Events, delta: std::fmt::Arguments<'_>, finish: Option<Finish>) {
        self.json.clear();
        self.json.push_str(&self.head);
        let _ = write!(
            self.json,
            r#"{{"index":0,"delta":{{{delta}}},"logprobs":null,"finish_reason":"#
        );
        let _ = match finish {
            Some(finish) => write!(self.json, r#""{}"}}]"#, finish_reason(finish)),
            None => write!(self.json, "null}}]"),
        };
        self.json.push_str(self.tail);
        out.sse(None, &self.json);
    }
}

impl Writer for ChatWriter {
    fn step(&mut self, plan: &Plan, step: Step<'_>, out: &mut Events) {
        match step {
            Step::Start => {
                let content = if plan.text().is_some() { r#""""# } else { "null" };
                let delta = format_args!(r#""role":"assistant","content":{content},"refusal":null"#);
                self.chunk(out, delta, None);
            }
            Step::Text { piece, .. } => self.chunk(out, format_args!(r#""content":{}"#, Json(piece)), None),
            Step::CallStart(at) => {
                let name = plan.calls().get(at).map_or("", |call| call.name.as_str());
                let delta = format_args!(
                    r#""tool_calls":[{{"index":{at},"id":"{}","type":"function","function":{{"name":{},"arguments":""}}}}]"#,
                    call_id(plan, at),
                    Json(name),
                );
                self.chunk(out, delta, None);
            }
            Step::Arguments(at, piece) => {
                let piece = Json(piece);
                let delta = format_args!(r#""tool_calls":[{{"index":{at},"function":{{"arguments":{piece}}}}}]"#);
                self.chunk(out, delta, None);
            }
            Step::Finish => {
                self.chunk(out, format_args!(""), Some(plan.finish));
                if plan.include_usage {
                    out.sse(None, &format!(r#"{}],"usage":{}}}"#, self.head, usage(plan)));
                }
                out.raw("data: [DONE]\n\n");
            }
            // This dialect does not show reasoning, and has no brackets around texts and calls.
            Step::ReasoningStart | Step::Reasoning { .. } | Step::ReasoningStop => {}
            Step::TextStart | Step::TextStop | Step::CallStop(_) => {}
        }
    }

    fn error(&mut self, _plan: &Plan, refusal: &Refusal, out: &mut Events) {
        out.sse(None, &error_body(refusal));
    }
}
