//! Whatever stands in the files: problems, never a panic.

use proptest::prelude::*;
use tollgate::config::source::{Report, Source};
use tollgate::config::{Problems, load};

use super::Folder;

/// Real files, to be spoiled.
const CONF: &str = include_str!("../../conf/tollgate.toml");
const PROVIDERS: &str = include_str!("../../rules/10-providers.toml");
const ROUTES: &str = include_str!("../../rules/20-routes.toml");

/// What the examples leave out.
const EVERYTHING: &str = r#"
[[provider.openai.credential]]
name = "second"
key = "env:OPENAI_API_KEY"
tags = ["eu"]
limits = { requests_per_minute = 5, concurrent = 2 }
proxy = { url = "socks5://[::1]:1080", user = "u", password = "env:OPENAI_API_KEY" }
bind = "192.0.2.7"
[[route]]
name = "everything"
model = ["x-*", "[ab]c", "{d,e}?"]
when = { dialect = "gemini", key = "k*", header = { x-a = "b" }, client = ["10.0.0.0/8"], percent = 2.5, percent_by = "key", time = { zone = "Asia/Tokyo", days = ["mon"] } }
targets = [{ provider = "openai", tags = "eu", set = { a.b = 1, c = { d = [1.5, true] } } }]
fallback_on = { overloaded = [{ provider = "gemini" }] }
remove = ["user"]
[[model]]
name = "m"
context = 5
[[price]]
name = "m"
input = 0.25
output = 2
"#;

/// Pieces which mean something to the parser or to us.
const PIECES: [&str; 24] = [
    "\"",
    "'",
    "\"\"\"",
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    ".",
    ",",
    "\n",
    "\0",
    "\u{feff}",
    "é",
    "-1",
    "1e999",
    "0xffffffffffffffffffffffff",
    "nan",
    "1979-05-27",
    "${",
    "999999999999h",
    "provider",
];

/// One edit: cut bytes away, or put a piece in, or write a line twice.
#[derive(Clone, Debug)]
enum Edit {
    Cut(f64, usize),
    Put(f64, usize),
    Double(f64),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (0.0..1.0, 1..40_usize).prop_map(|(at, length)| Edit::Cut(at, length)),
        (0.0..1.0, 0..PIECES.len()).prop_map(|(at, piece)| Edit::Put(at, piece)),
        (0.0..1.0).prop_map(Edit::Double),
    ]
}

/// The first character border at or after a share of the text.
fn border(text: &str, share: f64) -> usize {
    let at = (text.len() as f64 * share) as usize;
    (at..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap()
}

fn spoil(text: &str, edits: &[Edit]) -> String {
    let mut text = text.to_owned();
    for edit in edits {
        match *edit {
            Edit::Cut(share, length) => {
                let from = border(&text, share);
                let to = (from + length..=text.len())
                    .find(|at| text.is_char_boundary(*at))
                    .unwrap_or(text.len());
                text.replace_range(from..to, "");
            }
            Edit::Put(share, piece) => text.insert_str(border(&text, share), PIECES[piece]),
            Edit::Double(share) => {
                let at = border(&text, share);
                let from = text[..at].rfind('\n').map_or(0, |n| n + 1);
                let to = text[from..].find('\n').map_or(text.len(), |n| from + n + 1);
                let line = text[from..to].to_owned();
                text.insert_str(from, &line);
            }
        }
    }
    text
}

/// Every problem can be shown, and points into its file.
fn sound(problems: &Problems, text: &str) {
    for problem in problems {
        assert!(!problem.what.is_empty() && !problem.help.is_empty());
        assert!(problem.line <= text.lines().count() + 1, "{problem}");
        assert!(!problem.to_string().contains('\0'));
    }
}

fn configuration(text: &str) {
    let report = Report::default();
    let source = Source::new("tollgate.toml", text);
    load::read_source(&source, &report);
    sound(&report.into_problems(&[]), text);
}

fn rules(text: &str) {
    let folder = Folder::with(&[("a.toml", text)]);
    let (Ok((_, problems)) | Err(problems)) =
        folder.compile(&[("OPENAI_API_KEY", "k"), ("CLOUDFLARE_ACCOUNT_ID", "x")]);
    sound(&problems, text);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_spoilt_configuration_never_panics(edits in proptest::collection::vec(edit(), 1..6)) {
        configuration(&spoil(CONF, &edits));
    }

    #[test]
    fn spoilt_rules_never_panic(edits in proptest::collection::vec(edit(), 1..6)) {
        rules(&spoil(&format!("{PROVIDERS}\n{ROUTES}"), &edits));
    }

    #[test]
    fn spoilt_examples_never_panic(edits in proptest::collection::vec(edit(), 1..6)) {
        let examples = super::shipped::examples("rules/20-routes.toml");
        rules(&spoil(&format!("{PROVIDERS}\n{examples}\n{EVERYTHING}"), &edits));
    }

    #[test]
    fn any_text_never_panics(text in "\\PC{0,200}") {
        configuration(&text);
        rules(&text);
    }

    #[test]
    fn any_value_never_panics(key in "[a-z_.]{1,20}", piece in 0..PIECES.len(), text in "[ -~]{0,30}") {
        let value = PIECES[piece];
        for line in [format!("{key} = {value}"), format!("{key} = {value:?}"), format!("{key} = {text:?}"), format!("[{key}]\n{text}")] {
            configuration(&line);
            rules(&line);
        }
    }
}

#[test]
fn deep_nesting_is_refused_and_not_overflowed() {
    let deep = format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000));
    configuration(&deep);
    rules(&deep);
    let dotted = format!("{} = 1", vec!["a"; 100_000].join("."));
    configuration(&dotted);
    let tables = format!("[{}]\n", vec!["a"; 100_000].join("."));
    configuration(&tables);
    rules(&format!("a = {}{}", "{ a = ".repeat(100_000), "}".repeat(100_000)));
    rules(&format!("[[route]]\nset.{dotted}\n"));
    rules(&format!("[[route]]\nset = {{ {dotted} }}\n"));
}
