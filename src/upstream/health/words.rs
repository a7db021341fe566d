//! What a provider says of a check, fit to be shown: short, printable, and nothing of the key. Providers quote keys in
//! their errors, often with the middle starred out.

use crate::config::Secret;
use crate::observe::redact::printable;

/// Longest text kept of a check, in bytes.
const MAX_WORDS: usize = 300;

/// A run of so many bytes of the key gives a word away ...
const RUN: usize = 6;

/// ... where part of the word is left out, fewer do.
const RUN_IN_CUT: usize = 3;

/// The text without every word that holds a part of the key.
pub(super) fn without_key(text: &str, key: Option<&Secret>) -> String {
    let text = printable(text, MAX_WORDS);
    let Some(key) = key.map(|key| key.expose().as_bytes()).filter(|key| !key.is_empty()) else {
        return text.into_owned();
    };
    let tells = |word: &str| {
        let is_cut = word.contains(['*', '…']) || word.contains("...");
        let run = if is_cut { RUN_IN_CUT } else { RUN };
        let mut runs = key.windows(run.min(key.len()));
        runs.any(|run| memchr::memmem::find(word.as_bytes(), run).is_some())
    };
    let words = text
        .split_whitespace()
        .map(|word| if tells(word) { "***" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_the_key_is_left() {
        let key = Secret::new("sk-canary-0123456789-wxyz");
        for (said, told) in [
            (
                "Incorrect API key provided: sk-canary-0123456789-wxyz.",
                "Incorrect API key provided: ***",
            ),
            (
                "Incorrect API key provided: sk-ca****wxyz. See docs.",
                "Incorrect API key provided: *** See docs.",
            ),
            ("{\"key\":\"sk-canary-0123456789-wxyz\"}", "***"),
            ("the balance is\nspent", "the balance is\\nspent"),
            ("key cana...77", "key ***"),
            ("a canal and an 0123", "a canal and an 0123"),
            ("", ""),
        ] {
            assert_eq!(without_key(said, Some(&key)), told);
        }
        assert_eq!(without_key("key x", Some(&Secret::new("x"))), "key ***");
        assert_eq!(without_key("as it is", None), "as it is");
        assert!(without_key(&"é".repeat(1000), Some(&key)).len() <= MAX_WORDS);
    }
}
