//! Requests written: the body and its settings. The order of fields is fixed, so that equal prefixes stay equal.

use serde_json::{Map, Value, json};

use super::request::settle;
use super::request_config::JSON;
use super::{DIALECT, thinking, write_contents, write_tools};
use crate::dialects::{EncodeError, Upstream};
use crate::ir::{Format, LossReport, Request, Set};

const NO_FIELD: &str = "the Gemini API has no such setting";

/// The body of a request to generate, or to count.
pub(super) fn body(
    request: &Request,
    to: &Upstream<'_>,
    loss: &mut LossReport,
) -> Result<Map<String, Value>, EncodeError> {
    let mut body = Map::new();
    if let Some(system) = write_contents::system(request, loss)? {
        body.insert("systemInstruction".into(), system);
    }
    body.insert("contents".into(), write_contents::contents(request, to.model, loss)?);
    let tools = write_tools::tools(request, loss);
    if !tools.is_empty() {
        body.insert("tools".into(), Value::Array(tools));
    }
    if let Some(config) = write_tools::config(request, loss) {
        super::fields::put(&mut body, "toolConfig.functionCallingConfig", config);
    }
    let config = generation(request, to.model, loss);
    if !config.is_empty() {
        body.insert("generationConfig".into(), Value::Object(config));
    }
    tier(request, &mut body, loss);
    without_field(request, loss);
    settle(&request.native, &mut body, loss);
    Ok(body)
}

fn generation(request: &Request, model: &str, loss: &mut LossReport) -> Map<String, Value> {
    let mut out = Map::new();
    let sampling = &request.sampling;
    number(&mut out, "temperature", &sampling.temperature);
    number(&mut out, "topP", &sampling.top_p);
    number(&mut out, "topK", &sampling.top_k);
    number(&mut out, "candidateCount", &sampling.candidates);
    number(&mut out, "maxOutputTokens", &sampling.max_tokens);
    if let Some(stop) = sampling.stop.as_ref().filter(|stop| !stop.value.is_empty()) {
        out.insert("stopSequences".into(), json!(stop.value));
    }
    if let Some(seed) = &sampling.seed {
        // 32 bits wide; the lower ones of a wider number tell as many answers apart.
        let narrow = seed.value as i32;
        if i64::from(narrow) != seed.value {
            loss.approximated(seed.at, "seeds have 32 bits there");
        }
        out.insert("seed".into(), narrow.into());
    }
    number(&mut out, "frequencyPenalty", &sampling.frequency_penalty);
    number(&mut out, "presencePenalty", &sampling.presence_penalty);
    number(&mut out, "responseLogprobs", &sampling.logprobs);
    number(&mut out, "logprobs", &sampling.top_logprobs);
    if let Some(format) = &request.format {
        form(&mut out, format, loss);
    }
    if let Some(modalities) = &request.modalities {
        let words: Vec<String> = modalities.value.iter().map(|word| word.to_ascii_uppercase()).collect();
        out.insert("responseModalities".into(), json!(words));
    }
    let thinking = thinking::config(&request.reasoning, model, loss);
    if !thinking.is_empty() {
        out.insert("thinkingConfig".into(), Value::Object(thinking));
    }
    out
}

fn number<T: Clone + Into<Value>>(out: &mut Map<String, Value>, name: &str, set: &Option<Set<T>>) {
    if let Some(set) = set {
        out.insert(name.to_owned(), set.value.clone().into());
    }
}

/// The form of the answer. A schema goes as it is ("Structured outputs": `responseJsonSchema`); its name and description
/// stand in it, where it has none of its own.
fn form(out: &mut Map<String, Value>, format: &Set<Format>, loss: &mut LossReport) {
    match &format.value {
        Format::Text => {
            out.insert("responseMimeType".into(), "text/plain".into());
        }
        Format::JsonObject => {
            out.insert("responseMimeType".into(), JSON.into());
        }
        Format::JsonSchema {
            name,
            description,
            schema,
            strict: _,
        } => {
            let mut schema = schema.clone();
            for (key, value) in [("title", name), ("description", description)] {
                let Some(value) = value else { continue };
                match &mut schema {
                    Value::Object(fields) if fields.get(key).is_none_or(|own| own == value) => {
                        fields.insert(key.to_owned(), value.as_str().into());
                    }
                    _ => loss.dropped(format.at, "the schema names and describes itself"),
                }
            }
            out.insert("responseMimeType".into(), JSON.into());
            out.insert("responseJsonSchema".into(), schema);
        }
        Format::Native(native) if native.dialect == DIALECT => {
            if let Value::Object(fields) = &native.json {
                out.extend(fields.clone());
            }
        }
        Format::Native(native) => loss.dropped(native.at.to_string(), NO_FIELD),
    }
}

/// `serviceTier` (`flex`, `standard`, `priority`); leaving it out is `standard`, and what `auto` and `default` ask for.
fn tier(request: &Request, body: &mut Map<String, Value>, loss: &mut LossReport) {
    let Some(tier) = &request.service_tier else { return };
    match tier.value.as_str() {
        "flex" | "priority" | "standard" | "unspecified" => {
            body.insert("serviceTier".into(), tier.value.as_str().into());
        }
        "auto" | "default" => {}
        _ => loss.dropped(tier.at, "the Gemini API has no such service tier"),
    }
}

/// What the API has no field for. Nothing is lost where leaving it out means the same.
fn without_field(request: &Request, loss: &mut LossReport) {
    if let Some(set) = request.parallel_tool_calls.as_ref().filter(|set| !set.value) {
        loss.dropped(set.at, NO_FIELD);
    }
    if let Some(set) = request.store.as_ref().filter(|set| set.value) {
        loss.dropped(set.at, "the Gemini API keeps no answers");
    }
    for at in [
        request.user.as_ref().map(|set| set.at),
        request
            .metadata
            .as_ref()
            .filter(|set| !set.value.is_empty())
            .map(|set| set.at),
        request.cache_key.as_ref().map(|set| set.at),
        request.verbosity.as_ref().map(|set| set.at),
    ]
    .into_iter()
    .flatten()
    {
        loss.dropped(at, NO_FIELD);
    }
}
