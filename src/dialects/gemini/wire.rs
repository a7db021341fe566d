//! What we read of Gemini's generateContent and its streams. Every field may be missing, null or of another type.
//! Names come in camelCase; some proxies of it write snake_case.

use crate::dialects::cursor::{Cursor, Wrong};
use crate::dialects::loose::{Few, Flag, List, Num, Obj, Str};
use crate::dialects::read::{Read, wire};
use crate::ir::{Terms, Totals, Usage};

wire! {
    /// An answer, or one element of a stream.
    pub(super) struct Answer<'a> {
        candidates: Few<Candidate<'a>> = b"candidates",
        usage: Obj<WireUsage> = b"usageMetadata" | b"usage_metadata",
        prompt_feedback: Obj<PromptFeedback<'a>> = b"promptFeedback" | b"prompt_feedback",
        create_time: Option<&'a str> = b"createTime" | b"create_time",
        model_version: Str<'a> = b"modelVersion" | b"model_version",
        response_id: Str<'a> = b"responseId" | b"response_id",
        error: Option<&'a str> = b"error",
    }
}

wire! {
    pub(super) struct PromptFeedback<'a> {
        block_reason: Str<'a> = b"blockReason" | b"block_reason",
        message: Str<'a> = b"blockReasonMessage" | b"block_reason_message",
        safety_ratings: Option<&'a str> = b"safetyRatings" | b"safety_ratings",
    }
}

wire! {
    pub(super) struct Candidate<'a> {
        index: Num = b"index",
        content: Obj<ContentWire<'a>> = b"content",
        finish_reason: Str<'a> = b"finishReason" | b"finish_reason",
        finish_message: Option<&'a str> = b"finishMessage" | b"finish_message",
        safety_ratings: Option<&'a str> = b"safetyRatings" | b"safety_ratings",
        grounding: Option<&'a str> = b"groundingMetadata" | b"grounding_metadata",
        citations: Option<&'a str> = b"citationMetadata" | b"citation_metadata",
        url_context: Option<&'a str> = b"urlContextMetadata" | b"url_context_metadata",
        logprobs: Option<&'a str> = b"logprobsResult" | b"logprobs_result",
        avg_logprobs: Option<&'a str> = b"avgLogprobs" | b"avg_logprobs",
    }
}

wire! {
    pub(super) struct ContentWire<'a> {
        parts: Few<Part<'a>> = b"parts",
    }
}

wire! {
    pub(super) struct Part<'a> {
        text: Str<'a> = b"text",
        thought: Flag = b"thought",
        signature: Str<'a> = b"thoughtSignature" | b"thought_signature",
        function_call: Obj<FunctionCall<'a>> = b"functionCall" | b"function_call",
        inline_data: Obj<Blob<'a>> = b"inlineData" | b"inline_data",
        file_data: Obj<Blob<'a>> = b"fileData" | b"file_data",
        executable_code: Option<&'a str> = b"executableCode" | b"executable_code",
        code_execution_result: Option<&'a str> = b"codeExecutionResult" | b"code_execution_result",
        tool_call: Option<&'a str> = b"toolCall" | b"tool_call",
        tool_response: Option<&'a str> = b"toolResponse" | b"tool_response",
    }
}

wire! {
    /// Media: their bytes, or where they are.
    pub(super) struct Blob<'a> {
        mime: Str<'a> = b"mimeType" | b"mime_type",
        data: Str<'a> = b"data",
        uri: Str<'a> = b"fileUri" | b"file_uri",
    }
}

wire! {
    /// A function call; Vertex may stream its arguments as `partialArgs`, and says with `willContinue` that more follow.
    pub(super) struct FunctionCall<'a> {
        id: Str<'a> = b"id",
        name: Str<'a> = b"name",
        args: Option<&'a str> = b"args",
        partial_args: List<PartialArg<'a>> = b"partialArgs" | b"partial_args",
        will_continue: Flag = b"willContinue" | b"will_continue",
    }
}

wire! {
    /// A piece of a call's arguments: a value, or the next piece of a string, and its place.
    pub(super) struct PartialArg<'a> {
        path: Str<'a> = b"jsonPath" | b"json_path",
        string: Str<'a> = b"stringValue" | b"string_value",
        number: Option<&'a str> = b"numberValue" | b"number_value",
        boolean: Option<&'a str> = b"boolValue" | b"bool_value",
    }
}

wire! {
    /// Usage as reported, field by field.
    #[derive(Clone, Debug)]
    pub(super) struct WireUsage {
        prompt: Num = b"promptTokenCount" | b"prompt_token_count",
        tool_use_prompt: Num = b"toolUsePromptTokenCount" | b"tool_use_prompt_token_count",
        cached: Num = b"cachedContentTokenCount" | b"cached_content_token_count",
        candidates: Num = b"candidatesTokenCount" | b"candidates_token_count",
        thoughts: Num = b"thoughtsTokenCount" | b"thoughts_token_count",
        prompt_details: List<Modality> = b"promptTokensDetails" | b"prompt_tokens_details",
        cache_details: List<Modality> = b"cacheTokensDetails" | b"cache_tokens_details",
        candidates_details: List<Modality> = b"candidatesTokensDetails" | b"candidates_tokens_details",
        service: Tier = b"serviceTier" | b"service_tier",
        traffic: Tier = b"trafficType" | b"traffic_type",
    }
}

wire! {
    #[derive(Clone, Debug)]
    pub(super) struct Modality {
        modality: Kind = b"modality",
        tokens: Num = b"tokenCount" | b"token_count",
    }
}

/// Which modality, as far as it has a price of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Other,
    Audio,
    Image,
}

/// The tier of an answer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tier(Option<&'static str>);

/// What the API says (`serviceTier` of the Gemini API; `trafficType` of Vertex AI, in capitals), and the word for it.
const TIERS: &[(&str, &str)] = &[
    ("standard", "standard"),
    ("on_demand", "standard"),
    ("flex", "flex"),
    ("on_demand_flex", "flex"),
    ("priority", "priority"),
    ("on_demand_priority", "priority"),
    ("batch", "batch"),
    ("provisioned_throughput", "provisioned"),
];

impl<'a> Read<'a> for Tier {
    fn read(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Wrong> {
        let mut name = Str::default();
        name.read(cursor)?;
        let known = TIERS.iter().find(|(said, _)| name.as_str().eq_ignore_ascii_case(said));
        self.0 = known.map(|(_, word)| *word);
        Ok(())
    }
}

impl<'a> Read<'a> for Kind {
    fn read(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Wrong> {
        let mut name = Str::default();
        name.read(cursor)?;
        *self = match name.as_str() {
            "AUDIO" => Kind::Audio,
            "IMAGE" => Kind::Image,
            _ => Kind::Other,
        };
        Ok(())
    }
}

fn audio(details: &List<Modality>) -> u64 {
    tokens(details, Kind::Audio)
}

fn tokens(details: &List<Modality>, kind: Kind) -> u64 {
    details
        .0
        .iter()
        .filter(|d| d.modality == kind)
        .filter_map(|d| d.tokens.0)
        .fold(0, u64::saturating_add)
}

impl WireUsage {
    /// Takes over each field that is there: elements of a stream repeat the running totals, some leave fields out.
    pub(super) fn merge(&mut self, newer: WireUsage) {
        let update = |field: &mut Num, newer: Num| *field = Num(newer.0.or(field.0));
        update(&mut self.prompt, newer.prompt);
        update(&mut self.tool_use_prompt, newer.tool_use_prompt);
        update(&mut self.cached, newer.cached);
        update(&mut self.candidates, newer.candidates);
        update(&mut self.thoughts, newer.thoughts);
        let details = |field: &mut List<Modality>, newer: List<Modality>| {
            if !newer.0.is_empty() {
                *field = newer;
            }
        };
        details(&mut self.prompt_details, newer.prompt_details);
        details(&mut self.cache_details, newer.cache_details);
        details(&mut self.candidates_details, newer.candidates_details);
        self.service.0 = newer.service.0.or(self.service.0);
        self.traffic.0 = newer.traffic.0.or(self.traffic.0);
    }

    /// What the bill depends on beside the classes.
    pub(super) fn terms(&self) -> Terms<'static> {
        Terms {
            service: self.service.0.or(self.traffic.0).unwrap_or("").into(),
            cached_audio: audio(&self.cache_details),
            image_tokens: tokens(&self.candidates_details, Kind::Image),
        }
    }

    /// The disjoint classes (reference of `UsageMetadata`): `promptTokenCount` includes what was cached, but not the
    /// prompts of tool use; thoughts stand beside the candidates' tokens, not among them.
    pub(super) fn classes(&self) -> Usage {
        let zero = |n: Num| n.0.unwrap_or(0);
        Totals {
            input: zero(self.prompt).saturating_add(zero(self.tool_use_prompt)),
            cache_read: zero(self.cached).min(zero(self.prompt)),
            cache_write: 0,
            input_audio: audio(&self.prompt_details).saturating_sub(audio(&self.cache_details)),
            output: zero(self.candidates).saturating_add(zero(self.thoughts)),
            reasoning: zero(self.thoughts),
            output_audio: audio(&self.candidates_details).min(zero(self.candidates)),
        }
        .into()
    }
}
