//! What we read of Anthropic's messages and their streams. Every field may be missing, null or of another type.

use crate::dialects::loose::{List, Num, Obj, Str};
use crate::dialects::read::wire;
use crate::ir::Usage;

wire! {
    /// One event of a stream; which fields it has, its `type` says.
    pub(super) struct Event<'a> {
        kind: Str<'a> = b"type",
        index: Num = b"index",
        delta: Obj<DeltaWire<'a>> = b"delta",
        content_block: Obj<BlockWire<'a>> = b"content_block",
        message: Obj<Message<'a>> = b"message",
        usage: Obj<WireUsage> = b"usage",
    }
}

wire! {
    /// A message: the whole answer, or the beginning of one in `message_start`.
    pub(super) struct Message<'a> {
        kind: Str<'a> = b"type",
        id: Str<'a> = b"id",
        model: Str<'a> = b"model",
        content: List<BlockWire<'a>> = b"content",
        stop_reason: Str<'a> = b"stop_reason",
        usage: Obj<WireUsage> = b"usage",
        error: Option<&'a str> = b"error",
    }
}

wire! {
    pub(super) struct BlockWire<'a> {
        kind: Str<'a> = b"type",
        text: Str<'a> = b"text",
        thinking: Str<'a> = b"thinking",
        id: Str<'a> = b"id",
        name: Str<'a> = b"name",
        input: Option<&'a str> = b"input",
    }
}

wire! {
    /// The `delta` of a block, or of the message.
    pub(super) struct DeltaWire<'a> {
        kind: Str<'a> = b"type",
        text: Str<'a> = b"text",
        thinking: Str<'a> = b"thinking",
        partial_json: Str<'a> = b"partial_json",
        stop_reason: Str<'a> = b"stop_reason",
    }
}

wire! {
    /// Usage as reported, field by field: `message_delta` updates only some of what `message_start` said.
    #[derive(Clone, Copy, Debug)]
    pub(super) struct WireUsage {
        input_tokens: Num = b"input_tokens",
        cache_read_input_tokens: Num = b"cache_read_input_tokens",
        cache_creation_input_tokens: Num = b"cache_creation_input_tokens",
        cache_creation: Obj<CacheCreation> = b"cache_creation",
        output_tokens: Num = b"output_tokens",
        output_tokens_details: Obj<OutputDetails> = b"output_tokens_details",
    }
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

impl WireUsage {
    /// Takes over each field that is there. Counts are running totals ("cumulative", Anthropic's streaming guide).
    pub(super) fn merge(&mut self, newer: WireUsage) {
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
