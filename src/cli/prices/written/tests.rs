use crate::money::Service;

use super::*;

fn prices() -> Prices {
    let whole = Listed {
        rates: Class::ALL
            .into_iter()
            .zip(1..)
            .fold(Rates::default(), |all, (class, n)| all.with(class, n * 1_000_000_001)),
        tiers: vec![Tier {
            above: 200_000,
            rates: Rates::new(5, 6),
        }],
        services: vec![Service {
            word: "flex".into(),
            rates: Rates::new(1, 2),
            tiers: vec![Tier {
                above: 200_000,
                rates: Rates::new(3, 4),
            }],
        }],
        input_image: Some(1_000_000),
        output_image: Some(40_000_000),
        request: Some(1),
    };
    let plain = Listed {
        rates: Rates::new(0, 1_500_000_000),
        ..Listed::default()
    };
    let key = |provider: &str, model: &str| (provider.to_owned(), model.to_owned());
    let mut all = Prices::from([(key("a", "whole"), whole), (key("b", "quo\"ted"), plain.clone())]);
    all.extend((10..40).map(|n| (key("a", &format!("model-number-{n}")), plain.clone())));
    all
}

#[test]
fn what_is_written_is_read_by_the_rules_as_it_was() {
    let text = Parts::default().with(&prices(), "2026-11-21, from a table.", None);
    let folder = tempfile::tempdir().expect("a folder");
    let provider = |name: &str| {
        format!("[provider.{name}]\ndialects = {{ openai_chat = \"http://127.0.0.1:1\" }}\nauth = \"none\"\n")
    };
    fs::write(folder.path().join("a.toml"), provider("a") + &provider("b")).expect("written");
    fs::write(folder.path().join("prices.toml"), &text).expect("written");
    let clock = crate::clock::Clock::manual(crate::clock::UnixMicros(0));
    let (rules, warnings) = crate::rules::compile(folder.path(), &clock).expect("rules");
    assert!(warnings.is_empty(), "{warnings:?}");
    for ((provider, model), listed) in prices() {
        let found = rules.prices.price(&provider, &model, clock.now());
        assert_eq!(found, Some(&crate::money::Price::new(&listed)), "{model}");
    }
    assert!(
        text.lines()
            .all(|line| line.len() <= WIDTH + 20 || line.starts_with("# ====") || line.starts_with("services"))
    );
    let again = Parts::read(&text).expect("readable");
    assert_eq!(again.imported.len(), prices().len());
    assert_eq!((again.own.as_str(), again.named.len()), ("", 0));
    assert_eq!(again.with(&prices(), "2026-11-21, from a table.", None), text);
}

#[test]
fn the_line_divides_the_file() {
    let own = "[[price]]\nname = [\"a\", \"b\"]\ninput = 1\noutput = 2\n[[price]]\nname = \"c\"\nprovider = \"p\"\ninput = 1\noutput = 2\n";
    let parts = Parts::read(own).expect("readable");
    let names: Vec<_> = parts
        .named
        .iter()
        .map(|(provider, model)| format!("{provider}/{model}"))
        .collect();
    assert_eq!(names, ["/a", "/b", "p/c"]);
    assert!(parts.imported.is_empty(), "without a line all is of people");
    let text = parts.with(&Prices::new(), "now", None);
    assert_eq!(Parts::read(&text).expect("readable").own.trim_end(), own.trim_end());
    let quoting = format!("# not the line: {MARK}\n");
    assert_eq!(Parts::read(&quoting).expect("readable").own, quoting);
}

#[test]
fn an_import_of_one_provider_leaves_the_others_letter_by_letter() {
    let a = "[[price]]\n# by hand, below the line\nname = \"m\"\nprovider = \"a\"\ninput = 1.0\noutput = 2\n";
    let all = "[[price]]\nname = \"any\"\ninput = 1\noutput = 2\n";
    let b = "[[price]]\nname = \"old\"\nprovider = \"b\"\ninput = 1\noutput = 2\n[price.services.flex]\ninput = 1\n";
    let text = format!("{LINE}\n# 2026-01-01, from a table.\n# b: 2026-02-01, from another.\n\n{a}\n{all}\n{b}");
    let parts = Parts::read(&text).expect("readable");
    let new: Prices = prices()
        .into_iter()
        .filter(|((provider, _), _)| provider == "b")
        .collect();
    let only = BTreeSet::from(["b".to_owned()]);
    let written = parts.with(&new, "now", Some(&only));
    let expected = format!(
        "{LINE}\n# 2026-01-01, from a table.\n# b: now\n\n{all}\n{a}\n[[price]]\nname = \"quo\\\"ted\"\nprovider = \"b\"\n\
         input = 0\noutput = 1.5\n"
    );
    assert_eq!(written, expected);
}
