//! Base URLs of providers: `https://api.example.com/accounts/${ACCOUNT_ID}/v1`.

use url::Url;

use crate::config::reference::is_variable;
use crate::config::value::Value;

use super::environment::Environment;

/// Longest base URL, filled in.
const MAX_URL: usize = 2048;

/// A base URL, or why it can't be had now (an environment variable is missing). `None`: the text is wrong, and reported.
pub(super) fn base(value: &Value<'_>, environment: &dyn Environment) -> Option<Result<Url, String>> {
    let template = value.string()?;
    // What stands between `//` and `@` is a password.
    let value = match template.contains('@') || template.contains('?') {
        true => value.clone().secret(),
        false => value.clone(),
    };
    let filled = fill(template, environment);
    let example = match &filled {
        Ok(filled) if filled.whole => filled.text.clone(),
        Ok(filled) => match read(&filled.text) {
            Ok(url) => return Some(Ok(url)),
            // The variable may hold a secret, so that the words of the error are not told.
            Err(_) if read(&filled.example).is_ok() || filled.first => {
                let names = filled.names.join(" and ");
                return Some(Err(format!(
                    "the URL is not valid with the environment's value of {names}"
                )));
            }
            Err(_) => filled.example.clone(),
        },
        Err(Unfilled::Missing { reason, example, first }) => match read(example) {
            Err(why) if !first => {
                value.problem(why);
                return None;
            }
            _ => return Some(Err(reason.clone())),
        },
        Err(Unfilled::Malformed(why)) => {
            value.problem(why.clone());
            return None;
        }
    };
    match read(&example) {
        Ok(url) => Some(Ok(url)),
        Err(why) => {
            value.problem(why);
            None
        }
    }
}

/// A template with its variables filled in.
struct Filled {
    text: String,
    /// With `x` for each variable.
    example: String,
    names: Vec<String>,
    /// There was no variable in it.
    whole: bool,
    /// The text begins with a variable, which may hold scheme and host.
    first: bool,
}

enum Unfilled {
    Missing {
        reason: String,
        example: String,
        first: bool,
    },
    Malformed(String),
}

fn fill(template: &str, environment: &dyn Environment) -> Result<Filled, Unfilled> {
    let malformed = |why: &str| Err(Unfilled::Malformed(why.to_owned()));
    let (mut text, mut example, mut names) = (String::new(), String::new(), Vec::new());
    let mut missing = None;
    let mut rest = template;
    while let Some(at) = rest.find("${") {
        text.push_str(&rest[..at]);
        example.push_str(&rest[..at]);
        let Some((name, after)) = rest[at + 2..].split_once('}') else {
            return malformed("the } after ${ is missing; write it as ${NAME}");
        };
        if !is_variable(name) {
            return malformed("between ${ and } stands the name of an environment variable: letters, digits and _");
        }
        match environment.get(name) {
            Ok(filling) => text.push_str(&filling),
            Err(reason) => missing = missing.or(Some(reason)),
        }
        example.push('x');
        names.push(name.to_owned());
        rest = after;
    }
    text.push_str(rest);
    example.push_str(rest);
    let first = template.starts_with("${");
    match missing {
        Some(reason) => Err(Unfilled::Missing { reason, example, first }),
        None => Ok(Filled {
            whole: names.is_empty(),
            text,
            example,
            names,
            first,
        }),
    }
}

/// Scheme, host, port and path; nothing else. The path loses the slash at its end.
fn read(text: &str) -> Result<Url, String> {
    const EXAMPLE: &str = "write it as \"https://api.example.com/v1\"";
    if text.len() > MAX_URL {
        return Err(format!("it is longer than {MAX_URL} bytes"));
    }
    if text.trim() != text || text.contains(char::is_control) {
        return Err("it has white space around it or control characters in it; remove them".to_owned());
    }
    let mut url = Url::parse(text).map_err(|error| format!("it is not a URL ({error}); {EXAMPLE}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!(
            "the scheme must be https (or http, for providers of your own); {EXAMPLE}"
        ));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a base URL has no user or password; give the provider a credential instead".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(
            "a base URL has no ? or # part; a key in it belongs into a credential, a version into the path".to_owned(),
        );
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(format!("the host is missing; {EXAMPLE}"));
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}
