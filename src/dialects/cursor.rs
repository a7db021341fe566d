//! A place in JSON text, and how to pass what stands there. Both readers of JSON stand on it: the check of request
//! bodies ([`json`](super::json)) and the reading of answers ([`read`](super::read)). It allocates nothing but the text
//! of strings with escapes; most bytes are long strings, and those are passed 64 at a time.

use std::borrow::Cow;

use super::MAX_DEPTH;

/// What is wrong at the cursor. One byte, so that passing a value costs no more than the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    Early,
    EarlyInString,
    Object,
    Colon,
    Value,
    Key,
    CommaOrEnd,
    Escape,
    Control,
    Zero,
    Digit,
    Range,
    After,
    Utf8,
    /// A field stands twice.
    Twice,
    /// Nested deeper than [`MAX_DEPTH`], where that is a limit.
    TooDeep,
}

impl Wrong {
    /// In words, without any of the text.
    pub(super) fn why(self) -> &'static str {
        match self {
            Wrong::Early => "it ends too early",
            Wrong::EarlyInString => "it ends within a string",
            Wrong::Object => "expected an object",
            Wrong::Colon => "expected `:`",
            Wrong::Value => "expected a value",
            Wrong::Key => "expected a key",
            Wrong::CommaOrEnd => "expected `,` or the end of the array or object",
            Wrong::Escape => "a wrong escape in a string",
            Wrong::Control => "a control character in a string",
            Wrong::Zero => "a number with a leading zero",
            Wrong::Digit => "expected a digit",
            Wrong::Range => "a number out of range",
            Wrong::After => "something stands after the object",
            Wrong::Utf8 => "not UTF-8",
            Wrong::Twice => "a field stands twice",
            Wrong::TooDeep => "nested too deep",
        }
    }
}

/// A place in `text`. After an error it is where the error is.
pub(super) struct Cursor<'a> {
    pub(super) text: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Cursor<'a> {
    /// At the beginning.
    pub(super) fn new(text: &'a [u8]) -> Self {
        Cursor { text, at: 0 }
    }

    /// The byte at the cursor.
    #[inline]
    pub(super) fn byte(&self) -> Result<u8, Wrong> {
        self.text.get(self.at).copied().ok_or(Wrong::Early)
    }

    /// Passes white space.
    #[inline]
    pub(super) fn white_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.text.get(self.at) {
            self.at += 1;
        }
    }

    /// Passes white space; the byte which then is at the cursor.
    #[inline]
    pub(super) fn next(&mut self) -> Result<u8, Wrong> {
        match self.text.get(self.at) {
            Some(&byte) if byte > b' ' => Ok(byte),
            _ => {
                self.white_space();
                self.byte()
            }
        }
    }

    /// Passes white space to the end of the text.
    pub(super) fn end(&mut self) -> Result<(), Wrong> {
        self.white_space();
        if self.at == self.text.len() {
            Ok(())
        } else {
            Err(Wrong::After)
        }
    }

    /// Passes the opening brace or bracket at the cursor. True if something stands before the closing one `close`, which
    /// is passed otherwise.
    #[inline]
    pub(super) fn open(&mut self, close: u8) -> Result<bool, Wrong> {
        self.at += 1;
        let some = self.next()? != close;
        self.at += usize::from(!some);
        Ok(some)
    }

    /// After a member or an element: passes the comma, or the closing brace or bracket. True if another one follows.
    #[inline]
    pub(super) fn more(&mut self, close: u8) -> Result<bool, Wrong> {
        let byte = self.next()?;
        if byte == b',' || byte == close {
            self.at += 1;
            return Ok(byte == b',');
        }
        Err(Wrong::CommaOrEnd)
    }

    /// Passes a key and its colon. Returns what is between the quotes, and whether there are escapes in it.
    #[inline]
    pub(super) fn raw_key(&mut self) -> Result<(&'a [u8], bool), Wrong> {
        if self.next()? != b'"' {
            return Err(Wrong::Key);
        }
        let key = self.string()?;
        if self.next()? != b':' {
            return Err(Wrong::Colon);
        }
        self.at += 1;
        self.next()?;
        Ok(key)
    }

    /// Passes a key and its colon. Returns what `of` says of the key, whose escapes are resolved.
    #[inline]
    pub(super) fn key<T>(&mut self, of: impl Fn(&[u8]) -> T) -> Result<T, Wrong> {
        let start = self.at + 1;
        // The usual key: short, in compact JSON.
        if self.byte()? == b'"'
            && let Some(raw) = self.short(start)
            && let Some([b'"', b':']) = self.text.get(start + raw.len()..start + raw.len() + 2)
        {
            self.at = start + raw.len() + 2;
            self.next()?;
            return Ok(of(raw));
        }
        self.other_key(of)
    }

    #[cold]
    fn other_key<T>(&mut self, of: impl Fn(&[u8]) -> T) -> Result<T, Wrong> {
        Ok(match self.raw_key()? {
            (raw, false) => of(raw),
            (raw, true) => of(unescape(raw)?.as_bytes()),
        })
    }

    /// The string whose text begins at `start`, if it ends within 32 bytes and has no escapes.
    #[inline(always)]
    fn short(&self, start: usize) -> Option<&'a [u8]> {
        let rest = self.text.get(start..)?;
        let (words, _) = rest.first_chunk::<32>()?.as_chunks::<8>();
        for (index, word) in words.iter().enumerate() {
            let hits = special_in(u64::from_le_bytes(*word));
            if hits != 0 {
                let length = index * 8 + (hits.trailing_zeros() / 8) as usize;
                return if rest[length] == b'"' {
                    Some(&rest[..length])
                } else {
                    None
                };
            }
        }
        None
    }

    /// Passes a string; the cursor is on its opening quote. Returns what is between the quotes, and whether there are
    /// escapes in it.
    #[inline]
    pub(super) fn string(&mut self) -> Result<(&'a [u8], bool), Wrong> {
        if let Some(raw) = self.short(self.at + 1) {
            self.at += raw.len() + 2;
            return Ok((raw, false));
        }
        self.long_string()
    }

    fn long_string(&mut self) -> Result<(&'a [u8], bool), Wrong> {
        let start = self.at + 1;
        let mut escapes = false;
        self.at = start;
        loop {
            self.at = special(self.text, self.at);
            match self.text.get(self.at) {
                Some(b'"') => {
                    let raw = &self.text[start..self.at];
                    self.at += 1;
                    return Ok((raw, escapes));
                }
                Some(b'\\') => {
                    escapes = true;
                    match self.text.get(self.at + 1) {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
                        Some(b'u') => {
                            let digits = self.text.get(self.at + 2..self.at + 6).unwrap_or(&[]);
                            if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
                                return Err(Wrong::Escape);
                            }
                            self.at += 6;
                        }
                        _ => return Err(Wrong::Escape),
                    }
                }
                Some(_) => return Err(Wrong::Control),
                None => return Err(Wrong::EarlyInString),
            }
        }
    }

    /// Passes a string; the cursor is on its opening quote. Returns its text, borrowed where it has no escapes.
    #[inline]
    pub(super) fn string_text(&mut self) -> Result<Cow<'a, str>, Wrong> {
        match self.string()? {
            (raw, false) => std::str::from_utf8(raw).map(Cow::Borrowed).map_err(|_| Wrong::Utf8),
            (raw, true) => unescape(raw).map(Cow::Owned),
        }
    }

    /// Passes a number. Returns whether it is a whole one without sign, exponent and fraction.
    ///
    /// With `BOUND` it must fit a finite `f64`.
    #[inline]
    pub(super) fn number<const BOUND: bool>(&mut self) -> Result<bool, Wrong> {
        let start = self.at;
        let sign = self.text.get(self.at) == Some(&b'-');
        self.at += usize::from(sign);
        let whole = self.digits()?;
        if whole > 1 && self.text[self.at - whole] == b'0' {
            self.at = start;
            return Err(Wrong::Zero);
        }
        let fraction = self.text.get(self.at) == Some(&b'.');
        if fraction {
            self.at += 1;
            self.digits()?;
        }
        let exponent = matches!(self.text.get(self.at), Some(b'e' | b'E'));
        if exponent {
            self.at += 1;
            if let Some(b'+' | b'-') = self.text.get(self.at) {
                self.at += 1;
            }
            self.digits()?;
        }
        // Only these can be larger than the largest `f64` (309 digits).
        if BOUND && (exponent || whole > 300) && !float(&self.text[start..self.at]).is_some_and(f64::is_finite) {
            self.at = start;
            return Err(Wrong::Range);
        }
        Ok(!(sign || fraction || exponent))
    }

    #[inline]
    fn digits(&mut self) -> Result<usize, Wrong> {
        let start = self.at;
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        match self.at - start {
            0 => Err(Wrong::Digit),
            count => Ok(count),
        }
    }

    /// Passes a string, a number, or a word.
    #[inline]
    fn scalar<const BOUND: bool>(&mut self, first: u8) -> Result<(), Wrong> {
        let word: &[u8] = match first {
            b'"' => return self.string().map(|_| ()),
            b'-' | b'0'..=b'9' => return self.number::<BOUND>().map(|_| ()),
            b't' => b"true",
            b'f' => b"false",
            b'n' => b"null",
            _ => return Err(Wrong::Value),
        };
        if self.text[self.at..].starts_with(word) {
            self.at += word.len();
            return Ok(());
        }
        Err(Wrong::Value)
    }

    /// Passes a value, checking that it is well-formed.
    #[inline]
    pub(super) fn skip(&mut self) -> Result<(), Wrong> {
        match self.next()? {
            b'{' | b'[' => self.nested::<false>(),
            byte => self.scalar::<false>(byte),
        }
    }

    /// Passes a value of a client's, within the bounds of HARDENING H3: what is around it is a level of its own.
    #[inline]
    pub(super) fn skip_bounded(&mut self) -> Result<(), Wrong> {
        match self.next()? {
            b'{' | b'[' => self.nested::<true>(),
            byte => self.scalar::<true>(byte),
        }
    }

    /// Passes an object or array. Without `BOUND` as deep as it comes: its levels are told apart by one bit each, on
    /// the heap beyond the first 128, so that a provider's answer goes on being read.
    fn nested<const BOUND: bool>(&mut self) -> Result<(), Wrong> {
        // The innermost level is the lowest bit; 1 is an object.
        let mut levels: u128 = 0;
        let mut outer: Vec<u128> = Vec::new();
        let mut depth = 0;
        loop {
            // A value.
            let byte = self.next()?;
            if let b'{' | b'[' = byte {
                if BOUND && depth == MAX_DEPTH - 1 {
                    return Err(Wrong::TooDeep);
                }
                let object = byte == b'{';
                // The closing ones stand two behind the opening ones in ASCII.
                if self.open(byte + 2)? {
                    if depth > 0 && depth % 128 == 0 {
                        outer.push(levels);
                    }
                    depth += 1;
                    levels = levels << 1 | u128::from(object);
                    if object {
                        self.raw_key()?;
                    }
                    continue;
                }
            } else {
                self.scalar::<BOUND>(byte)?;
            }
            // It has ended, and maybe what it is in.
            loop {
                if depth == 0 {
                    return Ok(());
                }
                let object = levels & 1 == 1;
                if self.more(if object { b'}' } else { b']' })? {
                    if object {
                        self.raw_key()?;
                    }
                    break;
                }
                depth -= 1;
                levels >>= 1;
                if depth > 0 && depth % 128 == 0 {
                    levels = outer.pop().unwrap_or_default();
                }
            }
        }
    }
}

/// A number's text as `f64`; infinite if it is out of range.
pub(super) fn float(number: &[u8]) -> Option<f64> {
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// Resolves the escapes of a string that [`Cursor::string`] has passed.
#[inline(never)]
pub(super) fn unescape(raw: &[u8]) -> Result<String, Wrong> {
    let hex = |at: usize| {
        let digits = raw.get(at..at + 4).and_then(|digits| std::str::from_utf8(digits).ok());
        digits.and_then(|digits| u32::from_str_radix(digits, 16).ok())
    };
    let mut text = Vec::with_capacity(raw.len());
    let mut at = 0;
    while let Some(length) = memchr::memchr(b'\\', &raw[at..]) {
        text.extend_from_slice(&raw[at..at + length]);
        at += length + 2;
        text.push(match raw.get(at - 1) {
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => {
                let mut code = hex(at).ok_or(Wrong::Escape)?;
                at += 4;
                // RFC 8259, 7: what is beyond the basic plane comes as two surrogates.
                if let 0xd800..0xdc00 = code {
                    let low = hex(at + 2).filter(|low| raw[at..].starts_with(b"\\u") && (0xdc00..0xe000).contains(low));
                    code = 0x10000 + ((code - 0xd800) << 10) + (low.ok_or(Wrong::Escape)? - 0xdc00);
                    at += 6;
                }
                let char = char::from_u32(code).ok_or(Wrong::Escape)?;
                text.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            Some(&byte) => byte,
            None => return Err(Wrong::Escape),
        });
    }
    text.extend_from_slice(&raw[at..]);
    String::from_utf8(text).map_err(|_| Wrong::Utf8)
}

/// The offset of the first quote, backslash or control character at or after `at`; the length if there is none.
#[inline]
pub(super) fn special(body: &[u8], mut at: usize) -> usize {
    // Short strings end here: eight bytes in one word, then a hit's place from its lowest bit.
    let mut words = 0;
    while let Some(word) = body.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let hits = special_in(u64::from_le_bytes(*word));
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
        words += 1;
        if words == 4 {
            // A long string: 64 bytes at a time, in a form the compiler turns into vector instructions.
            while let Some(block) = body.get(at..).and_then(|rest| rest.first_chunk::<64>()) {
                let hit = block.iter().fold(0u8, |hit, &b| {
                    hit | u8::from(b == b'"') | u8::from(b == b'\\') | u8::from(b < 0x20)
                });
                if hit != 0 {
                    break;
                }
                at += 64;
            }
            // From here at most eight more words until the hit, or the end is near.
            words = 5;
        }
    }
    while let Some(&byte) = body.get(at) {
        if byte == b'"' || byte == b'\\' || byte < 0x20 {
            break;
        }
        at += 1;
    }
    at
}

/// Sets the highest bit of each byte of `word` that is a quote, a backslash or a control character. Bytes above the
/// lowest hit may be marked wrongly (borrows travel upwards), those below never are.
#[inline]
fn special_in(word: u64) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    // With this bit turned, a quote (0x22) is next to the control characters, and the space (0x20) is not.
    let quote_or_control = (word ^ (ONES * 0x02)).wrapping_sub(ONES * 0x21);
    let backslash = (word ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
    (quote_or_control | backslash) & !word & HIGH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_resolved_as_serde_json_does() {
        for text in [
            r#""plain""#,
            r#""\"\\\/\b\f\n\r\t""#,
            r#""a\u00e9b\ud83d\ude00c""#,
            r#""\ud83d""#,
            r#""\ude00""#,
            r#""\ud83d\u0041""#,
            r#""\ud83dx""#,
            r#""\u00g0""#,
            r#""\x""#,
            r#""unclosed"#,
            "\"a longer text, of more than thirty-two bytes \\n and an escape\"",
        ] {
            let ours = Cursor::new(text.as_bytes()).string_text().ok();
            let theirs: Option<String> = serde_json::from_str(text).ok();
            assert_eq!(ours.as_deref(), theirs.as_deref(), "{text}");
        }
    }

    #[test]
    fn an_answer_may_be_nested_as_deep_as_it_likes_a_request_may_not() {
        for depth in [1, 126, 127, 128, 129, 256, 257, 1000] {
            let text = format!("{}{}", "[{\"a\":".repeat(depth) + "1", "}]".repeat(depth));
            let mut cursor = Cursor::new(text.as_bytes());
            assert_eq!((cursor.skip(), cursor.at), (Ok(()), text.len()), "{depth}");
            let wrong = text.replace("1}]", "1]}");
            assert_eq!(Cursor::new(wrong.as_bytes()).skip(), Err(Wrong::CommaOrEnd), "{depth}");
            let bounded = Cursor::new(text.as_bytes()).skip_bounded();
            let want = if 2 * depth < MAX_DEPTH {
                Ok(())
            } else {
                Err(Wrong::TooDeep)
            };
            assert_eq!(bounded, want, "{depth}");
        }
    }
}
