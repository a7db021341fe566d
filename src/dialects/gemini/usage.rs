//! Usage written: `usageMetadata`.

use serde_json::{Value, json};

use crate::ir::Usage;

/// The totals and their parts (reference of `UsageMetadata`): thoughts stand beside the candidates' tokens, what was
/// cached within the prompt's. Audio has details of its own.
pub(super) fn metadata(usage: &Usage) -> Value {
    let visible = usage.output.saturating_add(usage.output_audio);
    let mut out = json!({
        "promptTokenCount": usage.input_total(),
        "candidatesTokenCount": visible,
        "totalTokenCount": usage.input_total().saturating_add(usage.output_total()),
    });
    if usage.cache_read_told() > 0 {
        out["cachedContentTokenCount"] = usage.cache_read_told().into();
    }
    if usage.reasoning > 0 {
        out["thoughtsTokenCount"] = usage.reasoning.into();
    }
    let details = |audio: u64, all: u64| {
        json!([
            {"modality": "AUDIO", "tokenCount": audio},
            {"modality": "TEXT", "tokenCount": all.saturating_sub(audio)},
        ])
    };
    if usage.input_audio > 0 {
        out["promptTokensDetails"] = details(usage.input_audio, usage.input_total());
    }
    if usage.output_audio > 0 {
        out["candidatesTokensDetails"] = details(usage.output_audio, visible);
    }
    out
}
