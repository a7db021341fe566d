//! Provider-bound tokens on their way through clients of other dialects.
//!
//! A provider's token (a signature over its reasoning, encrypted reasoning) must come back to it unchanged, and must reach
//! nobody else. Where the client speaks another dialect, the token travels *sealed*: with the name of the dialect, the
//! provider and the model family which made it. It sits where the client's dialect keeps tokens of its own, since clients return
//! those; a tool call's token, for which most dialects have no place, rides in the call's id, which every client returns.
//! Who gets a sealed token back opens it: it goes on only to the one who made it, else it is stripped and reported.
//!
//! Some clients return tokens of tool calls, but forget reasoning (Gemini CLI): where their dialect has tokens at calls, the first call after
//! reasoning carries the reasoning sealed in its own, and it is put back where it was forgotten.
//!
//! A sealed token is base64 of `tollgate1`, then dialect, provider and family, each ended by a NUL, then `t` and the token, or `r`, the text
//! of the reasoning, a NUL and its token. In an id it stands in the URL-safe alphabet after an underscore.

use std::collections::HashMap;

use base64::Engine;
use base64::alphabet;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use memchr::memmem;

use crate::ir::{Block, Content, DialectId, LossReport, Message, Opaque, Request};

/// What every sealed token begins with, before base64. Nine bytes, so that it is twelve characters of base64, always the same.
const MAGIC: &[u8] = b"tollgate1";
/// … and after.
const MARK: &str = "dG9sbGdhdGUx";
/// … and in an id.
const MARK_IN_ID: &str = "_dG9sbGdhdGUx";

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Who made a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The dialect it was made in.
    pub dialect: String,
    /// The provider's name in the rules.
    pub provider: String,
    /// The model family: see [`family`].
    pub family: String,
}

impl Origin {
    /// The maker of tokens in answers of this model at this provider.
    pub fn new(dialect: DialectId, provider: &str, model: &str) -> Self {
        Origin {
            dialect: dialect.as_str().to_owned(),
            provider: provider.to_owned(),
            family: family(model),
        }
    }

    fn sealed_bytes(&self, kind: &str, payload: &[&str]) -> Vec<u8> {
        let mut bytes = [
            MAGIC,
            self.dialect.as_bytes(),
            b"\0",
            self.provider.as_bytes(),
            b"\0",
            self.family.as_bytes(),
            b"\0",
            kind.as_bytes(),
        ]
        .concat();
        payload.iter().for_each(|part| bytes.extend_from_slice(part.as_bytes()));
        bytes
    }

    /// Reasoning with its token, sealed together.
    pub fn seal_reasoning(&self, text: &str, token: &str) -> String {
        STANDARD.encode(self.sealed_bytes("r", &[text, "\0", token]))
    }

    /// The token, sealed for a field of its own.
    pub fn seal(&self, token: &str) -> String {
        STANDARD.encode(self.sealed_bytes("t", &[token]))
    }

    /// A tool call's id with the token riding in it.
    pub fn seal_into_id(&self, id: &str, token: &str) -> String {
        format!("{id}_{}", URL_SAFE_NO_PAD.encode(self.sealed_bytes("t", &[token])))
    }
}

/// The family of a model: its name without the path before it and without date, version and channel after it, in lower case. Tokens
/// are valid within a family (`name-4-5-20250929` and `name-4-5`), not beyond.
pub fn family(model: &str) -> String {
    let name = model.rsplit('/').next().unwrap_or(model);
    let name = name.split(['@', ':']).next().unwrap_or(name).to_ascii_lowercase();
    // Three digits and more are a build or a date; one or two may be the version.
    let is_suffix = |part: &str| {
        matches!(part, "latest" | "preview" | "exp" | "experimental")
            || (part.len() >= 3 && part.bytes().all(|b| b.is_ascii_digit()))
    };
    let mut parts: Vec<&str> = name.split('-').collect();
    let mut end = parts.len();
    // Dates come as 20250929, as 2025-09-29 and as 09-2025.
    while end > 1 && (is_suffix(parts[end - 1]) || is_date_part(&parts[..end], parts.get(end))) {
        end -= 1;
    }
    parts.truncate(end);
    parts.join("-")
}

/// The last part is the day or month of a date whose year stands before it or after it.
fn is_date_part(parts: &[&str], after: Option<&&str>) -> bool {
    let digits = |part: &str, count: usize| part.len() == count && part.bytes().all(|b| b.is_ascii_digit());
    let [.., before, last] = parts else { return false };
    digits(last, 2) && (digits(before, 4) || digits(before, 2) || after.is_some_and(|after| digits(after, 4)))
}

/// What was sealed.
#[derive(Debug, PartialEq, Eq)]
struct Opened {
    /// Who made it.
    origin: Origin,
    /// The text of the reasoning it was sealed with.
    reasoning: Option<String>,
    /// The token.
    token: String,
}

/// Opens a sealed token, in either alphabet, padded or not.
fn open(sealed: &str) -> Option<Opened> {
    if !sealed.starts_with(MARK) {
        return None;
    }
    let standard: String = sealed
        .chars()
        .map(|c| match c {
            '-' => '+',
            '_' => '/',
            c => c,
        })
        .collect();
    let bytes = LENIENT.decode(standard).ok()?;
    let text = String::from_utf8(bytes.strip_prefix(MAGIC)?.to_vec()).ok()?;
    let mut parts = text.splitn(4, '\0').map(str::to_owned);
    let origin = Origin {
        dialect: parts.next()?,
        provider: parts.next()?,
        family: parts.next()?,
    };
    let payload = parts.next()?;
    let (reasoning, token) = match payload.split_at_checked(1)? {
        ("t", token) => (None, token.to_owned()),
        ("r", both) => {
            let (text, token) = both.rsplit_once('\0')?;
            (Some(text.to_owned()), token.to_owned())
        }
        _ => return None,
    };
    Some(Opened {
        origin,
        reasoning,
        token,
    })
}

/// The id without what rides in it, and the token that did.
fn open_id(id: &str) -> Option<(&str, Opened)> {
    let at = id.find(MARK_IN_ID)?;
    Some((&id[..at], open(&id[at + 1..])?))
}

/// True if a body may hold sealed tokens. Then it can't pass as it is, whatever dialect the provider speaks.
pub fn has_sealed(body: &[u8]) -> bool {
    thread_local! {
        static FINDER: memmem::Finder<'static> = memmem::Finder::new(MARK.as_bytes()).into_owned();
    }
    FINDER.with(|finder| finder.find(body).is_some())
}

/// Opens every sealed token in a request. Those which `to` made stay, opened; so do tokens as the client's own dialect writes them if
/// `to` speaks it. The others are stripped and reported. Ids are freed of what rides in them.
pub fn settle(request: &mut Request, from: DialectId, to: &Origin, loss: &mut LossReport) {
    let mut ids: HashMap<String, String> = HashMap::new();
    for message in request.system.iter_mut().chain(&mut request.messages) {
        settle_message(message, from, to, &mut ids, loss);
    }
    if ids.is_empty() {
        return;
    }
    for block in request.messages.iter_mut().flat_map(|message| &mut message.blocks) {
        if let Content::ToolResult(result) = &mut block.content
            && let Some(id) = ids.get(&result.call)
        {
            result.call.clone_from(id);
        }
    }
}

fn settle_message(
    message: &mut Message,
    from: DialectId,
    to: &Origin,
    ids: &mut HashMap<String, String>,
    loss: &mut LossReport,
) {
    let mut forgotten: Vec<(usize, Block)> = Vec::new();
    for (place, block) in message.blocks.iter_mut().enumerate() {
        if let Content::ToolCall(call) = &mut block.content
            && let Some((id, opened)) = open_id(&call.id)
        {
            let id = id.to_owned();
            // A call has one token: the one in its id.
            let in_field = block.opaque.take();
            if opened.origin == *to {
                block.opaque = Some(Opaque(opened.token.into()));
            } else {
                stripped(&block.at, loss);
                block.opaque = in_field.filter(|token| from.as_str() == to.dialect && open(&token.0).is_none());
            }
            ids.insert(std::mem::replace(&mut call.id, id.clone()), id);
            continue;
        }
        let Some(token) = block.opaque.take() else { continue };
        let opened = open(&token.0);
        if opened.is_some() && matches!(block.content, Content::Reasoning(_)) {
            // The block was written here, with fields that say nothing elsewhere (a number, a format).
            block.native.clear();
        }
        match opened {
            Some(opened) if opened.origin == *to => match opened.reasoning {
                None => block.opaque = Some(Opaque(opened.token.into())),
                Some(text) => {
                    let mut reasoning = Block::new(Content::Reasoning(text), block.at.clone());
                    reasoning.opaque = Some(Opaque(opened.token.into()));
                    forgotten.push((place, reasoning));
                }
            },
            None if from.as_str() == to.dialect => block.opaque = Some(token),
            _ => stripped(&block.at, loss),
        }
    }
    for (place, reasoning) in forgotten.into_iter().rev() {
        let known = |block: &Block| block.opaque == reasoning.opaque && matches!(block.content, Content::Reasoning(_));
        if !message.blocks.iter().any(known) {
            message.blocks.insert(place, reasoning);
        }
    }
    // Reasoning nobody may see, whose token was stripped, says nothing any more.
    message.blocks.retain(|block| match &block.content {
        Content::Reasoning(text) => !text.is_empty() || block.opaque.is_some(),
        _ => true,
    });
}

fn stripped(at: &str, loss: &mut LossReport) {
    loss.dropped(
        at.to_owned(),
        "its token belongs to another provider or model, which alone can read it",
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Role, ToolCall, ToolKind, ToolResult};

    const DIALECT: DialectId = DialectId::new("one");
    const CLIENT: DialectId = DialectId::new("two");

    fn origin() -> Origin {
        Origin::new(DIALECT, "provider", "name-4-20250929")
    }

    fn opened(reasoning: Option<&str>, token: &str) -> Opened {
        Opened {
            origin: origin(),
            reasoning: reasoning.map(str::to_owned),
            token: token.to_owned(),
        }
    }

    #[test]
    fn reasoning_a_client_forgot_is_put_back_once() {
        let with_call = |forgets: bool| {
            let mut request = conversation();
            request.messages[0].blocks[0].content = Content::Reasoning("so".into());
            let Content::ToolCall(call) = &mut request.messages[0].blocks[1].content else {
                unreachable!()
            };
            call.id = "1".into();
            request.messages[0].blocks[1].opaque = Some(Opaque(origin().seal_reasoning("so", "a token").into()));
            if forgets {
                request.messages[0].blocks.remove(0);
            }
            request
        };
        for forgets in [true, false] {
            let mut request = with_call(forgets);
            settle(&mut request, CLIENT, &origin(), &mut LossReport::default());
            let [thought, call] = &request.messages[0].blocks[..] else {
                panic!("one thought, one call: {:?}", request.messages[0].blocks);
            };
            assert_eq!(thought.content, Content::Reasoning("so".into()));
            assert_eq!(
                (&thought.opaque, &call.opaque),
                (&Some(Opaque("a token".into())), &None)
            );
        }
    }

    #[test]
    fn a_sealed_token_opens_in_either_alphabet() {
        for token in ["", "abc", "sig/+==~?>", "äöü"] {
            let sealed = origin().seal(token);
            let other: String = sealed
                .replace('+', "-")
                .replace('/', "_")
                .trim_end_matches('=')
                .to_owned();
            for text in [sealed, other] {
                assert!(has_sealed(text.as_bytes()));
                assert_eq!(open(&text), Some(opened(None, token)));
            }
            let id = origin().seal_into_id("call_1", token);
            assert_eq!(open_id(&id), Some(("call_1", opened(None, token))));
            let both = origin().seal_reasoning("I think\nso", token);
            assert_eq!(open(&both), Some(opened(Some("I think\nso"), token)));
        }
        assert_eq!(open("EqQBCgIYAhIM1gbcDa9GJwZA2b3h"), None);
        assert_eq!(open_id("call_dG9sbGdhdGUx%"), None);
    }

    #[test]
    fn families_leave_out_dates_and_channels() {
        for (model, expected) in [
            ("name-4-5-20250929", "name-4-5"),
            ("name-4-5", "name-4-5"),
            ("vendor/Name-3-pro-preview", "name-3-pro"),
            ("name-3-pro-preview-09-2025", "name-3-pro"),
            ("name-5.1-2025-11-13", "name-5.1"),
            ("name-2.5-flash-001", "name-2.5-flash"),
            ("name-4@20250929", "name-4"),
            ("name", "name"),
            ("20250101", "20250101"),
            ("", ""),
        ] {
            assert_eq!(family(model), expected, "{model}");
        }
    }

    fn conversation() -> Request {
        let mut thought = Block::new(Content::Reasoning(String::new()), "messages[0].content[0]");
        thought.opaque = Some(Opaque(origin().seal("a token").into()));
        let id = origin().seal_into_id("call_7", "of the call");
        let call = Block::new(
            Content::ToolCall(ToolCall {
                id: id.clone(),
                name: "f".into(),
                arguments: String::new(),
                kind: ToolKind::Function,
                namespace: None,
            }),
            "messages[0].content[1]",
        );
        let result = Block::new(
            Content::ToolResult(ToolResult {
                call: id,
                name: None,
                blocks: Vec::new(),
                is_error: None,
                kind: ToolKind::Function,
            }),
            "messages[1].content[0]",
        );
        Request {
            messages: vec![
                Message {
                    blocks: vec![thought, call],
                    ..Message::new(Role::Assistant, "")
                },
                Message {
                    blocks: vec![result],
                    ..Message::new(Role::User, "")
                },
            ],
            ..Request::default()
        }
    }

    #[test]
    fn tokens_return_to_their_maker_only() {
        let mut home = conversation();
        let mut loss = LossReport::default();
        settle(&mut home, CLIENT, &origin(), &mut loss);
        assert!(loss.is_empty());
        let tokens: Vec<_> = home.messages[0].blocks.iter().map(|b| b.opaque.clone()).collect();
        assert_eq!(
            tokens,
            [Some(Opaque("a token".into())), Some(Opaque("of the call".into()))]
        );

        let mut abroad = conversation();
        let other = Origin::new(DIALECT, "provider", "other-model");
        settle(&mut abroad, CLIENT, &other, &mut loss);
        assert_eq!(loss.losses().len(), 2);
        assert_eq!(
            abroad.messages[0].blocks.len(),
            1,
            "redacted reasoning is gone with its token"
        );
        for request in [&home, &abroad] {
            let Content::ToolResult(result) = &request.messages[1].blocks[0].content else {
                unreachable!()
            };
            assert_eq!(result.call, "call_7", "ids are short again, on both sides");
        }
    }

    #[test]
    fn a_raw_token_stays_in_its_dialect() {
        let mut request = conversation();
        request.messages[0].blocks[0].opaque = Some(Opaque("raw".into()));
        let mut loss = LossReport::default();
        settle(&mut request.clone(), CLIENT, &origin(), &mut loss);
        assert_eq!(loss.losses().len(), 1, "from another dialect it is foreign");
        settle(&mut request, DIALECT, &origin(), &mut loss);
        assert_eq!(request.messages[0].blocks[0].opaque, Some(Opaque("raw".into())));
    }
}
