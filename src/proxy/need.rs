//! What an attempt may need: of its prompt, its answer and its price, before it is made. Only keys with limits in tokens or money pay
//! for knowing it.

use std::sync::Arc;

use bytes::Bytes;

use crate::dialects::{self, Dialect};
use crate::ir::{ApiError, ErrorKind, Operation};
use crate::keys::Grant;
use crate::limits::Estimate;
use crate::money::{Extras, Markup};
use crate::routing::Candidate;
use crate::rules::{Rules, UnknownPrice};
use crate::translate::bound::{self, Prompt, Said};
use crate::translate::edit::{self, Change, How};
use crate::translate::request;

use super::Gateway;
use super::bill::{Bill, Terms};
use super::context::RequestContext;
use super::prepare::{ELSEWHERE, Prepared, internal};
use super::request_filter::unread;

/// Tokens that a prompt has at most whose size nobody here knows, where the table of models has no context either: the longest that
/// providers with presets offer.
const LONGEST_CONTEXT: u64 = 1 << 20;

/// What one attempt may need, and how it is billed.
pub struct Need {
    /// What it reserves.
    pub estimate: Estimate,
    /// How it is billed.
    pub bill: Arc<Bill>,
    /// The prompt's tokens, probably; 0: nobody needed to know.
    pub prompt: u64,
}

/// The answer's length, as it was made sure.
#[derive(Clone, Debug, Default)]
pub struct Length {
    /// Tokens of all candidates at most.
    pub most: u64,
    /// Tokens that are likely.
    pub expected: u64,
    /// Answers asked for.
    pub candidates: u64,
    /// The service tier asked for.
    pub service: Option<String>,
}

/// The request's key has limits for which answers must have a length.
pub fn bounds_answers(ctx: &RequestContext) -> bool {
    ctx.client
        .grant
        .as_ref()
        .is_some_and(|grant| grant.chain.bounds_answers())
}

/// Makes sure that the answer's length is limited, and says to what. A limit of the client's own stays; where it has none, that of the
/// table of models, else the configuration's, is put into the body. Everything else of it keeps its bytes.
pub async fn limit(
    gateway: &Gateway,
    ctx: &RequestContext,
    candidate: &Candidate,
    prepared: &mut Prepared,
) -> Result<(), ApiError> {
    let is_chat = ctx
        .client
        .target
        .as_ref()
        .is_some_and(|target| target.operation == Operation::Chat);
    if !is_chat || !bounds_answers(ctx) {
        return Ok(());
    }
    let assumed = gateway.config.limits.assumed_output;
    let facts = rules(ctx).and_then(|rules| rules.models.facts(&candidate.pool.provider.name, &prepared.model));
    let longest = facts.and_then(|facts| facts.output);
    let wanted = Wanted {
        dialect: dialects::get(candidate.endpoint.dialect),
        model: prepared.model.clone(),
        length: longest.unwrap_or(assumed),
        assumed,
    };
    let body = prepared.body.clone();
    let done = if body.len() < ELSEWHERE {
        wanted.put(body)
    } else {
        tokio::task::spawn_blocking(move || wanted.put(body))
            .await
            .map_err(|_| internal())?
    };
    (prepared.body, prepared.length) = done?;
    Ok(())
}

/// A limit wanted for a body without one.
struct Wanted {
    dialect: &'static dyn Dialect,
    model: Arc<str>,
    length: u64,
    assumed: u64,
}

impl Wanted {
    fn put(&self, body: Bytes) -> Result<(Bytes, Length), ApiError> {
        let said = bound::number(&body, self.dialect, "max_output_tokens");
        let candidates = match bound::number(&body, self.dialect, "n") {
            Said::Nothing => 1,
            Said::Number(n) => n.max(1),
            Said::Odd => return Err(odd("the number of answers")),
        };
        let length = |each: u64, expected: u64| Length {
            most: each.saturating_mul(candidates),
            expected: expected.saturating_mul(candidates),
            candidates,
            service: bound::word(&body, self.dialect, "service_tier"),
        };
        match said {
            Said::Odd => Err(odd("the limit of the answer")),
            // Some take 0 for no limit.
            Said::Number(0) => Ok((body.clone(), length(self.length, 0))),
            Said::Number(limit) => Ok((body.clone(), length(limit, limit))),
            Said::Nothing => {
                let Some(path) = self.dialect.output_limit(&self.model) else {
                    return Ok((body.clone(), length(self.length, self.assumed.min(self.length))));
                };
                let value = self.length.into();
                let change = Change {
                    path,
                    how: How::Default(&value),
                };
                let limited = edit::apply(&body, self.dialect, &[change]).map_err(|error| {
                    ApiError::new(ErrorKind::InvalidRequest, error.to_string()).code("invalid_type")
                })?;
                Ok((limited, length(self.length, self.assumed.min(self.length))))
            }
        }
    }
}

fn odd(what: &str) -> ApiError {
    let message = format!("{what} must be a whole number from 0 on: the budget of this key depends on it");
    ApiError::new(ErrorKind::InvalidRequest, message).code("invalid_type")
}

/// Bounds the prompt, once, before anything takes the request that was read.
pub async fn prompt(ctx: &mut RequestContext) -> Result<(), ApiError> {
    if ctx.books.prompt.is_some() || !bounds_answers(ctx) {
        return Ok(());
    }
    ctx.books.prompt = Some(read(ctx).await?);
    Ok(())
}

async fn read(ctx: &mut RequestContext) -> Result<Prompt, ApiError> {
    let Some(target) = ctx.client.target.clone() else {
        return Ok(Prompt::default());
    };
    if target.operation == Operation::CountTokens {
        return Ok(Prompt::default());
    }
    let body = ctx.client.body.clone();
    if let Some(decoded) = &ctx.client.decoded {
        return Ok(bound::of(decoded, body.len()));
    }
    if let Some(prompt) = bound::by_bytes(&body) {
        return Ok(prompt);
    }
    let length = body.len();
    let decoded = if length < ELSEWHERE {
        request::decode(&target, &body)
    } else {
        let decode = tokio::task::spawn_blocking(move || request::decode(&target, &body)).await;
        decode.map_err(|_| unread())?
    };
    let Ok(decoded) = decoded else {
        // Whether it is refused is for the provider to say.
        return Ok(bound::unread(length));
    };
    let prompt = bound::of(&decoded, length);
    ctx.client.decoded = Some(decoded);
    Ok(prompt)
}

/// What an attempt with this candidate may need. An error: it can't be asked this, since nobody knows what that costs.
pub fn of(
    gateway: &Gateway,
    ctx: &RequestContext,
    candidate: &Candidate,
    prepared: &Prepared,
) -> Result<Need, ApiError> {
    let grant = ctx.client.grant.as_deref();
    let markup = grant.map_or(Markup::default(), Grant::markup);
    let operation = ctx.client.target.as_ref().map(|target| target.operation);
    if operation == Some(Operation::CountTokens) {
        return Ok(Need {
            estimate: Estimate::default(),
            bill: Arc::new(Bill::new(Terms::Free, markup)),
            prompt: 0,
        });
    }
    let (provider, model) = (&candidate.pool.provider.name, &prepared.model);
    let rules = rules(ctx);
    // Of any path of a provider nobody knows what it costs.
    let price = rules
        .filter(|_| operation.is_some())
        .and_then(|rules| rules.prices.shared(provider, model, gateway.clock.now()));
    let route = ctx.route.as_ref().and_then(|stage| stage.plan.route.as_ref());
    let unknown = route.and_then(|route| route.unknown_price);
    let unknown = unknown.unwrap_or_else(|| UnknownPrice::from(gateway.config.limits.unknown_price));
    let bounded = grant.is_some_and(|grant| grant.chain.bounds_money());
    let bill = Bill::by(price, bounded, unknown, markup).ok_or_else(|| unknown_price(model))?;
    let Some(prompt) = ctx.books.prompt else {
        let money = bill.most(0, 0, Extras::default());
        return Ok(Need {
            estimate: Estimate {
                money: if bounded { money } else { Default::default() },
                ..Estimate::default()
            },
            bill: Arc::new(bill),
            prompt: 0,
        });
    };
    let context = rules.and_then(|rules| rules.models.facts(provider, model)?.context);
    let most = prompt.most.saturating_add(prepared.grown);
    let most = if prompt.open {
        context.unwrap_or(LONGEST_CONTEXT).max(most)
    } else {
        most
    };
    // No prompt is longer than the model's context: a longer one is refused, and costs nothing.
    let most = context.map_or(most, |context| most.min(context));
    let length = &prepared.length;
    let asked = Extras {
        service: length.service.as_deref(),
        images_in: prompt.pictures,
        images_out: u32::try_from(length.candidates).unwrap_or(u32::MAX),
        ..Extras::default()
    };
    let money = if bounded {
        bill.most(most, length.most, asked)
    } else {
        Default::default()
    };
    Ok(Need {
        estimate: Estimate {
            tokens: prompt.expected.saturating_add(length.expected),
            most_tokens: most.saturating_add(length.most),
            money,
        },
        bill: Arc::new(bill),
        prompt: prompt.expected,
    })
}

fn rules(ctx: &RequestContext) -> Option<&Arc<Rules>> {
    ctx.route.as_ref().map(|stage| stage.fleet.rules())
}

fn unknown_price(model: &str) -> ApiError {
    let what = match model {
        "" => "what stands at this path".to_owned(),
        model => format!("the model `{}`", crate::observe::redact::printable(model, 64)),
    };
    let message = format!("this key has a budget in money, and the price of {what} is not known here");
    ApiError::new(ErrorKind::Permission, message).code("unknown_price")
}
