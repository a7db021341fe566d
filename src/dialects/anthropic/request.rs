//! Requests: the codec, whose halves are in `decode_*.rs` and `encode_*.rs`.

use serde_json::{Map, Value};

use super::{Anthropic, decode_request, encode_request};
use crate::dialects::*;
use crate::ir::{LossReport, Request};

impl RequestCodec for Anthropic {
    fn decode_request(&self, _target: &Target, body: &[u8]) -> Result<Request, RequestError> {
        decode_request::request(body)
    }

    fn encode_request(
        &self,
        request: &Request,
        to: &Upstream<'_>,
        loss: &mut LossReport,
    ) -> Result<Vec<u8>, EncodeError> {
        encode_request::message(request, to, loss).map(written)
    }

    fn encode_count_request(
        &self,
        request: &Request,
        to: &Upstream<'_>,
        loss: &mut LossReport,
    ) -> Option<Result<Vec<u8>, EncodeError>> {
        Some(encode_request::count(request, to, loss).map(written))
    }

    /// `^[a-zA-Z0-9_-]{1,128}$`, as the API's error says.
    fn tool_name_rule(&self) -> NameRule {
        NameRule {
            max: 128,
            also: "_-",
            letter_first: false,
        }
    }

    /// `^[a-zA-Z0-9_-]+$`, as the API's error says; the length is ours: tokens may ride in ids.
    fn tool_id_rule(&self) -> NameRule {
        NameRule {
            max: 1 << 20,
            also: "_-",
            letter_first: false,
        }
    }
}

fn written(body: Map<String, Value>) -> Vec<u8> {
    write::document(&body)
}
