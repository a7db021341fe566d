//! A whole answer: what one gets by folding its events; and the events one gets by telling it again.

use std::borrow::Cow;

use super::stream::{BlockHead, BlockIndex, Delta, EventSink, MediaKind, StreamEvent};
use super::{ApiError, Block, Content, DialectId, FinishReason, Media, MediaSource, Native, Opaque, ToolCall, Usage};

/// Most blocks of one candidate that are kept.
const MAX_BLOCKS: usize = 4096;
/// Most candidates that are kept.
const MAX_CANDIDATES: usize = 128;

/// A whole answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Response {
    /// The provider's id of it; may be empty.
    pub id: String,
    /// The model that answered, as the provider names it; may be empty.
    pub model: String,
    /// The candidates, by their index.
    pub candidates: Vec<Candidate>,
    /// Usage as last told; `None`: the provider told none.
    pub usage: Option<Usage>,
    /// An error inside the answer.
    pub error: Option<ApiError>,
    /// Fields only its own dialect knows.
    pub native: Vec<Native>,
}

/// One of the answers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Candidate {
    /// Which one.
    pub index: u32,
    /// What it says, in order.
    pub blocks: Vec<Block>,
    /// Why it ended; `None`: it did not.
    pub finish: Option<FinishReason>,
}

/// Folds events into a [`Response`].
#[derive(Debug)]
pub struct Accumulator {
    dialect: DialectId,
    response: Response,
    /// Block number in the events of each block kept, per candidate.
    places: Vec<Vec<u32>>,
}

impl Accumulator {
    /// For events told by a decoder of that dialect.
    pub fn new(dialect: DialectId) -> Self {
        Accumulator {
            dialect,
            response: Response::default(),
            places: Vec::new(),
        }
    }

    /// The answer so far.
    pub fn into_response(mut self) -> Response {
        self.response.candidates.sort_by_key(|candidate| candidate.index);
        self.response
    }

    fn candidate(&mut self, index: u32) -> Option<usize> {
        if let Some(place) = self.response.candidates.iter().position(|c| c.index == index) {
            return Some(place);
        }
        if self.response.candidates.len() == MAX_CANDIDATES {
            return None;
        }
        self.response.candidates.push(Candidate {
            index,
            ..Candidate::default()
        });
        self.places.push(Vec::new());
        Some(self.response.candidates.len() - 1)
    }

    fn block(&mut self, index: BlockIndex) -> Option<&mut Block> {
        let candidate = self.candidate(index.candidate)?;
        let place = self.places[candidate]
            .iter()
            .rposition(|number| *number == index.block)?;
        self.response.candidates[candidate].blocks.get_mut(place)
    }

    fn begin(&mut self, index: BlockIndex, head: BlockHead<'_>) {
        let Some(candidate) = self.candidate(index.candidate) else {
            return;
        };
        if self.places[candidate].len() == MAX_BLOCKS {
            return;
        }
        let mut opaque = None;
        let content = match head {
            BlockHead::Text => Content::Text(String::new()),
            BlockHead::Reasoning => Content::Reasoning(String::new()),
            BlockHead::Refusal => Content::Refusal(String::new()),
            BlockHead::ToolCall {
                id,
                name,
                kind,
                namespace,
                opaque: token,
            } => {
                opaque = (!token.is_empty()).then(|| Opaque(token.into()));
                Content::ToolCall(ToolCall {
                    id: id.into_owned(),
                    name: name.into_owned(),
                    arguments: String::new(),
                    kind,
                    namespace: (!namespace.is_empty()).then(|| namespace.into_owned()),
                })
            }
            BlockHead::Media { kind, mime, url } => Content::Media(Media {
                kind,
                source: if url.is_empty() {
                    MediaSource::Inline(String::new())
                } else {
                    MediaSource::Url(url.into_owned())
                },
                mime: (!mime.is_empty()).then(|| mime.into_owned()),
                name: None,
                detail: None,
            }),
            BlockHead::Native { kind, json } => Content::Native(Native {
                dialect: self.dialect,
                at: kind.as_ref().into(),
                key: kind.as_ref().into(),
                json: serde_json::from_str(&json).unwrap_or_default(),
            }),
        };
        let mut block = Block::new(content, "");
        block.opaque = opaque;
        self.places[candidate].push(index.block);
        self.response.candidates[candidate].blocks.push(block);
    }

    fn delta(&mut self, index: BlockIndex, delta: Delta<'_>) {
        let dialect = self.dialect;
        let Some(block) = self.block(index) else { return };
        match (delta, &mut block.content) {
            (Delta::Text(piece), Content::Text(text) | Content::Reasoning(text) | Content::Refusal(text)) => {
                text.push_str(&piece);
            }
            // The transcript of sound.
            (Delta::Text(piece), Content::Media(media)) => media.name.get_or_insert_default().push_str(&piece),
            (Delta::Arguments(piece), Content::ToolCall(call)) => call.arguments.push_str(&piece),
            (Delta::Data(piece), Content::Media(media)) => {
                if let MediaSource::Inline(data) = &mut media.source {
                    join_base64(data, &piece);
                }
            }
            (Delta::Opaque(piece), _) => {
                let mut token = block
                    .opaque
                    .take()
                    .map_or_else(String::new, |token| token.0.into_string());
                token.push_str(&piece);
                block.opaque = Some(Opaque(token.into()));
            }
            (Delta::Citation(citation), _) => block.citations.push(citation.into_owned()),
            (Delta::Logprobs(logprobs), _) => block.logprobs.extend(logprobs),
            (Delta::Native(json), _) => {
                if let Ok(json) = serde_json::from_str(&json) {
                    block.native.push(Native {
                        dialect,
                        at: "delta".into(),
                        key: "delta".into(),
                        json,
                    });
                }
            }
            _ => {}
        }
    }
}

/// Appends base64 to base64, where each piece was padded by itself.
fn join_base64(data: &mut String, piece: &str) {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    if data.is_empty() || !data.ends_with('=') {
        data.push_str(piece);
        return;
    }
    if let (Ok(mut first), Ok(second)) = (STANDARD.decode(data.as_bytes()), STANDARD.decode(piece)) {
        first.extend_from_slice(&second);
        *data = STANDARD.encode(first);
    }
}

impl EventSink for Accumulator {
    fn event(&mut self, event: StreamEvent<'_>) {
        match event {
            StreamEvent::Start { id, model } => {
                self.response.id = id.into_owned();
                self.response.model = model.into_owned();
            }
            StreamEvent::BlockStart { index, block } => self.begin(index, block),
            StreamEvent::Delta { index, delta } => self.delta(index, delta),
            // What is billed is for the meter.
            StreamEvent::BlockStop { .. } | StreamEvent::Ping | StreamEvent::Terms(_) => {}
            StreamEvent::Usage(usage) => self.response.usage = Some(usage),
            StreamEvent::Finish { candidate, reason } => {
                if let Some(place) = self.candidate(candidate) {
                    self.response.candidates[place].finish = Some(reason);
                }
            }
            StreamEvent::Error(error) => {
                self.response.error.get_or_insert(error);
            }
            StreamEvent::Native { key, json } => {
                let native = Native {
                    dialect: self.dialect,
                    at: key.into(),
                    key: key.into(),
                    json: serde_json::from_str(&json).unwrap_or_default(),
                };
                self.response.native.retain(|other| other.key != native.key);
                self.response.native.push(native);
            }
        }
    }
}

impl Response {
    /// Tells the answer in events, each block in one piece.
    pub fn replay(&self, sink: &mut dyn EventSink) {
        sink.event(StreamEvent::Start {
            id: Cow::Borrowed(&self.id),
            model: Cow::Borrowed(&self.model),
        });
        for candidate in &self.candidates {
            for (block, number) in candidate.blocks.iter().zip(0u32..) {
                let index = BlockIndex {
                    candidate: candidate.index,
                    block: number,
                };
                replay_block(block, index, sink);
            }
        }
        if let Some(usage) = self.usage {
            sink.event(StreamEvent::Usage(usage));
        }
        for candidate in &self.candidates {
            if let Some(reason) = &candidate.finish {
                sink.event(StreamEvent::Finish {
                    candidate: candidate.index,
                    reason: reason.clone(),
                });
            }
        }
        if let Some(error) = &self.error {
            sink.event(StreamEvent::Error(error.clone()));
        }
    }
}

fn replay_block(block: &Block, index: BlockIndex, sink: &mut dyn EventSink) {
    let token = block.opaque.as_ref().map_or("", |token| &token.0);
    let mut deltas: Vec<Delta<'_>> = Vec::new();
    let text = |text: &'_ str| Delta::Text(Cow::Owned(text.to_owned()));
    let mut in_head = false;
    let head = match &block.content {
        Content::Text(t) => {
            deltas.push(text(t));
            BlockHead::Text
        }
        Content::Reasoning(t) => {
            deltas.push(text(t));
            BlockHead::Reasoning
        }
        Content::Refusal(t) => {
            deltas.push(text(t));
            BlockHead::Refusal
        }
        Content::ToolCall(call) => {
            deltas.push(Delta::Arguments(Cow::Borrowed(&call.arguments)));
            in_head = true;
            BlockHead::ToolCall {
                id: Cow::Borrowed(&call.id),
                name: Cow::Borrowed(&call.name),
                kind: call.kind,
                namespace: Cow::Borrowed(call.namespace.as_deref().unwrap_or("")),
                opaque: Cow::Borrowed(token),
            }
        }
        Content::Media(media) => {
            let mut url = "";
            match &media.source {
                MediaSource::Inline(data) | MediaSource::Text(data) => deltas.push(Delta::Data(Cow::Borrowed(data))),
                MediaSource::Url(address) | MediaSource::File(address) => url = address,
            }
            deltas.extend(
                media
                    .name
                    .as_deref()
                    .filter(|_| media.kind == MediaKind::Audio)
                    .map(text),
            );
            BlockHead::Media {
                kind: media.kind,
                mime: Cow::Borrowed(media.mime.as_deref().unwrap_or("")),
                url: Cow::Borrowed(url),
            }
        }
        Content::Native(native) => BlockHead::Native {
            kind: Cow::Borrowed(&native.key),
            json: Cow::Owned(native.json.to_string()),
        },
        // Answers hold none.
        Content::ToolResult(_) => return,
    };
    sink.event(StreamEvent::BlockStart { index, block: head });
    if !token.is_empty() && !in_head {
        deltas.push(Delta::Opaque(Cow::Borrowed(token)));
    }
    deltas.extend(block.citations.iter().cloned().map(Delta::Citation));
    if !block.logprobs.is_empty() {
        deltas.push(Delta::Logprobs(block.logprobs.clone()));
    }
    deltas.extend(
        block
            .native
            .iter()
            .map(|native| Delta::Native(Cow::Owned(native.json.to_string()))),
    );
    for delta in deltas {
        let empty = matches!(&delta, Delta::Text(t) | Delta::Arguments(t) | Delta::Data(t) if t.is_empty());
        if !empty {
            sink.event(StreamEvent::Delta { index, delta });
        }
    }
    sink.event(StreamEvent::BlockStop { index });
}

/// Folds what `tell` tells.
pub fn fold(dialect: DialectId, tell: impl FnOnce(&mut dyn EventSink)) -> Response {
    let mut accumulator = Accumulator::new(dialect);
    tell(&mut accumulator);
    accumulator.into_response()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{FinishKind, ToolKind};

    const DIALECT: DialectId = DialectId::new("a dialect");

    #[test]
    fn replaying_and_folding_gives_the_same_answer() {
        let mut spoken = Block::text("Hello", "");
        spoken.opaque = Some(Opaque("token".into()));
        spoken.citations.push(Citation {
            url: "https://example.com".into(),
            ..Citation::default()
        });
        let call = Block {
            opaque: Some(Opaque("of the call".into())),
            ..Block::new(
                Content::ToolCall(ToolCall {
                    id: "1".into(),
                    name: "f".into(),
                    arguments: "{\"a\":1".into(),
                    kind: ToolKind::Function,
                    namespace: None,
                }),
                "",
            )
        };
        let response = Response {
            id: "r".into(),
            model: "m".into(),
            candidates: vec![Candidate {
                index: 0,
                blocks: vec![Block::new(Content::Reasoning("hm".into()), ""), spoken, call],
                finish: Some(FinishReason {
                    kind: FinishKind::ToolCalls,
                    raw: "tool_calls".into(),
                    sequence: None,
                }),
            }],
            usage: Some(Usage::default()),
            ..Response::default()
        };
        assert_eq!(fold(DIALECT, |sink| response.replay(sink)), response);
    }

    #[test]
    fn base64_pieces_are_joined_as_bytes() {
        let mut data = String::new();
        for piece in ["YQ==", "YmM=", "ZGVm"] {
            join_base64(&mut data, piece);
        }
        assert_eq!(data, "YWJjZGVm");
    }

    use crate::ir::stream::Citation;
}
