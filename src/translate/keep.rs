//! About how much of an answer is kept while it is converted.

use crate::dialects::Dialect;
use crate::ir::{BlockIndex, StreamEvent};

/// Counts what is kept.
pub(super) struct Keep {
    dialect: &'static dyn Dialect,
    /// All of it, until its end.
    all: bool,
    bytes: usize,
    /// Blocks that are told in one piece, and how much of each has come.
    open: Vec<(BlockIndex, usize)>,
}

impl Keep {
    /// For clients of this dialect. `whole`: they want the answer in one piece.
    pub(super) fn new(dialect: &'static dyn Dialect, whole: bool) -> Self {
        Keep {
            dialect,
            all: whole || dialect.repeats_at_end(),
            bytes: 0,
            open: Vec::new(),
        }
    }

    /// Bytes, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// One more event.
    pub(super) fn count(&mut self, event: &StreamEvent<'_>) {
        if self.all {
            self.bytes = self.bytes.saturating_add(event.length());
            return;
        }
        match event {
            StreamEvent::BlockStart { index, block } if self.dialect.keeps(block) => {
                self.open.push((*index, event.length()));
                self.bytes = self.bytes.saturating_add(event.length());
            }
            StreamEvent::Delta { index, delta } => {
                if let Some((_, kept)) = self.open.iter_mut().find(|(of, _)| of == index) {
                    *kept = kept.saturating_add(delta.length());
                    self.bytes = self.bytes.saturating_add(delta.length());
                }
            }
            StreamEvent::BlockStop { index } => {
                if let Some(at) = self.open.iter().position(|(of, _)| of == index) {
                    let (_, kept) = self.open.swap_remove(at);
                    self.bytes = self.bytes.saturating_sub(kept);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialects;
    use crate::ir::{BlockHead, Delta, MediaKind};

    fn keep(dialect: &str, whole: bool) -> Keep {
        Keep::new(dialects::by_name(dialect).expect("a dialect"), whole)
    }

    fn at(block: u32) -> BlockIndex {
        BlockIndex { candidate: 0, block }
    }

    fn start(block: u32, head: BlockHead<'static>) -> StreamEvent<'static> {
        StreamEvent::BlockStart {
            index: at(block),
            block: head,
        }
    }

    fn piece(block: u32, delta: Delta<'static>) -> StreamEvent<'static> {
        StreamEvent::Delta {
            index: at(block),
            delta,
        }
    }

    const CALL: fn() -> BlockHead<'static> = || BlockHead::function("id", "name");

    #[test]
    fn what_passes_as_it_comes_does_not_count() {
        for dialect in ["openai_chat", "anthropic"] {
            let mut keep = keep(dialect, false);
            for event in [
                start(0, BlockHead::Text),
                piece(0, Delta::Text("text".repeat(1000).into())),
                start(1, CALL()),
                piece(1, Delta::Arguments("{}".repeat(1000).into())),
            ] {
                keep.count(&event);
            }
            assert_eq!(keep.bytes(), 0, "{dialect}");
        }
    }

    #[test]
    fn an_open_block_counts_where_it_is_told_in_one_piece() {
        let mut keep = keep("gemini", false);
        keep.count(&start(0, CALL()));
        keep.count(&piece(0, Delta::Arguments("x".repeat(5000).into())));
        keep.count(&start(1, BlockHead::Text));
        keep.count(&piece(1, Delta::Text("x".repeat(900).into())));
        keep.count(&StreamEvent::BlockStop { index: at(1) });
        assert!(
            (5000..6000).contains(&keep.bytes()),
            "{}: it is still open",
            keep.bytes()
        );
        keep.count(&StreamEvent::BlockStop { index: at(0) });
        assert_eq!(keep.bytes(), 0);
        let sound = BlockHead::Media {
            kind: MediaKind::Audio,
            mime: "".into(),
            url: "".into(),
        };
        keep.count(&start(2, sound));
        keep.count(&piece(2, Delta::Data("x".repeat(5000).into())));
        assert_eq!(keep.bytes(), 0, "it is played as it comes");
    }

    #[test]
    fn all_counts_where_all_is_told_at_the_end() {
        for mut keep in [keep("openai_responses", false), keep("openai_chat", true)] {
            for _ in 0..3 {
                keep.count(&start(0, BlockHead::Text));
                keep.count(&piece(0, Delta::Text("x".repeat(1000).into())));
                keep.count(&StreamEvent::BlockStop { index: at(0) });
            }
            assert!((3000..4000).contains(&keep.bytes()));
        }
    }
}
