//! The content of answers beyond plain text: reasoning and its tokens, parts, pictures, sound, sources, probabilities.

use std::borrow::Cow;

use serde_json::Value;

use super::DIALECT;
use super::data_url;
use super::details;
use super::wire::{Annotation, Audio, ImageUrl, Part, Raw, ReasoningDetail};
use crate::dialects::blocks::{Blocks, Kind};
use crate::dialects::json;
use crate::dialects::loose::TextOr;
use crate::ir::{BlockHead, Citation, Delta, EventSink, Logprob, MediaKind};

/// Reasoning, as text and as details which often repeat the text. A signature ends its block; what nobody may read is a
/// block of its own, without a text.
pub(super) fn reasoning(
    blocks: &mut Blocks,
    told: Cow<'_, str>,
    details: Vec<ReasoningDetail<'_>>,
    sink: &mut dyn EventSink,
) {
    if details.is_empty() {
        return blocks.text(Kind::Reasoning, told, sink);
    }
    let mut rest = Some(&*told);
    for detail in &details {
        rest = rest.and_then(|rest| rest.strip_prefix(text_of(detail)));
    }
    let by_details = told.is_empty() || rest == Some("");
    if !by_details {
        blocks.text(Kind::Reasoning, told, sink);
    }
    for detail in details {
        if by_details {
            blocks.text(Kind::Reasoning, Cow::Borrowed(text_of(&detail)), sink);
        }
        for (secret, own) in [(&detail.signature, false), (&detail.data, true)] {
            if secret.is_empty() {
                continue;
            }
            if own {
                blocks.close(sink);
            }
            let (kind, format, id) = (detail.kind.as_str(), detail.format.as_str(), detail.id.as_str());
            let token = details::token(kind, secret.as_str(), format, id);
            blocks.piece(Kind::Reasoning, Delta::Opaque(token), sink);
            blocks.close(sink);
        }
    }
}

fn text_of<'d>(detail: &'d ReasoningDetail<'_>) -> &'d str {
    match detail.text.as_str() {
        "" => detail.summary.as_str(),
        text => text,
    }
}

/// A part of a message's content.
pub(super) fn part(blocks: &mut Blocks, raw: Raw<'_>, sink: &mut dyn EventSink) {
    let Ok(part) = json::object::<Part<'_>>(DIALECT, raw.0.as_bytes()) else {
        return;
    };
    match part.kind.as_str() {
        "text" => blocks.text(Kind::Text, part.text.take(), sink),
        "refusal" => blocks.text(Kind::Refusal, part.refusal.take(), sink),
        "thinking" => match part.thinking {
            TextOr::Nothing => {}
            TextOr::Text(text) => blocks.text(Kind::Reasoning, text, sink),
            TextOr::Parts(thoughts) => {
                for thought in thoughts {
                    blocks.text(Kind::Reasoning, thought.text.take(), sink);
                }
            }
        },
        "image_url" => image(blocks, part.image_url, sink),
        kind => {
            blocks.close(sink);
            let json = Cow::Borrowed(raw.0);
            let kind = Cow::Borrowed(kind);
            let block = blocks.start(BlockHead::Native { kind, json }, sink);
            blocks.stop(block, sink);
        }
    }
}

/// A picture: `image_url` is an object with the address, or the address.
pub(super) fn image(blocks: &mut Blocks, image_url: Option<&str>, sink: &mut dyn EventSink) {
    let Some(raw) = image_url else { return };
    let url = match json::object::<ImageUrl<'_>>(DIALECT, raw.as_bytes()) {
        Ok(object) => object.url.take(),
        Err(_) => json::text_or_raw(raw),
    };
    if url.is_empty() {
        return;
    }
    blocks.close(sink);
    let (mime, data) = data_url::split(&url).unwrap_or_default();
    let head = BlockHead::Media {
        kind: MediaKind::Image,
        mime: Cow::Borrowed(mime),
        url: Cow::Borrowed(if data.is_empty() { &url } else { "" }),
    };
    let block = blocks.start(head, sink);
    if !data.is_empty() {
        blocks.delta(block, Delta::Data(Cow::Borrowed(data)), sink);
    }
    blocks.stop(block, sink);
}

/// Sound: it has one block in a candidate, whatever else comes between its pieces.
pub(super) fn audio(blocks: &mut Blocks, open: &mut Option<u32>, audio: Audio<'_>, sink: &mut dyn EventSink) {
    if audio.data.is_empty() && audio.transcript.is_empty() {
        return;
    }
    let block = match *open {
        Some(block) => block,
        None => {
            blocks.close(sink);
            let head = BlockHead::Media {
                kind: MediaKind::Audio,
                mime: Cow::Borrowed(""),
                url: Cow::Borrowed(""),
            };
            *open.insert(blocks.start(head, sink))
        }
    };
    if !audio.data.is_empty() {
        blocks.delta(block, Delta::Data(audio.data.take()), sink);
    }
    if !audio.transcript.is_empty() {
        blocks.delta(block, Delta::Text(audio.transcript.take()), sink);
    }
}

/// A source. What is not an address is kept as it stands.
pub(super) fn citation(raw: Raw<'_>) -> Citation<'_> {
    let annotation = json::object::<Annotation<'_>>(DIALECT, raw.0.as_bytes()).unwrap_or_default();
    let found = annotation.url_citation.0;
    match found.filter(|_| annotation.kind.as_str() == "url_citation") {
        Some(found) => Citation {
            span: found.start_index.0.zip(found.end_index.0),
            url: found.url.take(),
            title: found.title.take(),
            text: found.content.take(),
            json: Cow::Borrowed(""),
        },
        None => Citation {
            json: Cow::Borrowed(raw.0),
            ..Citation::default()
        },
    }
}

/// Log probabilities of the tokens of a text or of a refusal.
pub(super) fn logprobs(blocks: &mut Blocks, kind: Kind, raw: &str, sink: &mut dyn EventSink) {
    let Ok(value) = serde_json::from_str::<Value>(raw) else {
        return;
    };
    let field = if kind == Kind::Refusal { "refusal" } else { "content" };
    if let Some(Value::Array(tokens)) = value.get(field) {
        let tokens: Vec<Logprob> = tokens.iter().filter_map(logprob).collect();
        if !tokens.is_empty() {
            blocks.piece(kind, Delta::Logprobs(tokens), sink);
        }
    }
}

fn logprob(value: &Value) -> Option<Logprob> {
    let bytes = |list: &Vec<Value>| {
        list.iter()
            .filter_map(|byte| u8::try_from(byte.as_u64()?).ok())
            .collect()
    };
    Some(Logprob {
        token: value["token"].as_str()?.to_owned(),
        logprob: value["logprob"].as_f64()?,
        bytes: value["bytes"].as_array().map(bytes),
        top: value["top_logprobs"]
            .as_array()
            .map(|list| list.iter().filter_map(logprob).collect())
            .unwrap_or_default(),
    })
}
