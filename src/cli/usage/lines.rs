//! On which line of a file a record of CSV stands. The parser's own count is that of the end of the record before: it does not see blank
//! lines it skips, and sees the end of a line of Windows one record late.

use std::io::{self, Read};

/// Passes a file on, and keeps what it passed last: where the parser is now lies within it.
pub(super) struct Lines<R> {
    from: R,
    /// Bytes before `last`.
    bytes: u64,
    /// Line ends before `last`.
    ends: u64,
    /// As much as the parser reads at a time.
    last: Vec<u8>,
}

impl<R> Lines<R> {
    pub(super) fn new(from: R) -> Self {
        Lines {
            from,
            bytes: 0,
            ends: 0,
            last: Vec::new(),
        }
    }

    /// The line, from 1, on which a record begins that ends before byte `end` and holds this many line ends in its cells.
    pub(super) fn of_record(&self, end: u64, within: u64) -> u64 {
        // Its last byte: the end of its line, or the end of the file.
        let last = end.saturating_sub(1).saturating_sub(self.bytes);
        let last = usize::try_from(last).unwrap_or(usize::MAX).min(self.last.len());
        let before = self.ends + line_ends(&self.last[..last]);
        (before + 1).saturating_sub(within)
    }
}

/// How many lines end in it.
pub(super) fn line_ends(text: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', text).count() as u64
}

impl<R: Read> Read for Lines<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(to)?;
        if read > 0 {
            self.bytes += self.last.len() as u64;
            self.ends += line_ends(&self.last);
            self.last.clear();
            self.last.extend_from_slice(&to[..read]);
        }
        Ok(read)
    }
}
