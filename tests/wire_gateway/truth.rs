//! What a recording says of itself, read without any of the gateway's code: usage as `../shared/conformance/wires.py`
//! reads it, and whether the stream came to its end.

use serde_json::Value;

use crate::case::Case;

/// Usage in the provider's own totals; `None`: it does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All tokens of the prompt.
    pub input: Option<u64>,
    /// Of them, from a cache.
    pub cached: Option<u64>,
    /// Of them, written to a cache.
    pub written: Option<u64>,
    /// All tokens of the output, reasoning among them.
    pub output: Option<u64>,
    /// Of them, reasoning.
    pub reasoning: Option<u64>,
    /// Both together, where it is said.
    pub total: Option<u64>,
}

impl Usage {
    /// As the ledger must have it, whose classes are disjoint and add up to the totals; what is not said is zero.
    ///
    /// - xAI counts reasoning beside the output: there the total is the sum of three.
    /// - Voyage's embeddings tell a total only: it is the prompt.
    /// - A part larger than its total (cached tokens of Grok on Azure, reasoning tokens of Vercel's gateway) is cut to it:
    ///   the flag says so.
    pub fn in_classes(self) -> (Usage, bool) {
        let zero = |number: Option<u64>| number.unwrap_or(0);
        let mut output = zero(self.output);
        let input = self.input.unwrap_or(zero(self.total).saturating_sub(output));
        if zero(self.reasoning) > 0 && self.total == Some(input + output + zero(self.reasoning)) {
            output += zero(self.reasoning);
        }
        let (cached, reasoning) = (zero(self.cached).min(input), zero(self.reasoning).min(output));
        let classes = Usage {
            input: Some(input),
            cached: Some(cached),
            written: Some(zero(self.written)),
            output: Some(output),
            reasoning: Some(reasoning),
            total: None,
        };
        (classes, cached < zero(self.cached) || reasoning < zero(self.reasoning))
    }
}

/// How a recording ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// As its dialect ends an answer.
    Complete,
    /// With an error inside a 200.
    Failed,
    /// Without its last event.
    Cut,
}

/// What is known of one recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truth {
    /// `None`: no usage is reported.
    pub usage: Option<Usage>,
    pub end: End,
}

/// Reads a recording.
pub fn of(case: &Case) -> Truth {
    if case.status >= 400 {
        return Truth {
            usage: None,
            end: End::Complete,
        };
    }
    let text = String::from_utf8_lossy(&case.answer);
    let events = if case.stream { events(&text) } else { Vec::new() };
    if !events.is_empty() {
        let (mut usage, mut end) = (Usage::default(), End::Cut);
        for (name, data) in &events {
            event(case.dialect(), name.as_deref(), data, &mut usage, &mut end);
        }
        return Truth {
            usage: known(usage),
            end,
        };
    }
    let Ok(body) = serde_json::from_str::<Value>(&text) else {
        return Truth {
            usage: None,
            end: End::Complete,
        };
    };
    let usage = match case.wire.as_str() {
        "gemini" | "gemini_embeddings" => {
            let mut usage = Usage::default();
            let many = body.as_array().cloned().unwrap_or_else(|| vec![body.clone()]);
            many.iter()
                .for_each(|one| merge(&mut usage, gemini(&one["usageMetadata"])));
            usage
        }
        "anthropic" => anthropic(&body["usage"]),
        "openai_responses" => responses(&body["usage"]),
        "openai_chat" | "openai_embeddings" => chat(&body["usage"]),
        _ => Usage::default(),
    };
    let failed = body["error"].is_object() || body["status"] == "failed";
    Truth {
        usage: known(usage),
        end: if failed { End::Failed } else { End::Complete },
    }
}

fn known(usage: Usage) -> Option<Usage> {
    (usage != Usage::default()).then_some(usage)
}

/// One event of a stream.
fn event(dialect: &str, name: Option<&str>, data: &str, usage: &mut Usage, end: &mut End) {
    if data.trim() == "[DONE]" {
        if *end == End::Cut && dialect == "openai_chat" {
            *end = End::Complete;
        }
        return;
    }
    let Ok(event) = serde_json::from_str::<Value>(data) else {
        return;
    };
    if event["error"].is_object() || name == Some("error") || event["type"] == "error" {
        *end = End::Failed;
    }
    match dialect {
        "openai_chat" => {
            // Not every provider sends `[DONE]`.
            let finished = |choice: &Value| choice["finish_reason"].is_string();
            if *end == End::Cut && event["choices"].as_array().is_some_and(|all| all.iter().any(finished)) {
                *end = End::Complete;
            }
            if filled(&event["usage"]) {
                *usage = chat(&event["usage"]);
            } else if filled(&event["x_groq"]["usage"]) && *usage == Usage::default() {
                *usage = chat(&event["x_groq"]["usage"]);
            }
        }
        "openai_responses" => match event["type"].as_str().unwrap_or_default() {
            "response.completed" | "response.incomplete" => {
                *usage = responses(&event["response"]["usage"]);
                *end = End::Complete;
            }
            "response.failed" => {
                *usage = responses(&event["response"]["usage"]);
                *end = End::Failed;
            }
            _ => {}
        },
        "anthropic" => match event["type"].as_str().unwrap_or_default() {
            "message_start" => *usage = anthropic(&event["message"]["usage"]),
            // The later report wins, field by field.
            "message_delta" => merge(usage, anthropic_delta(&event["usage"], usage)),
            "message_stop" if *end == End::Cut => *end = End::Complete,
            _ => {}
        },
        _ => {
            merge(usage, gemini(&event["usageMetadata"]));
            let finished = |c: &Value| c["finishReason"].is_string();
            let blocked = event["promptFeedback"]["blockReason"].is_string();
            if *end == End::Cut
                && (blocked
                    || event["candidates"]
                        .as_array()
                        .is_some_and(|all| all.iter().any(finished)))
            {
                *end = End::Complete;
            }
        }
    }
}

fn filled(usage: &Value) -> bool {
    usage.as_object().is_some_and(|fields| !fields.is_empty())
}

fn merge(usage: &mut Usage, later: Usage) {
    let Usage {
        input,
        cached,
        written,
        output,
        reasoning,
        total,
    } = later;
    usage.input = input.or(usage.input);
    usage.cached = cached.or(usage.cached);
    usage.output = output.or(usage.output);
    usage.reasoning = reasoning.or(usage.reasoning);
    usage.written = written.or(usage.written);
    usage.total = total.or(usage.total);
}

fn chat(usage: &Value) -> Usage {
    let cached = usage["prompt_tokens_details"]["cached_tokens"].as_u64();
    Usage {
        input: usage["prompt_tokens"].as_u64(),
        cached: cached.or(usage["prompt_cache_hit_tokens"].as_u64()),
        output: usage["completion_tokens"].as_u64(),
        reasoning: usage["completion_tokens_details"]["reasoning_tokens"].as_u64(),
        total: usage["total_tokens"].as_u64(),
        written: usage["prompt_tokens_details"]["cache_write_tokens"].as_u64(),
    }
}

fn responses(usage: &Value) -> Usage {
    Usage {
        input: usage["input_tokens"].as_u64(),
        cached: usage["input_tokens_details"]["cached_tokens"].as_u64(),
        output: usage["output_tokens"].as_u64(),
        reasoning: usage["output_tokens_details"]["reasoning_tokens"].as_u64(),
        ..Usage::default()
    }
}

/// Input is what is neither read from nor written to a cache; here the three are added up.
fn anthropic(usage: &Value) -> Usage {
    let read = usage["cache_read_input_tokens"].as_u64();
    let written = usage["cache_creation_input_tokens"].as_u64();
    Usage {
        input: usage["input_tokens"]
            .as_u64()
            .map(|plain| plain + read.unwrap_or(0) + written.unwrap_or(0)),
        cached: read,
        written,
        output: usage["output_tokens"].as_u64(),
        reasoning: usage["output_tokens_details"]["thinking_tokens"].as_u64(),
        total: None,
    }
}

/// A delta which repeats the counts of the prompt repeats all of them in every recording; one which repeats none leaves
/// them as they were.
fn anthropic_delta(usage: &Value, before: &Usage) -> Usage {
    let later = anthropic(usage);
    if later.input.is_some() {
        later
    } else {
        Usage {
            input: before.input,
            cached: before.cached,
            written: before.written,
            ..later
        }
    }
}

fn gemini(usage: &Value) -> Usage {
    let number = |camel: &str, snake: &str| usage[camel].as_u64().or(usage[snake].as_u64());
    let tools = number("toolUsePromptTokenCount", "tool_use_prompt_token_count").unwrap_or(0);
    let answer = number("candidatesTokenCount", "candidates_token_count");
    let thoughts = number("thoughtsTokenCount", "thoughts_token_count");
    Usage {
        input: number("promptTokenCount", "prompt_token_count").map(|prompt| prompt + tools),
        cached: number("cachedContentTokenCount", "cached_content_token_count"),
        output: (answer.is_some() || thoughts.is_some()).then(|| answer.unwrap_or(0) + thoughts.unwrap_or(0)),
        reasoning: thoughts,
        ..Usage::default()
    }
}

/// Server-sent events as (name, data), as the WHATWG algorithm reads them. A last event without its blank line counts.
fn events(text: &str) -> Vec<(Option<String>, String)> {
    let text = text
        .trim_start_matches('\u{feff}')
        .replace("\r\n", "\n")
        .replace('\r', "\n");
    let (mut all, mut name, mut data) = (Vec::new(), None, Vec::new());
    for line in text.split('\n').chain([""]) {
        if line.is_empty() {
            if !data.is_empty() {
                all.push((name.take(), std::mem::take(&mut data).join("\n")));
            }
            name = None;
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => name = Some(value.to_owned()),
            "data" => data.push(value.to_owned()),
            _ => {}
        }
    }
    all
}
