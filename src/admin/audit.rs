//! The audit log: every write through the admin API, one JSON line each, in `data/audit.jsonl` ([`super::audit_file`]).
//!
//! A write whose line could not be written is not carried out. No line holds a secret: who it was is the id of the token, or a
//! fingerprint of the one in `admin.token`.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{Extensions, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Api;
pub use super::audit_file::Audit;
pub(super) use super::audit_file::Change;
use super::audit_file::{Begun, Outcome, TooMany};
use super::audit_head::Intent;
use super::idempotency::Replayed;
use super::pause::Turn;
use super::refusal::{Refusal, RefusedCode};
use super::roles::Caller;
use crate::observe::rfc3339;

/// Longest method that is recorded as it came, in bytes: the longest registered with IANA has 17.
const MAX_METHOD: usize = 32;

/// Records every call which is not a mere question, whatever became of it, and every call that was forbidden. A call which is no
/// question is refused where its line can't be written, and is carried out to its end and recorded even if the caller does not
/// wait for the answer.
pub(super) async fn record_writes(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let extensions = request.extensions();
    let matched = extensions.get::<MatchedPath>();
    let (Some(path), Some(caller)) = (matched, extensions.get::<Caller>()) else {
        return next.run(request).await;
    };
    let intent = Intent {
        time: rfc3339(api.state.clock.now()).to_string(),
        who: caller.who.to_string(),
        role: caller.role.as_str().to_owned(),
        from: from(extensions).map(|from| from.ip().to_string()),
        method: method(request.method()).to_owned(),
        path: path.as_str().to_owned(),
    };
    if request.method().is_safe() {
        let response = next.run(request).await;
        return match response.status() {
            StatusCode::FORBIDDEN => record(&api, None, intent, response).await,
            _ => response,
        };
    }
    let turn = request.extensions().get::<Turn>().cloned();
    let done = tokio::spawn(async move {
        // Held until its line is written, also where its caller is gone.
        let _turn = turn;
        let begun = match begin(&api, intent.clone()).await {
            Ok(begun) => begun,
            Err(refusal) => return refusal.into_response(),
        };
        // In a task of its own: one that panics is recorded too.
        let response = tokio::spawn(next.run(request)).await;
        let response = response.unwrap_or_else(|_panicked| Refusal::internal().into_response());
        record(&api, Some(begun), intent, response).await
    });
    done.await
        .unwrap_or_else(|_panicked| Refusal::internal().into_response())
}

async fn begin(api: &Arc<Api>, intent: Intent) -> Result<Begun, Refusal> {
    let begun = api.blocking(move |state| state.audit.begin(intent)).await?;
    begun.map_err(|error| {
        if error.get_ref().is_some_and(|error| error.is::<TooMany>()) {
            return Refusal::busy("changes");
        }
        tracing::error!(%error, "a write was refused: it could not be entered in the audit log");
        Refusal::not_audited(&error)
    })
}

async fn record(api: &Arc<Api>, begun: Option<Begun>, intent: Intent, response: Response) -> Response {
    let extensions = response.extensions();
    let outcome = Outcome {
        status: response.status().as_u16(),
        refused: extensions.get::<RefusedCode>().map(|RefusedCode(code)| code.clone()),
        replayed: extensions.get::<Replayed>().is_some(),
        interrupted: false,
        change: extensions.get::<Change>().cloned(),
    };
    let recorded = api.blocking(move |state| match begun {
        Some(begun) => state.audit.end(&begun, intent, outcome),
        None => state.audit.record(intent, outcome),
    });
    match recorded.await {
        Ok(Ok(())) => {}
        // What was done is done: its answer (a new key's text is shown only once) must not be lost too.
        Ok(Err(error)) => tracing::error!(
            %error,
            "a call could not be recorded in the audit log; a change is entered before the next one, or at the next start"
        ),
        Err(_) => tracing::error!("a call could not be recorded in the audit log"),
    }
    response
}

/// The method as it is recorded: one of the caller's own making may have any length.
fn method(method: &Method) -> &str {
    match method.as_str() {
        word if word.len() <= MAX_METHOD => word,
        _ => "OTHER",
    }
}

/// Who calls, if the server that runs the router tells.
fn from(extensions: &Extensions) -> Option<SocketAddr> {
    extensions
        .get::<ConnectInfo<SocketAddr>>()
        .map(|ConnectInfo(address)| *address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_of_any_length_is_a_short_word() {
        for (sent, recorded) in [
            ("POST", "POST"),
            ("UPDATEREDIRECTREF", "UPDATEREDIRECTREF"),
            ("brew", "brew"),
        ] {
            assert_eq!(method(&sent.parse().unwrap()), recorded);
        }
        assert_eq!(method(&"A".repeat(200_000).parse().unwrap()), "OTHER");
    }
}
