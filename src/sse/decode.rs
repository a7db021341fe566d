//! Incremental decoder of server-sent events (WHATWG HTML, section 9.2.6): CR, LF and CRLF line ends, a BOM once,
//! comments, `event:` and multi-line `data:`, in chunks of any size.
//!
//! A block that lies whole in one chunk is read where it stands; only one cut by a chunk border is copied.

use memchr::memchr2;

use super::carry::{self, Carry};
use super::{Block, Content, Frame};

/// Reads one stream of server-sent events.
#[derive(Debug)]
pub struct SseDecoder {
    max: usize,
    pub(super) carry: Carry,
    /// `data:` lines of the block being read, joined; used only when there are several.
    joined: Vec<u8>,
    /// The last byte of the unfinished block ended a line, so that another line end would end the block.
    line_start: bool,
    /// The last byte was a CR which ended a line: a LF after it belongs to it.
    after_cr: bool,
    /// The last byte was a CR which ended a block: a LF after it belongs to that block.
    block_cr: bool,
    /// No block ended yet: a byte order mark may stand at the front.
    first: bool,
}

impl SseDecoder {
    /// A decoder at the start of a stream, which keeps `max` bytes (and one chunk) of a block cut by chunk borders.
    pub fn new(max: usize) -> Self {
        SseDecoder {
            max,
            carry: Carry::default(),
            joined: Vec::new(),
            line_start: true,
            after_cr: false,
            block_cr: false,
            first: true,
        }
    }

    /// Takes a chunk and tells each block that ends in it.
    ///
    /// A LF which completes the CRLF of a block that ended with the previous chunk is told as a block of its own with
    /// [`Content::Nothing`].
    pub fn feed(&mut self, chunk: &[u8], on_block: &mut impl FnMut(Block<'_>)) {
        let mut start = 0;
        if std::mem::take(&mut self.block_cr) {
            match chunk.first() {
                Some(b'\n') => {
                    start = 1;
                    on_block(Block {
                        content: Content::Nothing,
                        carried: &[],
                        start: 0,
                        end: 1,
                    });
                }
                Some(_) => {}
                None => self.block_cr = true,
            }
        }
        while let Some(end) = self.find_end(chunk, start) {
            self.tell(chunk, start, end, on_block);
            start = end;
        }
        self.carry.keep(&chunk[start..], self.max);
    }

    /// The end of the block which is open at `from`: after the blank line. Leaves the line state as it must be there.
    fn find_end(&mut self, chunk: &[u8], from: usize) -> Option<usize> {
        let mut at = from;
        if self.after_cr && at < chunk.len() {
            self.after_cr = false;
            if chunk[at] == b'\n' {
                at += 1;
            }
        }
        loop {
            let found = memchr2(b'\n', b'\r', &chunk[at..]);
            let blank = match found {
                Some(0) => self.line_start,
                Some(_) => false,
                None => {
                    if at < chunk.len() {
                        self.line_start = false;
                    }
                    return None;
                }
            };
            let line_end = at + found.unwrap_or(0);
            at = line_end + 1;
            let mut open_cr = false;
            if chunk[line_end] == b'\r' {
                match chunk.get(at) {
                    Some(b'\n') => at += 1,
                    Some(_) => {}
                    None => open_cr = true,
                }
            }
            self.line_start = true;
            if blank {
                self.block_cr = open_cr;
                return Some(at);
            }
            self.after_cr = open_cr;
        }
    }

    fn tell(&mut self, chunk: &[u8], start: usize, end: usize, on_block: &mut impl FnMut(Block<'_>)) {
        let first = std::mem::take(&mut self.first);
        if !self.carry.is_inside() {
            let content = read_block(&chunk[start..end], first, &mut self.joined);
            on_block(Block {
                content,
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
            let content = read_block(&self.carry.bytes, first, &mut self.joined);
            on_block(Block {
                content,
                carried: &self.carry.bytes[..carried],
                start,
                end,
            });
        }
        self.carry.clear();
        if self.joined.capacity() > carry::KEPT {
            self.joined = Vec::new();
        }
    }

    /// The bytes of the unfinished block.
    pub fn rest(&self) -> &[u8] {
        &self.carry.bytes
    }

    /// Keeps no more of the unfinished block: it counts as larger than is kept.
    pub fn let_go(&mut self) {
        self.carry.let_go();
    }

    /// True if more than is kept of the unfinished block came.
    pub fn is_oversized(&self) -> bool {
        self.carry.oversized
    }

    /// True if a block has begun and not ended.
    pub fn is_inside(&self) -> bool {
        self.carry.is_inside()
    }

    /// Reads the unfinished block as if a blank line followed.
    pub fn finish(&mut self, on_frame: impl FnOnce(Frame<'_>)) {
        let rest = std::mem::take(&mut self.carry.bytes);
        if let Content::Frame(frame) = read_block(&rest, self.first, &mut self.joined) {
            on_frame(frame);
        }
        self.carry.bytes = rest;
    }
}

/// Reads the fields of one block.
fn read_block<'a>(raw: &'a [u8], first: bool, joined: &'a mut Vec<u8>) -> Content<'a> {
    let mut raw = raw;
    if first {
        raw = raw.strip_prefix(b"\xef\xbb\xbf").unwrap_or(raw);
    }
    let mut event = None;
    let mut data: Option<&'a [u8]> = None;
    let mut lines = 0usize;
    let mut at = 0;
    while at < raw.len() {
        let end = memchr2(b'\n', b'\r', &raw[at..]).map_or(raw.len(), |n| at + n);
        let line = &raw[at..end];
        at = end + 1;
        if let Some(value) = field(line, b"data") {
            lines += 1;
            match data {
                None => data = Some(value),
                Some(one) => {
                    if lines == 2 {
                        joined.clear();
                        joined.extend_from_slice(one);
                    }
                    joined.push(b'\n');
                    joined.extend_from_slice(value);
                }
            }
        } else if let Some(value) = field(line, b"event") {
            event = std::str::from_utf8(value).ok();
        }
    }
    match data {
        None => Content::Nothing,
        Some(one) => Content::Frame(Frame {
            event,
            data: if lines > 1 { joined } else { one },
        }),
    }
}

/// The value of the field of that name, if this line is one; one space after the colon does not belong to it.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let rest = line.strip_prefix(name)?;
    match rest {
        [] => Some(rest),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Told = (Option<String>, String);

    /// Frames and the stream as told again from the blocks, for one way of cutting it.
    fn decode(stream: &[u8], size: usize) -> (Vec<Told>, Vec<u8>) {
        let mut decoder = SseDecoder::new(1 << 20);
        let (mut frames, mut bytes) = (Vec::new(), Vec::new());
        for chunk in stream.chunks(size) {
            decoder.feed(chunk, &mut |block: Block<'_>| {
                bytes.extend_from_slice(block.carried);
                bytes.extend_from_slice(&chunk[block.start..block.end]);
                if let Content::Frame(frame) = block.content {
                    frames.push((
                        frame.event.map(str::to_owned),
                        String::from_utf8_lossy(frame.data).into_owned(),
                    ));
                }
            });
        }
        bytes.extend_from_slice(decoder.rest());
        (frames, bytes)
    }

    fn told(event: Option<&str>, data: &str) -> Told {
        (event.map(str::to_owned), data.to_owned())
    }

    #[test]
    fn every_line_end_and_every_chunking_reads_the_same() {
        let text =
            "\u{feff}: hello\n\nevent: a\ndata: 1\n\n\ndata:2\ndata:  3\nid: 7\n\nretry: 9\n\ndata\n\ndata: é\n\n";
        let want = vec![
            told(Some("a"), "1"),
            told(None, "2\n 3"),
            told(None, ""),
            told(None, "é"),
        ];
        for end in ["\n", "\r\n", "\r"] {
            let stream = text.replace('\n', end);
            for size in 1..stream.len() + 1 {
                let (frames, bytes) = decode(stream.as_bytes(), size);
                assert_eq!(frames, want, "line end {end:?}, chunks of {size}");
                assert_eq!(
                    bytes,
                    stream.as_bytes(),
                    "no byte may be lost: line end {end:?}, chunks of {size}"
                );
            }
        }
    }

    #[test]
    fn an_unfinished_block_is_kept_and_read_on_request() {
        let mut decoder = SseDecoder::new(100);
        decoder.feed(b"data: 1\n\ndata: [DONE]", &mut |_| {});
        assert!(decoder.is_inside());
        assert_eq!(decoder.rest(), b"data: [DONE]");
        let mut seen = Vec::new();
        decoder.finish(|frame| seen = frame.data.to_vec());
        assert_eq!(seen, b"[DONE]");
    }

    #[test]
    fn a_block_too_large_is_told_and_the_next_is_read() {
        let mut decoder = SseDecoder::new(10);
        let mut told = Vec::new();
        for chunk in [&b"data: 0123456789"[..], b"0123456789", b"\n", b"\ndata: x\n\n"] {
            decoder.feed(chunk, &mut |block: Block<'_>| {
                told.push(match block.content {
                    Content::Frame(frame) => String::from_utf8_lossy(frame.data).into_owned(),
                    Content::Oversized => "oversized".to_owned(),
                    Content::Nothing => "nothing".to_owned(),
                });
            });
            assert!(decoder.rest().len() <= 10 + chunk.len(), "what is kept is bounded");
        }
        assert_eq!(told, ["oversized", "x"]);
    }

    #[test]
    fn whole_blocks_are_borrowed_from_the_chunk() {
        let chunk = b"data: abc\n\n".to_vec();
        let range = chunk.as_ptr_range();
        SseDecoder::new(10).feed(&chunk, &mut |block: Block<'_>| {
            let Content::Frame(frame) = block.content else {
                panic!("a frame was sent")
            };
            assert!(
                range.contains(&frame.data.as_ptr()),
                "no copy for a block within one chunk"
            );
        });
    }
}
