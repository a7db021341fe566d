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
use crate::translate::bound::{self, Prompt, Said, Turns};
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
        let asked = bound::answer(&body, self.dialect, &self.model);
        let candidates = match asked.candidates {
            Said::Nothing => 1,
            Said::Number(n) => n.max(1),
            Said::Odd => return Err(odd("the number of answers")),
        };
        // At most a token a byte.
        let predicted = if asked.predicted { body.len() as u64 } else { 0 };
        let length = |each: u64, expected: u64| Length {
            most: each.saturating_add(predicted).saturating_mul(candidates),
            expected: expected.saturating_mul(candidates),
            candidates,
            service,
        };
        match asked.limit {
            Said::Odd => Err(odd("the limit of the answer")),
            Said::Number(limit) if limit > 0 => {
                // Where its provider may pass over the client's limit, or see another, it is no bound.
                let body = match self.dialect.output_limit(&self.model) {
                    Some(path) if !asked.settled => self.write(&body, path, limit)?,
                    _ => body,
                };
                Ok((body, length(limit, limit)))
            }
            // Some take 0 for no limit, some for no answer. Without a limit the model's own holds, if we know it.
            Said::Number(_) if asked.settled && self.length != self.assumed => Ok((body, length(self.length, 0))),
            Said::Number(_) | Said::Nothing => {
                let body = match self.dialect.output_limit(&self.model) {
                    Some(path) => self.write(&body, path, self.length)?,
                    None => body,
                };
                Ok((body, length(self.length, self.assumed.min(self.length))))
            }
        }
    }

    /// The limit stands there and nowhere else, under no other of its names.
    fn write(&self, body: &Bytes, path: &str, limit: u64) -> Result<Bytes, ApiError> {
        let value = limit.into();
        let changes = [How::Remove, How::Set(&value)].map(|how| Change { path, how });
        edit::apply(body, self.dialect, &changes)
            .map_err(|error| ApiError::new(ErrorKind::InvalidRequest, error.to_string()).code("invalid_type"))
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
    if let Some(mut prompt) = bound::by_bytes(&body) {
        if target.operation == Operation::Embeddings {
            // Each text may be as long as the context, and how many there are was not read.
            prompt.turns = Turns::Said(body.len() as u64);
        }
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
    let is_embedding = operation == Some(Operation::Embeddings);
    let turns = match prompt.turns {
        Turns::Said(turns) => turns,
        Turns::Open => gateway.config.limits.tool_turns,
    };
    let most = most_of_prompt(prompt, turns, prepared.grown, context, is_embedding);
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

/// Tokens of the prompt at most, as they are billed: `grown` is what was put into it here, `context` the model's.
fn most_of_prompt(prompt: Prompt, turns: u64, grown: u64, context: Option<u64>, is_embedding: bool) -> u64 {
    let turns = turns.max(1);
    let said = prompt.most.saturating_add(grown);
    // Several texts are in the body side by side; a prompt that is read again is billed again.
    let said = if is_embedding { said } else { said.saturating_mul(turns) };
    // No prompt is longer than the model's context: a longer one is refused, and costs nothing.
    let longest = context.map(|context| context.saturating_mul(turns));
    let most = match prompt.open {
        true => longest
            .unwrap_or_else(|| LONGEST_CONTEXT.saturating_mul(turns))
            .max(said),
        false => said,
    };
    longest.map_or(most, |longest| most.min(longest))
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

    fn put(dialect: &str, model: &str, length: u64, body: &str) -> (String, u64) {
        let wanted = Wanted {
            dialect: dialects::by_name(dialect).unwrap(),
            model: model.into(),
            length,
            assumed: 4096,
            bounds: true,
            asks_service: false,
        };
        let (sent, length) = wanted.put(Bytes::copy_from_slice(body.as_bytes())).unwrap();
        (String::from_utf8(sent.to_vec()).unwrap(), length.most)
    }

    #[test]
    fn a_limit_stands_under_the_name_its_provider_knows() {
        const DEEPSEEK: &str = "deepseek-v4-pro";
        for (model, body, want, most) in [
            (
                DEEPSEEK,
                r#"{"max_completion_tokens":1,"messages":[]}"#,
                r#"{"messages":[],"max_tokens":1}"#,
                1,
            ),
            (
                DEEPSEEK,
                r#"{"max_completion_tokens":1,"max_tokens":9}"#,
                r#"{"max_tokens":9}"#,
                9,
            ),
            (
                DEEPSEEK,
                r#"{"max_tokens":1,"max_completion_tokens":9}"#,
                r#"{"max_tokens":1}"#,
                1,
            ),
            (
                DEEPSEEK,
                r#"{"max_tokens":null,"max_completion_tokens":9}"#,
                r#"{"max_tokens":9}"#,
                9,
            ),
            (
                DEEPSEEK,
                r#"{"max_tokens":9,"max_tokens":null}"#,
                r#"{"max_tokens":9}"#,
                9,
            ),
            (
                DEEPSEEK,
                r#"{"max_completion_tokens":null}"#,
                r#"{"max_tokens":500}"#,
                500,
            ),
            (DEEPSEEK, r#"{"max_completion_tokens":0}"#, r#"{"max_tokens":500}"#, 500),
            (
                "gpt-5.2",
                r#"{"max_tokens":1,"max_completion_tokens":9}"#,
                r#"{"max_completion_tokens":9}"#,
                9,
            ),
            // As they came.
            (DEEPSEEK, "{ \"max_tokens\" : 7 }", "{ \"max_tokens\" : 7 }", 7),
            (DEEPSEEK, r#"{"max_tokens":0}"#, r#"{"max_tokens":0}"#, 500),
            (
                "gpt-5.2",
                "{ \"max_completion_tokens\" : 7 }",
                "{ \"max_completion_tokens\" : 7 }",
                7,
            ),
            ("gpt-4o", "{ \"max_tokens\" : 7 }", "{ \"max_tokens\" : 7 }", 7),
        ] {
            let sent = put("openai_chat", model, 500, body);
            assert_eq!(sent, (want.to_owned(), most), "{model} {body}");
        }
        let nobody_knows = put("openai_chat", "m", 4096, r#"{"max_tokens":0}"#);
        assert_eq!(
            nobody_knows,
            (r#"{"max_tokens":4096}"#.to_owned(), 4096),
            "0 may be no limit at all"
        );
        let twice = r#"{"generationConfig":{"maxOutputTokens":1},"generationConfig":{"topK":1}}"#;
        let once = r#"{"generationConfig":{"topK":1,"maxOutputTokens":1}}"#;
        assert_eq!(put("gemini", "m", 500, twice), (once.to_owned(), 1));
        for (dialect, body) in [
            ("gemini", r#"{"generation_config":{"max_output_tokens":7}}"#),
            ("anthropic", r#"{"max_tokens":7}"#),
            ("openai_responses", r#"{"max_output_tokens":7}"#),
        ] {
            assert_eq!(put(dialect, "m", 500, body), (body.to_owned(), 7));
        }
    }

    #[test]
    fn all_that_is_written_is_reserved() {
        let most = |body: &str| put("openai_chat", "gpt-4o", 500, body).1;
        assert_eq!(most(r#"{"max_tokens":7,"n":3}"#), 21);
        assert_eq!(most(r#"{"max_tokens":7,"n":3,"best_of":5}"#), 35);
        let predicted = r#"{"max_tokens":7,"n":2,"prediction":{"type":"content","content":"x"}}"#;
        assert_eq!(most(predicted), 2 * (7 + predicted.len() as u64));
    }

    #[test]
    fn a_prompt_is_bounded_by_the_context_as_often_as_it_is_read() {
        let prompt = |open| Prompt {
            most: 100,
            open,
            ..Prompt::default()
        };
        for (open, turns, context, is_embedding, want) in [
            (false, 0, None, false, 110),
            (false, 1, Some(50), false, 50),
            (false, 1, Some(500), false, 110),
            (true, 1, Some(500), false, 500),
            (true, 10, Some(500), false, 5000),
            (true, 1, None, false, LONGEST_CONTEXT),
            (true, 10, None, false, 10 * LONGEST_CONTEXT),
            (false, 3, Some(500), false, 330),
            // Three texts of 110 tokens in all.
            (false, 3, Some(500), true, 110),
            (false, 3, Some(30), true, 90),
            (true, 3, Some(500), true, 1500),
        ] {
            let most = most_of_prompt(prompt(open), turns, 10, context, is_embedding);
            assert_eq!(most, want, "{open} {turns} {context:?} {is_embedding}");
        }
    }
}
