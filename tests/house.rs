//! Is everything in its room? Reads the sources: who imports whom, whose names stand where, how long files are.
//! The rules are drawn in `src/ARCHITECTURE.md`.

use std::fs;
use std::path::{Path, PathBuf};

/// Longest file, in lines, before it is to be split by content.
const MAX_LINES: usize = 600;

/// A source file: its path below `src/`, its text without its tests.
struct Source {
    path: String,
    room: String,
    code: String,
    lines: usize,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > 50, "the sources were not found: {}", files.len());
    let read = |file: PathBuf| {
        let text = fs::read_to_string(&file).unwrap();
        let path = file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        let room = path
            .split_once('/')
            .map_or_else(|| path.trim_end_matches(".rs").to_owned(), |(room, _)| room.to_owned());
        // Test modules stand at the end of a file, or in a `tests.rs` of their own.
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let code = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect::<Vec<_>>()
            .join("\n");
        Source {
            lines: text.lines().count(),
            path,
            room,
            code,
        }
    };
    files
        .into_iter()
        .map(read)
        .filter(|source| !source.path.ends_with("tests.rs") && !source.path.contains("/tests/"))
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            // Stand-ins for other crates are not of this house.
            if path.file_name().unwrap() != "patches" {
                collect(&path, files);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn report(rule: &str, broken: Vec<String>) {
    assert!(broken.is_empty(), "{rule}\n  {}", broken.join("\n  "));
}

/// Rooms and the rooms they may name. `cli` and `app` stand above all others.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("clock", &[]),
    ("random", &[]),
    ("watch", &[]),
    ("ids", &["clock", "random"]),
    ("ir", &[]),
    ("sse", &[]),
    ("money", &["ir", "clock"]),
    ("dialects", &["ir", "sse", "clock"]),
    ("translate", &["dialects", "ir", "sse"]),
    ("config", &["clock"]),
    ("rules", &["config", "clock", "ir", "dialects", "money", "watch"]),
    ("store", &["ids"]),
    ("keys", &["store", "clock", "ids", "config", "limits", "money"]),
    ("secrets", &["store", "keys", "clock", "config"]),
    ("ledger", &["store", "clock", "ids", "ir", "config", "limits", "money"]),
    ("limits", &["clock", "ids", "money"]),
    ("egress", &["config", "clock", "rules"]),
    (
        "upstream",
        &[
            "rules", "egress", "clock", "ir", "config", "observe", "dialects", "random", "limits", "money",
        ],
    ),
    (
        "routing",
        &["rules", "upstream", "dialects", "ir", "clock", "random", "money"],
    ),
    ("observe", &["config", "clock"]),
    ("upgrade", &["limits", "ledger", "clock"]),
    ("sandbox", &["dialects", "sse", "ir", "clock"]),
    (
        "alerts",
        &[
            "rules", "upstream", "egress", "ledger", "limits", "keys", "observe", "config", "clock", "ids", "money",
            "random",
        ],
    ),
    (
        "admin",
        &[
            "alerts", "keys", "limits", "ledger", "rules", "upstream", "egress", "store", "observe", "config", "clock",
            "ids", "ir", "money", "secrets",
        ],
    ),
    (
        "proxy",
        &[
            "translate",
            "dialects",
            "sse",
            "ir",
            "routing",
            "upstream",
            "egress",
            "keys",
            "limits",
            "ledger",
            "observe",
            "rules",
            "config",
            "clock",
            "ids",
            "random",
            "money",
        ],
    ),
];

#[test]
fn rooms_import_only_what_lies_below_them() {
    let mut broken = Vec::new();
    for source in sources() {
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(room, _)| *room == source.room) else {
            assert!(
                ["cli", "app", "lib", "main"].contains(&source.room.as_str()),
                "{} is in a room which the house does not know",
                source.path
            );
            continue;
        };
        for named in source.code.split("crate::").skip(1) {
            let room: String = named.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if room != source.room && !allowed.contains(&room.as_str()) {
                broken.push(format!("{} names crate::{room}", source.path));
            }
        }
    }
    report("a room may import only rooms below it (MAY_IMPORT)", broken);
}

#[test]
fn a_dialect_never_imports_another() {
    let folders = ["openai_chat", "openai_responses", "anthropic", "gemini"];
    let mut broken = Vec::new();
    for source in sources() {
        let Some(own) = folders
            .iter()
            .find(|folder| source.path.starts_with(&format!("dialects/{folder}/")))
        else {
            continue;
        };
        for other in folders.iter().filter(|other| *other != own) {
            if source.code.contains(&format!("{other}::")) {
                broken.push(format!("{} names {other}", source.path));
            }
        }
    }
    report("dialects are peers around the hub", broken);
}

#[test]
fn crates_stay_in_their_rooms() {
    let rules: &[(&str, &[&str], &str)] = &[
        (
            "pingora",
            &["proxy/", "egress/", "upstream/health", "app.rs", "app/", "limits/"],
            "Pingora's types stay in proxy, egress, the health checks and the root (its limits crate in limits)",
        ),
        ("sled", &["store/"], "only the store knows sled"),
        (
            "axum",
            &["admin/", "sandbox/", "observe/metrics.rs", "app/"],
            "HTTP of our own: admin, sandbox, metrics",
        ),
        ("anyhow", &["cli/", "main.rs"], "rooms have error types of their own"),
    ];
    let mut broken = Vec::new();
    for source in sources() {
        for (name, places, why) in rules {
            let names = [
                format!("{name}::"),
                format!("{name}_core::"),
                format!("{name}_proxy::"),
                format!("{name}_limits::"),
            ];
            if names.iter().any(|name| source.code.contains(name.as_str()))
                && !places.iter().any(|place| source.path.starts_with(place))
            {
                broken.push(format!("{} names {name}: {why}", source.path));
            }
        }
    }
    report("some crates have a room", broken);
}

#[test]
fn companies_are_named_only_where_their_wire_is_spoken() {
    let names = [
        "openai",
        "anthropic",
        "gemini",
        "deepseek",
        "openrouter",
        "siliconflow",
        "cloudflare",
        "claude",
        "codex",
    ];
    let mut broken = Vec::new();
    for source in sources() {
        // Whose clients' settings `tollgate env` tells is said where it tells them; what tables of prices call providers,
        // where they are read; whose invoices are which, where those are.
        if [
            "dialects/",
            "sandbox/",
            "cli/env/clients.rs",
            "cli/prices/known_as.rs",
            "cli/usage/invoice.rs",
        ]
        .iter()
        .any(|room| source.path.starts_with(room))
        {
            continue;
        }
        let code = source.code.to_lowercase();
        broken.extend(
            names
                .iter()
                .filter(|name| code.contains(*name))
                .map(|name| format!("{} names {name}", source.path)),
        );
    }
    report("adding a dialect or a provider touches one place", broken);
}

#[test]
fn pure_rooms_are_not_async() {
    let broken = sources()
        .into_iter()
        .filter(|source| ["ir", "sse", "dialects", "translate", "routing"].contains(&source.room.as_str()));
    let broken = broken.filter(|source| source.code.contains("async ") || source.code.contains(".await"));
    report(
        "ir, sse, dialects, translate and routing are synchronous",
        broken.map(|source| source.path).collect(),
    );
}

#[test]
fn only_the_clock_asks_for_the_time() {
    let asks = |source: &Source| {
        source.code.contains("SystemTime::now")
            || source.code.contains("Timestamp::now")
            || source.code.contains("Zoned::now")
    };
    let broken = sources()
        .into_iter()
        .filter(|source| source.path != "clock.rs" && asks(source));
    report(
        "wall-clock time comes from clock.rs",
        broken.map(|source| source.path).collect(),
    );
}

#[test]
fn files_have_a_purpose_and_an_end() {
    let mut broken = Vec::new();
    for source in sources() {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(&source.path)).unwrap();
        if !text.starts_with("//!") {
            broken.push(format!("{} does not say what it is for (`//!`)", source.path));
        }
        if source.lines > MAX_LINES {
            broken.push(format!(
                "{} has {} lines: split it by content",
                source.path, source.lines
            ));
        }
        let name = source.path.rsplit('/').next().unwrap_or_default();
        if ["utils.rs", "util.rs", "helpers.rs", "misc.rs", "common.rs"].contains(&name) {
            broken.push(format!("{}: say what it is", source.path));
        }
    }
    report("every file opens with its purpose and is short enough to read", broken);
}

#[test]
fn shapes_of_the_api_have_names_of_their_own() {
    // The OpenAPI document keeps one shape a name: of two that share it, one is described as the other.
    let mut places = std::collections::BTreeMap::<String, Vec<String>>::new();
    for source in sources() {
        for derived in source.code.split("ToSchema)]").skip(1) {
            let mut words = derived
                .split(|letter: char| !letter.is_alphanumeric() && letter != '_')
                .filter(|word| !word.is_empty());
            if words.any(|word| word == "struct" || word == "enum") {
                let name = words.next().unwrap_or_default();
                places.entry(name.to_owned()).or_default().push(source.path.clone());
            }
        }
    }
    assert!(places.len() > 50, "the shapes were not found: {}", places.len());
    let broken = places.into_iter().filter(|(_, places)| places.len() > 1);
    report(
        "no two shapes of the API share a name",
        broken
            .map(|(name, places)| format!("{name}: {}", places.join(", ")))
            .collect(),
    );
}

#[test]
fn nothing_panics_on_purpose_outside_tests() {
    let mut broken = Vec::new();
    for source in sources() {
        for word in [".unwrap()", ".expect(", "panic!(", "todo!(", "unimplemented!("] {
            if source.code.contains(word) {
                broken.push(format!("{} has {word}", source.path));
            }
        }
    }
    report("outside tests nothing unwraps", broken);
}
