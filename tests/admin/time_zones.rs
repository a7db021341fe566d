//! Reports by days, weeks and months of a time zone.

use reqwest::Method;
use serde_json::{Value, json};
use tollgate::ledger::Ledger;

use crate::command_line::tollgate;
use crate::support::{self, Answer, Gateway, HOUR};

/// What each window had, in attempts.
async fn sums(gateway: &Gateway, query: &str) -> Vec<(Vec<String>, u64)> {
    let report = gateway.get(&format!("/api/v1/usage/report?{query}")).await;
    let lines = report["lines"].as_array().expect("lines");
    let line = |line: &Value| {
        let by = report["by"].as_array().expect("words").iter();
        let group = by.map(|word| {
            line["group"][word.as_str().expect("a word")]
                .as_str()
                .expect("a text")
                .to_owned()
        });
        (group.collect(), line["attempts"].as_u64().expect("a count"))
    };
    let lines: Vec<_> = lines.iter().map(line).collect();
    let total: u64 = lines.iter().map(|(_, attempts)| attempts).sum();
    assert_eq!(report["total"]["attempts"], total, "{query}");
    lines
}

fn expected(lines: &[(&str, u64)]) -> Vec<(Vec<String>, u64)> {
    let line = |(group, attempts): &(&str, u64)| (group.split(' ').map(str::to_owned).collect(), *attempts);
    lines.iter().map(line).collect()
}

/// Attempts at 18:15, 18:45 and 22:30 of 2026-01-30 and at 12:00 of 2026-01-31 (UTC).
async fn started() -> Gateway {
    let gateway = Gateway::start().await;
    for minutes in [17 * 60 + 45, 17 * 60 + 15, 13 * 60 + 30, 0] {
        gateway.enter(minutes * HOUR / 60, |_, _| {});
    }
    gateway
}

#[tokio::test]
async fn days_are_those_of_the_zone() {
    let gateway = started().await;
    for (query, lines) in [
        ("by=day", &[("2026-01-30", 3), ("2026-01-31", 1)][..]),
        ("by=day&time_zone=UTC", &[("2026-01-30", 3), ("2026-01-31", 1)]),
        (
            "by=day&time_zone=Europe/Berlin",
            &[("2026-01-30", 3), ("2026-01-31", 1)],
        ),
        ("by=day&time_zone=Asia/Shanghai", &[("2026-01-31", 4)]),
        // Days begin at 18:30.
        ("by=day&time_zone=Asia/Kolkata", &[("2026-01-30", 1), ("2026-01-31", 3)]),
        (
            "by=day&time_zone=Pacific/Kiritimati",
            &[("2026-01-31", 3), ("2026-02-01", 1)],
        ),
        (
            "by=month&time_zone=Pacific/Kiritimati",
            &[("2026-01", 3), ("2026-02", 1)],
        ),
        ("by=week&time_zone=Pacific/Kiritimati", &[("2026-W05", 4)]),
        (
            "by=month,week&time_zone=Pacific/Kiritimati",
            &[("2026-01 2026-W05", 3), ("2026-02 2026-W05", 1)],
        ),
        (
            "by=model,day,key&time_zone=Asia/Kolkata",
            &[
                ("small 2026-01-30 AbCdEfGhIjKl", 1),
                ("small 2026-01-31 AbCdEfGhIjKl", 3),
            ],
        ),
        // Hours stay those of UTC, each in its day.
        (
            "by=day,hour&time_zone=Asia/Kolkata",
            &[
                ("2026-01-30 2026-01-30T18:00Z", 1),
                ("2026-01-31 2026-01-30T18:00Z", 1),
                ("2026-01-31 2026-01-30T22:00Z", 1),
                ("2026-01-31 2026-01-31T12:00Z", 1),
            ],
        ),
        // Days of `from` and `until` too.
        ("by=day&time_zone=Asia/Kolkata&from=2026-01-31", &[("2026-01-31", 3)]),
        ("by=key&time_zone=Asia/Kolkata&until=2026-01-31", &[("AbCdEfGhIjKl", 1)]),
        (
            "by=day&time_zone=Asia/Kolkata&until=2026-01-30T20:00:00Z",
            &[("2026-01-30", 1), ("2026-01-31", 1)],
        ),
        ("by=day&time_zone=Asia/Kolkata&provider=nobody", &[]),
    ] {
        assert_eq!(sums(&gateway, query).await, expected(lines), "{query}");
    }
    let report = gateway
        .get("/api/v1/usage/report?time_zone=Asia/Kolkata&from=2026-01-31")
        .await;
    assert_eq!(
        (&report["time_zone"], &report["from"]),
        (&json!("Asia/Kolkata"), &json!("2026-01-30T18:30:00.000000Z"))
    );
    assert_eq!(gateway.get("/api/v1/usage/report").await["time_zone"], "UTC");
}

#[tokio::test]
async fn a_day_on_which_clocks_change_is_whole() {
    let gateway = Gateway::start().await;
    // 2025-11-02 has 25 hours in New York: from 04:00 UTC to 05:00 UTC. NOW is 2026-01-31T12:00Z.
    let ago = |days: i64, hour: i64| (days * 24 + 12 - hour) * HOUR;
    for (days, hour) in [(90, 3), (90, 4), (89, 4), (89, 5)] {
        gateway.enter(ago(days, hour), |_, _| {});
    }
    assert_eq!(
        sums(&gateway, "by=day&time_zone=America/New_York").await,
        expected(&[("2025-11-01", 1), ("2025-11-02", 2), ("2025-11-03", 1)])
    );
}

#[tokio::test]
async fn what_nobody_knows_any_more_is_refused() {
    let old = |ledger: &Ledger| {
        support::enter(ledger, 100 * 24 * HOUR, |_, _| {});
    };
    let new = |ledger: &Ledger| {
        support::enter(ledger, 0, |_, _| {});
    };
    let gateway = Gateway::start_after(&[&old, &new]).await;
    // From the sums by hour.
    assert_eq!(
        sums(&gateway, "by=day&time_zone=Asia/Shanghai").await,
        expected(&[("2025-10-23", 1), ("2026-01-31", 1)])
    );
    let query = "by=day&time_zone=Asia/Kolkata";
    let path = format!("/api/v1/usage/report?{query}");
    let answer = Answer::of(gateway.request(Method::GET, &path)).await;
    let (code, field) = answer.refused(400, query);
    assert_eq!((code.as_str(), field.as_deref()), ("invalid_query", Some("time_zone")));
    assert!(answer.text.contains("time zone of whole hours"), "{}", answer.text);
    assert_eq!(
        sums(&gateway, &format!("{query}&from=2026-01-01")).await,
        expected(&[("2026-01-31", 1)])
    );
}

#[tokio::test]
async fn a_zone_is_one_of_the_database() {
    let gateway = started().await;
    for (name, told) in [
        ("berlin", "Europe/Berlin"),
        ("", "IANA"),
        ("%00%1b", "IANA"),
        ("Mars/Olympus", "IANA"),
    ] {
        let path = format!("/api/v1/usage/report?time_zone={name}");
        let answer = Answer::of(gateway.request(Method::GET, &path)).await;
        assert_eq!(answer.refused(400, name).1.as_deref(), Some("time_zone"));
        assert!(answer.text.contains(told), "{name}: {}", answer.text);
    }
    let csv = tollgate(&gateway, "usage report --by day --time-zone Asia/Kolkata --csv").await;
    assert_eq!(csv.code, Some(0), "{}", csv.err);
    let days: Vec<_> = csv
        .out
        .lines()
        .map(|line| line.split(',').take(2).collect::<Vec<_>>())
        .collect();
    assert_eq!(days, [["day", "requests"], ["2026-01-30", "1"], ["2026-01-31", "3"]]);
    let wrong = tollgate(&gateway, "usage report --time-zone Berlin").await;
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.err.contains("Europe/Berlin"), "{}", wrong.err);
}
