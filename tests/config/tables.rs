//! `[alias]`, `[[model]]` and `[[price]]`.

use tollgate::money::Price;
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
    assert_eq!(
        rules.prices.price("b", "m").cloned(),
        Some(Price {
            input: 280_000_000,
            cache_read: Some(28_000_000),
            cache_write: Some(1_000_000_001),
            output: 2_000_000_000,
        })
    );
    assert_eq!(
        rules.prices.price("a", "m").cloned(),
        Some(Price::default()),
        "the provider's own wins"
    );
    assert_eq!(rules.prices.price("b", "x"), None);
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
    says(
        &price("input = \"0.5\"\noutput = 1"),
        "6  price \"m\": input = \"0.5\"\n    it must be a plain number, as in 2 or 0.25, not a text\n",
    );
}
