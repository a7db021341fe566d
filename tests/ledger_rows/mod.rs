//! What the tests of the ledger open attempts with.

use tollgate::clock::UnixMicros;
use tollgate::ids::{AttemptId, KeyId, RequestId};
use tollgate::ledger::Opening;
use tollgate::money::NanoUsd;

/// The `n`th attempt of this key, without a group, a route or a price.
pub fn opening(key: &KeyId, n: i64, at: UnixMicros) -> Opening {
    Opening {
        id: AttemptId::new(),
        request: RequestId(format!("r{n}").into()),
        attempt: 1,
        at,
        key: key.clone(),
        route: "".into(),
        provider: "p".into(),
        credential: "c".into(),
        operation: "chat".into(),
        client_dialect: "d".into(),
        provider_dialect: "d".into(),
        model: "m".into(),
        upstream_model: "m".into(),
        stream: false,
        group: "".into(),
        reserved: NanoUsd::ZERO,
        prompt_tokens: 0,
        prompt_cost: None,
        prompt_charge: NanoUsd::ZERO,
    }
}
