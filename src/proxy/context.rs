//! What is known of one request: one part per stage, each written by the file of that stage.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::clock::UnixMicros;
use crate::dialects::{Peek, Target};
use crate::ids::RequestId;
use crate::ir::{ApiError, DialectId};
use crate::keys::Grant;
use crate::ledger::Entry;
use crate::limits::Admission;
use crate::money::NanoUsd;
use crate::observe::redact::Masker;
use crate::routing::affinity::Scope;
use crate::routing::{Choice, RoutePlan};
use crate::rules::Credential;
use crate::translate::Conversion;
use crate::translate::bound::Prompt;
use crate::translate::request::Decoded;
use crate::upstream::{Dial, Endpoint, Failure, Fleet, Hold, Pool};

use super::bill::{Amounts, Bill};
use super::byte_budget::BytePermit;
use super::estimated::{Counted, KeptPrompt};
use super::gate::GateControl;
use super::instruct::Instructed;
use super::logging::Concluded;
use super::metrics::{InFlight, Shed};
use super::overload::Place;

/// One request, from its header to its log line.
pub struct RequestContext {
    /// When its header was read (monotonic).
    pub began: Instant,
    /// When its header was read.
    pub at: UnixMicros,
    /// Who asks, and what.
    pub client: Client,
    /// What it may use, and used.
    pub books: Books,
    /// Where it may go.
    pub route: Option<RouteStage>,
    /// The attempt under way.
    pub attempt: Option<Attempt>,
    /// How many attempts were begun.
    pub attempts: u16,
    /// What goes back.
    pub response: Response,
    /// The gate, while it stands around the session.
    pub gate: Option<GateControl>,
    /// Our own error, where we refuse or fail.
    pub refusal: Option<ApiError>,
    /// What the client is told if no attempt can follow the one which failed last.
    pub last_failure: Option<ApiError>,
    /// Trying again does not help: the client's SDK is told so.
    pub futile: bool,
    /// That is in a provider's words.
    pub theirs: bool,
    /// What conversion lost in the last attempt; empty: nothing.
    pub loss: String,
    /// Counted as in flight until dropped.
    pub in_flight: Option<InFlight>,
    /// Its place among the requests under way.
    pub place: Option<Place>,
    /// Why it has none yet; its route decides.
    pub unplaced: Option<Shed>,
}

/// Who asks, and what.
pub struct Client {
    /// `x-request-id`.
    pub request_id: RequestId,
    /// The client's address (HARDENING H5).
    pub address: Option<IpAddr>,
    /// Which dialect and operation; `None`: local, passthrough or unknown.
    pub target: Option<Target>,
    /// Whose key, and what it may do.
    pub grant: Option<Arc<Grant>>,
    /// The query without the key.
    pub query: String,
    /// The body, decoded.
    pub body: Bytes,
    /// Its share of the budget of bodies in memory.
    pub body_permit: Option<BytePermit>,
    /// What was read of it.
    pub peek: Option<Peek>,
    /// All of it, where a route wanted to know; taken by the first conversion.
    pub decoded: Option<Decoded>,
    /// Bytes of the body as they came.
    pub body_bytes: u64,
    /// Bytes of a body that streams through, so far.
    pub uploaded: usize,
    /// A route's instructions are in it.
    pub instructed: Option<Instructed>,
}

/// What a request may use of its client's limits, and what it used.
#[derive(Default)]
pub struct Books {
    /// Counted as under way until dropped.
    pub admission: Option<Admission>,
    /// Until when it may wait for room.
    pub patience: Option<Instant>,
    /// Bounds of its prompt; `None`: nobody needs them.
    pub prompt: Option<Prompt>,
    /// A rough estimate of its prompt's tokens, taken when the body was let go.
    pub rough: u64,
    /// The prompt for its model's tokenizer, kept when the body was let go.
    pub kept: Option<KeptPrompt>,
    /// What the tokenizer counted, where the provider told nothing.
    pub counted: Counted,
    /// What its attempts cost so far; `None`: one's price is unknown, or there was none.
    pub cost: Option<NanoUsd>,
    /// What they are charged.
    pub charge: NanoUsd,
    /// Some of it is an estimate.
    pub estimated: bool,
    /// One of its attempts was billed.
    pub billed: bool,
}

impl Books {
    /// One more of its attempts was billed.
    pub fn add(&mut self, amounts: Amounts, estimated: bool) {
        let so_far = if self.billed { self.cost } else { Some(NanoUsd::ZERO) };
        self.cost = so_far.zip(amounts.cost).map(|(so_far, cost)| so_far + cost);
        self.charge += amounts.charge;
        self.estimated |= estimated;
        self.billed = true;
    }
}

/// Where it may go.
pub struct RouteStage {
    /// The rules and providers in force when it was routed.
    pub fleet: Arc<Fleet>,
    /// Candidates, and which is next.
    pub plan: RoutePlan,
    /// The next attempt, where it was found when the one before failed.
    pub next: Option<Choice>,
    /// Addresses to which no connection could be made.
    pub tried: Vec<std::net::SocketAddr>,
    /// Under which mark the place of the conversation is remembered.
    pub scope: Option<Scope>,
    /// `/p/...`: the rest of the path for the provider.
    pub passthrough: Option<String>,
    /// Hides our credentials in what providers say.
    pub masker: Arc<Masker>,
    /// When routing was done: the gateway's own work before the upstream call ends here.
    pub overhead: std::time::Duration,
}

/// One try of one candidate.
pub struct Attempt {
    /// The open row of the ledger.
    pub entry: Option<Entry>,
    /// When it began.
    pub began: Instant,
    /// Which candidate it tries.
    pub index: usize,
    /// The provider and its state.
    pub pool: Arc<Pool>,
    /// Its address.
    pub endpoint: Arc<Endpoint>,
    /// How it is billed.
    pub bill: Arc<Bill>,
    /// A connection was made: from then on the provider may begin to work.
    pub sent: bool,
    /// The seat taken; given back when the attempt is over.
    pub hold: Option<Hold>,
    /// The credential used; `None`: the provider wants none.
    pub credential: Option<Arc<Credential>>,
    /// The dialect spoken; `None`: passthrough.
    pub dialect: Option<DialectId>,
    /// The model asked of the provider.
    pub model: Arc<str>,
    /// The prepared body.
    pub body: Bytes,
    /// The usage-only frame is to be withheld.
    pub withhold_usage: bool,
    /// The provider was asked for a stream.
    pub stream: bool,
    /// The answer is to be converted.
    pub conversion: Option<Arc<Conversion>>,
    /// Status of the provider's answer.
    pub status: Option<u16>,
    /// The header of its error answer: it may say how long to wait.
    pub told: Option<http::HeaderMap>,
    /// How it failed, once that is judged.
    pub failure: Option<Failure>,
    /// It came to its good end.
    pub complete: bool,
    /// How it ended, where its row was closed before the answer's end went out.
    pub concluded: Option<Concluded>,
    /// What was dialled.
    pub dial: Option<Dial>,
    /// Until the header of the answer.
    pub first_byte: Option<std::time::Duration>,
    /// Until its first event with content.
    pub first_token: Option<std::time::Duration>,
    /// Until its latest chunk.
    pub last_chunk: Option<std::time::Duration>,
    /// Bytes received, where no gate counts them.
    pub received: u64,
}

/// What goes back.
#[derive(Default)]
pub struct Response {
    /// The answer is a stream.
    pub streaming: bool,
    /// It is converted: what the provider says of its body does not hold for ours.
    pub converted: bool,
    /// The provider does not count tokens: they are estimated here.
    pub estimate: bool,
    /// We answered ourselves.
    pub local: bool,
    /// Until the first byte of the answer went out.
    pub first_byte: Option<std::time::Duration>,
    /// Bytes of its body handed to the client, where no gate counts them.
    pub sent: u64,
}

impl RequestContext {
    /// A context for a request whose header was just read.
    pub fn new(at: UnixMicros) -> Self {
        RequestContext {
            began: Instant::now(),
            at,
            client: Client {
                request_id: RequestId("".into()),
                address: None,
                target: None,
                grant: None,
                query: String::new(),
                body: Bytes::new(),
                body_permit: None,
                peek: None,
                decoded: None,
                body_bytes: 0,
                uploaded: 0,
                instructed: None,
            },
            books: Books::default(),
            route: None,
            attempt: None,
            attempts: 0,
            response: Response::default(),
            gate: None,
            refusal: None,
            last_failure: None,
            futile: false,
            theirs: false,
            loss: String::new(),
            in_flight: None,
            place: None,
            unplaced: None,
        }
    }

    /// The client asked for a stream.
    pub fn wants_stream(&self) -> bool {
        self.client.peek.as_ref().is_some_and(|peek| peek.stream)
    }
}
