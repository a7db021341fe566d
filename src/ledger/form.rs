//! How records are written: the payloads of the journal's frames, which are also what blocks of rows hold.
//!
//! ```text
//! opened  3 ‖ postcard(Opening)
//! closed  4 ‖ postcard(Opening, Closing, Ended)      the whole row: a row never needs two segments
//! ```
//! 1 and 2 are the same from before money ([`super::form_before_money`]): read for ever, written no more.
//!
//! The order of fields in `record.rs` and of variants in its enums is this format. New forms get new numbers, and a new
//! format version in the frames' header, so that an older program does not take them for damage.

use serde::{Deserialize, Serialize};

use crate::clock::UnixMicros;
use crate::ids::{AttemptId, KeyId, RequestId};
use crate::ir::{FinishKind, Usage};
use crate::limits::Spent;
use crate::money::NanoUsd;

use super::{Closing, Ended, Opening, Row, form_before_money, spent_by};

const OPENED: u8 = 3;
const CLOSED: u8 = 4;

/// Longest text in a record, in bytes; a longer one is cut (at a character). Keeps every record below 8 KiB.
const TEXT_MAX: usize = 512;

/// What kind of record a payload is, and of which attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Opened,
    Closed,
}

/// How each payload begins: enough to follow an attempt without reading the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: Kind,
    pub(super) id: AttemptId,
    pub(super) at: UnixMicros,
}

/// The first fields of [`Opening`].
#[derive(Deserialize)]
struct HeadForm<'a> {
    id: AttemptId,
    #[serde(borrow)]
    _request: &'a str,
    _attempt: u16,
    at: UnixMicros,
}

/// Reads the head; `None`: not a payload of ours.
pub(super) fn head(payload: &[u8]) -> Option<Head> {
    let (kind, rest) = payload.split_first()?;
    let kind = match *kind {
        OPENED | form_before_money::OPENED => Kind::Opened,
        CLOSED | form_before_money::CLOSED => Kind::Closed,
        _ => return None,
    };
    let (form, _) = postcard::take_from_bytes::<HeadForm<'_>>(rest).ok()?;
    Some(Head {
        kind,
        id: form.id,
        at: form.at,
    })
}

pub(super) fn write_opened(opening: &Opening, out: &mut Vec<u8>) -> postcard::Result<()> {
    out.push(OPENED);
    postcard::serialize_with_flavor(opening, Append(out))
}

pub(super) fn write_closed(
    opening: &Opening,
    closing: &Closing,
    ended: Ended,
    out: &mut Vec<u8>,
) -> postcard::Result<()> {
    out.push(CLOSED);
    postcard::serialize_with_flavor(&(opening, closing, ended), Append(out))
}

/// The opening in an `Opened` payload.
pub(super) fn read_opened(payload: &[u8]) -> Option<Opening> {
    match payload.split_first()? {
        (&OPENED, rest) => postcard::from_bytes(rest).ok(),
        (&form_before_money::OPENED, rest) => form_before_money::read_opened(rest),
        _ => None,
    }
}

/// The row in a `Closed` payload, borrowed: nothing is allocated.
pub(super) fn read_closed(payload: &[u8]) -> Option<RowRef<'_>> {
    match payload.split_first()? {
        (&CLOSED, rest) => postcard::from_bytes(rest).ok(),
        (&form_before_money::CLOSED, rest) => form_before_money::read_closed(rest),
        _ => None,
    }
}

/// Postcard's output, appended to a buffer which is used again and again.
struct Append<'a>(&'a mut Vec<u8>);

impl postcard::ser_flavors::Flavor for Append<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Cuts what is too long. The common case looks at lengths only.
pub(super) fn clip_opening(opening: &mut Opening) {
    for text in [
        &mut opening.request.0,
        &mut opening.key.0,
        &mut opening.route,
        &mut opening.provider,
        &mut opening.credential,
        &mut opening.operation,
        &mut opening.client_dialect,
        &mut opening.provider_dialect,
        &mut opening.model,
        &mut opening.upstream_model,
        &mut opening.group,
    ] {
        if text.len() > TEXT_MAX {
            *text = text[..cut(text)].into();
        }
    }
}

/// Cuts what is too long.
pub(super) fn clip_closing(closing: &mut Closing) {
    for text in [&mut closing.response_id, &mut closing.error, &mut closing.service]
        .into_iter()
        .flatten()
    {
        if text.len() > TEXT_MAX {
            text.truncate(cut(text));
        }
    }
}

/// The last character boundary within [`TEXT_MAX`].
fn cut(text: &str) -> usize {
    (0..=TEXT_MAX).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

/// [`Row`], borrowed from a payload. Field by field the same.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct RowRef<'a> {
    #[serde(borrow)]
    pub(super) opening: OpeningRef<'a>,
    #[serde(borrow)]
    pub(super) closing: ClosingRef<'a>,
    pub(super) ended: Ended,
}

/// [`Opening`], borrowed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct OpeningRef<'a> {
    pub(super) id: AttemptId,
    pub(super) request: &'a str,
    pub(super) attempt: u16,
    pub(super) at: UnixMicros,
    pub(super) key: &'a str,
    pub(super) route: &'a str,
    pub(super) provider: &'a str,
    pub(super) credential: &'a str,
    pub(super) operation: &'a str,
    pub(super) client_dialect: &'a str,
    pub(super) provider_dialect: &'a str,
    pub(super) model: &'a str,
    pub(super) upstream_model: &'a str,
    pub(super) stream: bool,
    pub(super) group: &'a str,
    pub(super) reserved: NanoUsd,
    pub(super) prompt_tokens: u64,
    pub(super) prompt_cost: Option<NanoUsd>,
    pub(super) prompt_charge: NanoUsd,
}

/// [`Closing`], borrowed.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct ClosingRef<'a> {
    pub(super) status: Option<u16>,
    pub(super) usage: Option<Usage>,
    pub(super) finish: Option<FinishKind>,
    #[serde(borrow)]
    pub(super) response_id: Option<&'a str>,
    pub(super) tool_calls: u32,
    pub(super) request_bytes: u64,
    pub(super) response_bytes: u64,
    pub(super) first_byte_us: Option<u64>,
    pub(super) first_token_us: Option<u64>,
    pub(super) total_us: u64,
    #[serde(borrow)]
    pub(super) error: Option<&'a str>,
    pub(super) cost: Option<NanoUsd>,
    pub(super) charge: NanoUsd,
    pub(super) estimated: bool,
    #[serde(borrow)]
    pub(super) service: Option<&'a str>,
    pub(super) images_in: u32,
    pub(super) images_out: u32,
}

impl OpeningRef<'_> {
    /// The same, owned.
    pub(super) fn to_opening(self) -> Opening {
        Opening {
            id: self.id,
            request: RequestId(self.request.into()),
            attempt: self.attempt,
            at: self.at,
            key: KeyId(self.key.into()),
            route: self.route.into(),
            provider: self.provider.into(),
            credential: self.credential.into(),
            operation: self.operation.into(),
            client_dialect: self.client_dialect.into(),
            provider_dialect: self.provider_dialect.into(),
            model: self.model.into(),
            upstream_model: self.upstream_model.into(),
            stream: self.stream,
            group: self.group.into(),
            reserved: self.reserved,
            prompt_tokens: self.prompt_tokens,
            prompt_cost: self.prompt_cost,
            prompt_charge: self.prompt_charge,
        }
    }
}

impl RowRef<'_> {
    /// What it adds to the balances of its accounts.
    pub(super) fn spent(&self) -> Spent {
        spent_by(self.opening.attempt, self.closing.usage, self.closing.charge)
    }

    /// The same, owned.
    pub(super) fn to_row(self) -> Row {
        let RowRef {
            opening,
            closing: c,
            ended,
        } = self;
        Row {
            opening: opening.to_opening(),
            closing: Closing {
                status: c.status,
                usage: c.usage,
                finish: c.finish,
                response_id: c.response_id.map(Into::into),
                tool_calls: c.tool_calls,
                request_bytes: c.request_bytes,
                response_bytes: c.response_bytes,
                first_byte_us: c.first_byte_us,
                first_token_us: c.first_token_us,
                total_us: c.total_us,
                error: c.error.map(Into::into),
                cost: c.cost,
                charge: c.charge,
                estimated: c.estimated,
                service: c.service.map(Into::into),
                images_in: c.images_in,
                images_out: c.images_out,
            },
            ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::samples;

    #[test]
    fn what_was_written_reads_back_equal() {
        for n in 0..50 {
            let row = samples::row(n);
            let mut payload = Vec::new();
            write_closed(&row.opening, &row.closing, row.ended, &mut payload).unwrap();
            assert_eq!(
                read_closed(&payload).unwrap().to_row(),
                row,
                "RowRef must have the fields of Row, in their order"
            );
            let found = head(&payload).unwrap();
            assert_eq!(
                (found.kind, found.id, found.at),
                (Kind::Closed, row.opening.id, row.opening.at)
            );
            payload.clear();
            write_opened(&row.opening, &mut payload).unwrap();
            assert_eq!(head(&payload).unwrap().kind, Kind::Opened);
            assert_eq!(read_opened(&payload).unwrap(), row.opening);
            assert!(read_closed(&payload).is_none());
        }
        assert!(head(&[]).is_none() && head(&[9, 1, 2]).is_none());
    }

    #[test]
    fn the_form_on_disk_is_frozen() {
        let mut row = samples::row(7);
        row.opening.id = AttemptId(uuid::Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0007));
        let mut payload = Vec::new();
        write_closed(&row.opening, &row.closing, row.ended, &mut payload).unwrap();
        let hex: String = payload.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            include_str!("frozen_row.hex").trim(),
            "old journals would be read wrongly: give the new form a new number"
        );
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let mut row = samples::row(1);
        row.opening.model = "é".repeat(100_000).into();
        row.closing.error = Some("é".repeat(300));
        clip_opening(&mut row.opening);
        clip_closing(&mut row.closing);
        assert_eq!(row.opening.model.len(), TEXT_MAX);
        assert_eq!(row.closing.error.unwrap().len(), TEXT_MAX);
    }
}
