//! What the names of OpenAI's own models say, for both of its dialects.

use crate::ir::{LossReport, Request, Wish};

/// True for models which refuse `temperature` and `top_p` other than 1 ("Unsupported parameter … is not supported with this model"):
/// the o-series and GPT-5, and later ones while they reason (OpenAI's guide "Using GPT-5.2": these settings are taken only with
/// effort `none`). `reasons`: reasoning is not switched off.
pub(super) fn has_fixed_sampling(model: &str, reasons: bool) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model).to_ascii_lowercase();
    let name = name.strip_prefix("ft:").unwrap_or(&name);
    if name.contains("-chat") {
        return false;
    }
    if let Some(rest) = name.strip_prefix('o') {
        return rest.starts_with(|c: char| c.is_ascii_digit());
    }
    let Some(version) = name.strip_prefix("gpt-") else {
        return false;
    };
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    match digits.parse::<u32>() {
        Ok(5) if version == "5" || version.starts_with("5-") => true,
        Ok(5..) => reasons,
        _ => false,
    }
}

/// Takes out of another dialect's request what the model would refuse. The dialects' own clients know their model.
pub(super) fn adapt(request: &mut Request, model: &str, loss: &mut LossReport) {
    let reasons = request.reasoning.wish().0 != Wish::Off;
    if !has_fixed_sampling(model, reasons) {
        return;
    }
    for setting in [&mut request.sampling.temperature, &mut request.sampling.top_p] {
        if let Some(set) = setting.take_if(|set| set.value != 1.0) {
            loss.dropped(set.at, "the model reasons, and takes no sampling settings");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_who_takes_no_sampling() {
        for (model, reasons, fixed) in [
            ("o3-mini", true, true),
            ("openai/gpt-5", false, true),
            ("gpt-5-mini-2025-08-07", false, true),
            ("gpt-5.2", true, true),
            ("gpt-5.2", false, false),
            ("gpt-6-sol", true, true),
            ("gpt-5-chat-latest", true, false),
            ("gpt-4o", true, false),
            ("gpt-oss-120b", true, false),
            ("olmo-3", true, false),
            ("deepseek-chat", true, false),
        ] {
            assert_eq!(has_fixed_sampling(model, reasons), fixed, "{model}");
        }
    }
}
