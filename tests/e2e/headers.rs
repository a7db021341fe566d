//! Of the headers only those on the list pass, in both directions: no client's key, cookie or address reaches a provider.

use crate::support::client;
use crate::support::dialect::{ALL, Dialect};
use crate::support::gateway::{Gateway, Options, PROVIDER_KEY, rules_for};
use crate::support::provider::{Answer, Provider};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_the_clients_headers_only_those_on_the_list_pass() {
    let provider = Provider::start(|_| {
        Answer::json(200, "{}")
            .header("set-cookie", "session=CANARY-cookie")
            .header("server", "CANARY-server")
            .header("openai-organization", "CANARY-org")
            .header("x-ratelimit-remaining-requests", "5")
            .header("request-id", "req_up")
            .header("access-control-allow-origin", "*")
    })
    .await;
    let gateway = Gateway::start(Options {
        rules: rules_for(provider.address),
        ..Options::default()
    })
    .await;
    for dialect in ALL {
        let (name, key) = dialect.key_header(&gateway.key);
        let reply = client::send(
            gateway.ports.http,
            "POST",
            &dialect.path("m", false),
            &[
                (name, &key),
                ("content-type", "application/json"),
                ("cookie", "CANARY-in"),
                ("x-forwarded-for", "6.6.6.6"),
                ("x-forwarded-host", "CANARY-in"),
                ("forwarded", "for=6.6.6.6"),
                ("via", "CANARY-in"),
                ("cf-connecting-ip", "6.6.6.6"),
                ("x-real-ip", "6.6.6.6"),
                ("openai-organization", "CANARY-in"),
                ("proxy-authorization", "CANARY-in"),
                ("origin", "http://CANARY-in"),
                ("user-agent", "CANARY-in"),
                ("anthropic-version", "2023-06-01"),
                ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
                ("x-request-id", "mine-1"),
            ],
            &dialect.body("m", false),
        )
        .await;
        assert_eq!(reply.status, 200, "{dialect:?}: {}", reply.text());
        let request = provider.last();
        let text = format!("{} {:?}", request.target, request.headers);
        assert!(
            !text.contains("CANARY-in") && !text.contains("6.6.6.6"),
            "{dialect:?}: {text}"
        );
        assert!(
            !text.contains(&gateway.key),
            "{dialect:?}: the client's key never travels on"
        );
        let ours = request.header(dialect.provider_key_header()).unwrap_or_default();
        assert!(
            ours.ends_with(PROVIDER_KEY),
            "{dialect:?}: ours does, where this provider takes it: {text}"
        );
        assert_eq!(text.matches(PROVIDER_KEY).count(), 1, "{dialect:?}: once: {text}");
        assert_eq!(
            request.header("host"),
            Some(provider.address.to_string().as_str()),
            "{dialect:?}"
        );
        assert!(
            request.header("user-agent").unwrap().starts_with("tollgate/"),
            "{dialect:?}"
        );
        assert_eq!(
            request.header("x-request-id"),
            Some("mine-1"),
            "{dialect:?}: the id goes along"
        );
        assert!(request.header("traceparent").is_some(), "{dialect:?}");
        assert_eq!(
            request.header("anthropic-version").is_some(),
            dialect == Dialect::Messages,
            "{dialect:?}: a dialect's own headers go to its provider"
        );

        assert_eq!(reply.header("x-request-id"), Some("mine-1"));
        assert_eq!(reply.header("x-tollgate-provider"), Some("p"));
        assert_eq!(reply.header("x-tollgate-attempts"), Some("1"));
        assert_eq!(reply.header("x-tollgate-upstream-request-id"), Some("req_up"));
        assert!(
            reply
                .header("server-timing")
                .is_some_and(|timing| timing.starts_with("gateway;dur=")),
            "{:?}",
            reply.headers
        );
        let text = format!("{:?}", reply.headers);
        assert!(
            !text.contains("CANARY") && reply.header("access-control-allow-origin").is_none(),
            "{dialect:?}: {text}"
        );
    }
    // Google's way: in the query, and nothing of it upstream.
    let path = format!("/v1beta/models/m:generateContent?key={}&alt=json", gateway.key);
    let reply = client::send(
        gateway.ports.http,
        "POST",
        &path,
        &[("content-type", "application/json")],
        &Dialect::Gemini.body("m", false),
    )
    .await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(!provider.last().target.contains("key="), "{}", provider.last().target);
}
