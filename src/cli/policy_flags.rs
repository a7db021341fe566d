//! What a key or a group may do, as flags: the same for `keys create`, `keys update`, `keys import` and `groups`.

use std::str::FromStr;
use std::time::Duration;

use super::Failure;
use super::table::Table;
use crate::admin::policy::{BudgetView, PolicyView, PolicyWanted, Set, WindowWord};
use crate::clock::{Clock, UnixMicros};
use crate::config::duration;
use crate::money::NanoUsd;
use crate::observe::rfc3339;

/// What a key or a group may do.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct PolicyFlags {
    /// Models that may be asked for: names and globs, with commas between them.
    #[arg(long, value_name = "NAMES", allow_hyphen_values = true)]
    pub models: Option<Names>,
    /// Routes that may be taken.
    #[arg(long, value_name = "NAMES")]
    pub routes: Option<Names>,
    /// Providers that may serve it.
    #[arg(long, value_name = "NAMES")]
    pub providers: Option<Names>,
    /// Networks it may be used from: `10.0.0.0/8,2001:db8::/32`.
    #[arg(long, value_name = "NETWORKS")]
    pub networks: Option<Names>,
    /// Requests in any 60 seconds; 0 is none.
    #[arg(long, value_name = "COUNT")]
    pub rpm: Option<u64>,
    /// Tokens in any 60 seconds.
    #[arg(long, value_name = "COUNT")]
    pub tpm: Option<u64>,
    /// Requests under way at once.
    #[arg(long, value_name = "COUNT")]
    pub concurrent: Option<u32>,
    /// What may be used in a day, a week, a month or in total: `month:money=100`, `day:requests=1000,tokens=2000000`. Money is in
    /// dollars. May be given once for each window; all budgets are replaced.
    #[arg(long = "budget", value_name = "WINDOW:WHAT=HOW_MUCH")]
    pub budgets: Vec<BudgetFlag>,
    /// Whose days, weeks and months count: `Europe/Berlin`.
    #[arg(long, value_name = "NAME")]
    pub time_zone: Option<String>,
    /// Factor on costs: 1.25 charges a quarter more.
    #[arg(long, value_name = "FACTOR")]
    pub markup: Option<String>,
}

/// What a flag can clear.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of the flags they clear")]
pub enum Clear {
    Owner,
    Tags,
    Group,
    Expires,
    Description,
    Models,
    Routes,
    Providers,
    Networks,
    Rpm,
    Tpm,
    Concurrent,
    Budgets,
    TimeZone,
    Markup,
}

impl PolicyFlags {
    /// The policy they ask for; `None`: they ask for nothing.
    pub fn wanted(&self, clear: &[Clear], disabled: Option<bool>) -> Option<PolicyWanted> {
        let names = |what, names: &Option<Names>| set(clear, what, names.as_ref().map(|Names(names)| names.clone()));
        let budgets = (!self.budgets.is_empty()).then(|| self.budgets.iter().map(|flag| flag.0.clone()).collect());
        let wanted = PolicyWanted {
            disabled: disabled.map_or(Set::Leave, Set::To),
            models: names(Clear::Models, &self.models),
            routes: names(Clear::Routes, &self.routes),
            providers: names(Clear::Providers, &self.providers),
            networks: names(Clear::Networks, &self.networks),
            requests_per_minute: set(clear, Clear::Rpm, self.rpm),
            tokens_per_minute: set(clear, Clear::Tpm, self.tpm),
            concurrent: set(clear, Clear::Concurrent, self.concurrent),
            budgets: set(clear, Clear::Budgets, budgets),
            time_zone: set(clear, Clear::TimeZone, self.time_zone.clone()),
            markup: set(clear, Clear::Markup, self.markup.clone()),
        };
        // What has no field that is said is written as `{}`.
        let nothing =
            serde_json::to_value(&wanted).is_ok_and(|value| value.as_object().is_some_and(|all| all.is_empty()));
        (!nothing).then_some(wanted)
    }
}

/// A field of a change: given, cleared, or left as it is.
pub fn set<T>(clear: &[Clear], what: Clear, given: Option<T>) -> Set<T> {
    match given {
        Some(value) => Set::To(value),
        None if clear.contains(&what) => Set::Clear,
        None => Set::Leave,
    }
}

/// Names with commas between them. A comma within braces belongs to a glob: `{a,b}-x`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names(pub Vec<String>);

impl FromStr for Names {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut depth = 0usize;
        let names = text.split(|letter: char| {
            match letter {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            letter == ',' && depth == 0
        });
        let names: Vec<String> = names.map(|name| name.trim().to_owned()).collect();
        match names.iter().any(String::is_empty) {
            true => Err("a name is empty; to allow all, leave the flag away or give --clear".into()),
            false => Ok(Names(names)),
        }
    }
}

/// `month:money=100`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetFlag(pub BudgetView);

impl FromStr for BudgetFlag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let told = || "write a budget as month:money=100 or day:requests=1000,tokens=2000000".to_owned();
        let (window, amounts) = text.split_once(':').ok_or_else(told)?;
        let mut budget = BudgetView {
            window: match window.trim() {
                "day" => WindowWord::Day,
                "week" => WindowWord::Week,
                "month" => WindowWord::Month,
                "total" => WindowWord::Total,
                _ => return Err("a budget is for a day, a week, a month or total".into()),
            },
            requests: None,
            tokens: None,
            money: None,
        };
        for amount in amounts.split(',') {
            let (what, much) = amount.split_once('=').ok_or_else(told)?;
            let much = much.trim();
            let count = || much.parse::<u64>().map_err(|_| format!("{much} is not a whole number"));
            match what.trim() {
                "requests" if budget.requests.is_none() => budget.requests = Some(count()?),
                "tokens" if budget.tokens.is_none() => budget.tokens = Some(count()?),
                "money" if budget.money.is_none() => {
                    much.parse::<NanoUsd>().map_err(|error| error.to_string())?;
                    budget.money = Some(much.to_owned());
                }
                "requests" | "tokens" | "money" => return Err(format!("{what} is given twice")),
                _ => return Err("a budget is of requests, tokens or money".into()),
            }
        }
        Ok(BudgetFlag(budget))
    }
}

/// When something ends: RFC 3339, or so long from now (`30d`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expires(pub String);

impl FromStr for Expires {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let now = Clock::system().now();
        if let Ok(end) = text.parse::<jiff::Timestamp>() {
            return match end.as_microsecond() > now.0 {
                true => Ok(Expires(text.to_owned())),
                false => Err("that is past; to end what is in use say revoke or disable".to_owned()),
            };
        }
        let told = |_| "write 30d for so long from now, or a time as 2030-01-31T12:00:00Z".to_owned();
        let time: Duration = duration::parse(text).map_err(told)?;
        let end = now
            .0
            .saturating_add(i64::try_from(time.as_micros()).unwrap_or(i64::MAX));
        Ok(Expires(rfc3339(UnixMicros(end)).to_string()))
    }
}

/// Prints what a policy limits, after an empty line; nothing if that is nothing.
pub fn print_policy(policy: &PolicyView) -> Result<(), Failure> {
    let lines = lines(policy);
    if lines.is_empty() {
        return Ok(());
    }
    let mut table = Table::new().text("MAY").text("");
    for (name, value) in &lines {
        table.row([*name, value.as_str()]);
    }
    super::print(&format!("\n{}", table.render()))
}

/// What a policy limits, one line for each thing, for people.
fn lines(policy: &PolicyView) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if policy.disabled {
        lines.push(("disabled", "yes".to_owned()));
    }
    for (name, list) in [
        ("models", &policy.models),
        ("routes", &policy.routes),
        ("providers", &policy.providers),
        ("networks", &policy.networks),
    ] {
        if !list.is_empty() {
            lines.push((name, list.join(", ")));
        }
    }
    let numbers = [
        ("requests a minute", policy.requests_per_minute),
        ("tokens a minute", policy.tokens_per_minute),
        ("at once", policy.concurrent.map(u64::from)),
    ];
    lines.extend(
        numbers
            .into_iter()
            .filter_map(|(name, number)| Some((name, number?.to_string()))),
    );
    for budget in &policy.budgets {
        let name = match budget.window {
            WindowWord::Day => "a day",
            WindowWord::Week => "a week",
            WindowWord::Month => "a month",
            WindowWord::Total => "in total",
        };
        let amounts = [
            budget.requests.map(|count| format!("{count} requests")),
            budget.tokens.map(|count| format!("{count} tokens")),
            budget.money.as_ref().map(|money| format!("{money} dollars")),
        ];
        lines.push((name, amounts.into_iter().flatten().collect::<Vec<_>>().join(", ")));
    }
    lines.extend(policy.time_zone.iter().map(|zone| ("time zone", zone.clone())));
    lines.extend(policy.markup.iter().map(|markup| ("markup", markup.clone())));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read() {
        let names = |text: &str| text.parse::<Names>().map(|Names(names)| names);
        assert_eq!(names("a, b,{c,d}-x").unwrap(), ["a", "b", "{c,d}-x"]);
        assert!(names("a,,b").is_err() && names("").is_err());
        let budget: BudgetFlag = "month:money=0.50,tokens=7".parse().unwrap();
        assert_eq!(
            (
                budget.0.window,
                budget.0.money.as_deref(),
                budget.0.tokens,
                budget.0.requests
            ),
            (WindowWord::Month, Some("0.50"), Some(7), None)
        );
        for bad in [
            "month",
            "month:",
            "month:money",
            "month:money=-1",
            "month:money=1,money=2",
            "year:money=1",
        ] {
            assert!(bad.parse::<BudgetFlag>().is_err(), "{bad}");
        }
        assert!("30d".parse::<Expires>().unwrap().0.ends_with('Z'));
        assert!("soon".parse::<Expires>().is_err());
    }

    #[test]
    fn what_is_not_said_is_left() {
        assert!(PolicyFlags::default().wanted(&[], None).is_none());
        let flags = PolicyFlags {
            rpm: Some(0),
            ..PolicyFlags::default()
        };
        let wanted = flags.wanted(&[Clear::Models], Some(true)).unwrap();
        assert_eq!(
            serde_json::to_string(&wanted).unwrap(),
            r#"{"disabled":true,"models":null,"requests_per_minute":0}"#
        );
    }
}
