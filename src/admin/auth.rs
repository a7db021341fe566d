//! Who calls: the owner's token of the first start, or one of [`crate::keys::Tokens`].

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::refusal::Refusal;
use super::roles::Caller;
use super::{AdminState, Api, OPENAPI_PATH};
use crate::config::Secret;
use crate::keys::{Role, ct_eq};

/// Lets only calls with a token pass, and notes whose; the document alone needs none. Paths that do not exist need it too:
/// without a token nothing is to be learnt here.
pub(super) async fn require_token(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    let caller = presented(request.headers()).and_then(|presented| caller(presented, &api.state));
    match caller {
        Some(caller) => {
            request.extensions_mut().insert(caller);
        }
        None if request.uri().path() == OPENAPI_PATH => {}
        None => return Refusal::unauthorized().into_response(),
    }
    next.run(request).await
}

/// Whose token this is. An empty one is nobody's.
fn caller(presented: &[u8], state: &AdminState) -> Option<Caller> {
    if ct_eq(presented, state.token.expose().as_bytes()) {
        return Some(Caller {
            who: fingerprint(&state.token).into(),
            role: Role::Owner,
        });
    }
    let token = state.tokens.authenticate(presented)?;
    Some(Caller {
        who: token.id.clone(),
        role: token.role,
    })
}

/// The token in the one `Authorization` header.
fn presented(headers: &HeaderMap) -> Option<&[u8]> {
    let mut sent = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (sent.next(), sent.next()) else {
        return None;
    };
    // The scheme's name is case-insensitive (RFC 9110, 11.1).
    let (scheme, presented) = value.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(presented)
}

/// Which token it was, for the audit log: eight hexadecimal digits of a hash.
pub(super) fn fingerprint(token: &Secret) -> String {
    let mut hash = Sha256::new();
    hash.update(b"tollgate admin token fingerprint\0");
    hash.update(token.expose().as_bytes());
    hash.finalize()
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, HeaderValue::from_static(value));
        }
        headers
    }

    fn bears(headers: &HeaderMap, token: &Secret) -> bool {
        presented(headers).is_some_and(|presented| ct_eq(presented, token.expose().as_bytes()))
    }

    #[test]
    fn only_the_whole_token_in_the_one_header_passes() {
        let token = Secret::new("the-admin-token");
        for (sent, passes) in [
            (&["Bearer the-admin-token"][..], true),
            (&["bearer the-admin-token"], true),
            (&[], false),
            (&[""], false),
            (&["Bearer "], false),
            (&["Bearer"], false),
            (&["the-admin-token"], false),
            (&["Basic the-admin-token"], false),
            (&["Bearer the-admin-toke"], false),
            (&["Bearer the-admin-token2"], false),
            (&["Bearer  the-admin-token"], false),
            (&["Bearer THE-ADMIN-TOKEN"], false),
            (&["Bearer the-admin-token", "Bearer the-admin-token"], false),
            (&["Bearer wrong", "Bearer the-admin-token"], false),
        ] {
            assert_eq!(bears(&headers(sent), &token), passes, "{sent:?}");
        }
    }

    #[test]
    fn an_empty_token_lets_nobody_in() {
        for sent in [&["Bearer "][..], &["Bearer x"], &[""], &[]] {
            assert!(!bears(&headers(sent), &Secret::new("")), "{sent:?}");
        }
    }

    #[test]
    fn the_fingerprint_tells_tokens_apart_and_nothing_of_them() {
        let (one, two) = (
            fingerprint(&Secret::new("token-one")),
            fingerprint(&Secret::new("token-two")),
        );
        assert_ne!(one, two);
        assert_eq!(one.len(), 8);
    }
}
