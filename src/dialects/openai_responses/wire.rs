//! What we read of OpenAI's Responses and their streams. Every field may be missing, null or of another type.

use crate::dialects::cursor::{Cursor, Wrong};
use crate::dialects::loose::{List, Num, Obj, Str};
use crate::dialects::read::{Fields, wire};
use crate::ir::{Totals, Usage};

wire! {
    /// One event of a stream; which fields it has, its `type` says.
    pub(super) struct Event<'a> {
        kind: Str<'a> = b"type",
        response: Obj<Response<'a>> = b"response",
        item: Obj<Told<'a>> = b"item",
        part: Obj<Part<'a>> = b"part",
        output_index: Num = b"output_index",
        content_index: Num = b"content_index",
        summary_index: Num = b"summary_index",
        delta: Str<'a> = b"delta",
        /// A list, as it stands.
        logprobs: Option<&'a str> = b"logprobs",
        annotation: Option<&'a str> = b"annotation",
        arguments: Str<'a> = b"arguments",
        input: Str<'a> = b"input",
    }
}

wire! {
    /// A response: the whole answer, or within an event.
    pub(super) struct Response<'a> {
        id: Str<'a> = b"id",
        model: Str<'a> = b"model",
        status: Str<'a> = b"status",
        error: Option<&'a str> = b"error",
        incomplete_details: Obj<Incomplete<'a>> = b"incomplete_details",
        output: List<Told<'a>> = b"output",
        usage: Obj<WireUsage> = b"usage",
        service_tier: Option<&'a str> = b"service_tier",
        moderation: Option<&'a str> = b"moderation",
        content_filters: Option<&'a str> = b"content_filters",
    }
}

wire! {
    pub(super) struct Incomplete<'a> {
        reason: Str<'a> = b"reason",
    }
}

/// An item of the output, and its JSON.
#[derive(Default)]
pub(super) struct Told<'a> {
    pub(super) item: Item<'a>,
    pub(super) json: &'a str,
}

impl<'a> Fields<'a> for Told<'a> {
    fn fields(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Wrong> {
        let start = cursor.at;
        self.item.fields(cursor)?;
        self.json = std::str::from_utf8(&cursor.text[start..cursor.at]).map_err(|_| Wrong::Utf8)?;
        Ok(())
    }
}

wire! {
    /// What we read of an item.
    pub(super) struct Item<'a> {
        kind: Str<'a> = b"type",
        id: Str<'a> = b"id",
        namespace: Str<'a> = b"namespace",
        encrypted_content: Str<'a> = b"encrypted_content",
        /// A picture in base64; other tools have other results.
        result: Str<'a> = b"result",
        output_format: Str<'a> = b"output_format",
        call_id: Str<'a> = b"call_id",
        name: Str<'a> = b"name",
        arguments: Option<&'a str> = b"arguments",
        input: Option<&'a str> = b"input",
        content: List<Part<'a>> = b"content",
        summary: List<Part<'a>> = b"summary",
    }
}

wire! {
    /// A part of a message's content or of a reasoning's summary.
    pub(super) struct Part<'a> {
        kind: Str<'a> = b"type",
        text: Str<'a> = b"text",
        refusal: Str<'a> = b"refusal",
        /// Lists, as they stand.
        annotations: Option<&'a str> = b"annotations",
        logprobs: Option<&'a str> = b"logprobs",
    }
}

wire! {
    #[derive(Clone, Copy, Debug)]
    pub(super) struct WireUsage {
        input_tokens: Num = b"input_tokens",
        output_tokens: Num = b"output_tokens",
        total_tokens: Num = b"total_tokens",
        input_tokens_details: Obj<InputDetails> = b"input_tokens_details",
        output_tokens_details: Obj<OutputDetails> = b"output_tokens_details",
    }
}

wire! {
    #[derive(Clone, Copy, Debug)]
    pub(super) struct InputDetails {
        cached_tokens: Num = b"cached_tokens",
        cache_write_tokens: Num = b"cache_write_tokens",
        audio_tokens: Num = b"audio_tokens",
    }
}

wire! {
    #[derive(Clone, Copy, Debug)]
    pub(super) struct OutputDetails {
        reasoning_tokens: Num = b"reasoning_tokens",
        audio_tokens: Num = b"audio_tokens",
    }
}

impl WireUsage {
    /// The disjoint classes. `input_tokens` and `output_tokens` are totals which include their details (OpenAI's
    /// reference); where `total_tokens` says that reasoning comes on top of the output, it is added.
    pub(super) fn classes(&self) -> Usage {
        let input_details = self.input_tokens_details.0.unwrap_or_default();
        let output_details = self.output_tokens_details.0.unwrap_or_default();
        let zero = |n: Num| n.0.unwrap_or(0);
        let (input, mut output) = (zero(self.input_tokens), zero(self.output_tokens));
        let reasoning = zero(output_details.reasoning_tokens);
        let with_reasoning = output.saturating_add(reasoning);
        if reasoning > 0 && self.total_tokens.0 == Some(input.saturating_add(with_reasoning)) {
            output = with_reasoning;
        }
        Totals {
            input,
            cache_read: zero(input_details.cached_tokens),
            cache_write: zero(input_details.cache_write_tokens),
            input_audio: zero(input_details.audio_tokens),
            output,
            reasoning,
            output_audio: zero(output_details.audio_tokens),
        }
        .into()
    }

    /// True if it reports anything.
    pub(super) fn is_some(&self) -> bool {
        self.input_tokens.0.is_some() || self.output_tokens.0.is_some()
    }
}
