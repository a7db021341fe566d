//! What is explained is what happens.

use super::*;
use crate::routing::Survey;
use crate::rules::When;
use crate::upstream::Failure;

fn fleet() -> Fleet {
    let short = When {
        prompt_tokens: crate::rules::when::Bounds {
            from: None,
            below: Some(400),
        },
        ..When::default()
    };
    let rig = Rig::new([provider("a", 2), provider("off", 0), provider("b", 1), provider("f", 1)])
        .route("short", &["m"], "b", |_, route| route.when = Some(Box::new(short)))
        .route("rest", &["*"], "a:big*3 off b*1", |rig, route| {
            route.fallback = rig.targets("f");
            route.fallback_on = vec![(FallbackOn::Overloaded, rig.targets("b:spare"))];
            route.attempts = Some(5);
        });
    let mut rules = rig.rules();
    rules.aliases.insert("fast".into(), "m".into());
    Fleet::new(Arc::new(rules), None)
}

#[test]
fn routes_targets_and_reasons() {
    let survey = Survey {
        prompt_tokens: 1000,
        ..Survey::default()
    };
    let query = Query {
        survey: Some(&survey),
        ..query("fast", no_headers())
    };
    let told = routing::explain(&fleet(), &query, &|_| true, None, Instant::now());
    assert_eq!(told.refused, None);
    let told = serde_json::to_value(&told).unwrap();
    let name = &told["names"][0];
    assert_eq!(name["alias_of"], "m");
    assert_eq!(
        name["routes"],
        serde_json::json!([
            { "route": "short", "taken": false,
              "miss": { "condition": "prompt_tokens", "wanted": "below 400", "found": "1000" } },
            { "route": "rest", "taken": true, "miss": null },
        ])
    );
    assert_eq!(
        (name["strategy"].as_str(), name["affinity"].as_str()),
        (Some("weighted"), Some("auto"))
    );
    assert_eq!(name["attempts"], 5);
    let targets: Vec<String> = name["targets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| {
            format!(
                "{} {}:{} {} {}",
                t["tier"], t["provider"], t["model"], t["dialect"], t["left_out"]
            )
        })
        .map(|text| text.replace('"', ""))
        .collect();
    assert_eq!(
        targets,
        [
            "target a:big openai_chat null",
            "target off:m null inactive: the environment variable KEY is not set",
            "target b:m openai_chat null",
            "fallback f:m openai_chat null",
            "overloaded b:spare openai_chat null",
        ]
    );
}

#[test]
fn each_target_has_its_own_dialect_also_where_a_name_leads_nowhere() {
    let speaks = |name: &str, credentials, dialect| {
        let mut provider = provider(name, credentials);
        provider.bases[0].dialect = dialect;
        provider
    };
    // Of the first name nobody can be asked at first: what is its list for failures is no candidate in the end.
    let fleet = Rig::new([
        speaks("off", 0, CHAT),
        speaks("spare", 1, MESSAGES),
        speaks("good", 1, CHAT),
    ])
    .route("one", &["one"], "off", |rig, route| {
        route.fallback_on = vec![(FallbackOn::Overloaded, rig.targets("spare"))];
    })
    .route("two", &["two"], "good", |_, _| {})
    .fleet();
    let query = Query {
        wishes: &["two".to_owned()],
        ..query("one", no_headers())
    };
    let told = routing::explain(&fleet, &query, &|_| true, None, Instant::now());
    let told: Vec<_> = told.names.iter().flat_map(|name| &name.targets).collect();
    let told: Vec<_> = told.iter().map(|seen| (&*seen.provider, seen.dialect)).collect();
    assert_eq!(
        told,
        [
            ("off", None),
            ("spare", Some(MESSAGES.as_str())),
            ("good", Some(CHAT.as_str()))
        ]
    );
}

#[test]
fn the_order_is_that_of_the_plan() {
    let query = query("m", no_headers());
    let told = routing::explain(&fleet(), &query, &|_| true, None, Instant::now());
    let told: Vec<String> = told
        .order
        .iter()
        .map(|attempt| format!("{}/{}", attempt.provider, attempt.credential.as_deref().unwrap_or("-")))
        .collect();
    let fleet = fleet();
    let mut plan = routing::resolve(&fleet, &query, &|_| true).unwrap();
    let mut happened = Vec::new();
    while let Ok(choice) = plan.next(Instant::now()) {
        happened.push(name(&choice));
        if !plan.failed(choice.index, Failure::Server) {
            break;
        }
    }
    assert_eq!(told, happened);
    assert_eq!(told, ["a/c0", "b/c0", "f/c0", "a/c1"]);
}

#[test]
fn what_goes_nowhere_says_why() {
    let fleet = Rig::new([provider("off", 0)])
        .route("r", &["m"], "off", |_, _| {})
        .fleet();
    let told = routing::explain(&fleet, &query("m", no_headers()), &|_| true, None, Instant::now());
    assert!(told.refused.unwrap().contains("credentials"));
    assert!(told.names[0].targets[0].left_out.as_deref().unwrap().contains("KEY"));
    let told = routing::explain(&fleet, &query("n", no_headers()), &|_| true, None, Instant::now());
    assert!(told.refused.unwrap().contains("`n` is not offered"));
    assert!(told.names[0].routes.is_empty() && told.order.is_empty());
}
