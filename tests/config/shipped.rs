//! The files that come with it.

use std::collections::BTreeSet;
use std::path::Path;

use tollgate::clock::{Clock, UnixMicros};
use tollgate::config::source::{Report, Source};
use tollgate::config::{Config, load};
use tollgate::money::Class;
use tollgate::rules::{Auth, HttpVersions, Rules, compile_with};

/// When the shipped prices were read: 2026-11-21.
const TODAY: UnixMicros = UnixMicros(1_795_219_200_000_000);

fn shipped(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn the_shipped_configuration_is_the_defaults() {
    let (config, warnings) = load::load(&shipped("conf/tollgate.toml")).unwrap();
    assert_eq!(warnings, []);
    assert_eq!(format!("{config:#?}"), format!("{:#?}", Config::default()));
}

#[test]
fn every_known_field_stands_in_the_shipped_configuration() {
    let source = Source::read(&shipped("conf/tollgate.toml")).unwrap();
    let report = Report::default();
    load::read_source(&source, &report);
    let written: toml::Table = source.text.parse().unwrap();
    let missing: BTreeSet<String> = report
        .known()
        .into_iter()
        .filter(|path| {
            let path = path.replace("[0]", ".0");
            let found = path
                .split('.')
                .try_fold(toml::Value::Table(written.clone()), |value, part| match value {
                    toml::Value::Array(array) => array.get(part.parse::<usize>().unwrap()).cloned(),
                    value => value.get(part).cloned(),
                });
            let name = path.rsplit('.').next().unwrap();
            // What has no default stands there as a comment.
            found.is_none()
                && !source.text.contains(&format!("\n# {name} = "))
                && !source.text.contains(&format!("\n# [[{path}]]\n"))
        })
        .collect();
    assert_eq!(missing, BTreeSet::new(), "these fields are not in conf/tollgate.toml");
    assert!(report.known().len() > 45, "the test sees the fields");
}

fn rules(environment: &[(&str, &str)]) -> Rules {
    let environment = environment
        .iter()
        .copied()
        .collect::<std::collections::HashMap<&str, &str>>();
    let (rules, warnings) = compile_with(&shipped("rules"), &Clock::system(), &environment).unwrap();
    assert_eq!(warnings, []);
    rules
}

const KEYS: [(&str, &str, &str); 7] = [
    ("openai", "OPENAI_API_KEY", "https://api.openai.com/v1"),
    ("anthropic", "ANTHROPIC_API_KEY", "https://api.anthropic.com/"),
    ("gemini", "GEMINI_API_KEY", "https://generativelanguage.googleapis.com/"),
    ("deepseek", "DEEPSEEK_API_KEY", "https://api.deepseek.com/anthropic"),
    ("openrouter", "OPENROUTER_API_KEY", "https://openrouter.ai/api"),
    ("siliconflow", "SILICONFLOW_API_KEY", "https://api.siliconflow.cn/v1"),
    (
        "cloudflare",
        "CLOUDFLARE_API_TOKEN",
        "https://api.cloudflare.com/client/v4/accounts/abc/ai/v1",
    ),
];

#[test]
fn the_shipped_providers_wait_for_their_keys() {
    let none = rules(&[]);
    let active: Vec<&str> = none
        .providers
        .iter()
        .filter(|p| p.inactive.is_none())
        .map(|p| &*p.name)
        .collect();
    assert_eq!(active, ["sandbox"], "without keys only the sandbox is there");
    assert_eq!(
        none.provider("cloudflare").unwrap().inactive.as_deref(),
        Some(
            "the environment variable CLOUDFLARE_ACCOUNT_ID is not set; the environment variable \
             CLOUDFLARE_API_TOKEN is not set"
        )
    );
    for (name, key, base) in KEYS {
        let rules = rules(&[(key, "k-123"), ("CLOUDFLARE_ACCOUNT_ID", "abc")]);
        let provider = rules.provider(name).unwrap();
        assert_eq!(provider.inactive, None, "{name} is active once {key} is set");
        assert_eq!(provider.credentials[0].secret.as_ref().unwrap().expose(), "k-123");
        assert_eq!(provider.http, HttpVersions::Both);
        let bases: Vec<&str> = provider
            .bases
            .iter()
            .map(|b| b.url.as_ref().unwrap().as_str())
            .collect();
        assert!(bases.contains(&base), "{name}: {bases:?}");
    }
    assert_eq!(rules(&[]).provider("sandbox").unwrap().auth, Some(Auth::None));
}

#[test]
fn the_shipped_routes_know_the_common_models() {
    let rules = rules(&[]);
    for (model, provider) in [
        ("gpt-5-mini", "openai"),
        ("o3-mini", "openai"),
        ("claude-sonnet-4-5-20250929", "anthropic"),
        ("gemini-2.5-flash", "gemini"),
        ("deepseek-chat", "deepseek"),
        ("deepseek-ai/DeepSeek-V3.2", "siliconflow"),
        ("@cf/meta/llama-3.1-8b-instruct", "cloudflare"),
        ("sandbox/echo", "sandbox"),
    ] {
        let route = rules
            .routes_for(model)
            .next()
            .unwrap_or_else(|| panic!("no route for {model}"));
        assert_eq!(&*route.targets[0].provider.name, provider, "{model}");
    }
    assert!(rules.routes_for("unheard-of").next().is_none());
}

/// The examples in the comments of a shipped file: their lines are indented by three.
pub(super) fn examples(file: &str) -> String {
    let text = std::fs::read_to_string(shipped(file)).unwrap();
    let (_, examples) = text.split_once("\n# Examples.").unwrap();
    let lines = examples.lines().filter_map(|line| line.strip_prefix("#   "));
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_examples_in_comments_compile() {
    let folder = super::Folder::new();
    for entry in std::fs::read_dir(shipped("rules")).unwrap() {
        let path = entry.unwrap().path();
        folder.write(
            path.file_name().unwrap().to_str().unwrap(),
            std::fs::read(&path).unwrap(),
        );
    }
    folder.write("15-examples.toml", examples("rules/20-routes.toml"));
    let (rules, warnings) = folder.compile(&[]).map_err(|p| panic!("{}", folder.show(&p))).unwrap();
    assert_eq!(folder.show(&warnings), "");
    let auto: Vec<&str> = rules.routes_for("auto").map(|route| &*route.name).collect();
    assert_eq!(
        auto,
        [
            "auto: critical",
            "auto: pictures",
            "auto: trial",
            "auto: code",
            "auto: night",
            "auto: short",
            "auto"
        ]
    );
    assert_eq!(rules.alias("gpt-3.5-turbo").map(|name| &**name), Some("fast"));
    let code = rules.routes.iter().find(|route| &*route.name == "auto: code").unwrap();
    let text = &code.when.as_ref().unwrap().text;
    assert!(text.as_ref().unwrap().is_match("Please REFACTOR this"));
}

#[test]
fn the_shipped_tables_agree_with_each_other() {
    let rules = rules(&[]);
    let text = std::fs::read_to_string(shipped("rules/prices.toml")).unwrap();
    let table: toml::Table = text.parse().unwrap();
    let mut seen = 0;
    for line in table["price"].as_array().unwrap() {
        let provider = line["provider"].as_str().unwrap();
        let names = match &line["name"] {
            toml::Value::Array(names) => names.iter().map(|name| name.as_str().unwrap()).collect(),
            name => vec![name.as_str().unwrap()],
        };
        for name in names {
            let price = rules.prices.price(provider, name, TODAY).unwrap();
            let rate = |class| price.rate(class);
            let (input, output) = (rate(Class::Input), rate(Class::Output));
            assert!(rate(Class::CacheRead) <= input, "{name}");
            assert!(rate(Class::CacheWrite) >= input, "{name}");
            assert!(rate(Class::CacheWrite1h) >= rate(Class::CacheWrite), "{name}");
            assert!(output == 0 || output > input, "{name}");
            assert!(rate(Class::Reasoning) == output, "{name}");
            assert!(rules.models.facts(provider, name).is_some(), "{name} has no limits");
            seen += 1;
        }
    }
    assert!(seen > 60, "{seen}");
    let price = rules.prices.price("openai", "gpt-5-mini", TODAY).unwrap();
    let classes = [Class::Input, Class::CacheRead, Class::Output];
    let rates = classes.map(|class| price.rate(class));
    assert_eq!(rates, [250_000_000, 25_000_000, 2_000_000_000]);
    assert_eq!(
        rules.prices.price("openrouter", "gpt-5-mini", TODAY),
        None,
        "another's price is another"
    );
    let facts = rules.models.facts("anthropic", "claude-haiku-4-5").unwrap();
    assert_eq!((facts.context, facts.output), (Some(200_000), Some(64_000)));
    assert!(facts.can.contains(&tollgate::rules::Requirement::Vision));
}

#[test]
fn the_examples_of_the_readme_compile() {
    let readme = std::fs::read_to_string(shipped("README.md")).unwrap();
    let blocks = readme.split("```toml\n").skip(1);
    let blocks: Vec<&str> = blocks.filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 2, "the examples are found");
    let folder = super::Folder::new();
    for name in ["10-providers.toml", "20-routes.toml", "30-models.toml", "prices.toml"] {
        folder.write(name, std::fs::read(shipped("rules").join(name)).unwrap());
    }
    let (conf, rules): (Vec<&str>, Vec<&str>) = blocks
        .into_iter()
        .partition(|block| block.starts_with("# conf/tollgate.toml\n"));
    for text in conf {
        let file = super::Folder::new();
        let file = (file.write("tollgate.toml", text), file);
        assert_eq!(load::load(&file.0).map(|(_, warnings)| warnings), Ok(Vec::new()));
    }
    for (n, block) in rules.iter().enumerate() {
        folder.write(&format!("15-example-{n}.toml"), block);
    }
    let (_, warnings) = folder.compile(&[]).map_err(|p| panic!("{}", folder.show(&p))).unwrap();
    assert_eq!(folder.show(&warnings), "");
}
