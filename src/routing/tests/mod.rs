//! Rules built by hand, and requests asked of them.

mod affinity;
mod beginning;
mod conditions;
mod explain;
mod failures;
mod resolve;
mod strategies;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;

use crate::clock::UnixMicros;
use crate::config::Secret;
use crate::ir::{DialectId, Operation};
use crate::routing::{self, Choice, NoRoute, Query, RoutePlan};
use crate::rules::{
    Affinity, Auth, Base, Credential, CredentialLimits, Edits, Egress, FallbackOn, Health, HttpVersions, Instructions,
    OnLoss, Provider, Route, RouteTimeouts, Rules, Strategy, StreamUsage, Target, UpstreamStream,
};
use crate::upstream::Fleet;

pub const CHAT: DialectId = DialectId::new("openai_chat");
pub const MESSAGES: DialectId = DialectId::new("anthropic");

/// A provider with so many credentials (`c0`, `c1` ...), which speaks the first dialect.
pub fn provider(name: &str, credentials: usize) -> Provider {
    let credential = |n: usize| {
        Arc::new(Credential {
            name: format!("c{n}").into(),
            secret: Some(Secret::new("a-secret-of-a-test")),
            stored: None,
            inactive: None,
            weight: 1,
            tags: Vec::new(),
            limits: CredentialLimits::default(),
            egress: Egress::default(),
        })
    };
    Provider {
        name: name.into(),
        bases: vec![Base {
            dialect: CHAT,
            url: Some("http://127.0.0.1:1/v1".parse().unwrap()),
        }],
        connect_to: Vec::new(),
        auth: None,
        http: HttpVersions::H1,
        stream_usage: StreamUsage::Never,
        headers: Vec::new(),
        credentials: (0..credentials).map(credential).collect(),
        timeouts: RouteTimeouts::default(),
        strategy: Strategy::RoundRobin,
        egress: Egress::default(),
        health: Health::default(),
        cooldown: true,
        inactive: (credentials == 0).then(|| "the environment variable KEY is not set".to_owned()),
    }
}

/// A provider that wants no credential.
pub fn open(name: &str) -> Provider {
    Provider {
        auth: Some(Auth::None),
        inactive: None,
        ..provider(name, 0)
    }
}

/// A route without targets.
pub fn route(name: &str, models: &[&str]) -> Route {
    Route {
        name: name.into(),
        models: models.iter().map(|model| (*model).to_owned()).collect(),
        when: None,
        targets: Vec::new(),
        fallback: Vec::new(),
        fallback_on: Vec::new(),
        strategy: Strategy::default(),
        attempts: None,
        require: Vec::new(),
        affinity: Affinity::default(),
        edits: Edits::default(),
        instructions: Instructions::default(),
        timeouts: RouteTimeouts::default(),
        on_loss: OnLoss::default(),
        upstream_stream: UpstreamStream::default(),
        queue: Duration::ZERO,
        critical: false,
        unknown_price: None,
        on_abort: None,
    }
}

/// Providers by name, for targets.
pub struct Rig {
    providers: Vec<Arc<Provider>>,
    routes: Vec<Arc<Route>>,
}

impl Rig {
    pub fn new(providers: impl IntoIterator<Item = Provider>) -> Self {
        Rig {
            providers: providers.into_iter().map(Arc::new).collect(),
            routes: Vec::new(),
        }
    }

    /// Providers `a`, `b`, `c` ... of one credential each.
    pub fn of(names: &str) -> Self {
        Rig::new(names.split(' ').map(|name| provider(name, 1)))
    }

    /// `provider`, `provider:model`, with `*weight` at its end.
    pub fn target(&self, text: &str) -> Target {
        let (text, weight) = text.split_once('*').unwrap_or((text, "1"));
        let (name, model) = match text.split_once(':') {
            Some((name, model)) => (name, Some(model)),
            None => (text, None),
        };
        let provider = self.providers.iter().find(|provider| &*provider.name == name).unwrap();
        Target {
            provider: provider.clone(),
            model: model.map(Into::into),
            weight: weight.parse().unwrap(),
            tags: Vec::new(),
            edits: Edits::default(),
        }
    }

    pub fn targets(&self, text: &str) -> Vec<Target> {
        text.split_whitespace().map(|one| self.target(one)).collect()
    }

    pub fn add(&mut self, route: Route) {
        self.routes.push(Arc::new(route));
    }

    /// A route with targets, fallbacks and lists.
    pub fn route(mut self, name: &str, models: &[&str], targets: &str, change: impl FnOnce(&Rig, &mut Route)) -> Self {
        let mut route = Route {
            targets: self.targets(targets),
            ..route(name, models)
        };
        change(&self, &mut route);
        self.add(route);
        self
    }

    pub fn rules(self) -> Rules {
        Rules::new(self.providers, self.routes, UnixMicros(0), 0).unwrap()
    }

    pub fn fleet(self) -> Fleet {
        Fleet::new(Arc::new(self.rules()), None)
    }
}

/// What a request for a model looks like, if nothing else is said.
pub fn query<'a>(model: &'a str, headers: &'a HeaderMap) -> Query<'a> {
    Query {
        request: "request-1",
        model,
        wishes: &[],
        provider: None,
        dialect: CHAT,
        operation: Operation::Chat,
        stream: false,
        asker: None,
        address: None,
        headers,
        at: UnixMicros(0),
        survey: None,
        session: None,
        permit: None,
    }
}

/// A plan for a model.
pub fn plan(fleet: &Fleet, model: &str) -> Result<RoutePlan, NoRoute> {
    routing::resolve(fleet, &query(model, &HeaderMap::new()), &|_| true)
}

/// `provider/credential` of a choice.
pub fn name(choice: &Choice) -> String {
    let credential = choice.hold.credential().map_or("-", |credential| &credential.name);
    format!("{}/{credential}", choice.candidate.pool.provider.name)
}

/// `provider:model` of each candidate, with its tier where it is not the first.
pub fn candidates(plan: &RoutePlan) -> Vec<String> {
    let one = |candidate: &routing::Candidate| {
        let tier = match candidate.tier {
            routing::Tier::Target => "",
            routing::Tier::Fallback => " fallback",
            routing::Tier::On(FallbackOn::Overloaded) => " overloaded",
            routing::Tier::On(_) => " on",
        };
        let model = candidate.model.as_deref().unwrap_or("-");
        format!("{}:{model}{tier}", candidate.pool.provider.name)
    };
    plan.candidates.iter().map(one).collect()
}

/// No header.
pub fn no_headers() -> &'static HeaderMap {
    static NONE: std::sync::LazyLock<HeaderMap> = std::sync::LazyLock::new(HeaderMap::new);
    &NONE
}
