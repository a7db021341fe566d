//! Routing: from a request to its first candidate and credential, with 200 routes and 1,000 credentials, for each strategy. The bar is
//! 3 microseconds in all (issue 4). It only measures: it never fails on a time.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use criterion::{Criterion, criterion_group, criterion_main};
use http::HeaderMap;
use tollgate::clock::{Clock, UnixMicros};
use tollgate::dialects;
use tollgate::ir::Operation;
use tollgate::routing::{self, Query, Sticky, Survey};
use tollgate::rules::{self, Rules, Strategy};
use tollgate::upstream::Fleet;

const ROUTES: usize = 200;
const PROVIDERS: usize = 5;
const CREDENTIALS: usize = 200;

/// Rules as files would give them.
fn rules(strategy: Strategy) -> Option<Rules> {
    let mut text = String::new();
    for provider in 0..PROVIDERS {
        text += &format!("[provider.p{provider}]\ndialects = {{ openai_chat = \"http://127.0.0.1:1/v1\" }}\n");
        for credential in 0..CREDENTIALS {
            text += &format!("[[provider.p{provider}.credential]]\nname = \"c{credential}\"\nkey = \"env:KEY\"\n");
        }
    }
    let targets: String = (0..PROVIDERS)
        .map(|n| format!("{{ provider = \"p{n}\", model = \"up-{n}\", weight = {} }},", n + 1))
        .collect();
    for route in 0..ROUTES {
        let model = match route % 4 {
            0 => format!("\"model-{route}\""),
            1 => format!("\"family-{route}-*\""),
            2 => format!("[\"vendor-{route}/*\", \"*-v{route}\"]"),
            // Several with conditions take the same names.
            _ => format!("\"shared-{}*\"", route % 40),
        };
        let strategy = strategy.as_str();
        text += &format!(
            "[[route]]\nname = \"route {route}\"\nmodel = {model}\ntargets = [{targets}]\nstrategy = \"{strategy}\"\n"
        );
        // Of those which share names, all but the last ask for what requests do not have.
        if route % 4 == 3 && route + 40 < ROUTES {
            text += "when = { stream = true, tools = true }\n";
        }
    }
    let folder = tempfile::tempdir().ok()?;
    std::fs::write(folder.path().join("rules.toml"), text).ok()?;
    let environment = std::collections::HashMap::from([("KEY", "a-secret-of-a-bench")]);
    let (rules, _) = rules::compile_with(folder.path(), &Clock::manual(UnixMicros(0)), &environment).ok()?;
    Some(rules)
}

fn query<'a>(model: &'a str, headers: &'a HeaderMap, survey: &'a Survey) -> Option<Query<'a>> {
    Some(Query {
        request: "0192f7f0-0000-7000-8000-000000000000",
        model,
        wishes: &[],
        provider: None,
        dialect: dialects::by_name("openai_chat")?.id(),
        operation: Operation::Chat,
        stream: false,
        asker: None,
        address: None,
        headers,
        at: UnixMicros(0),
        survey: Some(survey),
        session: Some(7),
        permit: None,
    })
}

fn routing(c: &mut Criterion) {
    let (headers, survey) = (HeaderMap::new(), Survey::default());
    let knows = |_| true;
    let mut group = c.benchmark_group("routing");
    let now = Instant::now();
    for strategy in Strategy::ALL {
        let name = strategy.as_str();
        let Some(fleet) = rules(strategy).map(|rules| Fleet::new(Arc::new(rules), None)) else {
            return;
        };
        for (kind, model) in [
            ("exact", "model-100"),
            ("glob", "family-101-x"),
            ("conditions", "shared-3-x"),
        ] {
            let Some(query) = query(model, &headers, &survey) else {
                return;
            };
            group.bench_function(format!("{name}/{kind}"), |b| {
                b.iter(|| {
                    let mut plan = routing::resolve(&fleet, black_box(&query), &knows).ok()?;
                    plan.next(now).ok()
                });
            });
        }
    }
    let Some(fleet) = rules(Strategy::Weighted).map(|rules| Fleet::new(Arc::new(rules), None)) else {
        return;
    };
    let Some(query) = query("model-100", &headers, &survey) else {
        return;
    };
    group.bench_function("resolve alone", |b| {
        b.iter(|| routing::resolve(&fleet, black_box(&query), &knows).ok());
    });
    group.bench_function("the routes of a name alone", |b| {
        b.iter(|| fleet.rules().routes_for(black_box("model-100")).next().is_some());
    });
    let sticky = Sticky {
        provider: "p3".into(),
        credential: Some("c77".into()),
        model: Some("up-3".into()),
    };
    group.bench_function("sticky", |b| {
        b.iter(|| {
            let mut plan = routing::resolve(&fleet, black_box(&query), &knows).ok()?;
            plan.stick(Some(&sticky));
            plan.next(now).ok()
        });
    });
    group.bench_function("1,000 on each of two threads", |b| {
        let thousand = || {
            for _ in 0..1000 {
                let plan = routing::resolve(&fleet, black_box(&query), &knows);
                black_box(plan.ok().and_then(|mut plan| plan.next(now).ok()));
            }
        };
        b.iter(|| {
            std::thread::scope(|scope| {
                scope.spawn(thousand);
                scope.spawn(thousand);
            });
        });
    });
    group.finish();
}

criterion_group!(benches, routing);
criterion_main!(benches);
