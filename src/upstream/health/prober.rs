//! Carries out one check: of a credential, or of the addresses of a place.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, Method};
use parking_lot::Mutex;
use pingora::connectors::http::Connector;

use super::probe::{self, Ask, Dial, MAX_ADDRESSES, NoReply, Reply};
use super::question::{self, Question};
use super::words::without_key;
use super::{CheckResult, Finding, PlaceCheck};
use crate::clock::Clock;
use crate::observe::redact::Masker;
use crate::rules::Credential;
use crate::upstream::{Asked, Endpoint, Failure, Pool};

/// How long it is believed that anybody may read a list of models, or not.
const PUBLIC_FOR: Duration = Duration::from_secs(24 * 3600);

/// Most lists of which that is known.
const MAX_LISTS: usize = 4096;

/// Lists of models by provider and path: whether anybody may read it, and since when that is known.
type Lists = HashMap<(Arc<str>, String), (bool, Instant)>;

/// What checks need of the world.
pub(super) struct Prober {
    pub(super) dial: Box<dyn Dial>,
    pub(super) clock: Clock,
    /// A check that takes longer has failed.
    timeout: Duration,
    connector: Connector,
    lists: Mutex<Lists>,
}

impl Prober {
    pub(super) fn new(dial: Box<dyn Dial>, clock: Clock, timeout: Duration) -> Self {
        Prober {
            dial,
            clock,
            timeout,
            connector: Connector::new(None),
            lists: Mutex::default(),
        }
    }

    /// Finds out whether a credential works, within its time.
    pub(super) async fn credential(&self, pool: &Pool, credential: &Credential, masker: &Masker) -> CheckResult {
        let began = Instant::now();
        let deadline = began + self.timeout;
        let mut asked: Vec<(bool, &http::HeaderValue, Question)> = Vec::new();
        let mut result = self.result(began, Finding::Unproven, None, "there is nothing to ask".to_owned());
        for endpoint in pool.endpoints() {
            let Some(question) = question::question(&pool.provider, endpoint) else {
                continue;
            };
            // Dialects of one provider often share a list of models.
            let entry = (endpoint.tls, &endpoint.host_header, question.clone());
            if asked.contains(&entry) {
                continue;
            }
            asked.push(entry);
            result = self
                .ask_credential(pool, endpoint, credential, &question, began, deadline)
                .await;
            // Another dialect's list may prove what this one could not; the rules' own question is asked once.
            if result.finding != Finding::Unproven || question.asked != Asked::List {
                break;
            }
        }
        result.words = without_key(&masker.mask(&result.words), credential.secret.as_ref());
        result
    }

    async fn ask_credential(
        &self,
        pool: &Pool,
        endpoint: &Endpoint,
        credential: &Credential,
        question: &Question,
        began: Instant,
        deadline: Instant,
    ) -> CheckResult {
        let reply = match self
            .exchange(pool, endpoint, Some(credential), question, deadline)
            .await
        {
            Ok(reply) => reply,
            Err(none) => {
                return CheckResult {
                    asked: question.asked,
                    ..self.result(began, Finding::Failed(none.failure), None, none.words)
                };
            }
        };
        let (mut finding, mut words, retry_after) = question::judge(question, endpoint, &reply, self.clock.now());
        if finding == Finding::Ok && self.is_public(pool, endpoint, question, deadline).await {
            finding = Finding::Unproven;
            words =
                "anybody may read this, with any key or none: give the provider health = { path = ... } or { model = \
                     ... }"
                    .to_owned();
        }
        CheckResult {
            retry_after,
            asked: question.asked,
            ..self.result(began, finding, Some(reply.status), words)
        }
    }

    /// Whether the question is answered well without a credential, so that a good answer proves nothing. Asked once a day.
    async fn is_public(&self, pool: &Pool, endpoint: &Endpoint, question: &Question, deadline: Instant) -> bool {
        if !question.body.is_empty() {
            return false;
        }
        let list = (
            pool.provider.name.clone(),
            format!("{} {}", endpoint.dialect, question.path),
        );
        if let Some((public, since)) = self.lists.lock().get(&list)
            && since.elapsed() < PUBLIC_FOR
        {
            return *public;
        }
        let Ok(reply) = self.exchange(pool, endpoint, None, question, deadline).await else {
            // Not known: it is asked again with the next check.
            return false;
        };
        let public = question::judge(question, endpoint, &reply, self.clock.now()).0 == Finding::Ok;
        let mut lists = self.lists.lock();
        if lists.len() >= MAX_LISTS {
            lists.retain(|_, (_, since)| since.elapsed() < PUBLIC_FOR);
        }
        if lists.len() < MAX_LISTS {
            lists.insert(list, (public, Instant::now()));
        }
        public
    }

    async fn exchange(
        &self,
        pool: &Pool,
        endpoint: &Endpoint,
        credential: Option<&Credential>,
        question: &Question,
        deadline: Instant,
    ) -> Result<Reply, NoReply> {
        let resolved = tokio::time::timeout_at(deadline.into(), self.dial.address(endpoint, credential)).await;
        let Ok(Some(dial)) = resolved else {
            return Err(NoReply {
                failure: Failure::Connect,
                words: "the name does not resolve".to_owned(),
            });
        };
        let peer = self.dial.peer(pool, endpoint, dial, credential);
        let ask = question::ask(question, &pool.provider, endpoint, credential);
        Box::pin(probe::ask(&self.connector, peer, endpoint, ask, deadline)).await
    }

    /// Finds out whether the addresses of a place can be reached: TCP, TLS where it is https, an HTTP answer of any kind. One
    /// after the other, each within its time. `endpoints`: those of the provider which are at this place, one at least.
    pub(super) async fn place(&self, pool: &Pool, place: Arc<str>, endpoints: &[Arc<Endpoint>]) -> PlaceCheck {
        let mut check = PlaceCheck {
            place,
            resolves: false,
            certificate_expires: None,
            addresses: Vec::new(),
        };
        let Some(first) = endpoints.first() else { return check };
        let found = self.dial.addresses(first).await;
        check.resolves = found.resolves;
        for dial in found.dials.into_iter().take(MAX_ADDRESSES) {
            let began = Instant::now();
            let peer = self.dial.peer(pool, first, dial, None);
            let ask = Ask {
                method: Method::HEAD,
                path: match &*first.prefix {
                    "" => "/".to_owned(),
                    prefix => prefix.to_owned(),
                },
                headers: head_headers(pool),
                body: bytes::Bytes::new(),
            };
            let asked = probe::ask(&self.connector, peer, first, ask, began + self.timeout);
            let (result, connected) = match Box::pin(asked).await {
                Ok(reply) => {
                    let result = self.result(began, Finding::Ok, Some(reply.status), String::new());
                    (result, Some(reply.connected))
                }
                Err(none) => (
                    self.result(began, Finding::Failed(none.failure), None, none.words),
                    None,
                ),
            };
            let now = Instant::now();
            for endpoint in endpoints {
                if dial.pin.is_none() {
                    endpoint.connected(dial.address, connected, now);
                }
            }
            if first.tls && connected.is_some() {
                let asked = self.dial.certificate_expiry(pool, first, dial);
                let expires = tokio::time::timeout(self.timeout, asked).await.ok().flatten();
                // The earliest of all that were shown.
                check.certificate_expires = check.certificate_expires.into_iter().chain(expires).min();
            }
            check.addresses.push((dial.pin.unwrap_or(dial.address), result));
        }
        check
    }

    fn result(&self, began: Instant, finding: Finding, status: Option<u16>, words: String) -> CheckResult {
        CheckResult {
            at: self.clock.now(),
            took: began.elapsed(),
            finding,
            status,
            words,
            retry_after: None,
            asked: Asked::Path,
        }
    }
}

/// What a provider's own headers say (a gateway of its own may want one to answer at all), and nothing of a key.
fn head_headers(pool: &Pool) -> HeaderMap {
    let mut headers = question::plain_headers();
    for (name, value) in &pool.provider.headers {
        headers.insert(name.clone(), value.clone());
    }
    headers
}
