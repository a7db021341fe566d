//! Home trip: a request decoded and encoded in the same dialect is the same request, and nothing is lost. What counts as
//! the same is listed in `normal.rs`.

use serde_json::Value;
use tollgate::dialects::{Dialect, Target, Upstream};
use tollgate::ir::LossReport;

use crate::report::{Report, short};
use crate::{conservation, fixtures, normal, recordings};

/// There and back.
fn trip(
    dialect: &dyn Dialect,
    target: &Target,
    model: Option<&str>,
    body: &Value,
) -> Result<(Value, LossReport), String> {
    let mut request = dialect
        .decode_request(target, body.to_string().as_bytes())
        .map_err(|error| format!("it can't be read: {error}"))?;
    request.link_tools();
    let upstream = Upstream {
        model: model.unwrap_or(&request.model),
        stream: request.stream,
        ask_usage: false,
    };
    let mut loss = LossReport::default();
    let written = dialect
        .encode_request(&request, &upstream, &mut loss)
        .map_err(|error| format!("it can't be written: {error}"))?;
    let written = serde_json::from_slice(&written).map_err(|error| format!("what was written is not JSON: {error}"))?;
    Ok((written, loss))
}

/// Where two documents differ first.
fn difference(path: &str, before: &Value, after: &Value) -> Option<String> {
    match (before, after) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            keys.into_iter().find_map(|key| {
                let none = Value::Null;
                difference(
                    &format!("{path}.{key}"),
                    a.get(key).unwrap_or(&none),
                    b.get(key).unwrap_or(&none),
                )
            })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            let mut pairs = a.iter().zip(b).enumerate();
            pairs.find_map(|(index, (a, b))| difference(&format!("{path}[{index}]"), a, b))
        }
        _ if before == after => None,
        _ => Some(format!(
            "{path}: {} -> {}",
            short(&before.to_string()),
            short(&after.to_string())
        )),
    }
}

fn check(report: &mut Report, id: &str, dialect: &dyn Dialect, target: &Target, model: Option<&str>, body: &Value) {
    let name = dialect.id().as_str();
    match trip(dialect, target, model, body) {
        Err(error) => report.check(name, false, || format!("{id}: {error}")),
        Ok((written, loss)) => {
            let lost: Vec<_> = loss
                .losses()
                .iter()
                .filter(|loss| conservation::lost_at_home(loss))
                .collect();
            report.check(name, lost.is_empty(), || format!("{id}: lost {lost:?}"));
            let differs = difference("", &normal::request(name, body), &normal::request(name, &written));
            report.check(name, differs.is_none(), || {
                format!("{id}: {}", differs.unwrap_or_default())
            });
        }
    }
}

#[test]
fn fixtures_come_home() {
    let mut report = Report::default();
    for fixture in fixtures::requests() {
        let target = recordings::target(fixture.dialect.id().as_str(), false);
        check(
            &mut report,
            &fixture.id,
            fixture.dialect,
            &target,
            Some(fixture.own_model()),
            &fixture.body,
        );
    }
    report.end("home trip of fixtures", true);
}

#[test]
fn recordings_come_home() {
    let mut report = Report::default();
    for case in recordings::answered() {
        let Some(body) = case.request.as_ref().and_then(|request| request.body.as_ref()) else {
            continue;
        };
        if body.is_object() {
            check(&mut report, &case.id, case.dialect(), &case.target(), None, body);
        }
    }
    report.end("home trip of recordings", false);
}
