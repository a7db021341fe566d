//! `tollgate usage`: what was used, through the admin API of the running gateway.

mod compared;
mod export;
mod invoice;
mod lines;
mod reconcile;

use std::path::{Path, PathBuf};

use super::Failure;
use super::client::{Client, Reach};
use super::table::{Table, grouped};
use crate::admin::providers::ProviderList;
use crate::admin::row::is_formula;
use crate::admin::usage::{Report, Sums};
use crate::observe::redact::printable;

/// Sums and rows.
#[derive(clap::Subcommand, Debug)]
pub enum Usage {
    /// Sums of requests, tokens and money.
    Report {
        /// What they are grouped by, comma-separated, in this order.
        #[arg(long, value_delimiter = ',', default_value = "key,model", value_name = "LIST")]
        by: Vec<Group>,
        /// Whose days, weeks and months count, also in --from and --until: Europe/Berlin. Hours stay those of UTC. Where days begin
        /// within an hour of UTC (Asia/Kolkata) it reaches back as far as single rows are kept.
        #[arg(long, default_value = "UTC", value_name = "NAME")]
        time_zone: String,
        /// In which order lines come: by group, or the largest first.
        #[arg(long, value_enum, default_value_t = Sort::Group)]
        sort: Sort,
        /// Most lines shown; the total is of all.
        #[arg(long, value_name = "N")]
        limit: Option<u32>,
        /// Which rows.
        #[command(flatten)]
        which: Which,
        /// Prints JSON, for programs.
        #[arg(long)]
        json: bool,
        /// Prints CSV, for spreadsheets; without the total.
        #[arg(long, conflicts_with = "json")]
        csv: bool,
        /// How to reach the admin API.
        #[command(flatten)]
        reach: Reach,
    },
    /// All rows, one upstream attempt a line.
    Export {
        /// How they are written.
        #[arg(long, value_enum, default_value_t = Format::Jsonl)]
        format: Format,
        /// The file; without it standard output. It is there only when it is complete.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Which rows.
        #[command(flatten)]
        which: Which,
        /// JSON lines: the same as `--format jsonl`.
        #[arg(long, conflicts_with = "format")]
        json: bool,
        /// How to reach the admin API.
        #[command(flatten)]
        reach: Reach,
    },
    /// Compares a provider's usage or cost export with the ledger. Exit code 1: they differ.
    ///
    /// It reads single rows: sums do not tell which model the provider was asked for. They are kept for `ledger.keep_rows` (90 days unless
    /// set); of older days ours is too little, and the output says so. What of ours is estimated (the provider told no usage) stands in a
    /// column of its own; a difference that is no larger is `within estimates`.
    Reconcile(reconcile::Reconcile),
}

/// What sums are grouped by.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Client key.
    Key,
    /// The key's group at that time.
    Group,
    /// Model the client asked for.
    Model,
    /// Provider.
    Provider,
    /// Provider's credential.
    Credential,
    /// Hour, UTC.
    Hour,
    /// Day, of --time-zone.
    Day,
    /// Week from Monday, of --time-zone.
    Week,
    /// Month, of --time-zone.
    Month,
    /// Route; as far back as single rows are kept.
    Route,
    /// Model the provider was asked for; as far back as single rows are kept.
    #[value(name = "upstream_model", alias = "upstream-model")]
    UpstreamModel,
}

impl Group {
    const fn as_str(self) -> &'static str {
        match self {
            Group::Key => "key",
            Group::Group => "group",
            Group::Model => "model",
            Group::Provider => "provider",
            Group::Credential => "credential",
            Group::Hour => "hour",
            Group::Day => "day",
            Group::Week => "week",
            Group::Month => "month",
            Group::Route => "route",
            Group::UpstreamModel => "upstream_model",
        }
    }
}

/// The order of a report's lines.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// By what they have in common.
    Group,
    /// The largest charge first.
    Charge,
    /// The largest cost first.
    Cost,
    /// The most requests first.
    Requests,
}

impl Sort {
    const fn as_str(self) -> &'static str {
        match self {
            Sort::Group => "group",
            Sort::Charge => "charge",
            Sort::Cost => "cost",
            Sort::Requests => "requests",
        }
    }
}

/// How rows are written.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON, one object a line.
    Jsonl,
    /// CSV with a header.
    Csv,
}

/// Which rows: every condition that is given must hold.
#[derive(clap::Args, Debug, Default)]
pub struct Which {
    /// Began at or after: RFC 3339, a day (2026-01-31; of UTC, or of a report's --time-zone), or so long ago (24h, 7d).
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Began before; written as --from.
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Client key id.
    #[arg(long, value_name = "ID")]
    pub key: Option<String>,
    /// The key's group at that time.
    #[arg(long)]
    pub group: Option<String>,
    /// Model the client asked for.
    #[arg(long)]
    pub model: Option<String>,
    /// Provider.
    #[arg(long)]
    pub provider: Option<String>,
    /// Provider's credential.
    #[arg(long)]
    pub credential: Option<String>,
}

impl Which {
    fn query(&self) -> Vec<(&'static str, &str)> {
        let conditions = [
            ("from", &self.from),
            ("until", &self.until),
            ("key", &self.key),
            ("group", &self.group),
            ("model", &self.model),
            ("provider", &self.provider),
            ("credential", &self.credential),
        ];
        conditions
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_deref()?)))
            .collect()
    }
}

impl Usage {
    /// Runs the command.
    pub fn execute(self, conf: &Path) -> Result<(), Failure> {
        match self {
            Usage::Report {
                by,
                time_zone,
                sort,
                limit,
                which,
                json,
                csv,
                reach,
            } => {
                let by = by.into_iter().map(Group::as_str).collect::<Vec<_>>().join(",");
                let mut query = which.query();
                query.extend([("by", &*by), ("time_zone", &*time_zone), ("sort", sort.as_str())]);
                let limit = limit.map(|limit| limit.to_string());
                query.extend(limit.as_deref().map(|limit| ("limit", limit)));
                let client = Client::new(conf, &reach)?;
                let report: Report = client.get("/api/v1/usage/report", &query)?;
                // It may have been called so once: only where there is nothing of it.
                if report.total.attempts == 0
                    && let Some(provider) = &which.provider
                    && let Some(told) = unknown_provider(&client, provider)?
                {
                    eprintln!("{told}");
                }
                if json {
                    super::print_json(&report)
                } else if csv {
                    super::print(&csv_of(&report)?)
                } else {
                    super::print(&table(&report))?;
                    if report.more > 0 {
                        eprintln!(
                            "{} more lines; --limit shows as many as you say",
                            grouped(report.more as u64)
                        );
                    }
                    Ok(())
                }
            }
            Usage::Reconcile(reconcile) => reconcile.execute(conf),
            Usage::Export {
                format,
                out,
                which,
                json: _,
                reach,
            } => {
                let mut query = which.query();
                query.push(("format", if format == Format::Csv { "csv" } else { "jsonl" }));
                let rows = Client::new(conf, &reach)?.stream("/api/v1/usage/export", &query)?;
                match out {
                    Some(file) => export::to_file(rows, &file),
                    None => export::to_stdout(rows),
                }
            }
        }
    }
}

/// What is to be said of a provider that is not in the rules; `None`: it is.
fn unknown_provider(client: &Client, name: &str) -> Result<Option<String>, Failure> {
    /// Most providers that are told.
    const TOLD: usize = 40;
    let known: ProviderList = client.get("/api/v1/providers", &[])?;
    if known.providers.iter().any(|provider| provider.name == name) {
        return Ok(None);
    }
    let names = known.providers.iter().map(|provider| provider.name.as_str());
    let name = printable(name, 200);
    Ok(Some(format!(
        "--provider {name}: the rules have no such provider, and nothing is in the ledger of it; there are: {}",
        super::first_of(names, TOLD)
    )))
}

fn table(report: &Report) -> String {
    let mut table = Table::new();
    for word in &report.by {
        table = table.text(word.to_uppercase());
    }
    for title in [
        "REQUESTS",
        "ATTEMPTS",
        "ERRORS",
        "NO USAGE",
        "ESTIMATED",
        "CACHE READ",
        "CACHE WRITE",
        "ALL INPUT",
        "REASONING",
        "ALL OUTPUT",
        "UNPRICED",
        "COST $",
        "CHARGE $",
    ] {
        table = table.number(title);
    }
    let numbers = |sums: &Sums| {
        let usage = &sums.usage;
        let counts = [
            sums.requests,
            sums.attempts,
            sums.errors,
            sums.without_usage,
            sums.estimated,
            usage.cache_read,
            usage.cache_write_5m + usage.cache_write_1h,
            usage.input_total,
            usage.reasoning,
            usage.output_total,
            sums.unpriced,
        ];
        let money = [sums.cost_usd.clone(), sums.charge_usd.clone()];
        counts.map(grouped).into_iter().chain(money)
    };
    for sums in report.lines.iter().filter(|_| !report.by.is_empty()) {
        let group = report
            .by
            .iter()
            .map(|word| sums.group.get(word).cloned().unwrap_or_default());
        table.row(group.chain(numbers(sums)));
    }
    if !report.by.is_empty() {
        table.rule();
    }
    let total = report
        .by
        .iter()
        .enumerate()
        .map(|(at, _)| if at == 0 { "total".to_owned() } else { String::new() });
    table.row(total.chain(numbers(&report.total)));
    table.render()
}

/// The lines as CSV (RFC 4180). Text which a spreadsheet would take for a formula gets an apostrophe in front.
fn csv_of(report: &Report) -> Result<String, Failure> {
    const COLUMNS: [&str; 21] = [
        "requests",
        "attempts",
        "complete",
        "errors",
        "without_usage",
        "estimated",
        "unpriced",
        "input",
        "cache_read",
        "cache_write_5m",
        "cache_write_1h",
        "input_audio",
        "output",
        "reasoning",
        "output_audio",
        "input_total",
        "output_total",
        "cost_usd",
        "cost_nano_usd",
        "charge_usd",
        "charge_nano_usd",
    ];
    let mut out = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    out.write_record(report.by.iter().map(String::as_str).chain(COLUMNS))?;
    for sums in &report.lines {
        let group = report.by.iter().map(|word| {
            let text = sums.group.get(word).cloned().unwrap_or_default();
            if is_formula(&text) { format!("'{text}") } else { text }
        });
        let usage = &sums.usage;
        let counts = [
            sums.requests,
            sums.attempts,
            sums.complete,
            sums.errors,
            sums.without_usage,
            sums.estimated,
            sums.unpriced,
            usage.input,
            usage.cache_read,
            usage.cache_write_5m,
            usage.cache_write_1h,
            usage.input_audio,
            usage.output,
            usage.reasoning,
            usage.output_audio,
            usage.input_total,
            usage.output_total,
        ]
        .map(|count| count.to_string());
        let money = [
            sums.cost_usd.clone(),
            sums.cost_nano_usd.to_string(),
            sums.charge_usd.clone(),
            sums.charge_nano_usd.to_string(),
        ];
        out.write_record(group.chain(counts).chain(money))?;
    }
    Ok(String::from_utf8(out.into_inner()?)?)
}
