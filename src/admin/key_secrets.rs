//! `/api/v1/keys/{id}/rotate` and `/api/v1/keys/import`: new secrets for keys, and keys of other systems by their hash.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::Api;
use super::audit::Change;
use super::input::{Given, only_objects};
use super::keys::{Id, KeyMade, KeyView, KeyWanted};
use super::page::marked;
use super::policy::PolicyWanted;
use super::refusal::{AnyRefusal, BodyRefusal, Refusal, Refused};
use crate::config::duration;
use crate::keys::{KeysError, NewImport};

/// How long old secrets stay good unless asked otherwise.
const OVERLAP: Duration = Duration::from_secs(24 * 3600);
/// The longest that may be asked for.
const OVERLAP_MAX: Duration = Duration::from_secs(90 * 24 * 3600);

/// How a key is given a new secret.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateWanted {
    /// How long the secrets it has stay good: `24h` (the default), `0s` for not at all, at most `90d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "24h", pattern = "^[0-9]{1,2}(s|m|h|d)$")]
    pub overlap: Option<String>,
}

/// Keys to be taken over: all of them get what is said here.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportWanted {
    /// The keys, 1 to 500.
    #[schema(min_items = 1, max_items = 500)]
    pub keys: Vec<ImportedKey>,
    /// Whom they belong to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 100)]
    pub owner: Option<String>,
    /// Words by which routes tell keys apart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 16)]
    pub tags: Vec<String>,
    /// The group they belong to; it must be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 64)]
    pub group: Option<String>,
    /// When they end by themselves, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
    /// What they may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyWanted>,
}

/// One of them.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct ImportedKey {
    /// SHA-256 of its text, 64 hexadecimal digits: the text itself is not sent. A text is 8 to 256 visible ASCII characters.
    #[schema(pattern = "^[0-9a-fA-F]{64}$")]
    pub sha256: String,
    /// What people may recognise it by, 1 to 100 characters: its beginning and its end.
    #[schema(min_length = 1, max_length = 100)]
    pub hint: String,
    /// A name for people; its hint unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 100)]
    pub name: Option<String>,
}

only_objects!(ImportedKey);

/// What became of an import.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct KeysImported {
    /// The keys that were made.
    pub keys: Vec<KeyView>,
    /// Ids of those which were there already, and stay as they are.
    pub known: Vec<String>,
}

/// Gives a key a new secret, shown in this answer and nowhere else. The id stays, and so does all that is known of it; the
/// secrets it has stay good for `overlap`. At most 4 at a time.
#[utoipa::path(post, path = "/api/v1/keys/{id}/rotate", tag = "keys", operation_id = "rotate_key",
    request_body = RotateWanted, params(("id" = String, Path, description = "The key's id.")),
    responses((status = 201, description = "It has a new secret.", body = KeyMade),
        (status = 404, description = "There is no such key.", body = Refused),
        (status = 409, description = "It is revoked, or has 4 secrets that are still good; or a call with the same \
            Idempotency-Key is under way.", body = Refused),
        AnyRefusal, BodyRefusal))]
pub(super) async fn rotate(
    State(api): State<Arc<Api>>,
    Id(id): Id,
    Given(wanted): Given<RotateWanted>,
) -> Result<Response, Refusal> {
    let overlap = match &wanted.overlap {
        None => OVERLAP,
        Some(text) => duration::parse(text).map_err(|told| Refusal::invalid_body("overlap", told))?,
    };
    if overlap > OVERLAP_MAX {
        return Err(Refusal::invalid_body("overlap", "the overlap is at most 90 days"));
    }
    let made = api.blocking(move |state| {
        let (record, text) = state.keys.rotate(&id, overlap)?;
        Ok::<_, KeysError>(KeyMade {
            view: KeyView::of(&record, state.clock.now()),
            key: text.0.expose().to_owned(),
        })
    });
    Ok(made.await??.answer(json!({ "overlap": duration::show(overlap) })))
}

/// Takes over keys of another system by the SHA-256 of their texts: all of them or none. Who has one goes on using it. Those
/// which are known already stay as they are.
#[utoipa::path(post, path = "/api/v1/keys/import", tag = "keys", operation_id = "import_keys", request_body = ImportWanted,
    responses((status = 201, description = "They are taken over.", body = KeysImported), AnyRefusal, BodyRefusal))]
pub(super) async fn import(
    State(api): State<Arc<Api>>,
    Given(wanted): Given<ImportWanted>,
) -> Result<Response, Refusal> {
    if wanted.keys.is_empty() || wanted.keys.len() > crate::keys::IMPORT_MAX {
        return Err(Refusal::invalid_body("keys", "one import takes 1 to 500 keys"));
    }
    let common = KeyWanted {
        name: "imported".into(),
        owner: wanted.owner,
        tags: wanted.tags,
        group: wanted.group,
        expires_at: wanted.expires_at,
        policy: wanted.policy,
    };
    let values = json!(common);
    let common = common.read()?;
    let read = |(at, given): (usize, ImportedKey)| {
        let told = "64 hexadecimal digits are expected";
        let sha256 = digits(&given.sha256).ok_or_else(|| Refusal::invalid_body(&format!("keys[{at}].sha256"), told))?;
        let mut key = common.clone();
        let hint = given.hint.trim().to_owned();
        key.name = given.name.map_or_else(|| hint.clone(), |name| name.trim().to_owned());
        Ok(NewImport { sha256, hint, key })
    };
    let all = wanted
        .keys
        .into_iter()
        .enumerate()
        .map(read)
        .collect::<Result<Vec<_>, Refusal>>()?;
    let imported = api.blocking(move |state| {
        let imported = state.keys.import(all)?;
        let now = state.clock.now();
        Ok::<_, KeysError>(KeysImported {
            keys: imported.made.iter().map(|record| KeyView::of(record, now)).collect(),
            known: imported.known.iter().map(ToString::to_string).collect(),
        })
    });
    let imported = imported.await??;
    let ids: Vec<&str> = imported.keys.iter().map(|key| key.id.as_str()).collect();
    let change = Change {
        target: "import".into(),
        values: json!({ "keys": ids, "known": imported.known.len(), "given": values }),
    };
    let response = (StatusCode::CREATED, Json(imported)).into_response();
    Ok(marked(response, None, Some(change)))
}

/// 32 bytes from 64 hexadecimal digits.
fn digits(text: &str) -> Option<[u8; 32]> {
    let text = text.as_bytes();
    if text.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16);
        *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
    }
    Some(bytes)
}
