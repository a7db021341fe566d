//! An explanation, for people.

use std::fmt::Write as _;

use crate::observe::redact::printable;
use crate::routing::Explanation;
use crate::routing::explain::{Name, TargetSeen};

use super::super::table::{Table, grouped};
use super::MAX_TOLD;

/// Longest reason told, in bytes.
const MAX_REASON: usize = 1000;

/// The text.
pub(super) fn told(explanation: &Explanation) -> String {
    let mut text = String::new();
    let request = &explanation.request;
    // Writing to a String can't fail.
    let _ = write!(
        text,
        "request   {} {}{}, model {}",
        request.dialect,
        request.operation,
        if request.stream { ", a stream" } else { "" },
        printable(&request.model, MAX_TOLD)
    );
    let _ = match request.prompt_tokens {
        Some(tokens) => writeln!(text, ", about {} prompt tokens{}", grouped(tokens), inside(explanation)),
        None => writeln!(text, ", not read further"),
    };
    for name in &explanation.names {
        tell_name(&mut text, name);
    }
    text.push('\n');
    match &explanation.refused {
        Some(why) => {
            let _ = writeln!(text, "refused   {}", printable(why, MAX_REASON));
        }
        None => {
            let _ = writeln!(text, "tried in this order, were each to fail at its provider");
            let mut table = Table::new()
                .number("")
                .text("PROVIDER")
                .text("MODEL")
                .text("CREDENTIAL")
                .text("");
            for (at, attempt) in explanation.order.iter().enumerate() {
                table.row([
                    &*(at + 1).to_string(),
                    &*attempt.provider,
                    &*attempt.model,
                    attempt.credential.as_deref().unwrap_or("-"),
                    if attempt.tier == "target" { "" } else { attempt.tier },
                ]);
            }
            text.push_str(&table.render());
            if explanation.more {
                text.push_str("and more\n");
            }
        }
    }
    text
}

fn inside(explanation: &Explanation) -> String {
    let request = &explanation.request;
    let mut text = String::new();
    if let Some(tokens) = request.output_tokens {
        let _ = write!(text, ", at most {} of output", grouped(tokens));
    }
    let has = |what: Option<bool>| what == Some(true);
    for (there, what) in [
        (has(request.tools), "tools"),
        (has(request.structured), "structured output"),
        (has(request.reasoning), "reasoning"),
    ] {
        if there {
            let _ = write!(text, ", {what}");
        }
    }
    for kind in request.media.iter().flatten() {
        let _ = write!(text, ", {kind}");
    }
    text
}

fn tell_name(text: &mut String, name: &Name) {
    let _ = write!(text, "\nname      {}", printable(&name.name, MAX_TOLD));
    if let Some(other) = &name.alias_of {
        let _ = write!(text, ", an alias of {}", printable(other, MAX_TOLD));
    }
    if let Some(provider) = &name.provider {
        let _ = write!(text, ", at the provider {provider} as it stands: no route is asked");
    }
    text.push('\n');
    for route in &name.routes {
        let _ = match &route.miss {
            None => writeln!(text, "route     \"{}\": taken", printable(&route.route, MAX_TOLD)),
            Some(miss) => writeln!(
                text,
                "route     \"{}\": no; {} is wanted: {}, found: {}",
                printable(&route.route, MAX_TOLD),
                miss.condition,
                printable(&miss.wanted, MAX_TOLD),
                printable(&miss.found, MAX_TOLD)
            ),
        };
    }
    if let Some(strategy) = name.strategy {
        let _ = write!(
            text,
            "strategy  {strategy}; affinity {}",
            name.affinity.unwrap_or("off")
        );
        if let Some(attempts) = name.attempts {
            let _ = write!(text, "; at most {attempts} attempts");
        }
        text.push('\n');
    }
    if !name.targets.is_empty() {
        text.push_str(&targets(&name.targets));
    }
    if let Some(why) = &name.refused {
        let _ = writeln!(text, "nowhere   {}", printable(why, MAX_REASON));
    }
}

fn targets(targets: &[TargetSeen]) -> String {
    let mut table = Table::new()
        .text("TIER")
        .text("PROVIDER")
        .text("MODEL")
        .text("DIALECT")
        .number("WEIGHT")
        .text("");
    for target in targets {
        let price = target
            .price
            .map(|price| format!("{}.{:09} USD", price / 1_000_000_000, price % 1_000_000_000));
        let note = match &target.left_out {
            Some(why) => format!("left out: {why}"),
            None => price.unwrap_or_default(),
        };
        table.row([
            target.tier,
            &target.provider,
            &target.model,
            target.dialect.unwrap_or("-"),
            &target
                .weight
                .map_or_else(|| "-".to_owned(), |weight| weight.to_string()),
            &note,
        ]);
    }
    table.render()
}
