//! `rules/credentials-added.toml`: the credentials that were added through the API. The one file of the folder which the gateway
//! writes: it appends a `[[credential]]` for each, and takes out what it is told to. All else in it stays byte for byte, so that
//! people may edit it too. Their keys are in the gateway's store.

use toml::{Table, Value};

use crate::config::Problems;

use super::{CredentialLimits, Live, NotRewritten};

/// The file, in the rules folder.
pub const FILE: &str = "credentials-added.toml";

/// What each entry begins with.
const HEAD: &str = "[[credential]]";

/// The first lines of a new file.
const INTRODUCTION: &str = "\
# Credentials added through the API (`tollgate credentials add`). Their keys are sealed in the gateway's store.
# The gateway appends to this file and takes out what `tollgate credentials remove` names; edit it if you like.
";

/// A credential to be added.
#[derive(Clone, Debug)]
pub struct Added<'a> {
    /// Its provider.
    pub provider: &'a str,
    /// Its name there.
    pub name: &'a str,
    /// The name of its key in the store.
    pub stored: &'a str,
    /// Its share, if it is not 1.
    pub weight: Option<u32>,
    /// Its tags.
    pub tags: &'a [String],
    /// Its limits.
    pub limits: CredentialLimits,
}

impl Live {
    /// Adds a credential and puts it in force, or changes nothing. Blocking.
    pub fn add_credential(&self, added: &Added<'_>) -> Result<Problems, NotRewritten> {
        self.rewrite(FILE, |text| Ok(append(text, added)))
    }

    /// Takes a credential out which stands in that file, or changes nothing. Blocking.
    pub fn remove_credential(&self, provider: &str, name: &str) -> Result<Problems, NotRewritten> {
        self.rewrite(FILE, |text| without(text, provider, name).ok_or(NotRewritten::Missing))
    }
}

fn append(text: &str, added: &Added<'_>) -> String {
    let quoted = |text: &str| Value::from(text).to_string();
    let mut lines = vec![
        HEAD.to_owned(),
        format!("provider = {}", quoted(added.provider)),
        format!("name = {}", quoted(added.name)),
        format!("key = {}", quoted(&format!("store:{}", added.stored))),
    ];
    lines.extend(added.weight.map(|weight| format!("weight = {weight}")));
    if !added.tags.is_empty() {
        lines.push(format!("tags = {}", Value::from(added.tags.to_vec())));
    }
    let CredentialLimits {
        requests_per_minute,
        tokens_per_minute,
        concurrent,
    } = added.limits;
    let limits: Vec<String> = [
        ("requests_per_minute", requests_per_minute),
        ("tokens_per_minute", tokens_per_minute),
        ("concurrent", concurrent.map(u64::from)),
    ]
    .into_iter()
    .filter_map(|(name, limit)| Some(format!("{name} = {}", limit?)))
    .collect();
    if !limits.is_empty() {
        lines.push(format!("limits = {{ {} }}", limits.join(", ")));
    }
    let before = if text.is_empty() { INTRODUCTION } else { text };
    let end = if before.ends_with('\n') { "" } else { "\n" };
    format!("{before}{end}\n{}\n", lines.join("\n"))
}

/// The text without the entry. `None`: there is none, or its lines can't be told from others.
fn without(text: &str, provider: &str, name: &str) -> Option<String> {
    let mut starts = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if line.trim_end() == HEAD {
            starts.push(at);
        }
        at += line.len();
    }
    let is_it = |entry: &Value| {
        let field = |name| entry.get(name).and_then(Value::as_str);
        field("provider") == Some(provider) && field("name") == Some(name)
    };
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let (start, end) = starts.iter().copied().zip(ends).find(|(start, end)| {
        let entries = entries(&text[*start..*end]);
        entries.is_some_and(|entries| matches!(&*entries, [entry] if is_it(entry)))
    })?;
    let rest = format!("{}{}", text[..start].trim_end(), "\n\n") + &text[end..];
    let rest = rest.trim_end().to_owned() + "\n";
    // A line within a text of several lines may look like a head: what is left must be all but this one.
    let mut expected = entries(text)?;
    expected.retain(|entry| !is_it(entry));
    (entries(&rest)? == expected).then_some(rest)
}

/// The credentials of a text; `None`: it is not TOML.
fn entries(text: &str) -> Option<Vec<Value>> {
    let mut table: Table = text.parse().ok()?;
    match table.remove("credential") {
        None => Some(Vec::new()),
        Some(Value::Array(entries)) => Some(entries),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::clock::Clock;
    use crate::config::Secret;
    use crate::rules::environment::Environment;

    fn added<'a>(provider: &'a str, name: &'a str, stored: &'a str) -> Added<'a> {
        Added {
            provider,
            name,
            stored,
            weight: None,
            tags: &[],
            limits: CredentialLimits::default(),
        }
    }

    #[test]
    fn what_is_appended_is_taken_out_and_the_rest_stays() {
        let tags = ["gold".to_owned(), "a\"b".to_owned()];
        let one = append("", &added("p", "one", "p.one"));
        let full = Added {
            weight: Some(3),
            tags: &tags,
            limits: CredentialLimits {
                requests_per_minute: Some(60),
                tokens_per_minute: None,
                concurrent: Some(4),
            },
            ..added("p", "two", "p.two")
        };
        let two = append(&one, &full);
        let parsed = entries(&two).unwrap();
        assert_eq!(parsed.len(), 2);
        assert_eq!(parsed[1]["key"].as_str(), Some("store:p.two"));
        assert_eq!(parsed[1]["tags"][1].as_str(), Some("a\"b"));
        assert_eq!(parsed[1]["limits"]["concurrent"].as_integer(), Some(4));
        let three = append(&two, &added("q", "one", "q.one"));
        assert_eq!(without(&three, "q", "one").unwrap(), two);
        assert_eq!(without(&two, "p", "two").unwrap(), one);
        assert_eq!(without(&three, "p", "three"), None);
        let middle = without(&three, "p", "two").unwrap();
        assert_eq!(middle, append(&one, &added("q", "one", "q.one")));
        assert_eq!(entries(&without(&one, "p", "one").unwrap()).unwrap(), [] as [Value; 0]);
    }

    #[test]
    fn other_peoples_lines_stay_and_what_is_unclear_is_refused() {
        let edited = "# mine\n[[credential]] # not a head as we write it\nprovider = \"p\"\nname = \"x\"\n";
        let text = append(edited, &added("p", "one", "p.one"));
        assert!(text.starts_with(edited));
        assert_eq!(without(&text, "p", "x"), None, "its lines are not clear");
        assert_eq!(without(&text, "p", "one").unwrap(), edited);
        let text = "[[credential]]\nprovider = \"p\"\nname = \"x\"\nnote = \"\"\"\n[[credential]]\nprovider = \"p\"\nname = \"y\"\n\"\"\"\n";
        assert_eq!(without(text, "p", "x"), None, "a head within a text");
        assert_eq!(without(text, "p", "y"), None);
    }

    /// A store of secrets.
    struct Stored(HashMap<&'static str, &'static str>);

    impl Environment for Stored {
        fn raw(&self, _: &str) -> Option<std::ffi::OsString> {
            None
        }

        fn stored(&self, name: &str) -> Result<Secret, String> {
            self.0
                .get(name)
                .map(|text| Secret::new(*text))
                .ok_or_else(|| format!("no {name}"))
        }
    }

    #[test]
    fn a_credential_is_in_force_or_nothing_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let provider = "[provider.p]\ndialects = { openai_chat = \"https://api.example.com/v1\" }\n";
        std::fs::write(path.join("a.toml"), format!("{provider}auth = \"none\"\n")).unwrap();
        let clock = Clock::system();
        let stored = || Stored([("p.one", "the-first-key"), ("p.two", "the-second-key")].into());
        let (rules, _) = crate::rules::compile_with(path, &clock, &stored()).unwrap();
        let live = Live::with(path.to_owned(), rules, clock, Box::new(stored()));
        let file = path.join(FILE);
        let refused = live.add_credential(&added("p", "one", "p.one"));
        assert!(
            matches!(refused, Err(NotRewritten::Refused(_))),
            "it wants no key: {refused:?}"
        );
        assert!(!file.exists());
        // A credential that stands in another file is one of its provider's.
        std::fs::write(path.join("a.toml"), provider).unwrap();
        live.add_credential(&added("p", "one", "p.one")).unwrap();
        live.add_credential(&added("p", "two", "p.two")).unwrap();
        let names = || -> Vec<(String, bool)> {
            let rules = live.load();
            let credentials = &rules.provider("p").unwrap().credentials;
            credentials
                .iter()
                .map(|one| (one.name.to_string(), one.secret.is_some()))
                .collect()
        };
        assert_eq!(names(), [("one".to_owned(), true), ("two".to_owned(), true)]);
        assert_eq!(
            live.load().stored.iter().map(|name| &**name).collect::<Vec<_>>(),
            ["p.one", "p.two"]
        );
        let before = std::fs::read_to_string(&file).unwrap();
        for bad in [
            added("p", "two", "p.two"),
            added("q", "one", "p.one"),
            added("p", "Three", "p.one"),
        ] {
            let refused = live.add_credential(&bad);
            assert!(matches!(refused, Err(NotRewritten::Refused(_))), "{refused:?}");
            assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
        }
        assert!(matches!(
            live.remove_credential("p", "three"),
            Err(NotRewritten::Missing)
        ));
        live.remove_credential("p", "one").unwrap();
        assert_eq!(names(), [("two".to_owned(), true)]);
        assert!(live.reload_if_changed().is_none(), "what it wrote itself is no news");
        // Half-written rules of somebody else: a secret that changed counts at once, an addition has to wait.
        std::fs::write(path.join("b.toml"), "[[").unwrap();
        assert!(matches!(
            live.add_credential(&added("p", "one", "p.one")),
            Err(NotRewritten::Refused(_))
        ));
        assert!(live.refresh().is_ok());
        assert_eq!(names(), [("two".to_owned(), true)]);
        let left: Vec<_> = std::fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(left.len(), 3, "nothing half-written stays: {left:?}");
    }
}
