//! Requests, written: which hints for the prompt cache can stay.
//!
//! Anthropic's page on prompt caching: at most four in a request, and none of an hour after one of five minutes.

use serde_json::{Map, Value, json};

use crate::ir::{Block, CacheHint, Content, LossReport, Request};

/// Most hints in a request.
const MAX_HINTS: usize = 4;

/// What becomes of the hints of a request.
pub(super) struct CachePlan<'r> {
    dropped: Vec<&'r str>,
    shortened: Vec<&'r str>,
}

fn of_block<'r>(block: &'r Block, hints: &mut Vec<&'r CacheHint>) {
    if let Content::ToolResult(result) = &block.content {
        for inner in &result.blocks {
            of_block(inner, hints);
        }
    }
    hints.extend(&block.cache);
}

impl<'r> CachePlan<'r> {
    /// Looks at all hints, in the order in which the provider sees them.
    pub(super) fn of(request: &'r Request, loss: &mut LossReport) -> Self {
        let mut hints: Vec<&CacheHint> = request.tools.iter().filter_map(|tool| tool.cache.as_ref()).collect();
        for block in request.all_messages().flat_map(|message| &message.blocks) {
            of_block(block, &mut hints);
        }
        // The request's own hint, for its end, takes one of the places.
        let whole = request.native.iter().any(|native| &*native.at == "cache_control");
        let places = MAX_HINTS - usize::from(whole);
        let mut plan = CachePlan {
            dropped: Vec::new(),
            shortened: Vec::new(),
        };
        if hints.len() > places {
            // The first is what most requests share, the last are what the next of this conversation will share.
            let surplus = hints.drain(1..hints.len() - (places - 1));
            plan.dropped.extend(surplus.map(|hint| &*hint.at));
        }
        let mut short = false;
        for hint in hints {
            let hour = hint.ttl.as_deref() == Some("1h");
            if hour && short {
                plan.shortened.push(&hint.at);
            }
            short |= !hour;
        }
        for at in &plan.dropped {
            loss.dropped((*at).to_owned(), "a request may have four cache hints there");
        }
        for at in &plan.shortened {
            loss.approximated(
                (*at).to_owned(),
                "a cache of an hour may not follow one of five minutes there",
            );
        }
        plan
    }

    /// Writes a hint where it stood.
    pub(super) fn put(&self, hint: Option<&CacheHint>, node: &mut Map<String, Value>, loss: &mut LossReport) {
        let Some(hint) = hint.filter(|hint| !self.dropped.contains(&&*hint.at)) else {
            return;
        };
        let control = match hint.ttl.as_deref() {
            Some(ttl @ ("5m" | "1h")) if !self.shortened.contains(&&*hint.at) => {
                json!({"type": "ephemeral", "ttl": ttl})
            }
            ttl => {
                if ttl.is_some_and(|ttl| ttl != "1h") {
                    loss.approximated(hint.at.to_string(), "caches last five minutes or an hour there");
                }
                json!({"type": "ephemeral"})
            }
        };
        node.insert("cache_control".into(), control);
    }
}
