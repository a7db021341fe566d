//! `/api/v1/usage/export`: all rows, as JSON lines or CSV, in constant memory.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use utoipa::IntoParams;

use super::Api;
use super::input::Asked;
use super::refusal::{AnyRefusal, Refusal};
use super::row::{CSV_HEADER, RowView};
use super::usage::Which;
use crate::ledger::{Cursor, Filter};

/// Rows read from the ledger at a time.
const PAGE: usize = 1000;

/// Pages which wait for a slow reader.
const PAGES_WAITING: usize = 2;

/// How long a reader may take nothing before the export is given up, so that it can't hold a turn for ever.
const READER_WAIT: Duration = Duration::from_secs(60);

/// How an export is written.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct As {
    /// `jsonl` (the default) or `csv`.
    format: Option<String>,
    /// Only rows whose tokens are our estimate, or only those whose are not.
    #[param(value_type = Option<bool>)]
    estimated: Option<String>,
}

/// How rows are written, and which.
#[derive(Clone, Copy)]
struct Written {
    format: Format,
    estimated: Option<bool>,
}

#[derive(Clone, Copy)]
enum Format {
    JsonLines,
    Csv,
}

/// All rows which match, in the order in which they were entered. An export that fails on its way breaks off: it never looks complete.
#[utoipa::path(get, path = "/api/v1/usage/export", tag = "usage", operation_id = "export_rows", params(Which, As),
    responses(
        (status = 200, description = "One row a line.", content(
            (RowView = "application/x-ndjson"),
            (String = "text/csv"),
        )),
        AnyRefusal))]
pub(super) async fn export(
    State(api): State<Arc<Api>>,
    Asked(which, As { format, estimated }): Asked<Which, As>,
) -> Result<Response, Refusal> {
    let filter = which.filter(api.state.clock.now())?;
    let (format, kind, file) = match format.as_deref() {
        None | Some("jsonl") => (
            Format::JsonLines,
            "application/x-ndjson",
            "attachment; filename=\"usage.jsonl\"",
        ),
        Some("csv") => (
            Format::Csv,
            "text/csv; charset=utf-8; header=present",
            "attachment; filename=\"usage.csv\"",
        ),
        Some(_) => return Err(Refusal::invalid_query("format", "`format` is `jsonl` or `csv`")),
    };
    let estimated = match estimated.as_deref() {
        None => None,
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some(_) => return Err(Refusal::invalid_query("estimated", "`estimated` is `true` or `false`")),
    };
    let written = Written { format, estimated };
    let turn = api.question().await?;
    // The first page is read before the answer begins, so that a ledger which can't be read is a clean 500.
    let (first, next) = page(&api, filter.clone(), None, written).await?;
    let (sender, receiver) = mpsc::channel(PAGES_WAITING);
    tokio::spawn(send_pages(api, filter, written, first, next, sender, turn));
    let body = Body::from_stream(Pages(Some(receiver)));
    Ok((
        [(header::CONTENT_TYPE, kind), (header::CONTENT_DISPOSITION, file)],
        body,
    )
        .into_response())
}

/// Reads page after page as the reader takes them. Whatever ends it early, the body breaks off: see [`Pages`].
async fn send_pages(
    api: Arc<Api>,
    filter: Filter,
    written: Written,
    first: Vec<u8>,
    mut next: Option<Cursor>,
    reader: mpsc::Sender<Part>,
    _turn: OwnedSemaphorePermit,
) {
    let mut text = first;
    loop {
        if !text.is_empty() && !sent(&reader, Part::Page(text.into())).await {
            return;
        }
        let Some(after) = next else {
            sent(&reader, Part::End).await;
            return;
        };
        match page(&api, filter.clone(), Some(after), written).await {
            Ok((more, then)) => (text, next) = (more, then),
            Err(_told_in_the_log) => return,
        }
    }
}

/// Whether the reader took it, in time.
async fn sent(reader: &mpsc::Sender<Part>, part: Part) -> bool {
    matches!(tokio::time::timeout(READER_WAIT, reader.send(part)).await, Ok(Ok(())))
}

/// One page as text, and where to go on. The header of a CSV stands before the first page.
async fn page(
    api: &Api,
    filter: Filter,
    after: Option<Cursor>,
    Written { format, estimated }: Written,
) -> Result<(Vec<u8>, Option<Cursor>), Refusal> {
    api.blocking(move |state| {
        let page = state.ledger.rows(&filter, after, PAGE)?;
        let mut text = Vec::with_capacity(page.rows.len() * 512);
        if after.is_none() && matches!(format, Format::Csv) {
            text.extend_from_slice(CSV_HEADER.as_bytes());
        }
        for row in page.rows {
            let row = RowView::from(row);
            if estimated.is_some_and(|wanted| wanted != row.estimated) {
                continue;
            }
            match format {
                Format::Csv => row.write_csv(&mut text),
                Format::JsonLines => {
                    serde_json::to_writer(&mut text, &row).map_err(|_| Refusal::internal())?;
                    text.push(b'\n');
                }
            }
        }
        Ok((text, page.next))
    })
    .await?
}

/// What comes through the channel.
enum Part {
    Page(Bytes),
    /// That was all.
    End,
}

/// The export broke off.
#[derive(Debug, thiserror::Error)]
#[error("the ledger could not be read to its end")]
struct Broken;

/// The body. Unless [`Part::End`] came it ends with an error, so that a part never looks like the whole.
struct Pages(Option<mpsc::Receiver<Part>>);

impl Stream for Pages {
    type Item = Result<Bytes, Broken>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(receiver) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let part = std::task::ready!(receiver.poll_recv(context));
        if let Some(Part::Page(text)) = part {
            return Poll::Ready(Some(Ok(text)));
        }
        self.0 = None;
        Poll::Ready(part.is_none().then_some(Err(Broken)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(parts: Vec<Part>) -> Vec<Result<Bytes, Broken>> {
        let (sender, receiver) = mpsc::channel(8);
        for part in parts {
            assert!(sent(&sender, part).await);
        }
        drop(sender);
        let mut pages = Pages(Some(receiver));
        let mut read = Vec::new();
        while let Some(item) = std::future::poll_fn(|context| Pin::new(&mut pages).poll_next(context)).await {
            read.push(item);
        }
        read
    }

    #[tokio::test]
    async fn an_export_cut_short_ends_with_an_error() {
        let whole = read(vec![Part::Page("a".into()), Part::End]).await;
        assert!(matches!(&whole[..], [Ok(_)]), "{whole:?}");
        let cut = read(vec![Part::Page("a".into())]).await;
        assert!(matches!(&cut[..], [Ok(_), Err(Broken)]), "{cut:?}");
    }
}
