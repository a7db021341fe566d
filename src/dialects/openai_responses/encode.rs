//! Answers, written whole: the object a stream of the same events would end with. And the counts of tokens.

use bytes::BytesMut;
use serde_json::json;

use super::encode_stream::Encoder;
use super::{DIALECT, OpenAiResponses};
use crate::dialects::*;
use crate::ir::{EmbeddingResponse, LossReport, Native, Response, StreamEvent};

impl AnswerEncoder for OpenAiResponses {
    fn encode_response(&self, response: &Response, to: &Answering, loss: &mut LossReport) -> Vec<u8> {
        let mut encoder = Encoder::new(to, true);
        let mut out = BytesMut::new();
        response.replay(&mut |event: StreamEvent<'_>| encoder.event(event, &mut out, loss));
        for native in &response.native {
            let Native { dialect, key, json, .. } = native;
            if !encoder.field(key, json) && *dialect != DIALECT {
                loss.dropped(native.at.to_string(), "a Response has no such field");
            }
        }
        encoder.close(&mut out, loss);
        encoder.write_response(&mut out);
        out.to_vec()
    }

    fn stream_encoder(&self, to: Answering) -> Box<dyn StreamEncoder> {
        Box::new(Encoder::new(&to, false))
    }

    fn repeats_at_end(&self) -> bool {
        true
    }

    fn decode_vectors(&self, body: &[u8]) -> Option<Result<EmbeddingResponse, DecodeError>> {
        Some(openai_embeddings::decode_vectors(body))
    }

    fn decode_count(&self, body: &[u8]) -> Option<Result<u64, DecodeError>> {
        let count = serde_json::from_slice::<serde_json::Value>(body)
            .ok()
            .and_then(|value| value["input_tokens"].as_u64());
        Some(count.ok_or(DecodeError {
            dialect: DIALECT,
            why: "no `input_tokens`".into(),
        }))
    }

    fn encode_count(&self, tokens: u64) -> Option<Vec<u8>> {
        let count = json!({"object": "response.input_tokens", "input_tokens": tokens});
        Some(count.to_string().into_bytes())
    }
}
