//! Content codings of answers. Each event is flushed, so that a stream stays a stream.

use std::io::Write;

use bytes::Bytes;

use super::script::Coding;

/// Writes one coded answer.
pub enum Coder {
    /// gzip.
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
    /// zstd.
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    /// Brotli; true once the stream header is out.
    Brotli(bool),
}

/// Largest uncompressed meta-block of Brotli with a length of four nibbles (RFC 7932, 9.2).
const BROTLI_BLOCK: usize = 1 << 16;

impl Coder {
    /// A coder.
    pub fn new(coding: Coding) -> std::io::Result<Coder> {
        Ok(match coding {
            Coding::Gzip => Coder::Gzip(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast())),
            Coding::Zstd => Coder::Zstd(zstd::stream::write::Encoder::new(Vec::new(), 1)?),
            Coding::Brotli => Coder::Brotli(false),
        })
    }

    /// Codes one event; what comes out can be decoded at once.
    pub fn event(&mut self, event: &[u8]) -> std::io::Result<Bytes> {
        Ok(match self {
            Coder::Gzip(gzip) => {
                gzip.write_all(event)?;
                gzip.flush()?;
                std::mem::take(gzip.get_mut()).into()
            }
            Coder::Zstd(zstd) => {
                zstd.write_all(event)?;
                zstd.flush()?;
                std::mem::take(zstd.get_mut()).into()
            }
            Coder::Brotli(begun) => brotli(event, begun).into(),
        })
    }

    /// The end of the coded answer.
    pub fn finish(self) -> std::io::Result<Bytes> {
        Ok(match self {
            Coder::Gzip(gzip) => gzip.finish()?.into(),
            Coder::Zstd(zstd) => zstd.finish()?.into(),
            // ISLAST and ISLASTEMPTY; before them the window size, if nothing was written.
            Coder::Brotli(true) => Bytes::from_static(&[0b11]),
            Coder::Brotli(false) => Bytes::from_static(&[0b110]),
        })
    }
}

/// Uncompressed meta-blocks: valid Brotli without a Brotli compressor (RFC 7932, 9.1 and 9.2). The stream header is one
/// zero bit (a window of 64 KiB).
fn brotli(event: &[u8], begun: &mut bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(event.len() + 3);
    for block in event.chunks(BROTLI_BLOCK) {
        // From the lowest bit: ISLAST 0; MNIBBLES 00 (four); MLEN - 1 in 16 bits; ISUNCOMPRESSED 1; zeros to the byte.
        let length = u32::try_from(block.len() - 1).unwrap_or(0);
        let header = (length << 3) | (1 << 19);
        let header = if std::mem::replace(begun, true) {
            header
        } else {
            header << 1
        };
        out.extend_from_slice(&header.to_le_bytes()[..3]);
        out.extend_from_slice(block);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn decode(coding: Coding, coded: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        match coding {
            Coding::Gzip => flate2::read::GzDecoder::new(coded).read_to_end(&mut plain),
            Coding::Zstd => zstd::stream::read::Decoder::new(coded).and_then(|mut d| d.read_to_end(&mut plain)),
            Coding::Brotli => brotli::Decompressor::new(coded, 4096).read_to_end(&mut plain),
        }
        .expect("decodes");
        plain
    }

    #[test]
    fn what_is_coded_decodes_to_the_same() {
        let large = "x".repeat(200_000);
        for coding in [Coding::Gzip, Coding::Brotli, Coding::Zstd] {
            for events in [&["a", "bc", large.as_str()][..], &[""], &[]] {
                let mut coder = Coder::new(coding).expect("a coder");
                let mut coded = Vec::new();
                for event in events {
                    let piece = coder.event(event.as_bytes()).expect("coded");
                    coded.extend_from_slice(&piece);
                }
                coded.extend_from_slice(&coder.finish().expect("ended"));
                assert_eq!(decode(coding, &coded), events.concat().into_bytes(), "{coding:?}");
            }
        }
    }
}
