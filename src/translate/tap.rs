//! The meter: what the tap has counted of one answer.

use super::written::Written;
use crate::ir::{ApiError, BlockHead, Delta, EventSink, FinishReason, MediaKind, StreamEvent, Usage};

/// What was learned of one answer, from its events.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    /// The provider's id of the answer.
    pub response_id: Option<String>,
    /// The model that answered, as the provider names it.
    pub model: Option<String>,
    /// Usage as last reported; `None`: the provider reported none. An explicit zero is zero.
    pub usage: Option<Usage>,
    /// Why the (first) candidate ended.
    pub finish: Option<FinishReason>,
    /// How many tool calls began.
    pub tool_calls: u32,
    /// How many events carried content; 0 until the first token.
    pub content_events: u64,
    /// Characters of its texts, reasoning and arguments of calls: for an estimate where no usage is reported.
    pub written: Written,
    /// An error the provider reported inside the answer; the first, if there are several.
    pub error: Option<ApiError>,
    /// The service tier the provider says it used, in its own word (`default`, `flex`, `priority`, `batch` ...).
    pub service: Option<String>,
    /// Pictures in the answer.
    pub images_out: u32,
    /// Of the cache reads, tokens of sound.
    pub cached_audio: u64,
    /// Of the output, tokens of pictures.
    pub image_tokens: u64,
    /// Frames that could not be read as the dialect, or were too large to be read.
    pub unread_frames: u64,
}

/// Longest id or model name kept, in bytes: they go into the log.
const MAX_NAME: usize = 256;

fn name(text: &str) -> Option<String> {
    let mut end = text.len().min(MAX_NAME);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    (end > 0).then(|| text[..end].to_owned())
}

impl Meter {
    /// Counts one event.
    pub fn observe(&mut self, event: &StreamEvent<'_>) {
        match event {
            StreamEvent::Delta { delta, .. } => {
                let text = match delta {
                    Delta::Text(text) | Delta::Arguments(text) => Some(text),
                    Delta::Data(data) => {
                        self.written.data(data.len());
                        None
                    }
                    _ => None,
                };
                self.content_events += u64::from(text.is_none_or(|text| !text.is_empty()));
                text.into_iter().for_each(|text| self.written.add(text));
            }
            StreamEvent::BlockStart { block, .. } => match block {
                BlockHead::ToolCall { name, .. } => {
                    self.written.call(name);
                    self.tool_calls = self.tool_calls.saturating_add(1);
                    self.content_events += 1;
                }
                BlockHead::Media { kind, .. } => {
                    self.written.medium(*kind == MediaKind::Image);
                    self.images_out = self.images_out.saturating_add(u32::from(*kind == MediaKind::Image));
                    self.content_events += 1;
                }
                BlockHead::Native { .. } => self.content_events += 1,
                BlockHead::Text | BlockHead::Reasoning | BlockHead::Refusal => {}
            },
            StreamEvent::Start { id, model } => {
                self.response_id = name(id);
                self.model = name(model);
            }
            // What no model can have used is as good as not told: books don't forget.
            StreamEvent::Usage(usage) if !usage.is_plausible() => {}
            StreamEvent::Usage(usage) => self.usage = Some(*usage),
            StreamEvent::Terms(terms) => {
                if let Some(service) = name(&terms.service) {
                    self.service = Some(service);
                }
                for (known, told) in [
                    (&mut self.cached_audio, terms.cached_audio),
                    (&mut self.image_tokens, terms.image_tokens),
                ] {
                    if told > 0 {
                        *known = told;
                    }
                }
            }
            StreamEvent::Finish { candidate, reason } => {
                if *candidate == 0 || self.finish.is_none() {
                    self.finish = Some(reason.clone());
                }
            }
            StreamEvent::Error(error) => {
                if self.error.is_none() {
                    self.error = Some(error.clone());
                }
            }
            StreamEvent::BlockStop { .. } | StreamEvent::Ping | StreamEvent::Native { .. } => {}
        }
    }
}

impl EventSink for Meter {
    fn event(&mut self, event: StreamEvent<'_>) {
        self.observe(&event);
    }
}
