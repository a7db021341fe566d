//! One value of a file: taken as the kind that is needed, or a problem.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::fields::{Context, Fields};
use super::{OnAbort, decimal, duration, json, size};

/// Longest piece of a value shown in a problem, in characters.
const MAX_SHOWN: usize = 80;

/// Digits after the point of dollars: nano-dollars.
const NANO_DIGITS: u32 = 9;

/// Largest price of one request, in nano-dollars: a thousand dollars. More is a mistake in the unit.
const MAX_REQUEST_PRICE: u64 = 1_000 * 1_000_000_000;

/// Bounds of the time for which an answer is read on whose client went away.
const DRAINS: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(300);

/// A value, where it stands and what it is called.
#[derive(Clone)]
pub struct Value<'a> {
    context: Context<'a>,
    value: &'a DeValue<'a>,
    /// Where the field begins.
    at: usize,
    /// Where the value itself begins.
    starts: usize,
    path: String,
    secret: bool,
}

impl<'a> Value<'a> {
    /// A value whose field begins at byte `at`.
    pub(super) fn new(context: Context<'a>, value: &'a Spanned<DeValue<'a>>, at: usize, path: String) -> Self {
        Value {
            context,
            value: value.get_ref(),
            at,
            starts: value.span().start,
            path,
            secret: false,
        }
    }

    /// Never shows the value in a problem: a key may stand there.
    pub fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// Where it is: file and line.
    pub fn place(&self) -> (PathBuf, usize) {
        (self.context.source.file.clone(), self.context.source.line(self.at))
    }

    /// What it is called, as in `limits.body`.
    pub fn name(&self) -> &str {
        &self.path
    }

    /// Reports a problem with it.
    pub fn problem(&self, help: impl Into<String>) {
        self.context.add(self.at, self.what(), help.into(), false);
    }

    /// Reports something that is allowed but hardly meant.
    pub fn warn(&self, help: impl Into<String>) {
        self.context.add(self.at, self.what(), help.into(), true);
    }

    /// `path = value`, or only the path where the value is long or must not be shown.
    fn what(&self) -> String {
        match show(self.value) {
            Some(shown) if !self.secret => format!("{} = {shown}", self.path),
            _ => self.path.clone(),
        }
    }

    fn wrong<T>(&self, expected: &str) -> Option<T> {
        self.problem(format!("it must be {expected}, not {}", kind(self.value)));
        None
    }

    /// A text.
    pub fn string(&self) -> Option<&'a str> {
        match self.value {
            DeValue::String(text) => Some(text),
            _ => self.wrong("a text in quotes"),
        }
    }

    /// A text in quotes, if it is one; that it is not is no problem here.
    pub fn text(&self) -> Option<&'a str> {
        match self.value {
            DeValue::String(text) => Some(text),
            _ => None,
        }
    }

    /// True or false.
    pub fn boolean(&self) -> Option<bool> {
        match self.value {
            DeValue::Boolean(value) => Some(*value),
            _ => self.wrong("true or false"),
        }
    }

    /// A whole number within bounds.
    pub fn integer(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let (least, most) = (range.start(), range.end());
        let DeValue::Integer(digits) = self.value else {
            return self.wrong(&format!("a whole number from {least} to {most}"));
        };
        let number = i128::from_str_radix(digits.as_str(), digits.radix()).ok();
        match number.and_then(|n| u64::try_from(n).ok()) {
            Some(number) if range.contains(&number) => Some(number),
            _ => {
                self.problem(format!("it must be from {least} to {most}"));
                None
            }
        }
    }

    /// A decimal number, exactly, as a multiple of 10^-`digits`: `0.25`, within bounds.
    pub fn decimal(&self, digits: u32, range: RangeInclusive<u64>) -> Option<u64> {
        let read = match self.value {
            DeValue::Integer(number) if number.radix() == 10 => decimal::parse(number.as_str(), digits),
            DeValue::Float(number) => decimal::parse(number.as_str(), digits),
            _ => return self.wrong("a plain number, as in 2 or 0.25"),
        };
        match read {
            Ok(number) if range.contains(&number) => return Some(number),
            Ok(_) => self.problem(format!(
                "it must be from {} to {}",
                decimal::show(*range.start(), digits),
                decimal::show(*range.end(), digits)
            )),
            Err(why) => self.problem(why),
        }
        None
    }

    /// `"refuse"` (`None`), or the dollars of one request, in nano-dollars. What is wrong is reported, and refuses.
    pub fn price_or_refuse(&self) -> Option<u64> {
        if self.value.is_str() {
            return self.word(&[("refuse", None)]).flatten();
        }
        self.decimal(NANO_DIGITS, 0..=MAX_REQUEST_PRICE)
    }

    /// `"abort"`, or `{ drain = "5s" }`. What is wrong is reported.
    pub fn abort_or_drain(&self) -> Option<OnAbort> {
        if self.value.is_str() {
            return self.word(&[("abort", OnAbort::Abort)]);
        }
        let mut fields = self.table()?;
        let time = fields.need("drain", "drain = \"5s\"");
        fields.finish();
        time?.duration(DRAINS).map(OnAbort::Drain)
    }

    /// As JSON, to be handed on as it stands; an error says what JSON can't hold.
    pub fn json(&self) -> Result<serde_json::Value, String> {
        json::of(self.value, 0)
    }

    /// Whether it is a table which a dotted key made (`a.b = 1`), not one in braces.
    pub fn is_dotted(&self) -> bool {
        self.value.is_table() && json::is_dotted(&self.context, self.starts)
    }

    /// A number of bytes within bounds: `"32MiB"`, or a whole number.
    pub fn size(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let bytes = match self.value {
            DeValue::Integer(digits) => match u64::from_str_radix(digits.as_str(), digits.radix()) {
                Ok(bytes) => Ok(bytes),
                Err(_) => size::parse(digits.as_str()),
            },
            DeValue::String(text) => size::parse(text),
            _ => return self.wrong("a size, as in \"32MiB\" or 4096"),
        };
        self.within(bytes, range, size::show)
    }

    /// A time within bounds: `"15s"`.
    pub fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        match self.value {
            DeValue::String(text) => self.within(duration::parse(text), range, duration::show),
            DeValue::Integer(digits) => {
                self.problem(format!(
                    "it must be a time with its unit, as in \"{}s\"",
                    digits.as_str()
                ));
                None
            }
            _ => self.wrong("a time, as in \"15s\""),
        }
    }

    fn within<T: PartialOrd + Copy>(
        &self,
        read: Result<T, String>,
        range: RangeInclusive<T>,
        show: fn(T) -> String,
    ) -> Option<T> {
        match read {
            Ok(value) if range.contains(&value) => return Some(value),
            Ok(_) => self.problem(format!(
                "it must be from {} to {}",
                show(*range.start()),
                show(*range.end())
            )),
            Err(why) => self.problem(why),
        }
        None
    }

    /// An address with a port.
    pub fn address(&self) -> Option<SocketAddr> {
        let text = self.string()?;
        let address = text.parse().ok();
        if address.is_none() {
            self.problem(address_help(text));
        }
        address
    }

    /// A path.
    pub fn path(&self) -> Option<PathBuf> {
        match self.string()? {
            "" => {
                self.problem("the path is empty");
                None
            }
            text if text.contains('\0') => {
                self.problem("a path can't contain a zero byte");
                None
            }
            text => Some(PathBuf::from(text)),
        }
    }

    /// One of some words, each with what it means.
    pub fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let text = self.string()?;
        let found = words
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, meaning)| *meaning);
        if found.is_none() {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.problem(format!(
                "it must be one of these.{}",
                super::fields::suggestion(text, &words, "known")
            ));
        }
        found
    }

    /// One of these, by its name.
    pub fn word_of<T: Copy>(&self, all: impl IntoIterator<Item = T>, name: fn(T) -> &'static str) -> Option<T> {
        let words: Vec<(&str, T)> = all.into_iter().map(|one| (name(one), one)).collect();
        self.word(&words)
    }

    /// The elements of a list.
    pub fn list(&self) -> Option<Vec<Value<'a>>> {
        match self.value {
            DeValue::Array(array) => Some(array.iter().enumerate().map(|(n, v)| self.element(n, v)).collect()),
            DeValue::Table(_) => {
                self.problem(format!(
                    "there may be several of them: write [[{0}]] instead of [{0}]",
                    self.path
                ));
                None
            }
            _ => self.wrong("a list, as in [ ... ]"),
        }
    }

    /// The elements of a list; a single value counts as a list of one.
    pub fn one_or_list(&self) -> Vec<Value<'a>> {
        match self.value {
            DeValue::Array(array) => array.iter().enumerate().map(|(n, v)| self.element(n, v)).collect(),
            _ => vec![self.clone()],
        }
    }

    fn element(&self, n: usize, value: &'a Spanned<DeValue<'a>>) -> Value<'a> {
        let element = Value::new(self.context, value, value.span().start, format!("{}[{n}]", self.path));
        Value {
            secret: self.secret,
            ..element
        }
    }

    /// The fields of a table.
    pub fn table(&self) -> Option<Fields<'a>> {
        match self.value {
            DeValue::Table(table) => Some(Fields::new(
                self.context,
                Some(table),
                format!("{}.", self.path),
                self.at,
            )),
            _ => self.wrong("a table, as in { ... }"),
        }
    }

    /// Whether it is true or false.
    pub fn is_boolean(&self) -> bool {
        self.value.is_bool()
    }

    /// Whether it is a text.
    pub fn is_string(&self) -> bool {
        self.value.is_str()
    }
}

fn address_help(text: &str) -> String {
    if text.parse::<std::net::IpAddr>().is_ok() {
        return "the port is missing; write it as \"127.0.0.1:8080\" or \"[::1]:8080\"".to_owned();
    }
    if let Some(port) = text.strip_prefix("localhost:") {
        return format!("it must be an address, not a name. Did you mean \"127.0.0.1:{port}\"?");
    }
    if let Some(port) = text.strip_prefix(':').or(text.strip_prefix("*:")) {
        return format!("the address is missing. For every network write \"0.0.0.0:{port}\"");
    }
    "it must be an IP address and a port, as in \"127.0.0.1:8080\" or \"[::1]:8080\"".to_owned()
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The value as it may be shown; `None` for lists and tables, and for what could be a key put in the wrong place.
fn show(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) if looks_secret(text) => None,
        DeValue::String(text) => Some(format!("\"{}\"", printable(text))),
        DeValue::Integer(digits) => Some(printable(&digits.to_string()).into_owned()),
        DeValue::Float(digits) => Some(printable(digits.as_str()).into_owned()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Datetime(date) => Some(date.to_string()),
        DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// Keys of providers begin with `sk-` or are long runs without punctuation; nothing else in these files is.
pub(crate) fn looks_secret(text: &str) -> bool {
    let long = |run: &str| run.len() >= 28 && run.bytes().any(|b| b.is_ascii_digit());
    let runs = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'));
    text.contains("sk-") || text.to_ascii_lowercase().contains("bearer ") || runs.into_iter().any(long)
}

/// A name as TOML writes it: bare, or in quotes where it must be.
pub(super) fn key(name: &str) -> Cow<'_, str> {
    let bare = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    match bare {
        true if looks_secret(name) => "***".into(),
        true => printable(name),
        false if looks_secret(name) => "\"***\"".into(),
        false => format!("\"{}\"", printable(name)).into(),
    }
}

/// Without control characters, and not longer than [`MAX_SHOWN`].
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let long = text.chars().nth(MAX_SHOWN).is_some();
    if !long && !text.contains(|c: char| c.is_control() || c == '"' || c == '\\') {
        return text.into();
    }
    let mut shown: String = text.chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect();
    if long {
        shown.push('…');
    }
    shown.into()
}
