//! The form of our append-only files: a header, then records, each with a checksum.
//!
//! ```text
//! header  "TGJ1" ‖ format version u16 ‖ 0 u16 ‖ salt u64 ‖ crc32c of the 16 bytes before u32      20 bytes
//! record  length u32 ‖ crc32c(salt, length, payload) u32 ‖ payload                                 8 bytes + payload
//! ```
//! All numbers little-endian. The salt goes into every checksum, so that bytes of another file, or bytes which a
//! client managed to have written inside a payload, are never taken for a record of this file. Zeroes (the tail a power
//! cut may leave) are no record: a payload has at least one byte.

/// First bytes of a file.
const MAGIC: [u8; 4] = *b"TGJ1";
/// Version of the form, in the header. Another number: written by a newer program.
const FORMAT: u16 = 1;
/// Bytes of a file's header.
pub const HEADER_LEN: usize = 20;
/// Bytes before a record's payload.
pub const FRAME_LEN: usize = 8;
/// Longest payload; a longer length is damage.
pub const MAX_PAYLOAD: usize = 64 * 1024;

/// A file's salt, as it starts every checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Salt(u64);

impl Salt {
    /// From 64 random bits.
    pub fn new(random: u64) -> Self {
        Salt(random)
    }

    /// The header of a file with this salt.
    pub fn header(self) -> [u8; HEADER_LEN] {
        let mut header = [0; HEADER_LEN];
        header[..4].copy_from_slice(&MAGIC);
        header[4..6].copy_from_slice(&FORMAT.to_le_bytes());
        header[8..16].copy_from_slice(&self.0.to_le_bytes());
        let sum = crc32c::crc32c(&header[..16]);
        header[16..].copy_from_slice(&sum.to_le_bytes());
        header
    }

    /// Reads a header. `Err` says what is wrong with it.
    pub fn from_header(header: &[u8]) -> Result<Self, String> {
        let Some(header) = header.first_chunk::<HEADER_LEN>() else {
            return Err("its header is cut".into());
        };
        if header[..4] != MAGIC {
            return Err("it does not begin as a journal does".into());
        }
        if header[16..] != crc32c::crc32c(&header[..16]).to_le_bytes() {
            return Err("its header's checksum is wrong".into());
        }
        let format = u16::from_le_bytes([header[4], header[5]]);
        if format != FORMAT {
            return Err(format!("it has format {format}, this program knows {FORMAT}"));
        }
        let mut salt = [0; 8];
        salt.copy_from_slice(&header[8..16]);
        Ok(Salt(u64::from_le_bytes(salt)))
    }

    /// Is this a good header, of a form this program does not know?
    pub fn is_of_other_format(header: &[u8]) -> bool {
        header.first_chunk::<HEADER_LEN>().is_some_and(|header| {
            header[..4] == MAGIC
                && header[16..] == crc32c::crc32c(&header[..16]).to_le_bytes()
                && header[4..6] != FORMAT.to_le_bytes()
        })
    }

    fn checksum(self, length: [u8; 4], payload: &[u8]) -> u32 {
        let mut head = [0; 12];
        head[..8].copy_from_slice(&self.0.to_le_bytes());
        head[8..].copy_from_slice(&length);
        crc32c::crc32c_append(crc32c::crc32c(&head), payload)
    }

    /// Appends a record whose payload `write` appends; nothing stays if `write` fails or the payload is empty or too
    /// long.
    pub fn append<E>(self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<bool, E> {
        let start = out.len();
        out.extend_from_slice(&[0; FRAME_LEN]);
        let result = write(out);
        let body = start + FRAME_LEN;
        let length = out.len().saturating_sub(body);
        if result.is_err() || length == 0 || length > MAX_PAYLOAD {
            out.truncate(start);
            return result.map(|()| false);
        }
        let field = (length as u32).to_le_bytes();
        let sum = self.checksum(field, &out[body..]).to_le_bytes();
        out[start..start + 4].copy_from_slice(&field);
        out[start + 4..body].copy_from_slice(&sum);
        Ok(true)
    }

    /// The record at the beginning of `bytes`.
    pub fn next(self, bytes: &[u8]) -> Next<'_> {
        let Some((head, rest)) = bytes.split_first_chunk::<FRAME_LEN>() else {
            return Next::Cut;
        };
        let field = [head[0], head[1], head[2], head[3]];
        let length = u32::from_le_bytes(field) as usize;
        if length == 0 || length > MAX_PAYLOAD {
            return Next::Bad("a record's length is impossible");
        }
        let Some(payload) = rest.get(..length) else {
            return Next::Cut;
        };
        if self.checksum(field, payload).to_le_bytes() != head[4..] {
            return Next::Bad("a record's checksum is wrong");
        }
        Next::Record(payload)
    }
}

/// What stands at a place of a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// A good record's payload; the next one is [`FRAME_LEN`] and its length further on.
    Record(&'a [u8]),
    /// Less than a record: more bytes are needed, or this is a torn end.
    Cut,
    /// No record: damage, or a torn end.
    Bad(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_and_no_flipped_bit_passes() {
        let salt = Salt::new(7);
        let mut file = Vec::new();
        let done = salt.append(&mut file, |out| {
            out.extend_from_slice(b"hello");
            Ok::<_, ()>(())
        });
        assert_eq!(done, Ok(true));
        assert_eq!(salt.next(&file), Next::Record(b"hello"));
        assert!(
            matches!(Salt::new(8).next(&file), Next::Bad(_)),
            "another file's record is none of ours"
        );
        for at in 0..file.len() * 8 {
            let mut flipped = file.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            assert!(
                !matches!(salt.next(&flipped), Next::Record(_)),
                "bit {at} is not covered by the checksum"
            );
        }
        for cut in 0..file.len() {
            assert_eq!(salt.next(&file[..cut]), Next::Cut, "a torn record is cut, not bad");
        }
        assert!(matches!(salt.next(&[0; 64]), Next::Bad(_)), "zeroes are no record");
    }

    #[test]
    fn a_header_reads_back_and_no_flipped_bit_passes() {
        let header = Salt::new(0xDEAD_BEEF).header();
        assert_eq!(Salt::from_header(&header), Ok(Salt::new(0xDEAD_BEEF)));
        for at in 0..header.len() * 8 {
            let mut flipped = header;
            flipped[at / 8] ^= 1 << (at % 8);
            assert!(
                Salt::from_header(&flipped).is_err(),
                "bit {at} of the header is not covered"
            );
        }
    }
}
