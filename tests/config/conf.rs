//! `conf/tollgate.toml`: defaults, and the words of every problem.

use std::time::Duration;

use tollgate::config::{AccessLog, Config, Durability, load};

use super::Folder;

/// What the problems of this text are called.
fn problems(text: &str) -> String {
    let folder = Folder::new();
    let file = folder.write("tollgate.toml", text);
    match load::load(&file) {
        Ok((_, warnings)) => folder.show(&warnings),
        Err(problems) => folder.show(&problems),
    }
}

#[track_caller]
pub(super) fn says(text: &str, expected: &str) {
    assert_eq!(problems(text), expected, "for:\n{text}");
}

pub(super) fn loaded(text: &str) -> Config {
    let folder = Folder::new();
    let file = folder.write("tollgate.toml", text);
    load::load(&file).unwrap().0
}

#[test]
fn an_empty_file_is_all_defaults() {
    assert_eq!(format!("{:?}", loaded("")), format!("{:?}", Config::default()));
    assert_eq!(problems(""), "");
    assert_eq!(problems("\u{feff}# with a byte order mark\n"), "");
}

#[test]
fn what_is_written_is_taken() {
    let config = loaded(
        r#"
        threads = 3
        trusted_proxies = ["10.0.0.0/8", "192.0.2.7"]
        rules = "r"
        limits = { body = 4096, attempts = 5 }
        timeouts.first_byte = "1m30s"
        ledger.durability = "power"
        logs.access = "stdout"
        metrics.listen = "off"
        admin.listen = "off"
        sandbox.listen = "off"
        [[listener]]
        listen = "127.0.0.1:1000"
        [[listener]]
        listen = "[::1]:1001"
        http2 = true
        "#,
    );
    assert_eq!(config.threads, 3);
    assert_eq!(config.trusted_proxies.len(), 2);
    assert_eq!(config.rules.to_str(), Some("r"));
    assert_eq!((config.limits.body, config.limits.attempts), (4096, 5));
    assert_eq!(config.limits.header_count, 100, "what is not written keeps its default");
    assert_eq!(config.timeouts.first_byte, Duration::from_secs(90));
    assert_eq!(config.ledger.durability, Durability::Power);
    assert_eq!(config.logs.access, AccessLog::Stdout);
    assert_eq!(
        (config.metrics, config.admin.listen, config.sandbox),
        (None, None, None)
    );
    assert_eq!(config.listeners.len(), 2);
    assert!(!config.listeners[0].http2 && config.listeners[1].http2);
}

#[test]
fn a_missing_file_says_what_to_do() {
    let folder = Folder::new();
    let problems = load::load(&folder.path().join("tollgate.toml")).unwrap_err();
    assert_eq!(
        folder.show(&problems),
        "tollgate.toml  there is no such file\n    Start where conf/tollgate.toml is, or name another file with --conf \
         FILE. An empty file will do: everything has a default.\n"
    );
}

#[test]
fn files_that_are_none() {
    let folder = Folder::new();
    let show = |file: &std::path::Path| folder.show(&load::load(file).unwrap_err());
    assert_eq!(show(folder.path()), "FOLDER  can't be read\n    it is not a file\n");
    let latin = folder.write("latin.toml", b"# fine\n# \xe9\n");
    assert_eq!(
        show(&latin),
        "latin.toml:2  can't be read\n    it is not UTF-8 here; save it in that encoding\n"
    );
    let huge = folder.write("huge.toml", "#\n".repeat((4 << 20) / 2 + 1));
    assert_eq!(
        show(&huge),
        "huge.toml  can't be read\n    it is larger than 4MiB, the most that is read\n"
    );
}

#[test]
fn syntax_errors_have_their_line() {
    says(
        "threads = 1\n\n[limits\nbody = 1\n",
        "tollgate.toml:3  this is not TOML\n    unclosed table, expected `]`\n",
    );
    says(
        "threads = 1\nthreads = 2\n",
        "tollgate.toml:2  this stands here twice\n    TOML allows it once; remove or rename one of the two\n",
    );
}

#[test]
fn what_is_refused_in_an_overload() {
    let folder = Folder::new();
    let file = folder.write(
        "overload.toml",
        "[overload]\nconcurrent = 0\nqueue = 7\nwait = \"0s\"\ncritical_share = \"0%\"\ncritical_tags = [\"a\", \"b\"]\nlag = \"off\"\n",
    );
    let (config, _) = load::load(&file).unwrap();
    let overload = config.overload;
    assert_eq!(
        (overload.concurrent, overload.queue, overload.critical_share),
        (0, 7, 0)
    );
    assert_eq!((overload.wait, overload.lag), (Duration::ZERO, None));
    assert_eq!(overload.critical_tags, ["a", "b"]);
    says(
        "[overload]\ncritical_share = \"95%\"\n",
        "tollgate.toml:2  overload.critical_share = \"95%\"\n    at most 90% can be kept: the others need places too\n",
    );
    let file = folder.write(
        "lag.toml",
        "[overload]\nlag = \"1ms\"\nwait = \"1m\"\nconcurrent = -1\n",
    );
    assert_eq!(load::load(&file).unwrap_err().len(), 3);
}

#[test]
fn unknown_fields() {
    says(
        "[limits]\nbodi = 1\n",
        "tollgate.toml:2  limits.bodi\n    there is no field of this name. Did you mean \"body\"?   (known: body, \
         header_bytes, target, inflight_body, body_pace, answer_kept, inflight_answer, min_pace, assumed_output, tool_turns, unknown_price, \
         header_count, connections, unauthenticated_connections, connections_per_address, \
         requests_per_address, drains, upstream_idle, attempts, requests_per_connection)\n",
    );
    says(
        "[sandbox]\nxyzzy = 1\n",
        "tollgate.toml:2  sandbox.xyzzy\n    there is no field of this name.   (known: listen)\n",
    );
    says(
        "[upgrade]\ngarce = \"1m\"\n",
        "tollgate.toml:2  upgrade.garce\n    there is no field of this name. Did you mean \"grace\"?   (known: prepare, grace, \
         idle)\n",
    );
    says(
        "\"a b\" = 1\n",
        "tollgate.toml:1  \"a b\"\n    there is no field of this name.   (known: listener, threads, work_stealing, \
         trusted_proxies, client_address, data, rules, master_key, master_key_previous, limits, overload, timeouts, retries, \
         affinity, health, admin, metrics, logs, alerts, ledger, store, sandbox, upgrade)\n",
    );
}

#[test]
fn wrong_kinds() {
    for (text, expected) in [
        (
            "threads = \"4\"",
            "threads = \"4\"\n    it must be a whole number from 0 to 256, not a text",
        ),
        (
            "threads = 1.5",
            "threads = 1.5\n    it must be a whole number from 0 to 256, not a number with a fraction",
        ),
        (
            "work_stealing = 1",
            "work_stealing = 1\n    it must be true or false, not a whole number",
        ),
        (
            "data = 7",
            "data = 7\n    it must be a text in quotes, not a whole number",
        ),
        (
            "limits = 7",
            "limits = 7\n    it must be a table, as in { ... }, not a whole number",
        ),
        (
            "listener = { listen = \"x\" }",
            "listener\n    there may be several of them: write [[listener]] instead of [listener]",
        ),
        (
            "listener = [7]",
            "listener[0] = 7\n    it must be a table, as in { ... }, not a whole number",
        ),
        (
            "trusted_proxies = 2020-01-01",
            "trusted_proxies = 2020-01-01\n    it must be a list, as in [ ... ], not a date",
        ),
        (
            "limits.body = true",
            "limits.body = true\n    it must be a size, as in \"32MiB\" or 4096, not true or false",
        ),
        (
            "timeouts.dns = [1]",
            "timeouts.dns\n    it must be a time, as in \"15s\", not a list",
        ),
    ] {
        says(text, &format!("tollgate.toml:1  {expected}\n"));
    }
}

#[test]
fn values_out_of_bounds() {
    for (text, expected) in [
        ("threads = 257", "threads = 257\n    it must be from 0 to 256"),
        ("threads = -1", "threads = -1\n    it must be from 0 to 256"),
        (
            "threads = 0xffffffffffffffffffff",
            "threads = 0xffffffffffffffffffff\n    it must be from 0 to 256",
        ),
        (
            "limits.body = \"2TiB\"",
            "limits.body = \"2TiB\"\n    it must be from 1KiB to 1GiB",
        ),
        (
            "limits.body = \"32MB\"",
            "limits.body = \"32MB\"\n    \"MB\" is not a unit here. Did you mean \"MiB\"?   (B, KiB, MiB, GiB, TiB)",
        ),
        (
            "limits.body = -4096",
            "limits.body = -4096\n    it is not a size; write it as \"32MiB\", \"64KiB\" or a number of bytes",
        ),
        (
            "timeouts.dns = \"2d\"",
            "timeouts.dns = \"2d\"\n    it must be from 10ms to 1day",
        ),
        (
            "timeouts.dns = 5",
            "timeouts.dns = 5\n    it must be a time with its unit, as in \"5s\"",
        ),
        (
            "timeouts.dns = \"5\"",
            "timeouts.dns = \"5\"\n    the unit is missing; write \"5s\" for seconds, or ms, m, h",
        ),
        (
            "timeouts.dns = \"soon\"",
            "timeouts.dns = \"soon\"\n    it is not a time; write it as \"15s\", \"500ms\" or \"1h30m\"",
        ),
        (
            "logs.level = \"warning\"",
            "logs.level = \"warning\"\n    it must be one of these. Did you mean \"warn\"?   (known: error, warn, \
             info, debug)",
        ),
        (
            "trusted_proxies = [\"10.0.0.0/99\"]",
            "trusted_proxies[0] = \"10.0.0.0/99\"\n    it must be a network or an address, as in \"10.0.0.0/8\" or \
             \"192.0.2.7\"",
        ),
        ("data = \"\"", "data = \"\"\n    the path is empty"),
        (
            "listener = []",
            "listener\n    there must be 1 to 64 of them; leave it out for 127.0.0.1:8080",
        ),
    ] {
        says(text, &format!("tollgate.toml:1  {expected}\n"));
    }
}

#[test]
fn addresses() {
    for (address, help) in [
        (
            "127.0.0.1",
            "the port is missing; write it as \"127.0.0.1:8080\" or \"[::1]:8080\"",
        ),
        (
            "localhost:80",
            "it must be an address, not a name. Did you mean \"127.0.0.1:80\"?",
        ),
        (":80", "the address is missing. For every network write \"0.0.0.0:80\""),
        (
            "example.com:80",
            "it must be an IP address and a port, as in \"127.0.0.1:8080\" or \"[::1]:8080\"",
        ),
    ] {
        says(
            &format!("[[listener]]\nlisten = \"{address}\"\n"),
            &format!("tollgate.toml:2  listener[0].listen = \"{address}\"\n    {help}\n"),
        );
    }
    says(
        "[[listener]]\nhttp2 = true\n",
        "tollgate.toml:1  listener[0]\n    listen is missing. Write listen = \"127.0.0.1:8080\".\n",
    );
}

#[test]
fn networks_and_ports_of_entered_urls_are_checked() {
    let file = "[admin]\nallow_private = [\"10.0.0.0/8\", \"192.0.2.7\"]\nallow_ports = [11434]\n";
    says(file, "");
    says(
        "[admin]\nallow_private = [\"10.0.0.0/33\"]\n",
        "tollgate.toml:2  admin.allow_private[0] = \"10.0.0.0/33\"\n    it must be a network or an address, as in \
         \"10.0.0.0/8\" or \"192.0.2.7\"\n",
    );
    says(
        "[admin]\nallow_ports = [0]\n",
        "tollgate.toml:2  admin.allow_ports[0] = 0\n    it must be from 1 to 65535\n",
    );
}

#[test]
fn the_admin_service_is_not_opened_by_mistake() {
    says(
        "[admin]\nlisten = \"0.0.0.0:9100\"\n",
        "tollgate.toml:2  admin.listen = \"0.0.0.0:9100\"\n    the admin service would be reachable by everyone. Bind \
         127.0.0.1, or set admin.allow_public = true.\n",
    );
    says("[admin]\nlisten = \"0.0.0.0:9100\"\nallow_public = true\n", "");
    says(
        "[metrics]\nlisten = \"0.0.0.0:9100\"\n",
        "warning: tollgate.toml:2  metrics.listen = \"0.0.0.0:9100\"\n    everyone who reaches this address can use \
         it: it asks for no key. 127.0.0.1 is safer.\n",
    );
}

#[test]
fn plain_http2_in_public_is_warned_of() {
    let listener = |address| format!("[[listener]]\nlisten = \"{address}:80\"\nhttp2 = true\n");
    says(
        &listener("0.0.0.0"),
        "warning: tollgate.toml:3  listener[0].http2 = true\n    HTTP/2 without TLS is for internal networks, and this \
         address may be reachable from elsewhere. Add tls = { cert = \"...\", key = \"...\" }, or bind an internal \
         address.\n",
    );
    says(&listener("10.1.2.3"), "");
}

#[test]
fn two_can_not_take_one_port() {
    says(
        "[[listener]]\nlisten = \"0.0.0.0:8081\"\n",
        "tollgate.toml:2  listener[0].listen = \"0.0.0.0:8081\"\n    admin.listen takes the same port (127.0.0.1:8081, \
         its default). Give one of them another.\n",
    );
    says(
        "admin.listen = \"127.0.0.1:7\"\nmetrics.listen = \"127.0.0.1:7\"\n",
        "tollgate.toml:2  metrics.listen = \"127.0.0.1:7\"\n    admin.listen takes the same port (127.0.0.1:7). Give one \
         of them another.\n",
    );
    says("admin.listen = \"127.0.0.1:0\"\nmetrics.listen = \"127.0.0.1:0\"\n", "");
}

#[test]
fn fields_which_contradict_each_other() {
    says(
        "limits.body = \"512MiB\"\n",
        "tollgate.toml:1  limits.body = \"512MiB\"\n    a request of the largest size (limits.body = 512MiB) would never \
         fit into limits.inflight_body = 256MiB. Raise the one or lower the other.\n",
    );
    says(
        "timeouts.idle = \"20m\"\n",
        "warning: tollgate.toml:1  timeouts.idle = \"20m\"\n    timeouts.idle = 20m is longer than timeouts.total = 15m, \
         which ends the request first. Raise timeouts.total or lower timeouts.idle.\n",
    );
    says(
        "master_key = \"./data/master.key\"\n",
        "tollgate.toml:1  master_key = \"./data/master.key\"\n    the master key must lie outside the data folder \
         \"data\": who copies the data must not have its key\n",
    );
    says(
        "data = \"rules/data\"\n",
        "tollgate.toml:1  data = \"rules/data\"\n    the data folder must lie outside the rules folder \"rules\", which \
         is watched for changes\n",
    );
}

#[test]
fn tls_files_must_be_there() {
    let folder = Folder::new();
    let pem = folder.write("cert.pem", "-----BEGIN CERTIFICATE-----\n");
    let text = folder.write("key.txt", "hello");
    let conf = folder.write(
        "tollgate.toml",
        format!(
            "[[listener]]\nlisten = \"127.0.0.1:1\"\ntls = {{ cert = {pem:?}, key = {text:?} }}\n\
             [[listener]]\nlisten = \"127.0.0.1:2\"\ntls.cert = \"{}/none\"\n",
            folder.path().display()
        ),
    );
    assert_eq!(
        folder.show(&load::load(&conf).unwrap_err()),
        "tollgate.toml:3  listener[0].tls.key = \"key.txt\"\n    the file is not PEM: it has no -----BEGIN ...----- \
         line\n\
         tollgate.toml:6  listener[1].tls.cert = \"none\"\n    the file can't be read: it does not exist\n\
         tollgate.toml:6  listener[1].tls\n    key is missing. Write key = \"FILE\", the private key in PEM.\n"
    );
}

#[test]
fn everything_is_told_at_once() {
    let text = "treads = 1\nlimits.body = \"1\"\ntimeouts.idle = 1\nadmin.listen = \"x\"\nlogs.level = \"loud\"\n";
    assert_eq!(problems(text).matches("tollgate.toml:").count(), 5);
}

#[test]
fn what_looks_like_a_key_is_not_shown() {
    let key = "sk-proj-abcdefghijklmnop0123456789";
    for text in [
        format!("data = [\"{key}\"]\n"),
        format!("logs.level = \"{key}\"\n"),
        format!("{key} = 1\n"),
        format!("[[listener]]\nlisten = \"{key}\"\n"),
        format!("api_key = \"{key}\"\nthreads = \n"),
        format!("threads = {key}\n"),
    ] {
        let told = problems(&text);
        assert!(!told.is_empty() && !told.contains("abcdef"), "{text}\n{told}");
    }
}
