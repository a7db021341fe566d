//! `/p/{provider}/...`: any path of a provider, streamed in both directions, on record.

use std::time::Duration;

use crate::support::client::{self, Connection, chunked};
use crate::support::dialect::Dialect;
use crate::support::gateway::{Gateway, Options, PROVIDER_KEY, provider_rules, rules_for};
use crate::support::keyed::{Setup, World};
use crate::support::provider::{Answer, Provider, Step};
use crate::support::{noise, shown};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_paths_of_a_provider_are_streamed_in_both_directions() {
    let provider = Provider::start(|request| match request.method.as_str() {
        "GET" => Answer::chunked(
            "application/octet-stream",
            vec![
                Step::Send("first ".into()),
                Step::Wait(Duration::from_millis(300)),
                Step::Send("second".into()),
            ],
        ),
        _ => Answer::whole(201, "text/plain", request.body.clone()).header("location", "/files/1"),
    })
    .await;
    for http in ["1.1", "2"] {
        let mut rules = rules_for(provider.address);
        rules[0].1 = provider_rules("p", provider.address, &format!("http = \"{http}\""));
        let gateway = Gateway::start(Options {
            rules,
            ..Options::default()
        })
        .await;
        let bearer = gateway.bearer();

        let body = noise(300_000, 5);
        let mut connection = Connection::open(gateway.ports.http).await;
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/x-odd"),
            ("transfer-encoding", "chunked"),
            ("cookie", "no"),
        ];
        connection
            .send(&client::head("PUT", "/p/p/v1/files/a%20b?x=1&y=%2F", &headers))
            .await;
        connection.send(&chunked(&body, &[1000, 1, 90_000])).await;
        let reply = connection.reply().await;
        assert_eq!(
            (reply.status, reply.header("location")),
            (201, Some("/files/1")),
            "HTTP/{http}: {}",
            shown(&reply.body)
        );
        assert!(reply.body == body, "HTTP/{http}: the body went there and came back");
        let request = provider.last();
        assert_eq!(
            (request.method.as_str(), request.target.as_str()),
            ("PUT", "/v1/files/a%20b?x=1&y=%2F"),
            "HTTP/{http}"
        );
        assert_eq!(request.header("content-type"), Some("application/x-odd"));
        assert!(
            request.header("cookie").is_none() && request.header("authorization").unwrap().ends_with(PROVIDER_KEY),
            "{:?}",
            request.headers
        );

        // The next request on the same connection, answered piece by piece.
        connection
            .send(&client::head(
                "GET",
                "/p/p/v1/files/1/content",
                &[("authorization", &bearer)],
            ))
            .await;
        assert_eq!(
            connection.head().await.map(|(status, _)| status),
            Some(200),
            "HTTP/{http}"
        );
        while !String::from_utf8_lossy(connection.buffered()).contains("first ") {
            assert!(connection.fill().await);
        }
        assert!(
            !String::from_utf8_lossy(connection.buffered()).contains("second"),
            "HTTP/{http}: what came first is not held back for what comes later"
        );
        while !String::from_utf8_lossy(connection.buffered()).contains("second") {
            assert!(connection.fill().await);
        }

        let reply = client::send(
            gateway.ports.http,
            "GET",
            "/p/nobody/v1/files",
            &[("authorization", &bearer)],
            &[],
        )
        .await;
        assert_eq!(reply.status, 404, "{}", reply.text());
        let reply = client::get(gateway.ports.http, "/p/p/v1/files").await;
        assert_eq!(reply.status, 401, "no key, no passage");
        let rows = gateway.settled_rows(2).await;
        assert_eq!(rows.len(), 2, "each is on record: {rows:?}");
        assert!(
            rows.iter()
                .all(|row| row["operation"] == "passthrough" && row["ended"] == "complete"),
            "{rows:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_are_chosen_by_the_strategy_of_the_provider() {
    let world = World::start(Setup {
        credentials: &[("a", "weight = 9"), ("b", "weight = 1")],
        provider: "strategy = \"round_robin\"",
        ..Setup::default()
    })
    .await;
    for _ in 0..6 {
        let path = format!("/p/p{}", Dialect::Chat.path("x", false));
        let reply = world.gateway.post(&path, &Dialect::Chat.body("x", false)).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    assert_eq!(world.taken(), ["a", "b", "a", "b", "a", "b"], "whatever their weights");
}
