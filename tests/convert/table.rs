//! `docs/conversion.md`: what each pair of dialects can't carry, gathered from the fixtures, which cover every field of
//! every dialect's requests. `TOLLGATE_BLESS=1` writes it anew.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;

use tollgate::dialects::{self, Dialect};
use tollgate::ir::LossReport;

use crate::answers::{self, Answer};

use crate::conservation::Way;
use crate::fixtures::{self, Fixture};
use crate::{conservation, golden, pipeline};

/// The order in which the page speaks of dialects.
const ORDER: [&str; 4] = ["openai_chat", "openai_responses", "anthropic", "gemini"];

const HEAD: &str = "\
# What conversion can't carry

Generated from the tests (`tests/convert`, `TOLLGATE_BLESS=1 cargo test --test convert table`); don't edit.

The tests convert requests which hold every field that the providers' schemas know, between all pairs of API formats, and check
that each value of each field is in the converted request or in the list of losses. These are the losses, by pair: a field
as the client's format writes it (`[]` is any place in a list), what became of it, and why.

- **dropped**: left out.
- **approximated**: something near it was said instead.
- **synthesized**: made up, as the other format must have it.
- **refused**: the request is answered with an error (400), as leaving it out would change what is asked.

What a table of requests does not name is carried. Not in the tables: fields nobody knows (dropped, and told as such), and the
model's name and the wish for a stream, which the route decides. Between equal formats bytes pass untouched, and nothing is lost.
Some losses are those of the models which the tests ask (the newest of OpenAI, Claude Opus 4.6, Gemini 2.5 Flash); others take more,
or less.

Of answers, text, reasoning, refusals, calls of tools, candidates, reasons to end and usage are carried between all formats, and
checked on recordings; the tables of answers say what is told as lost beside them.

Each answer tells its losses in the header `x-tollgate-loss`; `on_loss = \"reject\"` in a route refuses such requests instead.
";

/// A path without the places in lists, as the table shows it.
fn general(path: &str) -> String {
    let mut out = String::new();
    let mut within = false;
    for c in path.chars() {
        match c {
            '[' => {
                out.push_str("[]");
                within = true;
            }
            ']' => within = false,
            _ if within => {}
            c => out.push(c),
        }
    }
    out
}

/// Fixtures of fields which nobody knows, or which only say known things in another way.
fn tells_nothing(fixture: &Fixture) -> bool {
    fixture.id.ends_with("/unknown") || fixture.id.ends_with("/snake_case")
}

fn rows(from: &dyn Dialect, to: &'static dyn Dialect, all: &[Fixture]) -> BTreeSet<[String; 3]> {
    let mut rows = BTreeSet::new();
    for fixture in all.iter().filter(|f| f.dialect.id() == from.id() && !tells_nothing(f)) {
        let model = fixtures::model(to.id().as_str());
        match conservation::convert(Way::Gateway, from, to, model, &fixture.body) {
            Ok(Ok(converted)) => rows.extend(
                converted
                    .loss
                    .losses()
                    .iter()
                    .map(|loss| [general(&loss.path), loss.kind.as_str().to_owned(), loss.why.to_owned()]),
            ),
            Ok(Err(error)) => {
                rows.insert([general(&error.path), "refused".to_owned(), error.why.to_owned()]);
            }
            Err(error) => panic!("{}: {error}", fixture.id),
        }
    }
    rows
}

/// What the answers of a provider lose on their way to a client, whole and as streams.
fn answer_rows(from: &dyn Dialect, to: &'static dyn Dialect, all: &[Answer]) -> BTreeSet<[String; 3]> {
    let mut rows = BTreeSet::new();
    for answer in all.iter().filter(|answer| answer.dialect.id() == from.id()) {
        let Some(response) = answers::complete(answer) else {
            continue;
        };
        let mut loss = LossReport::default();
        to.encode_response(&pipeline::prepare(response, to), &pipeline::answering(), &mut loss);
        if answer.stream {
            let chunks = std::iter::once(answer.body.as_bytes());
            loss.merge(pipeline::convert_stream(answer.dialect, to, chunks).0.loss);
        }
        rows.extend(
            loss.losses()
                .iter()
                .map(|loss| [general(&loss.path), loss.kind.as_str().to_owned(), loss.why.to_owned()]),
        );
    }
    rows
}

#[test]
fn the_page_says_what_is_lost() {
    let (requests, answers) = (fixtures::requests(), fixtures::answers());
    let dialect = |name| dialects::by_name(name).expect("a dialect");
    let mut page = HEAD.to_owned();
    let mut table = |title: String, rows: BTreeSet<[String; 3]>| {
        let _ = write!(page, "\n### {title}\n\n");
        if rows.is_empty() {
            page.push_str("Nothing.\n");
            return;
        }
        page.push_str("| field | | why |\n| --- | --- | --- |\n");
        for [field, kind, why] in rows {
            let _ = writeln!(page, "| `{field}` | {kind} | {why} |");
        }
    };
    for client in ORDER {
        for provider in ORDER.into_iter().filter(|provider| *provider != client) {
            let (client, provider) = (dialect(client), dialect(provider));
            let title = format!("`{}` to `{}`: requests", client.id(), provider.id());
            table(title, rows(client, provider, &requests));
            let title = format!("`{}` to `{}`: answers", provider.id(), client.id());
            table(title, answer_rows(provider, client, &answers));
        }
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/conversion.md");
    if let Err(differs) = golden::bless(&path, &page) {
        panic!("the page is out of date; run with TOLLGATE_BLESS=1: {differs}");
    }
}
