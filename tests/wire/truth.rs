//! What a recorded answer says, read with plain JSON values and nothing of the crate's own: the same rules as the
//! judge's (`../shared/conformance/wires.py`), written again here.

use serde_json::Value;
use tollgate::ir::FinishKind;

/// What a recording says.
#[derive(Debug, Default)]
pub struct Truth {
    pub input: Option<u64>,
    pub output: Option<u64>,
    pub cached: Option<u64>,
    pub cache_write: Option<u64>,
    pub reasoning: Option<u64>,
    pub total: Option<u64>,
    /// Our word for the first candidate's finish reason; `None` where it has none.
    pub finish: Option<FinishKind>,
    /// Names of all tool calls, candidate by candidate.
    pub tools: Vec<String>,
    pub model: String,
    pub has_error: bool,
}

/// Events of a stream: (event, data).
pub fn sse_events(text: &str) -> Vec<(String, String)> {
    let text = text
        .strip_prefix('\u{feff}')
        .unwrap_or(text)
        .replace("\r\n", "\n")
        .replace('\r', "\n");
    let mut out = Vec::new();
    let (mut event, mut data): (String, Vec<&str>) = (String::new(), Vec::new());
    for line in text.split('\n').chain([""]) {
        if line.is_empty() {
            if !data.is_empty() {
                out.push((std::mem::take(&mut event), data.join("\n")));
            }
            event.clear();
            data.clear();
        } else if !line.starts_with(':') {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => event = value.to_owned(),
                "data" => data.push(value),
                _ => {}
            }
        }
    }
    out
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

/// Python's truth of a value.
fn truthy(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(s) => !s.is_empty(),
        Value::Array(a) => !a.is_empty(),
        Value::Object(o) => !o.is_empty(),
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::Bool(true) => true,
    }
}

/// The truth of an answer of that dialect.
pub fn read(dialect: &str, stream: bool, body: &str) -> Truth {
    let events = if stream { sse_events(body) } else { Vec::new() };
    let whole: Option<Value> = if events.is_empty() {
        serde_json::from_str(body).ok()
    } else {
        None
    };
    let parsed: Vec<(String, Value)> = events
        .into_iter()
        .map(|(e, d)| (e, serde_json::from_str(&d).unwrap_or(Value::Null)))
        .collect();
    let mut truth = Truth::default();
    match (dialect, whole) {
        ("openai_chat", Some(whole)) => chat_whole(&whole, &mut truth),
        ("openai_chat", None) => chat_stream(&parsed, &mut truth),
        ("openai_responses", Some(whole)) => responses(&whole, &mut truth),
        ("openai_responses", None) => responses_stream(&parsed, &mut truth),
        ("anthropic", Some(whole)) => anthropic(&whole, &mut truth),
        ("anthropic", None) => anthropic_stream(&parsed, &mut truth),
        (_, Some(Value::Array(elements))) => gemini(&elements, &mut truth),
        (_, Some(whole)) => gemini(&[whole], &mut truth),
        (_, None) => gemini(&parsed.into_iter().map(|(_, v)| v).collect::<Vec<_>>(), &mut truth),
    }
    truth
}

fn chat_finish(reason: &Value) -> Option<FinishKind> {
    Some(match reason.as_str().filter(|r| !r.is_empty())? {
        "stop" | "eos" => FinishKind::Stop,
        "length" | "model_length" => FinishKind::Length,
        "tool_calls" | "function_call" => FinishKind::ToolCalls,
        "content_filter" => FinishKind::ContentFilter,
        "error" => FinishKind::Error,
        _ => FinishKind::Other,
    })
}

pub fn chat_usage(usage: &Value, truth: &mut Truth) {
    truth.input = usage["prompt_tokens"].as_u64();
    truth.output = usage["completion_tokens"].as_u64();
    truth.total = usage["total_tokens"].as_u64();
    truth.cached = usage["prompt_tokens_details"]["cached_tokens"].as_u64();
    truth.cached = truth.cached.or(usage["prompt_cache_hit_tokens"].as_u64());
    truth.reasoning = usage["completion_tokens_details"]["reasoning_tokens"].as_u64();
}

fn function(call: &Value) -> &Value {
    if truthy(&call["function"]) {
        &call["function"]
    } else {
        &call["custom"]
    }
}

fn chat_whole(answer: &Value, truth: &mut Truth) {
    truth.model = text(&answer["model"]).to_owned();
    truth.has_error = truthy(&answer["error"]);
    for (n, choice) in list(&answer["choices"]).iter().enumerate() {
        let message = &choice["message"];
        truth.tools.extend(
            list(&message["tool_calls"])
                .iter()
                .map(|c| text(&function(c)["name"]).to_owned()),
        );
        let legacy = text(&message["function_call"]["name"]);
        if !legacy.is_empty() {
            truth.tools.push(legacy.to_owned());
        }
        if n == 0 {
            truth.finish = chat_finish(&choice["finish_reason"]);
        }
        truth.has_error |= choice["error"].is_object();
    }
    chat_usage(&answer["usage"], truth);
}

struct Call {
    index: Option<u64>,
    id: String,
    name: String,
}

fn chat_stream(events: &[(String, Value)], truth: &mut Truth) {
    let mut calls: Vec<(u64, Vec<Call>)> = Vec::new();
    let mut got_usage = false;
    for (event, chunk) in events {
        if truthy(&chunk["error"]) || event == "error" {
            truth.has_error = true;
            continue;
        }
        if truth.model.is_empty() {
            truth.model = text(&chunk["model"]).to_owned();
        }
        if truthy(&chunk["usage"]) {
            chat_usage(&chunk["usage"], truth);
            got_usage = true;
        }
        if truthy(&chunk["x_groq"]["usage"]) && !got_usage {
            chat_usage(&chunk["x_groq"]["usage"], truth);
        }
        for choice in list(&chunk["choices"]) {
            let index = choice["index"].as_u64().unwrap_or(0);
            if !calls.iter().any(|(i, _)| *i == index) {
                calls.push((index, Vec::new()));
            }
            let own = calls
                .iter_mut()
                .find(|(i, _)| *i == index)
                .map(|(_, calls)| calls)
                .expect("just put there");
            let delta = if truthy(&choice["delta"]) {
                &choice["delta"]
            } else {
                &choice["message"]
            };
            for call in list(&delta["tool_calls"]) {
                let (id, name) = (text(&call["id"]), text(&function(call)["name"]));
                let place = match call["index"].as_u64() {
                    Some(index) => own.iter().rposition(|c| c.index == Some(index)),
                    None if id.is_empty() => own.len().checked_sub(1),
                    None => None,
                };
                let other = |c: &Call| !id.is_empty() && !c.id.is_empty() && id != c.id && !name.is_empty();
                let place = match place {
                    Some(place) if !other(&own[place]) => place,
                    _ => {
                        own.push(Call {
                            index: call["index"].as_u64(),
                            id: id.to_owned(),
                            name: String::new(),
                        });
                        own.len() - 1
                    }
                };
                if own[place].id.is_empty() {
                    own[place].id = id.to_owned();
                }
                if own[place].name.is_empty() {
                    own[place].name = name.to_owned();
                }
            }
            if let Some(finish) = chat_finish(&choice["finish_reason"])
                && index == 0
            {
                truth.finish = Some(finish);
            }
        }
    }
    calls.sort_by_key(|(index, _)| *index);
    truth.tools = calls
        .into_iter()
        .flat_map(|(_, calls)| calls)
        .map(|call| call.name)
        .collect();
}

fn responses(answer: &Value, truth: &mut Truth) {
    truth.model = text(&answer["model"]).to_owned();
    for item in list(&answer["output"]) {
        if matches!(text(&item["type"]), "function_call" | "custom_tool_call") {
            truth.tools.push(text(&item["name"]).to_owned());
        }
    }
    truth.finish = match text(&answer["status"]) {
        "completed" if truth.tools.is_empty() => Some(FinishKind::Stop),
        "completed" => Some(FinishKind::ToolCalls),
        "incomplete" if text(&answer["incomplete_details"]["reason"]) == "content_filter" => {
            Some(FinishKind::ContentFilter)
        }
        "incomplete" => Some(FinishKind::Length),
        "failed" => Some(FinishKind::Error),
        "queued" | "in_progress" | "" => None,
        _ => Some(FinishKind::Other),
    };
    truth.has_error |= truthy(&answer["error"]);
    let usage = &answer["usage"];
    truth.input = usage["input_tokens"].as_u64();
    truth.output = usage["output_tokens"].as_u64();
    truth.total = usage["total_tokens"].as_u64();
    truth.cached = usage["input_tokens_details"]["cached_tokens"].as_u64();
    truth.reasoning = usage["output_tokens_details"]["reasoning_tokens"].as_u64();
}

fn responses_stream(events: &[(String, Value)], truth: &mut Truth) {
    let mut last = None;
    let mut items: Vec<(u64, Value)> = Vec::new();
    let mut model = String::new();
    for (event, data) in events {
        let kind = if truthy(&data["type"]) {
            text(&data["type"])
        } else {
            event
        };
        match kind {
            "error" => truth.has_error = true,
            "response.completed" | "response.incomplete" | "response.failed" | "response.done" => {
                last = Some(data["response"].clone());
            }
            "response.output_item.done" => {
                let index = data["output_index"].as_u64().unwrap_or(items.len() as u64);
                items.retain(|(i, _)| *i != index);
                items.push((index, data["item"].clone()));
            }
            "response.created" | "response.in_progress" => model = text(&data["response"]["model"]).to_owned(),
            _ => {}
        }
    }
    items.sort_by_key(|(index, _)| *index);
    let items = Value::from(items.into_iter().map(|(_, item)| item).collect::<Vec<_>>());
    let mut answer = last.unwrap_or_else(|| serde_json::json!({"model": model}));
    if list(&answer["output"]).is_empty() {
        answer["output"] = items;
    }
    responses(&answer, truth);
    // The first name is the one a meter keeps; both name the same model.
    if !model.is_empty() {
        truth.model = model;
    }
}

fn anthropic(message: &Value, truth: &mut Truth) {
    truth.model = text(&message["model"]).to_owned();
    truth.has_error |= text(&message["type"]) == "error";
    for block in list(&message["content"]) {
        if text(&block["type"]) == "tool_use" {
            truth.tools.push(text(&block["name"]).to_owned());
        }
    }
    truth.finish = match text(&message["stop_reason"]) {
        "" => None,
        "end_turn" | "stop_sequence" => Some(FinishKind::Stop),
        "max_tokens" | "model_context_window_exceeded" => Some(FinishKind::Length),
        "tool_use" => Some(FinishKind::ToolCalls),
        "refusal" => Some(FinishKind::ContentFilter),
        "pause_turn" | "compaction" => Some(FinishKind::Pause),
        _ => Some(FinishKind::Other),
    };
    let usage = &message["usage"];
    truth.output = usage["output_tokens"].as_u64();
    truth.cached = usage["cache_read_input_tokens"].as_u64();
    truth.cache_write = usage["cache_creation_input_tokens"].as_u64();
    truth.reasoning = usage["output_tokens_details"]["thinking_tokens"].as_u64();
    if let Some(input) = usage["input_tokens"].as_u64() {
        truth.input = Some(input + truth.cached.unwrap_or(0) + truth.cache_write.unwrap_or(0));
        truth.total = truth.output.map(|output| output + truth.input.unwrap_or(0));
    }
}

fn anthropic_stream(events: &[(String, Value)], truth: &mut Truth) {
    let mut message = Value::Null;
    let mut blocks: Vec<(u64, Value)> = Vec::new();
    for (event, data) in events {
        let kind = if truthy(&data["type"]) {
            text(&data["type"])
        } else {
            event
        };
        match kind {
            "message_start" => message = data["message"].clone(),
            "content_block_start" => {
                let index = data["index"].as_u64().unwrap_or(blocks.len() as u64);
                blocks.retain(|(i, _)| *i != index);
                blocks.push((index, data["content_block"].clone()));
            }
            "message_delta" => {
                if let Some(reason) = data["delta"].get("stop_reason") {
                    message["stop_reason"] = reason.clone();
                }
                for (key, value) in data["usage"]
                    .as_object()
                    .into_iter()
                    .flatten()
                    .filter(|(_, v)| !v.is_null())
                {
                    message["usage"][key] = value.clone();
                }
            }
            "error" => truth.has_error = true,
            _ => {}
        }
    }
    blocks.sort_by_key(|(index, _)| *index);
    message["content"] = Value::from(blocks.into_iter().map(|(_, block)| block).collect::<Vec<_>>());
    anthropic(&message, truth);
}

fn either<'a>(value: &'a Value, camel: &str, snake: &str) -> &'a Value {
    if value[camel].is_null() {
        &value[snake]
    } else {
        &value[camel]
    }
}

fn gemini(elements: &[Value], truth: &mut Truth) {
    let mut finishes: Vec<(u64, String)> = Vec::new();
    let mut tools: Vec<(u64, String)> = Vec::new();
    let mut open: Vec<u64> = Vec::new();
    let mut blocked = false;
    for element in elements {
        if truthy(&element["error"]) {
            truth.has_error = true;
            continue;
        }
        if truth.model.is_empty() {
            truth.model = text(&element["modelVersion"]).to_owned();
        }
        let usage = &element["usageMetadata"];
        let get = |camel: &str, snake: &str| either(usage, camel, snake).as_u64();
        let thoughts = get("thoughtsTokenCount", "thoughts_token_count");
        let candidates = get("candidatesTokenCount", "candidates_token_count");
        if let Some(prompt) = get("promptTokenCount", "prompt_token_count") {
            let tool_use = get("toolUsePromptTokenCount", "tool_use_prompt_token_count");
            truth.input = Some(prompt + tool_use.unwrap_or(0));
        }
        if candidates.is_some() || thoughts.is_some() {
            truth.output = Some(candidates.unwrap_or(0) + thoughts.unwrap_or(0));
        }
        truth.total = get("totalTokenCount", "total_token_count").or(truth.total);
        truth.cached = get("cachedContentTokenCount", "cached_content_token_count").or(truth.cached);
        truth.reasoning = thoughts.or(truth.reasoning);
        blocked |= truthy(&element["promptFeedback"]["blockReason"]);
        for candidate in list(&element["candidates"]) {
            let index = candidate["index"].as_u64().unwrap_or(0);
            for part in list(&candidate["content"]["parts"]) {
                let call = either(part, "functionCall", "function_call");
                if part.get("text").is_some() || call.is_null() {
                    continue;
                }
                let name = text(&call["name"]);
                let more = truthy(either(call, "willContinue", "will_continue"));
                let pieces = truthy(either(call, "partialArgs", "partial_args")) || more;
                if pieces || (name.is_empty() && open.contains(&index)) {
                    if !name.is_empty() {
                        tools.push((index, name.to_owned()));
                        open.push(index);
                    }
                    if !more {
                        open.retain(|i| *i != index);
                    }
                } else {
                    tools.push((index, name.to_owned()));
                }
            }
            let finish = text(&candidate["finishReason"]);
            if !finish.is_empty() {
                finishes.retain(|(i, _)| *i != index);
                finishes.push((index, finish.to_owned()));
            }
        }
    }
    finishes.sort();
    truth.finish = finishes.first().map(|(index, finish)| match finish.as_str() {
        "STOP" if tools.iter().any(|(i, _)| i == index) => FinishKind::ToolCalls,
        "STOP" => FinishKind::Stop,
        "MAX_TOKENS" => FinishKind::Length,
        "SAFETY"
        | "RECITATION"
        | "PROHIBITED_CONTENT"
        | "BLOCKLIST"
        | "SPII"
        | "IMAGE_SAFETY"
        | "LANGUAGE"
        | "IMAGE_PROHIBITED_CONTENT" => FinishKind::ContentFilter,
        "MALFORMED_FUNCTION_CALL"
        | "OTHER"
        | "UNEXPECTED_TOOL_CALL"
        | "NO_IMAGE"
        | "IMAGE_OTHER"
        | "TOO_MANY_TOOL_CALLS"
        | "MISSING_THOUGHT_SIGNATURE" => FinishKind::Error,
        _ => FinishKind::Other,
    });
    if blocked && truth.finish.is_none() {
        truth.finish = Some(FinishKind::ContentFilter);
    }
    tools.sort_by_key(|(index, _)| *index);
    truth.tools = tools.into_iter().map(|(_, name)| name).collect();
}

/// Did the dialect's own last mark come? Judged from the frames alone.
pub fn is_terminal(dialect: &str, body: &str) -> bool {
    let events = sse_events(body);
    if dialect == "openai_chat" && events.iter().any(|(_, data)| data.trim() == "[DONE]") {
        return true;
    }
    let mut open = std::collections::BTreeMap::new();
    let mut usage = false;
    for (event, data) in events {
        let Ok(data) = serde_json::from_str::<Value>(&data) else {
            continue;
        };
        let kind = if truthy(&data["type"]) {
            text(&data["type"]).to_owned()
        } else {
            event
        };
        match dialect {
            "openai_chat" => {
                usage |= truthy(&data["usage"]) || truthy(&data["x_groq"]["usage"]);
                for choice in list(&data["choices"]) {
                    usage |= truthy(&choice["usage"]);
                    let finished = open.entry(choice["index"].as_u64().unwrap_or(0)).or_insert(false);
                    *finished |= truthy(&choice["finish_reason"]);
                }
            }
            "openai_responses" => {
                let terminal = [
                    "response.completed",
                    "response.incomplete",
                    "response.failed",
                    "response.done",
                ];
                if terminal.contains(&kind.as_str()) {
                    return true;
                }
            }
            "anthropic" => {
                if kind == "message_stop" {
                    return true;
                }
            }
            _ => {
                let finished = list(&data["candidates"]).iter().any(|c| truthy(&c["finishReason"]));
                if finished || truthy(&data["promptFeedback"]["blockReason"]) {
                    return true;
                }
            }
        }
    }
    let ended = dialect != "openai_chat" || usage;
    ended && !open.is_empty() && open.values().all(|finished| *finished)
}
