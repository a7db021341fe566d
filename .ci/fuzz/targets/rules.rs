//! Rules: any text either compiles or is told off, with a line of the file; and what compiles can be asked.
#![no_main]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use tollgate::clock::{Clock, UnixMicros};
use tollgate::rules::{Rules, compile_with};

fuzz_target!(|input: &[u8]| {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| tempfile::tempdir().expect("a folder")).path();
    std::fs::write(folder.join("rules.toml"), input).expect("a file");
    let environment = HashMap::from([("NAME", "value")]);
    let lines = input.iter().filter(|byte| **byte == b'\n').count() + 1;
    match compile_with(folder, &Clock::manual(UnixMicros(0)), &environment) {
        Ok((rules, warnings)) => {
            assert!(
                warnings.iter().all(|problem| problem.warning),
                "what compiles has no faults"
            );
            ask(&rules);
        }
        Err(problems) => {
            assert!(problems.iter().any(|problem| !problem.warning), "a refusal says why");
            assert!(
                problems.iter().all(|problem| problem.line <= lines),
                "problems name lines of the file"
            );
        }
    }
});

/// Whatever is asked has an answer, and aliases lead to their end at once.
fn ask(rules: &Rules) {
    for (name, end) in &rules.aliases {
        assert!(
            rules.alias(end).is_none() && **name != **end,
            "an alias leads to no alias"
        );
    }
    for route in &rules.routes {
        for model in &route.models {
            let places = rules
                .routes_for(model)
                .map(|taken| rules.routes.iter().position(|route| Arc::ptr_eq(route, taken)));
            let places: Vec<_> = places.collect();
            assert!(places.is_sorted(), "the first that matches wins");
            for provider in &rules.providers {
                let _ = rules.models.facts(&provider.name, model);
                let _ = rules
                    .prices
                    .price(&provider.name, model, UnixMicros(0))
                    .map(|price| price.estimate(u64::MAX, 1));
            }
        }
    }
}
