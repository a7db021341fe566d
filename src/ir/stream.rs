//! The events of an answer. A stream and a whole answer are told in the same events, so that they cannot mean
//! different things.
//!
//! Grammar: `Start (BlockStart Delta* BlockStop | Usage | Terms | Ping | Native)* Finish*`, blocks addressed by index, interleaving
//! allowed. Events borrow from the frame they were read from: a tap which only counts allocates nothing.

use std::borrow::Cow;

use super::{ApiError, FinishReason, Usage};

/// Which block an event belongs to: the candidate, and the block's place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockIndex {
    /// Which of several candidates; 0 where there is one.
    pub candidate: u32,
    /// The block's place within the candidate.
    pub block: u32,
}

/// What kind of tool is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ToolKind {
    /// A function: arguments are JSON.
    #[default]
    Function,
    /// A custom tool: arguments are any text.
    Custom,
}

/// What media are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// A picture.
    Image,
    /// Sound.
    Audio,
    /// A film.
    Video,
    /// A document (PDF, plain text …), or a file of unknown kind.
    Document,
}

impl MediaKind {
    /// Every one.
    pub const ALL: [MediaKind; 4] = [
        MediaKind::Image,
        MediaKind::Document,
        MediaKind::Audio,
        MediaKind::Video,
    ];

    /// Its name in rules and in what is told.
    pub const fn as_str(self) -> &'static str {
        match self {
            MediaKind::Image => "image",
            MediaKind::Document => "document",
            MediaKind::Audio => "audio",
            MediaKind::Video => "video",
        }
    }

    /// What a media type (`image/png`) says.
    pub fn of_mime(mime: &str) -> Self {
        match mime.split('/').next().unwrap_or("").to_ascii_lowercase().as_str() {
            "image" => MediaKind::Image,
            "audio" => MediaKind::Audio,
            "video" => MediaKind::Video,
            _ => MediaKind::Document,
        }
    }
}

/// What kind of block begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockHead<'a> {
    /// Visible text.
    Text,
    /// Reasoning, visible or redacted.
    Reasoning,
    /// The model refuses, in words.
    Refusal,
    /// A call of one of the client's tools.
    ToolCall {
        /// The call's id; may be empty.
        id: Cow<'a, str>,
        /// The tool's name.
        name: Cow<'a, str>,
        /// What kind of tool.
        kind: ToolKind,
        /// The group the tool belongs to; empty where there is none.
        namespace: Cow<'a, str>,
        /// The call's provider-bound token; empty where there is none. It is known here or never.
        opaque: Cow<'a, str>,
    },
    /// A picture, or sound: its bytes follow as [`Delta::Data`], its transcript as [`Delta::Text`].
    Media {
        /// What.
        kind: MediaKind,
        /// Its type; may be empty.
        mime: Cow<'a, str>,
        /// Its address, where the provider gives one instead of bytes; may be empty.
        url: Cow<'a, str>,
    },
    /// Something only its own dialect knows (server tools …), named as there.
    Native {
        /// Its type.
        kind: Cow<'a, str>,
        /// The block as JSON, as far as it is known when it begins; may be empty.
        json: Cow<'a, str>,
    },
}

impl<'a> BlockHead<'a> {
    /// A call of a function, without a token.
    pub fn function(id: impl Into<Cow<'a, str>>, name: impl Into<Cow<'a, str>>) -> Self {
        BlockHead::ToolCall {
            id: id.into(),
            name: name.into(),
            kind: ToolKind::Function,
            namespace: Cow::Borrowed(""),
            opaque: Cow::Borrowed(""),
        }
    }

    /// A native block of which no more than its type is told.
    pub fn native(kind: impl Into<Cow<'a, str>>) -> Self {
        BlockHead::Native {
            kind: kind.into(),
            json: Cow::Borrowed(""),
        }
    }
}

/// What a text refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Citation<'a> {
    /// Address of the source; may be empty.
    pub url: Cow<'a, str>,
    /// Its title; may be empty.
    pub title: Cow<'a, str>,
    /// The text cited; may be empty.
    pub text: Cow<'a, str>,
    /// Which characters of the block's text refer to it.
    pub span: Option<(u64, u64)>,
    /// The citation as its own dialect writes it (JSON); may be empty.
    pub json: Cow<'a, str>,
}

impl Citation<'_> {
    /// The same, owned.
    pub fn into_owned(self) -> Citation<'static> {
        Citation {
            url: Cow::Owned(self.url.into_owned()),
            title: Cow::Owned(self.title.into_owned()),
            text: Cow::Owned(self.text.into_owned()),
            span: self.span,
            json: Cow::Owned(self.json.into_owned()),
        }
    }
}

/// The log probability of one token.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Logprob {
    /// The token.
    pub token: String,
    /// Natural logarithm of its probability.
    pub logprob: f64,
    /// Its bytes, where they are told.
    pub bytes: Option<Vec<u8>>,
    /// The likeliest tokens at this place.
    pub top: Vec<Logprob>,
}

/// A piece of a block.
#[derive(Clone, Debug, PartialEq)]
pub enum Delta<'a> {
    /// Text of a text, reasoning or refusal block; a transcript of sound.
    Text(Cow<'a, str>),
    /// A piece of a tool call's arguments, as it came.
    Arguments(Cow<'a, str>),
    /// The block's provider-bound token, or the next piece of it.
    Opaque(Cow<'a, str>),
    /// The next piece of media: base64, each piece decodable by itself.
    Data(Cow<'a, str>),
    /// What the text refers to.
    Citation(Citation<'a>),
    /// Log probabilities of the text's tokens.
    Logprobs(Vec<Logprob>),
    /// Anything else, as JSON; may be empty.
    Native(Cow<'a, str>),
}

/// What beside the classes of usage decides what an answer costs. Empty and zero: not told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms<'a> {
    /// The service tier the provider says it used: `default`, `standard`, `flex`, `priority`, `batch` ...
    pub service: Cow<'a, str>,
    /// Of [`Usage::cache_read`], tokens of sound.
    pub cached_audio: u64,
    /// Of [`Usage::output`], tokens of pictures.
    pub image_tokens: u64,
}

impl<'a> Terms<'a> {
    /// The tier alone.
    pub fn service(word: impl Into<Cow<'a, str>>) -> Self {
        Terms {
            service: word.into(),
            ..Terms::default()
        }
    }

    /// True if nothing is told.
    pub fn is_empty(&self) -> bool {
        *self == Terms::default()
    }
}

/// One event of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamEvent<'a> {
    /// The answer begins. At most once.
    Start {
        /// The provider's id of the answer; may be empty.
        id: Cow<'a, str>,
        /// The model that answers, as the provider names it; may be empty.
        model: Cow<'a, str>,
    },
    /// A block begins.
    BlockStart {
        /// Which block.
        index: BlockIndex,
        /// What kind.
        block: BlockHead<'a>,
    },
    /// A block goes on.
    Delta {
        /// Which block.
        index: BlockIndex,
        /// The piece.
        delta: Delta<'a>,
    },
    /// A block ends.
    BlockStop {
        /// Which block.
        index: BlockIndex,
    },
    /// The running total of usage.
    Usage(Usage),
    /// What else the bill depends on. Each field holds until it is told anew.
    Terms(Terms<'a>),
    /// A candidate ends, and why.
    Finish {
        /// Which of several candidates; 0 where there is one.
        candidate: u32,
        /// Why.
        reason: FinishReason,
    },
    /// Nothing to say, still alive.
    Ping,
    /// The provider reports an error inside the answer.
    Error(ApiError),
    /// A field of the answer only its own dialect knows (safety ratings, fingerprints …).
    Native {
        /// Its name.
        key: &'static str,
        /// Its value as JSON.
        json: Cow<'a, str>,
    },
}

/// What a block, or a part of it, takes beside its text.
const PART: usize = 128;

impl Logprob {
    fn length(&self) -> usize {
        let bytes = self.bytes.as_ref().map_or(0, Vec::len);
        PART + self.token.len() + bytes + self.top.iter().map(Logprob::length).sum::<usize>()
    }
}

impl Delta<'_> {
    /// About how many bytes it is.
    pub fn length(&self) -> usize {
        match self {
            Delta::Text(text)
            | Delta::Arguments(text)
            | Delta::Opaque(text)
            | Delta::Data(text)
            | Delta::Native(text) => text.len(),
            Delta::Citation(citation) => {
                PART + citation.url.len() + citation.title.len() + citation.text.len() + citation.json.len()
            }
            Delta::Logprobs(logprobs) => logprobs.iter().map(Logprob::length).sum(),
        }
    }
}

impl StreamEvent<'_> {
    /// About how many bytes who keeps the answer keeps of it.
    pub fn length(&self) -> usize {
        match self {
            StreamEvent::Delta { delta, .. } => delta.length(),
            StreamEvent::BlockStart { block, .. } => {
                PART + match block {
                    BlockHead::ToolCall { id, name, opaque, .. } => id.len() + name.len() + opaque.len(),
                    BlockHead::Media { url, .. } => url.len(),
                    BlockHead::Native { json, .. } => json.len(),
                    BlockHead::Text | BlockHead::Reasoning | BlockHead::Refusal => 0,
                }
            }
            StreamEvent::Native { json, .. } => json.len(),
            _ => 0,
        }
    }
}

/// How an answer ended. Only `Complete` is a finished answer; `Unfinished` came whole, too, and is as good as that for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// With its last event.
    Complete,
    /// It just stopped.
    Truncated,
    /// The provider reported an error in it.
    Failed,
    /// It is whole, and says that work on what was asked goes on (OpenAI's `background`): what that uses is told elsewhere.
    Unfinished,
}

/// Who listens to events: a meter, an accumulator, an encoder.
pub trait EventSink {
    /// Takes one event.
    fn event(&mut self, event: StreamEvent<'_>);
}

impl<F: FnMut(StreamEvent<'_>)> EventSink for F {
    fn event(&mut self, event: StreamEvent<'_>) {
        self(event)
    }
}
