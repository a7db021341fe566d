//! Usage where the provider reported none, or not the last of it: from the request and from what came of the answer. Counted by the model's
//! tokenizer where there is one, else estimated; told as an estimate either way.
//!
//! Counting costs nothing until it is needed, but for what must be at hand then: the text of the answer ([`Written`]) and the prompt, whole or
//! in samples, both within bounds. What nobody can count are tokens of reasoning that was never shown. An answer that was not read (too large,
//! cut before its end, in an unknown coding) has no more tokens than bytes would allow, nor than the request's limit does.
//!
//! [`Written`]: crate::translate::written::Written

use bytes::Bytes;

use crate::dialects::{self, Target, Tokenizer};
use crate::ir::{Operation, StreamEnd, Usage};
use crate::money::Extras;
use crate::translate::written::{Text, in_proportion};
use crate::translate::{bound, estimate, request};

use super::context::RequestContext;
use super::held::Held;
use super::logging::extras;

/// Longest prompt kept for its tokenizer when the request's body is let go, in bytes. Of a longer one so much is kept in samples.
const PROMPT_KEPT: usize = 32 * 1024;
/// Samples of a long prompt, evenly spread.
const SAMPLES: usize = 8;
/// Bytes of each.
const SAMPLE: usize = PROMPT_KEPT / SAMPLES;
/// Texts up to this size are counted where they are, once the tokenizer's tables are loaded: about a millisecond. Others by a thread for blocking
/// work.
const COUNTED_HERE: usize = 8 * 1024;

/// Tokens of an answer at most whose limit nobody here knows: the longest of most models that providers offer.
const LONGEST_ANSWER: u64 = 128 * 1024;

/// A prompt, for the tokenizer of its model.
pub enum KeptPrompt {
    /// The body.
    Whole(Bytes),
    /// Pieces of it.
    Samples(Vec<u8>),
}

/// What a tokenizer counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted {
    /// Of the prompt.
    pub prompt: Option<u64>,
    /// Of the answer, as far as it came.
    pub answer: Option<u64>,
}

/// What the attempt under way used, as far as can be told from here. What the provider reported of the prompt, at the beginning of a
/// stream, is exact and stays.
pub fn estimated_usage(ctx: &RequestContext, held: Option<&Held>) -> Usage {
    let answer = held.and_then(|held| held.answer.as_ref());
    let reported = answer.and_then(|answer| answer.meter().usage).map(Usage::booked);
    let mut usage = reported.unwrap_or_else(|| Usage {
        input: prompt_tokens(ctx),
        ..Usage::default()
    });
    let (Some(held), Some(answer)) = (held, answer) else {
        return usage;
    };
    let written = &answer.meter().written;
    let text = ctx.books.counted.answer.unwrap_or_else(|| written.tokens());
    let text = text.saturating_add(written.picture_tokens());
    let unread = match answer.is_unread() && answer.plan().operation == Operation::Chat {
        true => bound::rough(usize::try_from(held.received).unwrap_or(usize::MAX)).min(longest(ctx, held)),
        false => 0,
    };
    let most = match held.output_limit {
        0 => u64::MAX,
        limit => limit,
    };
    let sound = written.sound_tokens();
    if reported.is_none() {
        usage.output_audio = sound.min(most);
    }
    let so_far = usage.output_total();
    let all = text.saturating_add(sound).max(unread).min(most);
    usage.output = usage.output.saturating_add(all.saturating_sub(so_far));
    usage
}

/// Of an estimate, what decides beside its tokens what it costs.
pub fn estimated_extras<'a>(held: Option<&'a Held>, usage: &Usage) -> Extras<'a> {
    let meter = held.and_then(|held| held.answer.as_ref()).map(|answer| answer.meter());
    let told = extras(meter);
    let pictures = meter.map_or(0, |meter| meter.written.picture_tokens());
    Extras {
        image_tokens: told.image_tokens.max(pictures).min(usage.output),
        ..told
    }
}

/// Tokens that the answer has at most: by the request's limit where it was made sure, else by the model's.
fn longest(ctx: &RequestContext, held: &Held) -> u64 {
    if held.output_limit > 0 {
        return held.output_limit;
    }
    let facts = || {
        let (stage, attempt) = (ctx.route.as_ref()?, ctx.attempt.as_ref()?);
        let facts = stage
            .fleet
            .rules()
            .models
            .facts(&attempt.pool.provider.name, &attempt.model);
        facts?.output
    };
    facts().unwrap_or(LONGEST_ANSWER)
}

/// The prompt's tokens: counted, or estimated without reading it.
pub fn prompt_tokens(ctx: &RequestContext) -> u64 {
    ctx.books.counted.prompt.unwrap_or_else(|| rough_prompt(ctx))
}

fn rough_prompt(ctx: &RequestContext) -> u64 {
    match ctx.books.prompt {
        Some(prompt) => prompt.expected,
        None => ctx.books.rough.max(estimate::rough_prompt(&ctx.client.body)),
    }
}

/// Before the request's body is let go: what an estimate needs of it, if it may be needed.
pub fn let_go(ctx: &mut RequestContext) {
    let is_chat = ctx
        .client
        .target
        .as_ref()
        .is_some_and(|target| target.operation == Operation::Chat);
    if !is_chat {
        return;
    }
    if ctx.books.prompt.is_none() {
        ctx.books.rough = estimate::rough_prompt(&ctx.client.body);
    }
    if tokenizer(ctx).is_some() {
        ctx.books.kept = Some(KeptPrompt::of(&ctx.client.body));
    }
}

fn tokenizer(ctx: &RequestContext) -> Option<&'static dyn Tokenizer> {
    dialects::tokenizer(&ctx.attempt.as_ref()?.model)
}

impl KeptPrompt {
    fn of(body: &Bytes) -> Self {
        if body.len() <= PROMPT_KEPT {
            return KeptPrompt::Whole(body.clone());
        }
        let mut samples = Vec::with_capacity(PROMPT_KEPT);
        for number in 0..SAMPLES {
            let at = (body.len() - SAMPLE) / (SAMPLES - 1) * number;
            let sample = &body[at..at + SAMPLE];
            // Text has borders; what has none is a medium's base64, and estimated apart.
            if memchr::memchr3(b' ', b'"', b'\\', sample).is_some() {
                samples.extend_from_slice(sample);
            }
        }
        KeptPrompt::Samples(samples)
    }

    fn len(&self) -> usize {
        match self {
            KeptPrompt::Whole(body) => body.len(),
            KeptPrompt::Samples(samples) => samples.len(),
        }
    }
}

/// What is to be counted.
struct Count {
    tokenizer: &'static dyn Tokenizer,
    /// The prompt, and an estimate of it.
    prompt: Option<(KeptPrompt, u64)>,
    answer: Option<Text>,
    target: Target,
}

impl Count {
    /// `None`: nothing, as the provider told what it used, or nothing is known that could.
    fn of(ctx: &mut RequestContext) -> Option<Self> {
        let attempt = ctx.attempt.as_ref().filter(|attempt| attempt.entry.is_some())?;
        if !attempt.sent || attempt.status.is_some_and(|status| status >= 400) {
            return None;
        }
        let target = ctx.client.target.clone()?;
        let (told, answer) = {
            let held = ctx.gate.as_ref()?.lock();
            let meter = held.answer.as_ref().map(|answer| answer.meter());
            let told = meter.is_some_and(|meter| meter.usage.is_some());
            let over = held.ended == Some(StreamEnd::Complete) || meter.is_some_and(|meter| meter.finish.is_some());
            if told && over {
                return None;
            }
            (told, meter.and_then(|meter| meter.written.text()))
        };
        if !matches!(target.operation, Operation::Chat | Operation::Embeddings) {
            return None;
        }
        let tokenizer = tokenizer(ctx)?;
        let estimate = rough_prompt(ctx);
        let kept = ctx.books.kept.take();
        let body = || {
            Some(&ctx.client.body)
                .filter(|body| !body.is_empty())
                .map(KeptPrompt::of)
        };
        Some(Count {
            tokenizer,
            prompt: kept.or_else(body).filter(|_| !told).map(|kept| (kept, estimate)),
            answer: answer.filter(|answer| !answer.is_empty()),
            target,
        })
    }

    /// It may be counted where it is.
    fn is_short(&self) -> bool {
        self.tokenizer.is_loaded() && self.len() <= COUNTED_HERE
    }

    fn len(&self) -> usize {
        let prompt = self.prompt.as_ref().map_or(0, |(prompt, _)| prompt.len());
        prompt + self.answer.as_ref().map_or(0, Text::len)
    }

    fn run(self) -> Counted {
        let tokenizer = self.tokenizer;
        let prompt = self.prompt.map(|(prompt, estimate)| match prompt {
            KeptPrompt::Whole(body) => match request::decode(&self.target, &body) {
                Ok(decoded) => decoded.counted(tokenizer),
                Err(_) => estimate,
            },
            KeptPrompt::Samples(samples) => {
                let counted = tokenizer.count(&String::from_utf8_lossy(&samples));
                in_proportion(estimate, counted, bound::rough(samples.len()))
            }
        });
        Counted {
            prompt,
            answer: self.answer.map(|text| text.tokens(tokenizer)),
        }
    }
}

/// The same as [`count`], where it takes no thread. False: it does, and nothing was counted.
pub fn count_here(ctx: &mut RequestContext) -> bool {
    match Count::of(ctx) {
        None => true,
        Some(count) if count.is_short() => {
            ctx.books.counted = count.run();
            true
        }
        Some(count) => {
            ctx.books.kept = count.prompt.map(|(kept, _)| kept);
            false
        }
    }
}

/// Counts what the last attempt used, where its provider did not tell and its model has a tokenizer.
pub async fn count(ctx: &mut RequestContext) {
    let Some(count) = Count::of(ctx) else { return };
    ctx.books.counted = if count.is_short() {
        count.run()
    } else {
        // If that fails, there are the estimates.
        tokio::task::spawn_blocking(|| count.run()).await.unwrap_or_default()
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_prompt_is_kept_in_samples_of_its_text() {
        let short = Bytes::from("{\"a\": 1}");
        assert!(matches!(KeptPrompt::of(&short), KeptPrompt::Whole(body) if body == short));
        let text = "some words of it ".repeat(20_000);
        let KeptPrompt::Samples(samples) = KeptPrompt::of(&Bytes::from(text.clone())) else {
            panic!("it is too long to be kept");
        };
        assert_eq!(samples.len(), PROMPT_KEPT);
        let picture = format!("{text}{}", "A".repeat(1_000_000));
        let KeptPrompt::Samples(samples) = KeptPrompt::of(&Bytes::from(picture)) else {
            panic!("it is too long to be kept");
        };
        assert!(!samples.is_empty() && samples.len() < PROMPT_KEPT && !samples.contains(&b'A'));
    }
}
