//! Where a client's key may stand: in one of four places, in exactly one of them.

use std::borrow::Cow;

use http::{HeaderMap, header};
use percent_encoding::percent_decode_str;

use crate::ir::{ApiError, ErrorKind};

/// Query parameters which are never passed on: the key, in Google's way.
const KEY_PARAMETER: &str = "key";

/// The key a request presents, and its query without it.
#[derive(Debug, PartialEq, Eq)]
pub struct Presented<'a> {
    /// The key; `None`: there is none.
    pub key: Option<Cow<'a, [u8]>>,
    /// The query without the key.
    pub query: Cow<'a, str>,
}

/// Finds the key in `Authorization: Bearer`, `x-api-key`, `x-goog-api-key` or `?key=`. Two are refused: which of them
/// counts would be a guess.
pub fn presented<'a>(headers: &'a HeaderMap, query: &'a str) -> Result<Presented<'a>, ApiError> {
    let mut keys: Vec<Cow<'a, [u8]>> = Vec::with_capacity(1);
    for value in headers.get_all(header::AUTHORIZATION) {
        let value = value.as_bytes();
        match value.split_at_checked(7) {
            Some((scheme, key)) if scheme.eq_ignore_ascii_case(b"bearer ") => keys.push(key.trim_ascii().into()),
            _ => {
                return Err(ApiError::new(
                    ErrorKind::Authentication,
                    "the Authorization header must be `Bearer <key>`",
                )
                .code("invalid_api_key"));
            }
        }
    }
    for name in ["x-api-key", "x-goog-api-key"] {
        keys.extend(
            headers
                .get_all(name)
                .iter()
                .map(|value| Cow::from(value.as_bytes().trim_ascii())),
        );
    }
    let query = if query.is_empty() {
        Cow::Borrowed(query)
    } else {
        let is_key = |pair: &str| pair.split('=').next() == Some(KEY_PARAMETER);
        let values = query
            .split('&')
            .filter(|pair| is_key(pair))
            .map(|pair| pair.split_once('=').map_or("", |(_, value)| value));
        keys.extend(values.map(|value| Cow::from(percent_decode_str(value).collect::<Vec<u8>>())));
        if query.split('&').any(is_key) {
            query
                .split('&')
                .filter(|pair| !is_key(pair))
                .collect::<Vec<_>>()
                .join("&")
                .into()
        } else {
            Cow::Borrowed(query)
        }
    };
    if keys.len() > 1 {
        return Err(ApiError::new(ErrorKind::InvalidRequest, "more than one key was sent; send it in one place: Authorization: Bearer, x-api-key, x-goog-api-key or ?key=").code("multiple_api_keys"));
    }
    Ok(Presented {
        key: keys.pop().filter(|key| !key.is_empty()),
        query,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(headers: &[(&'static str, &'static str)], query: &str) -> Result<(Option<String>, String), u16> {
        let map: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        presented(&map, query)
            .map(|found| {
                (
                    found.key.map(|key| String::from_utf8(key.into_owned()).unwrap()),
                    found.query.into_owned(),
                )
            })
            .map_err(|error| error.status)
    }

    #[test]
    fn each_of_the_four_places_will_do() {
        for headers in [
            ("authorization", "Bearer k"),
            ("authorization", "bearer k"),
            ("x-api-key", "k"),
            ("x-goog-api-key", "k"),
        ] {
            assert_eq!(find(&[headers], "alt=sse"), Ok((Some("k".into()), "alt=sse".into())));
        }
        assert_eq!(
            find(&[], "alt=sse&key=k%2D1&beta=true"),
            Ok((Some("k-1".into()), "alt=sse&beta=true".into()))
        );
        assert_eq!(find(&[], "key=k"), Ok((Some("k".into()), String::new())));
    }

    #[test]
    fn two_keys_are_refused_and_none_is_none() {
        assert_eq!(find(&[("authorization", "Bearer k"), ("x-api-key", "k")], ""), Err(400));
        assert_eq!(find(&[("x-api-key", "k")], "key=k"), Err(400));
        assert_eq!(find(&[("authorization", "Basic abc")], ""), Err(401));
        assert_eq!(find(&[], "monkey=1"), Ok((None, "monkey=1".into())));
        assert_eq!(find(&[("x-api-key", "")], ""), Ok((None, String::new())));
    }
}
