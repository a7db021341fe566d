//! `rules/*.toml`: what is compiled, and what concerns several files.

use std::time::Duration;

use tollgate::rules::{Auth, HttpVersions, StreamUsage};

use super::routes::route;
use super::{Folder, PROVIDER};

const ENVIRONMENT: &[(&str, &str)] = &[
    ("KEY", " k-1 \n"),
    ("EMPTY", " "),
    ("BAD", "two words"),
    ("HOST", "h.example"),
];

fn problems_of(files: &[(&str, &str)]) -> String {
    let folder = Folder::with(files);
    match folder.compile(ENVIRONMENT) {
        Ok((_, warnings)) => folder.show(&warnings),
        Err(problems) => folder.show(&problems),
    }
}

/// `text` in a file alone, whose name is left out of what is expected.
#[track_caller]
pub(super) fn says(text: &str, expected: &str) {
    let told = problems_of(&[("r.toml", text)]).replace("r.toml:", "");
    assert_eq!(told, expected, "for:\n{text}");
}

/// A provider wanting a key, with a credential whose lines are these; they begin at line 4.
pub(super) fn credential(lines: &str) -> String {
    format!("[provider.a]\ndialects = {{ openai_chat = \"http://a/v1\" }}\n[[provider.a.credential]]\n{lines}\n")
}

#[test]
fn a_provider_as_the_product_shows_it() {
    let folder = Folder::with(&[(
        "a.toml",
        r#"
        [provider.deepseek]
        dialects = { openai_chat = "https://api.deepseek.com/v1/", anthropic = "https://${HOST}/x/${HOST}" }
        connect_to = ["203.0.113.7:443"]
        headers = { HTTP-Referer = "https://example.com" }
        stream_usage = "never"
        http = "2"
        auth = { header = "X-Api-Key" }
        timeouts = { connect = "3s", total = "30m" }
        [[provider.deepseek.credential]]
        name = "main"
        key = "env:KEY"
        weight = 3
        [[provider.deepseek.credential]]
        name = "other"
        key = "env:UNSET"
        "#,
    )]);
    let (rules, warnings) = folder.compile(ENVIRONMENT).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(rules.loaded_at.0, 7);
    let p = rules.provider("deepseek").unwrap();
    let bases: Vec<_> = p
        .bases
        .iter()
        .map(|b| (b.dialect.as_str(), b.url.as_ref().unwrap().as_str()))
        .collect();
    assert_eq!(
        bases,
        [
            ("openai_chat", "https://api.deepseek.com/v1"),
            ("anthropic", "https://h.example/x/h.example")
        ],
        "in the order written, no slash at the end, variables filled in"
    );
    assert_eq!(p.connect_to, ["203.0.113.7:443".parse().unwrap()]);
    assert_eq!(p.headers[0].0.as_str(), "http-referer");
    assert_eq!((p.stream_usage, p.http), (StreamUsage::Never, HttpVersions::H2));
    assert_eq!(p.auth, Some(Auth::Header("x-api-key".parse().unwrap())));
    assert_eq!(p.timeouts.connect, Some(Duration::from_secs(3)));
    assert_eq!(
        (p.timeouts.idle, p.timeouts.total),
        (None, Some(Duration::from_secs(1800)))
    );
    let c = &p.credentials;
    assert_eq!((c[0].weight, c[0].secret.as_ref().unwrap().expose()), (3, "k-1"));
    assert_eq!(c[1].weight, 1);
    assert_eq!(
        c[1].inactive.as_deref(),
        Some("the environment variable UNSET is not set")
    );
    assert_eq!(p.inactive, None, "one credential is enough");
    assert!(!format!("{rules:?}").contains("k-1"), "secrets are not printed");
}

#[test]
fn defaults_of_a_provider() {
    let folder = Folder::with(&[(
        "a.toml",
        "[provider.tls]\ndialects = { openai_chat = \"https://a\" }\nauth = \"none\"\n\
         [provider.plain]\ndialects = { openai_chat = \"http://sandbox.internal/v1\" }\nauth = \"none\"\n",
    )]);
    let (rules, _) = folder.compile(&[]).unwrap();
    let names: Vec<&str> = rules.providers.iter().map(|p| &*p.name).collect();
    assert_eq!(names, ["tls", "plain"], "in the order of the file");
    assert_eq!(rules.providers[0].http, HttpVersions::Both);
    assert_eq!(rules.providers[1].http, HttpVersions::H1);
    assert_eq!(rules.providers[0].stream_usage, StreamUsage::Ask);
    assert!(
        rules
            .providers
            .iter()
            .all(|p| p.inactive.is_none() && p.credentials.is_empty())
    );
}

#[test]
fn what_is_inactive_and_why() {
    let inactive = |lines: &str| {
        let folder = Folder::with(&[("a.toml", &credential(lines))]);
        let (rules, warnings) = folder.compile(ENVIRONMENT).unwrap();
        assert_eq!(warnings, []);
        folder.show(&vec![tollgate::config::Problem::of_file(
            "",
            rules.providers[0].inactive.clone().unwrap(),
            "",
        )])
    };
    for (key, reason) in [
        ("env:UNSET", "the environment variable UNSET is not set"),
        ("env:EMPTY", "the environment variable EMPTY is empty"),
        (
            "env:BAD",
            "the environment variable BAD holds more than a key: there are characters in it which no header can carry",
        ),
        (
            "file:/nonexistent/k",
            "the file /nonexistent/k can't be read: it does not exist",
        ),
    ] {
        let told = inactive(&format!("name = \"m\"\nkey = \"{key}\""));
        assert_eq!(told.trim(), reason, "{key}");
    }
    let folder = Folder::new();
    let key = folder.write("key", "f-1\n");
    folder.write(
        "a.toml",
        credential(&format!("name = \"m\"\nkey = \"file:{}\"", key.display())),
    );
    let (rules, _) = folder.compile(&[]).unwrap();
    assert_eq!(
        rules.providers[0].credentials[0].secret.as_ref().unwrap().expose(),
        "f-1"
    );
}

#[test]
fn a_base_with_an_unset_variable_is_no_base() {
    let text = "[provider.a]\nauth = \"none\"\n\
                dialects = { openai_chat = \"https://a/${UNSET}\", anthropic = \"${HOST}/v1\" }\n";
    let folder = Folder::with(&[("a.toml", text)]);
    let (rules, _) = folder.compile(ENVIRONMENT).unwrap();
    let p = &rules.providers[0];
    assert!(p.bases.iter().all(|b| b.url.is_none()));
    assert_eq!(
        p.inactive.as_deref(),
        Some("the environment variable UNSET is not set; the URL is not valid with the environment's value of HOST"),
        "the value is not told"
    );
}

#[test]
fn duplicates_over_files_name_both_places() {
    let route = "[[route]]\nname = \"r\"\nmodel = \"m\"\ntargets = [{ provider = \"a\" }]\n";
    assert_eq!(
        problems_of(&[
            ("1.toml", &format!("{PROVIDER}{route}")),
            ("2.toml", &format!("\n{}{PROVIDER}", route.replace("\"m\"", "\"n\""))),
        ]),
        "2.toml:3  route[0].name = \"r\"\n    there is another route of this name at 1.toml:5. Rename or remove one of \
         them.\n\
         2.toml:6  provider.a\n    there is another provider of this name at 1.toml:1. Rename or remove one of them.\n"
    );
}

#[test]
fn a_file_with_a_syntax_error_does_not_put_the_blame_on_others() {
    assert_eq!(
        problems_of(&[
            (
                "1.toml",
                "[provider.b]\ndialects = { openai_chat = http://a }\nauth = \"none\"\n"
            ),
            (
                "2.toml",
                &route("name = \"r\"\nmodel = \"m\"\ntargets = [{ provider = \"b\" }, { provider = \"c\" }]"),
            ),
        ]),
        "1.toml:2  this is not TOML\n    string values must be quoted, expected literal string\n\
         2.toml:7  route \"r\": targets[1].provider = \"c\"\n    no provider has this name.   (defined: b, a)\n"
    );
}

#[test]
fn ten_mistakes_in_three_files_are_ten_problems() {
    let folder = Folder::with(&[
        (
            "1.toml",
            "[provider.a]\ndialects = { openai_caht = \"http://a\" }\nauth = \"non\"\nhttp = 2\n\
             [[provider.a.credential]]\nname = \"Main\"\nkey = \"hunter2\"\nweight = 1001\n",
        ),
        ("2.toml", "[provider.b\n"),
        (
            "3.toml",
            "[[route]]\nname = \"r\"\nmodel = \"[\"\ntargets = [{ provider = \"c\" }]\ntimeouts.idle = \"1\"\n",
        ),
    ]);
    let problems = folder.compile(&[]).unwrap_err();
    assert_eq!(problems.len(), 10, "{}", folder.show(&problems));
    let places: Vec<(&str, usize)> = problems
        .iter()
        .map(|p| (p.file.file_name().unwrap().to_str().unwrap(), p.line))
        .collect();
    let mut sorted = places.clone();
    sorted.sort();
    assert_eq!(places, sorted, "in the order of files and lines");
}

#[test]
fn folders_that_are_none() {
    let folder = Folder::new();
    let (rules, _) = folder.compile(&[]).unwrap();
    assert!(
        rules.providers.is_empty() && rules.routes.is_empty(),
        "an empty folder is no mistake"
    );
    let missing = folder.path().join("none");
    let clock = tollgate::clock::Clock::system();
    assert_eq!(
        folder.show(&tollgate::rules::compile(&missing, &clock).unwrap_err()),
        "none  the rules folder can't be read\n    there is no such folder. Make it, or name another as `rules` in the \
         configuration.\n"
    );
    folder.write(".#a.toml", "not toml");
    folder.write("a.toml~", "not toml");
    folder.write("README.md", "not toml");
    assert!(folder.compile(&[]).is_ok(), "other files are left alone");
    folder.write("latin.toml", b"\xe9");
    std::fs::create_dir(folder.path().join("dir.toml")).unwrap();
    assert_eq!(
        folder.show(&folder.compile(&[]).unwrap_err()),
        "dir.toml  can't be read\n    it is not a file\n\
         latin.toml:1  can't be read\n    it is not UTF-8 here; save it in that encoding\n"
    );
}

#[test]
fn too_many_files() {
    let folder = Folder::new();
    for n in 0..1001 {
        folder.write(&format!("{n}.toml"), "");
    }
    assert_eq!(
        folder.show(&folder.compile(&[]).unwrap_err()),
        "FOLDER  1001 files\n    there may be 1000 at most; join some of them\n"
    );
}

#[test]
fn the_digest_tells_states_apart() {
    let digest = |files: &[(&str, &str)]| Folder::with(files).compile(&[]).map(|(rules, _)| rules.digest).unwrap();
    assert_ne!(digest(&[("a.toml", "# 1")]), digest(&[("a.toml", "# 2")]));
    let folder = Folder::with(&[("a.toml", "# 1"), ("b.toml", "# 2")]);
    let before = folder.compile(&[]).unwrap().0.digest;
    assert_eq!(folder.compile(&[]).unwrap().0.digest, before);
    folder.write("a.toml", "# 1#");
    folder.write("b.toml", " 2");
    assert!(folder.compile(&[]).is_err());
    folder.write("b.toml", "# 2");
    assert_ne!(folder.compile(&[]).unwrap().0.digest, before);
}
