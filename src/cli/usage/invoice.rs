//! Providers' usage and cost exports (CSV): columns found by their titles, amounts summed by day and model.
//!
//! Titles are those of the exports themselves, as public copies of them show:
//! - OpenAI, `completions_usage_*.csv`: `start_time, end_time, start_time_iso, end_time_iso, ..., input_tokens,
//!   input_cached_tokens, output_tokens, num_model_requests, model`; input tokens include cached ones. `cost_*.csv`: `start_time,
//!   ..., amount_value, amount_currency, quantity, quantity_unit, line_item` where an item is `gpt-4o-2024-08-06, input`. Buckets
//!   in which nothing happened have times only.
//! - Anthropic's console, usage: `usage_date_utc, model_version, ..., usage_input_tokens_no_cache,
//!   usage_input_tokens_cache_write_5m, usage_input_tokens_cache_write_1h, usage_input_tokens_cache_read, usage_output_tokens`;
//!   cost: `usage_date_utc, model, ..., token_type, cost_usd, list_price_usd`, one line for each class of tokens, in cents, where
//!   a model is `Claude Haiku 4.5`.
//! - Any other with a day, a model and some of input, output and cached tokens and cost under a usual title.

use std::collections::BTreeMap;
use std::io::Read;

use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::lines::{Lines, line_ends};
use crate::cli::Failure;
use crate::cli::prices::decimal::scaled;
use crate::observe::redact::printable;

/// Largest file read, in bytes: an export by minute and key of a busy month has some hundred megabytes.
pub(super) const MAX_FILE: u64 = 1 << 30;
/// Most days and models together: as many as a report has.
pub(super) const MAX_LINES: usize = crate::ledger::query::GROUPS_MAX;
/// A cent, in nano-dollars: amounts are taken to be rounded no coarser, also where an invoice writes `3` for 3.00.
const CENT: i128 = 10_000_000;

/// How the file is written.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Told by its titles.
    Auto,
    /// OpenAI's usage or cost export: input tokens include cached ones.
    Openai,
    /// The usage or cost export of Anthropic's console: input tokens do not include cached ones.
    Anthropic,
    /// Any other; input tokens include cached ones unless their title says otherwise.
    Csv,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// All tokens of the prompt.
    Input,
    /// Of those, read from a cache.
    CacheRead,
    /// Of those, written to a cache.
    CacheWrite,
    /// All tokens of the answer.
    Output,
    /// Money, in nano-dollars.
    Cost,
}

impl What {
    pub(super) const ALL: [What; 5] = [What::Input, What::CacheRead, What::CacheWrite, What::Output, What::Cost];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            What::Input => "input_tokens",
            What::CacheRead => "cache_read_tokens",
            What::CacheWrite => "cache_write_tokens",
            What::Output => "output_tokens",
            What::Cost => "cost_usd",
        }
    }
}

/// Sums of one day and model, by [`What`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) of: [i128; 5],
    /// How many amounts of money the cost is the sum of.
    pub(super) amounts: u64,
}

impl Sums {
    pub(super) fn add(&mut self, other: &Sums) {
        for (to, n) in self.of.iter_mut().zip(other.of) {
            *to = to.saturating_add(n);
        }
        self.amounts = self.amounts.saturating_add(other.amounts);
    }
}

/// A file, read.
#[derive(Debug)]
pub(super) struct Invoice {
    /// What it tells.
    pub(super) tells: Vec<What>,
    /// By day and model, as the file calls it.
    pub(super) sums: BTreeMap<(Date, String), Sums>,
    /// One in the last digit of its finest amount, in nano-dollars, and at most a cent; 0: finer than those.
    pub(super) unit: i128,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Day,
    Model,
    Currency,
    /// All tokens of the prompt, cached ones too.
    InputAll,
    /// Those of the prompt that are in no other column.
    InputRest,
    CacheRead,
    CacheWrite,
    Output,
    Cost,
}

/// Titles, the best first: of several the first counts. Compared in lower case, other characters than letters and digits as `_`.
const TITLES: [(Column, &[&str]); 9] = [
    (
        Column::Day,
        &[
            "usage_date_utc",
            "usage_date",
            "date",
            "day",
            "start_time_iso",
            "starting_at",
            "start_time",
            "bucket_start",
            "timestamp",
            "time",
            "created_at",
        ],
    ),
    (
        Column::Model,
        &[
            "model_version",
            "model",
            "model_name",
            "model_id",
            "snapshot_id",
            "line_item",
            "sku",
            "description",
        ],
    ),
    (Column::Currency, &["amount_currency", "currency"]),
    (
        Column::InputAll,
        &[
            "input_tokens",
            "prompt_tokens",
            "tokens_prompt",
            "input",
            "n_context_tokens_total",
            "total_input_tokens",
            "tokens_input",
            "tokens_in",
        ],
    ),
    (
        Column::InputRest,
        &[
            "usage_input_tokens_no_cache",
            "uncached_input_tokens",
            "input_uncached_tokens",
            "input_tokens_no_cache",
            "input_no_cache",
        ],
    ),
    (
        Column::CacheRead,
        &[
            "usage_input_tokens_cache_read",
            "input_cached_tokens",
            "cached_input_tokens",
            "cache_read_input_tokens",
            "cache_read_tokens",
            "cached_tokens",
            "n_cached_context_tokens_total",
            "cache_read",
            "cached",
        ],
    ),
    // All of these together: one for each lifetime.
    (
        Column::CacheWrite,
        &[
            "usage_input_tokens_cache_write_5m",
            "usage_input_tokens_cache_write_1h",
            "usage_input_tokens_cache_write",
            "cache_creation_input_tokens",
            "cache_write_tokens",
            "cache_write",
            "cache_creation",
        ],
    ),
    (
        Column::Output,
        &[
            "usage_output_tokens",
            "output_tokens",
            "completion_tokens",
            "tokens_completion",
            "generated_tokens",
            "n_generated_tokens_total",
            "output",
            "tokens_output",
            "tokens_out",
        ],
    ),
    (
        Column::Cost,
        &[
            "cost_usd",
            "amount_value",
            "amount_usd",
            "total_cost_usd",
            "cost",
            "cost_in_usd",
            "amount",
            "total_cost",
        ],
    ),
];

/// Where each column stands.
struct Columns {
    places: Vec<(Column, usize)>,
    titles: Vec<String>,
}

impl Columns {
    fn find(titles: &csv::StringRecord, format: Format) -> Result<Self, String> {
        let titles: Vec<String> = titles.iter().map(plain).collect();
        let mut places = Vec::new();
        for (column, names) in TITLES {
            let mut found = names
                .iter()
                .filter_map(|name| titles.iter().position(|title| title == name));
            match column {
                Column::CacheWrite => places.extend(found.map(|at| (column, at))),
                column => places.extend(found.next().map(|at| (column, at))),
            }
        }
        let mut columns = Columns { places, titles };
        if format == Format::Anthropic && !columns.has(Column::InputRest) {
            let places = columns.places.iter_mut();
            for (column, _) in places.filter(|(column, _)| *column == Column::InputAll) {
                *column = Column::InputRest;
            }
        }
        if columns.has(Column::InputRest) {
            columns.places.retain(|(column, _)| *column != Column::InputAll);
        }
        let has = |column| columns.has(column);
        let missing = match () {
            () if !has(Column::Day) => Some("a day (`date`, `usage_date_utc`, `start_time_iso`)"),
            () if !has(Column::Model) => Some("a model (`model`, `model_version`, `line_item`): export it by model"),
            () if ![Column::InputAll, Column::InputRest, Column::Output, Column::Cost]
                .into_iter()
                .any(has) =>
            {
                Some("tokens or money (`input_tokens`, `output_tokens`, `cost_usd`, `amount_value`)")
            }
            () => None,
        };
        match missing {
            None => Ok(columns),
            Some(missing) => Err(format!(
                "no column holds {missing}; the columns are: {}",
                printable(&columns.titles.join(", "), 1000)
            )),
        }
    }

    fn has(&self, column: Column) -> bool {
        self.places.iter().any(|(one, _)| *one == column)
    }

    fn tells(&self) -> Vec<What> {
        let told = |what: &What| match what {
            What::Input => self.has(Column::InputAll) || self.has(Column::InputRest),
            What::CacheRead => self.has(Column::CacheRead),
            What::CacheWrite => self.has(Column::CacheWrite),
            What::Output => self.has(Column::Output),
            What::Cost => self.has(Column::Cost),
        };
        What::ALL.into_iter().filter(told).collect()
    }
}

/// A title without what is not compared.
fn plain(title: &str) -> String {
    let title = title.trim_start_matches('\u{feff}').trim().to_lowercase();
    let mut out = String::with_capacity(title.len());
    for character in title.chars() {
        match character.is_alphanumeric() {
            true => out.push(character),
            false if !out.is_empty() && !out.ends_with('_') => out.push('_'),
            false => {}
        }
    }
    out.trim_end_matches('_').to_owned()
}

/// Reads a file. What is wrong is told with its line.
pub(super) fn read(from: impl Read, format: Format) -> Result<Invoice, Failure> {
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .has_headers(false)
        .from_reader(Lines::new(from));
    // An empty file has no titles.
    let (line, titles) = next(&mut reader)?.unwrap_or_else(|| (1, csv::StringRecord::new()));
    let wrong = |told: String| Failure::Given(format!("line {line}: {told}"));
    let columns = Columns::find(&titles, format).map_err(wrong)?;
    let mut invoice = Invoice {
        tells: columns.tells(),
        sums: BTreeMap::new(),
        unit: CENT,
    };
    while let Some((line, record)) = next(&mut reader)? {
        let wrong = |told: String| Failure::Given(format!("line {line}: {told}"));
        let Some((day, model, sums)) = columns.read(&record, &mut invoice.unit).map_err(wrong)? else {
            continue;
        };
        invoice.sums.entry((day, model)).or_default().add(&sums);
        if invoice.sums.len() > MAX_LINES {
            return Err(wrong(format!(
                "more than {MAX_LINES} days and models; take a shorter time"
            )));
        }
    }
    Ok(invoice)
}

/// The next record, its cells trimmed, and the line it begins on.
fn next<R: Read>(reader: &mut csv::Reader<Lines<R>>) -> Result<Option<(u64, csv::StringRecord)>, Failure> {
    let mut record = csv::ByteRecord::new();
    match reader.read_byte_record(&mut record) {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        Err(error) => return Err(Failure::Given(error.to_string())),
    }
    let within = record.iter().map(line_ends).sum();
    let line = reader.get_ref().of_record(reader.position().byte(), within);
    record.trim();
    match csv::StringRecord::from_byte_record(record) {
        Ok(record) => Ok(Some((line, record))),
        Err(_) => Err(Failure::Given(format!(
            "line {line}: not UTF-8; save it as CSV in UTF-8"
        ))),
    }
}

impl Columns {
    /// One line; `None`: it tells of nothing. `unit` becomes that of its amount of money, if that is finer.
    fn read(&self, record: &csv::StringRecord, unit: &mut i128) -> Result<Option<(Date, String, Sums)>, String> {
        let cell = |wanted: Column| {
            let place = self.places.iter().find(|(column, _)| *column == wanted)?.1;
            record.get(place).filter(|text| !text.is_empty())
        };
        let mut sums = Sums::default();
        let mut told = false;
        for &(column, place) in &self.places {
            let Some(text) = record.get(place).filter(|text| !text.is_empty()) else {
                continue;
            };
            let mut add = |what: What, n: i128| sums.of[what as usize] = sums.of[what as usize].saturating_add(n);
            let name = &self.titles[place];
            match column {
                Column::Day | Column::Model => continue,
                Column::Currency => {
                    if !text.eq_ignore_ascii_case("usd") {
                        return Err(format!(
                            "{name} is {}; the ledger is in US dollars: leave out lines in other currencies",
                            printable(text, 40)
                        ));
                    }
                    continue;
                }
                Column::Cost => {
                    let (nanos, last) = money(text).ok_or_else(|| not_one(name, text, "an amount"))?;
                    add(What::Cost, nanos);
                    sums.amounts += 1;
                    *unit = last.min(*unit);
                }
                counted => {
                    let n = count(text).ok_or_else(|| not_one(name, text, "a number of tokens"))?;
                    let what = match counted {
                        Column::CacheRead => What::CacheRead,
                        Column::CacheWrite => What::CacheWrite,
                        Column::Output => What::Output,
                        _ => What::Input,
                    };
                    add(what, n);
                    let is_cached = matches!(what, What::CacheRead | What::CacheWrite);
                    if is_cached && self.has(Column::InputRest) {
                        add(What::Input, n);
                    }
                }
            }
            told = true;
        }
        if !told {
            return Ok(None);
        }
        let text = cell(Column::Day).ok_or("no day")?;
        let day = day(text).ok_or_else(|| not_one("the day", text, "written as 2026-01-31, with or without a time"))?;
        // `gpt-4o, input`: the class of tokens is not the model.
        let model = cell(Column::Model).unwrap_or("(none)");
        let model = model.split_once(", ").map_or(model, |(model, _)| model);
        Ok(Some((day, printable(model, 200).into_owned(), sums)))
    }
}

fn not_one(name: &str, text: &str, wanted: &str) -> String {
    format!("{name} is \"{}\", which is not {wanted}", printable(text, 60))
}

/// A number of tokens: `1234`, `1,234`, `1234.0`.
fn count(text: &str) -> Option<i128> {
    let number = text.replace(',', "");
    let number = number.strip_suffix(".0").unwrap_or(&number);
    number.parse::<u64>().ok().map(i128::from)
}

/// An amount in nano-dollars: `0.0123`, `$1,234.50`, `-0.5`, `1.2e-05`; and one in its last digit as it is written, 0: less than a
/// nano-dollar.
fn money(text: &str) -> Option<(i128, i128)> {
    let (text, negative) = match text.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let number = text.trim().trim_start_matches('$').replace(',', "");
    let nanos = i128::from(scaled(&number, 9)?);
    let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((&number, "0"));
    let decimals = i64::try_from(digits.split_once('.').map_or(0, |(_, decimals)| decimals.len())).ok()?;
    let unit = match decimals - exponent.parse::<i64>().ok()? {
        ..=0 => 1_000_000_000,
        decimals @ 1..=9 => 10_i128.pow(9 - u32::try_from(decimals).ok()?),
        _ => 0,
    };
    Some((if negative { -nanos } else { nanos }, unit))
}

/// The day, UTC: of `2026-01-31`, a time with or without an offset (without: UTC), seconds or milliseconds since 1970.
fn day(text: &str) -> Option<Date> {
    let utc = |at: jiff::Timestamp| at.to_zoned(TimeZone::UTC).date();
    if let Ok(number) = text.parse::<i64>() {
        let seconds = match text.len() {
            9 | 10 => number,
            12 | 13 => number / 1000,
            _ => return None,
        };
        return jiff::Timestamp::from_second(seconds).ok().map(utc);
    }
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Some(utc(at));
    }
    let date = text.get(..10)?;
    let rest = &text[10..];
    if !(rest.is_empty() || rest.starts_with(['T', ' '])) || date.as_bytes().get(4) != Some(&b'-') {
        return None;
    }
    date.parse().ok()
}

#[cfg(test)]
#[path = "invoice_tests.rs"]
mod tests;
