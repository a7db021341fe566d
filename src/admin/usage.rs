//! `/api/v1/usage` and `/api/v1/requests`: what the ledger holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as ValueError, StrDeserializer};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::input::Asked;
use super::refusal::{AnyRefusal, Refusal};
use super::row::{RowView, UsageView};
use super::times;
use crate::clock::UnixMicros;
use crate::ids::RequestId;
use crate::ir::Usage;
use crate::ledger::{Cursor, Filter, GroupBy, ReportLine};
use crate::observe::rfc3339;

/// Rows of a page unless asked otherwise.
const DEFAULT_LIMIT: usize = 100;
/// Most rows of a page.
const MAX_LIMIT: usize = 1000;

/// Which rows. Every condition that is given must hold.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Began at or after: RFC 3339, a day (`2026-01-31`, UTC), or so long ago (`24h`, `7d`).
    from: Option<String>,
    /// Began before; written as `from`.
    until: Option<String>,
    /// Client key id.
    key: Option<String>,
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
        let time = |field: &str, text: Option<String>| match text {
            Some(text) => times::read(&text, now)
                .map(Some)
                .map_err(|told| Refusal::invalid_query(field, told)),
            None => Ok(None),
        };
        Ok(Filter {
            from: time("from", self.from)?,
            until: time("until", self.until)?,
            key: self.key,
            provider: self.provider,
            credential: self.credential,
            model: self.model,
            request: self.request.map(|request| RequestId(request.into())),
            ended: self.ended.map(|word| named("ended", &word)).transpose()?,
            ..Filter::default()
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
    /// Comma-separated: `key`, `model`, `provider`, `credential`, `day`. Nothing: one sum over all.
    by: Option<String>,
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
    /// One line a group.
    pub lines: Vec<Sums>,
    /// All lines together.
    pub total: Sums,
}

/// Sums of one group.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Sums {
    /// What the group has in common: `{"model": "..."}`.
    pub group: BTreeMap<String, String>,
    /// Upstream attempts.
    pub attempts: u64,
    /// Those which ended `complete`.
    pub complete: u64,
    /// Those without reported usage.
    pub without_usage: u64,
    /// Tokens.
    pub usage: UsageView,
    /// Bytes sent to providers.
    pub request_bytes: u64,
    /// Bytes received from them.
    pub response_bytes: u64,
}

impl Sums {
    fn of(line: &ReportLine, by: &[String]) -> Self {
        Sums {
            group: by.iter().cloned().zip(line.group.iter().cloned()).collect(),
            attempts: line.attempts,
            complete: line.complete,
            without_usage: line.without_usage,
            usage: line.usage.into(),
            request_bytes: line.request_bytes,
            response_bytes: line.response_bytes,
        }
    }
}

/// Adds up all groups.
fn total(lines: &[ReportLine]) -> ReportLine {
    let mut total = ReportLine::default();
    for line in lines {
        total.attempts += line.attempts;
        total.complete += line.complete;
        total.without_usage += line.without_usage;
        total.request_bytes += line.request_bytes;
        total.response_bytes += line.response_bytes;
        let Usage {
            input,
            cache_read,
            cache_write_5m,
            cache_write_1h,
            input_audio,
            output,
            reasoning,
            output_audio,
            // Told to clients, in no book.
            cache_read_excess: _,
            reasoning_excess: _,
        } = line.usage;
        total.usage.input += input;
        total.usage.cache_read += cache_read;
        total.usage.cache_write_5m += cache_write_5m;
        total.usage.cache_write_1h += cache_write_1h;
        total.usage.input_audio += input_audio;
        total.usage.output += output;
        total.usage.reasoning += reasoning;
        total.usage.output_audio += output_audio;
    }
    total
}

/// Sums of attempts, tokens and bytes.
#[utoipa::path(get, path = "/api/v1/usage/report", tag = "usage", operation_id = "report_usage", params(Which, By),
    responses((status = 200, description = "The sums.", body = Report), AnyRefusal))]
pub(super) async fn report(
    State(api): State<Arc<Api>>,
    Asked(which, By { by }): Asked<Which, By>,
) -> Result<Json<Report>, Refusal> {
    let filter = which.filter(api.state.clock.now())?;
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
    let (from, until) = (filter.from, filter.until);
    let lines = api.ask(move |ledger| ledger.report(&filter, &groups)).await?;
    Ok(Json(Report {
        from: from.map(|at| rfc3339(at).to_string()),
        until: until.map(|at| rfc3339(at).to_string()),
        lines: lines.iter().map(|line| Sums::of(line, &by)).collect(),
        total: Sums::of(&total(&lines), &[]),
        by,
    }))
}

/// Which page of rows.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PageOf {
    /// Rows of the page: 1 to 1000, 100 unless given.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
    /// `next` of the page before.
    cursor: Option<String>,
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
    let limit = match page.limit.as_deref().map(str::parse::<usize>) {
        None => DEFAULT_LIMIT,
        Some(Ok(limit)) if (1..=MAX_LIMIT).contains(&limit) => limit,
        Some(_) => {
            return Err(Refusal::invalid_query(
                "limit",
                format!("`limit` is a number from 1 to {MAX_LIMIT}"),
            ));
        }
    };
    let after = match page.cursor.as_deref().map(str::parse::<Cursor>) {
        None => None,
        Some(Ok(after)) => Some(after),
        Some(Err(wrong)) => return Err(Refusal::invalid_query("cursor", wrong.to_string())),
    };
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
