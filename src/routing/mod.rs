//! Which candidates a request has, and which is next. Pure: no clock, no network, not async.

pub mod affinity;
mod beginning;
pub mod conditions;
pub mod explain;
pub mod find;
mod fitness;
mod hash;
pub mod plan;
pub mod query;
mod strategy;
pub mod survey;

use crate::ir::DialectId;
use crate::upstream::Fleet;

pub use affinity::{Affinities, Kept, Scope, Session, Sticky};
pub use explain::{Explanation, explain};
pub use find::LeftOut;
pub use plan::{Candidate, Choice, Exhausted, RoutePlan, Tier};
pub use query::{Asker, Permit, Query, What};
pub use survey::Survey;

/// Why there is no plan.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// No route matches, and the name is not `provider/model`.
    #[error("the model `{0}` is not offered here; GET /v1/models lists what is")]
    UnknownModel(String),
    /// The client asks for a provider that there is not.
    #[error("there is no provider `{0}` here; leave the field `provider` out")]
    UnknownProvider(String),
    /// There is a route, but none of its providers speaks a dialect which knows what is asked.
    #[error("the model `{model}` is not offered for this operation; its providers speak: {spoken}")]
    NotOffered {
        /// The model asked for.
        model: String,
        /// What the providers speak.
        spoken: String,
    },
    /// There is a route, but its models can't take what the request asks of them.
    #[error("the model `{model}` can't take this request: {missing}")]
    Unfit {
        /// The model asked for.
        model: String,
        /// Which model can't take what.
        missing: String,
    },
    /// The key may not ask for the model.
    #[error("this key may not ask for the model `{0}`; GET /v1/models lists what it may")]
    ModelNotAllowed(String),
    /// There is a route, but the key may not take it, or be served by any of its providers.
    #[error("this key may not use what serves the model `{0}` here")]
    NotAllowed(String),
    /// There is a route, but none of its providers has a usable credential.
    #[error("none of our credentials for the model `{0}` can be used just now")]
    NoCredential(String),
}

/// Some route that may take this request asks for what stands inside it ([`Survey`]): by a condition, by what it requires of
/// models, or to compare prices; or a credential there may be used for so many tokens only. `provider`: the one the client names.
pub fn needs_survey(fleet: &Fleet, model: &str, wishes: &[String], provider: Option<&str>) -> bool {
    find::needs_survey(fleet, model, wishes, provider)
}

/// Finds the candidates for a request. An alias is followed first. The provider that the client names (`provider`, or
/// `provider/model`) is asked for the model as it stands; else the first route wins which takes the name and whose conditions
/// hold. Further wishes (`models`) follow in their order, each after all of the one before; a name that leads nowhere is passed over,
/// and if all do, the first says why.
///
/// A provider is asked in the client's dialect if it speaks it, else in the first it speaks of those that can do what is asked:
/// `knows` tells.
pub fn resolve(fleet: &Fleet, query: &Query<'_>, knows: &dyn Fn(DialectId) -> bool) -> Result<RoutePlan, NoRoute> {
    find::find(fleet, query, knows, &mut ())
}

#[cfg(test)]
mod tests;
