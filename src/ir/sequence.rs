//! Interleaved blocks, told one after another, for dialects that have one open block at a time.

use super::stream::{BlockHead, BlockIndex, Citation, Delta, EventSink, StreamEvent};

/// Most bytes held back for blocks whose turn has not come; beyond that a waiting block's further pieces are lost, and
/// [`Sequencer::overflowed`] says so.
pub const MAX_WAITING: usize = 8 << 20;

/// Lets one block through at a time: the others wait until it ends.
#[derive(Debug, Default)]
pub struct Sequencer {
    current: Option<BlockIndex>,
    waiting: Vec<Waiting>,
    bytes: usize,
    overflowed: bool,
}

#[derive(Debug)]
struct Waiting {
    index: BlockIndex,
    head: BlockHead<'static>,
    deltas: Vec<Delta<'static>>,
    stopped: bool,
}

impl Sequencer {
    /// More than [`MAX_WAITING`] bytes had to wait, and some were lost: the answer must not look complete.
    pub fn overflowed(&self) -> bool {
        self.overflowed
    }

    /// Takes an event and tells what may be told now.
    pub fn event(&mut self, event: StreamEvent<'_>, sink: &mut dyn EventSink) {
        match event {
            StreamEvent::BlockStart { index, block } => {
                if self.current.is_none() {
                    self.current = Some(index);
                    sink.event(StreamEvent::BlockStart { index, block });
                } else {
                    self.waiting.push(Waiting {
                        index,
                        head: owned_head(block),
                        deltas: Vec::new(),
                        stopped: false,
                    });
                }
            }
            StreamEvent::Delta { index, delta } => {
                if self.current == Some(index) {
                    sink.event(StreamEvent::Delta { index, delta });
                } else if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.index == index) {
                    let bytes = size(&delta);
                    if self.bytes + bytes > MAX_WAITING {
                        self.overflowed = true;
                        return;
                    }
                    self.bytes += bytes;
                    append(&mut waiting.deltas, delta);
                }
            }
            StreamEvent::BlockStop { index } => {
                if self.current == Some(index) {
                    sink.event(StreamEvent::BlockStop { index });
                    self.current = None;
                    self.next(sink);
                } else if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.index == index) {
                    waiting.stopped = true;
                }
            }
            other => sink.event(other),
        }
    }

    fn next(&mut self, sink: &mut dyn EventSink) {
        while self.current.is_none() && !self.waiting.is_empty() {
            let Waiting {
                index,
                head,
                deltas,
                stopped,
            } = self.waiting.remove(0);
            sink.event(StreamEvent::BlockStart { index, block: head });
            for delta in deltas {
                self.bytes = self.bytes.saturating_sub(size(&delta));
                sink.event(StreamEvent::Delta { index, delta });
            }
            if stopped {
                sink.event(StreamEvent::BlockStop { index });
            } else {
                self.current = Some(index);
            }
        }
    }
}

fn size(delta: &Delta<'_>) -> usize {
    match delta {
        Delta::Text(text) | Delta::Arguments(text) | Delta::Opaque(text) | Delta::Data(text) | Delta::Native(text) => {
            text.len()
        }
        Delta::Citation(Citation {
            url, title, text, json, ..
        }) => url.len() + title.len() + text.len() + json.len(),
        Delta::Logprobs(logprobs) => logprobs.len() * std::mem::size_of::<super::Logprob>(),
    }
}

fn append(deltas: &mut Vec<Delta<'static>>, delta: Delta<'_>) {
    match (deltas.last_mut(), &delta) {
        (Some(Delta::Text(last)), Delta::Text(piece)) | (Some(Delta::Arguments(last)), Delta::Arguments(piece)) => {
            last.to_mut().push_str(piece);
        }
        _ => deltas.push(owned_delta(delta)),
    }
}

fn owned_delta(delta: Delta<'_>) -> Delta<'static> {
    let own = |text: std::borrow::Cow<'_, str>| std::borrow::Cow::Owned(text.into_owned());
    match delta {
        Delta::Text(text) => Delta::Text(own(text)),
        Delta::Arguments(text) => Delta::Arguments(own(text)),
        Delta::Opaque(text) => Delta::Opaque(own(text)),
        Delta::Data(text) => Delta::Data(own(text)),
        Delta::Native(text) => Delta::Native(own(text)),
        Delta::Citation(citation) => Delta::Citation(citation.into_owned()),
        Delta::Logprobs(logprobs) => Delta::Logprobs(logprobs),
    }
}

fn owned_head(head: BlockHead<'_>) -> BlockHead<'static> {
    let own = |text: std::borrow::Cow<'_, str>| std::borrow::Cow::Owned(text.into_owned());
    match head {
        BlockHead::Text => BlockHead::Text,
        BlockHead::Reasoning => BlockHead::Reasoning,
        BlockHead::Refusal => BlockHead::Refusal,
        BlockHead::ToolCall {
            id,
            name,
            kind,
            namespace,
            opaque,
        } => BlockHead::ToolCall {
            id: own(id),
            name: own(name),
            kind,
            namespace: own(namespace),
            opaque: own(opaque),
        },
        BlockHead::Media { kind, mime, url } => BlockHead::Media {
            kind,
            mime: own(mime),
            url: own(url),
        },
        BlockHead::Native { kind, json } => BlockHead::Native {
            kind: own(kind),
            json: own(json),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(block: u32) -> BlockIndex {
        BlockIndex { candidate: 0, block }
    }

    fn tell(sequencer: &mut Sequencer, log: &mut Vec<String>, event: StreamEvent<'_>) {
        sequencer.event(event, &mut |event: StreamEvent<'_>| {
            log.push(match event {
                StreamEvent::BlockStart { index, .. } => format!("+{}", index.block),
                StreamEvent::Delta {
                    index,
                    delta: Delta::Text(text),
                } => format!("{}:{text}", index.block),
                StreamEvent::BlockStop { index } => format!("-{}", index.block),
                _ => "?".into(),
            });
        });
    }

    #[test]
    fn one_block_at_a_time_and_nothing_lost() {
        let (mut sequencer, mut log) = (Sequencer::default(), Vec::new());
        let start = |block| StreamEvent::BlockStart {
            index: at(block),
            block: BlockHead::Text,
        };
        let text = |block, text: &'static str| StreamEvent::Delta {
            index: at(block),
            delta: Delta::Text(text.into()),
        };
        let stop = |block| StreamEvent::BlockStop { index: at(block) };
        for event in [
            start(0),
            start(1),
            text(1, "b"),
            text(0, "a"),
            start(2),
            text(1, "b"),
            stop(1),
            text(2, "c"),
            text(0, "a"),
            stop(0),
            text(2, "c"),
            stop(2),
        ] {
            tell(&mut sequencer, &mut log, event);
        }
        assert_eq!(
            log,
            ["+0", "0:a", "0:a", "-0", "+1", "1:bb", "-1", "+2", "2:c", "2:c", "-2"]
        );
    }
}
