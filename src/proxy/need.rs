//! What an attempt may need: of its prompt, its answer and its price, before it is made. Only keys with limits in tokens or money pay
//! for knowing it.

use std::sync::Arc;

use bytes::Bytes;
use memchr::memmem;

use crate::dialects::{self, Dialect};
use crate::ir::{ApiError, ErrorKind, Operation};
use crate::keys::Grant;
use crate::limits::Estimate;
use crate::money::{Markup, Price};
use crate::routing::Candidate;
use crate::rules::{Rules, UnknownPrice};
use crate::translate::bound::{self, Prompt, Said};
use crate::translate::edit::{self, Change, How};
use crate::translate::request;

use super::Gateway;
use super::bill::{Asked, Bill, Terms};
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
    if !is_chat {
        return Ok(());
    }
    let bounds = bounds_answers(ctx);
    // A bound must not be fooled by escapes. Else most requests name no tier, and reading all of a body costs more than looking.
    let names = || SERVICE.iter().any(|name| memmem::find(&prepared.body, name).is_some());
    let price = prepared.price.as_ref();
    let asks_service = price.is_some_and(|price| price.has_services()) && (bounds || names());
    if !bounds && !asks_service {
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
        bounds,
        asks_service,
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

/// How fields that ask for a service tier begin (`service_tier`, `serviceTier`), or are called.
const SERVICE: [&[u8]; 2] = [b"\"service", b"\"speed\""];

/// A limit wanted for a body without one, and what else is read of it.
struct Wanted {
    dialect: &'static dyn Dialect,
    model: Arc<str>,
    length: u64,
    assumed: u64,
    /// Somebody needs the length.
    bounds: bool,
    /// The body may name a service tier.
    asks_service: bool,
}

impl Wanted {
    /// The service tier asked for. `speed = "fast"` asks for the one of that name, whatever else is said.
    fn service(&self, body: &[u8]) -> Option<String> {
        let word = |path| bound::word(body, self.dialect, path);
        let fast = word("speed").filter(|word| word == "fast");
        fast.or_else(|| word("service_tier"))
    }

    fn put(&self, body: Bytes) -> Result<(Bytes, Length), ApiError> {
        let service = self.asks_service.then(|| self.service(&body)).flatten();
        if !self.bounds {
            let length = Length {
                service,
                ..Length::default()
            };
            return Ok((body, length));
        }
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
            service: service.clone(),
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

/// Bounds the prompt, once, before anything takes the request that was read: where the client's limits need it, or this price is
/// by the picture.
pub async fn prompt(ctx: &mut RequestContext, price: Option<&Price>) -> Result<(), ApiError> {
    if ctx.books.prompt.is_some() {
        return Ok(());
    }
    if !bounds_answers(ctx) && !price.is_some_and(Price::counts_pictures) {
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
    let price = prepared.price.as_ref();
    let route = ctx.route.as_ref().and_then(|stage| stage.plan.route.as_ref());
    let unknown = route.and_then(|route| route.unknown_price);
    let unknown = unknown.unwrap_or_else(|| UnknownPrice::from(gateway.config.limits.unknown_price));
    let bounded = grant.is_some_and(|grant| grant.chain.bounds_money());
    let bill = Bill::by(price, bounded, unknown, markup).ok_or_else(|| unknown_price(model))?;
    let length = &prepared.length;
    let counts = price.is_some_and(|price| price.counts_pictures());
    let bill = bill.asking(Asked {
        service: length.service.as_deref().map(Into::into),
        pictures: ctx.books.prompt.filter(|_| counts).map_or(0, |prompt| prompt.pictures),
    });
    let Some(prompt) = ctx.books.prompt else {
        let money = bill.most(0, 0, 0);
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
    let money = if bounded {
        let images_out = u32::try_from(length.candidates).unwrap_or(u32::MAX);
        bill.most(most, length.most, images_out)
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

/// The price of the candidate's model, as it is now. Of any path of a provider nobody knows what it costs.
pub fn price<'a>(
    gateway: &Gateway,
    ctx: &'a RequestContext,
    candidate: &Candidate,
    model: &str,
) -> Option<&'a Arc<Price>> {
    ctx.client.target.as_ref()?;
    let provider = &candidate.pool.provider.name;
    rules(ctx)?.prices.shared(provider, model, gateway.clock.now())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_tier_is_read_where_the_dialect_has_it() {
        for (dialect, body, want) in [
            ("openai_chat", r#"{"service_tier":"flex"}"#, Some("flex")),
            ("openai_responses", r#"{"service_tier":"priority"}"#, Some("priority")),
            (
                "anthropic",
                r#"{"service_tier":"standard_only"}"#,
                Some("standard_only"),
            ),
            (
                "anthropic",
                r#"{"service_tier":"standard_only","speed":"fast"}"#,
                Some("fast"),
            ),
            ("anthropic", r#"{"speed":"standard"}"#, None),
            ("gemini", r#"{"serviceTier":"flex"}"#, Some("flex")),
            ("gemini", r#"{"service_tier":"flex"}"#, Some("flex")),
            ("openai_chat", r#"{"service\u005ftier":"flex"}"#, Some("flex")),
            ("openai_chat", r#"{"service_tier":null}"#, None),
            ("openai_chat", r#"{"messages":[{"service_tier":"flex"}]}"#, None),
        ] {
            let wanted = Wanted {
                dialect: dialects::by_name(dialect).unwrap(),
                model: "m".into(),
                length: 5,
                assumed: 5,
                bounds: false,
                asks_service: true,
            };
            let (same, length) = wanted.put(Bytes::from(body)).unwrap();
            assert_eq!(
                (&*same, length.service.as_deref()),
                (body.as_bytes(), want),
                "{dialect}"
            );
        }
    }
}
