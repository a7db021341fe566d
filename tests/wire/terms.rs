//! What beside usage decides the bill: the service tier a provider says it used, and pictures in the answer. The recordings
//! say which, read here with plain JSON values.

use serde_json::Value;

use super::truth::sse_events;
use super::{Report, cases, run};

/// Where each dialect says its tier, and the words it is told in.
fn tier(wire: &str, data: &Value) -> Option<String> {
    let said = match wire {
        "openai_chat" => data.get("service_tier"),
        "openai_responses" if data.get("response").is_some() => {
            let done = ["completed", "incomplete", "failed"];
            let last = done.iter().any(|end| data["type"] == format!("response.{end}"));
            last.then(|| &data["response"]["service_tier"])
        }
        "openai_responses" => data.get("service_tier"),
        "anthropic" => data
            .pointer("/usage/service_tier")
            .or(data.pointer("/message/usage/service_tier")),
        _ => {
            let usage = &data["usageMetadata"];
            usage.get("serviceTier").or(usage.get("trafficType"))
        }
    };
    let word = said?.as_str().filter(|word| !word.is_empty())?;
    Some(match word {
        "ON_DEMAND" => "standard".to_owned(),
        word => word.to_owned(),
    })
}

/// Pictures of a whole answer.
fn pictures(wire: &str, data: &Value) -> usize {
    let all = |value: &Value| value.as_array().cloned().unwrap_or_default();
    match wire {
        "openai_responses" => {
            let items = all(&data["output"]);
            let done = |item: &&Value| item["type"] == "image_generation_call" && item["result"].is_string();
            items.iter().filter(done).count()
        }
        "gemini" => {
            let parts = all(&data["candidates"])
                .into_iter()
                .flat_map(|c| all(&c["content"]["parts"]));
            let mime = |part: &Value| part["inlineData"]["mimeType"].as_str().map(str::to_owned);
            parts
                .filter_map(|part| mime(&part))
                .filter(|mime| mime.starts_with("image/"))
                .count()
        }
        "openai_chat" => {
            let choices = all(&data["choices"]);
            choices
                .iter()
                .map(|choice| all(&choice["message"]["images"]).len())
                .sum()
        }
        _ => 0,
    }
}

#[test]
fn tiers_and_pictures_are_told() {
    let mut report = Report::default();
    let (mut tiers, mut painted) = (0, 0);
    for case in cases() {
        let wire = case.wire.as_str();
        if case.response.status >= 400 || !["openai_chat", "openai_responses", "anthropic", "gemini"].contains(&wire) {
            continue;
        }
        let events = match case.stream {
            true => sse_events(case.body()).into_iter().map(|(_, data)| data).collect(),
            false => vec![case.body().to_owned()],
        };
        let events = events.iter().filter_map(|data| serde_json::from_str(data).ok());
        // Some streams are a JSON array.
        let events: Vec<Value> = events
            .flat_map(|data| match data {
                Value::Array(elements) => elements,
                one => vec![one],
            })
            .collect();
        let mut said = events.iter().filter_map(|data| tier(wire, data));
        // A chat stream repeats it; others may first say what was asked for.
        let said = if wire == "openai_chat" {
            said.next()
        } else {
            said.last()
        };
        let (_, _, stream) = run(case.plan(case.kind()), std::iter::once(case.body().as_bytes()));
        let meter = stream.meter();
        tiers += usize::from(said.is_some());
        report.check(meter.service == said, || {
            format!("{}: tier {:?}, recorded {said:?}", case.id, meter.service)
        });
        if let ([whole], false) = (&events[..], case.stream) {
            let there = pictures(wire, whole);
            painted += there;
            report.check(usize::try_from(meter.images_out) == Ok(there), || {
                format!("{}: {} pictures, recorded {there}", case.id, meter.images_out)
            });
        }
    }
    if tiers > 0 {
        report.check(tiers > 300, || format!("only {tiers} recordings say their tier"));
        report.check(painted > 0, || "no recording has a picture".to_owned());
    }
    report.end("terms");
}
