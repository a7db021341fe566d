//! Requests for vectors written, as `batchEmbedContents`: the only method that takes any number of inputs.

use serde_json::{Map, Value, json};

use super::DIALECT;
use crate::dialects::{EncodeError, Upstream, write};
use crate::ir::{EmbeddingInput, EmbeddingRequest, LossReport, Native};

/// The body: each request of the batch repeats the model and the settings.
pub(super) fn request(
    request: &EmbeddingRequest,
    to: &Upstream<'_>,
    loss: &mut LossReport,
) -> Result<Vec<u8>, EncodeError> {
    let model = super::full_name(to.model);
    let mut requests = Vec::new();
    for input in &request.inputs {
        let content = match input {
            EmbeddingInput::Text(text) => json!({"parts": [{"text": text}]}),
            EmbeddingInput::Native(native) if native.dialect == DIALECT => native.json.clone(),
            EmbeddingInput::Native(native) => {
                return Err(EncodeError {
                    path: native.at.to_string(),
                    why: "only texts can be embedded there",
                });
            }
            EmbeddingInput::Tokens(_) => {
                return Err(EncodeError {
                    path: "input".to_owned(),
                    why: "tokens are numbered otherwise there; send texts",
                });
            }
        };
        let mut one = Map::new();
        one.insert("model".into(), model.as_str().into());
        one.insert("content".into(), content);
        if let Some(task) = &request.task {
            one.insert("taskType".into(), task.value.as_str().into());
        }
        if let Some(title) = &request.title {
            one.insert("title".into(), title.value.as_str().into());
        }
        if let Some(dimensions) = &request.dimensions {
            one.insert("outputDimensionality".into(), dimensions.value.into());
        }
        requests.push(one);
    }
    if let Some(user) = &request.user {
        loss.dropped(user.at, "the Gemini API has no such setting");
    }
    let mut body = Map::new();
    Native::settle(&request.native, DIALECT, loss, |native| {
        // A field of one of the requests, or of the batch.
        let place = native
            .at
            .strip_prefix("requests[")
            .and_then(|rest| rest.split_once(']'));
        let index = place.and_then(|(index, _)| index.parse::<usize>().ok());
        let key = super::fields::name(&native.key);
        let to = match index.or(request.single.then_some(0)) {
            Some(index) => requests.get_mut(index),
            None => Some(&mut body),
        };
        if let Some(to) = to {
            to.insert(key, native.json.clone());
        }
    });
    body.insert("requests".into(), requests.into_iter().map(Value::Object).collect());
    Ok(write::document(&body))
}
