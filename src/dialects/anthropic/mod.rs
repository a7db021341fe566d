//! skeleton, replaced by the dialects helper

use super::*;

/// The dialect.
pub struct Anthropic;

impl Dialect for Anthropic {
    fn id(&self) -> DialectId {
        DialectId::new("anthropic")
    }
    fn target(&self, _line: Line<'_>) -> Option<Target> {
        None
    }
    fn peek(&self, _target: &Target, _body: &[u8]) -> Result<Peek, PeekError> {
        Err(PeekError::MissingModel)
    }
    fn upstream_path(&self, _target: &Target, _upstream_model: &str, _query: &str) -> String {
        String::new()
    }
    fn auth(&self) -> AuthScheme {
        AuthScheme::Bearer
    }
    fn request_headers(&self) -> &'static [&'static str] {
        &[]
    }
    fn stream_decoder(&self, _operation: Operation) -> Box<dyn StreamDecoder> {
        unreachable!()
    }
    fn decode_response(
        &self,
        _operation: Operation,
        _body: &[u8],
        _sink: &mut dyn EventSink,
    ) -> Result<StreamEnd, DecodeError> {
        Ok(StreamEnd::Complete)
    }
    fn decode_error(&self, status: u16, _body: &[u8]) -> ApiError {
        ApiError::new(crate::ir::ErrorKind::Api, "").status(status)
    }
    fn encode_error(&self, _error: &ApiError, _request_id: &str) -> Vec<u8> {
        Vec::new()
    }
    fn encode_stream_error(&self, _error: &ApiError, _request_id: &str, _framing: Framing, _first: bool) -> Vec<u8> {
        Vec::new()
    }
    fn encode_models(&self, _models: &[ModelEntry]) -> Vec<u8> {
        Vec::new()
    }
    fn encode_model(&self, _model: &ModelEntry) -> Vec<u8> {
        Vec::new()
    }
}
