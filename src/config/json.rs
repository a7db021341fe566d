//! Values of a file as JSON, for what is handed on to providers as it stands.

use serde_json::{Map, Number, Value as Json};
use toml::de::DeValue;

use super::fields::Context;

/// Deepest nesting that is taken over.
pub const MAX_DEPTH: usize = 16;

/// The JSON of a value; an error says what JSON can't hold. Numbers keep their digits: a fraction becomes the nearest
/// double, which prints as it was written. Tables are in the order of the file.
pub(super) fn of(value: &DeValue<'_>, depth: usize) -> Result<Json, String> {
    if depth > MAX_DEPTH {
        return Err(format!("it is nested more than {MAX_DEPTH} levels deep"));
    }
    match value {
        DeValue::String(text) => Ok(Json::String(text.to_string())),
        DeValue::Boolean(value) => Ok(Json::Bool(*value)),
        DeValue::Integer(digits) => {
            let number = i128::from_str_radix(digits.as_str(), digits.radix()).ok();
            let number = number.and_then(|n| match u64::try_from(n) {
                Ok(n) => Some(Number::from(n)),
                Err(_) => i64::try_from(n).ok().map(Number::from),
            });
            number
                .map(Json::Number)
                .ok_or_else(|| "the number is too large".to_owned())
        }
        DeValue::Float(digits) => {
            let number = digits.as_str().parse().ok().and_then(Number::from_f64);
            number
                .map(Json::Number)
                .ok_or_else(|| "JSON has no such number".to_owned())
        }
        DeValue::Datetime(_) => Err("JSON has no dates; write it in quotes".to_owned()),
        DeValue::Array(all) => {
            let all = all.iter().map(|value| of(value.get_ref(), depth + 1));
            all.collect::<Result<_, _>>().map(Json::Array)
        }
        DeValue::Table(table) => {
            let mut entries: Vec<_> = table.iter().collect();
            entries.sort_by_key(|(key, _)| key.span().start);
            let entries = entries
                .into_iter()
                .map(|(key, value)| Ok((key.get_ref().to_string(), of(value.get_ref(), depth + 1)?)));
            entries.collect::<Result<Map<_, _>, String>>().map(Json::Object)
        }
    }
}

/// Whether a table that stands at this byte was made by a dotted key (`a.b = 1`), and not by braces or a header of its
/// own: only the path was meant then, and not the table as a whole.
pub(super) fn is_dotted(context: &Context<'_>, at: usize) -> bool {
    let text = &context.source.text;
    !matches!(text.as_bytes().get(at), Some(b'{' | b'['))
}
