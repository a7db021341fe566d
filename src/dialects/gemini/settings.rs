//! Where the gateway's words for settings stand in bodies (reference of `GenerationConfig`).

pub(super) fn path(word: &str) -> Option<&'static str> {
    Some(match word {
        "max_output_tokens" => "generationConfig.maxOutputTokens",
        "temperature" => "generationConfig.temperature",
        "top_p" => "generationConfig.topP",
        "top_k" => "generationConfig.topK",
        "stop" => "generationConfig.stopSequences",
        "seed" => "generationConfig.seed",
        "n" => "generationConfig.candidateCount",
        "presence_penalty" => "generationConfig.presencePenalty",
        "frequency_penalty" => "generationConfig.frequencyPenalty",
        // Gemini 3 and later; older models know a budget in tokens only.
        "reasoning_effort" => "generationConfig.thinkingConfig.thinkingLevel",
        "service_tier" => "serviceTier",
        _ => return None,
    })
}
