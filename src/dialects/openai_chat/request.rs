//! Requests: which names this dialect takes, and where reading and writing are done.

use super::{OpenAiChat, decode_request, encode_request};
use crate::dialects::*;
use crate::ir::{EmbeddingRequest, LossReport, Request};

impl RequestCodec for OpenAiChat {
    fn decode_request(&self, _target: &Target, body: &[u8]) -> Result<Request, RequestError> {
        decode_request::decode(body)
    }

    fn encode_request(
        &self,
        request: &Request,
        to: &Upstream<'_>,
        loss: &mut LossReport,
    ) -> Result<Vec<u8>, EncodeError> {
        encode_request::encode(request, to, loss)
    }

    /// OpenAI's reference of `tools[].function.name`.
    fn adapt(&self, request: &mut Request, to: &Upstream<'_>, loss: &mut LossReport) {
        openai_models::adapt(request, to.model, loss);
    }

    fn tool_name_rule(&self) -> NameRule {
        NameRule {
            max: 64,
            also: "_-",
            letter_first: false,
        }
    }

    /// OpenAI refuses longer ones ("string too long. Expected a string with maximum length 40").
    fn tool_id_rule(&self) -> NameRule {
        NameRule {
            max: 40,
            also: "_-",
            letter_first: false,
        }
    }

    /// OpenAI has them, almost nobody else who speaks this dialect: as functions they work everywhere.
    fn has_custom_tools(&self) -> bool {
        false
    }

    fn decode_embeddings(&self, _target: &Target, body: &[u8]) -> Option<Result<EmbeddingRequest, RequestError>> {
        Some(openai_embeddings::decode_request(body))
    }

    fn encode_embeddings(
        &self,
        request: &EmbeddingRequest,
        to: &Upstream<'_>,
        loss: &mut LossReport,
    ) -> Option<Result<Vec<u8>, EncodeError>> {
        Some(openai_embeddings::encode_request(request, to, loss))
    }
}
