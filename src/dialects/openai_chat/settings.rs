//! Where the gateway's words for settings stand in bodies.

/// Both names of the same limit: providers know one or the other, and OpenAI refuses a body with both.
const LIMITS: [&str; 2] = ["max_tokens", "max_completion_tokens"];

/// OpenAI's reference of "Create chat completion", and `top_k`, which most others take.
pub(super) fn path(word: &str) -> Option<&'static str> {
    Some(match word {
        // The older name: every provider but OpenAI knows it, and OpenAI does for all models which don't reason. Where the body
        // has the newer one, that is meant (see `same`).
        "max_output_tokens" => "max_tokens",
        "temperature" => "temperature",
        "top_p" => "top_p",
        "top_k" => "top_k",
        "stop" => "stop",
        "seed" => "seed",
        "n" => "n",
        "presence_penalty" => "presence_penalty",
        "frequency_penalty" => "frequency_penalty",
        "reasoning_effort" => "reasoning_effort",
        "verbosity" => "verbosity",
        "parallel_tool_calls" => "parallel_tool_calls",
        "service_tier" => "service_tier",
        "user" => "user",
        "cache_key" => "prompt_cache_key",
        "stream_options" => "stream_options",
        _ => return None,
    })
}

/// The limit's two names are one field.
pub(super) fn same(one: &str, other: &str) -> bool {
    one == other || (LIMITS.contains(&one) && LIMITS.contains(&other))
}
