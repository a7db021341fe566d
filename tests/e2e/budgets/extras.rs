//! What has a price beside tokens: pictures in prompts, and service tiers.

use serde_json::json;

use super::*;
use crate::support::dialect::ALL;
use crate::support::provider::{Answer, Provider as Scripted};

/// A dollar for a million tokens of input, two for output, a tenth of a cent for a picture; ten times the tokens' price at once.
const PICTURED: &str = "[[price]]\nname = \"*pictured*\"\ninput = 1\noutput = 2\ninput_image = 0.001\n\
                        services = { priority = { input = 10, output = 20 } }\n";

const MODEL: &str = "pictured,prompt=1000,tokens=500";

/// A request with pictures, and how many they are.
fn pictures(dialect: Dialect, model: &str) -> (Value, usize) {
    let (link, data) = ("https://a.example/x.png", "iVBORw0KGgo=");
    match dialect {
        Dialect::Chat => {
            let parts = json!([{"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {"url": link}}]);
            (
                json!({"model": model, "messages": [{"role": "user", "content": parts}]}),
                1,
            )
        }
        Dialect::Responses => {
            let parts = json!([{"type": "input_text", "text": "Hi"}, {"type": "input_image", "image_url": link}]);
            (
                json!({"model": model, "input": [{"role": "user", "content": parts}]}),
                1,
            )
        }
        Dialect::Messages => {
            let picture =
                json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}});
            let tool = json!({"type": "tool_result", "tool_use_id": "t", "content": [picture]});
            let messages = json!([
                {"role": "user", "content": [picture, {"type": "text", "text": "Hi"}]},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]},
                {"role": "user", "content": [tool]},
            ]);
            (json!({"model": model, "max_tokens": 64, "messages": messages}), 2)
        }
        Dialect::Gemini => {
            let parts = json!([
                {"text": "Hi"},
                {"inline_data": {"mime_type": "image/png", "data": data}},
                {"fileData": {"mimeType": "image/png", "fileUri": link}},
                {"inlineData": {"mimeType": "audio/wav", "data": data}},
            ]);
            (json!({"contents": [{"role": "user", "parts": parts}]}), 2)
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pictures_have_their_price_where_the_model_has_one() {
    let (gateway, _provider, keys) = setting(PICTURED, "", &[dollars("100"), Policy::default()]).await;
    let mut want = Vec::new();
    for key in &keys {
        for dialect in ALL {
            let mut costs = Vec::new();
            let mut count = 0;
            for model in ["priced,prompt=1000,tokens=500", MODEL] {
                let body;
                (body, count) = pictures(dialect, model);
                let path = dialect.path(model, false);
                let reply = post(&gateway, key, dialect, &path, body.to_string().as_bytes()).await;
                assert_eq!(reply.status, 200, "{dialect:?}: {}", reply.text());
                let cost: tollgate::money::NanoUsd = reply.header("x-tollgate-cost-usd").unwrap().parse().unwrap();
                let counted = if model == MODEL { count as u64 } else { 0 };
                want.push((counted, cost.to_string()));
                costs.push(cost.0);
            }
            assert_eq!(costs[1] - costs[0], 1_000_000 * count as u64, "{dialect:?}");
        }
    }
    let rows = gateway.settled_rows(want.len()).await;
    let told = rows.iter().map(|row| {
        let cost = row["cost_usd"].as_str().unwrap().to_owned();
        (row["images_in"].as_u64().unwrap(), cost)
    });
    let (mut told, mut want) = (told.collect::<Vec<_>>(), want);
    told.sort();
    want.sort();
    assert_eq!(told, want);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_tier_asked_for_counts_where_the_answer_tells_none() {
    let provider = Scripted::start(|request| {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let mut answer = json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "pictured",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500},
        });
        if let Some(told) = body.get("user") {
            answer["service_tier"] = told.clone();
        }
        Answer::json(200, answer.to_string())
    })
    .await;
    let policies = [dollars("1"), Policy::default()];
    let (gateway, keys) = setting_at(provider.address, PICTURED, "", &policies).await;
    for key in &keys {
        // Asked for, told, cost.
        for (asked, told, cost) in [
            (json!({}), None, "0.002"),
            (json!({"service_tier": "auto"}), None, "0.002"),
            (json!({"service_tier": "default"}), None, "0.002"),
            (json!({"service_tier": "priority"}), None, "0.02"),
            (json!({"service_tier": "priority"}), Some("default"), "0.002"),
            (json!({}), Some("priority"), "0.02"),
        ] {
            let mut body = json!({"model": "pictured", "messages": [{"role": "user", "content": "Hi"}]});
            let fields = body.as_object_mut().unwrap();
            fields.extend(asked.as_object().unwrap().clone());
            fields.extend(told.map(|told| ("user".to_owned(), json!(told))));
            let text = body.to_string();
            let reply = post(&gateway, key, Dialect::Chat, "/v1/chat/completions", text.as_bytes()).await;
            assert_eq!(
                reply.header("x-tollgate-cost-usd"),
                Some(cost),
                "{text}: {}",
                reply.text()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dearest_tier_that_may_be_used_is_reserved() {
    // A thousand tokens of output are 0.002 dollars, at once 0.02; the prompt is a hundredth of that.
    let (gateway, _provider, keys) = setting(PICTURED, "", &[dollars("0.01")]).await;
    for (tier, status) in [
        (json!(null), 429),
        (json!("auto"), 429),
        (json!("priority"), 429),
        (json!("default"), 200),
    ] {
        let body = json!({
            "model": "pictured,tokens=1", "max_tokens": 1000, "service_tier": tier,
            "messages": [{"role": "user", "content": "Hi"}],
        });
        let reply = post(
            &gateway,
            &keys[0],
            Dialect::Chat,
            "/v1/chat/completions",
            body.to_string().as_bytes(),
        )
        .await;
        assert_eq!(reply.status, status, "{tier}: {}", reply.text());
    }
}
