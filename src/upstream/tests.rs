//! Lanes, pools and fleets at work. Time is turned by passing it.

mod cooling;
mod lanes;
mod reload;
mod strategies;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Secret;
use crate::rules::{
    Auth, Credential, CredentialLimits, Egress, Health, HttpVersions, Provider, RouteTimeouts, Strategy, StreamUsage,
};

use super::{Failure, Hold, Lane, NoSeat, Outcome, Pool, Want};

pub fn credential(name: &str, weight: u32) -> Credential {
    Credential {
        name: name.into(),
        secret: Some(Secret::new(format!("secret of {name}"))),
        stored: None,
        inactive: None,
        weight,
        tags: Vec::new(),
        limits: CredentialLimits::default(),
        egress: Egress::default(),
    }
}

/// Credentials `c0`, `c1` ... with these weights.
pub fn credentials(weights: &[u32]) -> Vec<Credential> {
    let named = |(index, weight): (usize, &u32)| credential(&format!("c{index}"), *weight);
    weights.iter().enumerate().map(named).collect()
}

pub fn provider(credentials: Vec<Credential>) -> Provider {
    Provider {
        name: "example".into(),
        bases: Vec::new(),
        connect_to: Vec::new(),
        auth: None,
        http: HttpVersions::H1,
        stream_usage: StreamUsage::Ask,
        headers: Vec::new(),
        credentials: credentials.into_iter().map(Arc::new).collect(),
        timeouts: RouteTimeouts::default(),
        strategy: Strategy::Weighted,
        egress: Egress::default(),
        health: Health::default(),
        cooldown: true,
        inactive: None,
    }
}

pub fn open() -> Provider {
    Provider {
        auth: Some(Auth::None),
        ..provider(Vec::new())
    }
}

pub fn pool(credentials: Vec<Credential>) -> Pool {
    Pool::new(Arc::new(provider(credentials)), None)
}

pub fn lane(credentials: Vec<Credential>) -> Arc<Lane> {
    pool(credentials).lane("model")
}

pub fn want(strategy: Strategy) -> Want<'static> {
    Want {
        strategy,
        tags: &[],
        tried: &[],
        sticky: None,
        tokens: 0,
        prompt: 0,
    }
}

pub fn choose(lane: &Arc<Lane>, now: Instant) -> Result<Hold, NoSeat> {
    lane.choose(&want(Strategy::Weighted), now)
}

pub fn success(first_token: Duration) -> Outcome {
    Outcome {
        first_token: Some(first_token),
        ..Outcome::default()
    }
}

pub fn failure(failure: Failure) -> Outcome {
    Outcome {
        failure: Some(failure),
        ..Outcome::default()
    }
}

/// Takes this seat and lets it fail.
pub fn fail(lane: &Arc<Lane>, name: &str, what: Failure, now: Instant) {
    let want = Want {
        sticky: Some(name),
        ..want(Strategy::Weighted)
    };
    let hold = lane.choose(&want, now).unwrap_or_else(|no| panic!("{no:?}"));
    assert_eq!(&*hold.credential().unwrap().name, name);
    hold.settle(&failure(what), now);
}

/// How often each seat is chosen in so many requests, one after the other.
pub fn counts(lane: &Arc<Lane>, strategy: Strategy, requests: usize, now: Instant) -> Vec<usize> {
    let mut seen = vec![0; lane.seats.len()];
    for _ in 0..requests {
        seen[lane
            .choose(&want(strategy), now)
            .unwrap_or_else(|no| panic!("{no:?}"))
            .index()] += 1;
    }
    seen
}

pub fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
