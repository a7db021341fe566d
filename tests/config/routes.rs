//! `[[route]]`: what is compiled, and the words of every problem.

use std::time::Duration;

use super::rules::says;
use super::{Folder, PROVIDER};

/// A route whose lines are these; they begin at line 5.
pub(super) fn route(lines: &str) -> String {
    format!("{PROVIDER}[[route]]\n{lines}\n")
}

#[test]
fn routes() {
    let folder = Folder::with(&[(
        "a.toml",
        &format!(
            "{PROVIDER}[[route]]\nname = \"one model\"\nmodel = \"m-1\"\n\
             targets = [{{ provider = \"a\", model = \"M\", weight = 4 }}, {{ provider = \"a\" }}]\n\
             timeouts = {{ first_byte = \"5m\" }}\n\
             [[route]]\nname = \"many\"\nmodel = [\"m-*\", \"n?\"]\ntargets = [{{ provider = \"a\", weight = 0 }}, {{ \
             provider = \"a\" }}]\n"
        ),
    )]);
    let (rules, warnings) = folder.compile(&[]).unwrap();
    assert_eq!(warnings, []);
    let name = |model: &str| rules.routes_for(model).next().map(|r| r.name.to_string());
    assert_eq!(name("m-1").as_deref(), Some("one model"));
    assert_eq!(name("m-2/x").as_deref(), Some("many"));
    assert_eq!(name("n7").as_deref(), Some("many"));
    assert_eq!(name("n77"), None);
    let targets = &rules.routes[0].targets;
    assert_eq!((targets[0].model.as_deref(), targets[0].weight), (Some("M"), 4));
    assert_eq!((targets[1].model.as_deref(), targets[1].weight), (None, 1));
    assert_eq!(rules.routes[0].timeouts.first_byte, Some(Duration::from_secs(300)));
    assert_eq!(rules.routes[1].models, ["m-*", "n?"]);
}

#[test]
fn problems_of_routes() {
    let target = "targets = [{ provider = \"a\" }]";
    says(
        &route("model = \"m\"\ntarget = [{ provider = \"a\" }]"),
        "4  route[0]\n    name is missing. Write name = \"...\".\n\
         4  route[0]\n    targets is missing. Write targets = [ { provider = \"NAME\" } ].\n\
         6  route[0].target\n    there is no field of this name. Did you mean \"targets\"?   (known: name, model, \
         when, targets, fallback, fallback_on, strategy, attempts, require, affinity, set, default, remove, system, \
         timeouts, on_loss, upstream_stream, queue, critical, on_abort, unknown_price)\n",
    );
    says(
        &route("name = \"r\"\nmodel = \"m\"\ntargets = [{ provider = \"deepsek\" }]")
            .replace("provider.a", "provider.deepseek"),
        "7  route \"r\": targets[0].provider = \"deepsek\"\n    no provider has this name. Did you mean \"deepseek\"?   \
         (defined: deepseek)\n",
    );
    says(
        &route("name = \"r\"\nmodel = \"m\"\ntargets = [\"a\"]"),
        "7  route \"r\": targets[0] = \"a\"\n    it must be a table, as in { ... }, not a text\n",
    );
    says(
        &route("name = \"r\"\nmodel = \"m\"\ntargets = [{ provider = \"a\", weight = 0 }]"),
        "7  route \"r\": targets\n    every target weighs 0, so that none would be chosen. Give one a weight of 1 or \
         more.\n",
    );
    says(
        &route("name = \"r\"\nmodel = \"m\"\ntargets = []"),
        "7  route \"r\": targets\n    there must be 1 to 100 of them\n",
    );
    says(
        &route(&format!("name = \"r\"\nmodel = [\"m[\", \"\"]\n{target}")),
        "6  route \"r\": model[0] = \"m[\"\n    this is not a glob: unclosed character class; missing ']'. A \\ before a \
         character takes it as it is.\n\
         6  route \"r\": model[1] = \"\"\n    a model name or glob has 1 to 256 bytes, none of them a control \
         character\n",
    );
    says(
        &route(&format!("name = \"r\"\nmodel = []\n{target}")),
        "6  route \"r\": model\n    it takes 1 to 1000 model names or globs\n",
    );
    says(
        &route(&format!("name = \"r\"\nmodel = \"m\"\n{target}\non_loss = \"ignore\"")),
        "8  route \"r\": on_loss = \"ignore\"\n    it must be one of these.   (known: report, reject)\n",
    );
    says(
        &route(&format!("name = \" r\"\nmodel = \"m\"\n{target}")),
        "5  route[0].name = \" r\"\n    a route's name has 1 to 128 bytes, without white space around it\n",
    );
}

#[test]
fn a_thousand_routes() {
    let mut text = PROVIDER.to_owned();
    for n in 0..1000 {
        text.push_str(&format!(
            "[[route]]\nname = \"r{n}\"\nmodel = [\"m{n}\", \"g{n}-*\"]\ntargets = [{{ provider = \"a\" }}]\n"
        ));
    }
    let folder = Folder::with(&[("a.toml", &text)]);
    let (rules, _) = folder.compile(&[]).unwrap();
    for n in [0, 500, 999] {
        for model in [format!("m{n}"), format!("g{n}-x/y")] {
            assert_eq!(&*rules.routes_for(&model).next().unwrap().name, format!("r{n}"));
        }
    }
    assert!(rules.routes_for("x").next().is_none());
}

#[test]
fn what_becomes_of_answers_whose_clients_left() {
    let route = |on_abort: &str| {
        route(&format!(
            "name = \"r\"\nmodel = \"m\"\ntargets = [{{ provider = \"a\" }}]\non_abort = {on_abort}"
        ))
    };
    says(
        &route("{ drain = \"50ms\" }"),
        "8  route \"r\": on_abort.drain = \"50ms\"\n    it must be from 100ms to 5m\n",
    );
    says(
        &route("\"drain\""),
        "8  route \"r\": on_abort = \"drain\"\n    it must be one of these.   (known: abort)\n",
    );
    says(
        &route("{ }"),
        "8  route \"r\": on_abort\n    drain is missing. Write drain = \"5s\".\n",
    );
}
