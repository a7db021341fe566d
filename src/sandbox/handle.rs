//! From a request to its answer.

use std::collections::VecDeque;
use std::fmt::Write;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, VARY};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Limited};
use sha2::{Digest, Sha256};

use super::answer::{Answer, Pieces, Source};
use super::ask::{Ask, Refusal};
use super::coding::Coder;
use super::counts::{Ended, Received, Ticket};
use super::embeddings;
use super::events::{Events, Wire, unique};
use super::models::{self, Family};
use super::plan::{Plan, Usage};
use super::route::{Route, route};
use super::script::{Coding, Fault, Script};
use super::steps::Steps;
use super::{Sandbox, anthropic, gemini, openai_chat, openai_responses, served};

/// Largest request body, in bytes: twice the gateway's default.
pub const MAX_BODY: usize = 64 << 20;
/// How long `fault=hang` hangs.
const HANG: Duration = Duration::from_secs(3600);
/// By how many bytes `fault=length` overstates a body of known length.
const OVERSTATED: usize = 1000;
/// What `fault=length` says of a stream's length.
const OVERSTATED_STREAM: usize = 1 << 40;

/// The connection is to be closed without an answer (`fault=reset`).
#[derive(Debug, thiserror::Error)]
#[error("the sandbox was asked to drop the connection")]
pub struct Dropped;

impl Dropped {
    /// A body that breaks at once: the nearest thing to it where a response must be given.
    pub fn into_body(self) -> Answer {
        Answer::Echo(Box::pin(http_body_util::StreamBody::new(Never)))
    }
}

/// Yields one error.
struct Never;

impl futures_core::Stream for Never {
    type Item = io::Result<http_body::Frame<Bytes>>;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(Some(Err(io::Error::other(Dropped))))
    }
}

/// What an operation answers, before faults and codings.
enum Reply {
    /// A chat.
    Chat(Ask),
    /// Something small and whole, with the tokens it reports.
    Small(String, Usage),
}

impl Sandbox {
    /// Answers one request.
    pub async fn answer<B>(self: Arc<Self>, request: Request<B>) -> Result<Response<Answer>, Dropped>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        let route = route(&parts.method, parts.uri.path(), parts.uri.query(), &parts.headers);
        let Some(family) = counted(&route) else {
            return Ok(self.uncounted(route, &parts, body));
        };
        let mut ticket = self.counter.receive();
        if self.record {
            ticket.record(served::id(&parts.headers));
        }
        let wire = wire(&route, family);
        let body = match Limited::new(body, MAX_BODY).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                return Ok(refuse(wire, Refusal::new(413, "the body is too large"), ticket));
            }
            // The client broke off: nobody reads an answer.
            Err(_) => return Err(Dropped),
        };
        self.record(&parts, &body, &ticket);
        let read = self.read(&route, &body);
        let read = read.and_then(|(model, read)| {
            ticket.model(&model);
            Ok((
                Script::parse(&model).map_err(|e| Refusal::invalid(e.to_string(), Some("model")))?,
                read,
            ))
        });
        let (script, reply) = match read {
            Ok(read) => read,
            Err(refusal) => return Ok(refuse(wire, refusal, ticket)),
        };
        if !script.first.is_zero() {
            tokio::time::sleep(script.first).await;
        }
        match script.fault {
            Some(Fault::Hang) => tokio::time::sleep(HANG).await,
            Some(Fault::Reset) => {
                ticket.ended(Ended::Faulted);
                return Err(Dropped);
            }
            Some(Fault::Garbage) => return Ok(garbage(ticket)),
            _ => {}
        }
        if let Some(status) = script.status {
            let mut message = format!("the sandbox was asked to answer with status {status}");
            if script.echo {
                // As some providers do.
                let told = told(&parts.headers);
                message = format!("Incorrect API key provided: {told}. {message}");
            }
            return Ok(refuse(
                wire,
                Refusal {
                    retry: script.retry,
                    ..Refusal::new(status, message)
                },
                ticket,
            ));
        }
        Ok(respond(wire, reply, &script, ticket, &parts.headers))
    }

    /// The model of a request and what to answer.
    fn read(&self, route: &Route, body: &[u8]) -> Result<(String, Reply), Refusal> {
        let chat = |ask: Ask| (ask.model.clone(), Reply::Chat(ask));
        let usage = |model: &str, words: u64| {
            let prompt = Script::parse(model).ok().and_then(|script| script.prompt);
            Usage {
                input: prompt.unwrap_or(words),
                ..Usage::default()
            }
        };
        match route {
            Route::Chat => openai_chat::read(body).map(chat),
            Route::Responses => openai_responses::read(body).map(chat),
            Route::Messages => anthropic::read(body).map(chat),
            Route::Generate {
                model,
                stream,
                json_array,
            } => gemini::read(body, model.clone(), *stream, *json_array).map(chat),
            Route::MessagesCount => {
                let ask = anthropic::read(body)?;
                let tokens = usage(&ask.model, ask.words.max(1)).input;
                Ok((
                    ask.model,
                    Reply::Small(embeddings::anthropic_count(tokens), Usage::default()),
                ))
            }
            Route::GeminiCount(model) => {
                let tokens = usage(model, embeddings::read_gemini_count(body)?).input;
                Ok((
                    model.clone(),
                    Reply::Small(embeddings::gemini_count(tokens), Usage::default()),
                ))
            }
            Route::GeminiEmbed(model, batch) => {
                let texts = embeddings::read_gemini(body, model.clone(), *batch)?;
                Ok((
                    texts.model.clone(),
                    Reply::Small(embeddings::gemini(&texts, *batch), Usage::default()),
                ))
            }
            Route::Embeddings => {
                let texts = embeddings::read_openai(body)?;
                let usage = usage(&texts.model, texts.words());
                let json = embeddings::openai(&texts, usage);
                Ok((texts.model, Reply::Small(json, usage)))
            }
            Route::WrongMethod(_) => Err(Refusal::new(405, "this path does not take this method")),
            _ => Err(Refusal::new(404, "there is no such path")),
        }
    }

    /// Answers what is not counted: lists of models and the sandbox's own pages.
    fn uncounted<B>(&self, route: Route, parts: &Parts, body: B) -> Response<Answer>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let own = |value: Result<String, serde_json::Error>| value.unwrap_or_default();
        let json = match route {
            Route::Models(family) => models::list(family),
            Route::Model(family, id) => models::one(family, &id),
            Route::Counts => own(serde_json::to_string(&self.counts())),
            Route::Last => own(serde_json::to_string(&self.last())),
            Route::Reset => {
                self.reset();
                "{}".to_owned()
            }
            Route::Echo => {
                let mut response = Response::new(Answer::Echo(Box::pin(body.map_err(io::Error::other))));
                if let Some(kind) = parts.headers.get(CONTENT_TYPE) {
                    response.headers_mut().insert(CONTENT_TYPE, kind.clone());
                }
                return response;
            }
            _ => r#"{"sandbox":"alive"}"#.to_owned(),
        };
        let mut response = Response::new(Answer::whole(json, None));
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }

    fn record(&self, parts: &Parts, body: &[u8], ticket: &Ticket) {
        if !self.record {
            return;
        }
        let headers = parts.headers.iter();
        let mut digest = String::with_capacity(64);
        for byte in Sha256::digest(body) {
            let _ = write!(digest, "{byte:02x}");
        }
        self.counter.record(Received {
            number: ticket.number(),
            at: self.counter.now(),
            version: format!("{:?}", parts.version),
            method: parts.method.to_string(),
            path: parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            headers: headers
                .map(|(n, v)| (n.to_string(), String::from_utf8_lossy(v.as_bytes()).into_owned()))
                .collect(),
            body_length: body.len() as u64,
            body_sha256: digest,
        });
    }
}

/// Whose error shape a counted request gets; `None`: it is not counted.
fn counted(route: &Route) -> Option<Family> {
    match route {
        Route::Chat | Route::Responses | Route::Embeddings => Some(Family::OpenAi),
        Route::Messages | Route::MessagesCount => Some(Family::Anthropic),
        Route::Generate { .. } | Route::GeminiCount(_) | Route::GeminiEmbed(..) => Some(Family::Gemini),
        Route::WrongMethod(family) | Route::Unknown(family) => Some(*family),
        Route::Models(_) | Route::Model(..) => None,
        Route::Counts | Route::Reset | Route::Last | Route::Echo | Route::Alive => None,
    }
}

fn wire(route: &Route, family: Family) -> &'static dyn Wire {
    match (route, family) {
        (Route::Responses, _) => &openai_responses::OpenAiResponses,
        (_, Family::OpenAi) => &openai_chat::OpenAiChat,
        (_, Family::Anthropic) => &anthropic::Anthropic,
        (Route::Generate { json_array, .. }, _) => {
            if *json_array {
                &gemini::Gemini { json_array: true }
            } else {
                &gemini::Gemini { json_array: false }
            }
        }
        (_, Family::Gemini) => &gemini::Gemini { json_array: false },
    }
}

fn head(wire: &dyn Wire, content_type: &'static str, ticket: &Ticket) -> http::response::Builder {
    let builder = Response::builder().header(CONTENT_TYPE, HeaderValue::from_static(content_type));
    match wire.id_header() {
        Some(name) => builder.header(name, format!("req_{}", unique(0, ticket.number()))),
        None => builder,
    }
}

/// Joins head and body. The heads here are all valid, so that the other branch is never taken.
fn join(head: http::response::Builder, body: Answer) -> Response<Answer> {
    head.body(body)
        .unwrap_or_else(|_| Response::new(Answer::whole("", None)))
}

fn refuse(wire: &dyn Wire, refusal: Refusal, mut ticket: Ticket) -> Response<Answer> {
    ticket.refused();
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut head = head(wire, "application/json", &ticket).status(status);
    if let Some(retry) = refusal.retry {
        head = head.header(RETRY_AFTER, retry);
    }
    let body = wire.error(&refusal, ticket.number());
    join(head, Answer::whole(body, Some(ticket)))
}

/// The headers in which keys come, and what stands in them.
fn told(headers: &http::HeaderMap) -> String {
    let names = ["authorization", "x-api-key", "x-goog-api-key"];
    let sent = names.iter().filter_map(|name| Some((name, headers.get(*name)?)));
    let sent = sent.map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())));
    sent.collect::<Vec<_>>().join(", ")
}

fn garbage(mut ticket: Ticket) -> Response<Answer> {
    ticket.refused();
    let html = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\n";
    let head = Response::builder()
        .status(StatusCode::BAD_GATEWAY)
        .header(CONTENT_TYPE, "text/html");
    join(head, Answer::whole(html, Some(ticket)))
}

fn respond(wire: &dyn Wire, reply: Reply, script: &Script, mut ticket: Ticket, asked: &HeaderMap) -> Response<Answer> {
    let coding = script.coding.filter(|coding| accepts(asked, *coding));
    let (json, usage) = match reply {
        Reply::Chat(ask) => {
            let stream = ask.stream;
            let plan = Plan::new(ask, script, ticket.number(), ticket.since().seconds());
            if stream {
                return stream_response(wire, plan, script, ticket, coding);
            }
            (wire.whole(&plan), plan.usage)
        }
        Reply::Small(json, usage) => (json, usage),
    };
    if let Some(Fault::Error(_)) = script.fault {
        return refuse(wire, Refusal::new(500, "the sandbox was asked to fail"), ticket);
    }
    ticket.usage(usage);
    let mut body = Bytes::from(json);
    if script.pad > 0 {
        body = [&body[..], &vec![b' '; script.pad]].concat().into();
    }
    let mut head = head(wire, "application/json", &ticket);
    if let Some(coding) = coding
        && let Ok(coded) = coded(&body, coding)
    {
        body = coded;
        head = head
            .header(CONTENT_ENCODING, coding.as_str())
            .header(VARY, "accept-encoding");
    }
    let half = match script.fault {
        Some(Fault::Cut(0) | Fault::Stop(0)) => 0,
        Some(Fault::Cut(_) | Fault::Stop(_)) => body.len() / 2,
        Some(Fault::Length) => {
            head = head.header(CONTENT_LENGTH, body.len() + OVERSTATED);
            body.len()
        }
        Some(Fault::Drip) => body.len(),
        _ => return join(head, Answer::whole(body, Some(ticket))),
    };
    let source = Source::Given(VecDeque::from([body.slice(..half)]));
    join(
        head,
        Answer::Pieces(Box::new(Pieces::new(source, script, None, ticket))),
    )
}

fn stream_response(
    wire: &dyn Wire,
    plan: Plan,
    script: &Script,
    mut ticket: Ticket,
    coding: Option<Coding>,
) -> Response<Answer> {
    if plan.include_usage {
        ticket.usage(plan.usage);
    }
    let content_type = match plan.json_array {
        true => "application/json; charset=UTF-8",
        false => "text/event-stream; charset=utf-8",
    };
    let mut head = head(wire, content_type, &ticket).header("cache-control", "no-cache");
    if script.fault == Some(Fault::Length) {
        head = head.header(CONTENT_LENGTH, OVERSTATED_STREAM);
    }
    let coder = coding.and_then(|coding| Some((coding, Coder::new(coding).ok()?)));
    let coder = coder.map(|(coding, coder)| {
        let headers = head.headers_mut().into_iter();
        headers.for_each(|headers| {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.as_str()));
            headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        });
        coder
    });
    let writer = wire.writer(&plan);
    let events = Events::new(script.pad);
    let source = Source::Plan {
        plan: Arc::new(plan),
        steps: Steps::default(),
        writer,
        events,
    };
    join(
        head,
        Answer::Pieces(Box::new(Pieces::new(source, script, coder, ticket))),
    )
}

/// Does `accept-encoding` name this coding, without refusing it?
fn accepts(headers: &HeaderMap, coding: Coding) -> bool {
    let listed = headers
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok());
    listed.flat_map(|value| value.split(',')).any(|item| {
        let (name, weight) = item.split_once(';').unwrap_or((item, ""));
        name.trim().eq_ignore_ascii_case(coding.as_str()) && !matches!(weight.trim(), "q=0" | "q=0.0" | "q=0.00")
    })
}

fn coded(body: &[u8], coding: Coding) -> io::Result<Bytes> {
    let mut coder = Coder::new(coding)?;
    let begun = coder.event(body)?;
    let end = coder.finish()?;
    Ok([begun, end].concat().into())
}
