//! Requests, written: the top-level fields. The order of fields is fixed, so that bodies of one conversation begin alike.
//!
//! A request from another dialect is written stateless: nothing is stored unless the client asked for it, and where there
//! may be reasoning its tokens are asked for, so that the next request can return them (OpenAI's reference, `include`).

use serde_json::{Map, Value, json};

use super::encode_items::Items;
use super::request::{ENCRYPTED, LOGPROBS};
use super::{DIALECT, encode_tools as tools, object};
use crate::dialects::{EncodeError, Upstream, write};
use crate::ir::{Budget, Content, Effort, LossReport, Message, Native, Request, Set, ToolChoice, Wish};

/// Fewest tokens an answer may be limited to (`max_output_tokens`, minimum).
const FEWEST_TOKENS: u64 = 16;
/// Longest name of an end user (`safety_identifier`, maxLength).
const LONGEST_USER: usize = 64;
/// The words of `service_tier` (`ServiceTierResponses`).
pub(super) const TIERS: [&str; 7] = ["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"];
/// What a count of tokens is asked with (`TokenCountsBody`).
const COUNTED: [&str; 11] = [
    "model",
    "instructions",
    "input",
    "previous_response_id",
    "conversation",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "text",
    "reasoning",
    "truncation",
];
/// Why a setting is left out.
const NO_FIELD: &str = "the Responses API has no such setting";

/// The body of a request for the count of its tokens: what does not count is left out, without a loss.
pub(super) fn count_body(
    request: &Request,
    to: &Upstream<'_>,
    loss: &mut LossReport,
) -> Result<Map<String, Value>, EncodeError> {
    let mut body = body(request, to, loss)?;
    body.retain(|key, _| COUNTED.contains(&key.as_str()));
    Ok(body)
}

/// The body of a request.
pub(super) fn body(
    request: &Request,
    to: &Upstream<'_>,
    loss: &mut LossReport,
) -> Result<Map<String, Value>, EncodeError> {
    let own = object::is_own(&request.echo);
    let mut body = Map::new();
    body.insert("model".into(), to.model.into());
    let (instructions, system) = instructions(&request.system, own, loss);
    if let Some(instructions) = instructions {
        body.insert("instructions".into(), instructions.into());
    }
    let mut items = Items::new(own, loss);
    for message in system.iter().chain(&request.messages) {
        items.message(message)?;
    }
    let mut items = items.finish();
    tools::put_additional(&request.tools, own, &mut items, loss);
    body.insert("input".into(), items.into());
    let list = tools::tools(&request.tools, own, loss);
    let no_tools = list.is_empty();
    if !no_tools {
        body.insert("tools".into(), list.into());
    }
    // Without tools nothing can be chosen, and the API refuses to be told so.
    let idle =
        |choice: &Set<ToolChoice>| no_tools && !own && matches!(choice.value, ToolChoice::Auto | ToolChoice::None);
    if let Some(choice) = request.tool_choice.as_ref().filter(|choice| !idle(choice))
        && let Some(choice) = tools::choice(choice, &request.tools, loss)
    {
        body.insert("tool_choice".into(), choice);
    }
    set(&mut body, "parallel_tool_calls", &request.parallel_tool_calls);
    text(request, own, &mut body, loss);
    let reasons = reasoning(request, own, to.model, &mut body, loss);
    sampling(request, own, &mut body, loss);
    about(request, own, &mut body, loss);
    let has_tokens = request
        .messages
        .iter()
        .flat_map(|m| &m.blocks)
        .any(|block| block.opaque.is_some());
    include(request, own, reasons || has_tokens, &mut body);
    Native::settle(&request.native, DIALECT, loss, |native| put(&mut body, native));
    if to.stream {
        body.insert("stream".into(), true.into());
    }
    Ok(body)
}

/// The first instructions, if they are text alone, are the field of that name; the others stand in the input, with
/// their roles.
fn instructions<'r>(system: &'r [Message], own: bool, loss: &mut LossReport) -> (Option<String>, &'r [Message]) {
    let Some((first, others)) = system.split_first() else {
        return (None, &[]);
    };
    let plain = first.native.is_empty()
        && first.name.is_none()
        && first
            .blocks
            .iter()
            .all(|block| matches!(block.content, Content::Text(_)) && block.native.is_empty());
    if !plain || first.blocks.is_empty() || own && first.at.as_ref() != "instructions" {
        return (None, system);
    }
    let mut text = String::new();
    for block in &first.blocks {
        if let Some(cache) = &block.cache {
            loss.dropped(cache.at.to_string(), "prompts are cached without being asked");
        }
        // Parts of one message run on; a list of instructions is a list of paragraphs.
        if !text.is_empty() && !block.at.contains(".content[") {
            text.push_str("\n\n");
        }
        text.push_str(block.as_text().unwrap_or(""));
    }
    (Some(text), others)
}

fn set<T: Clone + Into<Value>>(body: &mut Map<String, Value>, key: &str, set: &Option<Set<T>>) {
    if let Some(set) = set {
        body.insert(key.into(), set.value.clone().into());
    }
}

fn text(request: &Request, own: bool, body: &mut Map<String, Value>, loss: &mut LossReport) {
    let mut text = Map::new();
    if let Some(format) = &request.format
        && let Some(format) = tools::format(format, own, loss)
    {
        text.insert("format".into(), format);
    }
    set(&mut text, "verbosity", &request.verbosity);
    if !text.is_empty() {
        body.insert("text".into(), text.into());
    }
}

/// Writes `reasoning`; true if there may be some.
fn reasoning(request: &Request, own: bool, model: &str, body: &mut Map<String, Value>, loss: &mut LossReport) -> bool {
    let reasoning = &request.reasoning;
    let (wish, at) = reasoning.wish();
    let effort = match wish {
        Wish::Unsaid | Wish::On | Wish::Budget(Budget::Dynamic) => None,
        Wish::Off if own => Some(Effort::None),
        Wish::Off => off(model, at, loss),
        Wish::Effort(effort) => Some(effort),
        Wish::Budget(Budget::Tokens(tokens)) => {
            loss.approximated(at, "there is a word for how hard to think, not a number of tokens");
            Some(Effort::of_budget(tokens))
        }
    };
    // What the precedence passed over was said all the same.
    if let (Wish::Budget(_) | Wish::Off, Some(passed)) = (wish, &reasoning.effort)
        && passed.at != at
    {
        loss.dropped(passed.at, "another setting of reasoning takes precedence");
    }
    let mut map = Map::new();
    if let Some(effort) = effort {
        map.insert("effort".into(), effort.as_str().into());
    }
    match (&reasoning.summary, &reasoning.visible) {
        (Some(summary), _) => {
            map.insert("summary".into(), summary.value.as_str().into());
        }
        (None, Some(visible)) if visible.value && wish != Wish::Off => {
            map.insert("summary".into(), "auto".into());
        }
        _ => {}
    }
    let some = !reasoning.is_empty() && wish != Wish::Off;
    if !map.is_empty() {
        body.insert("reasoning".into(), map.into());
    }
    some
}

/// The effort that comes nearest to no reasoning. The reference only says that not every model has every word. Which has
/// which is taken from what users report of the API: GPT-5.1 names `none` among the words it takes and refuses `minimal`
/// (openai/openai-agents-python#2089), its Codex variants refuse `none`, and chat models take no effort
/// (opencode-openai-codex-auth v4.1.1, pydantic-ai#3332). `minimal` for GPT-5 and `low` for the o models are the least
/// these are known to take; GPT-4 and older do not reason.
fn off(model: &str, at: &'static str, loss: &mut LossReport) -> Option<Effort> {
    let name = model.rsplit('/').next().unwrap_or(model);
    let numbered = |prefix: &str| {
        let rest = name.strip_prefix(prefix)?;
        rest.starts_with(|c: char| c.is_ascii_digit()).then_some(rest)
    };
    match (numbered("gpt-"), numbered("o")) {
        (Some(version), _) if version.contains("-chat") => None,
        (Some(version), _) if version.contains("-codex") => {
            loss.approximated(at, "this model always reasons: it is asked for the least");
            Some(Effort::Low)
        }
        (Some(version), _) if version.starts_with("3") || version.starts_with("4") => None,
        (Some(version), _) if version == "5" || version.starts_with("5-") => {
            loss.approximated(at, "this model always reasons: it is asked for the least");
            Some(Effort::Minimal)
        }
        (None, Some(_)) => {
            loss.approximated(at, "this model always reasons: it is asked for the least");
            Some(Effort::Low)
        }
        _ => Some(Effort::None),
    }
}

fn sampling(request: &Request, own: bool, body: &mut Map<String, Value>, loss: &mut LossReport) {
    let sampling = &request.sampling;
    if let Some(max) = &sampling.max_tokens {
        if max.value < FEWEST_TOKENS && !own {
            loss.approximated(max.at, "an answer can't be limited to fewer than 16 tokens there");
        }
        let least = if own { 0 } else { FEWEST_TOKENS };
        body.insert("max_output_tokens".into(), max.value.max(least).into());
    }
    for (key, set) in [("temperature", &sampling.temperature), ("top_p", &sampling.top_p)] {
        if let Some(set) = set {
            body.insert(key.into(), write::number(set.value));
        }
    }
    set(body, "top_logprobs", &sampling.top_logprobs);
    let mut gone = |at: Option<&'static str>| {
        if let Some(at) = at {
            loss.dropped(at, NO_FIELD);
        }
    };
    gone(sampling.top_k.as_ref().map(|set| set.at));
    gone(
        sampling
            .stop
            .as_ref()
            .filter(|set| !set.value.is_empty())
            .map(|set| set.at),
    );
    gone(sampling.seed.as_ref().map(|set| set.at));
    gone(
        sampling
            .frequency_penalty
            .as_ref()
            .filter(|set| set.value != 0.0)
            .map(|set| set.at),
    );
    gone(
        sampling
            .presence_penalty
            .as_ref()
            .filter(|set| set.value != 0.0)
            .map(|set| set.at),
    );
    gone(
        sampling
            .candidates
            .as_ref()
            .filter(|set| set.value != 1)
            .map(|set| set.at),
    );
    let text_only = |set: &&Set<Vec<String>>| set.value.iter().all(|word| word == "text");
    gone(
        request
            .modalities
            .as_ref()
            .filter(|set| !text_only(set))
            .map(|set| set.at),
    );
}

/// Who asks, why, how urgently, and what may be kept.
fn about(request: &Request, own: bool, body: &mut Map<String, Value>, loss: &mut LossReport) {
    if let Some(user) = &request.user {
        let key = if own && user.at == "user" {
            "user"
        } else {
            "safety_identifier"
        };
        if !own && user.value.len() > LONGEST_USER {
            loss.dropped(user.at, "an end user's name has at most 64 bytes there");
        } else {
            body.insert(key.into(), user.value.as_str().into());
        }
    }
    set(body, "metadata", &request.metadata);
    if let Some(tier) = &request.service_tier {
        match tier.value.as_str() {
            word if own || TIERS.contains(&word) => {
                body.insert("service_tier".into(), word.into());
            }
            _ => loss.dropped(tier.at, "there is no such tier"),
        }
    }
    set(body, "prompt_cache_key", &request.cache_key);
    match &request.store {
        Some(store) => {
            body.insert("store".into(), store.value.into());
        }
        // This API keeps answers unless it is told not to.
        None if !own => {
            body.insert("store".into(), false.into());
        }
        None => {}
    }
}

fn include(request: &Request, own: bool, reasons: bool, body: &mut Map<String, Value>) {
    let mut include: Vec<Value> = Vec::new();
    let asked = request.echo.get("include").and_then(Value::as_array);
    let asked = own && asked.is_some_and(|list| list.iter().any(|entry| entry == ENCRYPTED));
    if asked || !own && reasons {
        include.push(ENCRYPTED.into());
    }
    if request.sampling.logprobs.as_ref().is_some_and(|wanted| wanted.value) {
        include.push(LOGPROBS.into());
    }
    if !include.is_empty() {
        body.insert("include".into(), include.into());
    }
}

/// Puts a field of its own back: into the root, or into the object it stood in.
fn put(body: &mut Map<String, Value>, native: &Native) {
    let key = native.key.to_string();
    let parent = native.at.strip_suffix(&key).and_then(|parent| parent.strip_suffix('.'));
    match (parent, body.get_mut(&key)) {
        (Some(parent), _) => {
            let parent = body.entry(parent).or_insert_with(|| json!({}));
            if let Value::Object(map) = parent {
                map.insert(key, native.json.clone());
            }
        }
        // The rest of a list whose known entries are typed.
        (None, Some(Value::Array(list))) => list.extend(native.json.as_array().into_iter().flatten().cloned()),
        (None, _) => {
            body.insert(key, native.json.clone());
        }
    }
}
