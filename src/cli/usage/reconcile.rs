//! `tollgate usage reconcile`: a provider's export against the ledger, by day (UTC) and model.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use jiff::ToSpan;
use jiff::civil::Date;
use serde::Serialize;
use serde_json::{Value, json};

use super::invoice::{self, Format, Invoice, MAX_FILE, Sums, What};
use crate::admin::usage::Report;
use crate::cli::Failure;
use crate::cli::client::{Client, Reach};
use crate::cli::table::{Table, grouped};
use crate::money::NanoUsd;

/// Compares a provider's export with the ledger.
#[derive(clap::Args, Debug)]
pub struct Reconcile {
    /// The provider's export: CSV.
    file: PathBuf,
    /// Which provider of the rules it is of.
    #[arg(long)]
    provider: String,
    /// How it is written.
    #[arg(long, value_enum, default_value_t = Format::Auto)]
    format: Format,
    /// The first day (UTC) compared; without it the first of the file.
    #[arg(long, value_name = "DAY")]
    from: Option<Date>,
    /// The day (UTC) before which comparing ends; without it the one after the last of the file.
    #[arg(long, value_name = "DAY")]
    until: Option<Date>,
    /// How far tokens and money may differ: 0.01 is one in a hundred.
    #[arg(long, default_value = "0.01", value_name = "SHARE")]
    tolerance: Tolerance,
    /// Compares names of models as they are written. Otherwise `Claude Haiku 4.5`, `claude-haiku-4-5` and
    /// `claude-haiku-4-5-20251001` are one.
    #[arg(long)]
    exact_models: bool,
    /// Shows what agrees, too.
    #[arg(long)]
    all: bool,
    /// Prints JSON, for programs.
    #[arg(long)]
    json: bool,
    /// How to reach the admin API.
    #[command(flatten)]
    reach: Reach,
}

/// A share, in 10^-9.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tolerance(i128);

/// One whole.
const WHOLE: i128 = 1_000_000_000;

impl FromStr for Tolerance {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse::<NanoUsd>() {
            Ok(NanoUsd(share)) if i128::from(share) <= WHOLE => Ok(Tolerance(share.into())),
            _ => Err("a share from 0 to 1, as 0.01"),
        }
    }
}

impl Tolerance {
    /// Whether they differ by no more than it, measured at the larger one, and than `rounding`.
    fn lets_pass(self, theirs: i128, ours: i128, rounding: i128) -> bool {
        let most = theirs.abs().max(ours.abs()).saturating_mul(self.0) / WHOLE;
        (theirs - ours).abs() <= most.saturating_add(rounding)
    }
}

/// Day and model, as they are compared.
type Key = (Date, String);

/// One day and model.
#[derive(Debug, Default)]
struct Line {
    /// The names it goes by: theirs, then ours.
    names: [BTreeSet<String>; 2],
    theirs: Option<Sums>,
    ours: Option<Sums>,
    /// Attempts of ours without a price.
    unpriced: u64,
}

impl Line {
    fn amounts(&self, what: What) -> (i128, i128) {
        let of = |sums: &Option<Sums>| sums.map_or(0, |sums| sums.of[what as usize]);
        (of(&self.theirs), of(&self.ours))
    }

    fn agrees(&self, what: What, tolerance: Tolerance) -> bool {
        let (theirs, ours) = self.amounts(what);
        let rounding = match what {
            What::Cost => self.theirs.map_or(0, |sums| sums.rounding),
            _ => 0,
        };
        tolerance.lets_pass(theirs, ours, rounding)
    }

    fn side(&self) -> &'static str {
        match (&self.theirs, &self.ours) {
            (Some(_), None) => "theirs",
            (None, _) => "ours",
            _ => "both",
        }
    }

    fn add(&mut self, other: &Line) {
        for (to, sums) in [(&mut self.theirs, &other.theirs), (&mut self.ours, &other.ours)] {
            if let Some(sums) = sums {
                to.get_or_insert_default().add(sums);
            }
        }
        self.unpriced += other.unpriced;
    }
}

/// The comparison.
struct Compared {
    tells: Vec<What>,
    tolerance: Tolerance,
    lines: BTreeMap<Key, Line>,
}

impl Reconcile {
    /// Runs the command.
    pub fn execute(self, conf: &Path) -> Result<(), Failure> {
        let invoice = self.read()?;
        let days = invoice.sums.keys().map(|(day, _)| *day);
        let from = self.from.or_else(|| days.clone().min());
        let until = self.until.or_else(|| days.max()?.checked_add(1.day()).ok());
        let (Some(from), Some(until)) = (from, until) else {
            let told = format!(
                "{}: no line tells of any use; give --from and --until to see ours",
                self.file.display()
            );
            return Err(Failure::Given(told));
        };
        if from >= until {
            return Err(Failure::Given(format!("--from {from} is not before --until {until}")));
        }
        let report: Report = Client::new(conf, &self.reach)?.get(
            "/api/v1/usage/report",
            &[
                ("by", "day,upstream_model"),
                ("provider", &self.provider),
                ("from", &from.to_string()),
                ("until", &until.to_string()),
            ],
        )?;
        let compared = compare(invoice, &report, (from, until), self.tolerance, self.exact_models)?;
        if self.json {
            super::super::print_json(&compared.json(&self.provider, from, until))?;
        } else {
            super::super::print(&compared.text(self.all))?;
        }
        match compared.differing().next() {
            None => Ok(()),
            Some(_already_told) => Err(Failure::Given(String::new())),
        }
    }

    fn read(&self) -> Result<Invoice, Failure> {
        let name = self.file.display();
        let wrong = |error: std::io::Error| Failure::Given(format!("{name}: {error}"));
        let file = File::open(&self.file).map_err(wrong)?;
        if file.metadata().map_err(wrong)?.len() > MAX_FILE {
            return Err(Failure::Given(format!(
                "{name}: larger than {MAX_FILE} bytes; export a shorter time"
            )));
        }
        invoice::read(file.take(MAX_FILE), self.format).map_err(|failure| match failure {
            Failure::Given(told) => Failure::Given(format!("{name}, {told}")),
            other => other,
        })
    }
}

/// A model's name as it is compared: lower case, `-` for spaces and points, without the date of a snapshot.
fn comparable(model: &str) -> String {
    let name = model.trim().to_lowercase().replace([' ', '.', '_'], "-");
    let is_number = |text: &str, length: usize| text.len() == length && text.bytes().all(|b| b.is_ascii_digit());
    if let Some(short) = name.strip_suffix("-latest") {
        return short.to_owned();
    }
    let parts: Vec<&str> = name.split('-').collect();
    let date = match parts.as_slice() {
        [_, .., day] if is_number(day, 8) => 1,
        [_, .., year, month, day] if is_number(year, 4) && is_number(month, 2) && is_number(day, 2) => 3,
        _ => 0,
    };
    parts[..parts.len() - date].join("-")
}

fn compare(
    invoice: Invoice,
    report: &Report,
    (from, until): (Date, Date),
    tolerance: Tolerance,
    exact: bool,
) -> Result<Compared, Failure> {
    let mut lines: BTreeMap<Key, Line> = BTreeMap::new();
    let name = |model: &str| if exact { model.to_owned() } else { comparable(model) };
    for ((day, model), sums) in invoice.sums {
        if (from..until).contains(&day) {
            let line = lines.entry((day, name(&model))).or_default();
            line.theirs.get_or_insert_default().add(&sums);
            line.names[0].insert(model);
        }
    }
    for sums in &report.lines {
        let group = |word: &str| sums.group.get(word).map(String::as_str).unwrap_or_default();
        let (day, model) = (group("day"), group("upstream_model"));
        let day: Date = day
            .parse()
            .map_err(|_| anyhow::anyhow!("the gateway's report has a day that is none: {day}"))?;
        let usage = &sums.usage;
        let of = [
            usage.input_total.into(),
            usage.cache_read.into(),
            i128::from(usage.cache_write_5m) + i128::from(usage.cache_write_1h),
            usage.output_total.into(),
            sums.cost_nano_usd.into(),
        ];
        let line = lines.entry((day, name(model))).or_default();
        line.ours.get_or_insert_default().add(&Sums { of, rounding: 0 });
        line.unpriced += sums.unpriced;
        line.names[1].insert(model.to_owned());
    }
    Ok(Compared {
        tells: invoice.tells,
        tolerance,
        lines,
    })
}

/// One amount, on both sides. Money in dollars, as text.
#[derive(Serialize)]
struct Amount {
    theirs: Value,
    ours: Value,
    difference: Value,
    agrees: bool,
}

impl Compared {
    /// The days and models which differ in something.
    fn differing(&self) -> impl Iterator<Item = (&Key, &Line)> {
        let agrees = |line: &Line| self.tells.iter().all(|what| line.agrees(*what, self.tolerance));
        self.lines.iter().filter(move |(_, line)| !agrees(line))
    }

    fn total(&self) -> Line {
        let mut total = Line::default();
        self.lines.values().for_each(|line| total.add(line));
        total
    }

    fn json(&self, provider: &str, from: Date, until: Date) -> Value {
        let amounts = |line: &Line| {
            let amount = |what: &What| {
                let (theirs, ours) = line.amounts(*what);
                let told = |n: i128| match what {
                    What::Cost => json!(dollars(n)),
                    _ => json!(i64::try_from(n).unwrap_or(i64::MAX)),
                };
                let amount = Amount {
                    theirs: told(theirs),
                    ours: told(ours),
                    difference: told(theirs - ours),
                    agrees: line.agrees(*what, self.tolerance),
                };
                (what.as_str(), amount)
            };
            self.tells.iter().map(amount).collect::<BTreeMap<_, _>>()
        };
        let line = |((day, model), line): (&Key, &Line)| {
            json!({
                "day": day.to_string(),
                "model": model,
                "their_names": line.names[0],
                "our_names": line.names[1],
                "only": match line.side() { "both" => Value::Null, side => side.into() },
                "unpriced": line.unpriced,
                "amounts": amounts(line),
            })
        };
        json!({
            "provider": provider,
            "from": from.to_string(),
            "until": until.to_string(),
            "tolerance": NanoUsd(u64::try_from(self.tolerance.0).unwrap_or_default()).to_string(),
            "agrees": self.differing().next().is_none(),
            "lines": self.lines.iter().map(line).collect::<Vec<_>>(),
            "total": amounts(&self.total()),
        })
    }

    fn text(&self, all: bool) -> String {
        let mut table = Table::new().text("DAY").text("MODEL").text("WHAT");
        for title in ["THEIRS", "OURS", "DIFFERENCE", "SHARE"] {
            table = table.number(title);
        }
        table = table.text("");
        let mut rows = |day: &str, model: &str, line: &Line, shown: bool| {
            for &what in &self.tells {
                let agrees = line.agrees(what, self.tolerance);
                if agrees && !shown {
                    continue;
                }
                let (theirs, ours) = line.amounts(what);
                let told = |n: i128| match what {
                    What::Cost => dollars(n),
                    _ => signed(n),
                };
                let unpriced = if what == What::Cost && line.unpriced > 0 {
                    format!("{} of ours have no price", grouped(line.unpriced))
                } else {
                    String::new()
                };
                let note = match line.side() {
                    "theirs" => "only theirs",
                    "ours" => "only ours",
                    _ if agrees => "agrees",
                    _ => unpriced.as_str(),
                };
                let difference = theirs - ours;
                table.row([
                    day,
                    model,
                    what.as_str(),
                    &told(theirs),
                    &told(ours),
                    &told(difference),
                    &share(difference, theirs.abs().max(ours.abs())),
                    note,
                ]);
            }
        };
        let differing = self.differing().count();
        for ((day, model), line) in &self.lines {
            rows(&day.to_string(), model, line, all);
        }
        rows("total", "", &self.total(), true);
        let agreeing = grouped((self.lines.len() - differing) as u64);
        let of = grouped(self.lines.len() as u64);
        format!("{}\n{agreeing} of {of} days and models agree\n", table.render())
    }
}

fn signed(n: i128) -> String {
    let sign = if n < 0 { "-" } else { "" };
    format!("{sign}{}", grouped(u64::try_from(n.unsigned_abs()).unwrap_or(u64::MAX)))
}

fn dollars(nanos: i128) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    format!(
        "{sign}{}",
        NanoUsd(u64::try_from(nanos.unsigned_abs()).unwrap_or(u64::MAX))
    )
}

/// `-1.25%`, cut.
fn share(difference: i128, of: i128) -> String {
    if of == 0 {
        return "-".into();
    }
    let hundredths = difference.saturating_mul(10_000) / of;
    let sign = if hundredths < 0 { "-" } else { "" };
    let hundredths = hundredths.unsigned_abs();
    format!("{sign}{}.{:02}%", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_model_are_one() {
        for (name, expected) in [
            ("Claude Haiku 4.5", "claude-haiku-4-5"),
            ("claude-haiku-4-5-20251001", "claude-haiku-4-5"),
            ("Claude 3.5 Sonnet 2024-10-22", "claude-3-5-sonnet"),
            ("claude-3-5-sonnet-latest", "claude-3-5-sonnet"),
            ("gpt-4o-2024-08-06", "gpt-4o"),
            ("gpt-4o", "gpt-4o"),
            ("gpt-4-0613", "gpt-4-0613"),
            ("20251001", "20251001"),
            ("", ""),
        ] {
            assert_eq!(comparable(name), expected, "{name}");
        }
    }

    #[test]
    fn a_tolerance_is_a_share_of_the_larger_side() {
        let one = "0.01".parse::<Tolerance>().expect("a share");
        assert!(one.lets_pass(100, 99, 0) && one.lets_pass(99, 100, 0));
        assert!(!one.lets_pass(100, 98, 0) && one.lets_pass(100, 98, 1));
        let none = "0".parse::<Tolerance>().expect("a share");
        assert!(none.lets_pass(5, 5, 0) && !none.lets_pass(5, 6, 0));
        for bad in ["1.1", "-0.1", "1%", ""] {
            assert!(bad.parse::<Tolerance>().is_err(), "{bad}");
        }
        assert_eq!(share(-1, 80), "-1.25%");
        assert_eq!(share(0, 0), "-");
    }
}
