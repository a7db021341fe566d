//! Checks that concern several fields of `conf/tollgate.toml` at once.

use std::net::{IpAddr, SocketAddr};
use std::path::{Component, Path, PathBuf};

use super::Config;
use super::fields::Fields;
use super::value::Value;
use super::{duration, size};

/// What was seen in the file, so that a problem can name its line.
#[derive(Default)]
pub(super) struct Seen<'a> {
    /// Every address to be bound.
    pub(super) bound: Vec<Bound<'a>>,
    values: Vec<Value<'a>>,
}

/// An address to be bound.
pub(super) struct Bound<'a> {
    name: String,
    address: SocketAddr,
    /// Where it stands; `None`: it is a default.
    value: Option<Value<'a>>,
}

impl<'a> Bound<'a> {
    pub(super) fn new(name: &str, address: SocketAddr, value: Option<Value<'a>>) -> Self {
        Bound {
            name: name.to_owned(),
            address,
            value,
        }
    }

    fn collides(&self, other: &Bound<'_>) -> bool {
        let (a, b) = (self.address, other.address);
        // Port 0 is a free one. An unspecified address covers all of this machine's.
        a.port() == b.port()
            && a.port() != 0
            && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
    }
}

impl<'a> Seen<'a> {
    /// Remembers a field that stands in the file.
    pub(super) fn note(&mut self, value: Option<Value<'a>>) {
        self.values.extend(value);
    }

    /// The first of these fields which stands in the file.
    fn first_of(&self, names: &[&str]) -> Option<&Value<'a>> {
        names
            .iter()
            .find_map(|name| self.values.iter().find(|value| value.name() == *name))
    }
}

/// Could this address be reached from a network that is not ours?
pub(super) fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !(ip.is_loopback() || ip.is_private() || ip.is_link_local()),
        IpAddr::V6(ip) => !(ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()),
    }
}

/// All of them.
pub(super) fn check<'a>(config: &Config, root: &mut Fields<'a>, seen: &Seen<'a>) {
    addresses(seen);
    bodies(config, seen);
    times(config, seen);
    waits(config, seen);
    folders(config, root);
}

fn addresses(seen: &Seen<'_>) {
    for (n, later) in seen.bound.iter().enumerate() {
        for earlier in seen.bound[..n].iter().filter(|earlier| earlier.collides(later)) {
            let (at, other) = match (&later.value, &earlier.value) {
                (Some(value), _) => (value, earlier),
                (None, Some(value)) => (value, later),
                // Defaults don't collide.
                (None, None) => continue,
            };
            let default = if other.value.is_none() { ", its default" } else { "" };
            at.problem(format!(
                "{} takes the same port ({}{default}). Give one of them another.",
                other.name, other.address
            ));
        }
    }
}

fn bodies(config: &Config, seen: &Seen<'_>) {
    let limits = &config.limits;
    let pairs = [
        (
            "a request",
            "limits.body",
            limits.body,
            "limits.inflight_body",
            limits.inflight_body,
        ),
        (
            "an answer",
            "limits.answer_kept",
            limits.answer_kept,
            "limits.inflight_answer",
            limits.inflight_answer,
        ),
    ];
    for (what, one, size, all, inflight) in pairs {
        if let Some(value) = seen.first_of(&[all, one])
            && size > inflight
        {
            let show = |bytes: usize| size::show(bytes as u64);
            value.problem(format!(
                "{what} of the largest size ({one} = {}) would never fit into {all} = {}. \
                 Raise the one or lower the other.",
                show(size),
                show(inflight)
            ));
        }
    }
}

/// A part that may take longer than the whole is never reached.
fn times(config: &Config, seen: &Seen<'_>) {
    let t = &config.timeouts;
    let pairs = [
        ("timeouts.body_read", t.body_read, "timeouts.body", t.body),
        ("timeouts.dns", t.dns, "timeouts.connect_total", t.connect_total),
        ("timeouts.connect", t.connect, "timeouts.connect_total", t.connect_total),
        ("timeouts.first_byte", t.first_byte, "timeouts.total", t.total),
        ("timeouts.idle", t.idle, "timeouts.total", t.total),
        (
            "timeouts.first_byte_whole",
            t.first_byte_whole,
            "timeouts.total_whole",
            t.total_whole,
        ),
    ];
    for (part, part_time, whole, whole_time) in pairs {
        if let Some(value) = seen.first_of(&[part, whole])
            && part_time > whole_time
        {
            value.warn(format!(
                "{part} = {} is longer than {whole} = {}, which ends the request first. Raise {whole} or lower {part}.",
                duration::show(part_time),
                duration::show(whole_time)
            ));
        }
    }
}

fn waits(config: &Config, seen: &Seen<'_>) {
    let (wait, max_wait) = (config.retries.wait, config.retries.max_wait);
    if let Some(value) = seen.first_of(&["retries.max_wait", "retries.wait"])
        && wait > max_wait
    {
        value.problem(format!(
            "the first wait (retries.wait = {}) is longer than the longest (retries.max_wait = {}). Raise the one or \
             lower the other.",
            duration::show(wait),
            duration::show(max_wait)
        ));
    }
}

fn folders(config: &Config, root: &mut Fields<'_>) {
    if within(&config.master_key, &config.data)
        && let Some(value) = root.get("master_key").or_else(|| root.get("data"))
    {
        value.problem(format!(
            "the master key must lie outside the data folder \"{}\": who copies the data must not have its key",
            config.data.display()
        ));
    }
    if within(&config.data, &config.rules)
        && let Some(value) = root.get("data").or_else(|| root.get("rules"))
    {
        value.problem(format!(
            "the data folder must lie outside the rules folder \"{}\", which is watched for changes",
            config.rules.display()
        ));
    }
}

/// Whether `inner` is `outer` or lies in it, by name only: neither needs to exist.
fn within(inner: &Path, outer: &Path) -> bool {
    let plain = |path: &Path| -> PathBuf { path.components().filter(|c| *c != Component::CurDir).collect() };
    let outer = plain(outer);
    // A folder named "." holds every relative path.
    match outer.as_os_str().is_empty() {
        true => inner.is_relative(),
        false => plain(inner).starts_with(outer),
    }
}
