//! Places in a text: Google counts bytes of UTF-8 (reference of `Segment`), the hub counts characters.

/// Most positions kept; spans of a text with more are not told.
const MAX_WIDE: usize = 65_536;

/// Where a text that comes in pieces has bytes that begin no character. Costs nothing while the text is ASCII.
#[derive(Debug, Default)]
pub(super) struct Places {
    bytes: usize,
    /// The positions, rising.
    wide: Vec<u32>,
    lost: bool,
}

impl Places {
    /// The text goes on.
    pub(super) fn push(&mut self, text: &str) {
        if !text.is_ascii() {
            for (at, byte) in text.bytes().enumerate() {
                if byte & 0xc0 == 0x80 {
                    match u32::try_from(self.bytes + at) {
                        Ok(at) if self.wide.len() < MAX_WIDE => self.wide.push(at),
                        _ => self.lost = true,
                    }
                }
            }
        }
        self.bytes += text.len();
    }

    /// Which character begins at, or holds, that byte; `None`: not known, or beyond the text.
    pub(super) fn character(&self, byte: u64) -> Option<u64> {
        if self.lost || byte > self.bytes as u64 {
            return None;
        }
        let before = self.wide.partition_point(|at| u64::from(*at) < byte) as u64;
        Some(byte - before)
    }

    /// At which byte that character begins; `None`: not known, or beyond the text.
    pub(super) fn byte(&self, character: u64) -> Option<u64> {
        if self.lost {
            return None;
        }
        let mut byte = character;
        for at in &self.wide {
            if u64::from(*at) > byte {
                break;
            }
            byte += 1;
        }
        (byte <= self.bytes as u64).then_some(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_characters_are_told_apart() {
        let text = "aé€😀b";
        let mut places = Places::default();
        for piece in ["aé", "€", "😀b"] {
            places.push(piece);
        }
        for (character, (byte, _)) in text.char_indices().enumerate() {
            assert_eq!(places.character(byte as u64), Some(character as u64));
            assert_eq!(places.byte(character as u64), Some(byte as u64));
        }
        assert_eq!((places.character(11), places.byte(5)), (Some(5), Some(11)));
        assert_eq!((places.character(12), places.byte(6)), (None, None), "beyond the text");
    }
}
