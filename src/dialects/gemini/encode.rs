//! Answers, written whole, and the answers to other questions: counts and vectors.

use bytes::BytesMut;
use serde_json::{Value, json};

use super::encode_stream::Encoder;
use super::{DIALECT, Gemini, embeddings};
use crate::dialects::*;
use crate::ir::{BlockHead, EmbeddingRequest, EmbeddingResponse, LossReport, MediaKind, Response, StreamEvent};

impl AnswerEncoder for Gemini {
    fn encode_response(&self, response: &Response, to: &Answering, loss: &mut LossReport) -> Vec<u8> {
        let (mut encoder, mut out) = (Encoder::whole(to.clone()), BytesMut::new());
        response.replay(&mut |event: StreamEvent<'_>| encoder.event(event, &mut out, loss));
        for native in &response.native {
            if native.dialect == DIALECT {
                encoder.native(&native.key, &native.json.to_string(), loss);
            } else {
                loss.dropped(native.at.to_string(), "a field of another dialect's answers");
            }
        }
        encoder.finish(&mut out, loss);
        out.to_vec()
    }

    fn stream_encoder(&self, to: Answering) -> Box<dyn StreamEncoder> {
        Box::new(Encoder::new(to))
    }

    fn keeps(&self, block: &BlockHead<'_>) -> bool {
        match block {
            BlockHead::Media { kind, .. } => *kind != MediaKind::Audio,
            BlockHead::ToolCall { .. } => true,
            _ => false,
        }
    }

    fn has_candidates(&self) -> bool {
        true
    }

    fn decode_count(&self, body: &[u8]) -> Option<Result<u64, DecodeError>> {
        let body: Option<Value> = serde_json::from_slice(body).ok();
        let tokens = body
            .as_ref()
            .and_then(|body| body.get("totalTokens").or(body.get("total_tokens"))?.as_u64());
        Some(tokens.ok_or_else(|| DecodeError {
            dialect: DIALECT,
            why: "no totalTokens".to_owned(),
        }))
    }

    fn encode_count(&self, tokens: u64) -> Option<Vec<u8>> {
        Some(json!({ "totalTokens": tokens }).to_string().into_bytes())
    }

    fn decode_vectors(&self, body: &[u8]) -> Option<Result<EmbeddingResponse, DecodeError>> {
        Some(embeddings::decode_vectors(body))
    }

    fn encode_vectors(
        &self,
        response: &EmbeddingResponse,
        _asked: &EmbeddingRequest,
        target: &Target,
        _loss: &mut LossReport,
    ) -> Option<Vec<u8>> {
        Some(embeddings::encode_vectors(response, target))
    }
}
