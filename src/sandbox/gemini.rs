//! Gemini `generateContent`, on the answering side. Reference: the Generative Language API, v1beta. JSON arrives in camel
//! case or in snake case, as protobuf's JSON mapping allows; answers are in camel case. Lines end with CRLF, as the real
//! ones do.

use std::fmt::Write;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::ask::{Ask, Offer, Refusal};
use super::events::{Events, Wire, Writer, unique};
use super::plan::{Finish, Plan};
use super::steps::Step;
use super::text::{Json, Text};

/// The signature of every thought: base64, as the real ones are.
const SIGNATURE: &str = "c2FuZGJveC1zaWduYXR1cmU=";

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    contents: Option<OneOrMany<'a>>,
    #[serde(borrow, alias = "system_instruction", rename = "systemInstruction")]
    system: Option<RawContent<'a>>,
    tools: Option<Vec<Tool>>,
    #[serde(alias = "tool_config", rename = "toolConfig")]
    tool_config: Option<Value>,
    #[serde(alias = "generation_config", rename = "generationConfig")]
    generation: Option<Value>,
}

/// `contents` is a list; protobuf's JSON reader also takes one element without the list.
#[derive(Deserialize)]
#[serde(transparent)]
struct OneOrMany<'a>(#[serde(borrow)] &'a RawValue);

impl<'a> OneOrMany<'a> {
    fn list(&self) -> Result<Vec<RawContent<'a>>, Refusal> {
        let raw = self.0.get();
        let one = || serde_json::from_str(raw).map(|content| vec![content]);
        let list = if raw.starts_with('{') {
            one()
        } else {
            serde_json::from_str(raw)
        };
        list.map_err(|e| Refusal::not_read(&e))
    }
}

#[derive(Deserialize)]
struct RawContent<'a> {
    role: Option<String>,
    #[serde(borrow)]
    parts: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Part {
    #[serde(alias = "function_response", rename = "functionResponse")]
    function_response: Option<FunctionResponse>,
}

#[derive(Deserialize)]
struct FunctionResponse {
    response: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Tool {
    #[serde(alias = "function_declarations", rename = "functionDeclarations")]
    functions: Option<Vec<Function>>,
}

#[derive(Deserialize)]
struct Function {
    name: String,
    parameters: Option<Box<RawValue>>,
    #[serde(alias = "parameters_json_schema", rename = "parametersJsonSchema")]
    schema: Option<Box<RawValue>>,
}

/// Reads a request; the path has told the model and whether to stream.
pub fn read(body: &[u8], model: String, stream: bool, json_array: bool) -> Result<Ask, Refusal> {
    let body: Body<'_> = serde_json::from_slice(body).map_err(|e| Refusal::not_read(&e))?;
    let mut ask = Ask {
        model,
        stream,
        json_array,
        include_usage: true,
        ..Ask::default()
    };
    ask.content(body.system.and_then(|system| system.parts))?;
    let contents = body.contents.ok_or_else(|| Refusal::missing("contents"))?.list()?;
    for content in &contents {
        let text = ask.content(content.parts)?;
        if content.role.as_deref().unwrap_or("user") == "user" {
            ask.last_text = text;
        }
    }
    let last = contents
        .last()
        .ok_or_else(|| Refusal::invalid("`contents` is empty", Some("contents")))?;
    ask.tool_result = tool_result(last)?;
    let config = body.tool_config.unwrap_or_default();
    let mut calling = config
        .get("functionCallingConfig")
        .or_else(|| config.get("function_calling_config"))
        .cloned();
    let calling = calling.get_or_insert_default();
    if calling["mode"] != "NONE" {
        let functions = body
            .tools
            .into_iter()
            .flatten()
            .filter_map(|tool| tool.functions)
            .flatten();
        ask.tools = functions
            .map(|f| Offer {
                name: f.name,
                schema: f.schema.or(f.parameters),
            })
            .collect();
        let allowed = calling
            .get("allowedFunctionNames")
            .or_else(|| calling.get("allowed_function_names"));
        if let Some(name) = allowed.and_then(|names| names[0].as_str()) {
            ask.insist(name);
        }
    }
    let generation = body.generation.unwrap_or_default();
    let schemas = [
        "responseJsonSchema",
        "response_json_schema",
        "responseSchema",
        "response_schema",
    ];
    ask.schema = schemas.iter().find_map(|name| generation.get(name)).cloned();
    Ok(ask)
}

fn tool_result(content: &RawContent<'_>) -> Result<Option<String>, Refusal> {
    let Some(parts) = content.parts.map(RawValue::get).filter(|raw| raw.starts_with('[')) else {
        return Ok(None);
    };
    let parts: Vec<Part> = serde_json::from_str(parts).map_err(|e| Refusal::not_read(&e))?;
    let result = parts.into_iter().find_map(|part| part.function_response);
    Ok(result.map(|result| result.response.map_or(String::new(), |raw| raw.get().to_owned())))
}

/// The dialect.
pub struct Gemini {
    /// A stream as a JSON array was asked for: an error is then the only element of one, too.
    pub json_array: bool,
}

fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::ToolCalls => "STOP",
        Finish::Length => "MAX_TOKENS",
        Finish::Filter => "SAFETY",
    }
}

/// Usage as it stands with so much put out.
fn usage(plan: &Plan, output: u64, reasoning: u64) -> String {
    let (input, cached) = (plan.usage.input, plan.usage.cached);
    let mut json = format!(r#"{{"promptTokenCount":{input},"#);
    if output > 0 {
        let _ = write!(json, r#""candidatesTokenCount":{output},"#);
    }
    let _ = write!(
        json,
        r#""totalTokenCount":{},"promptTokensDetails":[{{"modality":"TEXT","tokenCount":{input}}}]"#,
        input + output + reasoning,
    );
    if cached > 0 {
        let details = format_args!(r#","cacheTokensDetails":[{{"modality":"TEXT","tokenCount":{cached}}}]"#);
        let _ = write!(json, r#","cachedContentTokenCount":{cached}{details}"#);
    }
    if reasoning > 0 {
        let _ = write!(json, r#","thoughtsTokenCount":{reasoning}"#);
    }
    json.push('}');
    json
}

/// One answer object; `parts` without the brackets.
fn object(plan: &Plan, parts: &str, finish: Option<Finish>, output: u64, reasoning: u64) -> String {
    let finish = finish.map_or(String::new(), |finish| {
        format!(r#""finishReason":"{}","#, finish_reason(finish))
    });
    format!(
        r#"{{"candidates":[{{"content":{{"parts":[{parts}],"role":"model"}},{finish}"index":0}}],"usageMetadata":{},"modelVersion":{},"responseId":"{}"}}"#,
        usage(plan, output, reasoning),
        Json(&plan.model),
        unique(plan.created, plan.number),
    )
}

fn text_part(text: &str) -> String {
    format!(r#"{{"text":{}}}"#, Json(text))
}

fn thought_part(text: &str) -> String {
    format!(r#"{{"text":{},"thought":true}}"#, Json(text))
}

fn call_part(plan: &Plan, at: usize) -> String {
    let Some(call) = plan.calls().get(at) else {
        return String::new();
    };
    // Only the first call of a turn carries the signature of the thought before it.
    let signature = if plan.reasoning.is_some() && at == 0 {
        format!(r#","thoughtSignature":"{SIGNATURE}""#)
    } else {
        String::new()
    };
    let (id, name, args) = (unique(plan.created, plan.number), Json(&call.name), &call.arguments);
    format!(r#"{{"functionCall":{{"id":"{id}{at:02}","name":{name},"args":{args}}}{signature}}}"#)
}

impl Wire for Gemini {
    fn whole(&self, plan: &Plan) -> String {
        let mut parts = Vec::new();
        if let Some(reasoning) = &plan.reasoning {
            parts.push(thought_part(&reasoning.whole()));
        }
        if let Some(text) = plan.text().map(Text::whole) {
            parts.push(text_part(&text));
        }
        parts.extend((0..plan.calls().len()).map(|at| call_part(plan, at)));
        object(
            plan,
            &parts.join(","),
            Some(plan.finish),
            plan.usage.output,
            plan.usage.reasoning,
        )
    }

    fn writer(&self, plan: &Plan) -> Box<dyn Writer> {
        Box::new(ContentWriter {
            json_array: plan.json_array,
            begun: false,
            reasoning: 0,
            output: 0,
        })
    }

    fn error(&self, refusal: &Refusal, _number: u64) -> String {
        let error = error_body(refusal);
        if self.json_array { format!("[{error}]") } else { error }
    }

    fn id_header(&self) -> Option<&'static str> {
        None
    }
}

/// An error as Google's APIs write it.
pub fn error_body(refusal: &Refusal) -> String {
    let status = match refusal.status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        409 => "ABORTED",
        429 => "RESOURCE_EXHAUSTED",
        400..=499 => "INVALID_ARGUMENT",
        501 => "UNIMPLEMENTED",
        503 | 529 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        _ => "INTERNAL",
    };
    let (code, message) = (refusal.status, Json(&refusal.message));
    let details = match refusal.retry {
        Some(retry) => {
            format!(r#","details":[{{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"{retry}s"}}]"#)
        }
        None => String::new(),
    };
    format!(r#"{{"error":{{"code":{code},"message":{message},"status":"{status}"{details}}}}}"#)
}

struct ContentWriter {
    json_array: bool,
    /// An element of the array is out.
    begun: bool,
    reasoning: u64,
    output: u64,
}

impl ContentWriter {
    fn element(&mut self, out: &mut Events, json: &str, last: bool) {
        match (self.json_array, self.begun) {
            (false, _) => out.around("data: ", json, "\r\n\r\n"),
            (true, begun) => out.around(if begun { ",\r\n" } else { "[" }, json, if last { "\r\n]" } else { "" }),
        }
        self.begun = true;
    }
}

impl Writer for ContentWriter {
    fn step(&mut self, plan: &Plan, step: Step<'_>, out: &mut Events) {
        match step {
            Step::Reasoning { piece, sofar } => {
                self.reasoning = u64::from(sofar);
                let json = object(plan, &thought_part(piece), None, self.output, self.reasoning);
                self.element(out, &json, false);
            }
            Step::Text { piece, sofar } => {
                self.output = u64::from(sofar);
                let json = object(plan, &text_part(piece), None, self.output, self.reasoning);
                self.element(out, &json, false);
            }
            // Calls come whole in this dialect.
            Step::CallStart(at) => {
                self.output = plan.usage.output;
                let json = object(plan, &call_part(plan, at), None, self.output, self.reasoning);
                self.element(out, &json, false);
            }
            Step::Finish => {
                let signature = match plan.reasoning {
                    Some(_) if plan.calls().is_empty() => format!(r#","thoughtSignature":"{SIGNATURE}""#),
                    _ => String::new(),
                };
                let part = format!(r#"{{"text":""{signature}}}"#);
                let json = object(plan, &part, Some(plan.finish), plan.usage.output, plan.usage.reasoning);
                self.element(out, &json, true);
            }
            Step::Start | Step::ReasoningStart | Step::ReasoningStop => {}
            Step::TextStart | Step::TextStop | Step::Arguments(..) | Step::CallStop(_) => {}
        }
    }

    fn error(&mut self, _plan: &Plan, refusal: &Refusal, out: &mut Events) {
        self.element(out, &error_body(refusal), true);
    }
}
