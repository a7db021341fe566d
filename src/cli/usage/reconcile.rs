//! `tollgate usage reconcile`: a provider's export against the ledger, by day (UTC) and model.
//!
//! Which model the provider was asked for is in single rows only, so it reaches back as far as they are kept. Where they are removed is
//! seen by the sums by day, which are kept for good: they tell of more attempts than the rows.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::compared::{amounts_of, compare};
use super::invoice::{self, Format, Invoice, MAX_FILE, Sums};
use crate::admin::row::RowView;
use crate::admin::usage::Report;
use crate::cli::client::{Client, Reach};
use crate::cli::{self, Failure};
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
    /// How far tokens and money may differ: 0.01 is one in a hundred. Money may differ besides by what the rounding of the
    /// invoice's last digit explains, as its finest amount is written and no more than cents: half of one in that digit for a
    /// single amount, one for a sum of several, be it a day and model or the total.
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
pub(super) struct Tolerance(i128);

/// One whole.
const WHOLE: i128 = 1_000_000_000;

impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        NanoUsd(u64::try_from(self.0).unwrap_or_default()).fmt(f)
    }
}

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
    pub(super) fn lets_pass(self, theirs: i128, ours: i128, rounding: i128) -> bool {
        let most = theirs.abs().max(ours.abs()).saturating_mul(self.0) / WHOLE;
        (theirs - ours).abs() <= most.saturating_add(rounding)
    }
}

/// How far an amount may differ, in all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slack {
    pub(super) tolerance: Tolerance,
    /// One in the last digit of the invoice's amounts, in nano-dollars.
    pub(super) unit: i128,
}

impl Slack {
    /// What rounding may explain of a sum of so many amounts, in nano-dollars. Errors of many cancel each other out: that each of
    /// them was wrong by half in the same direction explains nothing.
    pub(super) fn rounding(self, amounts: u64) -> i128 {
        match amounts {
            0 => 0,
            1 => self.unit / 2,
            _ => self.unit,
        }
    }
}

/// What the ledger tells of the same days.
pub(super) struct Ours {
    /// Sums by day, which are kept for good.
    pub(super) days: Report,
    /// Sums of single rows by day and model the provider was asked for.
    pub(super) rows: Report,
    /// What of these is estimated.
    pub(super) estimated: BTreeMap<(Date, String), Sums>,
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
        let client = Client::new(conf, &self.reach)?;
        let ours = self.ours(&client, from, until)?;
        if ours.days.total.attempts == 0
            && let Some(told) = super::unknown_provider(&client, &self.provider)?
        {
            return Err(Failure::Given(told));
        }
        let slack = Slack {
            tolerance: self.tolerance,
            unit: invoice.unit,
        };
        let compared = compare(invoice, ours, (from, until), slack, self.exact_models)?;
        if self.json {
            cli::print_json(&compared.json(&self.provider, from, until))?;
        } else {
            cli::print(&compared.text(self.all))?;
        }
        match compared.agrees() {
            true => Ok(()),
            // It was told.
            false => Err(Failure::Given(String::new())),
        }
    }

    fn ours(&self, client: &Client, from: Date, until: Date) -> Result<Ours, Failure> {
        let (from, until) = (from.to_string(), until.to_string());
        let which = [("provider", self.provider.as_str()), ("from", &from), ("until", &until)];
        let report = |by: &str| {
            let query: Vec<_> = which.into_iter().chain([("by", by)]).collect();
            client.get::<Report>("/api/v1/usage/report", &query)
        };
        // In this order: rows that come in meanwhile can't look like rows that are removed.
        let days = report("day")?;
        let rows = report("day,upstream_model")?;
        let mut estimated = BTreeMap::new();
        if rows.total.estimated > 0 {
            let query: Vec<_> = which.into_iter().chain([("estimated", "true")]).collect();
            let text = BufReader::new(client.stream("/api/v1/usage/export", &query)?);
            for row in serde_json::Deserializer::from_reader(text).into_iter::<RowView>() {
                let row = row.context("the gateway's export of estimated rows is not complete")?;
                add_estimate(&mut estimated, &row)?;
            }
        }
        Ok(Ours { days, rows, estimated })
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

/// At most as many sums as the report has lines.
fn add_estimate(to: &mut BTreeMap<(Date, String), Sums>, row: &RowView) -> Result<(), Failure> {
    let at: Timestamp = row.at.parse().context("a row's time can't be read")?;
    let day = at.to_zoned(TimeZone::UTC).date();
    let of = amounts_of(&row.usage.unwrap_or_default(), row.cost_nano_usd.unwrap_or_default());
    let sums = to.entry((day, row.upstream_model.to_string())).or_default();
    sums.add(&Sums { of, amounts: 0 });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_explains_no_more_than_the_last_digit() {
        let slack = Slack {
            tolerance: Tolerance(0),
            unit: 10,
        };
        assert_eq!([0, 1, 2, 1000].map(|amounts| slack.rounding(amounts)), [0, 5, 10, 10]);
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
    }
}
