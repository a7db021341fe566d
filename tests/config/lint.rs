//! Warnings about routes which never match, or whose entries change nothing; and that there are none where all is well.

use super::PROVIDER;
use super::rules::says;

/// A route of one line after its name: they begin at line 4, 8, 12 ...
fn one(name: &str, models: &str, more: &str) -> String {
    format!("[[route]]\nname = \"{name}\"\nmodel = {models}\ntargets = [{{ provider = \"a\" }}]{more}\n")
}

/// What is said of these routes. `more` of each stands on the line of its targets.
fn routes_say(routes: &[(&str, &str)], expected: &str) {
    let names = ["r", "s", "t", "u"];
    let text: String = routes
        .iter()
        .zip(names)
        .map(|((models, when), name)| {
            let when = if when.is_empty() {
                String::new()
            } else {
                format!("\nwhen = {{ {when} }}")
            };
            one(name, models, &when)
        })
        .collect();
    says(&format!("{PROVIDER}{text}"), expected);
}

#[test]
fn routes_which_never_match() {
    routes_say(
        &[("\"m\"", ""), ("\"m\"", ""), ("\"*\"", ""), ("\"n\"", "")],
        "warning: 10  route \"s\": model = \"m\"\n    it never matches: route \"r\" at 6 comes first and takes the same\n\
         warning: 18  route \"u\": model = \"n\"\n    it never matches: route \"t\" at 14 comes first and takes the \
         same\n",
    );
    routes_say(
        &[
            ("\"gpt-*\"", ""),
            ("[\"gpt-5\", \"gpt-5-*\"]", ""),
            ("[\"o1\", \"gpt-?\"]", ""),
        ],
        "warning: 10  route \"s\": model\n    none of them ever matches: route \"r\" at 6 comes first and takes the same\n\
         warning: 14  route \"t\": model[1] = \"gpt-?\"\n    it never matches: route \"r\" at 6 comes first and takes the \
         same\n",
    );
    routes_say(
        &[("[\"m\", \"m\"]", "")],
        "warning: 6  route \"r\": model[1] = \"m\"\n    it stands in this list twice\n",
    );
}

#[test]
fn conditions_leave_the_rest_to_those_who_follow() {
    for (first, second) in [
        ("stream = true", ""),
        ("stream = true", "stream = false"),
        ("percent = 50", "percent = 50"),
        ("prompt_tokens_below = 1000", "prompt_tokens_below = 2000"),
        ("prompt_tokens_below = 1000", "tools = true"),
        ("output_tokens_below = 1000", ""),
        ("tag = \"a\"", "tag = \"b\""),
        ("stream = true, tools = true", "stream = true"),
    ] {
        routes_say(&[("\"m*\"", first), ("\"m\"", second)], "");
    }
    let never = |line| {
        format!(
            "warning: {line}  route \"s\": model = \"m\"\n    it never matches: route \"r\" at 6 comes first and takes the \
             same\n"
        )
    };
    routes_say(&[("\"m*\"", "stream = true"), ("\"m\"", "stream = true")], &never(11));
    routes_say(
        &[("\"m*\"", "stream = true"), ("\"m\"", "tools = true, stream = true")],
        &never(11),
    );
    routes_say(
        &[
            ("\"m*\"", "prompt_tokens_below = 2000"),
            ("\"m\"", "prompt_tokens_below = 1000"),
        ],
        &never(11),
    );
    routes_say(&[("\"m*\"", ""), ("\"m\"", "percent = 5")], &never(10));
}

#[test]
fn narrower_first_is_as_it_should_be() {
    routes_say(
        &[("\"gpt-5\"", ""), ("\"gpt-5*\"", ""), ("\"gpt-*\"", ""), ("\"*\"", "")],
        "",
    );
    routes_say(&[("\"*-mini\"", ""), ("\"gpt-*\"", "")], "");
    routes_say(
        &[("\"[gh]pt\"", ""), ("\"gpt\"", "")],
        "warning: 10  route \"s\": model = \"gpt\"\n    it never matches: \
         route \"r\" at 6 comes first and takes the same\n",
    );
}

#[test]
fn names_of_providers_are_taken() {
    says(
        &format!(
            "{PROVIDER}{}",
            one("r", "[\"a/x\", \"b/x\"]", "\ntimeouts.idle = \"1m\"")
        ),
        "warning: 6  route \"r\": model[0] = \"a/x\"\n    it never matches: a name that begins with a/ goes to the provider \
         of that name, past all routes. Call the model otherwise\n",
    );
    // It does what would be done without it.
    says(&format!("{PROVIDER}{}", one("r", "\"a/*\"", "")), "");
}

#[test]
fn fallbacks_that_were_targets() {
    says(
        &format!(
            "{PROVIDER}{}",
            one(
                "r",
                "\"m\"",
                "\nfallback = [{ provider = \"a\" }, { provider = \"a\", model = \"b\" }]"
            )
        ),
        "warning: 8  route \"r\": fallback[0]\n    it is one of the route's targets, which was tried before; it changes \
         nothing here\n",
    );
    says(
        &format!(
            "{PROVIDER}{}",
            one("r", "\"m\"", "\nfallback = [{ provider = \"a\", set = { x = 1 } }]")
        ),
        "",
    );
}

#[test]
fn requirements_of_unknown_models() {
    let known = "[[model]]\nname = \"m\"\ncontext = 10\n";
    let require = "\nrequire = [\"context\"]";
    says(
        &format!("{PROVIDER}{}", one("r", "[\"m\", \"n\", \"x-*\"]", require)),
        "warning: 8  route \"r\": require\n    nothing is known of \"m\", \"n\", so that nothing can be required there. Say \
         it in [[model]], with name, context, output and can.\n",
    );
    says(
        &format!("{PROVIDER}{}{known}", one("r", "[\"m\", \"x-*\"]", require)),
        "",
    );
}

#[test]
fn the_cheapest_of_unknown_prices() {
    let cheapest = "\nstrategy = \"cheapest\"";
    says(
        &format!("{PROVIDER}{}", one("r", "\"m\"", cheapest)),
        "warning: 8  route \"r\": strategy = \"cheapest\"\n    no price of these targets is known, so that none is cheaper. \
         Say them in [[price]].\n",
    );
    let price = "[[price]]\nname = \"m\"\ninput = 1\noutput = 2\n";
    says(&format!("{PROVIDER}{}{price}", one("r", "\"m\"", cheapest)), "");
}
