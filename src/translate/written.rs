//! What an answer says, as far as a count of its tokens needs it where its provider reports none: characters, and the text itself where a
//! tokenizer could count it.

use super::estimate::Characters;
use crate::dialects::Tokenizer;

/// Most of an answer's text that is kept for its tokenizer, in bytes. What is beyond counts as the kept does.
pub const TEXT_KEPT: usize = 256 * 1024;

/// Tokens around each call of a tool, beside its name and arguments (ours: OpenAI's models take 7 to 18, Gemini's and most open ones 10 to 16,
/// Claude's 35 to 60; measured by `tests/wire/tokens.rs`).
const PER_CALL: u64 = 12;

/// Tokens of a picture in an answer: the most that Gemini's models take for one (4K; "Image generation", 1120 to 2520).
const PER_PICTURE: u64 = 2520;

/// Bytes of base64 for a token of sound: streams of sound are PCM of 24 kHz and 16 bits (OpenAI, "Audio and speech"; Gemini, "Speech generation"), 64,000
/// such bytes a second, for which they take up to 32 tokens.
const BYTES_PER_SOUND_TOKEN: u64 = 2000;

/// What was written so far.
#[derive(Clone, Debug, Default)]
pub struct Written {
    all: Characters,
    calls: u64,
    pictures: u64,
    /// Bytes of sound in base64.
    sound: u64,
    /// The medium whose bytes come is a picture.
    in_picture: bool,
    kept: Option<Text>,
}

/// A text for a tokenizer, or the beginning of one.
#[derive(Clone, Debug, Default)]
pub struct Text {
    text: String,
    kept: Characters,
    all: Characters,
    calls: u64,
}

impl Written {
    /// From now on keeps the text too.
    pub fn keep_text(&mut self) {
        self.kept = Some(Text::default());
    }

    /// Adds a call of a tool, whose arguments follow.
    pub fn call(&mut self, name: &str) {
        self.calls += 1;
        self.add(name);
    }

    /// Adds a piece.
    pub fn add(&mut self, text: &str) {
        self.all.add(text);
        if let Some(kept) = &mut self.kept
            && kept.text.len() + text.len() <= TEXT_KEPT
        {
            kept.text.push_str(text);
            kept.kept.add(text);
        }
    }

    /// A picture begins, or something else whose bytes follow.
    pub fn medium(&mut self, is_picture: bool) {
        self.in_picture = is_picture;
        self.pictures += u64::from(is_picture);
    }

    /// So many bytes of base64 of it.
    pub fn data(&mut self, bytes: usize) {
        if !self.in_picture {
            self.sound += bytes as u64;
        }
    }

    /// An estimate of the tokens of pictures in it.
    pub fn picture_tokens(&self) -> u64 {
        self.pictures.saturating_mul(PER_PICTURE)
    }

    /// An estimate of the tokens of sound in it.
    pub fn sound_tokens(&self) -> u64 {
        self.sound.div_ceil(BYTES_PER_SOUND_TOKEN)
    }

    /// An estimate of the tokens of its text.
    pub fn tokens(&self) -> u64 {
        self.all.tokens() + self.calls * PER_CALL
    }

    /// The text, to be counted elsewhere; `None`: it was not kept.
    pub fn text(&self) -> Option<Text> {
        let mut text = self.kept.clone()?;
        (text.all, text.calls) = (self.all, self.calls);
        Some(text)
    }
}

impl Text {
    /// Bytes to be counted.
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// Nothing was written.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Its tokens: counted, as far as it was kept; the rest in proportion to the estimate.
    pub fn tokens(&self, tokenizer: &dyn Tokenizer) -> u64 {
        let counted = tokenizer.count(&self.text);
        in_proportion(self.all.tokens(), counted, self.kept.tokens()) + self.calls * PER_CALL
    }
}

/// `estimate`, corrected by what a part of the text was counted to have and estimated to have.
pub fn in_proportion(estimate: u64, counted: u64, estimated: u64) -> u64 {
    if estimated == 0 {
        return estimate;
    }
    let corrected = u128::from(estimate) * u128::from(counted) / u128::from(estimated);
    u64::try_from(corrected).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A token a byte.
    struct Bytes;

    impl Tokenizer for Bytes {
        fn name(&self) -> &'static str {
            "bytes"
        }

        fn is_loaded(&self) -> bool {
            true
        }

        fn count(&self, text: &str) -> u64 {
            text.len() as u64
        }
    }

    #[test]
    fn a_text_is_kept_only_on_demand_and_within_its_bound() {
        let mut written = Written::default();
        written.add("abcd");
        assert!(written.text().is_none());
        assert_eq!(written.tokens(), 1);

        let mut written = Written::default();
        written.keep_text();
        assert!(written.text().unwrap().is_empty());
        for _ in 0..5 {
            written.add(&"abcd".repeat(TEXT_KEPT / 16));
        }
        let text = written.text().unwrap();
        assert_eq!(text.len(), TEXT_KEPT);
        assert_eq!(
            text.tokens(&Bytes),
            TEXT_KEPT as u64 * 5 / 4,
            "the rest counts in proportion"
        );
    }

    #[test]
    fn a_call_has_tokens_of_its_own() {
        let mut written = Written::default();
        written.keep_text();
        written.call("find");
        assert_eq!(written.tokens(), 1 + PER_CALL);
        assert_eq!(written.text().unwrap().tokens(&Bytes), 4 + PER_CALL);
    }

    #[test]
    fn pictures_and_sound_have_tokens() {
        let mut written = Written::default();
        written.medium(true);
        written.data(5_000_000);
        written.medium(false);
        (0..64).for_each(|_| written.data(1000));
        assert_eq!((written.picture_tokens(), written.sound_tokens()), (PER_PICTURE, 32));
        assert_eq!(written.tokens(), 0);
    }

    #[test]
    fn proportions_hold_at_the_ends() {
        assert_eq!(in_proportion(7, 0, 0), 7);
        assert_eq!(in_proportion(100, 30, 20), 150);
        assert_eq!(in_proportion(u64::MAX, 3, 2), u64::MAX);
    }
}
