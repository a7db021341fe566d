//! `[alerts]` and the files of the access log: what is taken, and the words of every problem.

use std::time::Duration;

use tollgate::config::alerts::{Condition, Severity, WebhookKind};
use tollgate::config::reference::Reference;

use super::conf::{loaded, says};

#[test]
fn what_is_written_is_taken() {
    let alerts = loaded(
        r#"
        [alerts]
        for = "0s"
        remind = "4h"
        heartbeat = "1h"
        max_per_hour = 2
        error_rate = "25%"
        budget = ["100%", "50%", "100%"]
        [[alerts.webhook]]
        name = "ops"
        kind = "slack"
        url = "env:OPS_URL"
        conditions = ["ledger", "budget", "ledger"]
        min_severity = "critical"
        [[alerts.webhook]]
        name = "pager"
        kind = "generic"
        url = "file:conf/pager.url"
        secret = "env:PAGER_SECRET"
        "#,
    )
    .alerts;
    assert_eq!(
        (alerts.hold, alerts.remind),
        (Duration::ZERO, Some(Duration::from_secs(4 * 3600)))
    );
    assert_eq!(alerts.heartbeat, Some(Duration::from_secs(3600)));
    assert_eq!((alerts.error_rate, alerts.budgets), (25, vec![50, 100]));
    assert_eq!(
        alerts.clear_after,
        Duration::from_secs(120),
        "what is not written keeps its default"
    );
    let [ops, pager] = &alerts.webhooks[..] else {
        panic!("two: {:?}", alerts.webhooks);
    };
    assert_eq!(
        (ops.kind, &ops.url),
        (WebhookKind::Slack, &Reference::Env("OPS_URL".into()))
    );
    assert_eq!(ops.conditions, [Condition::Budget, Condition::Ledger]);
    assert_eq!(
        (ops.min_severity, pager.min_severity),
        (Severity::Critical, Severity::Info)
    );
    assert_eq!(pager.url, Reference::File("conf/pager.url".into()));
    assert_eq!(pager.secret, Some(Reference::Env("PAGER_SECRET".into())));
}

#[test]
fn webhooks_that_can_not_be() {
    let webhook = |lines: &str| format!("[[alerts.webhook]]\nname = \"ops\"\n{lines}\n");
    for (lines, expected) in [
        (
            "kind = \"slak\"\nurl = \"env:X\"",
            "tollgate.toml:3  alerts.webhook[0].kind = \"slak\"\n    it must be one of these. Did you mean \"slack\"?   (known: \
             slack, feishu, generic)\n",
        ),
        (
            "kind = \"slack\"",
            "tollgate.toml:1  alerts.webhook[0]\n    url is missing. Write url = \"env:NAME\" or \"file:PATH\".\n",
        ),
        (
            "kind = \"slack\"\nurl = \"https://hooks.example/T0/B0/canary\"",
            "tollgate.toml:4  alerts.webhook[0].url\n    a webhook's URL must not stand in this file (if this is one, replace \
             it now): put it into an environment variable and write \"env:NAME\", or into a file of its own and write \
             \"file:PATH\".\n",
        ),
        (
            "kind = \"slack\"\nurl = \"env:https://canary\"",
            "tollgate.toml:4  alerts.webhook[0].url\n    after env: stands the name of an environment variable (letters, digits \
             and _), not the webhook's URL itself\n",
        ),
        (
            "kind = \"generic\"\nurl = \"env:X\"",
            "tollgate.toml:1  alerts.webhook[0]\n    secret is missing: without a signature the receiver can't tell who \
             writes. Write secret = \"env:NAME\" or \"file:PATH\", with 32 characters at least (openssl rand -hex 32).\n",
        ),
        (
            "kind = \"slack\"\nurl = \"env:X\"\nsecret = \"canary\"",
            "tollgate.toml:5  alerts.webhook[0].secret\n    a secret must not stand in this file (if this is one, replace it \
             now): put it into an environment variable and write \"env:NAME\", or into a file of its own and write \
             \"file:PATH\".\n\
             tollgate.toml:5  alerts.webhook[0].secret\n    this kind of webhook takes no signature: remove it\n",
        ),
        (
            "kind = \"slack\"\nurl = \"env:X\"\nconditions = [\"ledgr\"]",
            "tollgate.toml:5  alerts.webhook[0].conditions[0] = \"ledgr\"\n    it must be one of these. Did you mean \
             \"ledger\"?   (known: error_rate, credential_dead, provider_down, budget, certificate, ledger, reload_failed, \
             overload, upgrade_failed, heartbeat)\n",
        ),
        (
            "kind = \"slack\"\nurl = \"env:X\"\nconditions = []",
            "tollgate.toml:5  alerts.webhook[0].conditions\n    there must be one at least; leave it out for all\n",
        ),
    ] {
        says(&webhook(lines), expected);
    }
    let twice = webhook("kind = \"slack\"\nurl = \"env:X\"").repeat(2);
    says(
        &twice,
        "tollgate.toml:5  alerts.webhook[1]\n    there is a webhook \"ops\" already: give this one another name\n",
    );
    says(
        "[[alerts.webhook]]\nname = \"Ops!\"\nkind = \"slack\"\nurl = \"env:X\"\n",
        "tollgate.toml:2  alerts.webhook[0].name = \"Ops!\"\n    a name has 1 to 64 of the characters a-z, 0-9, - and _\n",
    );
}

#[test]
fn values_out_of_bounds() {
    for (text, expected) in [
        (
            "alerts.error_rate = \"0%\"",
            "alerts.error_rate = \"0%\"\n    it must be a share in whole percent, from \"1%\" to \"100%\"",
        ),
        (
            "alerts.budget = [80]",
            "alerts.budget[0] = 80\n    it must be a share in whole percent, from \"0%\" to \"100%\"",
        ),
        (
            "alerts.remind = \"1m\"",
            "alerts.remind = \"1m\"\n    it must be from 10m to 30days",
        ),
        (
            "alerts.max_per_hour = 1",
            "alerts.max_per_hour = 1\n    it must be from 2 to 3600",
        ),
        (
            "logs.access_rotate = \"1m\"",
            "logs.access_rotate = \"1m\"\n    it must be from 1h to 31days",
        ),
        (
            "logs.access_max_file = \"20GiB\"",
            "logs.access_max_file = \"20GiB\"\n    one file (logs.access_max_file = 20GiB) may be larger than all of them \
             together (logs.access_max_total = 10GiB). Raise the one or lower the other.",
        ),
    ] {
        says(text, &format!("tollgate.toml:1  {expected}\n"));
    }
}

#[test]
fn the_access_logs_files_can_be_kept_for_ever() {
    let rotation = loaded("logs = { access_rotate = \"off\", access_keep = \"forever\", access_gzip = false }")
        .logs
        .rotation;
    assert_eq!((rotation.every, rotation.keep, rotation.gzip), (None, None, false));
}
