//! Reading compressed answers for the tap, piece by piece and within bounds. The client gets the compressed bytes;
//! what is decoded here is only looked at.

use std::io::{self, Write};

use super::Coding;

/// Most bytes that one chunk may decode to. Real answers stay below 100 times their size, chunks below 64 KiB.
pub const MAX_PER_CHUNK: usize = 8 << 20;
/// A whole body, which is kept in pieces of any size, is decoded in such: for [`MAX_PER_CHUNK`].
const PIECE: usize = 64 << 10;
/// Largest window of zstd (its logarithm): 8 MiB, which RFC 8878 asks decoders to support.
const ZSTD_WINDOW_LOG: u32 = 23;
/// Buffer of the brotli decoder, in bytes.
const BROTLI_BUFFER: usize = 4096;

/// Why nothing more is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The bytes are not of the coding.
    Broken,
    /// They decode to more than the bound.
    TooLarge,
}

/// Takes what a decoder writes, up to a bound.
struct Sink {
    bytes: Vec<u8>,
    max: usize,
    over: bool,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.over || bytes.len() > self.max - self.bytes.len() {
            self.over = true;
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Decoder {
    /// What `deflate` means shows in the first byte: zlib by the book, bare deflate by some servers.
    DeflateOrZlib(Sink),
    Gzip(Box<flate2::write::MultiGzDecoder<Sink>>),
    Zlib(Box<flate2::write::ZlibDecoder<Sink>>),
    Deflate(Box<flate2::write::DeflateDecoder<Sink>>),
    Brotli(Box<brotli_decompressor::DecompressorWriter<Sink>>),
    Zstd(Box<zstd::stream::write::Decoder<'static, Sink>>),
    /// Ended, or stopped.
    Nothing,
}

/// Decodes one body.
pub(super) struct Inflate {
    decoder: Decoder,
}

impl Inflate {
    /// A decoder at the start of a body, which writes at most `max` bytes a chunk; `None` where there is nothing to
    /// decode, or no way to.
    pub(super) fn new(coding: Coding, max: usize) -> Option<Self> {
        let sink = Sink {
            bytes: Vec::new(),
            max,
            over: false,
        };
        let decoder = match coding {
            Coding::Identity | Coding::Unknown => return None,
            Coding::Gzip => Decoder::Gzip(Box::new(flate2::write::MultiGzDecoder::new(sink))),
            Coding::Deflate => Decoder::DeflateOrZlib(sink),
            Coding::Brotli => Decoder::Brotli(Box::new(brotli_decompressor::DecompressorWriter::new(
                sink,
                BROTLI_BUFFER,
            ))),
            Coding::Zstd => {
                let mut decoder = zstd::stream::write::Decoder::new(sink).ok()?;
                decoder.window_log_max(ZSTD_WINDOW_LOG).ok()?;
                Decoder::Zstd(Box::new(decoder))
            }
        };
        Some(Inflate { decoder })
    }

    /// Decodes a chunk as far as it goes. After an error there is nothing more to come.
    pub(super) fn push(&mut self, chunk: &[u8]) -> Result<Vec<u8>, Stop> {
        if let (Decoder::DeflateOrZlib(_), Some(first)) = (&self.decoder, chunk.first())
            && let Decoder::DeflateOrZlib(sink) = std::mem::replace(&mut self.decoder, Decoder::Nothing)
        {
            // RFC 1950: the low half of the first byte is 8 for deflate.
            self.decoder = if first & 0x0f == 8 {
                Decoder::Zlib(Box::new(flate2::write::ZlibDecoder::new(sink)))
            } else {
                Decoder::Deflate(Box::new(flate2::write::DeflateDecoder::new(sink)))
            };
        }
        fn run<W: Write>(decoder: &mut W, chunk: &[u8]) -> io::Result<()> {
            decoder.write_all(chunk)?;
            decoder.flush()
        }
        let (result, sink) = match &mut self.decoder {
            Decoder::Gzip(d) => (run(&mut **d, chunk), d.get_mut()),
            Decoder::Zlib(d) => (run(&mut **d, chunk), d.get_mut()),
            Decoder::Deflate(d) => (run(&mut **d, chunk), d.get_mut()),
            Decoder::Brotli(d) => (run(&mut **d, chunk), d.get_mut()),
            Decoder::Zstd(d) => (run(&mut **d, chunk), d.get_mut()),
            Decoder::DeflateOrZlib(_) | Decoder::Nothing => return Ok(Vec::new()),
        };
        let bytes = std::mem::take(&mut sink.bytes);
        let over = sink.over;
        // A decoder writes what it holds when it is dropped.
        sink.over = result.is_err();
        if result.is_ok() {
            return Ok(bytes);
        }
        self.decoder = Decoder::Nothing;
        Err(if over { Stop::TooLarge } else { Stop::Broken })
    }
}

/// Decodes a whole body, to at most `max` bytes.
pub(super) fn whole(coding: Coding, chunks: &[bytes::Bytes], max: usize) -> Result<Vec<u8>, Stop> {
    let Some(mut inflate) = Inflate::new(coding, max.min(MAX_PER_CHUNK)) else {
        return Err(Stop::Broken);
    };
    let mut body = Vec::new();
    for chunk in chunks.iter().flat_map(|chunk| chunk.chunks(PIECE)) {
        let piece = inflate.push(chunk)?;
        if body.len() + piece.len() > max {
            return Err(Stop::TooLarge);
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// `text` in that coding.
    pub(in crate::translate) fn encode(coding: Coding, text: &[u8]) -> Vec<u8> {
        let level = flate2::Compression::default();
        match coding {
            Coding::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(text).and_then(|()| encoder.finish())
            }
            Coding::Deflate => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(text).and_then(|()| encoder.finish())
            }
            Coding::Brotli => {
                let mut out = Vec::new();
                let mut encoder = brotli::CompressorWriter::new(&mut out, 4096, 5, 20);
                encoder.write_all(text).expect("in memory");
                drop(encoder);
                Ok(out)
            }
            Coding::Zstd => zstd::encode_all(text, 3),
            Coding::Identity | Coding::Unknown => Ok(text.to_vec()),
        }
        .expect("in memory")
    }

    pub(in crate::translate) const CODINGS: [Coding; 4] = [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd];

    #[test]
    fn every_coding_decodes_in_every_chunking() {
        let text = "data: {\"a\":\"some text which repeats, which repeats\"}\n\n".repeat(50);
        for coding in CODINGS {
            let body = encode(coding, text.as_bytes());
            for size in [1, 7, body.len()] {
                let mut inflate = Inflate::new(coding, 1 << 20).expect("can be decoded");
                let mut out = Vec::new();
                for chunk in body.chunks(size) {
                    out.extend(inflate.push(chunk).expect("well-formed"));
                }
                assert_eq!(out, text.as_bytes(), "{coding:?}, chunks of {size}");
            }
        }
    }

    #[test]
    fn bare_deflate_is_read_too() {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(b"hello hello").expect("in memory");
        let body = encoder.finish().expect("in memory");
        assert_eq!(
            whole(Coding::Deflate, &[body.into()], 100).as_deref(),
            Ok(&b"hello hello"[..])
        );
    }

    #[test]
    fn bombs_stop_at_the_bound_and_rubbish_is_named() {
        let bomb = vec![0u8; 1 << 20];
        for coding in CODINGS {
            let body = encode(coding, &bomb);
            let mut inflate = Inflate::new(coding, 10_000).expect("can be decoded");
            assert_eq!(inflate.push(&body), Err(Stop::TooLarge), "{coding:?}");
            assert_eq!(
                inflate.push(&body),
                Ok(Vec::new()),
                "{coding:?}: nothing comes after a stop"
            );
            assert_eq!(whole(coding, &[body.into()], 10_000), Err(Stop::TooLarge), "{coding:?}");
            let rubbish = [0xffu8; 100];
            assert_eq!(
                whole(coding, &[rubbish.to_vec().into()], 10_000),
                Err(Stop::Broken),
                "{coding:?}"
            );
        }
    }
}
