//! How near our counts of tokens come to what providers reported: of OpenAI's models by their tokenizer, of all others by the estimate. The
//! numbers in `translate/estimate.rs` and `dialects/openai_chat/tokenizer.rs` are what this prints.

use std::collections::BTreeMap;

use tollgate::dialects;
use tollgate::ir::{Content, Operation};
use tollgate::translate::{AnswerStream, estimate, request};

use super::*;

/// Shorter ones say nothing: a provider's own few tokens around a text weigh too much.
const SHORTEST: u64 = 50;

/// Ours, in thousandths of theirs.
type Ratios = BTreeMap<&'static str, Vec<u64>>;

fn family(model: &str) -> &'static str {
    let families = [
        "claude", "gemini", "gemma", "deepseek", "qwen", "llama", "mistral", "grok", "glm", "kimi", "command", "nova",
        "granite",
    ];
    let model = model.to_lowercase();
    families
        .into_iter()
        .find(|family| model.contains(family))
        .unwrap_or("other")
}

fn show(what: &str, ratios: &mut Ratios) {
    for (family, ratios) in ratios {
        ratios.sort_unstable();
        let at = |part: usize| ratios[(ratios.len() - 1) * part / 100] as f64 / 1000.0;
        println!(
            "{what}, {family}: {} of them, ours in theirs: p10 {:.2}, median {:.3}, p90 {:.2}",
            ratios.len(),
            at(10),
            at(50),
            at(90)
        );
    }
}

fn median(ratios: &Ratios, families: impl Fn(&str) -> bool) -> Option<u64> {
    let mut all: Vec<u64> = ratios
        .iter()
        .filter(|(family, _)| families(family))
        .flat_map(|(_, ratios)| ratios.iter().copied())
        .collect();
    all.sort_unstable();
    (!all.is_empty()).then(|| all[all.len() / 2])
}

#[test]
fn counts_and_estimates_of_answers_are_near_what_providers_reported() {
    let mut counted = Ratios::new();
    let mut estimated = Ratios::new();
    for case in cases() {
        if case.response.status >= 400 || case.operation() != Operation::Chat {
            continue;
        }
        let mut stream = AnswerStream::new(case.plan(case.kind()));
        stream.keep_text();
        stream.chunk(Bytes::copy_from_slice(case.body().as_bytes()));
        stream.finish();
        let meter = stream.meter();
        let (Some(usage), Some(model)) = (meter.usage, &meter.model) else {
            continue;
        };
        let output = usage.output_total();
        // Hidden reasoning is in no text, nor are pictures; what providers' own tools wrote is not all told.
        if output < SHORTEST || usage.reasoning > 0 || meter.images_out > 0 || usage.output_audio > 0 {
            continue;
        }
        let per_mille = |ours: u64| ours * 1000 / output;
        let ours = meter.written.tokens();
        if ours == 0 {
            continue;
        }
        match dialects::tokenizer(model) {
            Some(tokenizer) => {
                let tokens = meter.written.text().expect("it was kept").tokens(tokenizer);
                let ratio = per_mille(tokens);
                let kind = if meter.tool_calls > 0 { "calls" } else { "texts" };
                counted.entry(kind).or_default().push(ratio);
                estimated.entry("gpt").or_default().push(per_mille(ours));
            }
            None => estimated.entry(family(model)).or_default().push(per_mille(ours)),
        }
    }
    show("counted", &mut counted);
    show("estimated", &mut estimated);
    if let Some(median) = median(&counted, |kind| kind == "texts") {
        assert!((970..=1030).contains(&median), "tokenizer: {median} thousandths");
    }
    if let Some(median) = median(&estimated, |family| family != "gpt") {
        assert!((750..=1250).contains(&median), "estimate: {median} thousandths");
    }
}

#[test]
fn counts_and_estimates_of_prompts_are_near_what_providers_reported() {
    let mut counted = Ratios::new();
    let mut estimated = Ratios::new();
    for case in cases() {
        let Some(request) = case.request.as_ref().filter(|_| case.response.status < 400) else {
            continue;
        };
        if case.operation() != Operation::Chat {
            continue;
        }
        let (_, _, stream) = run(case.plan(case.kind()), std::iter::once(case.body().as_bytes()));
        let (Some(usage), Some(model)) = (stream.meter().usage, stream.meter().model.clone()) else {
            continue;
        };
        let Some(body) = &request.body else { continue };
        let Some(target) = target(&case, request) else { continue };
        let Ok(decoded) = request::decode(&target, body.to_string().as_bytes()) else {
            continue;
        };
        let Some(chat) = decoded.chat() else { continue };
        let plain = chat.all_messages().all(|message| {
            message.blocks.iter().all(|block| {
                matches!(
                    block.content,
                    Content::Text(_) | Content::ToolCall(_) | Content::ToolResult(_)
                )
            })
        });
        // Schemas of answers are told to models in ways nobody publishes.
        let plain = plain && body.get("response_format").is_none() && body.pointer("/text/format/schema").is_none();
        let input = usage.input_total();
        // What stands for stored content, and what providers' own tools add, is in no body.
        if !plain
            || input < SHORTEST
            || chat.bound.is_some()
            || chat
                .tools
                .iter()
                .any(|tool| matches!(tool.kind, tollgate::ir::ToolDefinition::Native(_)))
        {
            continue;
        }
        let ours = estimate::prompt_tokens(chat);
        match dialects::tokenizer(&model) {
            Some(tokenizer) => {
                let kind = if chat.tools.is_empty() { "texts" } else { "tools" };
                counted
                    .entry(kind)
                    .or_default()
                    .push(decoded.counted(tokenizer) * 1000 / input);
                estimated.entry("gpt").or_default().push(ours * 1000 / input);
            }
            None => estimated.entry(family(&model)).or_default().push(ours * 1000 / input),
        }
    }
    show("counted prompts", &mut counted);
    show("estimated prompts", &mut estimated);
    if let Some(median) = median(&counted, |kind| kind == "texts") {
        assert!((970..=1030).contains(&median), "tokenizer: {median} thousandths");
    }
}

/// How the gateway would take the request.
fn target(case: &Case, request: &Request) -> Option<dialects::Target> {
    let method: Method = request.method.parse().ok()?;
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        if let (Ok(name), Ok(value)) = (http::HeaderName::try_from(name), http::HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
    let line = Line {
        method: &method,
        path,
        query,
        headers: &headers,
    };
    dialects::find(line).filter(|target| target.dialect.id() == case.dialect().id())
}
