//! Certificates of a TLS listener: by name, reloaded, with clients that have some; versions, sessions, deadlines.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rcgen::KeyPair;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::rustls::SignatureScheme;

use crate::pki::{Authority, END, Signed};
use crate::support::client::{PATIENCE, head};
use crate::support::gateway::{Gateway, Options, Ports};
use crate::support::tls_client::{Client, Speaks, V1_2, V1_3};
use crate::support::{h2, until};

/// An RSA key that is worth nothing: making one takes long.
const RSA: &str = include_str!("support/rsa.key.pem");

/// A gateway whose folder has these files, with these listeners of TLS beside the plain one.
async fn gateway(files: &[(&str, &str)], timeouts: &'static str, listeners: impl Fn(&Ports) -> String) -> Gateway {
    let folder = tempfile::tempdir().unwrap();
    for name in ["conf", "rules"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    for (name, text) in files {
        fs::write(folder.path().join("conf").join(name), text).unwrap();
    }
    Gateway::start_in(folder, Options::default(), |path, ports, _| {
        let conf = format!(
            "threads = 2\n[[listener]]\nlisten = \"{}\"\n{}[admin]\nlisten = \"{}\"\n[metrics]\nlisten = \"{}\"\n\
             [timeouts]\n{timeouts}\n",
            ports.http,
            listeners(ports),
            ports.admin,
            ports.metrics
        );
        fs::write(path, conf).unwrap();
    })
    .await
}

/// `[[listener]]` with this in its `tls`.
fn listener(address: std::net::SocketAddr, tls: &str) -> String {
    format!("[[listener]]\nlisten = \"{address}\"\ntls = {{ {tls} }}\n")
}

/// One certificate, in `cert.pem` and `key.pem`.
async fn simple(signed: &Signed, timeouts: &'static str, more: &str) -> Gateway {
    let more = more.to_owned();
    let files = [("cert.pem", signed.cert_pem.as_str()), ("key.pem", &signed.key_pem)];
    gateway(&files, timeouts, move |ports| {
        let tls = format!("cert = \"conf/cert.pem\", key = \"conf/key.pem\"{more}");
        listener(ports.tls, &tls)
    })
    .await
}

async fn failures(gateway: &Gateway, reason: &str) -> f64 {
    let series = format!("tollgate_tls_handshake_failures_total{{reason=\"{reason}\"}}");
    gateway.metric(&series).await
}

/// Waits until so many are counted: the alert comes before the count.
async fn failed(gateway: &Gateway, reason: &str, count: f64) {
    let counted = until(reason, PATIENCE, || async {
        let now = failures(gateway, reason).await;
        (now >= count).then_some(now)
    });
    assert_eq!(counted.await, count, "{reason}");
}

async fn reloads(gateway: &Gateway, result: &str) -> f64 {
    gateway
        .metric(&format!("tollgate_tls_reloads_total{{result=\"{result}\"}}"))
        .await
}

/// As an editor saves: another file, renamed over it.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, path).unwrap();
}

/// The certificate of the file `cert.pem` is shown.
async fn shows(gateway: &Gateway, client: &Client, signed: &Signed) {
    until("the new certificate is shown", PATIENCE, || async {
        (client.shown(gateway.ports.tls, "localhost").await == signed.cert).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_name_that_is_asked_for_chooses_the_certificate() {
    let authority = Authority::new();
    let first = authority.sign("first.test", 1);
    let wild = authority.sign("*.a.test", 2);
    let exact = authority.sign("x.a.test", 3);
    let rsa = authority.sign_key("x.a.test", 4, END, KeyPair::from_pem(RSA).unwrap());
    let all = [("first", &first), ("wild", &wild), ("exact", &exact), ("rsa", &rsa)];
    let files: Vec<(String, &str)> = all
        .iter()
        .flat_map(|(name, signed)| {
            [
                (format!("{name}.pem"), signed.cert_pem.as_str()),
                (format!("{name}.key"), &signed.key_pem),
            ]
        })
        .collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), *text)).collect();
    let gateway = gateway(&files, "", |ports| {
        let list = ["first", "wild", "exact", "rsa"]
            .map(|name| format!("{{ cert = \"conf/{name}.pem\", key = \"conf/{name}.key\" }}"))
            .join(", ");
        let certificates = format!("certificates = [{list}]");
        listener(ports.tls, &certificates) + &listener(ports.h2c, &format!("{certificates}, unknown_name = \"refuse\""))
    })
    .await;
    let client = Client::new(Speaks::default());
    for (name, signed) in [
        ("first.test", &first),
        ("y.a.test", &wild),
        ("x.a.test", &exact),
        ("X.A.Test", &exact),
        ("y.x.a.test", &first),
        ("a.test", &first),
        ("unknown.test", &first),
    ] {
        let shown = client.shown(gateway.ports.tls, name).await;
        assert_eq!(shown, signed.cert, "{name}");
    }
    let nameless = Client::new(Speaks {
        sni: false,
        ..Speaks::default()
    });
    assert_eq!(
        nameless.shown(gateway.ports.tls, "x.a.test").await,
        first.cert,
        "no name"
    );

    // Whoever can verify RSA only.
    for versions in [V1_3, V1_2] {
        let client = Client::new(Speaks {
            versions,
            schemes: Some(&[SignatureScheme::RSA_PSS_SHA256]),
            ..Speaks::default()
        });
        assert_eq!(
            client.shown(gateway.ports.tls, "x.a.test").await,
            rsa.cert,
            "{versions:?}"
        );
        assert!(
            client.try_connect(gateway.ports.tls, "first.test").await.is_err(),
            "there is none that it could verify"
        );
    }
    failed(&gateway, "incompatible", 2.0).await;

    assert_eq!(client.shown(gateway.ports.h2c, "x.a.test").await, exact.cert);
    for (client, name) in [(&client, "unknown.test"), (&nameless, "x.a.test")] {
        assert!(
            client.try_connect(gateway.ports.h2c, name).await.is_err(),
            "{name} is refused"
        );
    }
    failed(&gateway, "unknown_name", 2.0).await;
    let page = gateway.metrics().await;
    let series = format!(
        "tollgate_tls_certificate_expiry_timestamp_seconds{{listener=\"{}\",name=\"conf/wild.pem\"}} 2380406400",
        gateway.ports.tls
    );
    assert!(page.contains(&series), "2045-06-07: {page}");
    assert!(!page.contains("unknown.test"), "what clients send is no label");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_change_while_clients_come_and_stay() {
    let authority = Authority::new();
    let certificates: Vec<Signed> = (1..=4).map(|serial| authority.sign("localhost", serial)).collect();
    let gateway = simple(&certificates[0], "", "").await;
    let address = gateway.ports.tls;
    let client = Client::new(Speaks::default());
    let old = client.connect(address, "localhost").await;
    assert_eq!(old.certificate(), certificates[0].cert);
    let mut old = old.http();

    let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, made) = (stop.clone(), made.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    // A new client each time: whole handshakes.
                    let reply = Client::new(Speaks::default()).get(address, "/healthz").await;
                    assert_eq!(reply.expect("an answer").status, 200);
                    made.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
        })
        .collect();

    // Renamed over: what lies between the two files does not fit together, and is not taken.
    replace(&gateway.path("conf/key.pem"), &certificates[1].key_pem);
    replace(&gateway.path("conf/cert.pem"), &certificates[1].cert_pem);
    shows(&gateway, &client, &certificates[1]).await;
    // Links that are swapped, as Kubernetes does it.
    for (n, signed) in certificates.iter().enumerate().skip(2) {
        let folder = gateway.path(&format!("conf/..{n}"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("cert.pem"), &signed.cert_pem).unwrap();
        fs::write(folder.join("key.pem"), &signed.key_pem).unwrap();
        symlink(format!("..{n}"), gateway.path("conf/..new")).unwrap();
        fs::rename(gateway.path("conf/..new"), gateway.path("conf/..data")).unwrap();
        for name in ["cert.pem", "key.pem"] {
            if n == 2 {
                let link = gateway.path("conf/link");
                symlink(format!("..data/{name}"), &link).unwrap();
                fs::rename(link, gateway.path("conf").join(name)).unwrap();
            }
        }
        shows(&gateway, &client, signed).await;
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert!(made.load(Ordering::Relaxed) > 20, "clients came all the while");
    for reason in ["timeout", "closed", "incompatible", "other"] {
        assert_eq!(failures(&gateway, reason).await, 0.0, "{reason}");
    }
    assert!(reloads(&gateway, "ok").await >= 3.0);
    old.send(&head("GET", "/healthz", &[])).await;
    assert_eq!(old.reply().await.status, 200, "the first connection lives on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_no_good_leave_the_certificate_before() {
    let authority = Authority::new();
    let [first, second, other] = [1, 2, 3].map(|serial| authority.sign("localhost", serial));
    let over = authority.sign_until("localhost", 4, (2001, 1, 1));
    let gateway = simple(&first, "", "").await;
    let client = Client::new(Speaks::default());
    let refused = format!("tollgate_tls_files_refused{{listener=\"{}\"}}", gateway.ports.tls);
    assert_eq!(gateway.metric(&refused).await, 0.0);
    let (cert, key) = (gateway.path("conf/cert.pem"), gateway.path("conf/key.pem"));
    let mut failed = 0.0;
    for (what, cert_pem, key_pem, told) in [
        ("not PEM", "rubbish", first.key_pem.as_str(), "it has no certificate"),
        (
            "another's key",
            &second.cert_pem,
            &other.key_pem,
            "it is not the key of the first",
        ),
        ("no key", &second.cert_pem, "", "it has no private key"),
        (
            "one that has ended",
            &over.cert_pem,
            &over.key_pem,
            "has ended does not take the place",
        ),
    ] {
        replace(&cert, cert_pem);
        replace(&key, key_pem);
        until(what, PATIENCE, || async {
            let now = reloads(&gateway, "failed").await;
            (now > failed && gateway.log().contains(told)).then_some(())
        })
        .await;
        failed = reloads(&gateway, "failed").await;
        assert_eq!(client.shown(gateway.ports.tls, "localhost").await, first.cert, "{what}");
        assert_eq!(gateway.metric(&refused).await, 1.0, "{what}");
        assert!(gateway.log().contains("conf/tollgate.toml:"), "the log tells where");
    }
    let (code, out, _) = gateway.cli(&["check"]).await;
    assert!(
        code == 0 && out.contains("warning: ") && out.contains("it ended on 2001-01-01"),
        "{out}"
    );
    fs::remove_file(&key).unwrap();
    until("a file that is gone", PATIENCE, || async {
        (reloads(&gateway, "failed").await > failed).then_some(())
    })
    .await;
    assert_eq!(client.shown(gateway.ports.tls, "localhost").await, first.cert);

    replace(&cert, &second.cert_pem);
    replace(&key, &second.key_pem);
    shows(&gateway, &client, &second).await;
    until("the metric says so", PATIENCE, || async {
        (gateway.metric(&refused).await == 0.0).then_some(())
    })
    .await;
    let before = reloads(&gateway, "ok").await;
    gateway.signal(Signal::HUP);
    until("SIGHUP reads them too", PATIENCE, || async {
        (reloads(&gateway, "ok").await > before).then_some(())
    })
    .await;
    let secret = first.key_pem.lines().nth(1).unwrap();
    assert!(!gateway.log().contains(secret), "no key in the log");
}

/// The beginning of TLS 1.1: what its client says first.
fn hello_of_tls_1_1() -> Vec<u8> {
    let mut hello = vec![3, 2];
    hello.extend([7; 32]);
    hello.push(0);
    hello.extend([0, 4, 0xc0, 0x13, 0, 0x2f]);
    hello.extend([1, 0]);
    let mut message = vec![1, 0, 0, hello.len() as u8];
    message.extend(hello);
    let mut record = vec![22, 3, 1, 0, message.len() as u8];
    record.extend(message);
    record
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_below_the_lowest_are_refused() {
    let signed = Authority::new().sign("localhost", 1);
    let files = [("cert.pem", signed.cert_pem.as_str()), ("key.pem", &signed.key_pem)];
    let gateway = gateway(&files, "", |ports| {
        let pair = "cert = \"conf/cert.pem\", key = \"conf/key.pem\"";
        listener(ports.tls, pair) + &listener(ports.h2c, &format!("{pair}, min_version = \"1.3\""))
    })
    .await;
    let speaks = |versions| {
        Client::new(Speaks {
            versions,
            ..Speaks::default()
        })
    };
    let (old, new) = (speaks(V1_2), speaks(V1_3));
    for client in [&old, &new] {
        assert_eq!(client.get(gateway.ports.tls, "/healthz").await.unwrap().status, 200);
    }
    assert_eq!(new.get(gateway.ports.h2c, "/healthz").await.unwrap().status, 200);
    assert!(old.try_connect(gateway.ports.h2c, "localhost").await.is_err());
    failed(&gateway, "version", 1.0).await;

    for address in [gateway.ports.tls, gateway.ports.h2c] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&hello_of_tls_1_1()).await.unwrap();
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .unwrap();
        assert_eq!(answer.first(), Some(&21), "an alert, and the end: {answer:?}");
    }
    failed(&gateway, "version", 3.0).await;
    for (series, least) in [("version=\"1.2\"", 1.0), ("version=\"1.3\"", 2.0)] {
        let made = gateway
            .metric(&format!("tollgate_tls_handshakes_total{{resumed=\"no\",{series}}}"))
            .await;
        assert!(made >= least, "{series}: {made}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_resumed_on_every_thread() {
    let signed = Authority::new().sign("localhost", 1);
    let gateway = simple(&signed, "", "").await;
    for (versions, name) in [(V1_2, "1.2"), (V1_3, "1.3")] {
        let client = Client::new(Speaks {
            versions,
            ..Speaks::default()
        });
        for round in 0..12 {
            let made = client.connect(gateway.ports.tls, "localhost").await;
            assert_eq!(made.resumed, round > 0, "TLS {name}, connection {round}");
            // Tickets of TLS 1.3 come behind the handshake: they are read with the answer.
            let mut http = made.http();
            http.send(&head("GET", "/healthz", &[])).await;
            assert_eq!(http.reply().await.status, 200);
        }
        assert_eq!(client.verified(), 1, "TLS {name}: one certificate was looked at");
        let resumed = format!("tollgate_tls_handshakes_total{{resumed=\"yes\",version=\"{name}\"}}");
        assert_eq!(gateway.metric(&resumed).await, 11.0);
    }
    // A renewed certificate ends no session.
    let client = Client::new(Speaks::default());
    assert_eq!(client.get(gateway.ports.tls, "/healthz").await.unwrap().status, 200);
    let before = reloads(&gateway, "ok").await;
    gateway.signal(Signal::HUP);
    until("reloaded", PATIENCE, || async {
        (reloads(&gateway, "ok").await > before).then_some(())
    })
    .await;
    assert!(client.connect(gateway.ports.tls, "localhost").await.resumed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_show_certificates_where_they_are_asked_for() {
    let server = Authority::new().sign("localhost", 1);
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (known, stranger) = (ours.sign("client", 7), theirs.sign("client", 8));
    let ca = String::from_utf8(ours.pem()).unwrap();
    let files = [
        ("cert.pem", server.cert_pem.as_str()),
        ("key.pem", &server.key_pem),
        ("clients.pem", &ca),
    ];
    let gateway = gateway(&files, "", |ports| {
        let tls = "cert = \"conf/cert.pem\", key = \"conf/key.pem\", client_ca = \"conf/clients.pem\"";
        listener(ports.tls, tls) + &listener(ports.h2c, &format!("{tls}, client_auth = \"request\""))
    })
    .await;
    let with = |certificate, versions| {
        Client::new(Speaks {
            certificate,
            versions,
            ..Speaks::default()
        })
    };
    for versions in [V1_3, V1_2] {
        let status = async |address, certificate| {
            let reply = with(certificate, versions).get(address, "/healthz").await;
            reply.map(|reply| reply.status)
        };
        let (required, requested) = (gateway.ports.tls, gateway.ports.h2c);
        assert_eq!(status(required, Some(&known)).await, Some(200), "{versions:?}");
        assert_eq!(status(required, Some(&stranger)).await, None, "{versions:?}");
        assert_eq!(status(required, None).await, None, "{versions:?}");
        assert_eq!(status(requested, Some(&known)).await, Some(200), "{versions:?}");
        assert_eq!(status(requested, Some(&stranger)).await, None, "{versions:?}");
        assert_eq!(status(requested, None).await, Some(200), "{versions:?}");
    }
    failed(&gateway, "client_certificate", 6.0).await;
    // Each connection shows its certificate: no session is resumed that would spare it.
    for versions in [V1_3, V1_2] {
        let client = with(Some(&known), versions);
        for address in [gateway.ports.tls, gateway.ports.h2c] {
            for _ in 0..3 {
                assert_eq!(client.get(address, "/healthz").await.unwrap().status, 200);
                assert!(!client.connect(address, "localhost").await.resumed, "{versions:?}");
            }
        }
    }

    // Other authorities: who was let in is no more.
    let client = with(Some(&known), V1_3);
    assert_eq!(client.get(gateway.ports.tls, "/healthz").await.unwrap().status, 200);
    replace(
        &gateway.path("conf/clients.pem"),
        &String::from_utf8(theirs.pem()).unwrap(),
    );
    until("the stranger is let in", PATIENCE, || async {
        let reply = with(Some(&stranger), V1_3).get(gateway.ports.tls, "/healthz").await;
        reply.map(|reply| assert_eq!(reply.status, 200))
    })
    .await;
    assert!(
        client.get(gateway.ports.tls, "/healthz").await.is_none(),
        "and the other is not"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_version_of_http_is_negotiated() {
    let signed = Authority::new().sign("localhost", 1);
    let files = [("cert.pem", signed.cert_pem.as_str()), ("key.pem", &signed.key_pem)];
    let gateway = gateway(&files, "", |ports| {
        let pair = "cert = \"conf/cert.pem\", key = \"conf/key.pem\"";
        listener(ports.tls, pair) + &listener(ports.h2c, pair) + "http2 = false\n"
    })
    .await;
    let alpn = async |address, alpn: &[&[u8]]| {
        let client = Client::new(Speaks {
            alpn,
            ..Speaks::default()
        });
        let made = client.try_connect(address, "localhost").await.ok();
        made.map(|made| String::from_utf8(made.alpn.unwrap_or_default()).unwrap())
    };
    let (two, one) = (gateway.ports.tls, gateway.ports.h2c);
    assert_eq!(
        alpn(two, &[b"http/1.1", b"h2"]).await.as_deref(),
        Some("h2"),
        "ours is the choice"
    );
    assert_eq!(alpn(two, &[b"http/1.1"]).await.as_deref(), Some("http/1.1"));
    assert_eq!(alpn(two, &[]).await.as_deref(), Some(""), "none: HTTP/1.1");
    assert_eq!(alpn(two, &[b"spdy/3"]).await, None, "nothing in common");
    assert_eq!(alpn(one, &[b"h2", b"http/1.1"]).await.as_deref(), Some("http/1.1"));
    let client = Client::new(Speaks {
        alpn: &[],
        ..Speaks::default()
    });
    assert_eq!(client.get(two, "/healthz").await.unwrap().status, 200);
    let client = Client::new(Speaks {
        alpn: &[b"h2"],
        ..Speaks::default()
    });
    let mut connection = h2::Connection::over(client.connect(two, "localhost").await.stream).await;
    let bearer = gateway.bearer();
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let reply = connection.post("/v1/chat/completions", &headers, b"{}".to_vec()).await;
    assert_eq!(reply.status, 400, "{}", reply.text());
}

/// How long until the other side closes.
async fn closed(mut stream: impl AsyncReadExt + Unpin) -> Duration {
    let began = Instant::now();
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest))
        .await
        .expect("the gateway closes");
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_is_never_finished_is_ended_at_its_deadline() {
    let signed = Authority::new().sign("localhost", 1);
    let gateway = simple(&signed, "handshake = \"700ms\"\nheader = \"1500ms\"", "").await;
    let client = Client::new(Speaks::default());
    assert_eq!(client.get(gateway.ports.tls, "/healthz").await.unwrap().status, 200);
    let limit = Duration::from_secs(20); // far below Pingora's minute, far above any delay of the machine
    let early = Duration::from_millis(600);

    let silent = TcpStream::connect(gateway.ports.tls).await.unwrap();
    let mut begun = TcpStream::connect(gateway.ports.tls).await.unwrap();
    begun.write_all(&hello_of_tls_1_1()[..20]).await.unwrap();
    let dripping = TcpStream::connect(gateway.ports.tls).await.unwrap();
    let (reading, mut writing) = dripping.into_split();
    let drip = tokio::spawn(async move {
        // The length of a record that would take an hour.
        let bytes = [22, 3, 1, 0x3f, 0xff].into_iter().chain(std::iter::repeat(1));
        for byte in bytes {
            if writing.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let (a, b, c) = tokio::join!(closed(silent), closed(begun), closed(reading));
    for (took, what) in [(a, "silent"), (b, "begun"), (c, "dripping")] {
        assert!(took < limit, "{what}: {took:?}");
    }
    assert!(a > early, "not at once: {a:?}");
    drip.await.unwrap();
    failed(&gateway, "timeout", 3.0).await;

    // After the handshake HTTP/2 begins with a preface: that too has a deadline.
    let two = Client::new(Speaks {
        alpn: &[b"h2"],
        ..Speaks::default()
    });
    let silent = two.connect(gateway.ports.tls, "localhost").await.stream;
    let mut begun = two.connect(gateway.ports.tls, "localhost").await.stream;
    begun.write_all(b"PRI * HTTP/2").await.unwrap();
    begun.flush().await.unwrap();
    let one = client.connect(gateway.ports.tls, "localhost").await.stream;
    let (a, b, c) = tokio::join!(closed(silent), closed(begun), closed(one));
    for (took, what) in [(a, "silent"), (b, "begun"), (c, "HTTP/1.1")] {
        assert!(took < limit, "{what} after the handshake: {took:?}");
    }
    until("no connection is left", PATIENCE, || async {
        (gateway.metric("tollgate_connections").await == 0.0).then_some(())
    })
    .await;

    let mut stream = TcpStream::connect(gateway.ports.tls).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert!(closed(stream).await < limit);
    failed(&gateway, "not_tls", 1.0).await;
}
