//! Paths to what rules change in a body: dotted, with the gateway's own words for what the dialects share.
//!
//! `temperature`, `generationConfig.thinkingConfig`, `chat_template_kwargs.enable_thinking`; `\.` is a dot within a name, `\\` a
//! backslash. A first segment that is one of the gateway's words ([`Dialect::setting`]) stands for wherever the dialect has that
//! setting; any other path is the dialect's own.

use super::{ALL, Dialect};

/// Most segments of a path.
pub const MAX_SEGMENTS: usize = 16;

/// Top-level fields which no rule may change: the gateway sets or has read them, and they are what was asked.
pub const FIXED: [&str; 6] = [
    "model",
    "stream",
    "messages",
    "input",
    "contents",
    "generateContentRequest",
];

/// Why a path leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A name in it is empty, or a backslash stands before something else than a dot or a backslash.
    #[error(r"`{0}` is not a path: names with dots between them, `\.` for a dot within a name")]
    Malformed(String),
    /// Longer than [`MAX_SEGMENTS`].
    #[error("`{0}` has more than {MAX_SEGMENTS} names")]
    TooLong(String),
    /// One of [`FIXED`].
    #[error(
        "`{0}` can't be changed: it is what the client asked, and the gateway has routed by it; a target names its model"
    )]
    Fixed(String),
}

/// The names of a dotted path, as written.
pub fn split(path: &str) -> Result<Vec<String>, PathError> {
    let malformed = || PathError::Malformed(path.to_owned());
    let mut segments = vec![String::new()];
    let mut chars = path.chars();
    while let Some(c) = chars.next() {
        let escaped = match c {
            '.' => {
                segments.push(String::new());
                continue;
            }
            '\\' => chars.next().filter(|c| matches!(c, '.' | '\\')).ok_or_else(malformed)?,
            c => c,
        };
        if let Some(last) = segments.last_mut() {
            last.push(escaped);
        }
    }
    if segments.len() > MAX_SEGMENTS {
        return Err(PathError::TooLong(path.to_owned()));
    }
    match segments.iter().any(String::is_empty) {
        true => Err(malformed()),
        false => Ok(segments),
    }
}

/// True if some dialect has a setting of that name.
pub fn is_word(word: &str) -> bool {
    ALL.iter().any(|dialect| dialect.setting(word).is_some())
}

/// Where a dialect has what one of the gateway's words means, as a dotted path whose names have no dots in them; a word that is none is a
/// field. `None`: the dialect does not have it.
pub fn place<'a>(dialect: &dyn Dialect, word: &'a str) -> Option<&'a str> {
    match dialect.setting(word) {
        None if is_word(word) => None,
        place => Some(place.unwrap_or(word)),
    }
}

/// Where a path leads in the bodies of a dialect; `None`: it begins with a word for a setting which the dialect does not have.
pub fn resolve(dialect: &dyn Dialect, path: &str) -> Result<Option<Vec<String>>, PathError> {
    let mut segments = split(path)?;
    let Some(place) = place(dialect, &segments[0]) else {
        return Ok(None);
    };
    if place != segments[0] {
        let place: Vec<String> = place.split('.').map(str::to_owned).collect();
        segments.splice(..1, place);
    }
    if FIXED.iter().any(|name| dialect.same_field(name, &segments[0])) {
        return Err(PathError::Fixed(path.to_owned()));
    }
    Ok(Some(segments))
}

/// A path that rules may change, whichever dialect their providers turn out to speak; else what is wrong with it.
pub fn check(path: &str) -> Result<(), PathError> {
    ALL.iter().try_for_each(|dialect| resolve(*dialect, path).map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialects::by_name;

    fn dialect(name: &str) -> &'static dyn Dialect {
        by_name(name).expect("a dialect")
    }

    #[test]
    fn paths_lead_where_the_dialect_has_it() {
        let of = |name: &str, path: &str| resolve(dialect(name), path).map(|path| path.map(|path| path.join("/")));
        let cases = [
            ("openai_chat", "max_output_tokens", Some("max_tokens")),
            ("anthropic", "max_output_tokens", Some("max_tokens")),
            ("openai_responses", "reasoning_effort", Some("reasoning/effort")),
            ("gemini", "temperature", Some("generationConfig/temperature")),
            (
                "openai_chat",
                "stream_options.include_usage",
                Some("stream_options/include_usage"),
            ),
            ("openai_chat", r"a\.b.c\\", Some(r"a.b/c\")),
            ("anthropic", "thinking.budget_tokens", Some("thinking/budget_tokens")),
            ("anthropic", "seed", None),
            ("openai_responses", "top_k", None),
        ];
        for (name, path, want) in cases {
            assert_eq!(of(name, path), Ok(want.map(str::to_owned)), "{name} {path}");
        }
    }

    #[test]
    fn paths_that_lead_nowhere_are_refused() {
        for dialect in ALL {
            for path in ["", ".", "a.", ".a", "a..b", r"a\b", r"\"] {
                assert_eq!(resolve(*dialect, path), Err(PathError::Malformed(path.into())));
            }
            for path in FIXED.iter().copied().chain(["model.x", "messages.0"]) {
                assert_eq!(resolve(*dialect, path), Err(PathError::Fixed(path.into())));
                assert_eq!(check(path), Err(PathError::Fixed(path.into())));
            }
            let long = vec!["a"; MAX_SEGMENTS + 1].join(".");
            assert_eq!(resolve(*dialect, &long), Err(PathError::TooLong(long.clone())));
            assert!(resolve(*dialect, &long[2..]).is_ok());
        }
        let snake = resolve(dialect("gemini"), "generate_content_request");
        assert!(matches!(snake, Err(PathError::Fixed(_))), "in either style");
        let word = check("generate_content_request.x");
        assert!(matches!(word, Err(PathError::Fixed(_))), "in any dialect");
        for path in ["temperature", "seed", r"a\.b.c", "generationConfig.seed"] {
            assert_eq!(check(path), Ok(()), "{path}");
        }
    }
}
