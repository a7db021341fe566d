//! Answers, written whole.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{OpenAiChat, answer, data_url, details};
use crate::dialects::*;
use crate::ir::{
    Block, Candidate, Content, EmbeddingRequest, EmbeddingResponse, LossReport, Media, MediaKind, MediaSource,
    Response, ToolKind,
};

impl AnswerEncoder for OpenAiChat {
    fn encode_response(&self, response: &Response, to: &Answering, loss: &mut LossReport) -> Vec<u8> {
        let choices = match response.candidates.as_slice() {
            [] => vec![choice(&Candidate::default(), to, loss)],
            candidates => candidates.iter().map(|candidate| choice(candidate, to, loss)).collect(),
        };
        write::document(&Completion {
            id: &answer::id(&response.id, to),
            object: "chat.completion",
            created: to.created,
            model: answer::model(&response.model, to),
            choices,
            usage: response.usage.as_ref().map(answer::usage),
            fields: answer::fields(&response.native, loss),
        })
    }

    fn stream_encoder(&self, to: Answering) -> Box<dyn StreamEncoder> {
        Box::new(super::encode_stream::Encoder::new(to))
    }

    fn has_candidates(&self) -> bool {
        true
    }

    fn decode_vectors(&self, body: &[u8]) -> Option<Result<EmbeddingResponse, DecodeError>> {
        Some(openai_embeddings::decode_vectors(body))
    }

    fn encode_vectors(
        &self,
        response: &EmbeddingResponse,
        asked: &EmbeddingRequest,
        _target: &Target,
        loss: &mut LossReport,
    ) -> Option<Vec<u8>> {
        Some(openai_embeddings::encode_vectors(response, asked, loss))
    }
}

/// The answer, as it is written.
#[derive(Serialize)]
struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: i64,
    model: &'a str,
    choices: Vec<Choice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<answer::UsageBody>,
    #[serde(flatten)]
    fields: Map<String, Value>,
}

#[derive(Serialize)]
struct Choice {
    index: u32,
    message: Map<String, Value>,
    logprobs: Value,
    finish_reason: &'static str,
}

/// What a message is made of, gathered from the blocks of a candidate.
#[derive(Default)]
struct Message {
    text: Option<String>,
    /// Characters of `text`.
    chars: u64,
    refusal: Option<String>,
    reasoning: String,
    details: Vec<Value>,
    /// An entry of `details` holds a token: without one they say no more than `reasoning`.
    has_token: bool,
    calls: Vec<Value>,
    annotations: Vec<Value>,
    images: Vec<Value>,
    audio: Option<Value>,
    odds: Vec<Value>,
    refusal_odds: Vec<Value>,
}

fn choice(candidate: &Candidate, to: &Answering, loss: &mut LossReport) -> Choice {
    let mut message = Message::default();
    for block in &candidate.blocks {
        message.block(block, to, loss);
    }
    let finish = answer::finish_word(candidate.finish.as_ref(), !message.calls.is_empty(), loss);
    let or_null = |list: Vec<Value>| if list.is_empty() { Value::Null } else { list.into() };
    let logprobs = match (
        or_null(std::mem::take(&mut message.odds)),
        or_null(std::mem::take(&mut message.refusal_odds)),
    ) {
        (Value::Null, Value::Null) => Value::Null,
        (content, refusal) => json!({"content": content, "refusal": refusal}),
    };
    Choice {
        index: candidate.index,
        message: message.write(),
        logprobs,
        finish_reason: finish,
    }
}

impl Message {
    fn block(&mut self, block: &Block, to: &Answering, loss: &mut LossReport) {
        let token = block.opaque.as_ref().map_or("", |token| &token.0);
        match &block.content {
            Content::Text(text) => {
                let from = self.chars;
                self.chars += text.chars().count() as u64;
                self.text.get_or_insert_default().push_str(text);
                let annotation = |citation| answer::annotation(citation, from, self.chars, loss);
                self.annotations.extend(block.citations.iter().filter_map(annotation));
                if let Value::Array(odds) = answer::logprobs(&block.logprobs) {
                    self.odds.extend(odds);
                }
                self.detail("", token);
            }
            Content::Reasoning(text) => {
                self.reasoning.push_str(text);
                self.detail(text, token);
            }
            Content::Refusal(text) => {
                self.refusal.get_or_insert_default().push_str(text);
                if let Value::Array(odds) = answer::logprobs(&block.logprobs) {
                    self.refusal_odds.extend(odds);
                }
            }
            Content::ToolCall(call) => {
                let mut written = match call.kind {
                    ToolKind::Function => {
                        let function = json!({"name": call.name, "arguments": call.arguments});
                        json!({"id": call.id, "type": "function", "function": function})
                    }
                    ToolKind::Custom => {
                        let custom = json!({"name": call.name, "input": call.arguments});
                        json!({"id": call.id, "type": "custom", "custom": custom})
                    }
                };
                if !token.is_empty() {
                    written["extra_content"] = json!({"google": {"thought_signature": token}});
                }
                self.calls.push(written);
            }
            Content::Media(media) => self.media(media, to, loss),
            Content::Native(_) | Content::ToolResult(_) => {
                loss.dropped("content", "the block is of another dialect");
            }
        }
    }

    /// An entry of the details, if there is anything to say.
    fn detail(&mut self, text: &str, token: &str) {
        if text.is_empty() && token.is_empty() {
            return;
        }
        self.has_token |= !token.is_empty();
        for mut entry in details::entries(text, token) {
            entry.insert("index".into(), self.details.len().into());
            self.details.push(Value::Object(entry));
        }
    }

    fn media(&mut self, media: &Media, to: &Answering, loss: &mut LossReport) {
        let data = match &media.source {
            MediaSource::Inline(data) => data,
            MediaSource::Url(url) | MediaSource::File(url) | MediaSource::Text(url) => url,
        };
        match media.kind {
            MediaKind::Image => {
                let inline = matches!(media.source, MediaSource::Inline(_));
                self.images
                    .push(image(media.mime.as_deref(), data, inline, self.images.len()));
            }
            MediaKind::Audio => {
                self.audio = Some(json!({
                    "id": answer::audio_id(to),
                    "expires_at": to.created,
                    "data": data,
                    "transcript": media.name.as_deref().unwrap_or(""),
                }));
            }
            MediaKind::Video | MediaKind::Document => {
                loss.dropped("content", "answers hold text, images and sound only");
            }
        }
    }

    fn write(self) -> Map<String, Value> {
        let mut map = Map::with_capacity(4);
        map.insert("role".into(), "assistant".into());
        map.insert("content".into(), self.text.into());
        map.insert("refusal".into(), self.refusal.into());
        let mut set = |key: &str, value: Value| {
            let empty = value.as_array().is_some_and(Vec::is_empty) || value.is_null() || value == "";
            if !empty {
                map.insert(key.into(), value);
            }
        };
        set("reasoning_content", self.reasoning.into());
        if self.has_token {
            set(details::KEY, self.details.into());
        }
        set("tool_calls", self.calls.into());
        set("annotations", self.annotations.into());
        set("images", self.images.into());
        set("audio", self.audio.unwrap_or_default());
        map
    }
}

/// A generated picture, as OpenRouter writes it ("Image generation").
pub(super) fn image(mime: Option<&str>, data: &str, inline: bool, index: usize) -> Value {
    let url = if inline {
        data_url::write(mime.unwrap_or("image/png"), data)
    } else {
        data.to_owned()
    };
    json!({"type": "image_url", "image_url": {"url": url}, "index": index})
}
