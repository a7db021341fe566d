//! `[[route]]`: conditions, fallbacks, changes of the request.

use serde_json::json;
use tollgate::ir::{MediaKind, Operation};
use tollgate::rules::when::{Bounds, PercentBy};
use tollgate::rules::{Affinity, FallbackOn, Requirement, Route, Strategy};

use super::routes::route;
use super::rules::says;
use super::{Folder, PROVIDER};

/// A route with these lines beside its name, model and target; they begin at line 8.
fn with(lines: &str) -> String {
    route(&format!(
        "name = \"r\"\nmodel = \"m\"\ntargets = [{{ provider = \"a\" }}]\n{lines}"
    ))
}

fn compiled(lines: &str) -> std::sync::Arc<Route> {
    let folder = Folder::with(&[("a.toml", &with(lines))]);
    let (rules, _) = folder
        .compile(&[])
        .map_err(|problems| panic!("{}", folder.show(&problems)))
        .unwrap();
    rules.routes[0].clone()
}

/// What is said of `when = { LINE }`.
fn when_says(condition: &str, expected: &str) {
    let (warning, expected) = match expected.strip_prefix("warning: ") {
        Some(rest) => ("warning: ", rest),
        None => ("", expected),
    };
    says(
        &with(&format!("when = {{ {condition} }}")),
        &format!("{warning}8  route \"r\": when.{expected}\n"),
    );
}

#[test]
fn every_condition() {
    let route = compiled(
        r#"
        [route.when]
        dialect = ["openai_chat", "gemini"]
        operation = "chat"
        key = ["01J*", "alice"]
        owner = "team-*"
        tag = ["critical", "batch"]
        header = { X-Team = ["research-*", "ml"] }
        client = ["10.0.0.0/8", "192.0.2.7"]
        prompt_tokens_from = 10
        prompt_tokens_below = 2000
        output_tokens_below = 500
        tools = false
        media = ["image", "video"]
        structured = true
        stream = true
        text = '(?i)\bhello\b'
        percent = 2.5
        percent_by = "key"
        time = { from = "22:00", to = "06:30", zone = "Asia/Shanghai", days = ["mon", "fri"] }
        "#,
    );
    let when = route.when.as_ref().unwrap();
    let dialects: Vec<&str> = when.dialects.iter().map(|d| d.as_str()).collect();
    assert_eq!(dialects, ["openai_chat", "gemini"]);
    assert_eq!(when.operations, [Operation::Chat]);
    let keys = when.keys.as_ref().unwrap();
    assert!(keys.is_match("01JXYZ") && keys.is_match("alice") && !keys.is_match("bob"));
    assert!(when.owners.as_ref().unwrap().is_match("team-a/b"));
    assert_eq!(*when.tags, ["critical".into(), "batch".into()]);
    assert_eq!(when.headers[0].0, "x-team");
    assert!(when.headers[0].1.is_match("ml") && when.headers[0].1.is_match("research-7"));
    assert_eq!(when.networks.len(), 2);
    let bounds = |from, below| Bounds { from, below };
    assert_eq!(when.prompt_tokens, bounds(Some(10), Some(2000)));
    assert_eq!(when.output_tokens, bounds(None, Some(500)));
    assert_eq!(
        (when.tools, when.structured, when.stream),
        (Some(false), Some(true), Some(true))
    );
    assert_eq!(when.media, Some(vec![MediaKind::Image, MediaKind::Video]));
    assert!(when.text.as_ref().unwrap().is_match("well, HELLO there"));
    let percent = when.percent.unwrap();
    assert_eq!((percent.basis_points, percent.by), (250, PercentBy::Key));
    let time = when.time.as_ref().unwrap();
    assert_eq!((time.from, time.to), (22 * 60, 6 * 60 + 30));
    assert_eq!(time.zone.iana_name(), Some("Asia/Shanghai"));
    assert_eq!(time.days.len(), 2);
    assert!(when.needs_survey());
}

#[test]
fn no_condition_is_none() {
    assert!(compiled("").when.is_none());
    assert!(compiled("when = {}").when.is_none());
    assert_eq!(
        compiled("when = { media = false }").when.as_ref().unwrap().media,
        Some(Vec::new())
    );
    let time = compiled("when = { time = { days = [\"sat\", \"sun\"] } }");
    let time = time.when.as_ref().unwrap().time.clone().unwrap();
    assert_eq!((time.from, time.to), (0, 24 * 60), "the whole day");
    assert_eq!(time.zone.iana_name(), Some("UTC"));
}

#[test]
fn wrong_conditions() {
    for (condition, expected) in [
        (
            "dialect = \"opanai_chat\"",
            "dialect = \"opanai_chat\"\n    there is no dialect of this name. Did you mean \"openai_chat\"?   (known: \
             gemini, anthropic, openai_responses, openai_chat)",
        ),
        (
            "dialect = []",
            "dialect\n    the list is empty, so that nothing could match. Name something, or leave it out.",
        ),
        (
            "operation = \"list_models\"",
            "operation = \"list_models\"\n    it must be one of these.   (known: chat, count_tokens, embeddings)",
        ),
        (
            "key = \"a[\"",
            "key = \"a[\"\n    this is not a glob: unclosed character class; missing ']'. A \\ before a character takes it \
             as it is.",
        ),
        (
            "header = { \"x y\" = \"a\" }",
            "header.\"x y\"\n    this is not a header's name, as \"x-team\" is",
        ),
        (
            "header = { authorization = \"Bearer hunter2\" }",
            "header.authorization\n    keys travel in this header, and keys never stand in this file. Match on key, owner \
             or tag.",
        ),
        (
            "client = \"10.0.0.0/8\"",
            "client = \"10.0.0.0/8\"\n    it must be a list, as in [\"10.0.0.0/8\"]",
        ),
        (
            "client = [\"10.0.0.0/33\"]",
            "client[0] = \"10.0.0.0/33\"\n    it must be a network or an address, as in \"10.0.0.0/8\" or \"192.0.2.7\"",
        ),
        (
            "prompt_tokens_below = \"2k\"",
            "prompt_tokens_below = \"2k\"\n    it must be a whole number from 0 to 1000000000, not a text",
        ),
        (
            "media = true",
            "media = true\n    it must be false, or some of image, document, audio and video",
        ),
        (
            "media = []",
            "media\n    the list is empty. For requests without media write media = false.",
        ),
        (
            "media = \"picture\"",
            "media = \"picture\"\n    it must be one of these.   (known: image, document, audio, video)",
        ),
        (
            "text = 'a(b'",
            "text = \"a(b\"\n    this is not a regular expression: unclosed group. There are no look-around and no \
             backreferences.",
        ),
        (
            "text = '(?:\\w{1000}){1000}'",
            "text = \"(?:\\\\w{1000}){1000}\"\n    the expression is too large once it is compiled; use smaller \
             repetitions, as {1,20} instead of {1,2000}",
        ),
        ("percent = 101", "percent = 101\n    it must be from 0 to 100"),
        ("percent = -1", "percent = -1\n    it must not be negative"),
        (
            "percent = 2.555",
            "percent = 2.555\n    it may have 2 digits after the point at most",
        ),
        (
            "percent = \"10%\"",
            "percent = \"10%\"\n    it must be a plain number, as in 2 or 0.25, not a text",
        ),
        (
            "percent_by = \"key\"",
            "percent_by = \"key\"\n    it belongs to a percentage. Write percent = 10 beside it, or remove it.",
        ),
        (
            "time = {}",
            "time\n    it says nothing. Write { from = \"22:00\", to = \"06:00\" }, or leave it out.",
        ),
        (
            "time = { from = \"25:00\" }",
            "time.from = \"25:00\"\n    it must be a time of day from \"00:00\" to \"24:00\", as in \"06:30\"",
        ),
        (
            "time = { to = \"6:30\" }",
            "time.to = \"6:30\"\n    it must be a time of day from \"00:00\" to \"24:00\", as in \"06:30\"",
        ),
        (
            "time = { zone = \"shanghai\" }",
            "time.zone = \"shanghai\"\n    no time zone has this name. Did you mean \"Asia/Shanghai\"?",
        ),
        (
            "time = { zone = \"Europe/Berln\" }",
            "time.zone = \"Europe/Berln\"\n    no time zone has this name. Did you mean \"Europe/Berlin\"? Names are as in \
             \"Europe/Berlin\" or \"UTC\".",
        ),
        (
            "time = { days = [\"monday\"] }",
            "time.days[0] = \"monday\"\n    it must be one of these. Did you mean \"mon\"?   (known: mon, tue, wed, thu, \
             fri, sat, sun)",
        ),
        (
            "modle = \"x\"",
            "modle\n    there is no field of this name.   (known: dialect, operation, key, owner, tag, header, client, \
             prompt_tokens_from, prompt_tokens_below, output_tokens_from, output_tokens_below, tools, media, structured, \
             stream, text, percent, percent_by, time)",
        ),
    ] {
        when_says(condition, expected);
    }
}

#[test]
fn conditions_which_never_hold() {
    when_says(
        "prompt_tokens_from = 10, prompt_tokens_below = 10",
        "warning: prompt_tokens_below = 10\n    the route never matches: nothing is from 10 and below 10",
    );
    when_says(
        "output_tokens_below = 0",
        "warning: output_tokens_below = 0\n    the route never matches: nothing is from 0 and below 0",
    );
    when_says(
        "percent = 0.0",
        "warning: percent = 0.0\n    the route never matches: it takes 0 percent",
    );
    when_says(
        "time = { from = \"06:00\", to = \"06:00\" }",
        "warning: time\n    the route never matches: the time ends when it begins. For a whole day leave out from and to.",
    );
}

#[test]
fn every_action() {
    let route = compiled(
        r#"
        fallback = [{ provider = "a", model = "b1" }, { provider = "a", model = "b2", set = { x = 1 } }]
        fallback_on = { context_too_long = [{ provider = "a", model = "long" }], overloaded = [{ provider = "a", model = "o" }] }
        strategy = "adaptive"
        attempts = 16
        require = ["context", "vision"]
        affinity = "session"
        set = { temperature = 0.1, generationConfig.topP = 0.30, thinking = { type = "disabled" }, "a.b" = [1, 2.5, "x"] }
        default = { max_output_tokens = 1_000 }
        remove = ["user", "metadata.id"]
        system = { before = "Be kind.", after = "Be short." }
        "#,
    );
    let models: Vec<_> = route.fallback.iter().map(|t| t.model.as_deref().unwrap()).collect();
    assert_eq!(models, ["b1", "b2"]);
    assert_eq!(*route.fallback[1].edits.set, [("x".into(), json!(1))]);
    let on: Vec<_> = route
        .fallback_on
        .iter()
        .map(|(on, targets)| (*on, targets.len()))
        .collect();
    assert_eq!(on, [(FallbackOn::ContextTooLong, 1), (FallbackOn::Overloaded, 1)]);
    assert_eq!((route.strategy, route.attempts), (Strategy::Adaptive, Some(16)));
    assert_eq!(route.require, [Requirement::Context, Requirement::Vision]);
    assert_eq!(route.affinity, Affinity::Session);
    let set: Vec<_> = route
        .edits
        .set
        .iter()
        .map(|(path, value)| format!("{path}={value}"))
        .collect();
    assert_eq!(
        set,
        [
            "temperature=0.1",
            "generationConfig.topP=0.3",
            "thinking={\"type\":\"disabled\"}",
            "a.b=[1,2.5,\"x\"]",
        ]
    );
    assert_eq!(*route.edits.default, [("max_output_tokens".into(), json!(1000))]);
    assert_eq!(*route.edits.remove, ["user".into(), "metadata.id".into()]);
    assert_eq!(route.instructions.before.as_deref(), Some("Be kind."));
    assert_eq!(route.instructions.after.as_deref(), Some("Be short."));
}

#[test]
fn changes_in_sections_of_their_own() {
    let route =
        compiled("[route.set]\ntemperature = 1\nreasoning.effort = \"low\"\n[route.set.thinking]\ntype = \"x\"\n");
    let set: Vec<_> = route
        .edits
        .set
        .iter()
        .map(|(path, value)| format!("{path}={value}"))
        .collect();
    assert_eq!(
        set,
        ["temperature=1", "reasoning.effort=\"low\"", "thinking={\"type\":\"x\"}"]
    );
}

#[test]
fn wrong_actions() {
    let twice = "this field is set, has a default or is removed already; keep one of them";
    let fixed =
        "can't be changed: it is what the client asked, and the gateway has routed by it; a target names its model";
    for (line, expected) in [
        ("attempts = 0", "attempts = 0\n    it must be from 1 to 16".to_owned()),
        ("attempts = 17", "attempts = 17\n    it must be from 1 to 16".to_owned()),
        (
            "require = [\"smell\"]",
            "require[0] = \"smell\"\n    it must be one of these.   (known: context, tools, vision, documents, audio, \
             video, structured, reasoning)"
                .to_owned(),
        ),
        (
            "affinity = \"on\"",
            "affinity = \"on\"\n    it must be one of these.   (known: auto, session, off)".to_owned(),
        ),
        (
            "set = { model = \"x\" }",
            "set.model = \"x\"\n    a target's own model = \"NAME\" does this".to_owned(),
        ),
        (
            "default = { stream = true }",
            "default.stream = true\n    the route's upstream_stream = \"always\" or \"never\" does this".to_owned(),
        ),
        (
            "set = { \"a..b\" = 1 }",
            "set.\"a..b\" = 1\n    a field's path has 1 to 16 names with a point between two, and 256 bytes at most"
                .to_owned(),
        ),
        ("set.messages = []", format!("set.messages\n    `messages` {fixed}")),
        (
            "default.\"model.x\" = 1",
            format!("default.\"model.x\" = 1\n    `model.x` {fixed}"),
        ),
        (
            "remove = [\"user\", \"input\"]",
            format!("remove[1] = \"input\"\n    `input` {fixed}"),
        ),
        (
            "fallback = [{ provider = \"a\", model = \"x\", set = { generate_content_request.x = 1 } }]",
            format!("fallback[0].set.generate_content_request.x = 1\n    `generate_content_request.x` {fixed}"),
        ),
        (
            r"set = { 'a\b' = 1 }",
            r#"set."a\\b" = 1
    `a\b` is not a path: names with dots between them, `\.` for a dot within a name"#
                .to_owned(),
        ),
        (
            "set = { a = 2020-01-01 }",
            "set.a = 2020-01-01\n    JSON has no dates; write it in quotes".to_owned(),
        ),
        (
            "set = { a = nan }",
            "set.a = nan\n    JSON has no such number".to_owned(),
        ),
        (
            "set = { a.b = 1, \"a.b\" = 2 }",
            format!("set.\"a.b\" = 2\n    {twice}"),
        ),
        (
            "set = { a = 1 }\nremove = \"a\"",
            format!("remove = \"a\"\n    {twice}").replace("8 ", "9 "),
        ),
        (
            "system = { before = \" \" }",
            "system.before = \" \"\n    it is a text of 64 KiB at most; or leave it out".to_owned(),
        ),
        (
            "fallback = []",
            "fallback\n    there must be 1 to 100 of them".to_owned(),
        ),
        (
            "fallback = [{ provider = \"a\", model = \"x\", weight = 2 }]",
            "fallback[0].weight = 2\n    fallbacks are asked in their order, whatever they weigh. Remove it."
                .to_owned(),
        ),
        (
            "fallback_on = { timeout = [] }",
            "fallback_on.timeout\n    there is no field of this name.   (known: context_too_long, content_policy, \
             overloaded)"
                .to_owned(),
        ),
        (
            "limits = {}",
            "limits\n    this version does not have it yet: limits of a route. Remove it until then.".to_owned(),
        ),
    ] {
        let at = if line.contains('\n') { 9 } else { 8 };
        says(&with(line), &format!("{at}  route \"r\": {expected}\n"));
    }
    says(
        &route("name = \"r\"\nmodel = \"m\"\nfallback = [{ provider = \"a\" }]"),
        "4  route \"r\"\n    targets is missing, and fallbacks are asked only when the targets have failed. Write targets \
         = [ { provider = \"NAME\" } ].\n",
    );
}

#[test]
fn targets_pick_credentials_by_tags() {
    let text = |tags: &str| {
        format!(
            "[provider.k]\ndialects = {{ openai_chat = \"http://k\" }}\n[[provider.k.credential]]\nname = \"m\"\n\
             key = \"env:KEY\"\ntags = [\"eu\", \"batch\"]\n[[route]]\nname = \"r\"\nmodel = \"m\"\n\
             targets = [{{ provider = \"k\", tags = {tags} }}]\n"
        )
    };
    let (rules, _) = Folder::with(&[("a.toml", &text("\"eu\""))]).compile(&[]).unwrap();
    assert_eq!(*rules.routes[0].targets[0].tags, ["eu".into()]);
    says(
        &text("[\"eu\", \"us\"]"),
        "10  route \"r\": targets[0].tags\n    no credential of provider \"k\" has all of these tags, so that the target \
         could never be used\n",
    );
    says(
        &format!(
            "{PROVIDER}[[route]]\nname = \"r\"\nmodel = \"m\"\ntargets = [{{ provider = \"a\", tags = \"x\" }}]\n"
        ),
        "7  route \"r\": targets[0].tags = \"x\"\n    no credential of provider \"a\" has this tag, so that the target \
         could never be used\n",
    );
}
