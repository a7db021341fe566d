//! Compares what the client got, what the provider saw and what the ledger says with the recording.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::case::Case;
use crate::replay::{Pieces, Seen};
use crate::truth::{self, End, Usage};

/// What came back to the client.
#[derive(Default)]
pub struct Received {
    pub request_id: String,
    /// `x-request-id` of the answer.
    pub answered_as: String,
    pub status: u16,
    pub content_type: String,
    pub body: Vec<u8>,
    /// The connection failed.
    pub broke: Option<String>,
}

/// Counts of one wire.
#[derive(Default)]
struct Tally {
    exchanges: u32,
    identical: u32,
    /// Identical up to the error which the gateway appends to a stream without its end.
    appended: u32,
    status: u32,
    request: u32,
    rows: u32,
    usage: u32,
    /// Equal but for a part which the provider says is larger than its total.
    cut: u32,
    no_usage: u32,
}

/// The outcome.
#[derive(Default)]
pub struct Verdict {
    tallies: BTreeMap<String, Tally>,
    wrong: Vec<String>,
}

impl Verdict {
    pub fn is_clean(&self) -> bool {
        self.wrong.is_empty()
    }

    /// Judges one exchange.
    pub fn judge(&mut self, case: &Case, pieces: Pieces, got: &Received, seen: &[Seen], rows: &[&Value]) {
        let truth = truth::of(case);
        let tally = self.tallies.entry(case.wire.clone()).or_default();
        let mut wrong = Vec::new();
        tally.exchanges += 1;

        if let Some(why) = &got.broke {
            wrong.push(format!("the connection broke: {why}"));
        }
        let appended = got.body.strip_prefix(&case.answer[..]).filter(|more| !more.is_empty());
        match appended {
            _ if got.body == case.answer => tally.identical += 1,
            Some(more) if truth.end == End::Cut && case.stream && is_error(more) => tally.appended += 1,
            _ => wrong.push(differs(&case.answer, &got.body)),
        }
        if (got.status, &got.content_type) == (case.status, &case.content_type) && got.answered_as == got.request_id {
            tally.status += 1;
        } else {
            let Received {
                status,
                content_type,
                answered_as,
                ..
            } = got;
            wrong.push(format!(
                "{} {} became {status} {content_type}, as {answered_as}",
                case.status, case.content_type
            ));
        }
        match seen {
            [one] if one.body == case.request && one.target == case.path => tally.request += 1,
            [one] if one.body == case.request => {
                wrong.push(format!(
                    "the provider was asked {} instead of {}",
                    one.target, case.path
                ));
            }
            [_] => wrong.push("the request's body was changed".into()),
            many => wrong.push(format!("the provider was asked {} times", many.len())),
        }
        match rows {
            [row] => {
                tally.rows += 1;
                if !case.passes_through() {
                    match (usage(row), truth.usage) {
                        (None, None) => tally.no_usage += 1,
                        (Some(got), Some(known)) if got == known.in_classes().0 => {
                            let cut = known.in_classes().1;
                            *if cut { &mut tally.cut } else { &mut tally.usage } += 1;
                        }
                        (got, known) => wrong.push(format!("usage {known:?} became {got:?}")),
                    }
                    let ended = if case.status >= 400 {
                        "upstream_error"
                    } else if truth.end == End::Complete {
                        "complete"
                    } else {
                        "upstream_broke"
                    };
                    if row["ended"] != ended || row["status"] != case.status {
                        wrong.push(format!(
                            "the row ended {} with {}, not {ended} with {}",
                            row["ended"], row["status"], case.status
                        ));
                    }
                }
            }
            many => wrong.push(format!("{} rows in the ledger", many.len())),
        }
        let head = format!("{} ({}, {pieces:?})", case.id, case.provider);
        self.wrong
            .extend(wrong.into_iter().map(|what| format!("{head}: {what}")));
    }

    /// Rows of requests nobody made.
    pub fn stray_rows<'a>(&mut self, requests: impl Iterator<Item = &'a str>) {
        self.wrong
            .extend(requests.map(|request| format!("a row of a request nobody made: {request}")));
    }
}

/// An error event follows, as each dialect writes it.
fn is_error(more: &[u8]) -> bool {
    let text = String::from_utf8_lossy(more);
    text.contains("\"error\"") && !text.contains("[DONE]")
}

fn differs(recorded: &[u8], got: &[u8]) -> String {
    let at = recorded.iter().zip(got).take_while(|(a, b)| a == b).count();
    let show = |bytes: &[u8]| {
        let from = at.min(bytes.len());
        String::from_utf8_lossy(&bytes[from..bytes.len().min(from + 120)]).into_owned()
    };
    format!(
        "{} bytes became {}, first difference at {at}: {:?} became {:?}",
        recorded.len(),
        got.len(),
        show(recorded),
        show(got)
    )
}

/// The row's usage as the provider reported it, in totals: what is estimated, it did not.
fn usage(row: &Value) -> Option<Usage> {
    if row["estimated"] == true {
        return None;
    }
    let usage = row["usage"].as_object()?;
    let number = |name: &str| usage[name].as_u64();
    Some(Usage {
        input: number("input_total"),
        cached: number("cache_read"),
        output: number("output_total"),
        reasoning: number("reasoning"),
        written: Some(number("cache_write_5m")? + number("cache_write_1h")?),
        total: None,
    })
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for wrong in &self.wrong {
            writeln!(f, "WRONG {wrong}")?;
        }
        writeln!(
            f,
            "{:24}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "wire", "exchanges", "identical", "+ error", "status", "request", "rows", "usage", "(cut)", "no usage"
        )?;
        for (wire, t) in &self.tallies {
            writeln!(
                f,
                "{wire:24}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
                t.exchanges, t.identical, t.appended, t.status, t.request, t.rows, t.usage, t.cut, t.no_usage
            )?;
        }
        write!(f, "{} wrong", self.wrong.len())
    }
}
