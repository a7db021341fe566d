//! From names to candidates.

use super::*;
use crate::ir::MediaKind;
use crate::routing::{Survey, find, needs_survey};
use crate::rules::{Requirement, When};

fn fleet_with(rig: Rig, change: impl FnOnce(&mut Rules)) -> Fleet {
    let mut rules = rig.rules();
    change(&mut rules);
    Fleet::new(Arc::new(rules), None)
}

fn rig() -> Rig {
    Rig::of("a b c")
        .route("exact", &["m"], "a:a-m b", |rig, route| {
            route.fallback = rig.targets("c:c-m")
        })
        .route("glob", &["m-*"], "b:b-x", |_, _| {})
        .route("bare", &["n", "o"], "c", |_, _| {})
}

fn found<'q>(fleet: &Fleet, change: impl FnOnce(&mut Query<'q>)) -> Result<Vec<String>, NoRoute> {
    let mut query = query("m", no_headers());
    change(&mut query);
    routing::resolve(fleet, &query, &|_| true).map(|plan| candidates(&plan))
}

#[test]
fn the_first_route_whose_conditions_hold_is_taken() {
    let only_streams = When {
        stream: Some(true),
        ..When::default()
    };
    let fleet = Rig::of("a b")
        .route("streams", &["m"], "a", |_, route| {
            route.when = Some(Box::new(only_streams))
        })
        .route("rest", &["m"], "b", |_, _| {})
        .fleet();
    assert_eq!(found(&fleet, |query| query.stream = true).unwrap(), ["a:-"]);
    assert_eq!(found(&fleet, |query| query.stream = false).unwrap(), ["b:-"]);
    let plan = plan(&fleet, "m").unwrap();
    assert_eq!(&*plan.route.unwrap().name, "rest");
}

#[test]
fn targets_fallbacks_and_their_names() {
    let fleet = rig().fleet();
    assert_eq!(found(&fleet, |_| {}).unwrap(), ["a:a-m", "b:-", "c:c-m fallback"]);
    assert_eq!(found(&fleet, |query| query.model = "m-1").unwrap(), ["b:b-x"]);
    assert_eq!(
        found(&fleet, |query| query.model = "none").unwrap_err(),
        NoRoute::UnknownModel("none".into())
    );
}

#[test]
fn an_alias_is_followed_first_and_its_name_is_asked_for() {
    let fleet = fleet_with(rig(), |rules| {
        for (name, stands_for) in [("fast", "n"), ("m", "o"), ("direct", "b/x/y"), ("n", "n")] {
            rules.aliases.insert(name.into(), stands_for.into());
        }
    });
    assert_eq!(found(&fleet, |query| query.model = "fast").unwrap(), ["c:n"]);
    assert_eq!(
        found(&fleet, |query| query.model = "m").unwrap(),
        ["c:o"],
        "before any route"
    );
    assert_eq!(found(&fleet, |query| query.model = "direct").unwrap(), ["b:x/y"]);
    assert_eq!(found(&fleet, |query| query.model = "n").unwrap(), ["c:-"]);
}

#[test]
fn a_named_provider_is_asked_for_the_model_as_it_stands() {
    let fleet = rig().fleet();
    assert_eq!(found(&fleet, |query| query.model = "b/m").unwrap(), ["b:m"]);
    assert_eq!(found(&fleet, |query| query.model = "b/v/m").unwrap(), ["b:v/m"]);
    assert_eq!(found(&fleet, |query| query.provider = Some("b")).unwrap(), ["b:m"]);
    assert_eq!(
        found(&fleet, |query| (query.provider, query.model) = (Some("b"), "a/m")).unwrap(),
        ["b:a/m"],
        "the field wins, as some providers' names have slashes"
    );
    assert_eq!(
        found(&fleet, |query| query.provider = Some("z")).unwrap_err(),
        NoRoute::UnknownProvider("z".into())
    );
    assert!(matches!(
        found(&fleet, |query| query.model = "z/m"),
        Err(NoRoute::UnknownModel(_))
    ));
    let plan = plan(&fleet, "b/m").unwrap();
    assert!(plan.route.is_none());
}

#[test]
fn wishes_follow_in_order_and_unknown_ones_are_passed_over() {
    let fleet = rig().fleet();
    let wishes: Vec<String> = ["none", "n", "m", "n", "m-1"].map(str::to_owned).into();
    let names = found(&fleet, |query| query.wishes = &wishes).unwrap();
    assert_eq!(names, ["a:a-m", "b:-", "c:c-m fallback", "c:n", "b:b-x"]);
    let names = found(&fleet, |query| (query.model, query.wishes) = ("none", &wishes)).unwrap();
    assert_eq!(names, ["c:n", "a:a-m", "b:m", "c:c-m fallback", "b:b-x"]);
    let none: Vec<String> = vec!["no".into()];
    let error = found(&fleet, |query| (query.model, query.wishes) = ("none", &none)).unwrap_err();
    assert_eq!(error, NoRoute::UnknownModel("none".into()), "the first one's");
    let many: Vec<String> = (0..1000).map(|n| format!("b/{n}")).collect();
    assert_eq!(
        found(&fleet, |query| query.wishes = &many).unwrap().len(),
        2 + find::MAX_NAMES
    );
}

#[test]
fn the_next_wish_comes_after_all_of_the_one_before_and_brings_its_route() {
    let fleet = rig().fleet();
    let headers = HeaderMap::new();
    let wishes = vec!["m-1".to_owned()];
    let query = Query {
        wishes: &wishes,
        ..query("m", &headers)
    };
    let mut plan = routing::resolve(&fleet, &query, &|_| true).unwrap();
    let now = Instant::now();
    let mut told = Vec::new();
    while let Ok(choice) = plan.next(now) {
        told.push(format!("{} {}", name(&choice), plan.route.as_ref().unwrap().name));
        plan.failed(choice.index, crate::upstream::Failure::RateLimited);
    }
    // The seat of b for `m` is not that for `b-x`: another lane.
    assert_eq!(told, ["a/c0 exact", "b/c0 exact", "c/c0 exact", "b/c0 glob"]);
}

#[test]
fn who_can_not_be_asked_is_left_out() {
    let speaks = |name: &str, dialect| {
        let mut provider = provider(name, 1);
        provider.bases[0].dialect = dialect;
        provider
    };
    let fleet = Rig::new([speaks("a", MESSAGES), provider("off", 0), speaks("c", CHAT)])
        .route("all", &["m"], "a off c", |_, _| {})
        .route("foreign", &["f"], "a", |_, _| {})
        .route("inactive", &["i"], "off", |_, _| {})
        .fleet();
    let headers = HeaderMap::new();
    let resolve = |model, knows: &dyn Fn(DialectId) -> bool| {
        routing::resolve(&fleet, &query(model, &headers), knows).map(|plan| candidates(&plan))
    };
    assert_eq!(resolve("m", &|_| true).unwrap(), ["a:-", "c:-"]);
    assert_eq!(
        resolve("m", &|_| false).unwrap(),
        ["c:-"],
        "its own dialect needs no conversion"
    );
    assert_eq!(
        resolve("f", &|_| false).unwrap_err(),
        NoRoute::NotOffered {
            model: "f".into(),
            spoken: "anthropic".into()
        }
    );
    assert_eq!(resolve("i", &|_| true).unwrap_err(), NoRoute::NoCredential("i".into()));
}

#[test]
fn a_route_needs_a_target_or_a_fallback_that_can_be_asked() {
    let fleet = Rig::new([provider("off", 0), provider("on", 1)])
        .route("list", &["l"], "off", |rig, route| {
            route.fallback_on = vec![(FallbackOn::Overloaded, rig.targets("on"))];
        })
        .route("fallback", &["f"], "off", |rig, route| {
            route.fallback = rig.targets("on")
        })
        .fleet();
    assert_eq!(plan(&fleet, "l").err(), Some(NoRoute::NoCredential("l".into())));
    assert_eq!(candidates(&plan(&fleet, "f").unwrap()), ["on:- fallback"]);
}

#[test]
fn what_models_can_not_take() {
    use crate::routing::fitness::lacks;
    use crate::rules::ModelFacts;
    let facts = ModelFacts {
        context: Some(1000),
        output: Some(100),
        can: vec![Requirement::Tools],
    };
    let all = [
        Requirement::Context,
        Requirement::Tools,
        Requirement::Vision,
        Requirement::Structured,
    ];
    let survey = |change: fn(&mut Survey)| {
        let mut survey = Survey {
            prompt_tokens: 900,
            output_tokens: Some(100),
            ..Survey::default()
        };
        change(&mut survey);
        survey
    };
    type Change = fn(&mut Survey);
    let cases: [(Change, Option<Requirement>); 8] = [
        (|_| {}, None),
        (|s| s.prompt_tokens = 901, Some(Requirement::Context)),
        (|s| s.output_tokens = Some(101), Some(Requirement::Context)),
        (|s| s.output_tokens = None, None),
        (|s| s.tools = true, None),
        (
            |s| s.media = vec![MediaKind::Audio, MediaKind::Image],
            Some(Requirement::Vision),
        ),
        (|s| s.media = vec![MediaKind::Audio], None),
        (|s| s.structured = true, Some(Requirement::Structured)),
    ];
    for (n, (change, expected)) in cases.into_iter().enumerate() {
        assert_eq!(lacks(&all, &survey(change), &facts), expected, "case {n}");
    }
    let unknown = ModelFacts::default();
    assert_eq!(
        lacks(
            &[Requirement::Context],
            &survey(|s| s.prompt_tokens = 1 << 40),
            &unknown
        ),
        None
    );
}

#[test]
fn the_inside_is_read_only_where_a_route_asks_for_it() {
    let when = |change: fn(&mut When)| {
        let mut when = When::default();
        change(&mut when);
        Some(Box::new(when))
    };
    let fleet = fleet_with(
        Rig::of("a")
            .route("stream", &["s", "deep"], "a", |_, route| {
                route.when = when(|w| w.stream = Some(true))
            })
            .route("free", &["free"], "a", |_, _| {})
            .route("tools", &["deep", "free"], "a", |_, route| {
                route.when = when(|w| w.tools = Some(true))
            })
            .route("require", &["q"], "a", |_, route| {
                route.require = vec![Requirement::Context]
            })
            .route("cheap", &["c"], "a", |_, route| route.strategy = Strategy::Cheapest),
        |rules| {
            rules.aliases.insert("alias".into(), "c".into());
        },
    );
    let needs = |model: &str, wishes: &[&str]| {
        let wishes: Vec<String> = wishes.iter().map(|wish| (*wish).to_owned()).collect();
        needs_survey(&fleet, model, &wishes, None)
    };
    assert!(!needs("s", &[]));
    assert!(!needs("free", &[]), "a route without conditions comes first");
    assert!(needs("deep", &[]));
    assert!(needs("q", &[]));
    assert!(needs("c", &[]));
    assert!(needs("alias", &[]));
    assert!(!needs("a/deep", &[]), "no route is asked");
    assert!(needs("s", &["none", "q"]));
    assert!(!needs("none", &[]));
}

#[test]
fn the_inside_is_read_where_a_credential_has_so_many_tokens() {
    let mut limited = provider("limited", 2);
    let mut credential = Arc::into_inner(limited.credentials.remove(0)).unwrap();
    credential.limits.tokens_per_minute = Some(1000);
    limited.credentials.push(credential.into());
    let fleet = Rig::new([provider("free", 1), limited])
        .route("free", &["free"], "free", |_, _| {})
        .route("behind", &["behind"], "free", |rig, route| {
            route.fallback = rig.targets("limited")
        })
        .route("limited", &["limited"], "limited", |_, _| {})
        .fleet();
    let needs = |model: &str, provider: Option<&str>| needs_survey(&fleet, model, &[], provider);
    assert!(!needs("free", None));
    assert!(needs("behind", None) && needs("limited", None));
    assert!(needs("limited/x", None) && !needs("free/limited", None));
    assert!(needs("free", Some("limited")) && !needs("limited", Some("free")));
}
