use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::alerts::deliver::Schedule;
use crate::alerts::outlet::{Delivery, OutletView};
use crate::alerts::{Alerts, Finding, TestError};
use crate::clock::{Clock, UnixMicros};
use crate::config::alerts::{self, Condition, Severity, Webhook, WebhookKind};
use crate::config::reference::Reference;
use crate::egress::{Policy, Post};

/// What a receiver does with a request.
enum Does {
    /// Answers with this status, and further header lines.
    Status(u16, &'static str),
    /// Takes it, and says nothing.
    Hang,
}

/// A receiver which keeps what came: head and body, and when.
struct Receiver {
    address: SocketAddr,
    came: Arc<Mutex<Vec<(Instant, String)>>>,
    _task: tokio::task::JoinHandle<()>,
}

impl Receiver {
    async fn start(script: impl Fn(usize) -> Does + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let came: Arc<Mutex<Vec<(Instant, String)>>> = Arc::default();
        let (keep, script) = (came.clone(), Arc::new(script));
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (keep, script) = (keep.clone(), script.clone());
                tokio::spawn(async move {
                    let mut text = Vec::new();
                    let mut piece = [0; 4096];
                    while !is_whole(&text) {
                        match stream.read(&mut piece).await {
                            Ok(read) if read > 0 => text.extend_from_slice(&piece[..read]),
                            _ => return,
                        }
                    }
                    let number = {
                        let mut keep = keep.lock();
                        keep.push((Instant::now(), String::from_utf8(text).unwrap()));
                        keep.len()
                    };
                    match script(number) {
                        Does::Status(status, headers) => {
                            let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n{headers}\r\n");
                            let _ = stream.write_all(answer.as_bytes()).await;
                        }
                        Does::Hang => tokio::time::sleep(Duration::from_secs(600)).await,
                    }
                });
            }
        });
        Receiver {
            address,
            came,
            _task: task,
        }
    }

    fn count(&self) -> usize {
        self.came.lock().len()
    }
}

fn is_whole(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

struct World {
    alerts: Alerts,
    _folder: tempfile::TempDir,
}

/// Alerts with one webhook at this URL; short waits.
fn world(url: &str, ports: &[u16], change: impl FnOnce(&mut alerts::Alerts)) -> World {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        Reference::File(folder.path().join(name))
    };
    let mut settings = alerts::Alerts {
        hold: Duration::ZERO,
        clear_after: Duration::ZERO,
        webhooks: vec![Webhook {
            name: "ops".into(),
            kind: WebhookKind::Generic,
            url: file("url", url),
            secret: Some(file("secret", "0123456789abcdef0123456789abcdef")),
            conditions: Vec::new(),
            min_severity: Severity::Info,
        }],
        ..alerts::Alerts::default()
    };
    change(&mut settings);
    let policy = Policy::new(vec!["127.0.0.0/8".parse().unwrap()], ports.to_vec());
    let schedule = Schedule {
        tries: 5,
        first: Duration::from_millis(20),
        longest: Duration::from_millis(500),
    };
    let clock = Clock::manual(UnixMicros(1_769_860_800_000_000));
    World {
        alerts: Alerts::with(&settings, Post::new(policy), schedule, clock),
        _folder: folder,
    }
}

impl World {
    async fn at(receiver: &Receiver) -> Self {
        let url = format!("http://{}/hook", receiver.address);
        let world = world(&url, &[receiver.address.port()], |_| ());
        world.deliver();
        world
    }

    /// Delivers from now on, as [`Alerts::run`] does.
    fn deliver(&self) {
        let ends = std::mem::take(&mut *self.alerts.0.ends.lock());
        for (outlet, end) in self.alerts.0.outlets.iter().zip(ends) {
            tokio::spawn(outlet.clone().deliver(end));
        }
    }

    fn turn(&self, found: Vec<Finding>) {
        self.alerts.turn(found, Instant::now());
    }

    fn view(&self) -> OutletView {
        self.alerts.outlets().remove(0)
    }

    /// Waits until so many messages were delivered or given up.
    async fn delivered(&self, count: usize) -> Vec<Delivery> {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let done = self.view().deliveries;
            if done.len() >= count {
                return done;
            }
            assert!(Instant::now() < end, "{done:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn full(subject: &str) -> Finding {
    Finding {
        condition: Condition::Ledger,
        subject: subject.to_owned(),
        instance: 0,
        severity: Severity::Critical,
        level: 0,
        what: "The disk is full.".into(),
        help: "Make room.".into(),
    }
}

#[tokio::test]
async fn a_message_is_posted_once_and_is_what_it_should_be() {
    let receiver = Receiver::start(|_| Does::Status(204, "")).await;
    let world = World::at(&receiver).await;
    world.turn(vec![full("full")]);
    let done = world.delivered(1).await;
    assert_eq!((done[0].event, done[0].tries, &done[0].failure), ("raised", 1, &None));
    world.turn(vec![full("full")]);
    world.turn(vec![]);
    world.delivered(2).await;
    let came = receiver.came.lock().clone();
    assert_eq!(came.len(), 2, "one when it began, one when it ended");
    let (head, body) = came[0].1.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /hook HTTP/1.1\r\n"), "{head}");
    let head = head.to_ascii_lowercase();
    assert!(head.contains(&format!("\r\nhost: {}\r\n", receiver.address)), "{head}");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    for (field, value) in [
        ("event", "raised"),
        ("condition", "ledger"),
        ("subject", "full"),
        ("severity", "critical"),
        ("what", "The disk is full."),
        ("help", "Make room."),
        ("since", "2026-01-31T12:00:00.000000Z"),
    ] {
        assert_eq!(body[field], value);
    }
}

#[tokio::test]
async fn a_receiver_that_fails_is_tried_five_times_with_longer_waits() {
    let receiver = Receiver::start(|_| Does::Status(500, "")).await;
    let world = World::at(&receiver).await;
    world.turn(vec![full("full")]);
    let done = world.delivered(1).await;
    assert_eq!(
        (done[0].tries, done[0].failure.as_deref()),
        (5, Some("status 500")),
        "{done:?}"
    );
    let at: Vec<Instant> = receiver.came.lock().iter().map(|(at, _)| *at).collect();
    assert_eq!(at.len(), 5);
    for (index, least) in [10, 40, 160, 640].into_iter().enumerate() {
        let waited = at[index + 1] - at[index];
        assert!(waited >= Duration::from_millis(least), "{index}: {waited:?}");
    }
    // Given up is given up; what comes next is tried anew.
    world.turn(vec![]);
    world.delivered(2).await;
    assert_eq!(receiver.count(), 10);
}

#[tokio::test]
async fn what_was_refused_and_then_taken_arrives_once() {
    let receiver = Receiver::start(|number| match number {
        1 => Does::Status(503, "retry-after: 1\r\n"),
        2 => Does::Hang,
        _ => Does::Status(200, ""),
    })
    .await;
    let world = World::at(&receiver).await;
    world.turn(vec![full("full")]);
    let done = world.delivered(1).await;
    assert_eq!((done[0].tries, &done[0].failure), (3, &None));
    let came = receiver.came.lock().clone();
    assert!(came[1].0 - came[0].0 >= Duration::from_secs(1), "Retry-After is heeded");
    assert!(came[2].0 - came[1].0 >= Duration::from_millis(500), "who hangs is left");
    let id = |text: &str| {
        let body: serde_json::Value = serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
        body["id"].clone()
    };
    assert!(
        came.iter().all(|(_, text)| id(text) == id(&came[0].1)),
        "the same message"
    );
}

#[tokio::test]
async fn redirects_are_not_followed_and_refusals_not_repeated() {
    let elsewhere = Receiver::start(|_| Does::Status(200, "")).await;
    for (status, told) in [(307, "redirects are not followed"), (404, "status 404")] {
        let location: &'static str = format!("location: http://{}/\r\n", elsewhere.address).leak();
        let receiver = Receiver::start(move |_| Does::Status(status, location)).await;
        let world = World::at(&receiver).await;
        world.turn(vec![full("full")]);
        let done = world.delivered(1).await;
        assert_eq!(done[0].tries, 1);
        assert!(done[0].failure.as_deref().unwrap().contains(told), "{done:?}");
    }
    assert_eq!(elsewhere.count(), 0);
}

#[tokio::test]
async fn a_queue_that_is_full_drops_and_holds_nobody_up() {
    let receiver = Receiver::start(|_| Does::Hang).await;
    let url = format!("http://{}/hook", receiver.address);
    let world = world(&url, &[receiver.address.port()], |settings| {
        settings.max_per_hour = 3600
    });
    // Nobody takes anything out.
    let found: Vec<Finding> = (0..100).map(|n| full(&n.to_string())).collect();
    world.turn(found);
    assert_eq!(world.view().queued, 64);
}

#[tokio::test]
async fn what_is_beyond_the_messages_of_an_hour_is_summed_up() {
    let receiver = Receiver::start(|_| Does::Status(200, "")).await;
    let url = format!("http://{}/hook", receiver.address);
    let world = world(&url, &[receiver.address.port()], |settings| settings.max_per_hour = 5);
    world.deliver();
    world.turn((0..50).map(|n| full(&n.to_string())).collect());
    assert_eq!(world.delivered(4).await.len(), 4);
    // Two minutes later, by the clock that is turned by hand.
    world.alerts.turn(
        (0..50).map(|n| full(&n.to_string())).collect(),
        Instant::now() + Duration::from_secs(120),
    );
    let done = world.delivered(5).await;
    assert_eq!(done[0].event, "summary");
    assert_eq!(receiver.count(), 5);
    let last = receiver.came.lock().last().unwrap().1.clone();
    assert!(
        last.contains("46 messages were held back") && last.contains("46 ledger raised"),
        "{last}"
    );
}

#[tokio::test]
async fn filters_leave_out_what_is_not_wanted() {
    let receiver = Receiver::start(|_| Does::Status(200, "")).await;
    let url = format!("http://{}/hook", receiver.address);
    let world = world(&url, &[receiver.address.port()], |settings| {
        settings.webhooks[0].conditions = vec![Condition::Ledger, Condition::Budget];
        settings.webhooks[0].min_severity = Severity::Critical;
    });
    world.deliver();
    let of = |condition, severity, subject: &str| Finding {
        condition,
        severity,
        ..full(subject)
    };
    world.turn(vec![
        of(Condition::ErrorRate, Severity::Critical, "not wanted"),
        of(Condition::Budget, Severity::Warning, "not grave"),
        of(Condition::Ledger, Severity::Critical, "wanted"),
    ]);
    world.alerts.beat(Instant::now());
    let done = world.delivered(1).await;
    assert_eq!((done.len(), &*done[0].subject), (1, "wanted"));
    assert_eq!(world.view().queued, 0, "and no sign of life");
    assert_eq!(world.alerts.active().0.len(), 3, "they stand all the same");
}

#[tokio::test]
async fn a_test_is_sent_at_once_and_says_what_came_of_it() {
    let receiver = Receiver::start(|number| Does::Status(if number == 1 { 200 } else { 403 }, "")).await;
    let world = World::at(&receiver).await;
    let tested = world.alerts.test(Some("ops")).await.unwrap();
    assert_eq!((tested.len(), &tested[0].failure), (1, &None));
    let tested = world.alerts.test(None).await.unwrap();
    assert_eq!(tested[0].failure.as_deref(), Some("status 403"));
    assert_eq!(world.alerts.test(Some("nobody")).await, Err(TestError::NoSuchWebhook));
    assert_eq!(receiver.count(), 2, "each once");
}

#[tokio::test]
async fn where_it_may_not_lead_nothing_is_sent() {
    let receiver = Receiver::start(|_| Does::Status(200, "")).await;
    let port = receiver.address.port();
    for (url, ports, told) in [
        (format!("http://127.0.0.1:{port}/"), vec![], "the port must be"),
        (format!("http://127.0.0.1:{port}/?token=x"), vec![port], "? or #"),
        (format!("http://user@127.0.0.1:{port}/"), vec![port], "user"),
        ("https://192.168.0.1/".to_owned(), vec![], "an address in place"),
        ("not a url".to_owned(), vec![], "one word"),
    ] {
        let world = world(&url, &ports, |_| ());
        let (_, why) = world.alerts.inactive().remove(0);
        assert!(why.contains(told) && !why.contains("127.0.0.1"), "{url}: {why}");
        world.turn(vec![full("full")]);
        let tested = world.alerts.test(None).await.unwrap();
        assert!(tested[0].failure.as_deref().unwrap().starts_with("inactive: "));
    }
    // A name that leads to where it may not is found when it is resolved.
    let world = world(&format!("https://localhost:{port}/"), &[port], |_| ());
    assert_eq!(world.alerts.inactive(), []);
    let private = Alerts::with(
        &alerts::Alerts {
            webhooks: vec![Webhook {
                name: "ops".into(),
                kind: WebhookKind::Slack,
                url: Reference::File(world._folder.path().join("url")),
                secret: None,
                conditions: Vec::new(),
                min_severity: Severity::Info,
            }],
            ..alerts::Alerts::default()
        },
        Post::new(Policy::new(Vec::new(), vec![port])),
        Schedule::default(),
        Clock::system(),
    );
    let tested = private.test(None).await.unwrap();
    assert!(
        tested[0].failure.as_deref().unwrap().contains("not public"),
        "{tested:?}"
    );
    assert_eq!(receiver.count(), 0);
}

#[tokio::test]
async fn a_secret_that_is_too_short_makes_it_inactive() {
    let folder = tempfile::tempdir().unwrap();
    let short = folder.path().join("short");
    std::fs::write(&short, "canary").unwrap();
    let world = world("https://hooks.example/x", &[], |settings| {
        settings.webhooks[0].secret = Some(Reference::File(short));
    });
    let (_, why) = world.alerts.inactive().remove(0);
    assert!(why.contains("6 characters") && !why.contains("canary"), "{why}");
    assert!(world.alerts.secrets().is_empty());
}
