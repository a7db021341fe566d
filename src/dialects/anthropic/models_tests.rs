//! Names of models, and what is known by them.

use super::limits::{max_output, plain};
use super::models::Model;
use crate::ir::Effort;

#[test]
fn limits_are_found_by_the_beginning_of_a_name() {
    for (name, limit) in [
        ("claude-opus-4-5", Some(64_000)),
        ("claude-opus-4-5-20251101", Some(64_000)),
        ("anthropic/claude-opus-4.5", Some(64_000)),
        ("us.anthropic.claude-opus-4-6-v1:0", Some(128_000)),
        ("claude-sonnet-4@20250514", Some(64_000)),
        ("claude-opus-4-1-20250805", Some(32_000)),
        ("claude-opus-5-5", Some(128_000)),
        ("claude-3-haiku-20240307", Some(4096)),
        ("claude-3-5-haiku-latest", Some(8192)),
        ("glm-4.6", Some(128_000)),
        ("claude-opus-50", None),
        ("my-model", None),
    ] {
        assert_eq!(max_output(name), limit, "{name}");
    }
    assert_eq!(plain("Anthropic/Claude-Opus-4.5"), "claude-opus-4-5");
}

#[test]
fn generations_are_told_apart() {
    let model = |name| Model::of(name).expect("of known form");
    assert!(Model::of("claude-latest").is_none() && Model::of("glm-4.6").is_none());
    for (name, thinks, budget, adaptive, fixed) in [
        ("claude-3-5-sonnet-20241022", false, false, false, false),
        ("claude-3-7-sonnet-latest", true, true, false, false),
        ("claude-sonnet-4-20250514", true, true, false, false),
        ("claude-haiku-4-5", true, true, false, false),
        ("claude-opus-4-6", true, true, true, false),
        ("claude-opus-4-7-20260416", true, false, true, true),
        ("claude-mythos-preview", true, false, true, true),
        ("claude-haiku-5-5", true, false, true, true),
    ] {
        let m = model(name);
        let known = (m.thinks(), m.takes_budget(), m.takes_adaptive(), m.refuses_sampling());
        assert_eq!(known, (thinks, budget, adaptive, fixed), "{name}");
    }
    assert_eq!(model("claude-opus-4-5").effort(Effort::Max), Some(Effort::High));
    assert_eq!(model("claude-sonnet-4-5").effort(Effort::Low), None);
    assert_eq!(model("claude-sonnet-5").effort(Effort::Minimal), Some(Effort::Low));
    assert!(!model("claude-opus-5").always_thinks() && model("claude-opus-5-5").always_thinks());
    assert!(model("claude-sonnet-5-5").thinks_between_tools() && !model("claude-haiku-5-5").refuses_forced_tools());
    assert!(!model("claude-sonnet-4").takes_one_sampler() && model("claude-opus-4-1").takes_one_sampler());
}
