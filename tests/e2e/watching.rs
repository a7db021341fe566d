//! What `conf/alerts.yml` and `conf/grafana.json` ask for is on the metrics page of a gateway that has seen some traffic, labels too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use regex::Regex;
use serde_json::Value;

use crate::pki::Authority;
use crate::support::client::head;
use crate::support::dialect::Dialect;
use crate::support::gateway::{Gateway, Options, bare_provider, provider_rules};
use crate::support::provider::{Answer, Provider};
use crate::support::sandboxed::Sandboxed;
use crate::support::tls_client::{Client, Speaks};
use crate::support::tls_front::TlsFront;
use crate::support::until;

/// Labels which Prometheus adds.
const OF_PROMETHEUS: [&str; 2] = ["instance", "job"];

/// A question asked of Prometheus, and where it stands.
struct Question {
    place: String,
    expr: String,
    /// Labels which the text beside it shows.
    shown: BTreeSet<String>,
}

fn conf(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("conf").join(name)).unwrap()
}

fn matches(pattern: &str, text: &str) -> Vec<String> {
    let pattern = Regex::new(pattern).unwrap();
    let all = pattern.captures_iter(text);
    all.map(|found| found.get(1).unwrap().as_str().to_owned()).collect()
}

/// Of the alert rules: one for each alert.
fn of_alerts() -> Vec<Question> {
    let text = conf("alerts.yml");
    let rules = text.split("      - alert: ").skip(1);
    let questions = rules.map(|rule| {
        let (name, rest) = rule.split_once('\n').unwrap();
        let (_, rest) = rest.split_once("        expr: ").unwrap();
        let end = Regex::new(r"\n        (for|labels):").unwrap();
        let end = end.find(rest).expect("what follows an expression").start();
        Question {
            place: format!("the alert {name}"),
            expr: rest[..end].trim_start_matches('|').to_owned(),
            shown: matches(r"\$labels\.(\w+)", rest).into_iter().collect(),
        }
    });
    questions.collect()
}

/// Of the dashboard: one for each line of each panel.
fn of_dashboard() -> Vec<Question> {
    let dashboard: Value = serde_json::from_str(&conf("grafana.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut questions = Vec::new();
    let mut question = |place: &str, expr: &Value, legend: &str| {
        questions.push(Question {
            place: format!("the panel {place}"),
            expr: expr.as_str().unwrap().to_owned(),
            shown: matches(r"\{\{(\w+)\}\}", legend).into_iter().collect(),
        });
    };
    for panel in panels {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let (title, legend) = (
                panel["title"].as_str().unwrap(),
                target["legendFormat"].as_str().unwrap(),
            );
            question(title, &target["expr"], legend);
        }
    }
    for list in ["annotations", "templating"] {
        for one in dashboard[list]["list"].as_array().unwrap() {
            for field in ["expr", "definition"] {
                if one[field].is_string() {
                    question(list, &one[field], "");
                }
            }
        }
    }
    questions
}

/// The page: labels of each series, by name.
struct Page(BTreeMap<String, Vec<BTreeMap<String, String>>>);

impl Page {
    fn of(text: &str) -> Self {
        let label = Regex::new(r#"(\w+)="((?:[^"\\]|\\.)*)""#).unwrap();
        let mut page = BTreeMap::<String, Vec<_>>::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            let labels = label.captures_iter(line);
            let labels = labels.map(|found| (found[1].to_owned(), found[2].to_owned()));
            page.entry(name.to_owned()).or_default().push(labels.collect());
        }
        Page(page)
    }

    fn has_label(&self, name: &str, label: &str) -> bool {
        let series = self.0.get(name).into_iter().flatten();
        OF_PROMETHEUS.contains(&label) || series.into_iter().any(|series| series.contains_key(label))
    }

    /// What a question asks for in vain.
    fn lacks(&self, question: &Question) -> Vec<String> {
        let mut lacks = Vec::new();
        let selector = Regex::new(r"\b((?:tollgate|gen_ai|process)_\w+)\{([^}]*)\}").unwrap();
        let matcher = Regex::new(r#"(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)""#).unwrap();
        for found in selector.captures_iter(&question.expr) {
            let (name, matchers) = (&found[1], &found[2]);
            for found in matcher.captures_iter(matchers) {
                let (label, how, value) = (&found[1], &found[2], &found[3]);
                if !self.has_label(name, label) {
                    lacks.push(format!("{name} has no label {label}"));
                }
                let whole = Regex::new(&format!("^(?:{value})$")).unwrap();
                let fits = |found: &str| match how {
                    "=" => found == value,
                    "=~" => whole.is_match(found),
                    _ => true,
                };
                let series = self.0.get(name).into_iter().flatten();
                let mut values = series.filter_map(|series| series.get(label));
                if !OF_PROMETHEUS.contains(&label) && !values.any(|value| fits(value)) {
                    lacks.push(format!("no {name} has {label}{how}\"{value}\""));
                }
            }
        }
        let grouping = r"\b(?:by|on|without|ignoring|group_left|label_values)\s*\(([^)]*)\)";
        let mut labels: BTreeSet<String> = matches(grouping, &question.expr)
            .iter()
            .flat_map(|list| list.split(','))
            .map(|label| label.trim().to_owned())
            .filter(|label| !label.is_empty() && !label.starts_with("tollgate_"))
            .collect();
        labels.extend(question.shown.iter().cloned());
        let bare = Regex::new(r"\b(?:by|on|without|ignoring|group_left)\s*\([^)]*\)|\{[^}]*\}").unwrap();
        let names = matches(
            r"\b((?:tollgate|gen_ai|process)_\w+)",
            &bare.replace_all(&question.expr, ""),
        );
        for name in &names {
            if !self.0.contains_key(name) {
                lacks.push(format!("no {name}"));
            }
        }
        for label in &labels {
            if !names.iter().any(|name| self.has_label(name, label)) && !question.expr.starts_with("up{") {
                lacks.push(format!("nothing has a label {label}"));
            }
        }
        if names.is_empty() && !question.expr.starts_with("up{") {
            lacks.push("it asks for no metric".to_owned());
        }
        lacks
    }
}

fn rules(sandbox: &Sandboxed, picky: &Provider, front: &TlsFront, ca: &Path) -> Vec<(&'static str, String)> {
    let port = front.address.port();
    let checked = format!(
        "health = {{ every = \"5s\" }}\ntls = {{ ca = \"{}\" }}\nconnect_to = [\"{}\"]",
        ca.display(),
        front.address
    );
    let credential = |provider: &str| {
        format!("[[provider.{provider}.credential]]\nname = \"main\"\nkey = \"env:E2E_PROVIDER_KEY\"\n")
    };
    let good = bare_provider("good", &format!("https://localhost:{port}"), &checked)
        .replace(&format!("anthropic = \"https://localhost:{port}\", "), "")
        + &credential("good");
    let named = format!("http://localhost:{}", picky.address.port());
    let named = bare_provider("named", &named, "health = { every = \"5s\" }") + &credential("named");
    let bad = provider_rules("bad", sandbox.address, "");
    let price = "[[price]]\nprovider = \"good\"\nname = \"*\"\ninput = 1\noutput = 2\n";
    let route = |name: &str, targets: &str| format!("[[route]]\nname = \"{name}\"\nmodel = \"{name}\"\n{targets}\n");
    let good_target = "{ provider = \"good\", model = \"sandbox/chat,tokens=6,pace=5ms,prompt=40,cached=10\" }";
    let routes = [
        route("ok", &format!("targets = [{good_target}]")),
        route(
            "second",
            &format!(
                "targets = [{{ provider = \"bad\", model = \"sandbox/x,status=503\" }}]\nfallback = [{good_target}]"
            ),
        ),
        route(
            "broken",
            "targets = [{ provider = \"bad\", model = \"sandbox/x,tokens=50,fault=cut:5\" }]",
        ),
        route(
            "dead",
            "targets = [{ provider = \"bad\", model = \"sandbox/x,status=500\" }]",
        ),
    ];
    vec![
        ("10.toml", [good, named, bad, price.to_owned()].concat()),
        ("20.toml", routes.concat()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_that_alerts_and_dashboard_name_is_on_the_page() {
    let sandbox = Sandboxed::start().await;
    // A check proves a key only where none is refused.
    let picky = Provider::start(|request| match request.header("authorization") {
        Some(_) => Answer::json(200, "{\"object\":\"list\",\"data\":[{\"id\":\"m\"}]}"),
        None => Answer::json(401, "{\"error\":{\"message\":\"no key\",\"code\":\"invalid_api_key\"}}"),
    })
    .await;
    let authority = Authority::new();
    let front = TlsFront::start(&authority.sign("localhost", 1), None, sandbox.address).await;
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    fs::write(&ca, authority.pem()).unwrap();
    let ours = authority.sign("localhost", 2);
    let gateway = Gateway::start(Options {
        rules: rules(&sandbox, &picky, &front, &ca),
        tls: Some((ours.cert_pem.clone(), ours.key_pem.clone())),
        ..Options::default()
    })
    .await;

    let chat = Dialect::Chat;
    for (model, stream, status) in [
        ("ok", true, 200),
        ("ok", false, 200),
        ("second", false, 200),
        ("broken", true, 200),
        ("dead", false, 500),
        ("none", false, 404),
    ] {
        let session = [("x-session-id", "one")];
        let reply = gateway
            .post_with(&chat.path(model, stream), &session, &chat.body(model, stream))
            .await;
        assert_eq!(reply.status, status, "{model}: {}", reply.text());
    }
    // What only one format has is lost in the other.
    let request =
        "{\"model\":\"ok\",\"max_tokens\":9,\"top_k\":5,\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}";
    let reply = gateway.post("/v1/messages", request.as_bytes()).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let client = Client::new(Speaks::default());
    let mut connection = client.connect(gateway.ports.tls, "localhost").await.http();
    connection.send(&head("GET", "/healthz", &[])).await;
    assert_eq!(connection.reply().await.status, 200);

    let questions: Vec<Question> = of_alerts().into_iter().chain(of_dashboard()).collect();
    assert!(questions.len() > 90, "the files were read: {}", questions.len());
    let mut last = Vec::new();
    for _ in 0..60 {
        let page = Page::of(&gateway.metrics().await);
        last = questions
            .iter()
            .flat_map(|question| {
                let lacks = page.lacks(question);
                lacks.into_iter().map(|lack| format!("{}: {lack}", question.place))
            })
            .collect();
        if last.is_empty() {
            break;
        }
        // Checks of providers come after some seconds.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(last.is_empty(), "not on the page:\n{}", last.join("\n"));
    let told = until("the page tells how it stands", Duration::from_secs(10), || async {
        let page = gateway.metrics().await;
        page.contains("\ntollgate_ready 1\n").then_some(page)
    })
    .await;
    for line in [
        "tollgate_ledger_disk_full 0",
        "tollgate_rules_refused 0",
        "tollgate_request_bodies_bytes 0",
    ] {
        assert!(told.contains(&format!("\n{line}\n")), "{line}");
    }
    assert!(gateway.metric("tollgate_data_free_bytes").await > 0.0);
}

#[test]
fn a_question_for_what_is_not_there_is_found() {
    let page = Page::of("tollgate_ready 1\ntollgate_x_total{kind=\"a\"} 3\n");
    let lacks = |expr: &str, shown: &[&str]| {
        page.lacks(&Question {
            place: String::new(),
            expr: expr.to_owned(),
            shown: shown.iter().map(|label| (*label).to_owned()).collect(),
        })
    };
    assert_eq!(
        lacks(
            "sum by (kind) (rate(tollgate_x_total{kind=~\"a|b\", instance=\"i\"}[5m])) > 0",
            &["kind"]
        ),
        [""; 0]
    );
    assert_eq!(lacks("tollgate_y > 0", &[]), ["no tollgate_y"]);
    assert_eq!(
        lacks("tollgate_x_total{kind=\"b\"}", &[]),
        ["no tollgate_x_total has kind=\"b\""]
    );
    assert_eq!(
        lacks("sum by (sort) (tollgate_x_total)", &[]),
        ["nothing has a label sort"]
    );
    assert_eq!(lacks("tollgate_x_total", &["sort"]), ["nothing has a label sort"]);
    assert_eq!(lacks("1 > 0", &[]), ["it asks for no metric"]);
}
