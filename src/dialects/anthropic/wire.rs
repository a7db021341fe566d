//! What we read of Anthropic's messages and their streams. Every field may be missing, null or of another type.

use crate::dialects::cursor::{Cursor, Wrong};
use crate::dialects::loose::{List, Num, Obj, Str};
use crate::dialects::read::{Fields, wire};
use crate::ir::Usage;

/// An object, and its JSON as it stands: what only this dialect knows is carried on whole.
#[derive(Default)]
pub(super) struct Raw<'a, T> {
    pub(super) wire: T,
    pub(super) json: &'a [u8],
}

impl<'a, T> Raw<'a, T> {
    /// The JSON; empty where it is not UTF-8.
    pub(super) fn json(&self) -> &'a str {
        std::str::from_utf8(self.json).unwrap_or("")
    }
}

impl<'a, T: Fields<'a>> Fields<'a> for Raw<'a, T> {
    fn fields(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Wrong> {
        let start = cursor.at;
        self.wire.fields(cursor)?;
        self.json = &cursor.text[start..cursor.at];
        Ok(())
    }
}

wire! {
    /// One event of a stream; which fields it has, its `type` says.
    pub(super) struct Event<'a> {
        kind: Str<'a> = b"type",
        index: Num = b"index",
        delta: Obj<Raw<'a, DeltaWire<'a>>> = b"delta",
        content_block: Obj<Raw<'a, BlockWire<'a>>> = b"content_block",
        message: Obj<Message<'a>> = b"message",
        usage: Obj<WireUsage<'a>> = b"usage",
        context_management: Option<&'a str> = b"context_management",
    }
}

wire! {
    /// A message: the whole answer, or the beginning of one in `message_start`.
    pub(super) struct Message<'a> {
        kind: Str<'a> = b"type",
        id: Str<'a> = b"id",
        model: Str<'a> = b"model",
        content: List<Raw<'a, BlockWire<'a>>> = b"content",
        stop_reason: Str<'a> = b"stop_reason",
        stop_sequence: Str<'a> = b"stop_sequence",
        stop_details: Option<&'a str> = b"stop_details",
        container: Option<&'a str> = b"container",
        context_management: Option<&'a str> = b"context_management",
        diagnostics: Option<&'a str> = b"diagnostics",
        usage: Obj<WireUsage<'a>> = b"usage",
        error: Option<&'a str> = b"error",
    }
}

wire! {
    pub(super) struct BlockWire<'a> {
        kind: Str<'a> = b"type",
        text: Str<'a> = b"text",
        citations: Option<&'a str> = b"citations",
        thinking: Str<'a> = b"thinking",
        signature: Str<'a> = b"signature",
        data: Str<'a> = b"data",
        id: Str<'a> = b"id",
        name: Str<'a> = b"name",
        input: Option<&'a str> = b"input",
        caller: Option<&'a str> = b"caller",
        toolset_name: Option<&'a str> = b"toolset_name",
    }
}

wire! {
    /// The `delta` of a block, or of the message.
    pub(super) struct DeltaWire<'a> {
        kind: Str<'a> = b"type",
        text: Str<'a> = b"text",
        thinking: Str<'a> = b"thinking",
        partial_json: Str<'a> = b"partial_json",
        signature: Str<'a> = b"signature",
        citation: Option<&'a str> = b"citation",
        stop_reason: Str<'a> = b"stop_reason",
        stop_sequence: Str<'a> = b"stop_sequence",
        stop_details: Option<&'a str> = b"stop_details",
        container: Option<&'a str> = b"container",
    }
}

wire! {
    /// Usage as reported, field by field: `message_delta` updates only some of what `message_start` said.
    pub(super) struct WireUsage<'a> {
        input_tokens: Num = b"input_tokens",
        cache_read_input_tokens: Num = b"cache_read_input_tokens",
        cache_creation_input_tokens: Num = b"cache_creation_input_tokens",
        cache_creation: Obj<CacheCreation> = b"cache_creation",
        output_tokens: Num = b"output_tokens",
        output_tokens_details: Obj<OutputDetails> = b"output_tokens_details",
        service_tier: Option<&'a str> = b"service_tier",
        inference_geo: Option<&'a str> = b"inference_geo",
        speed: Option<&'a str> = b"speed",
        server_tool_use: Option<&'a str> = b"server_tool_use",
        iterations: Option<&'a str> = b"iterations",
    }
}

/// The counts of usage, as far as they were told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    input_tokens: Num,
    cache_read_input_tokens: Num,
    cache_creation_input_tokens: Num,
    cache_creation: Obj<CacheCreation>,
    output_tokens: Num,
    output_tokens_details: Obj<OutputDetails>,
}

wire! {
    #[derive(Clone, Copy, Debug)]
    pub(super) struct CacheCreation {
        ephemeral_5m_input_tokens: Num = b"ephemeral_5m_input_tokens",
        ephemeral_1h_input_tokens: Num = b"ephemeral_1h_input_tokens",
    }
}

wire! {
    #[derive(Clone, Copy, Debug)]
    pub(super) struct OutputDetails {
        thinking_tokens: Num = b"thinking_tokens",
    }
}

impl Counts {
    /// Takes over each field that is there. Counts are running totals ("cumulative", Anthropic's streaming guide).
    pub(super) fn merge(&mut self, newer: &WireUsage<'_>) {
        let update = |field: &mut Num, newer: Num| *field = Num(newer.0.or(field.0));
        update(&mut self.input_tokens, newer.input_tokens);
        update(&mut self.cache_read_input_tokens, newer.cache_read_input_tokens);
        update(&mut self.cache_creation_input_tokens, newer.cache_creation_input_tokens);
        update(&mut self.output_tokens, newer.output_tokens);
        self.cache_creation.0 = newer.cache_creation.0.or(self.cache_creation.0);
        self.output_tokens_details.0 = newer.output_tokens_details.0.or(self.output_tokens_details.0);
    }

    /// The disjoint classes. `input_tokens` counts neither cache reads nor writes; `cache_creation` tells the writes
    /// apart by lifetime, and what it does not name is of five minutes; `thinking_tokens` are part of `output_tokens`.
    pub(super) fn classes(&self) -> Usage {
        let zero = |n: Num| n.0.unwrap_or(0);
        let creation = self.cache_creation.0.unwrap_or_default();
        let five_minutes = zero(creation.ephemeral_5m_input_tokens);
        let one_hour = zero(creation.ephemeral_1h_input_tokens);
        let written = self
            .cache_creation_input_tokens
            .0
            .unwrap_or(five_minutes.saturating_add(one_hour));
        let one_hour = one_hour.min(written);
        let output = zero(self.output_tokens);
        let thinking = self.output_tokens_details.0.unwrap_or_default().thinking_tokens;
        let reasoning = zero(thinking).min(output);
        Usage {
            input: zero(self.input_tokens),
            cache_read: zero(self.cache_read_input_tokens),
            cache_write_5m: written - one_hour,
            cache_write_1h: one_hour,
            output: output - reasoning,
            reasoning,
            ..Usage::default()
        }
    }
}
