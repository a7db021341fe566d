//! Bodies that say all there is of a prompt: every field in them is known to hold what it says, and none stands for content that is kept
//! or found elsewhere. One pass over the bytes, nothing is decoded.

use memchr::{memchr, memchr2, memmem};

/// In a text too something may be written that stands for more: a file's name (see [`FILE_IN_TEXT`]), or letters of it as escapes.
const MARKS: [&[u8]; 2] = [b"fileid", b"\\u006"];

/// How a text names a file at the provider, which takes its place (Alibaba, "Qwen-Long": `fileid://file-fe-…` in a system message).
pub(super) const FILE_IN_TEXT: &str = "fileid://";

/// Every field of the body is one of [`is_plain_name`]. `body`: JSON, well-formed.
pub(super) fn is_plain(body: &[u8]) -> bool {
    if MARKS.iter().any(|mark| memmem::find(body, mark).is_some()) {
        return false;
    }
    let mut at = 0;
    while let Some(quote) = memchr(b'"', &body[at..]) {
        let start = at + quote + 1;
        let Some(end) = end_of_text(body, start) else {
            return false;
        };
        at = end + 1;
        let next = body[at..].iter().find(|byte| !byte.is_ascii_whitespace());
        if next == Some(&b':') && !is_plain_name(&body[start..end]) {
            return false;
        }
    }
    true
}

/// Where the text ends that begins at `start`.
fn end_of_text(body: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        at += memchr2(b'"', b'\\', body.get(at..)?)?;
        if body[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

/// Fields of the dialects' references that hold texts, words, numbers or what is made of them. Whatever is not here (tools, media, ids,
/// addresses, next year's fields) is for the decoder to judge, and so is a name written with escapes.
fn is_plain_name(name: &[u8]) -> bool {
    matches!(
        name,
        // Conversations, in all dialects.
        b"model"
            | b"messages"
            | b"role"
            | b"content"
            | b"type"
            | b"text"
            | b"refusal"
            | b"system"
            | b"instructions"
            | b"input"
            | b"contents"
            | b"parts"
            | b"systemInstruction"
            | b"system_instruction"
            | b"reasoning_content"
            | b"thought"
            | b"cache_control"
            | b"ttl"
            // Settings, in the names of OpenAI Chat, Responses and Anthropic.
            | b"stream"
            | b"stream_options"
            | b"include_usage"
            | b"include_obfuscation"
            | b"max_tokens"
            | b"max_completion_tokens"
            | b"max_output_tokens"
            | b"temperature"
            | b"top_p"
            | b"top_k"
            | b"top_a"
            | b"min_p"
            | b"stop"
            | b"stop_sequences"
            | b"seed"
            | b"random_seed"
            | b"n"
            | b"presence_penalty"
            | b"frequency_penalty"
            | b"repetition_penalty"
            | b"logprobs"
            | b"top_logprobs"
            | b"user"
            | b"user_id"
            | b"metadata"
            | b"safety_identifier"
            | b"prompt_cache_key"
            | b"prompt_cache_retention"
            | b"service_tier"
            | b"speed"
            | b"store"
            | b"truncation"
            | b"include"
            | b"background"
            | b"verbosity"
            | b"modalities"
            | b"response_format"
            | b"format"
            | b"parallel_tool_calls"
            | b"reasoning"
            | b"reasoning_effort"
            | b"effort"
            | b"summary"
            | b"enabled"
            | b"exclude"
            | b"include_reasoning"
            | b"thinking"
            | b"enable_thinking"
            | b"thinking_budget"
            | b"budget_tokens"
            | b"display"
            | b"output_config"
            // Settings of Gemini, in both of its styles.
            | b"generationConfig"
            | b"generation_config"
            | b"maxOutputTokens"
            | b"topP"
            | b"topK"
            | b"stopSequences"
            | b"candidateCount"
            | b"candidate_count"
            | b"presencePenalty"
            | b"frequencyPenalty"
            | b"responseMimeType"
            | b"response_mime_type"
            | b"responseModalities"
            | b"thinkingConfig"
            | b"thinking_config"
            | b"thinkingBudget"
            | b"thinkingLevel"
            | b"includeThoughts"
            | b"serviceTier"
            | b"safetySettings"
            | b"safety_settings"
            | b"category"
            | b"threshold"
            // Embeddings.
            | b"encoding_format"
            | b"dimensions"
            | b"requests"
            | b"taskType"
            | b"task_type"
            | b"outputDimensionality"
            | b"output_dimensionality"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_names_are_plain() {
        for (body, plain) in [
            (
                r#"{"model":"m","messages":[{"role":"user","content":"a \"url\": x, \\"}]}"#,
                true,
            ),
            (r#"{"model" : "file_id", "input":["file_id","image_url"]}"#, true),
            (
                r#"{"model":"m","input":"https://a.example/file?data=search tools _id"}"#,
                true,
            ),
            (r#"{"mod\u0065l":"m"}"#, false),
            (r#"{"m\/odel":"m"}"#, false),
            (r#"{"id":"m"}"#, false),
            ("{\"conversation\" \n\t : \"c\"}", false),
            (r#"{"input":[{"type":"x","next_years_field":1}]}"#, false),
            (r#"{"messages":[{"role":"system","content":"fileid://file-1"}]}"#, false),
            (
                r#"{"messages":[{"role":"system","content":"\u0066ileid:\/\/file-1"}]}"#,
                false,
            ),
            (r#"{"input":"caf\u00e9 \u4e2d"}"#, true),
            (r#"{"input":"never ends"#, false),
            (r#"{"input":"\"#, false),
            ("{}", true),
        ] {
            assert_eq!(is_plain(body.as_bytes()), plain, "{body}");
        }
    }
}
