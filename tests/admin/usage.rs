//! What the ledger holds, in every form.

use reqwest::Method;
use serde_json::{Value, json};
use tollgate::ids::KeyId;
use tollgate::money::NanoUsd;

use crate::support::{Answer, Gateway, HOUR};

/// Enters attempts of two models on two days.
fn fill(gateway: &Gateway) {
    for (ago, model) in [
        (30 * HOUR, "small"),
        (29 * HOUR, "large"),
        (HOUR, "small"),
        (1, "large"),
        (0, "large"),
    ] {
        gateway.enter(ago, |opening, closing| {
            opening.model = model.into();
            if model == "large" {
                opening.key = KeyId("MnOpQrStUvWx".into());
                closing.usage = None;
            }
        });
    }
}

#[tokio::test]
async fn reports_add_up() {
    let gateway = Gateway::start().await;
    fill(&gateway);
    let report = gateway.get("/api/v1/usage/report?by=model,key").await;
    assert_eq!(report["by"], json!(["model", "key"]));
    let lines = report["lines"].as_array().expect("lines");
    assert_eq!(lines.len(), 2, "{report:#}");
    let small = lines
        .iter()
        .find(|line| line["group"]["model"] == "small")
        .expect("a line");
    assert_eq!(small["group"], json!({ "model": "small", "key": "AbCdEfGhIjKl" }));
    assert_eq!(
        (&small["attempts"], &small["complete"], &small["without_usage"]),
        (&json!(2), &json!(2), &json!(0))
    );
    assert_eq!(small["usage"]["input"], 20);
    assert_eq!(small["usage"]["input_total"], 26, "all classes of the prompt");
    assert_eq!(small["usage"]["output_total"], 14, "all classes of the output");
    let total = &report["total"];
    assert_eq!((&total["attempts"], &total["without_usage"]), (&json!(5), &json!(3)));
    assert_eq!(total["request_bytes"], 500);
    assert_eq!(total["usage"], small["usage"], "only the small model reported usage");

    let days = gateway.get("/api/v1/usage/report?by=day").await;
    let days: Vec<_> = days["lines"]
        .as_array()
        .expect("lines")
        .iter()
        .map(|line| line["group"]["day"].clone())
        .collect();
    assert_eq!(days, ["2026-01-30", "2026-01-31"]);

    let all = gateway.get("/api/v1/usage/report").await;
    assert_eq!(all["total"], *total, "grouping changes no sum");
}

#[tokio::test]
async fn conditions_hold_together() {
    let gateway = Gateway::start().await;
    fill(&gateway);
    for (query, rows) in [
        ("", 5),
        ("model=small", 2),
        ("model=small&from=24h", 1),
        ("from=2026-01-31", 3),
        ("until=2026-01-31", 2),
        ("from=2026-01-30T06:00:00Z&until=2026-01-30T07:00:00Z", 1),
        ("from=2026-01-30T08:00:00%2B02:00&until=2026-01-30T07:00:00Z", 1),
        ("key=MnOpQrStUvWx", 3),
        ("provider=paid&credential=main&ended=complete", 5),
        ("provider=other", 0),
        ("group=", 5),
        ("group=team", 0),
        ("ended=interrupted", 0),
        ("request=request-1", 5),
        ("request=request-2", 0),
    ] {
        let page = gateway.get(&format!("/api/v1/usage/rows?{query}")).await;
        assert_eq!(page["rows"].as_array().map(Vec::len), Some(rows), "{query}");
        let report = gateway.get(&format!("/api/v1/usage/report?{query}")).await;
        assert_eq!(report["total"]["attempts"], rows, "{query}");
    }
}

async fn all_rows(gateway: &Gateway, path: &str, limit: usize) -> Vec<Value> {
    let mut rows = Vec::new();
    let mut query = format!("?limit={limit}");
    loop {
        let page = gateway.get(&format!("{path}{query}")).await;
        let found = page["rows"].as_array().expect("rows");
        assert!(found.len() <= limit, "a page keeps the limit");
        rows.extend(found.iter().cloned());
        match page["next"].as_str() {
            Some(next) => query = format!("?limit={limit}&cursor={next}"),
            None => return rows,
        }
    }
}

#[tokio::test]
async fn pages_hold_every_row_once_whatever_their_size() {
    let gateway = Gateway::start().await;
    let ids: Vec<String> = (0..25).map(|_| gateway.enter(0, |_, _| {}).to_string()).collect();
    for limit in [1, 7, 25, 1000] {
        for path in ["/api/v1/usage/rows", "/api/v1/requests"] {
            let rows = all_rows(&gateway, path, limit).await;
            let found: Vec<_> = rows.iter().map(|row| row["id"].as_str().expect("an id")).collect();
            assert_eq!(found, ids, "{path} by {limit}");
        }
    }
}

#[tokio::test]
async fn an_export_is_the_rows_line_by_line() {
    let gateway = Gateway::start().await;
    // More than one page of the export.
    for _ in 0..2500 {
        gateway.enter(0, |opening, _| opening.model = "a \"b\",\nc".into());
    }
    let rows = all_rows(&gateway, "/api/v1/usage/rows", 1000).await;
    assert_eq!(rows.len(), 2500);
    let answer = Answer::of(gateway.request(Method::GET, "/api/v1/usage/export")).await;
    assert_eq!(answer.headers["content-type"], "application/x-ndjson");
    let lines: Vec<Value> = answer
        .text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines, rows);

    let answer = Answer::of(gateway.request(Method::GET, "/api/v1/usage/export?format=csv")).await;
    assert!(
        answer.headers["content-type"]
            .to_str()
            .is_ok_and(|kind| kind.starts_with("text/csv"))
    );
    let cells = parse_csv(&answer.text);
    assert_eq!(cells.len(), rows.len() + 1, "a header and every row");
    for (row, line) in rows.iter().zip(&cells[1..]) {
        assert_eq!(line.len(), cells[0].len(), "as many cells as the header has");
        for (name, cell) in cells[0].iter().zip(line) {
            let value = if row[name].is_null() {
                &row["usage"][name]
            } else {
                &row[name]
            };
            let text = match value {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            assert_eq!(*cell, text, "{name}");
        }
    }
}

/// Reads CSV as RFC 4180 writes it.
fn parse_csv(text: &str) -> Vec<Vec<String>> {
    let (mut lines, mut line, mut cell, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, quoted) {
            ('"', true) if characters.peek() == Some(&'"') => {
                characters.next();
                cell.push('"');
            }
            ('"', _) => quoted = !quoted,
            (',', false) => line.push(std::mem::take(&mut cell)),
            ('\r', false) if characters.peek() == Some(&'\n') => {
                characters.next();
                line.push(std::mem::take(&mut cell));
                lines.push(std::mem::take(&mut line));
            }
            (other, _) => cell.push(other),
        }
    }
    assert!(
        line.is_empty() && cell.is_empty() && !quoted,
        "it ends with a line's end"
    );
    lines
}

#[tokio::test]
async fn no_cell_of_an_export_is_a_formula() {
    let gateway = Gateway::start().await;
    for model in ["=1+1", "+1", "-1", "@SUM(A1)", "=HYPERLINK(\"http://x\",\"y\")", "\t=1"] {
        gateway.enter(0, |opening, closing| {
            opening.model = model.into();
            closing.response_id = Some(model.into());
        });
    }
    let answer = Answer::of(gateway.request(Method::GET, "/api/v1/usage/export?format=csv")).await;
    for line in parse_csv(&answer.text) {
        for cell in line {
            assert!(
                !cell.starts_with(['=', '+', '-', '@', '\t', '\r']),
                "a formula: {cell:?}"
            );
        }
    }
}

#[tokio::test]
async fn what_the_provider_did_not_say_is_null_and_not_zero() {
    let gateway = Gateway::start().await;
    gateway.enter(0, |_, closing| {
        closing.usage = None;
        closing.status = None;
        closing.first_byte_us = None;
    });
    let rows = gateway.get("/api/v1/usage/rows").await;
    let row = &rows["rows"][0];
    assert_eq!(
        (&row["usage"], &row["status"], &row["first_byte_us"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
}

/// Enters attempts of two groups: one priced, one without a price, one estimated.
fn fill_with_money(gateway: &Gateway) {
    for (ago, group, cost, charge) in [
        (0, "team", Some(1_500_000), 2_000_000),
        (HOUR, "team", None, 1),
        (40 * 24 * HOUR, "", Some(1), 5_000_000_000),
    ] {
        gateway.enter(ago, |opening, closing| {
            opening.group = group.into();
            opening.reserved = NanoUsd(7_000_000);
            closing.cost = cost.map(NanoUsd);
            closing.charge = NanoUsd(charge);
            closing.estimated = cost.is_none();
            closing.service = Some("batch".into());
            closing.images_out = 2;
        });
    }
    gateway.enter(0, |opening, closing| {
        opening.attempt = 2;
        opening.group = "team".into();
        closing.status = Some(500);
        closing.usage = None;
        closing.cost = Some(NanoUsd::ZERO);
    });
}

#[tokio::test]
async fn rows_and_sums_tell_of_money() {
    let gateway = Gateway::start().await;
    fill_with_money(&gateway);
    let rows = gateway.get("/api/v1/usage/rows?group=team").await;
    let rows = rows["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 3);
    let priced = &rows[0];
    for (field, value) in [
        ("group", json!("team")),
        ("cost_usd", json!("0.0015")),
        ("cost_nano_usd", json!(1_500_000)),
        ("charge_usd", json!("0.002")),
        ("charge_nano_usd", json!(2_000_000)),
        ("reserved_usd", json!("0.007")),
        ("reserved_nano_usd", json!(7_000_000)),
        ("estimated", json!(false)),
        ("service", json!("batch")),
        ("images_in", json!(0)),
        ("images_out", json!(2)),
    ] {
        assert_eq!(priced[field], value, "{field}");
    }
    assert_eq!(rows[1]["cost_usd"], Value::Null, "unknown is not free");
    assert_eq!(
        (&rows[1]["cost_nano_usd"], &rows[1]["estimated"]),
        (&Value::Null, &json!(true))
    );
    assert_eq!(rows[2]["cost_usd"], "0", "free is not unknown");

    let report = gateway.get("/api/v1/usage/report?by=group").await;
    let [none, team] = report["lines"].as_array().expect("lines").as_slice() else {
        panic!("two groups: {report:#}");
    };
    assert_eq!(
        (&none["group"]["group"], &team["group"]["group"]),
        (&json!(""), &json!("team"))
    );
    for (field, value) in [
        ("requests", json!(2)),
        ("attempts", json!(3)),
        ("errors", json!(0)),
        ("estimated", json!(1)),
        ("unpriced", json!(1)),
        ("cost_usd", json!("0.0015")),
        ("charge_usd", json!("0.002000001")),
        ("charge_nano_usd", json!(2_000_001)),
    ] {
        assert_eq!(team[field], value, "{field}");
    }
    assert_eq!(report["total"]["charge_usd"], "5.002000001");
    assert_eq!(report["total"]["cost_nano_usd"], 1_500_001);

    let largest = gateway.get("/api/v1/usage/report?by=group&sort=charge&limit=1").await;
    assert_eq!(largest["lines"].as_array().map(Vec::len), Some(1));
    assert_eq!((&largest["lines"][0], &largest["more"]), (none, &json!(1)));
    assert_eq!(largest["total"], report["total"], "the total is of all");
    let largest = gateway.get("/api/v1/usage/report?by=group&sort=requests").await;
    assert_eq!(largest["lines"][0], *team);
}

#[tokio::test]
async fn sums_of_every_time_and_place() {
    let gateway = Gateway::start().await;
    fill_with_money(&gateway);
    // Now is 2026-01-31T12:00:00Z, a Saturday; forty days before is 2025-12-22, a Monday.
    for (by, expected) in [
        ("month", vec!["2025-12", "2026-01"]),
        ("week", vec!["2025-W52", "2026-W05"]),
        ("day", vec!["2025-12-22", "2026-01-31"]),
        (
            "hour",
            vec!["2025-12-22T12:00Z", "2026-01-31T11:00Z", "2026-01-31T12:00Z"],
        ),
        ("route", vec!["a route"]),
        ("upstream_model", vec!["small-1"]),
        ("group", vec!["", "team"]),
        ("credential", vec!["paid/main"]),
    ] {
        let report = gateway.get(&format!("/api/v1/usage/report?by={by}")).await;
        let lines = report["lines"].as_array().expect("lines");
        let found: Vec<_> = lines
            .iter()
            .map(|line| line["group"][by].as_str().expect("a text"))
            .collect();
        assert_eq!(found, expected, "{by}");
        assert_eq!(report["total"]["attempts"], 4, "{by}");
        assert_eq!(report["total"]["charge_nano_usd"], 5_002_000_001_u64, "{by}");
    }
    for query in [
        "by=year",
        "sort=name",
        "limit=0",
        "limit=10001",
        "limit=x",
        "by=day,day",
    ] {
        let answer = Answer::of(gateway.request(Method::GET, &format!("/api/v1/usage/report?{query}"))).await;
        assert_eq!(answer.refused(400, query).0, "invalid_query");
    }
}

#[tokio::test]
async fn estimated_rows_are_exported_alone() {
    let gateway = Gateway::start().await;
    gateway.enter(0, |_, closing| closing.estimated = true);
    gateway.enter(0, |_, _| {});
    gateway.enter(0, |_, _| {});
    for (query, lines) in [("", 3), ("?estimated=true", 1), ("?estimated=false", 2)] {
        let path = format!("/api/v1/usage/export{query}");
        let answer = Answer::of(gateway.request(Method::GET, &path)).await;
        assert_eq!(answer.text.lines().count(), lines, "{query}");
    }
    let answer = Answer::of(gateway.request(Method::GET, "/api/v1/usage/export?estimated=1")).await;
    assert_eq!(answer.refused(400, "1").1.as_deref(), Some("estimated"));
    let none = Answer::of(gateway.request(Method::GET, "/api/v1/usage/export?estimated=true&provider=other")).await;
    assert_eq!((none.status.as_u16(), none.text.as_str()), (200, ""));
}
