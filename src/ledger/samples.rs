//! Rows for tests.

use crate::clock::UnixMicros;
use crate::ids::{AttemptId, KeyId, RequestId};
use crate::ir::{FinishKind, Usage};
use crate::money::NanoUsd;

use super::{Closing, Ended, Opening, Row};

/// The `n`th opening: all fields filled, different ones different.
pub(crate) fn opening(n: u64) -> Opening {
    Opening {
        id: AttemptId::new(),
        request: RequestId(format!("request-{n}").into()),
        attempt: (n % 3) as u16 + 1,
        at: UnixMicros(1_700_000_000_000_000 + n.cast_signed() * 1000),
        key: KeyId(format!("key{}", n % 5).into()),
        route: "route".into(),
        provider: ["one", "two"][n as usize % 2].into(),
        credential: "main".into(),
        operation: "chat".into(),
        client_dialect: "some".into(),
        provider_dialect: "other".into(),
        model: "asked".into(),
        upstream_model: "used".into(),
        stream: n.is_multiple_of(2),
        group: ["", "team"][n as usize % 2].into(),
        reserved: NanoUsd(n * 1_000_000),
        prompt_tokens: n,
        prompt_cost: (!n.is_multiple_of(3)).then_some(NanoUsd(n * 500)),
        prompt_charge: NanoUsd(n * 600),
    }
}

/// The `n`th closing.
pub(crate) fn closing(n: u64) -> Closing {
    Closing {
        status: Some(200),
        usage: (!n.is_multiple_of(4)).then_some(Usage {
            input: n,
            cache_read: 1,
            cache_write_5m: 2,
            cache_write_1h: 3,
            input_audio: 4,
            output: 2 * n,
            reasoning: 5,
            output_audio: 6,
            ..Usage::default()
        }),
        finish: Some(FinishKind::ToolCalls),
        response_id: Some(format!("answer-{n}")),
        tool_calls: 1,
        request_bytes: 1000,
        response_bytes: 300 + n,
        first_byte_us: Some(n),
        first_token_us: None,
        total_us: 10 * n,
        error: n.is_multiple_of(7).then(|| "reset".into()),
        cost: (!n.is_multiple_of(3)).then_some(NanoUsd(n * 1000)),
        charge: NanoUsd(n * 1200),
        estimated: n.is_multiple_of(5),
        service: n.is_multiple_of(6).then(|| "flex".into()),
        images_in: 2,
        images_out: 1,
    }
}

/// The `n`th row.
pub(crate) fn row(n: u64) -> Row {
    Row {
        opening: opening(n),
        closing: closing(n),
        ended: Ended::Complete,
    }
}
