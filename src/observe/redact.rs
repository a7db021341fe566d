//! Keeps secrets and control characters out of what is printed.

use std::borrow::Cow;
use std::fmt::Write;

use memchr::memmem;

use crate::config::Secret;

/// Replaces control characters by their escapes and cuts at `max` bytes, at a character border. An escape is never cut
/// in two, so the result may be a few bytes shorter than `max`.
pub fn printable(text: &str, max: usize) -> Cow<'_, str> {
    let mut cut = text.len().min(max);
    while !text.is_char_boundary(cut) {
        cut -= 1;
    }
    let text = &text[..cut];
    // All bytes at once: hardly any text has another, and the compiler makes vector instructions of it.
    let plain = text
        .bytes()
        .fold(true, |plain, byte| plain & (b' '..=b'~').contains(&byte));
    if plain || !text.chars().any(is_control) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        let before = out.len();
        push_escaped(&mut out, character);
        if out.len() > max {
            out.truncate(before);
            break;
        }
    }
    out.into()
}

/// Escapes control characters as JSON does (`\n`, `\u001b`): what a terminal would act on (C0, DEL, C1), and the
/// characters beyond ASCII which some readers take for a line's end or which turn the direction of writing.
pub(super) fn push_escaped(out: &mut String, character: char) {
    match character {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        other if is_control(other) => {
            // Writing to a String can't fail.
            let _ = write!(out, "\\u{:04x}", other as u32);
        }
        other => out.push(other),
    }
}

/// Whether a character is escaped where text is printed.
pub(super) fn is_control(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What stands where a secret stood.
const MASK: &str = "***";

/// Replaces known secrets by `***`. For error bodies of providers, which echo keys (HARDENING S5), and for log texts;
/// not for streams of answers.
#[derive(Clone, Debug, Default)]
pub struct Masker {
    /// Longest first, so that a secret which contains another is replaced whole.
    secrets: Vec<Secret>,
}

impl Masker {
    /// Shortest secret that is looked for, in bytes: a shorter one would be found by chance.
    pub const MIN_LEN: usize = 8;

    /// A masker for these secrets; those shorter than [`Masker::MIN_LEN`] are left out.
    pub fn new(secrets: &[Secret]) -> Self {
        let mut secrets: Vec<Secret> = secrets
            .iter()
            .filter(|secret| secret.expose().len() >= Self::MIN_LEN)
            .cloned()
            .collect();
        secrets.sort_by(|a, b| (b.expose().len(), b.expose()).cmp(&(a.expose().len(), a.expose())));
        secrets.dedup_by(|a, b| a.expose() == b.expose());
        Masker { secrets }
    }

    /// The bytes without the secrets. Borrowed if there was none.
    pub fn mask_bytes<'a>(&self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let mut masked = Cow::Borrowed(bytes);
        for secret in &self.secrets {
            let needle = secret.expose().as_bytes();
            // Nothing is copied for the secrets which are not there, that is: nearly always.
            let Some(first) = memmem::find(&masked, needle) else {
                continue;
            };
            let mut out = Vec::with_capacity(masked.len());
            let mut rest = &masked[..];
            let mut found = Some(first);
            while let Some(at) = found {
                out.extend_from_slice(&rest[..at]);
                out.extend_from_slice(MASK.as_bytes());
                rest = &rest[at + needle.len()..];
                found = memmem::find(rest, needle);
            }
            out.extend_from_slice(rest);
            masked = Cow::Owned(out);
        }
        masked
    }

    /// The text without the secrets. Borrowed if there was none.
    pub fn mask<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.mask_bytes(text.as_bytes()) {
            Cow::Borrowed(_) => text.into(),
            // Text stays text: what is replaced is text itself, and so starts and ends at character borders.
            Cow::Owned(bytes) => String::from_utf8_lossy(&bytes).into_owned().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_text_is_cut_at_a_border() {
        for (text, max, expected) in [
            ("plain", 10, "plain"),
            ("plain", 3, "pla"),
            ("añb", 2, "a"),
            ("a\nb\r\tc", 100, "a\\nb\\r\\tc"),
            ("\u{1b}[31m", 100, "\\u001b[31m"),
            ("\u{7f}\u{9b}", 100, "\\u007f\\u009b"),
            ("\u{202e}x\u{2028}", 100, "\\u202ex\\u2028"),
            ("ab\u{1b}", 7, "ab"),
            ("", 0, ""),
        ] {
            assert_eq!(printable(text, max), expected, "{text:?} at {max}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_printable_has_no_control_character_and_keeps_the_limit(text: String, max in 0usize..64) {
            let out = printable(&text, max);
            proptest::prop_assert!(out.len() <= max);
            proptest::prop_assert!(!out.chars().any(is_control));
        }

        #[test]
        fn no_secret_survives_wherever_it_stands(
            before in "[ -~]{0,20}", between in "[ -~]{0,20}", secret in "[a-zA-Z0-9_-]{8,40}",
        ) {
            let masker = Masker::new(&[Secret::new(secret.clone())]);
            let text = format!("{before}{secret}{between}{secret}");
            let masked = masker.mask(&text);
            proptest::prop_assert!(!masked.contains(&secret));
            proptest::prop_assert!(masked.starts_with(&before));
            let bytes = masker.mask_bytes(text.as_bytes());
            proptest::prop_assert_eq!(masked.as_bytes(), bytes.as_ref());
        }
    }

    #[test]
    fn a_secret_within_a_longer_one_leaves_no_rest_of_it() {
        let masker = Masker::new(&[
            Secret::new("abcdefgh"),
            Secret::new("abcdefgh-more"),
            Secret::new("abcdefgh"),
        ]);
        assert_eq!(masker.mask("key abcdefgh-more, key abcdefgh."), "key ***, key ***.");
    }

    #[test]
    fn short_secrets_are_not_looked_for_and_clean_text_is_not_copied() {
        let masker = Masker::new(&[Secret::new("short"), Secret::new("")]);
        assert!(matches!(masker.mask("a short text"), Cow::Borrowed("a short text")));
    }

    #[test]
    fn bytes_which_are_no_text_are_kept() {
        let masker = Masker::new(&[Secret::new("sk-12345678")]);
        assert_eq!(&*masker.mask_bytes(b"\xff\x00sk-12345678\xfe"), b"\xff\x00***\xfe");
    }

    #[test]
    fn a_masker_does_not_print_its_secrets() {
        assert!(!format!("{:?}", Masker::new(&[Secret::new("sk-canary-123")])).contains("canary"));
    }
}
