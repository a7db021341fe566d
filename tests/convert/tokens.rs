//! Provider-bound tokens: what a provider signs comes back to it unchanged through a client of any other dialect, and to
//! nobody else.

use bytes::Bytes;
use serde_json::{Value, json};
use tollgate::dialects::{ALL, Dialect, Upstream};
use tollgate::ir::response::Response;
use tollgate::ir::{LossReport, Operation};
use tollgate::translate;

use crate::answers::{self, Answer};
use crate::report::Report;
use crate::{fixtures, gateway, recordings};

/// The answer as a client which wants it whole gets it.
fn told(answer: &Answer, provider: &str, model: &str, client: &'static dyn Dialect) -> Value {
    let mut stream = gateway::stream(answer, (provider, model), client, false);
    let mut out = stream.chunk(Bytes::copy_from_slice(answer.body.as_bytes())).to_vec();
    out.extend_from_slice(&stream.finish().0);
    serde_json::from_slice(&out).expect("a whole answer")
}

/// The client's next request: it returns the answer as its dialect's clients do.
fn next(client: &str, answer: &Value) -> Value {
    let model = "a-route";
    match client {
        "openai_chat" => json!({"model": model, "messages": [
            {"role": "user", "content": "Hello"}, answer["choices"][0]["message"]]}),
        "openai_responses" => {
            let mut input = vec![json!({"role": "user", "content": "Hello"})];
            input.extend(answer["output"].as_array().expect("items").iter().cloned());
            json!({"model": model, "input": input})
        }
        "anthropic" => json!({"model": model, "max_tokens": 4000, "messages": [
            {"role": "user", "content": "Hello"}, {"role": "assistant", "content": answer["content"]}]}),
        _ => json!({"contents": [{"role": "user", "parts": [{"text": "Hello"}]}, answer["candidates"][0]["content"]]}),
    }
}

/// The request as the provider gets it.
fn returned(
    client: &dyn Dialect,
    request: &Value,
    to: &'static dyn Dialect,
    provider: &str,
    model: &str,
) -> (String, LossReport) {
    let target = recordings::target(client.id().as_str(), false);
    let decoded = translate::request::decode(&target, request.to_string().as_bytes()).expect("a client's request");
    let recipient = translate::Recipient {
        dialect: to,
        provider,
        upstream: Upstream {
            model,
            stream: false,
            ask_usage: false,
        },
    };
    let converted =
        translate::request::encode(decoded.clone(), client.id(), Operation::Chat, &recipient).expect("it can be said");
    (String::from_utf8(converted.body).expect("UTF-8"), converted.loss)
}

/// The tokens of an answer, as they stand on the wire. In one dialect the hub's are entries of a list, of which signature or
/// data is what matters; in one some are marked as coming without a text. One client's has no place for the token of a text: it
/// is not asked back by anyone.
fn tokens(response: &Response, client: &str) -> Vec<String> {
    let secret = |token: &str| match serde_json::from_str::<Value>(token) {
        Ok(entry) if entry.is_object() => ["signature", "data"]
            .iter()
            .find_map(|field| entry[field].as_str())
            .unwrap_or(token)
            .to_owned(),
        _ => token.to_owned(),
    };
    let unmarked = |token: String| {
        token
            .strip_prefix("thinking_unseen_")
            .map_or(token.clone(), str::to_owned)
    };
    let blocks = response
        .candidates
        .iter()
        .filter(|candidate| candidate.index == 0)
        .flat_map(|c| &c.blocks);
    blocks
        .filter(|block| client != "anthropic" || block.as_text().is_none())
        .filter_map(|block| Some(unmarked(secret(&block.opaque.as_ref()?.0))))
        .collect()
}

#[test]
fn tokens_come_back_to_their_maker_only() {
    let mut report = Report::default();
    for answer in answers::all() {
        let Some(response) = answers::complete(&answer) else {
            continue;
        };
        let maker = answer.dialect;
        // Of those who speak this dialect, brokers have tokens.
        let model = match maker.id().as_str() {
            "openai_chat" => "anthropic/claude-sonnet-4.5",
            name => fixtures::model(name),
        };
        for client in ALL.iter().filter(|client| client.id() != maker.id()) {
            let pair = format!("{} through {}", maker.id(), client.id());
            let tokens = tokens(&response, client.id().as_str());
            if tokens.is_empty() {
                continue;
            }
            let told = told(&answer, "its-maker", model, *client);
            let request = next(client.id().as_str(), &told);
            let (home, loss) = returned(*client, &request, maker, "its-maker", model);
            for token in &tokens {
                report.check(&pair, home.contains(&json!(token).to_string()), || {
                    format!(
                        "{}: a token of {} bytes is gone; lost: {:?}",
                        answer.id,
                        token.len(),
                        loss.losses()
                    )
                });
            }
            for to in ALL {
                // Another provider of the same dialect is a stranger too; so is the client's own dialect.
                let (away, loss) = returned(*client, &request, *to, "a-stranger", fixtures::model(to.id().as_str()));
                let leaks = |token: &&String| away.contains(&json!(token).to_string());
                report.check(
                    &pair,
                    !tokens.iter().any(|token| token.len() > 8 && leaks(&token)),
                    || format!("{}: a token goes to a stranger of {}", answer.id, to.id()),
                );
                report.check(&pair, !loss.is_empty(), || {
                    format!("{}: nothing is told as stripped for {}", answer.id, to.id())
                });
                report.check(&pair, !away.contains("dG9sbGdhdGUx"), || {
                    format!("{}: a sealed token goes to {}", answer.id, to.id())
                });
            }
        }
    }
    report.end("tokens", true);
}
