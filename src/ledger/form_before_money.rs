//! Records as they were written before they held money: forms 1 and 2. What they did not know is empty, and the cost unknown.

use serde::Deserialize;

use crate::clock::UnixMicros;
use crate::ids::AttemptId;
use crate::ir::{FinishKind, Usage};
use crate::money::NanoUsd;

use super::form::{ClosingRef, OpeningRef, RowRef};
use super::{Ended, Opening};

pub(super) const OPENED: u8 = 1;
pub(super) const CLOSED: u8 = 2;

#[derive(Deserialize)]
struct OldOpening<'a> {
    id: AttemptId,
    request: &'a str,
    attempt: u16,
    at: UnixMicros,
    key: &'a str,
    route: &'a str,
    provider: &'a str,
    credential: &'a str,
    operation: &'a str,
    client_dialect: &'a str,
    provider_dialect: &'a str,
    model: &'a str,
    upstream_model: &'a str,
    stream: bool,
}

#[derive(Deserialize)]
struct OldClosing<'a> {
    status: Option<u16>,
    usage: Option<Usage>,
    finish: Option<FinishKind>,
    #[serde(borrow)]
    response_id: Option<&'a str>,
    tool_calls: u32,
    request_bytes: u64,
    response_bytes: u64,
    first_byte_us: Option<u64>,
    first_token_us: Option<u64>,
    total_us: u64,
    #[serde(borrow)]
    error: Option<&'a str>,
}

#[derive(Deserialize)]
struct OldRow<'a> {
    #[serde(borrow)]
    opening: OldOpening<'a>,
    #[serde(borrow)]
    closing: OldClosing<'a>,
    ended: Ended,
}

impl<'a> OldOpening<'a> {
    fn with_no_money(self) -> OpeningRef<'a> {
        OpeningRef {
            id: self.id,
            request: self.request,
            attempt: self.attempt,
            at: self.at,
            key: self.key,
            route: self.route,
            provider: self.provider,
            credential: self.credential,
            operation: self.operation,
            client_dialect: self.client_dialect,
            provider_dialect: self.provider_dialect,
            model: self.model,
            upstream_model: self.upstream_model,
            stream: self.stream,
            group: "",
            reserved: NanoUsd::ZERO,
            prompt_tokens: 0,
            prompt_cost: None,
            prompt_charge: NanoUsd::ZERO,
        }
    }
}

/// The opening after the number of form 1.
pub(super) fn read_opened(rest: &[u8]) -> Option<Opening> {
    let opening: OldOpening<'_> = postcard::from_bytes(rest).ok()?;
    Some(opening.with_no_money().to_opening())
}

/// The row after the number of form 2.
pub(super) fn read_closed(rest: &[u8]) -> Option<RowRef<'_>> {
    let OldRow {
        opening: o,
        closing: c,
        ended,
    } = postcard::from_bytes(rest).ok()?;
    Some(RowRef {
        opening: o.with_no_money(),
        closing: ClosingRef {
            status: c.status,
            usage: c.usage,
            finish: c.finish,
            response_id: c.response_id,
            tool_calls: c.tool_calls,
            request_bytes: c.request_bytes,
            response_bytes: c.response_bytes,
            first_byte_us: c.first_byte_us,
            first_token_us: c.first_token_us,
            total_us: c.total_us,
            error: c.error,
            cost: None,
            charge: NanoUsd::ZERO,
            estimated: false,
            service: None,
            images_in: 0,
            images_out: 0,
        },
        ended,
    })
}

#[cfg(test)]
mod tests {
    use super::super::form;
    use crate::money::NanoUsd;

    #[test]
    fn a_row_from_before_money_is_read() {
        let hex = include_str!("frozen_row_before_money.hex").trim();
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
        let payload: Vec<u8> = (0..hex.len()).step_by(2).map(byte).collect();
        let row = form::read_closed(&payload).expect("it is read").to_row();
        assert_eq!((&*row.opening.key.0, &*row.opening.model), ("key2", "asked"));
        assert_eq!((&*row.opening.group, row.opening.reserved), ("", NanoUsd::ZERO));
        assert_eq!(row.closing.error.as_deref(), Some("reset"));
        assert_eq!(row.closing.cost, None);
        assert_eq!(form::head(&payload).expect("a head").id, row.opening.id);
    }
}
