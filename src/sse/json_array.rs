//! Incremental decoder of a streamed JSON array (`[{...},\n{...}]`): elements are found by depth and string state.
//!
//! It cuts, it does not validate: what stands between elements is taken as it is, and an element is whatever lies
//! between a bracket and its partner. An object which is no array's element is told like one. A block ends with its
//! element; the comma and white space after it belong to the next block, so that an error can be written after each.

use memchr::memchr2;

use super::carry::Carry;
use super::{Block, Content, Frame};

/// Reads one streamed JSON array.
#[derive(Debug)]
pub struct JsonArrayDecoder {
    max: usize,
    pub(super) carry: Carry,
    /// Bytes of the unfinished block before its element begins, among those in `carry`.
    lead: usize,
    /// Open brackets, without the array's own.
    depth: usize,
    in_string: bool,
    /// The next byte is escaped.
    escaped: bool,
    /// The array's opening bracket was seen, and not its closing one.
    open: bool,
}

impl JsonArrayDecoder {
    /// A decoder at the start of a stream, which keeps `max` bytes (and one chunk) of an element cut by chunk borders.
    pub fn new(max: usize) -> Self {
        JsonArrayDecoder {
            max,
            carry: Carry::default(),
            lead: 0,
            depth: 0,
            in_string: false,
            escaped: false,
            open: false,
        }
    }

    /// Takes a chunk and tells each element that ends in it.
    pub fn feed(&mut self, chunk: &[u8], on_block: &mut impl FnMut(Block<'_>)) {
        let mut start = 0;
        while let Some(end) = self.find_end(chunk, start) {
            self.tell(chunk, start, end, on_block);
            start = end;
        }
        self.carry.keep(&chunk[start..], self.max);
    }

    fn find_end(&mut self, chunk: &[u8], from: usize) -> Option<usize> {
        let mut at = from;
        while at < chunk.len() {
            if self.in_string {
                if std::mem::take(&mut self.escaped) {
                    at += 1;
                    continue;
                }
                at += memchr2(b'"', b'\\', &chunk[at..])?;
                self.escaped = chunk[at] == b'\\';
                self.in_string = self.escaped;
                at += 1;
                continue;
            }
            match chunk[at] {
                b'{' => {
                    if self.depth == 0 {
                        self.lead = self.carry.bytes.len() + at - from;
                    }
                    self.depth += 1;
                }
                // The array's own bracket does not count; one inside an element does.
                b'[' if self.depth > 0 => self.depth += 1,
                b'}' | b']' if self.depth > 0 => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Some(at + 1);
                    }
                }
                b'"' if self.depth > 0 => self.in_string = true,
                b'[' => self.open = true,
                b']' => self.open = false,
                _ => {}
            }
            at += 1;
        }
        None
    }

    fn tell(&mut self, chunk: &[u8], start: usize, end: usize, on_block: &mut impl FnMut(Block<'_>)) {
        let lead = std::mem::take(&mut self.lead);
        if !self.carry.is_inside() {
            let data = &chunk[start + lead..end];
            on_block(Block {
                content: Content::Frame(Frame { event: None, data }),
                carried: &[],
                start,
                end,
            });
            return;
        }
        if self.carry.oversized {
            on_block(Block {
                content: Content::Oversized,
                carried: &[],
                start,
                end,
            });
        } else {
            let carried = self.carry.bytes.len();
            self.carry.bytes.extend_from_slice(&chunk[start..end]);
            let data = &self.carry.bytes[lead..];
            let carried = &self.carry.bytes[..carried];
            on_block(Block {
                content: Content::Frame(Frame { event: None, data }),
                carried,
                start,
                end,
            });
        }
        self.carry.clear();
    }

    /// The bytes after the last element: an unfinished one, or what closes the array.
    pub fn rest(&self) -> &[u8] {
        &self.carry.bytes
    }

    /// True if no element and no array is open: what was fed is a whole document.
    pub fn is_closed(&self) -> bool {
        self.depth == 0 && !self.open
    }

    /// Keeps no more of the unfinished block: it counts as larger than is kept.
    pub fn let_go(&mut self) {
        self.carry.let_go();
    }

    /// True if more than is kept of an unfinished element came.
    pub fn is_oversized(&self) -> bool {
        self.carry.oversized
    }

    /// True if there are such bytes.
    pub fn is_inside(&self) -> bool {
        self.carry.is_inside()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(stream: &[u8], size: usize) -> (Vec<String>, Vec<u8>) {
        let mut decoder = JsonArrayDecoder::new(1 << 20);
        let (mut frames, mut bytes) = (Vec::new(), Vec::new());
        for chunk in stream.chunks(size) {
            decoder.feed(chunk, &mut |block: Block<'_>| {
                bytes.extend_from_slice(block.carried);
                bytes.extend_from_slice(&chunk[block.start..block.end]);
                if let Content::Frame(frame) = block.content {
                    frames.push(String::from_utf8_lossy(frame.data).into_owned());
                }
            });
        }
        bytes.extend_from_slice(decoder.rest());
        (frames, bytes)
    }

    #[test]
    fn every_chunking_finds_the_same_elements() {
        let elements = [
            r#"{"a":"}],{\" \\"}"#,
            r#"{ "b": [1, {"c": "]"}] }"#,
            "{\r\n  \"d\": \"é\"\r\n}",
        ];
        let stream = format!("[{}\r\n,\r\n{} ,{}\n]\n", elements[0], elements[1], elements[2]);
        for size in 1..stream.len() + 1 {
            let (frames, bytes) = decode(stream.as_bytes(), size);
            assert_eq!(frames, elements, "chunks of {size}");
            assert_eq!(bytes, stream.as_bytes(), "no byte may be lost, chunks of {size}");
        }
    }

    #[test]
    fn a_border_lies_right_after_an_element() {
        let mut ends = Vec::new();
        let mut decoder = JsonArrayDecoder::new(100);
        decoder.feed(b"[{},\n{}\n]\n", &mut |block: Block<'_>| ends.push(block.end));
        assert_eq!(ends, [3, 7]);
        assert!(decoder.is_closed());
        assert_eq!(
            decoder.rest(),
            b"\n]\n",
            "what closes the array waits for the end of the body"
        );
    }

    #[test]
    fn an_object_alone_and_rubbish_do_not_break_it() {
        assert_eq!(decode(b"{\"error\":1}", 3).0, ["{\"error\":1}"]);
        assert_eq!(
            decode(b"]]}} \"[{ [{}]", 1).0.len(),
            0,
            "an unfinished element is no element"
        );
        assert_eq!(decode(b"[]\n", 1).0.len(), 0);
    }

    #[test]
    fn an_element_too_large_is_told_and_the_next_is_read() {
        let mut decoder = JsonArrayDecoder::new(4);
        let mut told = Vec::new();
        for chunk in [&b"[{\"a\":1111"[..], b"11}", b",{}"] {
            decoder.feed(chunk, &mut |block: Block<'_>| {
                told.push(block.content == Content::Oversized)
            });
        }
        assert_eq!(told, [true, false]);
    }
}
