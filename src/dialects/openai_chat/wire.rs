//! What we read of OpenAI's chat completions and their streams, and of those who speak alike. Every field may be
//! missing, null or of another type.
//!
//! What is rare in a chunk is boxed: a text delta, which is the usual one, moves few bytes.
//!
//! Beyond OpenAI's own: reasoning as `reasoning_content` (DeepSeek, vLLM), `reasoning` or `reasoning_details`
//! (OpenRouter, Groq), content as parts with `thinking` (Mistral), usage under `x_groq` (Groq) or in the choice
//! (Moonshot), cache reads as `prompt_cache_hit_tokens` (DeepSeek), pictures as `images` (OpenRouter), thought signatures
//! in `extra_content` (Google), the stop sequence met as `stop_reason` (vLLM).

use crate::dialects::cursor::{Cursor, Wrong};
use crate::dialects::loose::{Few, List, Num, Obj, Str, TextOr};
use crate::dialects::read::{Fields, wire};
use crate::ir::{Terms, Totals, Usage};

wire! {
    /// A chunk of a stream, or a whole answer: they differ in `delta` and `message` only.
    pub(super) struct Chunk<'a> {
        id: Str<'a> = b"id",
        model: Str<'a> = b"model",
        choices: Few<Choice<'a>> = b"choices",
        usage: Obj<Box<WireUsage>> = b"usage",
        x_groq: Obj<Box<XGroq>> = b"x_groq",
        error: Option<&'a str> = b"error",
        service_tier: Option<&'a str> = b"service_tier",
        system_fingerprint: Option<&'a str> = b"system_fingerprint",
        citations: Option<&'a str> = b"citations",
        search_results: Option<&'a str> = b"search_results",
    }
}

/// An object as it stands: what is in it is read when its type is known.
#[derive(Clone, Copy, Default)]
pub(super) struct Raw<'a>(pub(super) &'a str);

impl<'a> Fields<'a> for Raw<'a> {
    fn fields(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Wrong> {
        let start = cursor.at;
        cursor.skip()?;
        self.0 = std::str::from_utf8(&cursor.text[start..cursor.at]).map_err(|_| Wrong::Utf8)?;
        Ok(())
    }
}

wire! {
    pub(super) struct XGroq {
        usage: Obj<Box<WireUsage>> = b"usage",
    }
}

wire! {
    pub(super) struct Choice<'a> {
        index: Num = b"index",
        delta: Obj<Delta<'a>> = b"delta",
        message: Obj<Box<Delta<'a>>> = b"message",
        finish_reason: Str<'a> = b"finish_reason",
        stop_reason: Str<'a> = b"stop_reason",
        logprobs: Option<&'a str> = b"logprobs",
        usage: Obj<Box<WireUsage>> = b"usage",
        error: Option<&'a str> = b"error",
    }
}

wire! {
    pub(super) struct Delta<'a> {
        content: TextOr<'a, Raw<'a>> = b"content",
        reasoning_content: Str<'a> = b"reasoning_content",
        reasoning: Str<'a> = b"reasoning",
        reasoning_details: List<ReasoningDetail<'a>> = b"reasoning_details",
        refusal: Str<'a> = b"refusal",
        tool_calls: List<ToolCall<'a>> = b"tool_calls",
        function_call: Obj<Box<Function<'a>>> = b"function_call",
        audio: Obj<Box<Audio<'a>>> = b"audio",
        images: List<Image<'a>> = b"images",
        annotations: List<Raw<'a>> = b"annotations",
    }
}

wire! {
    pub(super) struct Part<'a> {
        kind: Str<'a> = b"type",
        text: Str<'a> = b"text",
        refusal: Str<'a> = b"refusal",
        thinking: TextOr<'a, Thought<'a>> = b"thinking",
        image_url: Option<&'a str> = b"image_url",
    }
}

wire! {
    /// A generated picture: the part of a message's content which holds one.
    pub(super) struct Image<'a> {
        image_url: Option<&'a str> = b"image_url",
    }
}

wire! {
    pub(super) struct ImageUrl<'a> {
        url: Str<'a> = b"url",
    }
}

wire! {
    pub(super) struct Annotation<'a> {
        kind: Str<'a> = b"type",
        url_citation: Obj<UrlCitation<'a>> = b"url_citation",
    }
}

wire! {
    pub(super) struct UrlCitation<'a> {
        url: Str<'a> = b"url",
        title: Str<'a> = b"title",
        content: Str<'a> = b"content",
        start_index: Num = b"start_index",
        end_index: Num = b"end_index",
    }
}

wire! {
    pub(super) struct Thought<'a> {
        text: Str<'a> = b"text",
    }
}

wire! {
    /// A piece of reasoning (OpenRouter's "Preserving reasoning"): text or a summary with a `signature`, or what nobody
    /// may read as `data`.
    pub(super) struct ReasoningDetail<'a> {
        kind: Str<'a> = b"type",
        text: Str<'a> = b"text",
        summary: Str<'a> = b"summary",
        signature: Str<'a> = b"signature",
        data: Str<'a> = b"data",
        format: Str<'a> = b"format",
        id: Str<'a> = b"id",
    }
}

wire! {
    pub(super) struct ToolCall<'a> {
        index: Num = b"index",
        id: Str<'a> = b"id",
        function: Obj<Function<'a>> = b"function",
        custom: Obj<Box<Function<'a>>> = b"custom",
        extra_content: Obj<Box<ExtraContent<'a>>> = b"extra_content",
    }
}

wire! {
    /// Where Google's OpenAI-compatible API keeps thought signatures ("OpenAI compatibility", "Thought signatures").
    pub(super) struct ExtraContent<'a> {
        google: Obj<Google<'a>> = b"google",
    }
}

wire! {
    pub(super) struct Google<'a> {
        thought_signature: Str<'a> = b"thought_signature",
    }
}

wire! {
    /// A function's call, or a custom tool's: the latter has `input`.
    pub(super) struct Function<'a> {
        name: Str<'a> = b"name",
        arguments: Option<&'a str> = b"arguments",
        input: Option<&'a str> = b"input",
    }
}

wire! {
    pub(super) struct Audio<'a> {
        data: Str<'a> = b"data",
        transcript: Str<'a> = b"transcript",
    }
}

wire! {
    /// Usage, of chat and of embeddings.
    #[derive(Clone, Copy, Debug)]
    pub(super) struct WireUsage {
        prompt_tokens: Num = b"prompt_tokens",
        completion_tokens: Num = b"completion_tokens",
        total_tokens: Num = b"total_tokens",
        prompt_tokens_details: Obj<PromptDetails> = b"prompt_tokens_details",
        completion_tokens_details: Obj<CompletionDetails> = b"completion_tokens_details",
        prompt_cache_hit_tokens: Num = b"prompt_cache_hit_tokens",
    }
}

wire! {
    #[derive(Clone, Copy, Debug)]
    pub(super) struct PromptDetails {
        cached_tokens: Num = b"cached_tokens",
        cache_write_tokens: Num = b"cache_write_tokens",
        audio_tokens: Num = b"audio_tokens",
    }
}

wire! {
    #[derive(Clone, Copy, Debug)]
    pub(super) struct CompletionDetails {
        reasoning_tokens: Num = b"reasoning_tokens",
        audio_tokens: Num = b"audio_tokens",
        image_tokens: Num = b"image_tokens",
    }
}

impl WireUsage {
    /// The disjoint classes.
    ///
    /// - `prompt_tokens` and `completion_tokens` are totals which include their details (OpenAI's reference); a detail
    ///   larger than its total is cut to it (xAI on Azure reports more cached than prompt tokens, Vercel's gateway more
    ///   reasoning than completion tokens).
    /// - xAI's `completion_tokens` leaves reasoning out: there `total_tokens` is the sum of prompt, completion and
    ///   reasoning, and so reasoning is added to the output.
    /// - Where only `total_tokens` is given (embeddings of Voyage), it is the prompt.
    /// - Cache reads are `prompt_tokens_details.cached_tokens`, else `prompt_cache_hit_tokens` (DeepSeek); cache writes
    ///   `prompt_tokens_details.cache_write_tokens` (OpenRouter).
    pub(super) fn classes(&self) -> Usage {
        let prompt = self.prompt_tokens_details.0.unwrap_or_default();
        let completion = self.completion_tokens_details.0.unwrap_or_default();
        let zero = |n: Num| n.0.unwrap_or(0);
        let mut output = zero(self.completion_tokens);
        let input = self
            .prompt_tokens
            .0
            .unwrap_or(zero(self.total_tokens).saturating_sub(output));
        let reasoning = zero(completion.reasoning_tokens);
        let with_reasoning = output.saturating_add(reasoning);
        if reasoning > 0 && self.total_tokens.0 == Some(input.saturating_add(with_reasoning)) {
            output = with_reasoning;
        }
        Totals {
            input,
            cache_read: prompt.cached_tokens.0.unwrap_or(zero(self.prompt_cache_hit_tokens)),
            cache_write: zero(prompt.cache_write_tokens),
            input_audio: zero(prompt.audio_tokens),
            output,
            reasoning,
            output_audio: zero(completion.audio_tokens),
        }
        .into()
    }

    /// What the bill takes apart within the classes: tokens of pictures (OpenRouter's `completion_tokens_details`).
    pub(super) fn terms(&self) -> Terms<'static> {
        let completion = self.completion_tokens_details.0.unwrap_or_default();
        Terms {
            image_tokens: completion.image_tokens.0.unwrap_or(0),
            ..Terms::default()
        }
    }

    /// True if it reports anything: some send an empty object until they know.
    pub(super) fn is_some(&self) -> bool {
        self.prompt_tokens.0.is_some() || self.completion_tokens.0.is_some() || self.total_tokens.0.is_some()
    }
}
