//! Requests written: the settings. Messages, parts and tools have files of their own.

use serde_json::{Map, Value, json};

use super::natives::restore;
use super::vendor::Vendor;
use super::{DIALECT, encode_messages, request_tools};
use crate::dialects::{EncodeError, Upstream, write};
use crate::ir::{Budget, Effort, Format, LossReport, Native, Request, Wish};

/// Most stop sequences OpenAI takes (reference of `stop`).
const MAX_STOPS: usize = 4;
/// Longest `user` OpenAI takes, in characters ("string too long. Expected a string with maximum length 64").
const MAX_USER: usize = 64;
/// The tiers OpenAI's reference of `service_tier` names.
const TIERS: [&str; 6] = ["auto", "default", "flex", "scale", "priority", "fast"];
/// The name of a schema which has none.
const SCHEMA_NAME: &str = "response";

/// Writes a request.
pub(super) fn encode(request: &Request, to: &Upstream<'_>, loss: &mut LossReport) -> Result<Vec<u8>, EncodeError> {
    let vendor = Vendor::of(to.model);
    let mut body = Map::new();
    body.insert("model".into(), to.model.into());
    let messages = encode_messages::messages(request, vendor, loss)?;
    body.insert("messages".into(), messages.into());
    request_tools::encode(&mut body, request, vendor, loss);
    format(&mut body, request, loss);
    reasoning(&mut body, request, to.model, vendor, loss);
    sampling(&mut body, request, vendor, loss);
    account(&mut body, request, vendor, loss);
    if to.stream {
        body.insert("stream".into(), true.into());
    }
    restore(&mut body, "", &request.native, loss);
    if to.stream && to.ask_usage {
        let options = body.entry("stream_options").or_insert_with(|| json!({}));
        if let Some(options) = options.as_object_mut() {
            options.insert("include_usage".into(), true.into());
        }
    } else if !to.stream {
        // Refused where there is no stream.
        body.shift_remove("stream_options");
    }
    Ok(write::document(&body))
}

fn format(body: &mut Map<String, Value>, request: &Request, loss: &mut LossReport) {
    let Some(set) = &request.format else { return };
    let format = match &set.value {
        // The default, and not known to every provider.
        Format::Text => return,
        Format::JsonObject => json!({"type": "json_object"}),
        Format::JsonSchema {
            name,
            description,
            schema,
            strict,
        } => {
            let name = name.as_deref().unwrap_or_else(|| {
                loss.synthesized("response_format.json_schema.name", "a schema must have a name");
                SCHEMA_NAME
            });
            let mut inner = json!({"name": name});
            if let Some(description) = description {
                inner["description"] = description.as_str().into();
            }
            inner["schema"] = schema.clone();
            if let Some(strict) = strict {
                inner["strict"] = (*strict).into();
            }
            json!({"type": "json_schema", "json_schema": inner})
        }
        Format::Native(native) => {
            Native::settle([native], DIALECT, loss, |native| {
                body.insert("response_format".into(), native.json.clone());
            });
            return;
        }
    };
    body.insert("response_format".into(), format);
}

/// How hard to think: all of it comes to one word here, `reasoning_effort`, beside a switch some vendors have.
fn reasoning(body: &mut Map<String, Value>, request: &Request, model: &str, vendor: Vendor, loss: &mut LossReport) {
    let reasoning = &request.reasoning;
    if let Some(visible) = &reasoning.visible {
        loss.dropped(visible.at, "the provider decides what is shown of reasoning");
    }
    if let Some(summary) = &reasoning.summary {
        loss.dropped(summary.at, "there are no summaries of reasoning here");
    }
    let (wish, at) = reasoning.wish();
    // What precedence leaves unsaid.
    let fields = [
        reasoning.enabled.as_ref().map(|set| set.at),
        reasoning.budget.as_ref().map(|set| set.at),
        reasoning.effort.as_ref().map(|set| set.at),
    ];
    for unsaid in fields.into_iter().flatten().filter(|field| *field != at) {
        // That it is on at all follows from how much.
        if Some(unsaid) != fields[0] {
            loss.dropped(unsaid, "another setting of reasoning goes before it");
        }
    }
    let word = match wish {
        Wish::Unsaid => return,
        Wish::Off => Effort::None,
        Wish::Effort(effort) => effort,
        Wish::On | Wish::Budget(Budget::Dynamic) => Effort::Medium,
        Wish::Budget(Budget::Tokens(tokens)) => Effort::of_budget(tokens),
    };
    if vendor == Vendor::Switch && matches!(wish, Wish::Off | Wish::On | Wish::Budget(Budget::Dynamic)) {
        let kind = if wish == Wish::Off { "disabled" } else { "enabled" };
        body.insert("thinking".into(), json!({"type": kind}));
        return;
    }
    if vendor == Vendor::Switch && reasoning.enabled.is_some() {
        body.insert("thinking".into(), json!({"type": "enabled"}));
    }
    if vendor == (Vendor::OpenAi { reasons: false }) {
        if word != Effort::None {
            loss.dropped(at, "the model does not reason");
        }
        return;
    }
    let taken = nearest(word, model, vendor);
    if taken != word || matches!(wish, Wish::On | Wish::Budget(_)) {
        loss.approximated(at, "said as the nearest word the provider has for it");
    }
    body.insert("reasoning_effort".into(), taken.as_str().into());
}

/// The word a model takes (OpenAI's reference of `reasoning_effort`): models before `gpt-5.1` always reason, those of the
/// o-series know no `minimal`, and nothing before `gpt-5.1` goes beyond `high`.
fn nearest(word: Effort, model: &str, vendor: Vendor) -> Effort {
    if !vendor.is_openai() {
        return word;
    }
    let bare = model.rsplit('/').next().unwrap_or(model).to_ascii_lowercase();
    let least = if bare.starts_with('o') {
        Effort::Low
    } else if bare == "gpt-5" || bare.starts_with("gpt-5-") {
        Effort::Minimal
    } else {
        return word;
    };
    word.clamp(least, Effort::High)
}

fn sampling(body: &mut Map<String, Value>, request: &Request, vendor: Vendor, loss: &mut LossReport) {
    let s = &request.sampling;
    if let Some(limit) = &s.max_tokens {
        let field = if vendor.is_openai() {
            "max_completion_tokens"
        } else {
            "max_tokens"
        };
        body.insert(field.into(), limit.value.into());
    }
    let numbers = [
        ("temperature", &s.temperature),
        ("top_p", &s.top_p),
        ("frequency_penalty", &s.frequency_penalty),
        ("presence_penalty", &s.presence_penalty),
    ];
    for (field, set) in numbers {
        if let Some(set) = set {
            body.insert(field.into(), write::number(set.value));
        }
    }
    if let Some(set) = &s.top_k {
        loss.dropped(set.at, "there is no such setting");
    }
    if let Some(set) = &s.stop {
        let mut words = set.value.as_slice();
        if vendor.is_openai() && words.len() > MAX_STOPS {
            loss.approximated(set.at, "the provider takes four stop sequences: the first ones");
            words = &words[..MAX_STOPS];
        }
        if !words.is_empty() {
            body.insert("stop".into(), words.into());
        }
    }
    if let Some(set) = &s.seed {
        let field = if vendor == Vendor::Mistral {
            "random_seed"
        } else {
            "seed"
        };
        body.insert(field.into(), set.value.into());
    }
    if let Some(set) = s.candidates.as_ref().filter(|set| set.value != 1) {
        body.insert("n".into(), set.value.into());
    }
    if let Some(set) = &s.logprobs {
        body.insert("logprobs".into(), set.value.into());
    }
    if let Some(set) = &s.top_logprobs {
        body.insert("top_logprobs".into(), set.value.into());
    }
}

/// What concerns the account: who asks, at which price, and what the provider keeps.
fn account(body: &mut Map<String, Value>, request: &Request, vendor: Vendor, loss: &mut LossReport) {
    if let Some(set) = &request.user {
        if set.value.chars().count() <= MAX_USER {
            body.insert("user".into(), set.value.as_str().into());
        } else {
            loss.dropped(set.at, "the provider takes names of at most 64 characters");
        }
    }
    let stores = request.store.as_ref().filter(|set| set.value);
    match stores {
        Some(_) if vendor.is_openai() => {
            body.insert("store".into(), true.into());
        }
        Some(set) => loss.dropped(set.at, "the provider keeps no answers"),
        // The default.
        None => {}
    }
    if let Some(set) = &request.metadata {
        if stores.is_some() && vendor.is_openai() {
            body.insert("metadata".into(), Value::Object(set.value.clone()));
        } else {
            loss.dropped(set.at, "only stored answers have labels");
        }
    }
    if let Some(set) = &request.service_tier {
        if TIERS.contains(&set.value.as_str()) {
            body.insert("service_tier".into(), set.value.as_str().into());
        } else {
            loss.dropped(set.at, "the provider has no such tier");
        }
    }
    for (field, set) in [
        ("prompt_cache_key", &request.cache_key),
        ("verbosity", &request.verbosity),
    ] {
        match set {
            Some(set) if vendor.is_openai() => {
                body.insert(field.into(), set.value.as_str().into());
            }
            Some(set) => loss.dropped(set.at, "only OpenAI's own models take it"),
            None => {}
        }
    }
    if let Some(set) = request.modalities.as_ref().filter(|set| set.value != ["text"]) {
        let takes = |word: &String| !vendor.is_openai() || matches!(word.as_str(), "text" | "audio");
        if set.value.iter().all(takes) {
            body.insert("modalities".into(), set.value.as_slice().into());
        } else {
            loss.dropped(set.at, "the provider answers with text and sound only");
        }
    }
}
