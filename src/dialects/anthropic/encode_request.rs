//! Requests, written: the whole, and its settings.

use serde_json::{Map, Value, json};

use super::encode_cache::CachePlan;
use super::encode_reasoning::{Around, Plan};
use super::models::Model;
use super::{DIALECT, encode_content, encode_reasoning, encode_tools, limits, schema};
use crate::dialects::Upstream;
use crate::dialects::codec::EncodeError;
use crate::ir::{Format, LossReport, Native, Request};

/// Writes a request for a message.
pub(super) fn message(
    request: &Request,
    to: &Upstream<'_>,
    loss: &mut LossReport,
) -> Result<Map<String, Value>, EncodeError> {
    let max_tokens = max_tokens(request, to.model, loss);
    let mut body = Map::new();
    body.insert("model".into(), to.model.into());
    body.insert("max_tokens".into(), max_tokens.into());
    let thinks = prompt(request, to, max_tokens, &mut body, loss)?;
    if to.stream {
        body.insert("stream".into(), true.into());
    }
    sampling(request, Model::of(to.model), thinks, &mut body, loss);
    rest(request, &mut body, loss);
    natives(request, &mut body, loss);
    Ok(body)
}

/// Writes a request for the count of its tokens. What has no bearing on the count is left out without a word.
pub(super) fn count(
    request: &Request,
    to: &Upstream<'_>,
    loss: &mut LossReport,
) -> Result<Map<String, Value>, EncodeError> {
    let mut body = Map::new();
    body.insert("model".into(), to.model.into());
    prompt(request, to, u64::MAX, &mut body, loss)?;
    natives(request, &mut body, loss);
    Ok(body)
}

/// What makes up the prompt, and how the answer is to be thought out and formed; true if the model will think for sure.
fn prompt(
    request: &Request,
    to: &Upstream<'_>,
    max_tokens: u64,
    body: &mut Map<String, Value>,
    loss: &mut LossReport,
) -> Result<bool, EncodeError> {
    let model = Model::of(to.model);
    let caches = CachePlan::of(request, loss);
    let conversation = encode_content::conversation(request, model, &caches, loss)?;
    let tools = encode_tools::tools(request, model, &caches, loss);
    let choice = encode_tools::choice(request, !tools.is_empty(), model, loss);
    let kind = choice.as_ref().and_then(|choice| choice.get("type"));
    let around = Around {
        max_tokens,
        forced_tools: kind.is_some_and(|kind| kind == "any" || kind == "tool"),
        unreasoned_calls: conversation.unreasoned_calls,
    };
    let plan = encode_reasoning::plan(request, model, around, loss);
    let thinks = plan.on;
    let tools = (!tools.is_empty()).then_some(Value::Array(tools));
    for (field, value) in [
        ("system", conversation.system),
        ("tools", tools),
        ("tool_choice", choice),
    ] {
        if let Some(value) = value {
            body.insert(field.into(), value);
        }
    }
    body.insert("messages".into(), conversation.messages.into());
    output(request, model, plan, body, loss);
    Ok(thinks)
}

/// Puts native fields where they stood: `output_config.task_budget` into that object.
fn natives(request: &Request, body: &mut Map<String, Value>, loss: &mut LossReport) {
    let mut own = Vec::new();
    Native::settle(&request.native, DIALECT, loss, |native| own.push(native));
    for native in own {
        let parent = native
            .at
            .strip_suffix(&*native.key)
            .and_then(|parent| parent.strip_suffix('.'));
        let node = match parent {
            // Thinking that was left out has no details.
            Some("thinking") if !body.contains_key("thinking") => None,
            Some(parent) => body
                .entry(parent)
                .or_insert_with(|| Value::Object(Map::new()))
                .as_object_mut(),
            None => Some(&mut *body),
        };
        match node {
            Some(node) => drop(node.insert(native.key.to_string(), native.json.clone())),
            None => loss.dropped(native.at.to_string(), "what it belongs to is left out"),
        }
    }
}

/// The field that is mandatory here and nowhere else.
fn max_tokens(request: &Request, model: &str, loss: &mut LossReport) -> u64 {
    let limit = limits::max_output(model);
    match &request.sampling.max_tokens {
        None => {
            loss.synthesized("max_tokens", "there must be a limit there: the model's own");
            limit.unwrap_or(limits::UNKNOWN)
        }
        Some(set) => {
            let most = limit.unwrap_or(u64::MAX);
            if set.value > most {
                loss.approximated(set.at, "more than the model can write is refused there");
            }
            set.value.min(most)
        }
    }
}

fn sampling(
    request: &Request,
    model: Option<Model>,
    thinks: bool,
    body: &mut Map<String, Value>,
    loss: &mut LossReport,
) {
    let sampling = &request.sampling;
    let fixed = model.is_some_and(Model::refuses_sampling);
    let mut temperature = false;
    if let Some(set) = &sampling.temperature {
        if set.value == 1.0 && fixed {
            // The default: leaving it out says the same.
        } else if fixed {
            loss.dropped(set.at, "the model takes no temperature");
        } else if thinks && set.value != 1.0 {
            loss.dropped(set.at, "temperature can't be set when the model thinks");
        } else {
            if set.value > 1.0 {
                loss.approximated(set.at, "temperature goes up to 1 there");
            }
            body.insert("temperature".into(), json!(set.value.min(1.0)));
            temperature = true;
        }
    }
    if let Some(set) = &sampling.top_p {
        if set.value == 1.0 && (fixed || temperature) {
            // The default.
        } else if fixed {
            loss.dropped(set.at, "the model takes no top_p");
        } else if thinks && set.value < 0.95 {
            loss.dropped(set.at, "top_p is at least 0.95 when the model thinks");
        } else if temperature && model.is_some_and(Model::takes_one_sampler) {
            loss.dropped(set.at, "the model takes temperature or top_p, not both");
        } else {
            body.insert("top_p".into(), json!(set.value));
        }
    }
    if let Some(set) = &sampling.top_k {
        if fixed || thinks {
            loss.dropped(set.at, "top_k can't be set for the model, or when it thinks");
        } else {
            body.insert("top_k".into(), set.value.into());
        }
    }
    if let Some(set) = &sampling.stop {
        let said = set.value.iter().enumerate();
        let (blank, stop): (Vec<_>, Vec<_>) = said.partition(|(_, text)| text.trim().is_empty());
        for (index, _) in blank {
            loss.dropped(
                format!("{}[{index}]", set.at),
                "stop sequences of white space are refused there",
            );
        }
        if !stop.is_empty() {
            let stop: Vec<Value> = stop.into_iter().map(|(_, text)| text.as_str().into()).collect();
            body.insert("stop_sequences".into(), stop.into());
        }
    }
}

/// The form of the answer, and thinking.
fn output(request: &Request, model: Option<Model>, plan: Plan, body: &mut Map<String, Value>, loss: &mut LossReport) {
    if !plan.thinking.is_empty() {
        body.insert("thinking".into(), Value::Object(plan.thinking));
    }
    let mut config = Map::new();
    if let Some(effort) = plan.effort {
        config.insert("effort".into(), effort.as_str().into());
    }
    if let Some(set) = &request.format {
        match &set.value {
            Format::Text => {}
            Format::JsonObject => loss.dropped(set.at, "there is no JSON without a schema there"),
            Format::JsonSchema { .. } if model.is_some_and(|model| !model.takes_schemas()) => {
                loss.dropped(set.at, "the model takes no schema");
            }
            Format::JsonSchema {
                name,
                description,
                schema,
                ..
            } => {
                let own = set.at.starts_with("output_");
                let schema = if own {
                    schema.clone()
                } else {
                    let (schema, changed) = schema::output(schema, name.as_deref(), description.as_deref());
                    if changed {
                        loss.approximated(set.at, "some of the schema can't be enforced there");
                    }
                    schema
                };
                config.insert("format".into(), json!({"type": "json_schema", "schema": schema}));
            }
            Format::Native(native) => Native::settle([native], DIALECT, loss, |own| {
                if own.at.starts_with("output_config") {
                    config.insert("format".into(), own.json.clone());
                } else {
                    body.insert(own.key.to_string(), own.json.clone());
                }
            }),
        }
    }
    if !config.is_empty() {
        body.insert("output_config".into(), Value::Object(config));
    }
}

/// Who asks, how urgent; and what there is no field for.
fn rest(request: &Request, body: &mut Map<String, Value>, loss: &mut LossReport) {
    if let Some(user) = &request.user {
        body.insert("metadata".into(), json!({"user_id": user.value}));
    }
    if let Some(tier) = &request.service_tier {
        match tier.value.as_str() {
            "auto" => drop(body.insert("service_tier".into(), "auto".into())),
            "default" => drop(body.insert("service_tier".into(), "standard_only".into())),
            _ => loss.dropped(tier.at, "there is no such tier there"),
        }
    }
    let sampling = &request.sampling;
    let zero = |penalty: &f64| *penalty == 0.0;
    let mut missing = |at: Option<&'static str>| {
        if let Some(at) = at {
            loss.dropped(at, "there is no such setting there");
        }
    };
    missing(sampling.seed.as_ref().map(|set| set.at));
    for penalty in [&sampling.frequency_penalty, &sampling.presence_penalty] {
        missing(penalty.as_ref().filter(|set| !zero(&set.value)).map(|set| set.at));
    }
    missing(
        sampling
            .candidates
            .as_ref()
            .filter(|set| set.value != 1)
            .map(|set| set.at),
    );
    missing(sampling.logprobs.as_ref().filter(|set| set.value).map(|set| set.at));
    missing(sampling.top_logprobs.as_ref().map(|set| set.at));
    missing(request.metadata.as_ref().map(|set| set.at));
    missing(request.cache_key.as_ref().map(|set| set.at));
    missing(request.store.as_ref().filter(|set| set.value).map(|set| set.at));
    missing(request.verbosity.as_ref().map(|set| set.at));
    let texts = |modalities: &Vec<String>| modalities.iter().all(|word| word == "text");
    missing(
        request
            .modalities
            .as_ref()
            .filter(|set| !texts(&set.value))
            .map(|set| set.at),
    );
}
