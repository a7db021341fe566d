//! `/api/v1/reload`: new rules, all or nothing; and what is said of the rules as a whole.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::Api;
use super::audit::Change;
use super::input::Nothing;
use super::refusal::{AnyRefusal, ProblemView, Refusal, Refused};
use crate::config::Problem;
use crate::observe::redact::Masker;
use crate::observe::rfc3339;
use crate::rules::Rules;

/// New rules are in force.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Reloaded {
    /// When they were loaded, RFC 3339.
    #[schema(format = DateTime)]
    pub loaded_at: String,
    /// Tells one state of the files from another.
    pub digest: String,
    /// What should be looked at.
    pub warnings: Vec<ProblemView>,
}

/// Replaces every provider key of these rules: no text below should hold one; this is for the day one does.
pub(super) fn masker(rules: &Rules) -> Masker {
    Masker::new(&rules.secrets())
}

/// Problems as they are shown.
pub(super) fn problems(problems: &[Problem], masker: &Masker) -> Vec<ProblemView> {
    problems
        .iter()
        .map(|problem| {
            let mut view = ProblemView::from(problem);
            view.what = masker.mask(&view.what).into_owned();
            view.help = masker.mask(&view.help).into_owned();
            view
        })
        .collect()
}

/// The digest as text.
pub(super) fn digest(rules: &Rules) -> String {
    format!("{:08x}", rules.digest)
}

/// Reads the rules folder again, all or nothing: with a problem the last good rules stay in force.
#[utoipa::path(post, path = "/api/v1/reload", tag = "rules", operation_id = "reload_rules",
    responses((status = 200, description = "New rules are in force.", body = Reloaded),
        (status = 409, description = "They have problems: see `error.problems`.", body = Refused), AnyRefusal))]
pub(super) async fn reload(State(api): State<Arc<Api>>, Nothing: Nothing) -> Result<Response, Refusal> {
    let outcome = api.blocking(|state| state.rules.reload()).await?;
    let rules = api.state.rules.load();
    let masker = masker(&rules);
    let warnings = match outcome {
        Ok(warnings) => problems(&warnings, &masker),
        Err(found) => return Err(Refusal::rules_refused(problems(&found, &masker))),
    };
    let reloaded = Reloaded {
        loaded_at: rfc3339(rules.loaded_at).to_string(),
        digest: digest(&rules),
        warnings,
    };
    let change = Change {
        target: "rules".into(),
        values: json!({ "digest": reloaded.digest }),
    };
    let mut response = Json(reloaded).into_response();
    response.extensions_mut().insert(change);
    Ok(response)
}
