//! What is held of large answers, from their first byte until they are written: bounded for each, and for all of them. An answer for
//! which there is no room is broken off.

use std::sync::Arc;

use bytes::Bytes;
use pingora::{Error, ErrorType, Result};

use crate::ir::{ApiError, ErrorKind};
use crate::translate::AnswerKind;
use crate::upstream::Failure;

use super::Gateway;
use super::byte_budget::ByteBudget;
use super::context::RequestContext;
use super::held::{Held, Release};
use super::metrics::{self, Shed};
use super::{failover, overload};

/// Answers of which less is held are not counted.
const SMALL: usize = 64 * 1024;

/// Why an answer does not go on, though its provider does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokenOff {
    /// An event, or what is to be converted in one piece, has more bytes than are kept (`limits.answer_kept`): the provider's fault.
    TooLarge,
    /// All that may be held of answers is (`limits.inflight_answer`): not the provider's.
    NoRoom,
}

impl BrokenOff {
    /// A word for the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            BrokenOff::TooLarge => "upstream_event_too_large",
            BrokenOff::NoRoom => "overloaded",
        }
    }

    /// What the client is told.
    fn refusal(self, gateway: &Gateway) -> ApiError {
        match self {
            BrokenOff::TooLarge => {
                let most = gateway.config.limits.answer_kept >> 10;
                let what = format!(
                    "the provider sent more than {most} KiB in one event, or in what is to be converted in one piece \
                     (limits.answer_kept)"
                );
                ApiError::new(ErrorKind::Api, what).status(502).code(self.as_str())
            }
            BrokenOff::NoRoom => {
                metrics::shed(Shed::Answers);
                overload::overloaded("there are too many large answers at once (limits.inflight_answer)")
            }
        }
    }
}

impl Held {
    /// Counts what is held of the answer now that there is so much more of it to write. Where there is no room, its unfinished event
    /// is let go: [`Held::broken_off`] says whether the answer ends with that. `end`: it came whole.
    pub(super) fn account(&mut self, answers: &Arc<ByteBudget>, more: usize, end: bool) {
        self.unwritten += more;
        let Some(answer) = &mut self.answer else { return };
        let unfinished = answer.kept();
        let all = unfinished + self.unwritten;
        if all > SMALL {
            let permit = self.kept.get_or_insert_with(|| answers.permit());
            let room = permit.hold(all) || answer.shrink() && permit.hold(answer.kept() + self.unwritten);
            // What is finished is in memory, and needs it no longer than it takes to write it.
            if !room && !end && unfinished > SMALL {
                if !answer.let_go() {
                    self.broken_off = Some(BrokenOff::NoRoom);
                } else if self.release == Release::AtEnd && answer.plan().kind == AnswerKind::Whole {
                    // Nobody reads it any more.
                    self.release = Release::Now;
                }
            }
        }
        if answer.is_too_large() {
            self.broken_off.get_or_insert(BrokenOff::TooLarge);
        }
    }

    /// What was to be written is, or is not to be any more, but for so much.
    pub(super) fn has_written(&mut self, all_but: usize) {
        self.unwritten = all_but;
        let all = self.answer.as_ref().map_or(0, |answer| answer.kept()) + all_but;
        match &mut self.kept {
            Some(kept) if all > SMALL => kept.shrink(all),
            kept => *kept = None,
        }
    }

    /// The answer goes no further: no more of it is held than it takes to say why.
    pub(super) fn has_failed(&mut self) {
        if let Some(answer) = &mut self.answer {
            answer.let_go();
        }
        self.has_written(0);
    }
}

/// Breaks the answer off: another follows if nothing of it is out; else `out`, which came before, goes out, and the gate ends it.
pub fn break_off(gateway: &Gateway, ctx: &mut RequestContext, why: BrokenOff, out: Bytes) -> Result<Bytes> {
    let settled = ctx.gate.as_ref().is_some_and(|gate| gate.lock().is_settled());
    let judged = ctx.attempt.as_ref().is_some_and(|attempt| attempt.failure.is_some());
    if !settled && !judged && why == BrokenOff::TooLarge && failover::follow(gateway, ctx, Failure::Unreadable) {
        return Error::e_explain(ErrorType::InternalError, "the next candidate is asked");
    }
    if ctx.refusal.is_none() {
        ctx.refusal = Some(why.refusal(gateway));
    }
    match settled {
        true => Ok(out),
        false => Error::e_explain(ErrorType::InternalError, "the answer is broken off"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::Framing;
    use crate::translate::AnswerStream;
    use crate::translate::stream::tests::plan;

    fn held(kind: AnswerKind) -> Held {
        Held {
            answer: Some(AnswerStream::new(plan("openai_chat", kind))),
            ..Held::default()
        }
    }

    fn take(held: &mut Held, budget: &Arc<ByteBudget>, chunk: &[u8]) -> usize {
        let out = held.take_chunk(Bytes::copy_from_slice(chunk)).len();
        held.account(budget, out, false);
        out
    }

    const STREAM: AnswerKind = AnswerKind::Stream(Framing::Sse);

    #[test]
    fn an_event_counts_until_it_is_written() {
        let budget = ByteBudget::new(1 << 20);
        let mut held = held(STREAM);
        assert_eq!(take(&mut held, &budget, b"data: 1\n\n"), 9);
        assert_eq!(budget.used(), 0, "small");
        held.has_written(0);
        take(&mut held, &budget, b"data: \"");
        take(&mut held, &budget, &[b'x'; 200_000]);
        held.has_written(0);
        assert_eq!(budget.used(), 200_007, "unfinished, nothing is to be written");
        let out = take(&mut held, &budget, b"\"\n\n");
        assert_eq!(
            (out, budget.used()),
            (200_010, 200_010),
            "finished, and not yet written"
        );
        // Several chunks may be written together.
        take(&mut held, &budget, b"data: 2\n\n");
        assert_eq!(budget.used(), 200_019);
        held.has_written(0);
        assert_eq!((budget.used(), held.broken_off), (0, None));
    }

    #[test]
    fn where_there_is_no_room_the_unfinished_event_is_let_go() {
        let budget = ByteBudget::new(300_000);
        let mut other = budget.permit();
        assert!(other.hold(150_000));
        let mut held = held(STREAM);
        let chunk = [b"data: 1\n\ndata: \"".as_slice(), &[b'x'; 200_000]].concat();
        assert_eq!(take(&mut held, &budget, &chunk), 9, "what came before goes out");
        assert_eq!(held.broken_off, Some(BrokenOff::NoRoom));
        held.has_written(0);
        assert_eq!(budget.used(), 150_000);
        assert_eq!(take(&mut held, &budget, b"\"\n\ndata: 3\n\n"), 0);
        assert_eq!(held.broken_off, Some(BrokenOff::NoRoom));
    }

    #[test]
    fn an_event_beyond_its_own_bound_is_the_providers_fault() {
        let budget = ByteBudget::new(16 << 20);
        let mut held = held(STREAM);
        take(&mut held, &budget, b"data: \"");
        take(&mut held, &budget, &vec![b'x'; 2 << 20]);
        take(&mut held, &budget, b"x");
        assert_eq!(held.broken_off, Some(BrokenOff::TooLarge));
    }

    #[test]
    fn a_document_goes_on_unread() {
        let budget = ByteBudget::new(100_000);
        let mut held = held(AnswerKind::Whole);
        for _ in 0..10 {
            assert_eq!(take(&mut held, &budget, &[b' '; 50_000]), 50_000);
            held.has_written(0);
            assert!(budget.used() <= 100_000);
        }
        assert_eq!((budget.used(), held.broken_off), (0, None));
    }
}
