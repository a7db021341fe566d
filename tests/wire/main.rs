//! The decoders against recorded traffic of real providers (`../shared/wire`; not part of the project, skipped where it
//! is missing): bytes pass unchanged in every chunking, and what the tap counts is what the recording says.

mod terms;
mod tokens;
mod truth;

use std::path::PathBuf;

use bytes::Bytes;
use http::{HeaderMap, Method};
use serde::Deserialize;
use serde_json::Value;
use tollgate::dialects::{self, Dialect, Line};
use tollgate::ir::{BlockHead, BlockIndex, FinishKind, Operation, StreamEnd, StreamEvent, Usage};
use tollgate::sse::Framing;
use tollgate::translate::{AnswerKind, AnswerPlan, AnswerStream, Coding};

use truth::Truth;

#[derive(Deserialize)]
struct Case {
    id: String,
    wire: String,
    stream: bool,
    #[serde(default)]
    want_stream: Option<bool>,
    request: Option<Request>,
    response: Response,
}

#[derive(Deserialize)]
struct Request {
    method: String,
    path: String,
    #[serde(default)]
    headers: std::collections::BTreeMap<String, String>,
    body: Option<Value>,
}

#[derive(Deserialize)]
struct Response {
    status: u16,
    #[serde(default)]
    body_text: Option<String>,
    #[serde(default)]
    sse_text: Option<String>,
}

impl Case {
    fn body(&self) -> &str {
        let body = if self.stream {
            &self.response.sse_text
        } else {
            &self.response.body_text
        };
        body.as_deref().unwrap_or("")
    }

    fn dialect(&self) -> &'static dyn Dialect {
        let name = ["openai_chat", "openai_responses", "anthropic", "gemini"];
        let name = name
            .into_iter()
            .find(|name| self.wire.starts_with(name))
            .unwrap_or("openai_chat");
        dialects::by_name(name).expect("a dialect")
    }

    fn operation(&self) -> Operation {
        match &self.wire {
            wire if wire.ends_with("embeddings") => Operation::Embeddings,
            wire if wire.ends_with("models") => Operation::ListModels,
            wire if wire.ends_with("count_tokens") => Operation::CountTokens,
            _ => Operation::Chat,
        }
    }

    fn plan(&self, kind: AnswerKind) -> AnswerPlan {
        AnswerPlan {
            dialect: self.dialect(),
            operation: self.operation(),
            status: self.response.status,
            kind,
            coding: Coding::Identity,
            withhold_usage: false,
            max_kept: 8 << 20,
            conversion: None,
        }
    }

    fn kind(&self) -> AnswerKind {
        match self.stream {
            _ if self.response.status >= 400 => AnswerKind::Error,
            true => AnswerKind::Stream(Framing::Sse),
            false => AnswerKind::Whole,
        }
    }
}

/// All recorded cases, in order of their names; none where there are no recordings.
fn cases() -> Vec<Case> {
    let shared = std::env::var_os("TOLLGATE_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    let folder = shared.join("wire/cases");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        eprintln!("SKIPPED: no recordings in {} (set TOLLGATE_SHARED)", folder.display());
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "json") && !path.ends_with("index.json"));
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let text = std::fs::read(path).expect("a recording can be read");
            serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        })
        .collect()
}

/// Collects what went wrong, so that all of it is shown at once.
#[derive(Default)]
struct Report {
    checked: usize,
    wrong: Vec<String>,
}

impl Report {
    fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        self.checked += 1;
        if !holds {
            self.wrong.push(what());
        }
    }

    fn end(self, name: &str) {
        println!("{name}: {} checks, {} failed", self.checked, self.wrong.len());
        for line in self.wrong.iter().take(60) {
            println!("  {line}");
        }
        assert!(
            self.wrong.is_empty(),
            "{name}: {} of {} checks failed",
            self.wrong.len(),
            self.checked
        );
    }
}

/// A body cut at the ends of its events.
fn events(body: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let end = ["\r\n\r\n", "\n\n", "\r\r"]
            .iter()
            .filter_map(|end| Some(rest.find(end)? + end.len()))
            .min();
        let (event, tail) = rest.split_at(end.unwrap_or(rest.len()));
        out.push(event);
        rest = tail;
    }
    out
}

fn run<'a>(plan: AnswerPlan, chunks: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, StreamEnd, AnswerStream) {
    let mut stream = AnswerStream::new(plan);
    let mut out = Vec::new();
    for chunk in chunks {
        out.extend_from_slice(&stream.chunk(Bytes::copy_from_slice(chunk)));
    }
    let (rest, end) = stream.finish();
    out.extend_from_slice(&rest);
    (out, end, stream)
}

/// Every event of an answer, as far as the truth speaks of it. Also checks the grammar of events.
#[derive(Default)]
struct Told {
    tools: Vec<(u32, String)>,
    finish: Option<FinishKind>,
    usage: Option<Usage>,
    open: Vec<BlockIndex>,
    started: u32,
    broken: Vec<&'static str>,
}

impl Told {
    fn event(&mut self, event: StreamEvent<'_>) {
        match event {
            StreamEvent::Start { .. } => {
                self.started += 1;
                if self.started > 1 {
                    self.broken.push("it starts twice");
                }
            }
            StreamEvent::BlockStart { index, block } => {
                if self.open.contains(&index) {
                    self.broken.push("a block starts twice");
                }
                self.open.push(index);
                if let BlockHead::ToolCall { name, .. } = block {
                    self.tools.push((index.candidate, name.into_owned()));
                }
            }
            StreamEvent::Delta { index, .. } if !self.open.contains(&index) => self.broken.push("a delta has no block"),
            StreamEvent::BlockStop { index } => match self.open.iter().position(|open| *open == index) {
                Some(place) => {
                    self.open.remove(place);
                }
                None => self.broken.push("a block stops which is not open"),
            },
            StreamEvent::Finish { candidate: 0, reason } => self.finish = Some(reason.kind),
            StreamEvent::Usage(usage) => self.usage = Some(usage),
            _ => {}
        }
    }
}

#[test]
fn bytes_pass_unchanged_in_every_chunking() {
    let mut report = Report::default();
    for case in cases() {
        let body = case.body();
        let mut bodies = vec![("as recorded", body.to_owned())];
        if case.stream && case.response.status < 400 {
            let plain = body.replace("\r\n", "\n");
            bodies.push(("CRLF", plain.replace('\n', "\r\n")));
            bodies.push(("CR", plain.replace('\n', "\r")));
            bodies.push(("comments", plain.replace("\n\n", "\n\n: keep-alive\n\n")));
        }
        let mut usages = Vec::new();
        for (how, body) in &bodies {
            let bytes = body.as_bytes();
            let chunkings: [(&str, Vec<&[u8]>); 4] = [
                ("whole", vec![bytes]),
                ("events", events(body).into_iter().map(str::as_bytes).collect()),
                ("1 byte", bytes.chunks(1).collect()),
                ("7 bytes", bytes.chunks(7).collect()),
            ];
            for (size, chunks) in chunkings {
                let (out, end, stream) = run(case.plan(case.kind()), chunks.into_iter());
                report.check(out == bytes, || {
                    format!("{}: {how}, {size}: {} of {} bytes", case.id, out.len(), bytes.len())
                });
                let meter = stream.meter();
                usages.push((
                    meter.usage,
                    meter.tool_calls,
                    meter.finish.clone(),
                    meter.content_events,
                    end,
                ));
                report.check(meter.unread_frames == 0, || {
                    format!("{}: {how}, {size}: frames unread", case.id)
                });
            }
        }
        report.check(usages.windows(2).all(|w| w[0] == w[1]), || {
            format!("{}: chunkings differ: {usages:?}", case.id)
        });
    }
    report.end("identity");
}

#[test]
fn a_stream_in_a_json_array_means_the_same() {
    let mut report = Report::default();
    for case in cases()
        .into_iter()
        .filter(|case| case.wire == "gemini" && case.stream && case.response.status < 400)
    {
        let (_, end, as_sse) = run(case.plan(case.kind()), std::iter::once(case.body().as_bytes()));
        let elements: Vec<String> = truth::sse_events(case.body())
            .into_iter()
            .map(|(_, data)| data)
            .collect();
        let body = format!("[{}\r\n]", elements.join(",\r\n"));
        for size in [1, 7, 1000, body.len()] {
            let plan = case.plan(AnswerKind::Stream(Framing::JsonArray));
            let (out, array_end, stream) = run(plan, body.as_bytes().chunks(size));
            report.check(out == body.as_bytes(), || {
                format!("{}: chunks of {size}: other bytes", case.id)
            });
            let (a, b) = (as_sse.meter(), stream.meter());
            let same = (a.usage, a.tool_calls, &a.finish, a.content_events, end)
                == (b.usage, b.tool_calls, &b.finish, b.content_events, array_end);
            report.check(same, || {
                format!("{}: {a:?} {end:?}, as an array {b:?} {array_end:?}", case.id)
            });
        }
    }
    report.end("JSON arrays");
}

/// Compares usage with the truth. A provider may contradict itself; then its totals win over their parts, and
/// `output` may be the rest of `total`, as in the judge (`sdk_check.py`).
fn check_usage(id: &str, truth: &Truth, usage: Option<Usage>, report: &mut Report) {
    let reported = truth.input.is_some() || truth.output.is_some();
    report.check(usage.is_some() == reported, || {
        format!("{id}: usage {usage:?}, recorded {truth:?}")
    });
    let Some(usage) = usage.filter(|_| reported) else {
        return;
    };
    let input = truth.input.unwrap_or(0);
    let output = truth.output.unwrap_or(0);
    let reasoning = truth.reasoning.unwrap_or(0);
    let mut equal = |name: &str, ours: u64, theirs: u64| {
        report.check(ours == theirs, || {
            format!("{id}: {name} {ours}, recorded {theirs} in {truth:?}")
        });
    };
    equal("input", usage.input_total(), input);
    if let Some(cached) = truth.cached {
        equal("cached", usage.cache_read, cached.min(input));
    }
    if let Some(written) = truth.cache_write {
        equal("cache_write", usage.cache_write_5m + usage.cache_write_1h, written);
    }
    let beside = truth.total == Some(input + output + reasoning);
    let output = if beside { output + reasoning } else { output };
    equal("output", usage.output_total(), output);
    equal("reasoning", usage.reasoning, reasoning.min(output));
    if let Some(total) = truth.total
        && total == input + output
    {
        equal("total", usage.input_total() + usage.output_total(), total);
    }
}

#[test]
fn the_tap_counts_what_the_recording_says() {
    let mut report = Report::default();
    let (mut with_usage, mut odd_totals, mut odd_ends) = (0, Vec::new(), Vec::new());
    for case in cases().into_iter().filter(|case| case.response.status < 400) {
        let (id, body) = (&case.id, case.body());
        if !matches!(case.operation(), Operation::Chat | Operation::Embeddings) {
            continue;
        }
        let name = case.dialect().id().as_str();
        let mut truth = truth::read(name, case.stream, body);
        if case.operation() == Operation::Embeddings {
            let answer: Value = serde_json::from_str(body).unwrap_or_default();
            if name == "openai_chat" {
                truth::chat_usage(&answer["usage"], &mut truth);
            }
            // One provider reports nothing but the total, which is the prompt.
            truth.input = truth.input.or(truth.total);
        }
        with_usage += usize::from(truth.input.is_some());
        let sum = truth.input.unwrap_or(0) + truth.output.unwrap_or(0);
        let beside = truth.total == Some(sum + truth.reasoning.unwrap_or(0));
        if truth.total.is_some_and(|total| total != sum) && !beside {
            odd_totals.push(id.clone());
        }

        let mut told = Told::default();
        let mut sink = |event: StreamEvent<'_>| told.event(event);
        if case.stream {
            let mut decoder = case.dialect().stream_decoder(Operation::Chat);
            let mut splitter = tollgate::sse::Splitter::new(Framing::Sse, 8 << 20);
            splitter.feed(body.as_bytes(), |block| {
                if let tollgate::sse::Content::Frame(frame) = block.content {
                    let read = decoder.frame(frame, &mut sink);
                    report.check(read.is_ok(), || format!("{id}: {read:?}"));
                }
            });
            decoder.finish(&mut sink);
        } else {
            let read = case
                .dialect()
                .decode_response(case.operation(), body.as_bytes(), &mut sink);
            report.check(read.is_ok(), || format!("{id}: {read:?}"));
        }
        report.check(told.broken.is_empty() && told.open.is_empty(), || {
            format!(
                "{id}: grammar of events: {:?}, open at the end: {:?}",
                told.broken, told.open
            )
        });

        let (_, end, stream) = run(case.plan(case.kind()), std::iter::once(body.as_bytes()));
        let meter = stream.meter();
        report.check(meter.error.is_some() == truth.has_error, || {
            format!("{id}: error {:?}", meter.error)
        });
        if truth.has_error {
            report.check(end == StreamEnd::Failed, || {
                format!("{id}: an error within, but the end is {end:?}")
            });
            continue;
        }
        check_usage(id, &truth, meter.usage, &mut report);
        check_usage(id, &truth, told.usage, &mut report);
        told.tools.sort_by_key(|(candidate, _)| *candidate);
        let tools: Vec<&str> = told.tools.iter().map(|(_, name)| name.as_str()).collect();
        report.check(tools == truth.tools, || {
            format!("{id}: tools {tools:?}, recorded {:?}", truth.tools)
        });
        report.check(meter.tool_calls as usize == tools.len(), || {
            format!("{id}: {} tool calls", meter.tool_calls)
        });
        report.check(told.finish == truth.finish, || {
            format!("{id}: {:?}, recorded {:?}", told.finish, truth.finish)
        });
        let finish = meter.finish.as_ref().map(|f| f.kind);
        report.check(finish == truth.finish, || {
            format!("{id}: meter {finish:?}, recorded {:?}", truth.finish)
        });
        let model = meter.model.clone().unwrap_or_default();
        report.check(model == truth.model, || {
            format!("{id}: model {model}, recorded {}", truth.model)
        });
        // An answer of work that goes on in the background tells no finish.
        let goes_on = end == StreamEnd::Unfinished && truth.finish.is_none() && truth.output.is_none();
        if end != StreamEnd::Complete && !goes_on {
            odd_ends.push(id.clone());
        }
    }
    println!("{with_usage} answers with usage; totals which do not add up in the recording itself: {odd_totals:?}");
    report.check(odd_ends.is_empty(), || {
        format!("not complete, though without an error: {odd_ends:?}")
    });
    report.end("truth");
}

/// Most places one stream is cut at: all of them in short ones.
const MAX_CUTS: usize = 80;

#[test]
fn a_stream_that_is_cut_never_looks_complete() {
    let mut report = Report::default();
    for case in cases()
        .into_iter()
        .filter(|case| case.stream && case.response.status < 400)
    {
        let body = case.body();
        let name = case.dialect().id().as_str();
        let ends: Vec<usize> = events(body)
            .iter()
            .scan(0, |at, event| {
                *at += event.len();
                Some(*at)
            })
            .collect();
        let step = ends.len().div_ceil(MAX_CUTS);
        for (place, cut) in ends.iter().enumerate() {
            if place % step != 0 && place + 6 < ends.len() {
                continue;
            }
            let front = &body[..*cut];
            let terminal = truth::is_terminal(name, front);
            let (out, end, _) = run(case.plan(case.kind()), std::iter::once(front.as_bytes()));
            report.check(terminal || end != StreamEnd::Complete, || {
                format!("{}: complete at byte {cut}", case.id)
            });
            report.check(!terminal || end != StreamEnd::Truncated, || {
                format!("{}: truncated at byte {cut}", case.id)
            });
            report.check(out == front.as_bytes(), || {
                format!("{}: whole frames go out, cut at byte {cut}", case.id)
            });
            // Cut within the event: what goes out still ends with a whole one.
            let inside = cut.saturating_sub(3);
            if inside > place.checked_sub(1).map_or(0, |before| ends[before]) {
                let (out, end, stream) = run(case.plan(case.kind()), std::iter::once(&body.as_bytes()[..inside]));
                let whole = place.checked_sub(1).map_or(0, |before| ends[before]);
                let sent = if end == StreamEnd::Complete { inside } else { whole };
                // A lonely blank line after a frame is a border too.
                let blank = |at: usize| body[whole.min(at)..at].bytes().all(|b| matches!(b, b'\r' | b'\n'));
                let aligned = out.len() == sent || (out.len() > whole && blank(out.len()));
                report.check(aligned || truth::is_terminal(name, &body[..whole]), || {
                    format!(
                        "{}: cut at {inside}: {} bytes went out, the last whole frame ends at {whole}",
                        case.id,
                        out.len()
                    )
                });
                report.check(stream.can_append_error(), || {
                    format!("{}: cut at {inside}: no border", case.id)
                });
            }
        }
    }
    report.end("cuts");
}

#[test]
fn recorded_requests_are_recognised_and_read() {
    let mut report = Report::default();
    for case in cases() {
        let Some(request) = &case.request else { continue };
        let id = &case.id;
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let mut headers = HeaderMap::new();
        if case.wire.starts_with("anthropic") {
            headers.insert("anthropic-version", "2023-06-01".parse().expect("a value"));
        }
        for (name, value) in &request.headers {
            if let (Ok(name), Ok(value)) = (name.parse::<http::HeaderName>(), value.parse::<http::HeaderValue>()) {
                headers.insert(name, value);
            }
        }
        let method: Method = request.method.parse().expect("a method");
        let Some(target) = dialects::find(Line {
            method: &method,
            path,
            query,
            headers: &headers,
        }) else {
            report.check(false, || format!("{id}: {method} {path} is not recognised"));
            continue;
        };
        report.check(target.dialect.id() == case.dialect().id(), || {
            format!("{id}: {path} is {}", target.dialect.id())
        });
        report.check(target.operation == case.operation(), || {
            format!("{id}: {path} is {:?}", target.operation)
        });
        let Some(body) = request.body.as_ref().filter(|_| method == Method::POST) else {
            continue;
        };
        let is_gemini = case.wire.starts_with("gemini");
        for bytes in [serde_json::to_vec(body), serde_json::to_vec_pretty(body)].map(|bytes| bytes.expect("a value")) {
            let peek = match target.dialect.peek(&target, &bytes) {
                Ok(peek) => peek,
                Err(error) => {
                    report.check(false, || format!("{id}: {error}"));
                    continue;
                }
            };
            if is_gemini {
                let model = path.rsplit_once(':').map_or(path, |(front, _)| front);
                let model = model.strip_prefix("/v1beta/models/").unwrap_or(model);
                report.check(peek.model == model, || format!("{id}: model {} in {path}", peek.model));
                report.check(peek.stream == path.contains(":stream"), || {
                    format!("{id}: stream {}", peek.stream)
                });
            } else {
                report.check(body["model"] == peek.model.as_str(), || {
                    format!("{id}: model {}", peek.model)
                });
                let stream = body["stream"] == true;
                report.check(peek.stream == stream, || format!("{id}: stream {}", peek.stream));
                let span = peek.model_span.clone().map(|span| bytes[span].to_vec());
                report.check(span == serde_json::to_vec(&peek.model).ok(), || {
                    format!("{id}: model's span")
                });
                let asked = body["stream_options"]["include_usage"] == true;
                let chat = target.operation == Operation::Chat && case.wire == "openai_chat";
                report.check(peek.ask_usage.is_some() == (chat && stream && !asked), || {
                    format!("{id}: asks for usage")
                });
            }
            if let (Some(want), Operation::Chat) = (case.want_stream, target.operation) {
                report.check(peek.stream == want, || {
                    format!("{id}: stream {}, recorded {want}", peek.stream)
                });
            }
        }
        let upstream = target
            .dialect
            .upstream_path(&target, target.model.as_deref().unwrap_or("m"), query);
        let whole = request
            .path
            .strip_prefix("/v1")
            .filter(|_| case.wire.starts_with("openai"));
        let whole = whole.unwrap_or(&request.path);
        report.check(upstream == whole, || {
            format!("{id}: upstream path {upstream}, recorded {whole}")
        });
    }
    report.end("requests");
}
