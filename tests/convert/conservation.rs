//! Conservation: every leaf of a request is in the converted request, or a loss names it or what it stands in.
//!
//! Texts and numbers are replaced by sentinels, all at once, and looked for in the output. Words and booleans can't be
//! unique: each is changed alone, and the output or the losses must change with it, unless a loss names it.

use serde_json::Value;
use tollgate::dialects::{ALL, Dialect, EncodeError, Upstream};
use tollgate::ir::loss::MAX_KEPT;
use tollgate::ir::{Loss, LossKind, LossReport, Operation};
use tollgate::translate;

use crate::fixtures::{self, Fixture};
use crate::leaves::{self, Kind, Leaf};
use crate::report::Report;
use crate::{prepare, recordings};

/// A request converted: what was written, what was lost, and the tokens that were stripped.
pub struct Converted {
    pub written: String,
    pub loss: LossReport,
    stripped: LossReport,
}

/// Leaves which go another way: the route names the model, and the operation says whether a stream is asked for and what
/// must be asked to have usage in it.
const ELSEWHERE: &[&str] = &["model", "stream", "stream_options.include_usage"];

/// Words which say what goes without saying at the target, so that nothing changes with them.
const SAME_ANYHOW: &[(&str, &str, &str)] = &[
    // These always follow the schema of an answer exactly.
    ("response_format.json_schema.strict", "anthropic", "gemini"),
    ("text.format.strict", "anthropic", "gemini"),
    // There is no other tier.
    ("service_tier", "gemini", "gemini"),
];

/// Fields of provider-bound tokens. Foreign ones are stripped, and told so with the place of the block they stood at.
const TOKENS: &[&str] = &[
    "signature",
    "data",
    "encrypted_content",
    "thoughtSignature",
    "thought_signature",
];

/// Is this a loss on the way home? What must be said and was not may be made up. Only the route knows whether a file is still
/// at the same provider. A vendor's own word for reasoning is said in the word which the upstream's model takes.
pub fn lost_at_home(loss: &Loss) -> bool {
    const BOUND: &str = "file ids are bound to their provider";
    const NEAREST: &str = "said as the nearest word the provider has for it";
    // One dialect is spoken by many, of whom few have tools of free text: they are functions for all.
    const FREE_TEXT: &str = "the provider has no free-text tools: it is a function with one text";
    loss.kind != LossKind::Synthesized && ![BOUND, NEAREST, FREE_TEXT].contains(&loss.why)
}

/// Who converts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Way {
    /// The codecs, with as little as can be between them (`prepare.rs`).
    Codecs,
    /// The codecs with all that `translate/` has between them.
    Gateway,
}

/// Converts a request for that model.
pub fn convert(
    way: Way,
    from: &dyn Dialect,
    to: &'static dyn Dialect,
    model: &str,
    body: &Value,
) -> Result<Result<Converted, EncodeError>, String> {
    let target = recordings::target(from.id().as_str(), false);
    let body = body.to_string();
    let upstream = |stream| Upstream {
        model,
        stream,
        ask_usage: false,
    };
    let written = |written: Vec<u8>| String::from_utf8(written).expect("UTF-8");
    if way == Way::Gateway {
        let decoded = translate::request::decode(&target, body.as_bytes()).map_err(|error| error.to_string())?;
        let recipient = translate::Recipient {
            dialect: to,
            provider: "a-provider",
            upstream: upstream(decoded.chat().is_some_and(|request| request.stream)),
        };
        let converted = translate::request::encode(decoded.clone(), from.id(), Operation::Chat, &recipient);
        return Ok(converted.map(|converted| Converted {
            written: written(converted.body),
            loss: converted.loss,
            stripped: LossReport::default(),
        }));
    }
    let request = from
        .decode_request(&target, body.as_bytes())
        .map_err(|error| error.to_string())?;
    let mut loss = LossReport::default();
    let (request, stripped) = prepare::request(request, from, to, &mut loss);
    Ok(to
        .encode_request(&request, &upstream(request.stream), &mut loss)
        .map(|body| Converted {
            written: written(body),
            loss,
            stripped,
        }))
}

/// One fixture on its way to one dialect.
struct Trip<'a> {
    way: Way,
    fixture: &'a Fixture,
    to: &'static dyn Dialect,
    body: Value,
    leaves: Vec<Leaf>,
    wrong: Vec<String>,
}

impl<'a> Trip<'a> {
    fn new(way: Way, fixture: &'a Fixture, to: &'static dyn Dialect) -> Self {
        let mut body = fixture.body.clone();
        let leaves = leaves::mark(&mut body);
        Trip {
            way,
            fixture,
            to,
            body,
            leaves,
            wrong: Vec::new(),
        }
    }

    fn is_home(&self) -> bool {
        self.to.id() == self.fixture.dialect.id()
    }

    fn convert(&self, body: &Value) -> Result<Result<Converted, EncodeError>, String> {
        let model = if self.is_home() {
            self.fixture.own_model()
        } else {
            fixtures::model(self.to.id().as_str())
        };
        convert(self.way, self.fixture.dialect, self.to, model, body)
    }

    /// Gemini's names are the same in snake_case.
    fn speaks_of(&self, told: &str, leaf: &str) -> bool {
        leaves::speaks_of(told, leaf, self.fixture.dialect.id().as_str() == "gemini")
    }

    /// Is there such a field, or at least the node it would stand in?
    fn is_field(&self, path: &str) -> bool {
        let parent = path.rfind(['.', '[']).map_or(path, |end| &path[..end]);
        self.leaves.iter().any(|leaf| {
            self.speaks_of(path, &leaf.path) || self.speaks_of(&leaf.path, path) || self.speaks_of(parent, &leaf.path)
        })
    }

    /// A loss names the leaf or what it stands in. What was said in another way is still said: it excuses the absence of
    /// numbers and words it stands above, but of texts only where they are part of a schema, or of the citations it speaks of.
    fn is_told(&self, leaf: &Leaf, converted: &Converted) -> bool {
        let is_text =
            matches!(&leaf.kind, Kind::Sentinel(needles) if needles.iter().any(|needle| needle.starts_with("zq")));
        let cites = ["annotations", "citations"].iter().any(|list| leaf.path.contains(list));
        let lost = |loss: &Loss| match loss.kind {
            LossKind::Synthesized => false,
            LossKind::Approximated if is_text && *loss.path != leaf.path => {
                let of_it = leaf.path.contains(".properties.") || cites && loss.why.contains("citation");
                of_it && self.speaks_of(&loss.path, &leaf.path)
            }
            _ => self.speaks_of(&loss.path, &leaf.path),
        };
        let (parent, key) = leaf.path.rsplit_once('.').unwrap_or(("", &leaf.path));
        let stripped = |loss: &Loss| {
            self.speaks_of(&loss.path, parent) || self.speaks_of(parent, &loss.path) || *loss.path == *parent
        };
        converted.loss.losses().iter().any(lost)
            || TOKENS.contains(&key) && converted.stripped.losses().iter().any(stripped)
            || TOKENS.contains(&key)
                && converted
                    .loss
                    .losses()
                    .iter()
                    .any(|loss| loss.why.contains("token") && stripped(loss))
    }

    fn switched(&mut self, leaf: &Leaf, other: &Value, converted: &Converted) {
        let to = self.to.id().as_str();
        if SAME_ANYHOW
            .iter()
            .any(|(path, a, b)| *path == leaf.path && [*a, *b].contains(&to))
        {
            return;
        }
        let changed = leaves::replaced(&self.body, &leaf.path, other);
        match self.convert(&changed) {
            Err(error) => self
                .wrong
                .push(format!("{} = {other} can't be read: {error}", leaf.path)),
            Ok(Ok(changed)) if changed.written == converted.written && changed.loss == converted.loss => {
                self.wrong
                    .push(format!("{} = {other} changes nothing, and is not lost", leaf.path));
            }
            Ok(_) => {}
        }
    }

    /// What is missing of it.
    fn missing(mut self) -> Vec<String> {
        let converted = match self.convert(&self.body) {
            Err(error) => return vec![format!("it can't be read: {error}")],
            Ok(Err(error)) => {
                // Refused, not silently changed; but the refusal must name a field of the client's.
                if !self.is_field(&error.path) {
                    self.wrong
                        .push(format!("refused for `{}`, which is no field", error.path));
                }
                if self.is_home() {
                    self.wrong.push(format!("refused on the way home: {error}"));
                }
                return self.wrong;
            }
            Ok(Ok(converted)) => converted,
        };
        let losses = converted.loss.losses();
        if losses.len() == MAX_KEPT {
            self.wrong
                .push("more losses than are kept: cut the fixture in two".to_owned());
        }
        if self.is_home() && losses.iter().any(lost_at_home) {
            self.wrong.push(format!("losses on the way home: {losses:?}"));
        }
        for leaf in self
            .leaves
            .clone()
            .iter()
            .filter(|leaf| !ELSEWHERE.contains(&leaf.path.as_str()))
        {
            if self.is_told(leaf, &converted) {
                continue;
            }
            match &leaf.kind {
                Kind::Sentinel(needles) => {
                    if !needles.iter().any(|needle| leaves::holds(&converted.written, needle)) {
                        self.wrong.push(format!("{} is neither there nor lost", leaf.path));
                    }
                }
                Kind::Switch(others) => others.iter().for_each(|other| self.switched(leaf, other, &converted)),
                Kind::Kept => {}
            }
        }
        for loss in losses.iter().filter(|loss| loss.kind != LossKind::Synthesized) {
            if !self.is_field(&loss.path) {
                self.wrong.push(format!("a loss of `{}`, which is no field", loss.path));
            }
        }
        self.wrong
    }
}

fn conserves(way: Way, name: &str) {
    let mut report = Report::default();
    for fixture in fixtures::requests() {
        for to in ALL {
            let pair = format!("{} -> {}", fixture.dialect.id(), to.id());
            let wrong = Trip::new(way, &fixture, *to).missing();
            report.check(&pair, wrong.is_empty(), || {
                format!("{}:\n        {}", fixture.id, wrong.join("\n        "))
            });
        }
    }
    report.end(name, true);
}

#[test]
fn codecs_lose_nothing_in_silence() {
    conserves(Way::Codecs, "conservation by codecs");
}

#[test]
fn the_gateway_loses_nothing_in_silence() {
    conserves(Way::Gateway, "conservation by the gateway");
}
