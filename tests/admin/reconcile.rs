//! `tollgate usage reconcile`, as a process, with files as providers write them.

use serde_json::Value;
use tollgate::ir::Usage;
use tollgate::money::NanoUsd;

use crate::command_line::{Outcome, tollgate};
use crate::support::{self, Gateway, HOUR};

/// Enters an attempt with these tokens: prompt, read from the cache, answer; and a cost of so many nano-dollars.
fn enter(gateway: &Gateway, ago: i64, model: &str, (input, cache_read, output): (u64, u64, u64), cost: Option<u64>) {
    gateway.enter(ago, |opening, closing| {
        // What the client asked for is not what the provider names on its invoice.
        opening.model = "whatever".into();
        opening.upstream_model = model.into();
        closing.usage = Some(Usage {
            input,
            cache_read,
            output,
            ..Usage::default()
        });
        closing.cost = cost.map(NanoUsd);
    });
}

async fn reconcile(gateway: &Gateway, file: &str, more: &str) -> Outcome {
    let path = gateway.folder.path().join("invoice.csv");
    std::fs::write(&path, file).expect("a file");
    let line = format!("usage reconcile {} --provider paid{more}", path.display());
    tollgate(gateway, &line).await
}

const OPENAI: &str = "start_time,end_time,start_time_iso,end_time_iso,model,num_model_requests,input_tokens,output_tokens,\
input_cached_tokens\n";

#[tokio::test]
async fn what_agrees_is_told_with_zero() {
    let gateway = Gateway::start().await;
    for _ in 0..10 {
        enter(&gateway, 0, "gpt-4o", (80, 20, 7), Some(1_000_000));
    }
    enter(&gateway, 24 * HOUR, "gpt-4o-mini", (5, 0, 1), Some(3));
    let usage = format!(
        "{OPENAI}1769731200,1769731260,2026-01-30T00:00:00+00:00,2026-01-30T00:01:00+00:00,,,,,\n\
         1769731200,1769731260,2026-01-30T12:00:00+00:00,2026-01-30T12:01:00+00:00,gpt-4o-mini-2024-07-18,1,5,1,0\n\
         1769817600,1769817660,2026-01-31T00:00:00+00:00,2026-01-31T00:01:00+00:00,gpt-4o-2024-08-06,4,400,28,80\n\
         1769817660,1769817720,2026-01-31T00:01:00+00:00,2026-01-31T00:02:00+00:00,gpt-4o-2024-08-06,6,600,42,120\n"
    );
    let done = reconcile(&gateway, &usage, "").await;
    assert_eq!(done.code, Some(0), "{}{}", done.out, done.err);
    assert!(done.out.contains("2 of 2 days and models agree"), "{}", done.out);
    let exact = reconcile(&gateway, &usage, " --exact-models").await;
    assert_eq!(exact.code, Some(1));
    assert!(
        exact.out.contains("only theirs") && exact.out.contains("only ours"),
        "{}",
        exact.out
    );
    let costs = "start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,line_item\n\
                 1769817600,1769904000,2026-01-31T00:00:00+00:00,2026-02-01T00:00:00+00:00,0.0060002,usd,\"gpt-4o-2024-08-06, input\"\n\
                 1769817600,1769904000,2026-01-31T00:00:00+00:00,2026-02-01T00:00:00+00:00,0.004,usd,\"gpt-4o-2024-08-06, output\"\n";
    let done = reconcile(&gateway, costs, "").await;
    assert_eq!(done.code, Some(0), "{}{}", done.out, done.err);
    assert_eq!(reconcile(&gateway, costs, " --tolerance 0").await.code, Some(1));
}

#[tokio::test]
async fn what_differs_is_told_by_day_and_model() {
    let gateway = Gateway::start().await;
    enter(&gateway, 0, "claude-haiku-4-5-20251001", (100, 20, 7), Some(40_000_000));
    enter(&gateway, 0, "claude-opus-4-5", (1, 0, 1), None);
    enter(&gateway, 0, "free", (0, 0, 0), Some(0));
    let usage = "usage_date_utc,model_version,usage_input_tokens_no_cache,usage_input_tokens_cache_write_5m,\
                 usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,usage_output_tokens\n\
                 2026-01-31,claude-haiku-4-5-20251001,100,0,0,20,8\n\
                 2026-01-31,claude-sonnet-4-5-20250929,1000,0,0,0,9\n";
    let done = reconcile(&gateway, usage, " --json").await;
    assert_eq!(done.code, Some(1), "{}", done.err);
    assert_eq!(done.err, "", "it was told");
    let told: Value = serde_json::from_str(&done.out).expect("JSON");
    assert_eq!(told["agrees"], false);
    let line = |model: &str| {
        let lines = told["lines"].as_array().expect("lines");
        lines
            .iter()
            .find(|line| line["model"] == model)
            .expect("a line")
            .clone()
    };
    let haiku = line("claude-haiku-4-5");
    assert_eq!(haiku["day"], "2026-01-31");
    assert_eq!(haiku["only"], Value::Null);
    assert_eq!(haiku["amounts"]["input_tokens"]["agrees"], true);
    assert_eq!(haiku["amounts"]["input_tokens"]["theirs"], 120);
    let output = &haiku["amounts"]["output_tokens"];
    assert_eq!((&output["theirs"], &output["ours"]), (&8.into(), &7.into()));
    assert_eq!((&output["difference"], &output["agrees"]), (&1.into(), &false.into()));
    assert_eq!(line("claude-sonnet-4-5")["only"], "theirs");
    assert_eq!(line("claude-opus-4-5")["only"], "ours");
    assert_eq!(line("claude-opus-4-5")["unpriced"], 1);
    assert!(haiku["amounts"]["cost_usd"].is_null(), "the file tells of no money");

    // Costs come rounded to cents, under names for people.
    let costs = "usage_date_utc,model,token_type,cost_usd\n\
                 2026-01-31,Claude Haiku 4.5,input_no_cache,0.03\n2026-01-31,Claude Haiku 4.5,output,0.02\n";
    let done = reconcile(&gateway, costs, " --all").await;
    assert_eq!(done.code, Some(0), "{}{}", done.out, done.err);
    let costs = costs.replace("0.03", "0.04");
    let done = reconcile(&gateway, &costs, "").await;
    assert_eq!(done.code, Some(1));
    let cells: Vec<Vec<&str>> = done.out.lines().map(|line| line.split_whitespace().collect()).collect();
    let differs = [
        "2026-01-31",
        "claude-haiku-4-5",
        "cost_usd",
        "0.06",
        "0.04",
        "0",
        "0.02",
        "33.33%",
    ];
    assert!(cells.contains(&differs.to_vec()), "{}", done.out);
}

#[tokio::test]
async fn what_is_wrong_with_a_file_is_told_with_its_line() {
    let gateway = Gateway::start().await;
    for (file, told) in [
        (
            "date,model,cost\n2026-01-31,m,1\n2026-01-31,m,x\n",
            "invoice.csv, line 3: cost is \"x\"",
        ),
        (
            "date,model,cost\r\n\r\n2026-01-31,m,1\r\n\r\n\r\n2026-01-31,m,x\r\n",
            "invoice.csv, line 6: cost is \"x\"",
        ),
        ("day,price\n", "line 1: no column holds a model"),
        ("date,model,cost\n", "no line tells of any use"),
    ] {
        let done = reconcile(&gateway, file, "").await;
        assert_eq!(done.code, Some(1));
        assert!(done.err.contains(told), "{} should tell {told}", done.err);
    }
    let done = tollgate(&gateway, "usage reconcile /nowhere/at.all --provider paid").await;
    assert_eq!(done.code, Some(1));
    assert!(done.err.contains("/nowhere/at.all"), "{}", done.err);
    let file = "date,model,cost\n2026-01-31,m,1\n";
    let done = reconcile(&gateway, file, " --from 2026-02-01 --until 2026-02-01").await;
    assert!(done.err.contains("is not before"), "{}", done.err);
}

#[tokio::test]
async fn what_an_estimate_explains_is_told_apart() {
    let gateway = Gateway::start().await;
    for (model, estimated) in [("gone", true), ("wrong", false), ("far", true)] {
        enter(&gateway, 0, model, (1000, 0, 100), Some(1_000_000));
        gateway.enter(HOUR, |opening, closing| {
            opening.upstream_model = model.into();
            closing.estimated = estimated;
            closing.usage = Some(Usage {
                input: 500,
                output: 40,
                ..Usage::default()
            });
            closing.cost = Some(NanoUsd(500_000));
        });
    }
    let file = "date,model,input_tokens,output_tokens\n2026-01-31,gone,1500,170\n2026-01-31,wrong,1500,170\n\
                2026-01-31,far,1500,200\n";
    let done = reconcile(&gateway, file, "").await;
    assert_eq!(
        done.code,
        Some(1),
        "an estimate is a difference: {}{}",
        done.out,
        done.err
    );
    let cells: Vec<Vec<&str>> = done.out.lines().map(|line| line.split_whitespace().collect()).collect();
    for line in [
        "2026-01-31 gone output_tokens 170 140 40 30 17.64% within estimates",
        "2026-01-31 wrong output_tokens 170 140 0 30 17.64%",
        "2026-01-31 far output_tokens 200 140 40 60 30.00%",
        "0 of 3 days and models agree",
        "1 differ by no more than what of ours is estimated",
    ] {
        let wanted: Vec<&str> = line.split(' ').collect();
        assert!(cells.contains(&wanted), "{line}: {}", done.out);
    }
    let done = reconcile(&gateway, file, " --json").await;
    let told: Value = serde_json::from_str(&done.out).expect("JSON");
    assert_eq!((&told["agrees"], &told["within_estimates"]), (&false.into(), &1.into()));
    let lines = told["lines"].as_array().expect("lines");
    let gone = lines.iter().find(|line| line["model"] == "gone").expect("a line");
    assert_eq!(gone["estimated"], 1, "attempts");
    let output = &gone["amounts"]["output_tokens"];
    assert_eq!(
        (&output["estimated"], &output["agrees"], &output["within_estimates"]),
        (&40.into(), &false.into(), &true.into())
    );
    assert_eq!(gone["amounts"]["input_tokens"]["agrees"], true);
}

#[tokio::test]
async fn days_of_which_rows_are_removed_are_told() {
    let old = |ledger: &tollgate::ledger::Ledger| {
        for _ in 0..3 {
            support::enter(ledger, 100 * 24 * HOUR, |opening, _| {
                opening.upstream_model = "m".into()
            });
        }
    };
    let new = |ledger: &tollgate::ledger::Ledger| {
        support::enter(ledger, 0, |opening, _| opening.upstream_model = "m".into());
    };
    let gateway = Gateway::start_after(&[&old, &new]).await;
    let file = "date,model,input_tokens,output_tokens\n2025-10-23,m,39,21\n2026-01-31,m,13,7\n";
    let done = reconcile(&gateway, file, "").await;
    assert_eq!(done.code, Some(1), "{}{}", done.out, done.err);
    let told = "ours is too little from 2025-10-23 to 2025-10-23: the single rows of 3 attempts there are removed";
    assert!(done.out.contains(told), "{}", done.out);
    assert!(
        done.out.contains("rows removed") && !done.out.contains("only theirs"),
        "{}",
        done.out
    );
    let json = reconcile(&gateway, file, " --json").await;
    let json: Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!(
        json["removed_rows"],
        serde_json::json!([{ "day": "2025-10-23", "attempts": 3 }])
    );
    let done = reconcile(&gateway, file, " --from 2026-01-01").await;
    assert_eq!(done.code, Some(0), "{}{}", done.out, done.err);
    assert!(!done.out.contains("removed"), "{}", done.out);
    // Before there was anything nothing is removed.
    let done = reconcile(&gateway, "date,model,input_tokens\n2025-01-01,m,1\n", "").await;
    assert!(
        done.out.contains("only theirs") && !done.out.contains("removed"),
        "{}",
        done.out
    );
    let help = tollgate(&gateway, "usage reconcile --help").await;
    assert!(help.out.contains("ledger.keep_rows"), "{}", help.out);
}

#[tokio::test]
async fn rounding_explains_no_more_than_the_last_digit_of_the_invoice() {
    let gateway = Gateway::start().await;
    enter(&gateway, 0, "m", (1, 0, 1), Some(300_000_000));
    // Ten lines of 3.4 cents, ten of 3 cents: 13 % and nothing of it rounding.
    let many = |amount: &str, times: usize| {
        let lines: String = (0..times).map(|_| format!("2026-01-31,m,{amount}\n")).collect();
        format!("date,model,cost\n{lines}")
    };
    for (file, agrees) in [
        (many("0.034", 10), false),
        (many("0.04", 10), false),
        (many("0.34", 1), false),
        (many("0.3400", 1), false),
        (many("0.03", 10), true),
        (many("0.305", 1), false),
        (many("0.31", 1) + "2026-01-31,m,0.00\n", true),
        (many("0.31", 1) + "2026-01-31,m,0.0000\n", false),
    ] {
        let done = reconcile(&gateway, &file, "").await;
        assert_eq!(done.code, Some(i32::from(!agrees)), "{file}{}{}", done.out, done.err);
    }
    let done = reconcile(&gateway, &many("0.04", 10), " --json").await;
    let told: Value = serde_json::from_str(&done.out).expect("JSON");
    assert_eq!(told["total"]["cost_usd"]["agrees"], false);
    assert_eq!(told["last_digit_usd"], "0.01");
}

#[tokio::test]
async fn a_provider_that_is_not_in_the_rules_is_told() {
    let gateway = Gateway::start().await;
    let path = gateway.folder.path().join("invoice.csv");
    std::fs::write(&path, "date,model,cost\n2026-01-31,m,1\n").expect("a file");
    let done = tollgate(&gateway, &format!("usage reconcile {} --provider payd", path.display())).await;
    assert_eq!(done.code, Some(1));
    assert!(
        done.err.contains("no such provider") && done.err.contains("paid"),
        "{}",
        done.err
    );
    let done = tollgate(&gateway, "usage report --provider payd").await;
    assert_eq!(done.code, Some(0));
    assert!(
        done.err.contains("--provider payd: the rules have no such provider"),
        "{}",
        done.err
    );
    let done = tollgate(&gateway, "usage report --provider paid").await;
    assert_eq!(done.err, "");
}
