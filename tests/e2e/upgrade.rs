//! `tollgate upgrade`, one property a test: what clients see of it, what becomes of one that fails, and the end of a process.
//! (Load, books and budgets while the binary is replaced: `books::mixed`, `budgets::crowd`.)

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::client::{self, Connection, Reply};
use crate::support::dialect::{ALL, Dialect};
use crate::support::gateway::{Gateway, Options, provider_rules, rules_for};
use crate::support::sandboxed::Sandboxed;
use crate::support::{h2, until};

const PATIENCE: Duration = Duration::from_secs(30);

async fn setting(timeouts: &'static str, upgrade: &'static str) -> (Gateway, Sandboxed) {
    let provider = Sandboxed::start().await;
    let gateway = Gateway::start(Options {
        rules: rules_for(provider.address),
        timeouts,
        upgrade,
        ..Options::default()
    })
    .await;
    (gateway, provider)
}

/// Begins a request on this connection.
async fn begin(connection: &mut Connection, gateway: &Gateway, dialect: Dialect, model: &str, stream: bool) {
    let body = dialect.body(model, stream);
    let length = body.len().to_string();
    let (name, value) = dialect.key_header(&gateway.key);
    let headers = [
        (name, value.as_str()),
        ("content-type", "application/json"),
        ("content-length", &length),
    ];
    let head = client::head("POST", &dialect.path(model, stream), &headers);
    connection.send(&[head, body].concat()).await;
}

/// Waits until something of the answer's body is here.
async fn begun(connection: &mut Connection) {
    while connection.buffered().len() < 800 && connection.fill().await {}
}

async fn asked(connection: &mut Connection, gateway: &Gateway, model: &str) -> Reply {
    begin(connection, gateway, Dialect::Chat, model, false).await;
    connection.try_reply(false).await.expect("a whole answer")
}

/// The process ended.
async fn ended(pid: u32) {
    until("the old process ends", PATIENCE, || async move {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
        let is_gone = stat.map_or(true, |stat| {
            stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z"))
        });
        is_gone.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kept_connections_are_answered_and_then_closed_by_the_client() {
    let (gateway, _provider) = setting("", "idle = \"60s\"").await;
    let (mut first, mut second) = (
        Connection::open(gateway.ports.http).await,
        Connection::open(gateway.ports.http).await,
    );
    for connection in [&mut first, &mut second] {
        let reply = asked(connection, &gateway, "echo").await;
        assert!(reply.status == 200 && !reply.closes());
    }
    let old = gateway.pid();
    gateway.upgrade().await;
    assert_ne!(gateway.pid(), old);
    // The connection is still the old process's, which lives for it.
    let reply = asked(&mut first, &gateway, "echo").await;
    assert!(reply.status == 200 && reply.closes(), "{reply:?}");
    let mut fresh = Connection::open(gateway.ports.http).await;
    let reply = asked(&mut fresh, &gateway, "echo").await;
    assert!(reply.status == 200 && !reply.closes(), "a new one is the new process's");
    let reply = asked(&mut second, &gateway, "echo").await;
    assert!(reply.status == 200 && reply.closes());
    ended(old).await;
    gateway.alone(PATIENCE).await;
    assert_eq!(gateway.settled_rows(5).await.len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_with_nothing_to_do_leaves_although_connections_are_open() {
    let (gateway, _provider) = setting("", "idle = \"300ms\"").await;
    let mut kept = Connection::open(gateway.ports.http).await;
    assert_eq!(asked(&mut kept, &gateway, "echo").await.status, 200);
    let old = gateway.pid();
    let begun = Instant::now();
    gateway.upgrade().await;
    ended(old).await;
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert!(kept.rest().await.is_empty(), "it is closed without a word");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_clients_are_told_to_go_away_and_their_streams_go_on() {
    let (gateway, _provider) = setting("", "").await;
    let mut connection = h2::Connection::open(gateway.ports.h2c).await;
    let bearer = gateway.bearer();
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let body = Dialect::Chat.body("chat,tokens=60,pace=50ms", true);
    let answer = connection.begin("/v1/chat/completions", &headers, body, true).await;
    let old = gateway.pid();
    gateway.upgrade().await;
    // GOAWAY: this connection takes no more.
    until("the client is told", PATIENCE, || {
        let refused = !connection.sender.is_ready() || connection.sender.is_closed();
        async move { refused.then_some(()) }
    })
    .await;
    let reply = h2::collect(answer).await;
    assert!(
        reply.status == 200 && reply.complete && reply.text().contains("[DONE]"),
        "{}",
        reply.text()
    );
    ended(old).await;
    let mut fresh = h2::Connection::open(gateway.ports.h2c).await;
    let reply = fresh
        .post("/v1/chat/completions", &headers, Dialect::Chat.body("echo", false))
        .await;
    assert_eq!(reply.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_outlast_the_grace_end_with_an_error_in_their_format() {
    let (gateway, _provider) = setting("", "grace = \"500ms\"").await;
    let mut streams = Vec::new();
    for dialect in ALL {
        let mut connection = Connection::open(gateway.ports.http).await;
        begin(&mut connection, &gateway, dialect, "chat,tokens=100000,pace=20ms", true).await;
        begun(&mut connection).await;
        streams.push((dialect, connection));
    }
    let old = gateway.pid();
    gateway.upgrade().await;
    for (dialect, mut connection) in streams {
        let reply = connection.try_reply(false).await.expect("its end");
        dialect.check_broken_stream("grace", &reply);
        assert!(reply.text().contains("restarted"), "{}", reply.text());
    }
    ended(old).await;
    gateway.alone(PATIENCE).await;
    let rows = gateway.settled_rows(4).await;
    assert!(
        rows.iter()
            .all(|row| row["ended"] == "timed_out" && row["estimated"] == true),
        "{rows:#?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_ends_streams_likewise_and_the_exit_code_is_0() {
    let (mut gateway, _provider) = setting("drain = \"500ms\"\nunready = \"300ms\"", "").await;
    let mut connection = Connection::open(gateway.ports.http).await;
    begin(
        &mut connection,
        &gateway,
        Dialect::Messages,
        "chat,tokens=100000,pace=20ms",
        true,
    )
    .await;
    begun(&mut connection).await;
    gateway.signal(Signal::TERM);
    until("it is not ready", PATIENCE, || async {
        let reply = client::try_get(gateway.ports.http, "/readyz").await;
        reply.is_some_and(|reply| reply.status == 503).then_some(())
    })
    .await;
    let reply = connection.try_reply(false).await.expect("its end");
    Dialect::Messages.check_broken_stream("drain", &reply);
    assert_eq!(gateway.wait().await, 0, "{}", gateway.log());
    gateway.restart().await;
    assert_eq!(gateway.settled_rows(1).await[0]["ended"], "timed_out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_which_a_ping_begins_closes_its_connection_too() {
    let (mut gateway, _provider) = setting("ping_before = \"2s\"", "").await;
    let mut connection = Connection::open(gateway.ports.http).await;
    let model = "chat,tokens=5,first=4s";
    begin(&mut connection, &gateway, Dialect::Messages, model, true).await;
    until("it is under way", PATIENCE, || async {
        (gateway.metric("tollgate_requests_in_flight").await > 0.0).then_some(())
    })
    .await;
    gateway.signal(Signal::TERM);
    let reply = connection.try_reply(false).await.expect("its answer");
    assert!(reply.complete && reply.text().starts_with("event: ping"), "{reply:?}");
    assert!(reply.closes(), "{reply:?}");
    assert_eq!(gateway.wait().await, 0, "{}", gateway.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_while_the_one_before_still_drains() {
    let (gateway, _provider) = setting("", "").await;
    let (mut streams, mut short) = (Vec::new(), Vec::new());
    for dialect in &ALL[..3] {
        let mut connection = Connection::open(gateway.ports.http).await;
        begin(&mut connection, &gateway, *dialect, "chat,tokens=400,pace=50ms", true).await;
        begun(&mut connection).await;
        streams.push((*dialect, connection));
        let mut connection = Connection::open(gateway.ports.http).await;
        begin(&mut connection, &gateway, *dialect, "chat,tokens=40,pace=50ms", true).await;
        short.push(connection);
        gateway.upgrade().await;
    }
    // Rows which a process writes that only drains are in the books, and not in the store.
    for mut connection in short {
        assert!(connection.try_reply(false).await.is_some_and(|reply| reply.complete));
    }
    let verdict = gateway.admin("GET", "/api/v1/ledger/verify", None).await.json();
    assert_eq!(verdict["ok"], true, "{verdict}");
    until("the streams of the processes before are told", PATIENCE, || async {
        (gateway.metric("tollgate_upgrade_predecessor_in_flight").await > 0.0).then_some(())
    })
    .await;
    for (dialect, mut connection) in streams {
        let reply = connection.try_reply(false).await.expect("a whole answer");
        assert!(reply.text().contains(dialect.last_word()), "{}", reply.text());
    }
    gateway.alone(PATIENCE).await;
    assert_eq!(gateway.metric("tollgate_upgrade_predecessor_in_flight").await, 0.0);
    let rows = gateway.settled_rows(6).await;
    assert!(rows.iter().all(|row| row["ended"] == "complete"), "{rows:#?}");
}

/// What speaks for a new process, in Python: it sends these messages, each after one of the old process, and ends.
fn impostor(gateway: &Gateway, says: &[&str], last: &str) -> std::path::PathBuf {
    let script = format!(
        "#!/usr/bin/env python3\nimport socket, struct, sys, time\nlink = socket.socket(fileno=0)\n\
         def hear():\n    head = link.recv(4, socket.MSG_WAITALL)\n    if len(head) < 4: sys.exit(4)\n    \
         link.recv(struct.unpack('<I', head)[0], socket.MSG_WAITALL)\n\
         for text in {says:?}:\n    hear()\n    link.sendall(struct.pack('<I', len(text)) + text.encode())\n{last}\n"
    );
    let path = gateway.path("impostor");
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

const CHECKED: &str = r#"{"type":"checked","protocol":1,"version":"0","pid":1}"#;
const LOADED: &str = r#"{"type":"loaded"}"#;

/// Gives an order of its own over the control socket; the last step that is told.
async fn order(gateway: &Gateway, program: &std::path::Path) -> Value {
    let (socket, conf) = (
        gateway.path("data/run/control.sock"),
        gateway.path("conf/tollgate.toml"),
    );
    let order = json!({ "program": program, "conf": conf, "environment": null });
    tokio::task::spawn_blocking(move || {
        let mut link = UnixStream::connect(socket).unwrap();
        writeln!(link, "{order}").unwrap();
        let steps = BufReader::new(link).lines().map(|line| line.unwrap());
        serde_json::from_str(&steps.last().expect("a step")).unwrap()
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_process_that_fails_leaves_the_old_one_serving() {
    let (gateway, _provider) = setting("", "prepare = \"3s\"").await;
    let old = gateway.pid();
    let mut stream = Connection::open(gateway.ports.http).await;
    begin(&mut stream, &gateway, Dialect::Chat, "chat,tokens=400,pace=50ms", true).await;
    begun(&mut stream).await;
    let mut kept = Connection::open(gateway.ports.http).await;
    let cases: [(&[&str], &str, &str); 6] = [
        (&[], "sys.exit(3)", "exit status: 3"),
        (
            &[r#"{"type":"failed","why":"the rules are bad"}"#],
            "",
            "the rules are bad",
        ),
        // It held the store when it died, …
        (&[CHECKED], "hear()\nsys.exit(5)", "exit status: 5"),
        // … it had the accounts too, …
        (&[CHECKED, LOADED], "hear()\nsys.exit(6)", "exit status: 6"),
        // … or it hangs.
        (&[CHECKED, LOADED], "time.sleep(60)", "within 3s"),
        (&[], "time.sleep(60)", "within 3s"),
    ];
    for (number, (says, last, why)) in cases.into_iter().enumerate() {
        let step = order(&gateway, &impostor(&gateway, says, last)).await;
        assert_eq!(step["step"], "failed", "{number}: {step}");
        assert!(step["why"].as_str().unwrap().contains(why), "{number}: {step}");
        // Everything is this process's again.
        let made = json!({ "name": format!("after {number}") });
        let reply = gateway.admin("POST", "/api/v1/keys", Some(made)).await;
        assert_eq!(reply.status, 201, "{number}: {}", reply.text());
        let reply = asked(&mut kept, &gateway, "echo").await;
        assert!(reply.status == 200 && !reply.closes(), "{number}");
        let verdict = gateway.admin("GET", "/api/v1/ledger/verify", None).await.json();
        assert_eq!(verdict["ok"], true, "{number}: {verdict}");
        assert_eq!(gateway.metric("tollgate_upgrade_phase{phase=\"serving\"}").await, 1.0);
    }
    assert_eq!(gateway.metric("tollgate_upgrades_total{result=\"failed\"}").await, 6.0);
    let none = order(&gateway, &gateway.path("nothing-there")).await;
    assert!(none["why"].as_str().unwrap().contains("can't be started"), "{none}");
    gateway.upgrade().await;
    let reply = stream.try_reply(false).await.expect("its end");
    assert!(
        reply.text().contains("[DONE]"),
        "the stream went on through all of it: {}",
        reply.text()
    );
    ended(old).await;
    gateway.alone(PATIENCE).await;
    assert_eq!(gateway.settled_rows(7).await.len(), 7);
    let keys = gateway.admin("GET", "/api/v1/keys?limit=100", None).await.json();
    assert_eq!(keys["keys"].as_array().unwrap().len(), 7, "{keys}");
    let audit = gateway.admin("GET", "/api/v1/audit/verify", None).await.json();
    assert_eq!(audit["whole"], true, "{audit}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_configuration_or_rules_is_told_and_nothing_changes() {
    let (gateway, _provider) = setting("", "").await;
    let old = gateway.pid();
    let conf = gateway.path("conf/tollgate.toml");
    let good = fs::read_to_string(&conf).unwrap();
    // Somebody else has this address: only the new process finds out.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let more = format!("[[listener]]\nlisten = \"{}\"\n", taken.local_addr().unwrap());
    let cases = [
        (format!("thread = 1\n{good}"), 1, "thread"),
        (format!("{more}{good}"), 2, "can't listen on"),
    ];
    for (text, exit, why) in cases {
        fs::write(&conf, text).unwrap();
        let (code, out, err) = gateway.cli(&["upgrade"]).await;
        assert!(code == exit && err.contains(why), "{code} {out} {err}");
    }
    fs::write(&conf, &good).unwrap();
    let rules = gateway.path("rules/20.toml");
    let good = fs::read_to_string(&rules).unwrap();
    fs::write(&rules, good.replace("targets", "tagrets")).unwrap();
    let (code, out, err) = gateway.cli(&["upgrade"]).await;
    assert!(code == 1 && err.contains("targets"), "{code} {out} {err}");
    fs::write(&rules, &good).unwrap();
    assert_eq!(gateway.pid(), old);
    assert_eq!(
        gateway
            .post("/v1/chat/completions", &Dialect::Chat.body("echo", false))
            .await
            .status,
        200
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_come_and_go_with_an_upgrade() {
    let (gateway, _provider) = setting("", "idle = \"300ms\"").await;
    let old = gateway.pid();
    let conf = gateway.path("conf/tollgate.toml");
    let text = fs::read_to_string(&conf).unwrap();
    // The second listener moves to another port, and there is one thread.
    let other = crate::support::setup::free_port();
    let moved = text.replace(&gateway.ports.h2c.to_string(), &other.to_string());
    fs::write(&conf, format!("threads = 1\n{moved}")).unwrap();
    gateway.upgrade().await;
    ended(old).await;
    assert_eq!(client::get(other, "/readyz").await.status, 200);
    assert!(
        client::try_get(gateway.ports.h2c, "/readyz").await.is_none(),
        "nobody listens there"
    );
    for _ in 0..20 {
        assert_eq!(
            client::get(gateway.ports.http, "/readyz").await.status,
            200,
            "every socket is served"
        );
    }
    let old = gateway.pid();
    fs::write(&conf, format!("threads = 4\n{text}")).unwrap();
    gateway.upgrade().await;
    ended(old).await;
    for _ in 0..20 {
        assert_eq!(client::get(gateway.ports.http, "/readyz").await.status, 200);
        assert_eq!(client::get(gateway.ports.h2c, "/readyz").await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_running_gateway_it_says_so() {
    let (mut gateway, _provider) = setting("", "").await;
    assert_eq!(gateway.stop().await, 0);
    let (code, _, err) = gateway.cli(&["upgrade"]).await;
    assert!(code == 2 && err.contains("no gateway answers"), "{code} {err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conversations_stay_where_they_were_and_minutes_go_on() {
    let provider = Sandboxed::start().await;
    let mut rules = vec![(
        "20.toml",
        "[[route]]\nname = \"all\"\nmodel = \"echo\"\ntargets = [{ provider = \"one\" }, { provider = \"two\" }]\n\
         [[route]]\nname = \"few\"\nmodel = \"chat\"\naffinity = \"off\"\ntargets = [{ provider = \"few\" }]\n"
            .to_owned(),
    )];
    for (file, name) in [("10.toml", "one"), ("11.toml", "two")] {
        rules.push((file, provider_rules(name, provider.address, "")));
    }
    let few = provider_rules("few", provider.address, "") + "limits = { requests_per_minute = 3 }\n";
    rules.push(("12.toml", few));
    let gateway = Gateway::start(Options {
        rules,
        ..Options::default()
    })
    .await;
    let place = async |session: usize| {
        let headers = [("x-session-id", format!("conversation-{session}"))];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        let body = Dialect::Chat.body("echo", false);
        let reply = gateway.post_with("/v1/chat/completions", &headers, &body).await;
        reply.header("x-tollgate-provider").unwrap().to_owned()
    };
    let mut places = Vec::new();
    for session in 0..24 {
        places.push(place(session).await);
    }
    for _ in 0..2 {
        let reply = gateway
            .post("/v1/chat/completions", &Dialect::Chat.body("chat", false))
            .await;
        assert_eq!(reply.status, 200);
    }
    gateway.upgrade().await;
    for (session, before) in places.iter().enumerate() {
        assert_eq!(place(session).await, *before, "session {session}");
    }
    let mut statuses = Vec::new();
    for _ in 0..2 {
        let reply = gateway
            .post("/v1/chat/completions", &Dialect::Chat.body("chat", false))
            .await;
        statuses.push(reply.status);
    }
    assert_eq!(statuses, [200, 429], "three a minute, over both processes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_a_minute_hold_over_both_processes() {
    let (gateway, _provider) = setting("", "idle = \"60s\"").await;
    let made = json!({ "name": "few", "policy": { "tokens_per_minute": 400 } });
    let reply = gateway.admin("POST", "/api/v1/keys", Some(made)).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    let key = reply.json()["key"].as_str().unwrap().to_owned();
    let ask = async |connection: &mut Connection| {
        let body =
            br#"{"model":"chat,prompt=50,tokens=100","max_tokens":100,"messages":[{"role":"user","content":"Hi"}]}"#;
        let headers = [
            ("authorization", format!("Bearer {key}")),
            ("content-length", body.len().to_string()),
        ];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        let head = client::head("POST", "/v1/chat/completions", &headers);
        connection.send(&[&head[..], body].concat()).await;
        connection.try_reply(false).await.expect("an answer").status
    };
    let mut kept = Connection::open(gateway.ports.http).await;
    assert_eq!(ask(&mut kept).await, 200);
    gateway.upgrade().await;
    // 150 were used in the old process before, 150 are by what it asks the new one for; 100 are left.
    assert_eq!(ask(&mut kept).await, 200, "the old process's last request");
    gateway.settled_rows(1).await;
    let mut fresh = Connection::open(gateway.ports.http).await;
    assert_eq!(ask(&mut fresh).await, 429, "both count here");
}
