//! `[alias]`, `[[model]]` and `[[price]]`.

use tollgate::clock::UnixMicros;
use tollgate::ir::Usage;
use tollgate::money::{Class, Extras, Price, Rates};
use tollgate::rules::{Requirement, Rules};

use super::rules::says;
use super::{Folder, PROVIDER};

const ROUTE: &str = "[[route]]\nname = \"r\"\nmodel = [\"m\", \"n-*\"]\ntargets = [{ provider = \"a\" }]\n";

fn compiled(text: &str) -> Rules {
    let folder = Folder::with(&[("a.toml", text)]);
    let (rules, warnings) = folder
        .compile(&[])
        .map_err(|problems| panic!("{}", folder.show(&problems)))
        .unwrap();
    assert_eq!(folder.show(&warnings), "");
    rules
}

/// What is said of these aliases, which begin at line 9.
fn alias_says(lines: &str, expected: &str) {
    says(&format!("{PROVIDER}{ROUTE}[alias]\n{lines}\n"), expected);
}

#[test]
fn aliases_are_flat() {
    let rules = compiled(&format!(
        "{PROVIDER}{ROUTE}[alias]\n\"gpt-4\" = \"b\"\nb = \"n-5\"\ndirect = \"a/any/thing\"\n"
    ));
    let alias = |name: &str| rules.alias(name).map(|name| name.to_string());
    assert_eq!(alias("gpt-4").as_deref(), Some("n-5"));
    assert_eq!(alias("b").as_deref(), Some("n-5"));
    assert_eq!(alias("direct").as_deref(), Some("a/any/thing"));
    assert_eq!(alias("n-5"), None);
}

#[test]
fn wrong_aliases() {
    alias_says(
        "x = \"x\"",
        "9  alias.x = \"x\"\n    the aliases go in a circle: x -> x\n",
    );
    alias_says(
        "x = \"y\"\ny = \"z\"\nz = \"y\"",
        "9  alias.x = \"y\"\n    the aliases go in a circle: x -> y -> z -> y\n\
         10  alias.y = \"z\"\n    the aliases go in a circle: y -> z -> y\n\
         11  alias.z = \"y\"\n    the aliases go in a circle: z -> y -> z\n",
    );
    let chain = |n: usize| -> String { (0..n).map(|i| format!("a{i} = \"a{}\"\n", i + 1)).collect() };
    alias_says(
        &format!("{}a8 = \"m\"", chain(8))
            .replace("a8 = \"m\"", "")
            .replace("\"a8\"", "\"m\""),
        "",
    );
    alias_says(
        &format!("{}a8 = \"m\"", chain(8)),
        "9  alias.a0 = \"a1\"\n    the chain of aliases is longer than 8; name the model at its end\n",
    );
    alias_says(
        "x = \"mm\"",
        "9  alias.x = \"mm\"\n    no route, alias or provider/model takes the name \"mm\".   (defined: m)\n",
    );
    alias_says(
        "\"x*\" = \"m\"",
        "9  alias.\"x*\" = \"m\"\n    an alias is one name and no glob. A route takes globs, and its target names the \
         model.\n",
    );
    alias_says(
        "x = 7",
        "9  alias.x = 7\n    it must be a text in quotes, not a whole number\n",
    );
}

#[test]
fn what_an_alias_takes_no_route_gets() {
    alias_says(
        "m = \"n-1\"",
        "warning: 6  route \"r\": model[0] = \"m\"\n    it never matches: the alias at 9 takes this name first\n",
    );
}

#[test]
fn models() {
    let rules = compiled(&format!(
        "{PROVIDER}[[model]]\nname = [\"m\", \"m-*\"]\ncontext = 1000\noutput = 100\ncan = [\"tools\", \"vision\"]\n\
         [[model]]\nname = \"m\"\nprovider = \"a\"\n"
    ));
    let facts = rules.models.facts("b", "m-2").unwrap();
    assert_eq!((facts.context, facts.output), (Some(1000), Some(100)));
    assert_eq!(facts.can, [Requirement::Tools, Requirement::Vision]);
    assert_eq!(
        rules.models.facts("a", "m").unwrap().context,
        None,
        "the provider's own wins"
    );
    assert_eq!(rules.models.facts("a", "x"), None);
}

#[test]
fn wrong_models() {
    let model = |lines: &str| format!("{PROVIDER}[[model]]\n{lines}\n");
    says(
        &model("context = 5"),
        "4  model[0]\n    name is missing. Write name = \"MODEL\"; globs as \"abc-*\" and lists are allowed.\n",
    );
    says(
        &model("name = \"m\"\ncontext = 0\ncan = [\"see\"]"),
        "6  model \"m\": context = 0\n    it must be from 1 to 1000000000\n\
         7  model \"m\": can[0] = \"see\"\n    it must be one of these.   (known: tools, vision, documents, audio, video, \
         structured, reasoning)\n",
    );
    says(
        &model("name = \"m\"\ncontext = 5\noutput = 6"),
        "7  model \"m\": output = 6\n    an answer is part of the context, which is only 5\n",
    );
    says(
        &model("name = [\"m\", \"m\"]\nprovider = \"b\""),
        "warning: 5  model[0].name[1] = \"m\"\n    it is never used: the entry at 5 comes first and has the same \
         name\n\
         warning: 6  model \"m\": provider = \"b\"\n    no provider has this name.   (defined: a) The entry is never \
         used.\n",
    );
    says(
        &format!("{PROVIDER}[model]\nname = \"m\"\n"),
        "4  model\n    there may be several of them: write [[model]] instead of [model]\n",
    );
}

#[test]
fn prices_are_exact() {
    let rules = compiled(&format!(
        "{PROVIDER}[[price]]\nname = \"m\"\ninput = 0.28\ncached = 0.028\ncache_write = 1.000_000_001\noutput = 2\n\
         [[price]]\nname = \"*\"\nprovider = \"a\"\ninput = 0\noutput = 0.0\n"
    ));
    let price = |provider, model| rules.prices.price(provider, model, UnixMicros(0)).cloned();
    let written = Rates::new(280_000_000, 2_000_000_000)
        .with(Class::CacheRead, 28_000_000)
        .with(Class::CacheWrite, 1_000_000_001);
    assert_eq!(price("b", "m"), Some(written.into()));
    assert_eq!(price("a", "m"), Some(Price::default()), "the provider's own wins");
    assert_eq!(price("b", "x"), None);
}

#[test]
fn every_field_of_a_price_counts() {
    let rules = compiled(&format!(
        "{PROVIDER}[[price]]\nname = \"m\"\ninput = 1\ncached = 0.1\ncache_write = 1.25\ncache_write_1h = 2\n\
         input_audio = 3\ncached_audio = 0.3\noutput = 10\nreasoning = 11\noutput_audio = 20\n\
         output_image_tokens = 30\ninput_image = 0.001\noutput_image = 0.04\nrequest = 0.005\n\
         tiers = [{{ above = 200_000, input = 2, output = 15 }}]\n\
         services = {{ flex = {{ input = 0.5, output = 5 }}, batch = {{ tiers = [{{ above = 200_000, input = 9 }}] }} }}\n"
    ));
    let price = rules.prices.price("a", "m", UnixMicros(0)).unwrap();
    let milli = 1_000_000;
    let rates: Vec<u64> = Class::ALL.into_iter().map(|class| price.rate(class) / milli).collect();
    assert_eq!(
        rates,
        [1_000, 100, 1_250, 2_000, 3_000, 300, 10_000, 11_000, 20_000, 30_000]
    );
    let cost = |input, service, images_out| {
        let usage = Usage {
            input,
            ..Usage::default()
        };
        let extras = Extras {
            service,
            images_out,
            ..Extras::default()
        };
        price.cost(&usage, extras).0 - 5 * milli
    };
    assert_eq!(cost(100, None, 0), 100 * 1_000);
    assert_eq!(cost(300_000, None, 0), 300_000 * 2_000);
    assert_eq!(cost(100, Some("flex"), 0), 100 * 500);
    assert_eq!(
        cost(300_000, Some("flex"), 0),
        300_000 * 1_000,
        "as the standard rates change"
    );
    assert_eq!(
        (cost(100, Some("batch"), 0), cost(300_000, Some("batch"), 0)),
        (100 * 1_000, 300_000 * 9_000)
    );
    assert_eq!(cost(0, None, 2), 2 * 40 * milli);
}

#[test]
fn prices_hold_from_day_to_day() {
    let price = |lines: &str| format!("[[price]]\nname = \"m\"\noutput = 0\n{lines}\n");
    let rules = compiled(&format!(
        "{PROVIDER}{}{}{}[[price]]\nname = \"*\"\ninput = 9\noutput = 0\n",
        price("input = 1\nuntil = \"2026-02-01\""),
        price("input = 3\nfrom = \"2026-04-01T02:00:00+02:00\""),
        price("input = 2\nfrom = \"2026-02-01\"\nuntil = \"2026-03-01\""),
    ));
    for (at, input) in [
        ("2026-01-31T23:59:59Z", 1),
        ("2026-02-01T00:00:00Z", 2),
        ("2026-02-28T23:59:59Z", 2),
        // Of none that holds, as if it was not there: the glob.
        ("2026-03-01T00:00:00Z", 9),
        ("2026-04-01T00:00:00Z", 3),
        ("2036-04-01T00:00:00Z", 3),
    ] {
        let at = UnixMicros(at.parse::<jiff::Timestamp>().unwrap().as_microsecond());
        let found = rules.prices.price("a", "m", at).unwrap().rate(Class::Input);
        assert_eq!(found, input * 1_000_000_000, "{at:?}");
    }
    // Both without an end: the later follows the earlier, which needs no word.
    says(
        &format!(
            "{PROVIDER}{}{}",
            price("input = 1"),
            price("input = 2\nfrom = \"2026-02-01\"")
        ),
        "",
    );
    says(
        &format!(
            "{PROVIDER}{}{}{}",
            price("input = 1\nuntil = \"2026-03-01\""),
            price("input = 2\nfrom = \"2026-02-01\""),
            price("input = 3\nfrom = \"2026-02-01\""),
        ),
        "warning: 10  price[1].name = \"m\"\n    the entry at 5 has the same name: both hold for a while; from the later \
         `from` on only that one is used\n\
         warning: 15  price[2].name = \"m\"\n    the entry at 5 has the same name: both hold for a while; from the later \
         `from` on only that one is used\n\
         warning: 15  price[2].name = \"m\"\n    it is never used: the entry at 10 comes first and has the same name\n",
    );
}

#[test]
fn wrong_prices() {
    let price = |lines: &str| format!("{PROVIDER}[[price]]\nname = \"m\"\n{lines}\n");
    says(
        &price(""),
        "4  price \"m\"\n    input is missing. Write input = 0.25, in dollars for a million tokens.\n\
         4  price \"m\"\n    output is missing. Write output = 2, in dollars for a million tokens (0 where there is none).\n",
    );
    for (input, help) in [
        ("-0.5", "it must not be negative"),
        ("0.0000000001", "it may have 9 digits after the point at most"),
        ("1e-3", "it must be a plain number, as in 2 or 0.25"),
        ("2_000_000", "it must be from 0 to 1000000"),
    ] {
        let shown = input.replace('_', "");
        says(
            &price(&format!("input = {input}\noutput = 1")),
            &format!("6  price \"m\": input = {shown}\n    {help}\n"),
        );
    }
    let rest = "input = 1\noutput = 1\n";
    for (line, shown, help) in [
        (
            "from = \"soon\"",
            "from = \"soon\"",
            "it must be a day, as in \"2026-11-21\" (it begins at midnight UTC), or a time with its zone",
        ),
        (
            "tiers = [{ input = 1 }]",
            "tiers[0]",
            "above is missing. Write above = 200_000, in tokens of the prompt.",
        ),
        (
            "tiers = [{ above = 5 }]",
            "tiers[0]",
            "no price changes there. Write input = 4, output = 15 and what else differs.",
        ),
        (
            "services = { flex = {} }",
            "services.flex",
            "no price differs there. Write input = 1, output = 5 and what else differs.",
        ),
    ] {
        says(
            &price(&format!("{rest}{line}")),
            &format!("8  price \"m\": {shown}\n    {help}\n"),
        );
    }
    says(
        &price(&format!("{rest}from = \"2026-02-01\"\nuntil = \"2026-02-01\"")),
        "9  price \"m\": until = \"2026-02-01\"\n    it must be later than `from`: the entry would never hold\n",
    );
    says(
        &price("input = \"0.5\"\noutput = 1"),
        "6  price \"m\": input = \"0.5\"\n    it must be a plain number, as in 2 or 0.25, not a text\n",
    );
}
