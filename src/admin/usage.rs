//! `/api/v1/usage` and `/api/v1/requests`: what the ledger holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use jiff::tz::TimeZone;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as ValueError, StrDeserializer};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::days::Zone;
use super::input::Asked;
use super::page::{PageOf, limit_of};
use super::refusal::{AnyRefusal, Refusal};
use super::row::{RowView, UsageView};
use super::times;
use crate::clock::UnixMicros;
use crate::ids::RequestId;
use crate::ledger::query::GROUPS_MAX;
use crate::ledger::{Cursor, Filter, GroupBy, ReportLine};
use crate::observe::rfc3339;

/// Which rows. Every condition that is given must hold.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Began at or after: RFC 3339, a day (`2026-01-31`, of the report's `time_zone` or UTC), or so long ago (`24h`, `7d`).
    from: Option<String>,
    /// Began before; written as `from`.
    until: Option<String>,
    /// Client key id.
    key: Option<String>,
    /// The key's group at that time; empty: none.
    group: Option<String>,
    /// Provider.
    provider: Option<String>,
    /// Credential's name.
    credential: Option<String>,
    /// Model the client asked for.
    model: Option<String>,
    /// `x-request-id`.
    request: Option<String>,
    /// How it ended: `complete`, `upstream_error`, `client_gone` ...
    ended: Option<String>,
}

impl Which {
    pub(super) fn filter(self, now: UnixMicros) -> Result<Filter, Refusal> {
        self.filter_in(now, &TimeZone::UTC)
    }

    /// The same where days are those of a time zone.
    fn filter_in(self, now: UnixMicros, zone: &TimeZone) -> Result<Filter, Refusal> {
        let time = |field: &str, text: Option<String>| match text {
            Some(text) => times::read(&text, now, zone)
                .map(Some)
                .map_err(|told| Refusal::invalid_query(field, told)),
            None => Ok(None),
        };
        Ok(Filter {
            from: time("from", self.from)?,
            until: time("until", self.until)?,
            key: self.key,
            group: self.group,
            provider: self.provider,
            credential: self.credential,
            model: self.model,
            request: self.request.map(|request| RequestId(request.into())),
            ended: self.ended.map(|word| named("ended", &word)).transpose()?,
        })
    }
}

/// Reads the name of an enum's variant.
fn named<T: for<'de> Deserialize<'de>>(field: &str, word: &str) -> Result<T, Refusal> {
    let word = crate::observe::redact::printable(word, 40);
    let source: StrDeserializer<'_, ValueError> = (*word).into_deserializer();
    T::deserialize(source).map_err(|error| Refusal::invalid_query(field, error.to_string()))
}

/// What sums are grouped by.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct By {
    /// Comma-separated: `key`, `group`, `model`, `provider`, `credential`, `hour` (UTC), `day`, `week`, `month` (of `time_zone`); and
    /// `route`, `upstream_model`, as far back as single rows are kept. Nothing: one sum over all.
    by: Option<String>,
    /// Whose days, weeks and months count, in `by`, `from` and `until`: a name of the IANA database, as `Europe/Berlin`; UTC unless
    /// given. Where they begin within an hour of UTC (as in `Asia/Kolkata`) the report is refused for times of which single rows are
    /// removed: older sums are by hour of UTC.
    #[param(max_length = 64, example = "Europe/Berlin")]
    time_zone: Option<String>,
    /// In which order lines come: `group` (the default: by what they have in common), or the largest `charge`, `cost`, `requests`
    /// first.
    sort: Option<String>,
    /// Lines shown: 1 to 10000, all unless given. The total is of all.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 10000)]
    limit: Option<String>,
}

/// Sums.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Report {
    /// From when, RFC 3339; null: from the beginning.
    #[schema(format = DateTime)]
    pub from: Option<String>,
    /// Until when, RFC 3339; null: until now.
    #[schema(format = DateTime)]
    pub until: Option<String>,
    /// What it is grouped by, in the order asked.
    pub by: Vec<String>,
    /// Whose days, weeks and months they are.
    #[schema(example = "UTC")]
    pub time_zone: String,
    /// One line a group.
    pub lines: Vec<Sums>,
    /// How many more lines there are than `limit` let through.
    pub more: usize,
    /// All lines together, those which are not shown too.
    pub total: Sums,
}

/// Sums of one group.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Sums {
    /// What the group has in common: `{"model": "..."}`.
    pub group: BTreeMap<String, String>,
    /// Requests: first attempts.
    pub requests: u64,
    /// Upstream attempts.
    pub attempts: u64,
    /// Those which ended `complete`.
    pub complete: u64,
    /// Those which failed: ended neither `complete` nor `client_gone`.
    pub errors: u64,
    /// Those without reported usage.
    pub without_usage: u64,
    /// Those whose usage is our estimate.
    pub estimated: u64,
    /// Those whose price is unknown: their cost is not in `cost_usd`.
    pub unpriced: u64,
    /// Tokens.
    pub usage: UsageView,
    /// What providers bill, in dollars, as far as prices are known.
    #[schema(example = "0.0123")]
    pub cost_usd: String,
    /// The same in nano-dollars.
    pub cost_nano_usd: u64,
    /// What clients are charged, in dollars.
    #[schema(example = "0.0123")]
    pub charge_usd: String,
    /// The same in nano-dollars.
    pub charge_nano_usd: u64,
    /// Bytes sent to providers.
    pub request_bytes: u64,
    /// Bytes received from them.
    pub response_bytes: u64,
}

impl Sums {
    fn of(line: &ReportLine, by: &[String]) -> Self {
        Sums {
            group: by.iter().cloned().zip(line.group.iter().cloned()).collect(),
            requests: line.requests,
            attempts: line.attempts,
            complete: line.complete,
            errors: line.errors,
            without_usage: line.without_usage,
            estimated: line.estimated,
            unpriced: line.unpriced,
            usage: line.usage.into(),
            cost_usd: line.cost.to_string(),
            cost_nano_usd: line.cost.0,
            charge_usd: line.charge.to_string(),
            charge_nano_usd: line.charge.0,
            request_bytes: line.request_bytes,
            response_bytes: line.response_bytes,
        }
    }
}

/// Adds up all groups.
fn total(lines: &[ReportLine]) -> ReportLine {
    let mut total = ReportLine::default();
    lines.iter().for_each(|line| total += line);
    total
}

/// The order of a report's lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Sort {
    #[default]
    Group,
    Charge,
    Cost,
    Requests,
}

impl Sort {
    /// The largest first; where they are equal the order of groups stays.
    fn sort(self, lines: &mut [ReportLine]) {
        let of = |line: &ReportLine| match self {
            Sort::Group => 0,
            Sort::Charge => line.charge.0,
            Sort::Cost => line.cost.0,
            Sort::Requests => line.requests,
        };
        lines.sort_by_key(|line| std::cmp::Reverse(of(line)));
    }
}

/// Sums of requests, attempts, tokens, money and bytes.
#[utoipa::path(get, path = "/api/v1/usage/report", tag = "usage", operation_id = "report_usage", params(Which, By),
    responses((status = 200, description = "The sums.", body = Report), AnyRefusal))]
pub(super) async fn report(
    State(api): State<Arc<Api>>,
    Asked(which, asked): Asked<Which, By>,
) -> Result<Json<Report>, Refusal> {
    let By {
        by,
        time_zone,
        sort,
        limit,
    } = asked;
    let zone = Zone::read(time_zone.as_deref())?;
    let filter = which.filter_in(api.state.clock.now(), &zone.zone)?;
    let by: Vec<String> = by
        .as_deref()
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect();
    let groups = by
        .iter()
        .map(|word| named::<GroupBy>("by", word))
        .collect::<Result<Vec<_>, _>>()?;
    if (1..by.len()).any(|at| by[..at].contains(&by[at])) {
        return Err(Refusal::invalid_query("by", "each word may be given once"));
    }
    let sort = sort.map(|word| named::<Sort>("sort", &word)).transpose()?;
    let limit = limit_of(limit.as_deref(), GROUPS_MAX)?.unwrap_or(GROUPS_MAX);
    let (from, until) = (filter.from, filter.until);
    let time_zone = zone.name.clone();
    let lines = api.ask(move |ledger| zone.report(ledger, &filter, &groups)).await?;
    let mut lines = lines.ok_or_else(|| {
        let told = "days there begin within an hour of UTC, which only single rows tell apart, and some of this time are removed; \
                    ask for a later time, or in a time zone of whole hours";
        Refusal::invalid_query("time_zone", told)
    })?;
    sort.unwrap_or_default().sort(&mut lines);
    Ok(Json(Report {
        from: from.map(|at| rfc3339(at).to_string()),
        until: until.map(|at| rfc3339(at).to_string()),
        lines: lines.iter().take(limit).map(|line| Sums::of(line, &by)).collect(),
        more: lines.len().saturating_sub(limit),
        total: Sums::of(&total(&lines), &[]),
        by,
        time_zone,
    }))
}

/// A page of rows.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Rows {
    /// The rows, in the order in which they were entered: nearly that of their end.
    pub rows: Vec<RowView>,
    /// Give this as `cursor` to go on; null: this was the last page.
    pub next: Option<String>,
}

/// Rows of the ledger, one per upstream attempt, in the order in which they were entered.
#[utoipa::path(get, path = "/api/v1/usage/rows", tag = "usage", operation_id = "list_rows", params(Which, PageOf),
    responses((status = 200, description = "A page of rows.", body = Rows), AnyRefusal))]
pub(super) async fn rows(
    State(api): State<Arc<Api>>,
    Asked(which, page): Asked<Which, PageOf>,
) -> Result<Json<Rows>, Refusal> {
    let filter = which.filter(api.state.clock.now())?;
    let limit = page.limit()?;
    let after = page.after(|text| text.parse::<Cursor>().ok())?;
    let page = api.ask(move |ledger| ledger.rows(&filter, after, limit)).await?;
    Ok(Json(Rows {
        rows: page.rows.into_iter().map(RowView::from).collect(),
        next: page.next.map(|next| next.to_string()),
    }))
}

/// The log of requests: the same rows as `/api/v1/usage/rows`.
#[utoipa::path(get, path = "/api/v1/requests", tag = "usage", operation_id = "list_requests", params(Which, PageOf),
    responses((status = 200, description = "A page of rows.", body = Rows), AnyRefusal))]
pub(super) async fn requests(api: State<Arc<Api>>, asked: Asked<Which, PageOf>) -> Result<Json<Rows>, Refusal> {
    rows(api, asked).await
}
