//! Requests read: `generationConfig`.

use serde_json::{Map, Value};

use super::DIALECT;
use super::fields::{camel, native, numeric};
use super::schema::to_json_schema;
use crate::dialects::codec::RequestError;
use crate::dialects::values;
use crate::ir::{Budget, Effort, Format, Native, Request, Set};

/// The media type of an answer in JSON.
pub(super) const JSON: &str = "application/json";

/// What was said of the answer's form; it is put together when all of it is read.
#[derive(Default)]
struct Form {
    mime: Option<String>,
    /// A `Schema` of Google's, or a JSON Schema; which, the field says.
    schema: Option<(Value, &'static str)>,
}

/// `generationConfig`, or the same fields at `at`.
pub(super) fn generation(config: Map<String, Value>, at: &str, request: &mut Request) -> Result<(), RequestError> {
    let mut form = Form::default();
    for (name, value) in values::fields(config) {
        let field = values::field(at, &name);
        let sampling = &mut request.sampling;
        match camel(&name).as_ref() {
            "temperature" => {
                let value = values::number(&numeric(value), &field)?;
                sampling.temperature = Some(Set::new(value, "generationConfig.temperature"));
            }
            "topP" => {
                sampling.top_p = Some(Set::new(
                    values::number(&numeric(value), &field)?,
                    "generationConfig.topP",
                ))
            }
            "topK" => {
                sampling.top_k = Some(Set::new(
                    values::count(&numeric(value), &field)?,
                    "generationConfig.topK",
                ))
            }
            "maxOutputTokens" => {
                let value = values::count(&numeric(value), &field)?;
                sampling.max_tokens = Some(Set::new(value, "generationConfig.maxOutputTokens"));
            }
            "stopSequences" => {
                let stop = match value {
                    Value::String(one) => vec![one],
                    list => values::strings(list, &field)?,
                };
                sampling.stop = Some(Set::new(stop, "generationConfig.stopSequences"));
            }
            "candidateCount" => {
                let value = values::count(&numeric(value), &field)?;
                sampling.candidates = Some(Set::new(value, "generationConfig.candidateCount"));
            }
            "seed" => {
                sampling.seed = Some(Set::new(
                    values::whole(&numeric(value), &field)?,
                    "generationConfig.seed",
                ))
            }
            "frequencyPenalty" => {
                let value = values::number(&numeric(value), &field)?;
                sampling.frequency_penalty = Some(Set::new(value, "generationConfig.frequencyPenalty"));
            }
            "presencePenalty" => {
                let value = values::number(&numeric(value), &field)?;
                sampling.presence_penalty = Some(Set::new(value, "generationConfig.presencePenalty"));
            }
            "responseLogprobs" => {
                let value = values::boolean(&value, &field)?;
                sampling.logprobs = Some(Set::new(value, "generationConfig.responseLogprobs"));
            }
            "logprobs" => {
                let value = values::count(&numeric(value), &field)?;
                sampling.top_logprobs = Some(Set::new(value, "generationConfig.logprobs"));
            }
            "responseModalities" => {
                let mut words = values::strings(value, &field)?;
                words.iter_mut().for_each(|word| word.make_ascii_lowercase());
                request.modalities = Some(Set::new(words, "generationConfig.responseModalities"));
            }
            "responseMimeType" => form.mime = Some(values::string(value, &field)?),
            "responseSchema" if form.schema.is_none() => {
                form.schema = Some((value, "generationConfig.responseSchema"));
            }
            "responseJsonSchema" | "_responseJsonSchema" | "ResponseJsonSchema" => {
                form.schema = Some((value, "generationConfig.responseJsonSchema"));
            }
            "thinkingConfig" => thinking(values::object(value, &field)?, &field, request)?,
            _ => request.native.push(native(at, &name, "generationConfig", value)),
        }
    }
    if let Some(format) = form.format() {
        request.format = Some(format);
    }
    Ok(())
}

impl Form {
    fn format(self) -> Option<Set<Format>> {
        let mime_at = "generationConfig.responseMimeType";
        match (self.mime.as_deref(), self.schema) {
            (None | Some(JSON), Some((schema, at))) => {
                let plain = at == "generationConfig.responseSchema";
                let format = Format::JsonSchema {
                    name: None,
                    description: None,
                    schema: if plain { to_json_schema(schema) } else { schema },
                    strict: None,
                };
                Some(Set::new(format, at))
            }
            (Some(JSON), None) => Some(Set::new(Format::JsonObject, mime_at)),
            (Some("text/plain"), None) => Some(Set::new(Format::Text, mime_at)),
            // `text/x.enum` with its values, and what may come.
            (Some(mime), schema) => {
                let mut fields = Map::new();
                fields.insert("responseMimeType".into(), mime.into());
                if let Some((schema, at)) = schema {
                    fields.insert(at.trim_start_matches("generationConfig.").into(), schema);
                }
                let native = Native {
                    dialect: DIALECT,
                    at: mime_at.into(),
                    key: "responseMimeType".into(),
                    json: Value::Object(fields),
                };
                Some(Set::new(Format::Native(native), mime_at))
            }
            (None, None) => None,
        }
    }
}

/// `thinkingConfig`. Thoughts are shown only to who asks for it.
fn thinking(config: Map<String, Value>, at: &str, request: &mut Request) -> Result<(), RequestError> {
    let reasoning = &mut request.reasoning;
    let mut visible = false;
    for (name, value) in values::fields(config) {
        let field = values::field(at, &name);
        match camel(&name).as_ref() {
            "thinkingBudget" => {
                let budget = match values::whole(&numeric(value), &field)? {
                    tokens @ 0.. => Budget::Tokens(tokens.unsigned_abs()),
                    _ => Budget::Dynamic,
                };
                reasoning.budget = Some(Set::new(budget, "generationConfig.thinkingConfig.thinkingBudget"));
            }
            "thinkingLevel" => match value.as_str().and_then(Effort::parse) {
                Some(effort) => {
                    reasoning.effort = Some(Set::new(effort, "generationConfig.thinkingConfig.thinkingLevel"));
                }
                None if value == "THINKING_LEVEL_UNSPECIFIED" => {}
                None => {
                    let field = native(at, &name, "generationConfig.thinkingConfig", value);
                    request.native.push(field);
                }
            },
            "includeThoughts" => visible = values::boolean(&value, &field)?,
            _ => request
                .native
                .push(native(at, &name, "generationConfig.thinkingConfig", value)),
        }
    }
    reasoning.visible = Some(Set::new(visible, "generationConfig.thinkingConfig.includeThoughts"));
    Ok(())
}
