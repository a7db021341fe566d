//! One webhook: what it wants to be told, its queue, and what became of the last messages.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::clock::{Clock, UnixMicros};
use crate::config::Secret;
use crate::config::alerts::{Condition, Severity, Webhook, WebhookKind};
use crate::egress::Post;

use super::cap::Cap;
use super::deliver::{Outcome, Schedule, judge};
use super::metrics::{Fate, count};
use super::words::{Kind, Message};

/// Messages that wait for a webhook; what comes beyond is dropped, and told in a sum.
const QUEUE: usize = 64;

/// Deliveries remembered of each webhook.
const REMEMBERED: usize = 20;

/// Fewest characters of what generic webhooks are signed with: what a generator gives for 128 bits in hexadecimal.
const SECRET_MIN: usize = 32;

/// Longest name of this machine that is told, in bytes.
const MAX_HOST: usize = 64;

/// A webhook.
pub(super) struct Outlet {
    webhook: Webhook,
    /// Why it is inactive, if it is.
    target: Result<Target, String>,
    queue: mpsc::Sender<Message>,
    state: Mutex<State>,
    post: Arc<Post>,
    schedule: Schedule,
    clock: Clock,
    host: String,
}

/// The end of a queue at which messages come out.
pub(super) type Ends = mpsc::Receiver<Message>;

struct Target {
    url: Secret,
    secret: Option<Secret>,
}

struct State {
    cap: Cap,
    deliveries: VecDeque<Delivery>,
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// When it was decided.
    pub at: UnixMicros,
    /// What kind of message: `raised`, `recovered`, `reminder`, `summary`, `heartbeat`, `test`.
    pub event: &'static str,
    /// Of which condition.
    pub condition: Option<Condition>,
    /// Of what.
    pub subject: String,
    /// How often it was tried.
    pub tries: u32,
    /// Why it was given up; `None`: it was taken.
    pub failure: Option<String>,
}

/// How a webhook stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutletView {
    /// Its name.
    pub name: String,
    /// What it speaks.
    pub kind: WebhookKind,
    /// Why it is inactive; `None`: it is active.
    pub inactive: Option<String>,
    /// Messages that wait.
    pub queued: usize,
    /// What became of the last ones, the last first.
    pub deliveries: Vec<Delivery>,
}

/// What came of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tested {
    /// Which webhook.
    pub webhook: String,
    /// Why it did not arrive; `None`: it did.
    pub failure: Option<String>,
}

impl Outlet {
    /// A webhook, and the end at which its messages come out.
    pub(super) fn new(
        webhook: Webhook,
        max_per_hour: usize,
        post: Arc<Post>,
        schedule: Schedule,
        clock: Clock,
    ) -> (Arc<Self>, Ends) {
        let (queue, end) = mpsc::channel(QUEUE);
        let outlet = Outlet {
            target: target(&webhook, &post),
            webhook,
            queue,
            state: Mutex::new(State {
                cap: Cap::new(max_per_hour),
                deliveries: VecDeque::new(),
            }),
            post,
            schedule,
            clock,
            host: host(),
        };
        (Arc::new(outlet), end)
    }

    pub(super) fn name(&self) -> &str {
        &self.webhook.name
    }

    pub(super) fn inactive(&self) -> Option<&str> {
        self.target.as_ref().err().map(String::as_str)
    }

    /// What must not be printed.
    pub(super) fn secrets(&self) -> Vec<Secret> {
        let target = self.target.iter();
        target
            .flat_map(|target| std::iter::once(&target.url).chain(&target.secret))
            .cloned()
            .collect()
    }

    /// Whether it wants to be told of this. A sign of life is wanted where it is named, or nothing is left out.
    fn wants(&self, message: &Message) -> bool {
        let Webhook {
            conditions,
            min_severity,
            ..
        } = &self.webhook;
        let Some(condition) = message.condition else {
            return true;
        };
        let named = conditions.contains(&condition);
        match condition {
            Condition::Heartbeat => named || (conditions.is_empty() && *min_severity == Severity::Info),
            _ => (named || conditions.is_empty()) && message.severity >= *min_severity,
        }
    }

    /// Puts a message into the queue, if it is wanted and there are not too many.
    pub(super) fn offer(&self, message: &Message, now: Instant) {
        if self.target.is_err() || !self.wants(message) {
            return;
        }
        let mut state = self.state.lock();
        let condition = message.condition_name();
        // How many signs of life there are says the configuration.
        if message.kind != Kind::Heartbeat && !state.cap.admits(now) {
            state.cap.hold(condition, message.kind.as_str(), now);
            count(condition, Fate::Suppressed);
            return;
        }
        if self.queue.try_send(message.clone()).is_err() {
            count(condition, Fate::Dropped);
            if message.kind != Kind::Heartbeat {
                state.cap.hold(condition, message.kind.as_str(), now);
            }
            tracing::warn!(
                webhook = self.name(),
                condition,
                "too many messages wait for a webhook: one was dropped"
            );
        }
    }

    /// Sums up what was held back, when it is time for it.
    pub(super) fn sum_up(&self, now: Instant, at: UnixMicros) {
        if self.queue.capacity() == 0 {
            return;
        }
        let Some(held) = self.state.lock().cap.due(now) else {
            return;
        };
        // Nobody else puts anything into it.
        if self.queue.try_send(Message::summary(&held, at)).is_err() {
            count(Kind::Summary.as_str(), Fate::Dropped);
        }
    }

    /// Delivers what is in the queue, one after the other, for ever.
    pub(super) async fn deliver(self: Arc<Self>, mut end: Ends) {
        while let Some(message) = end.recv().await {
            let (tries, failure) = self.insist(&message).await;
            let condition = message.condition_name();
            match &failure {
                None => count(condition, Fate::Sent),
                Some(why) => {
                    count(condition, Fate::Failed);
                    tracing::warn!(
                        webhook = self.name(),
                        condition,
                        tries,
                        why,
                        "a message to a webhook was given up"
                    );
                }
            }
            self.remember(&message, tries, failure);
        }
    }

    /// Tries until it is taken or given up: how often, and why it was given up.
    async fn insist(&self, message: &Message) -> (u32, Option<String>) {
        let mut tries = 0;
        loop {
            tries += 1;
            let (why, told) = match self.call(message).await {
                Outcome::Taken => return (tries, None),
                Outcome::Never(why) => return (tries, Some(why)),
                Outcome::Again(why, told) => (why, told),
            };
            let Some(wait) = self.schedule.wait(tries, told) else {
                return (tries, Some(why));
            };
            tracing::info!(
                webhook = self.name(),
                why,
                ?wait,
                "a message to a webhook is tried again"
            );
            tokio::time::sleep(wait).await;
        }
    }

    async fn call(&self, message: &Message) -> Outcome {
        let target = match &self.target {
            Ok(target) => target,
            Err(why) => return Outcome::Never(format!("inactive: {why}")),
        };
        let kind = self.webhook.kind;
        let (document, headers) = message.document(kind, target.secret.as_ref(), &self.host, self.clock.now());
        let url = target.url.expose();
        let answer = self
            .post
            .json(url, &headers, Bytes::from(document), self.schedule.longest);
        judge(kind, answer.await, self.clock.now())
    }

    /// Sends a test, once, past the queue.
    pub(super) async fn test(&self, message: &Message) -> Tested {
        let failure = match self.call(message).await {
            Outcome::Taken => None,
            Outcome::Again(why, _) | Outcome::Never(why) => Some(why),
        };
        let fate = if failure.is_none() { Fate::Sent } else { Fate::Failed };
        count(Kind::Test.as_str(), fate);
        self.remember(message, 1, failure.clone());
        Tested {
            webhook: self.name().to_owned(),
            failure,
        }
    }

    fn remember(&self, message: &Message, tries: u32, failure: Option<String>) {
        let mut state = self.state.lock();
        state.deliveries.truncate(REMEMBERED - 1);
        state.deliveries.push_front(Delivery {
            at: self.clock.now(),
            event: message.kind.as_str(),
            condition: message.condition,
            subject: message.subject.clone(),
            tries,
            failure,
        });
    }

    pub(super) fn view(&self) -> OutletView {
        OutletView {
            name: self.name().to_owned(),
            kind: self.webhook.kind,
            inactive: self.inactive().map(str::to_owned),
            queued: self.queue.max_capacity() - self.queue.capacity(),
            deliveries: self.state.lock().deliveries.iter().cloned().collect(),
        }
    }
}

/// Where it is, and what it is signed with; an error says why that can't be had.
fn target(webhook: &Webhook, post: &Post) -> Result<Target, String> {
    let url = webhook.url.read()?;
    post.check(url.expose())
        .map_err(|refusal| format!("its URL: {refusal}"))?;
    let secret = webhook.secret.as_ref().map(|secret| secret.read()).transpose()?;
    if webhook.kind == WebhookKind::Generic {
        let length = secret.as_ref().map_or(0, |secret| secret.expose().len());
        if length < SECRET_MIN {
            return Err(format!(
                "its secret has {length} characters, and must have at least {SECRET_MIN} (openssl rand -hex 32)"
            ));
        }
    }
    Ok(Target { url, secret })
}

/// The name of this machine: one channel may be told by several gateways.
fn host() -> String {
    let name = rustix::system::uname();
    let name = name.nodename().to_string_lossy();
    crate::observe::redact::printable(&name, MAX_HOST).into_owned()
}
