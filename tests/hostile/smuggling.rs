//! HTTP/1 requests that two servers could read in two ways: none hides a second request, none that is refused reaches a
//! provider, and a connection goes on only where it is clear what comes next.

use crate::support::client::{Connection, Reply};
use crate::support::gateway::Options;
use crate::support::shown;
use crate::{ANSWER, CHAT, Setting, chat, setting};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// An error answer or none, and the connection closes: what follows on it is not answered.
    Refused,
    /// One good answer.
    Served,
}
use Fate::{Refused, Served};

struct Probe {
    what: String,
    bytes: Vec<u8>,
    fate: Fate,
}

/// All probes. Whatever could be taken for a request within another asks for the model `smuggled`.
fn probes(key: &str) -> Vec<Probe> {
    let good = String::from_utf8(chat("good")).unwrap();
    let size = good.len();
    let line = format!("POST {CHAT} HTTP/1.1\r\n");
    let usual = format!("Host: h\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n");
    let hidden_body = String::from_utf8(chat("smuggled")).unwrap();
    let hidden = format!(
        "POST {CHAT} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{hidden_body}",
        hidden_body.len()
    );
    let length = format!("Content-Length: {size}\r\n");
    let chunk = format!("{size:x}\r\n{good}\r\n");
    let chunked = format!("{chunk}0\r\n\r\n");
    let te = "Transfer-Encoding: chunked\r\n";
    let mut all = Vec::new();
    let mut add = |what: &str, fate: Fate, bytes: String| {
        let what = what.to_owned();
        let bytes = bytes.into_bytes();
        all.push(Probe { what, bytes, fate });
    };

    // ---- two framings
    add(
        "CL.TE",
        Refused,
        format!(
            "{line}{usual}Content-Length: {}\r\n{te}\r\n0\r\n\r\n{hidden}",
            5 + hidden.len()
        ),
    );
    add(
        "CL and TE that agree",
        Refused,
        format!("{line}{usual}Content-Length: {}\r\n{te}\r\n{chunked}", chunked.len()),
    );
    add(
        "TE.CL",
        Refused,
        format!(
            "{line}{usual}{te}Content-Length: 4\r\n\r\n{:x}\r\n{hidden}\r\n0\r\n\r\n",
            hidden.len()
        ),
    );
    for value in [
        "identity",
        "gzip",
        "gzip, chunked",
        "chunked, gzip",
        "chunked, identity",
        "xchunked",
        "chunked;q=1",
        "\"chunked\"",
        "chunked,",
        "chun ked",
        "\x0bchunked",
        "",
    ] {
        add(
            &format!("TE {value:?}"),
            Refused,
            format!("{line}{usual}Transfer-Encoding: {value}\r\n\r\n{chunked}{hidden}"),
        );
        add(
            &format!("TE {value:?} and CL"),
            Refused,
            format!("{line}{usual}{length}Transfer-Encoding: {value}\r\n\r\n{good}{hidden}"),
        );
    }
    add("TE twice", Refused, format!("{line}{usual}{te}{te}\r\n{chunked}"));
    add(
        "TE and another TE",
        Refused,
        format!("{line}{usual}{te}Transfer-Encoding: identity\r\n\r\n{chunked}{hidden}"),
    );
    add(
        "a space before TE's colon",
        Refused,
        format!("{line}{usual}{length}Transfer-Encoding : chunked\r\n\r\n{good}{hidden}"),
    );
    add(
        "a space before TE",
        Refused,
        format!("{line}{usual}{length} Transfer-Encoding: chunked\r\n\r\n{good}{hidden}"),
    );
    add(
        "TE folded",
        Refused,
        format!("{line}{usual}{length}Transfer-Encoding:\r\n chunked\r\n\r\n{good}{hidden}"),
    );
    add(
        "TE within a folded line",
        Refused,
        format!("{line}{usual}{length}X: y\r\n\tTransfer-Encoding: chunked\r\n\r\n{good}{hidden}"),
    );
    add(
        "TE behind a bare CR",
        Refused,
        format!("{line}{usual}{length}X: y\rTransfer-Encoding: chunked\r\n\r\n{good}{hidden}"),
    );
    add(
        "TE behind a bare LF",
        Refused,
        format!("{line}{usual}{length}X: y\nTransfer-Encoding: chunked\r\n\r\n{good}{hidden}"),
    );
    add(
        "TE with an underscore",
        Refused,
        format!("{line}{usual}{length}Transfer_Encoding: chunked\r\n\r\n{good}{hidden}"),
    );
    add(
        "TE in HTTP/1.0",
        Refused,
        format!("POST {CHAT} HTTP/1.0\r\n{usual}{te}\r\n{chunked}"),
    );
    add(
        "TE with a tab, in capitals",
        Served,
        format!("{line}{usual}TRANSFER-ENCODING:\tChunked \r\n\r\n{chunked}"),
    );

    // ---- lengths
    for value in [
        format!("+{size}"),
        format!("-{size}"),
        format!("0x{size:x}"),
        format!("{size}, {size}1"),
        format!("{size} {size}"),
        format!("{size};"),
        format!("{size}.0"),
        "99999999999999999999999".into(),
        "18446744073709551617".into(),
        "-1".into(),
        String::new(),
    ] {
        add(
            &format!("CL {value:?}"),
            Refused,
            format!("{line}{usual}Content-Length: {value}\r\n\r\n{good}{hidden}"),
        );
    }
    add(
        "two lengths",
        Refused,
        format!("{line}{usual}{length}Content-Length: 0\r\n\r\n{good}{hidden}"),
    );
    add(
        "two lengths, the other way",
        Refused,
        format!("{line}{usual}Content-Length: 0\r\n{length}\r\n{good}{hidden}"),
    );
    add(
        "a space before CL's colon",
        Refused,
        format!("{line}{usual}Content-Length : {size}\r\n\r\n{good}"),
    );
    add(
        "CL folded",
        Refused,
        format!("{line}{usual}Content-Length:\r\n {size}\r\n\r\n{good}"),
    );
    add(
        "CL with an underscore",
        Refused,
        format!("{line}{usual}Content_Length: {size}\r\n\r\n{good}"),
    );
    add(
        "the same length twice",
        Served,
        format!("{line}{usual}{length}{length}\r\n{good}"),
    );
    add(
        "a length with zeros before",
        Served,
        format!("{line}{usual}Content-Length: 000{size}\r\n\r\n{good}"),
    );
    add(
        "CL named in Connection",
        Served,
        format!("{line}{usual}{length}Connection: content-length\r\n\r\n{good}"),
    );

    // ---- chunks
    for (what, body) in [
        (
            "a size that overflows",
            format!("FFFFFFFFFFFFFFFF1\r\n{good}\r\n0\r\n\r\n"),
        ),
        ("the largest size", format!("ffffffffffffffff\r\n{good}\r\n0\r\n\r\n")),
        ("a size with a letter", format!("{size:x}g\r\n{good}\r\n0\r\n\r\n")),
        ("a size with 0x", format!("0x{size:x}\r\n{good}\r\n0\r\n\r\n")),
        ("a negative size", format!("-{size:x}\r\n{good}\r\n0\r\n\r\n")),
        ("a size with a plus", format!("+{size:x}\r\n{good}\r\n0\r\n\r\n")),
        ("no size", format!("\r\n{good}\r\n0\r\n\r\n")),
        ("a size behind LF only", format!("{size:x}\n{good}\r\n0\r\n\r\n")),
        ("a size behind CR only", format!("{size:x}\r{good}\r\n0\r\n\r\n")),
        ("an extension with LF", format!("{size:x};a\n{good}\r\n0\r\n\r\n")),
        ("more than its size", format!("{:x}\r\n{good}\r\n0\r\n\r\n", size - 4)),
        ("less than its size", format!("{:x}\r\n{good}\r\n0\r\n\r\n", size + 3)),
        ("data without an end", format!("{size:x}\r\n{good}XX0\r\n\r\n")),
        ("data that ends in LF", format!("{size:x}\r\n{good}\n0\r\n\r\n")),
        ("NULs for a size", format!("\0\0{size:x}\r\n{good}\r\n0\r\n\r\n")),
    ] {
        add(what, Refused, format!("{line}{usual}{te}\r\n{body}{hidden}"));
    }
    add(
        "an extension",
        Served,
        format!("{line}{usual}{te}\r\n{size:x};name=value\r\n{good}\r\n0\r\n\r\n"),
    );
    add(
        "zeros before the size",
        Served,
        format!("{line}{usual}{te}\r\n000{size:x}\r\n{good}\r\n0\r\n\r\n"),
    );
    add(
        "trailers",
        Served,
        format!("{line}{usual}{te}\r\n{chunk}0\r\nContent-Length: 500\r\nX-Late: 1\r\n\r\n"),
    );

    // ---- the header's bytes
    add(
        "LF for every line end",
        Refused,
        format!("{line}{usual}{length}\r\n").replace("\r\n", "\n") + &good,
    );
    add(
        "LF before the body",
        Refused,
        format!("{line}{usual}{length}\n{good}{hidden}"),
    );
    add(
        "a NUL in a value",
        Refused,
        format!("{line}{usual}{length}X: a\0b\r\n\r\n{good}"),
    );
    add(
        "a NUL in a name",
        Refused,
        format!("{line}{usual}{length}X\0Y: a\r\n\r\n{good}"),
    );
    add(
        "a line without a colon",
        Refused,
        format!("{line}{usual}{length}nonsense\r\n\r\n{good}"),
    );
    add(
        "an empty name",
        Refused,
        format!("{line}{usual}{length}: x\r\n\r\n{good}"),
    );
    add(
        "two Hosts",
        Refused,
        format!("{line}{usual}Host: other\r\n{length}\r\n{good}"),
    );
    add(
        "a Host with a path",
        Refused,
        format!("{line}{}{length}\r\n{good}", usual.replace("Host: h", "Host: h/x")),
    );
    add(
        "a Host with a user",
        Refused,
        format!("{line}{}{length}\r\n{good}", usual.replace("Host: h", "Host: u@h")),
    );
    add(
        "no Host",
        Refused,
        format!("{line}{}{length}\r\n{good}", usual.replace("Host: h\r\n", "")),
    );

    // ---- the request line
    for (what, first) in [
        (
            "another host in the target",
            format!("POST http://other{CHAT} HTTP/1.1"),
        ),
        ("the same host in the target", format!("POST http://h{CHAT} HTTP/1.1")),
        ("an authority", "POST h:80 HTTP/1.1".to_owned()),
        ("CONNECT", "CONNECT h:80 HTTP/1.1".to_owned()),
        ("a space first", format!(" POST {CHAT} HTTP/1.1")),
        ("a tab for a space", format!("POST\t{CHAT} HTTP/1.1")),
        ("a form feed for a space", format!("POST\x0c{CHAT} HTTP/1.1")),
        ("a version in small letters", format!("POST {CHAT} http/1.1")),
        ("version 1.2", format!("POST {CHAT} HTTP/1.2")),
        ("version 2.0", format!("POST {CHAT} HTTP/2.0")),
        ("version 11.1", format!("POST {CHAT} HTTP/11.1")),
        ("HTTP/0.9", format!("POST {CHAT}")),
        ("a bare CR", format!("POST {CHAT}\rX HTTP/1.1")),
        ("a NUL", format!("POST {CHAT}\0 HTTP/1.1")),
        ("a method with a colon", format!("PO:ST {CHAT} HTTP/1.1")),
        ("a fragment", format!("POST {CHAT}#x HTTP/1.1")),
        ("a dot segment", "POST /v1/../v1/chat/completions HTTP/1.1".to_owned()),
        ("an encoded slash", "POST /v1%2fchat/completions HTTP/1.1".to_owned()),
    ] {
        add(what, Refused, format!("{first}\r\n{usual}{length}\r\n{good}"));
    }
    add(
        "an empty line first",
        Served,
        format!("\r\n{line}{usual}{length}\r\n{good}"),
    );

    // ---- bodies nobody reads
    let unread = format!("Host: h\r\nContent-Length: {}\r\n\r\n{hidden}", hidden.len());
    add(
        "a body where none belongs, refused",
        Refused,
        format!("GET /v1/nothing HTTP/1.1\r\n{unread}"),
    );
    add(
        "a wrong key",
        Refused,
        format!(
            "{line}Host: h\r\nAuthorization: Bearer sk-no\r\nContent-Length: {}\r\n\r\n{hidden}",
            hidden.len()
        ),
    );
    add(
        "a body too large",
        Refused,
        format!("{line}{usual}Content-Length: 40000000\r\n\r\n{hidden}"),
    );
    add(
        "an upgrade",
        Refused,
        format!("{line}{usual}{length}Connection: upgrade\r\nUpgrade: h2c\r\n\r\n{good}{hidden}"),
    );
    add(
        "an upgrade to WebSocket",
        Refused,
        format!("GET {CHAT} HTTP/1.1\r\n{usual}Connection: upgrade\r\nUpgrade: websocket\r\n\r\n{hidden}"),
    );
    all
}

/// The answers in what a connection sent.
fn answers(mut bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut all = Vec::new();
    while let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        bytes = &bytes[end + 4..];
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let length = head.to_ascii_lowercase();
        let length = length.split("content-length: ").nth(1).unwrap_or("0");
        let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
        assert!(bytes.len() >= length, "an answer comes whole");
        all.push((status.expect("a status"), bytes[..length].to_vec()));
        bytes = &bytes[length..];
    }
    assert_eq!(bytes, b"", "nothing but answers");
    all
}

async fn check(setting: &Setting, probe: &Probe) {
    let Probe { what, bytes, fate } = probe;
    let (gateway, good) = (&setting.gateway, &setting.good);
    good.forget();
    setting.bad.forget();
    let mut connection = Connection::open(gateway.ports.http).await;
    // What follows belongs to another client, where a proxy shares the connection.
    let next = b"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    connection.send(&[bytes, &next[..]].concat()).await;
    let said = connection.rest().await;
    let all = answers(&said);
    assert_eq!(setting.bad.count(), 0, "{what}: nothing is smuggled: {}", shown(&said));
    match fate {
        Refused => {
            assert!(
                all.len() <= 1 && all.iter().all(|(status, _)| (400..=431).contains(status)),
                "{what}: refused once, then closed: {}",
                shown(&said)
            );
            assert_eq!(good.count(), 0, "{what}: no provider hears of it");
        }
        Served => {
            assert_eq!(all[0], (200, ANSWER.into()), "{what}: {}", shown(&said));
            assert!(
                all.len() == 1 || all.len() == 2 && all[1].0 == 200,
                "{what}: {}",
                shown(&said)
            );
            let received = good.received();
            assert_eq!(received.len(), 1, "{what}");
            assert_eq!(received[0].body, chat("good"), "{what}");
            for name in ["x-late", "transfer-encoding"] {
                assert_eq!(received[0].header(name), None, "{what}: {name}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_hides_in_another() {
    // A request of which bytes are missing is given up soon.
    let options = Options {
        timeouts: "header = \"1s\"\nbody_read = \"1s\"\nkeepalive = \"1s\"",
        ..Options::default()
    };
    let setting = setting(options).await;
    for probe in probes(&setting.gateway.key) {
        check(&setting, &probe).await;
    }
    setting.gateway.idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_streams_through_hides_nothing_either() {
    let options = Options {
        timeouts: "header = \"1s\"\nbody_read = \"1s\"\nkeepalive = \"1s\"",
        ..Options::default()
    };
    let setting = setting(options).await;
    let key = setting.gateway.key.clone();
    let hidden = "POST /p/bad/v1/files HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n";
    let start = format!("POST /p/good/v1/files HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {key}\r\n");
    for (what, rest) in [
        (
            "CL and TE",
            format!("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        ),
        (
            "a size with a letter",
            format!("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n5x\r\nabcde\r\n0\r\n\r\n{hidden}"),
        ),
        (
            "a size behind LF",
            format!("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\nabc\r\n0\r\n\r\n{hidden}"),
        ),
        (
            "data without an end",
            format!("Transfer-Encoding: chunked\r\n\r\n3\r\nabcXX0\r\n\r\n{hidden}"),
        ),
        (
            "a size that overflows",
            format!("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n10000000000000001\r\nabc\r\n0\r\n\r\n{hidden}"),
        ),
        (
            "two lengths",
            format!("Content-Length: 3\r\nContent-Length: 0\r\n\r\nabc{hidden}"),
        ),
    ] {
        let mut connection = Connection::open(setting.gateway.ports.http).await;
        connection.send(format!("{start}{rest}").as_bytes()).await;
        let said = connection.rest().await;
        assert!(
            !said.windows(12).any(|at| at == b"HTTP/1.1 200"),
            "{what}: {}",
            shown(&said)
        );
        assert!(setting.good.received().is_empty(), "{what}: no provider has it whole");
        assert_eq!(setting.bad.count(), 0, "{what}: nothing is smuggled");
    }
    // What is sound passes, and what follows it is a request of its own or nothing.
    let sound = format!(
        "{start}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    );
    let mut connection = Connection::open(setting.gateway.ports.http).await;
    connection.send(sound.as_bytes()).await;
    let all = answers(&connection.rest().await);
    assert_eq!(all[0], (200, ANSWER.into()));
    assert_eq!(setting.good.received().len(), 1);
    assert_eq!(setting.good.last().body, b"abc");
    setting.gateway.idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unread_body_is_never_the_next_request() {
    let setting = setting(Options::default()).await;
    let hidden = "GET /readyz HTTP/1.1\r\nHost: h\r\n\r\n";
    for method in ["GET", "HEAD"] {
        let mut connection = Connection::open(setting.gateway.ports.http).await;
        let probe = format!(
            "{method} /healthz HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{hidden}",
            hidden.len()
        );
        connection.send(probe.as_bytes()).await;
        let reply: Reply = connection.try_reply(method == "HEAD").await.unwrap();
        assert_eq!(reply.status, 200);
        // On an open connection the body was read; else it is closed.
        connection
            .send(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            .await;
        let rest = connection.rest().await;
        assert!(!rest.windows(5).any(|at| at == b"ready"), "{}", shown(&rest));
    }
}
