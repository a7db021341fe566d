//! A provider's export beside the ledger's rows: by day (UTC) and model, what agrees, what differs, and what may be why.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use serde::Serialize;
use serde_json::{Value, json};

use super::invoice::{Invoice, Sums, What};
use super::reconcile::{Ours, Slack};
use crate::admin::row::UsageView;
use crate::cli::Failure;
use crate::cli::table::{Table, grouped};
use crate::money::NanoUsd;

/// Day and model, as they are compared.
type Key = (Date, String);

/// One day and model.
#[derive(Debug, Default)]
struct Line {
    /// The names it goes by: theirs, then ours.
    names: [BTreeSet<String>; 2],
    theirs: Option<Sums>,
    ours: Option<Sums>,
    /// What of ours is estimated.
    estimated: Sums,
    /// Attempts of ours whose tokens are estimated.
    estimates: u64,
    /// Attempts of ours without a price.
    unpriced: u64,
    /// Single rows of ours are removed: it is too little.
    removed: bool,
}

/// How an amount stands, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Agrees,
    /// It differs by no more than what of ours is estimated.
    Estimated,
    Differs,
}

impl Line {
    fn amounts(&self, what: What) -> (i128, i128) {
        let of = |sums: &Option<Sums>| sums.map_or(0, |sums| sums.of[what as usize]);
        (of(&self.theirs), of(&self.ours))
    }

    fn verdict(&self, what: What, slack: Slack) -> Verdict {
        let (theirs, ours) = self.amounts(what);
        let rounding = match what {
            What::Cost => slack.rounding(self.theirs.map_or(0, |sums| sums.amounts)),
            _ => 0,
        };
        let tolerance = slack.tolerance;
        let estimated = self.estimated.of[what as usize];
        if tolerance.lets_pass(theirs, ours, rounding) {
            Verdict::Agrees
        } else if estimated > 0 && tolerance.lets_pass(theirs, ours, rounding.saturating_add(estimated)) {
            Verdict::Estimated
        } else {
            Verdict::Differs
        }
    }

    fn side(&self) -> &'static str {
        match (&self.theirs, &self.ours) {
            (Some(_), None) => "theirs",
            (None, _) => "ours",
            _ => "both",
        }
    }

    /// What is to be said of an amount, for people.
    fn note(&self, what: What, verdict: Verdict) -> String {
        match (self.side(), verdict) {
            _ if self.removed => "rows removed".into(),
            ("theirs", _) => "only theirs".into(),
            ("ours", _) => "only ours".into(),
            (_, Verdict::Agrees) => "agrees".into(),
            (_, Verdict::Estimated) => "within estimates".into(),
            (_, Verdict::Differs) if what == What::Cost && self.unpriced > 0 => {
                format!("{} of ours have no price", grouped(self.unpriced))
            }
            (_, Verdict::Differs) => String::new(),
        }
    }

    fn add(&mut self, other: &Line) {
        for (to, sums) in [(&mut self.theirs, &other.theirs), (&mut self.ours, &other.ours)] {
            if let Some(sums) = sums {
                to.get_or_insert_default().add(sums);
            }
        }
        self.estimated.add(&other.estimated);
        self.estimates += other.estimates;
        self.unpriced += other.unpriced;
        self.removed |= other.removed;
    }
}

/// The comparison.
pub(super) struct Compared {
    tells: Vec<What>,
    slack: Slack,
    lines: BTreeMap<Key, Line>,
    /// Attempts whose single rows are removed, by day.
    removed: BTreeMap<Date, u64>,
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

/// `exact`: names of models are compared as they are written.
pub(super) fn compare(
    invoice: Invoice,
    ours: Ours,
    (from, until): (Date, Date),
    slack: Slack,
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
    let mut kept: BTreeMap<Date, u64> = BTreeMap::new();
    for sums in &ours.rows.lines {
        let day = day_of(&sums.group)?;
        let model = sums.group.get("upstream_model").map(String::as_str).unwrap_or_default();
        *kept.entry(day).or_default() += sums.attempts;
        let line = lines.entry((day, name(model))).or_default();
        let of = amounts_of(&sums.usage, sums.cost_nano_usd);
        line.ours.get_or_insert_default().add(&Sums { of, amounts: 0 });
        line.estimates += sums.estimated;
        line.unpriced += sums.unpriced;
        line.names[1].insert(model.to_owned());
    }
    for ((day, model), sums) in &ours.estimated {
        if let Some(line) = lines.get_mut(&(*day, name(model))) {
            line.estimated.add(sums);
        }
    }
    let mut removed = BTreeMap::new();
    for sums in &ours.days.lines {
        let day = day_of(&sums.group)?;
        let kept = kept.get(&day).copied().unwrap_or_default();
        if sums.attempts > kept {
            removed.insert(day, sums.attempts - kept);
        }
    }
    for ((day, _), line) in &mut lines {
        line.removed = removed.contains_key(day);
    }
    Ok(Compared {
        tells: invoice.tells,
        slack,
        lines,
        removed,
    })
}

fn day_of(group: &BTreeMap<String, String>) -> Result<Date, Failure> {
    let day = group.get("day").map(String::as_str).unwrap_or_default();
    let wrong = |_| anyhow::anyhow!("the gateway's report has a day that is none: {day}");
    Ok(day.parse().map_err(wrong)?)
}

/// One amount, on both sides. Money in dollars, as text.
#[derive(Serialize)]
struct Amount {
    theirs: Value,
    ours: Value,
    /// What of ours is estimated.
    estimated: Value,
    difference: Value,
    agrees: bool,
    /// It differs by no more than what of ours is estimated.
    within_estimates: bool,
}

impl Compared {
    /// The days and models whose worst amount stands so.
    fn lines_with(&self, wanted: Verdict) -> usize {
        let worst = |line: &&Line| {
            let verdicts = self.tells.iter().map(|what| line.verdict(*what, self.slack));
            verdicts.max().unwrap_or(Verdict::Agrees) == wanted
        };
        self.lines.values().filter(worst).count()
    }

    /// Whether nothing differs, not within estimates either.
    pub(super) fn agrees(&self) -> bool {
        self.lines_with(Verdict::Agrees) == self.lines.len()
    }

    fn total(&self) -> Line {
        let mut total = Line::default();
        self.lines.values().for_each(|line| total.add(line));
        total.removed |= !self.removed.is_empty();
        total
    }

    pub(super) fn json(&self, provider: &str, from: Date, until: Date) -> Value {
        let amounts = |line: &Line| {
            let amount = |what: &What| {
                let (theirs, ours) = line.amounts(*what);
                let told = |n: i128| match what {
                    What::Cost => json!(dollars(n)),
                    _ => json!(i64::try_from(n).unwrap_or(i64::MAX)),
                };
                let verdict = line.verdict(*what, self.slack);
                let amount = Amount {
                    theirs: told(theirs),
                    ours: told(ours),
                    estimated: told(line.estimated.of[*what as usize]),
                    difference: told(theirs - ours),
                    agrees: verdict == Verdict::Agrees,
                    within_estimates: verdict == Verdict::Estimated,
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
                "estimated": line.estimates,
                "rows_removed": line.removed,
                "amounts": amounts(line),
            })
        };
        let removed = |(day, attempts): (&Date, &u64)| json!({ "day": day.to_string(), "attempts": attempts });
        json!({
            "provider": provider,
            "from": from.to_string(),
            "until": until.to_string(),
            "tolerance": self.slack.tolerance.to_string(),
            "last_digit_usd": dollars(self.slack.unit),
            "agrees": self.agrees(),
            "within_estimates": self.lines_with(Verdict::Estimated),
            "removed_rows": self.removed.iter().map(removed).collect::<Vec<_>>(),
            "lines": self.lines.iter().map(line).collect::<Vec<_>>(),
            "total": amounts(&self.total()),
        })
    }

    pub(super) fn text(&self, all: bool) -> String {
        let mut table = Table::new().text("DAY").text("MODEL").text("WHAT");
        for title in ["THEIRS", "OURS", "ESTIMATED", "DIFFERENCE", "SHARE"] {
            table = table.number(title);
        }
        table = table.text("");
        let mut rows = |day: &str, model: &str, line: &Line, shown: bool| {
            for &what in &self.tells {
                let verdict = line.verdict(what, self.slack);
                if verdict == Verdict::Agrees && !shown {
                    continue;
                }
                let (theirs, ours) = line.amounts(what);
                let told = |n: i128| match what {
                    What::Cost => dollars(n),
                    _ => signed(n, grouped),
                };
                let difference = theirs - ours;
                table.row([
                    day,
                    model,
                    what.as_str(),
                    &told(theirs),
                    &told(ours),
                    &told(line.estimated.of[what as usize]),
                    &told(difference),
                    &share(difference, theirs.abs().max(ours.abs())),
                    &line.note(what, verdict),
                ]);
            }
        };
        for ((day, model), line) in &self.lines {
            rows(&day.to_string(), model, line, all);
        }
        rows("total", "", &self.total(), true);
        let count = |n: usize| grouped(n as u64);
        let agreeing = count(self.lines_with(Verdict::Agrees));
        let mut text = format!(
            "{}\n{agreeing} of {} days and models agree\n",
            table.render(),
            count(self.lines.len())
        );
        let estimated = self.lines_with(Verdict::Estimated);
        if estimated > 0 {
            let told = format!(
                "{} differ by no more than what of ours is estimated\n",
                count(estimated)
            );
            text.push_str(&told);
        }
        if let (Some((first, _)), Some((last, _))) = (self.removed.first_key_value(), self.removed.last_key_value()) {
            let attempts: u64 = self.removed.values().sum();
            let told = format!(
                "ours is too little from {first} to {last}: the single rows of {} attempts there are removed (ledger.keep_rows)\n",
                grouped(attempts)
            );
            text.push_str(&told);
        }
        text
    }
}

/// The amounts of [`What::ALL`].
pub(super) fn amounts_of(usage: &UsageView, cost: u64) -> [i128; 5] {
    [
        usage.input_total.into(),
        usage.cache_read.into(),
        i128::from(usage.cache_write_5m) + i128::from(usage.cache_write_1h),
        usage.output_total.into(),
        cost.into(),
    ]
}

/// A number's sign, and `told` of what is behind it.
fn signed(n: i128, told: impl Fn(u64) -> String) -> String {
    let sign = if n < 0 { "-" } else { "" };
    let behind = u64::try_from(n.unsigned_abs()).unwrap_or(u64::MAX);
    format!("{sign}{}", told(behind))
}

fn dollars(nanos: i128) -> String {
    signed(nanos, |nanos| NanoUsd(nanos).to_string())
}

/// `-1.25%`, cut.
fn share(difference: i128, of: i128) -> String {
    if of == 0 {
        return "-".into();
    }
    let hundredths = difference.saturating_mul(10_000) / of;
    signed(hundredths, |of_one| format!("{}.{:02}%", of_one / 100, of_one % 100))
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
    fn a_share_is_cut() {
        assert_eq!(share(-1, 80), "-1.25%");
        assert_eq!(share(0, 0), "-");
    }

    #[test]
    fn less_than_nothing_has_a_sign() {
        assert_eq!(signed(-1_234, grouped), "-1,234");
        assert_eq!(signed(1_234, grouped), "1,234");
        assert_eq!(dollars(-1_500_000_000), "-1.5");
        assert_eq!(dollars(0), "0");
    }
}
