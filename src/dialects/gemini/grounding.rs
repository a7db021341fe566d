//! What a text refers to: `groundingMetadata` (sources, and which bytes of the text rest on them) and `logprobsResult`.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::places::Places;
use crate::ir::{Citation, Logprob};

/// Reads the sources of a text. One citation for each source a piece of the text rests on; a source nothing is said to
/// rest on is cited without a span.
pub(super) fn read(raw: &str, places: &Places) -> Vec<Citation<'static>> {
    let Ok(metadata) = serde_json::from_str::<Value>(raw) else {
        return Vec::new();
    };
    let list = |camel: &str, snake: &str| -> Vec<Value> {
        let list = metadata[camel].as_array().or_else(|| metadata[snake].as_array());
        list.cloned().unwrap_or_default()
    };
    let chunks = list("groundingChunks", "grounding_chunks");
    let supports = list("groundingSupports", "grounding_supports");
    let mut used = vec![false; chunks.len()];
    let mut citations = Vec::new();
    for support in &supports {
        let segment = &support["segment"];
        let start = segment["startIndex"].as_u64().unwrap_or(0);
        let span = || {
            let end = segment["endIndex"].as_u64()?;
            Some((places.character(start)?, places.character(end)?))
        };
        for index in support["groundingChunkIndices"].as_array().into_iter().flatten() {
            let index = index.as_u64().and_then(|index| usize::try_from(index).ok());
            let Some((chunk, used)) = index.and_then(|index| Some((chunks.get(index)?, used.get_mut(index)?))) else {
                continue;
            };
            *used = true;
            citations.extend(citation(chunk).map(|citation| Citation {
                span: span(),
                ..citation
            }));
        }
    }
    let unused = chunks.iter().zip(used).filter(|(_, used)| !used);
    citations.extend(unused.filter_map(|(chunk, _)| citation(chunk)));
    citations
}

/// A source: a page of the web, a document, a map's place.
fn citation(chunk: &Value) -> Option<Citation<'static>> {
    let source = ["web", "retrievedContext", "maps"]
        .iter()
        .find_map(|kind| chunk.get(kind))?;
    let text = |key: &str| Cow::Owned(source[key].as_str().unwrap_or_default().to_owned());
    Some(Citation {
        url: text("uri"),
        title: text("title"),
        ..Citation::default()
    })
}

/// Sources and what rests on them, being collected.
#[derive(Debug, Default)]
pub(super) struct Grounding {
    chunks: Vec<Value>,
    supports: Vec<Value>,
}

impl Grounding {
    /// Takes a citation; `false`: it names no address, and can't be told.
    pub(super) fn add(&mut self, citation: &Citation<'_>, places: &Places) -> bool {
        if citation.url.is_empty() {
            return false;
        }
        let mut web = Map::new();
        web.insert("uri".into(), citation.url.as_ref().into());
        if !citation.title.is_empty() {
            web.insert("title".into(), citation.title.as_ref().into());
        }
        let chunk = json!({ "web": web });
        let index = self.chunks.iter().position(|known| *known == chunk).unwrap_or_else(|| {
            self.chunks.push(chunk);
            self.chunks.len() - 1
        });
        let span = citation
            .span
            .and_then(|(start, end)| Some((places.byte(start)?, places.byte(end)?)));
        if let Some((start, end)) = span {
            let segment = json!({"startIndex": start, "endIndex": end});
            self.supports
                .push(json!({"segment": segment, "groundingChunkIndices": [index]}));
        }
        true
    }

    /// `groundingMetadata`; `None`: nothing was cited.
    pub(super) fn metadata(&self) -> Option<Value> {
        if self.chunks.is_empty() {
            return None;
        }
        let mut metadata = json!({ "groundingChunks": self.chunks });
        if !self.supports.is_empty() {
            metadata["groundingSupports"] = json!(self.supports);
        }
        Some(metadata)
    }
}

/// Reads `logprobsResult`.
pub(super) fn read_logprobs(raw: &str) -> Vec<Logprob> {
    let Ok(result) = serde_json::from_str::<Value>(raw) else {
        return Vec::new();
    };
    let one = |value: &Value| Logprob {
        token: value["token"].as_str().unwrap_or_default().to_owned(),
        logprob: value["logProbability"].as_f64().unwrap_or_default(),
        bytes: None,
        top: Vec::new(),
    };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let tops = list(&result["topCandidates"]);
    let chosen = list(&result["chosenCandidates"]);
    let with_top = |(index, value): (usize, &Value)| Logprob {
        top: tops
            .get(index)
            .map(|top| list(&top["candidates"]).iter().map(one).collect())
            .unwrap_or_default(),
        ..one(value)
    };
    chosen.iter().enumerate().map(with_top).collect()
}

/// Writes `logprobsResult`.
pub(super) fn logprobs(logprobs: &[Logprob]) -> Value {
    let one = |logprob: &Logprob| json!({"token": logprob.token, "logProbability": logprob.logprob});
    let mut result = json!({ "chosenCandidates": logprobs.iter().map(one).collect::<Vec<_>>() });
    if logprobs.iter().any(|logprob| !logprob.top.is_empty()) {
        let top = |logprob: &Logprob| json!({ "candidates": logprob.top.iter().map(one).collect::<Vec<_>>() });
        result["topCandidates"] = logprobs.iter().map(top).collect();
    }
    result
}
