//! A row of the ledger as the admin API shows it, in JSON and in CSV.

use std::io::Write;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ir::Usage;
use crate::ledger::Row;
use crate::observe::rfc3339;

/// Tokens in disjoint classes, and their sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageView {
    /// Prompt tokens neither read from nor written to a cache, without audio.
    pub input: u64,
    /// Prompt tokens read from the provider's cache.
    pub cache_read: u64,
    /// Prompt tokens written to a cache of five minutes (or of unnamed lifetime).
    pub cache_write_5m: u64,
    /// Prompt tokens written to a cache of one hour.
    pub cache_write_1h: u64,
    /// Audio tokens of the prompt.
    pub input_audio: u64,
    /// Visible output tokens, without audio.
    pub output: u64,
    /// Output tokens spent on reasoning.
    pub reasoning: u64,
    /// Audio tokens of the output.
    pub output_audio: u64,
    /// All tokens of the prompt.
    pub input_total: u64,
    /// All tokens of the output.
    pub output_total: u64,
}

impl From<Usage> for UsageView {
    fn from(usage: Usage) -> Self {
        UsageView {
            input: usage.input,
            cache_read: usage.cache_read,
            cache_write_5m: usage.cache_write_5m,
            cache_write_1h: usage.cache_write_1h,
            input_audio: usage.input_audio,
            output: usage.output,
            reasoning: usage.reasoning,
            output_audio: usage.output_audio,
            input_total: usage.input_total(),
            output_total: usage.output_total(),
        }
    }
}

/// One upstream attempt. Times with `_us` are microseconds since it began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RowView {
    /// The id of the attempt.
    pub id: String,
    /// `x-request-id` of the request it belongs to.
    #[schema(value_type = String)]
    pub request: Arc<str>,
    /// Which try of that request, from 1.
    pub attempt: u16,
    /// When it began, RFC 3339.
    #[schema(format = DateTime)]
    pub at: String,
    /// Client key id.
    #[schema(value_type = String)]
    pub key: Arc<str>,
    /// The key's group at that time; empty: none.
    #[schema(value_type = String)]
    pub group: Arc<str>,
    /// Route; empty: the client named the provider.
    #[schema(value_type = String)]
    pub route: Arc<str>,
    /// Provider.
    #[schema(value_type = String)]
    pub provider: Arc<str>,
    /// Its credential's name.
    #[schema(value_type = String)]
    pub credential: Arc<str>,
    /// What was asked: `chat`, `embeddings` ...
    #[schema(value_type = String)]
    pub operation: Arc<str>,
    /// The client's dialect; empty: passed through unread.
    #[schema(value_type = String)]
    pub client_dialect: Arc<str>,
    /// The provider's dialect; empty: passed through unread.
    #[schema(value_type = String)]
    pub provider_dialect: Arc<str>,
    /// Model the client asked for.
    #[schema(value_type = String)]
    pub model: Arc<str>,
    /// Model the provider was asked for.
    #[schema(value_type = String)]
    pub upstream_model: Arc<str>,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// How it ended: `complete`, `client_gone`, `interrupted` ...
    pub ended: String,
    /// The provider's status; null: it never answered.
    pub status: Option<u16>,
    /// Why the answer ended: `stop`, `length`, `tool_calls` ...
    pub finish: Option<String>,
    /// Tokens; null: the provider reported none.
    pub usage: Option<UsageView>,
    /// Whether the tokens are our estimate: the provider told none, or the answer broke off.
    pub estimated: bool,
    /// What was held of the key's budget while it ran, in dollars.
    #[schema(example = "0.05")]
    pub reserved_usd: String,
    /// The same in nano-dollars.
    pub reserved_nano_usd: u64,
    /// What the provider bills, in dollars; null: the price is unknown.
    #[schema(example = "0.0123")]
    pub cost_usd: Option<String>,
    /// The same in nano-dollars.
    pub cost_nano_usd: Option<u64>,
    /// What the client is charged, in dollars.
    #[schema(example = "0.0123")]
    pub charge_usd: String,
    /// The same in nano-dollars.
    pub charge_nano_usd: u64,
    /// The service tier which the provider says it gave; null: it said nothing.
    pub service: Option<String>,
    /// Images of the prompt.
    pub images_in: u32,
    /// Images made.
    pub images_out: u32,
    /// The provider's id of the answer.
    pub response_id: Option<String>,
    /// Tool calls in the answer.
    pub tool_calls: u32,
    /// Bytes of the body sent to the provider.
    pub request_bytes: u64,
    /// Bytes of the body received from it.
    pub response_bytes: u64,
    /// Until the header of its answer.
    pub first_byte_us: Option<u64>,
    /// Until the first event with content.
    pub first_token_us: Option<u64>,
    /// Until its end.
    pub total_us: u64,
    /// What went wrong, in a word.
    pub error: Option<String>,
    /// It may have cost money nobody told of: it failed after it was sent, and no usage came.
    pub maybe_billed: bool,
}

impl From<Row> for RowView {
    fn from(row: Row) -> Self {
        let maybe_billed = row.maybe_billed();
        let Row {
            opening,
            closing,
            ended,
        } = row;
        RowView {
            id: opening.id.to_string(),
            request: opening.request.0,
            attempt: opening.attempt,
            at: rfc3339(opening.at).to_string(),
            key: opening.key.0,
            group: opening.group,
            route: opening.route,
            provider: opening.provider,
            credential: opening.credential,
            operation: opening.operation,
            client_dialect: opening.client_dialect,
            provider_dialect: opening.provider_dialect,
            model: opening.model,
            upstream_model: opening.upstream_model,
            stream: opening.stream,
            ended: ended.as_str().to_owned(),
            status: closing.status,
            finish: closing.finish.map(|finish| finish.as_str().to_owned()),
            usage: closing.usage.map(UsageView::from),
            estimated: closing.estimated,
            reserved_usd: opening.reserved.to_string(),
            reserved_nano_usd: opening.reserved.0,
            cost_usd: closing.cost.map(|cost| cost.to_string()),
            cost_nano_usd: closing.cost.map(|cost| cost.0),
            charge_usd: closing.charge.to_string(),
            charge_nano_usd: closing.charge.0,
            service: closing.service,
            images_in: closing.images_in,
            images_out: closing.images_out,
            response_id: closing.response_id,
            tool_calls: closing.tool_calls,
            request_bytes: closing.request_bytes,
            response_bytes: closing.response_bytes,
            first_byte_us: closing.first_byte_us,
            first_token_us: closing.first_token_us,
            total_us: closing.total_us,
            error: closing.error,
            maybe_billed,
        }
    }
}

/// The first line of a CSV export.
pub const CSV_HEADER: &str = "id,request,attempt,at,key,route,provider,credential,operation,client_dialect,\
provider_dialect,model,upstream_model,stream,ended,status,finish,input,cache_read,cache_write_5m,cache_write_1h,\
input_audio,output,reasoning,output_audio,input_total,output_total,response_id,tool_calls,request_bytes,\
response_bytes,first_byte_us,first_token_us,total_us,error,maybe_billed,group,estimated,reserved_usd,reserved_nano_usd,\
cost_usd,cost_nano_usd,charge_usd,charge_nano_usd,service,images_in,images_out\r\n";

impl RowView {
    /// Appends the row as a line of CSV (RFC 4180), in the order of [`CSV_HEADER`]. What is unknown is an empty cell.
    pub fn write_csv(&self, out: &mut Vec<u8>) {
        let usage = |class: fn(&UsageView) -> u64| self.usage.as_ref().map(class);
        let mut cells = Cells { out, first: true };
        cells.text(&self.id);
        cells.text(&self.request);
        cells.number(Some(self.attempt));
        cells.text(&self.at);
        for text in [
            &self.key,
            &self.route,
            &self.provider,
            &self.credential,
            &self.operation,
            &self.client_dialect,
            &self.provider_dialect,
            &self.model,
            &self.upstream_model,
        ] {
            cells.text(text);
        }
        cells.text(if self.stream { "true" } else { "false" });
        cells.text(&self.ended);
        cells.number(self.status);
        cells.text(self.finish.as_deref().unwrap_or_default());
        cells.number(usage(|usage| usage.input));
        cells.number(usage(|usage| usage.cache_read));
        cells.number(usage(|usage| usage.cache_write_5m));
        cells.number(usage(|usage| usage.cache_write_1h));
        cells.number(usage(|usage| usage.input_audio));
        cells.number(usage(|usage| usage.output));
        cells.number(usage(|usage| usage.reasoning));
        cells.number(usage(|usage| usage.output_audio));
        cells.number(usage(|usage| usage.input_total));
        cells.number(usage(|usage| usage.output_total));
        cells.text(self.response_id.as_deref().unwrap_or_default());
        cells.number(Some(self.tool_calls));
        cells.number(Some(self.request_bytes));
        cells.number(Some(self.response_bytes));
        cells.number(self.first_byte_us);
        cells.number(self.first_token_us);
        cells.number(Some(self.total_us));
        cells.text(self.error.as_deref().unwrap_or_default());
        cells.text(if self.maybe_billed { "true" } else { "false" });
        // Columns of money came later and stand at the end, where they move no other.
        cells.text(&self.group);
        cells.text(if self.estimated { "true" } else { "false" });
        cells.text(&self.reserved_usd);
        cells.number(Some(self.reserved_nano_usd));
        cells.text(self.cost_usd.as_deref().unwrap_or_default());
        cells.number(self.cost_nano_usd);
        cells.text(&self.charge_usd);
        cells.number(Some(self.charge_nano_usd));
        cells.text(self.service.as_deref().unwrap_or_default());
        cells.number(Some(self.images_in));
        cells.number(Some(self.images_out));
        cells.out.extend_from_slice(b"\r\n");
    }
}

/// Whether a spreadsheet would take a cell with this text for a formula (HARDENING, Admin; OWASP "CSV injection", which counts tab
/// and carriage return too).
pub fn is_formula(text: &str) -> bool {
    text.starts_with(['=', '+', '-', '@', '\t', '\r'])
}

/// Writes the cells of one line.
struct Cells<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl Cells<'_> {
    fn comma(&mut self) {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
    }

    fn number<N: std::fmt::Display>(&mut self, number: Option<N>) {
        self.comma();
        if let Some(number) = number {
            // Writing to a Vec can't fail.
            let _ = write!(self.out, "{number}");
        }
    }

    /// Text which a spreadsheet would take for a formula gets an apostrophe in front.
    fn text(&mut self, text: &str) {
        self.comma();
        let formula = is_formula(text);
        let quoted = text.contains(['"', ',', '\n', '\r']);
        if quoted {
            self.out.push(b'"');
        }
        if formula {
            self.out.push(b'\'');
        }
        for byte in text.bytes() {
            if byte == b'"' {
                self.out.push(b'"');
            }
            self.out.push(byte);
        }
        if quoted {
            self.out.push(b'"');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(texts: &[&str]) -> String {
        let mut out = Vec::new();
        let mut cells = Cells {
            out: &mut out,
            first: true,
        };
        texts.iter().for_each(|text| cells.text(text));
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn formulas_are_disarmed_and_special_characters_quoted() {
        for (text, expected) in [
            ("plain", "plain"),
            ("", ""),
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\t=1"),
            ("\r=1", "\"'\r=1\""),
            ("a,b", "\"a,b\""),
            ("a\"b", "\"a\"\"b\""),
            ("=HYPERLINK(\"x\",1)", "\"'=HYPERLINK(\"\"x\"\",1)\""),
            ("a\nb", "\"a\nb\""),
            ("a=b", "a=b"),
        ] {
            assert_eq!(cells(&[text]), expected, "{text:?}");
        }
        assert_eq!(cells(&["a", "", "b"]), "a,,b");
    }
}
