//! What keys and groups may do, as callers write it and as it is shown. Amounts of money are texts in dollars, never floats.

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use super::input::only_objects;
use super::refusal::Refusal;
use crate::keys::Policy;
use crate::limits::{Budget, Window};
use crate::money::{Markup, NanoUsd};
use crate::observe::redact::printable;

/// Longest text that is quoted in a refusal, in bytes.
const MAX_TOLD: usize = 100;

/// A field of a change: absent leaves what is there, null clears it, a value takes its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Set<T> {
    /// Not given.
    #[default]
    Leave,
    /// Null.
    Clear,
    /// Given.
    To(T),
}

impl<T> Set<T> {
    /// Not given.
    pub fn is_left(&self) -> bool {
        matches!(self, Set::Leave)
    }

    /// What is to be put in the place; `None`: nothing.
    pub(super) fn given(self) -> Option<Option<T>> {
        match self {
            Set::Leave => None,
            Set::Clear => Some(None),
            Set::To(value) => Some(Some(value)),
        }
    }

    /// The same, read.
    pub(super) fn read<U>(self, read: impl FnOnce(T) -> Result<U, Refusal>) -> Result<Set<U>, Refusal> {
        Ok(match self {
            Set::Leave => Set::Leave,
            Set::Clear => Set::Clear,
            Set::To(value) => Set::To(read(value)?),
        })
    }

    /// Changes what has an empty state.
    pub(super) fn apply(self, to: &mut T)
    where
        T: Default,
    {
        if let Some(value) = self.given() {
            *to = value.unwrap_or_default();
        }
    }

    /// Changes what may be absent.
    pub(super) fn apply_option(self, to: &mut Option<T>) {
        if let Some(value) = self.given() {
            *to = value;
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Set<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(from)?.map_or(Set::Clear, Set::To))
    }
}

impl<T: Serialize> Serialize for Set<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Set::Leave | Set::Clear => to.serialize_none(),
            Set::To(value) => to.serialize_some(value),
        }
    }
}

/// What a key or a group may do. Absent: as it is (of a new one: nothing is limited); null: no limit.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct PolicyWanted {
    /// Refused for now.
    #[serde(default, skip_serializing_if = "Set::is_left")]
    #[schema(value_type = Option<bool>)]
    pub disabled: Set<bool>,
    /// Models that may be asked for: names and globs, at most 64, none twice. Empty: all.
    #[serde(default, skip_serializing_if = "Set::is_left")]
    #[schema(value_type = Option<Vec<String>>, max_items = 64)]
    pub models: Set<Vec<String>>,
    /// Routes that may be taken, by name: at most 64, none twice. Empty: all. A name that no route has is taken: rules come
    /// and go.
    #[serde(default, skip_serializing_if = "Set::is_left")]
    #[schema(value_type = Option<Vec<String>>, max_items = 64)]
    pub routes: Set<Vec<String>>,
    /// Providers that may serve it, likewise.
    #[serde(default, skip_serializing_if = "Set::is_left")]
    #[schema(value_type = Option<Vec<String>>, max_items = 64)]
    pub providers: Set<Vec<String>>,
    /// Networks it may be used from: `10.0.0.0/8`, `2001:db8::/32`, `192.0.2.1`; at most 64. Empty: all.
    #[serde(default, skip_serializing_if = "Set::is_left")]
    #[schema(value_type = Option<Vec<String>>, max_items = 64)]
    pub networks: Set<Vec<String>>,
    /// Requests in any 60 seconds. 0 is none.
    #[serde(default, skip_serializing_if = "Set::is_left")]
    #[schema(value_type = Option<u64>, maximum = 1_000_000_000_u64)]
    pub requests_per_minute: Set<u64>,
    /// Tokens (prompt and answer) in any 60 seconds.
    #[serde(default, skip_serializing_if = "Set::is_left")]
    #[schema(value_type = Option<u64>, maximum = 1_000_000_000_000_u64)]
    pub tokens_per_minute: Set<u64>,
    /// Requests under way at once.
    #[serde(default, skip_serializing_if = "Set::is_left")]
    #[schema(value_type = Option<u32>, maximum = 1_000_000_u32)]
    pub concurrent: Set<u32>,
    /// Budgets, at most one for each window. They are replaced as a whole.
    #[serde(default, skip_serializing_if = "Set::is_left")]
    #[schema(value_type = Option<Vec<BudgetView>>, max_items = 4)]
    pub budgets: Set<Vec<BudgetView>>,
    /// Whose days, weeks and months count: a name of the IANA database. Null: UTC.
    #[serde(default, skip_serializing_if = "Set::is_left")]
    #[schema(value_type = Option<String>, example = "Europe/Berlin")]
    pub time_zone: Set<String>,
    /// The factor on costs, a decimal with up to 6 digits after the point, at most 1000. Null: of a key the group's, of a
    /// group 1.
    #[serde(default, skip_serializing_if = "Set::is_left")]
    #[schema(value_type = Option<String>, example = "1.25", pattern = "^([0-9]{1,3}(\\.[0-9]{1,6})?|1000)$")]
    pub markup: Set<String>,
}

only_objects!(PolicyWanted, BudgetView);

/// What a key or a group may do.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PolicyView {
    /// Refused for now.
    pub disabled: bool,
    /// Models that may be asked for: names and globs. Empty: all.
    pub models: Vec<String>,
    /// Routes that may be taken. Empty: all.
    pub routes: Vec<String>,
    /// Providers that may serve it. Empty: all.
    pub providers: Vec<String>,
    /// Networks it may be used from. Empty: all.
    pub networks: Vec<String>,
    /// Requests in any 60 seconds; null: not limited.
    pub requests_per_minute: Option<u64>,
    /// Tokens (prompt and answer) in any 60 seconds; null: not limited.
    pub tokens_per_minute: Option<u64>,
    /// Requests under way at once; null: not limited.
    pub concurrent: Option<u32>,
    /// Budgets.
    pub budgets: Vec<BudgetView>,
    /// Whose days, weeks and months count; null: UTC.
    pub time_zone: Option<String>,
    /// The factor on costs; null: of a key the group's, of a group 1.
    pub markup: Option<String>,
}

/// What may be used within one calendar window: at least one of requests, tokens and money is given. 0 is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct BudgetView {
    /// Which.
    pub window: WindowWord,
    /// Requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 1_000_000_000_000_u64)]
    pub requests: Option<u64>,
    /// Tokens, prompt and answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 1_000_000_000_000_000_u64)]
    pub tokens: Option<u64>,
    /// What the client may be charged, in dollars: at most a billion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "12.50", pattern = "^([0-9]{1,9}(\\.[0-9]{1,9})?|1000000000)$")]
    pub money: Option<String>,
}

/// A calendar window in the time zone of the key or the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WindowWord {
    /// From midnight.
    Day,
    /// From Monday's midnight.
    Week,
    /// From the first day's midnight.
    Month,
    /// For good.
    Total,
}

impl From<Window> for WindowWord {
    fn from(window: Window) -> Self {
        match window {
            Window::Day => WindowWord::Day,
            Window::Week => WindowWord::Week,
            Window::Month => WindowWord::Month,
            Window::Total => WindowWord::Total,
        }
    }
}

impl From<WindowWord> for Window {
    fn from(window: WindowWord) -> Self {
        match window {
            WindowWord::Day => Window::Day,
            WindowWord::Week => Window::Week,
            WindowWord::Month => Window::Month,
            WindowWord::Total => Window::Total,
        }
    }
}

impl From<&Policy> for PolicyView {
    fn from(policy: &Policy) -> Self {
        let limits = &policy.limits;
        let budget = |budget: &Budget| BudgetView {
            window: budget.window.into(),
            requests: budget.requests,
            tokens: budget.tokens,
            money: budget.money.map(|money| money.to_string()),
        };
        PolicyView {
            disabled: policy.disabled,
            models: policy.models.clone(),
            routes: policy.routes.clone(),
            providers: policy.providers.clone(),
            networks: policy.networks.iter().map(ToString::to_string).collect(),
            requests_per_minute: limits.requests_per_minute,
            tokens_per_minute: limits.tokens_per_minute,
            concurrent: limits.concurrent,
            budgets: limits.budgets.iter().map(budget).collect(),
            time_zone: limits.time_zone.clone(),
            markup: policy.markup.map(|markup| markup.to_string()),
        }
    }
}

/// A change of a policy whose texts have been read.
pub(super) struct PolicyChange {
    wanted: PolicyWanted,
    networks: Set<Vec<IpNet>>,
    budgets: Set<Vec<Budget>>,
    markup: Set<Markup>,
}

impl PolicyWanted {
    /// Reads the texts in it. Whether its values can be taken is for the keys to say.
    pub(super) fn read(mut self) -> Result<PolicyChange, Refusal> {
        let networks = std::mem::take(&mut self.networks).read(|networks| {
            let read = |(at, text): (usize, String)| {
                network(&text).ok_or_else(|| {
                    let told = format!(
                        "`{}` is no network: write one as 10.0.0.0/8, 2001:db8::/32 or 192.0.2.1",
                        printable(&text, MAX_TOLD)
                    );
                    Refusal::invalid_body(&format!("policy.networks[{at}]"), told)
                })
            };
            networks.into_iter().enumerate().map(read).collect()
        })?;
        let budgets = std::mem::take(&mut self.budgets).read(|budgets| {
            let read = |(at, budget): (usize, BudgetView)| {
                let money = budget.money.map(|text| text.parse::<NanoUsd>()).transpose();
                Ok(Budget {
                    window: budget.window.into(),
                    requests: budget.requests,
                    tokens: budget.tokens,
                    money: money.map_err(|error| {
                        Refusal::invalid_body(&format!("policy.budgets[{at}].money"), error.to_string())
                    })?,
                })
            };
            budgets.into_iter().enumerate().map(read).collect()
        })?;
        let markup = std::mem::take(&mut self.markup).read(|text| {
            text.parse::<Markup>()
                .map_err(|error| Refusal::invalid_body("policy.markup", error.to_string()))
        })?;
        Ok(PolicyChange {
            wanted: self,
            networks,
            budgets,
            markup,
        })
    }
}

/// A network, or one address. Bits behind the prefix are cut off, IPv4 in IPv6 becomes IPv4.
fn network(text: &str) -> Option<IpNet> {
    if let Ok(address) = text.parse::<std::net::IpAddr>() {
        return Some(address.to_canonical().into());
    }
    text.parse::<IpNet>().ok().map(|network| network.trunc())
}

impl Set<PolicyWanted> {
    /// Reads the texts in it.
    pub(super) fn change(self) -> Result<Set<PolicyChange>, Refusal> {
        self.read(PolicyWanted::read)
    }
}

impl Set<PolicyChange> {
    /// Changes the policy; cleared it allows everything.
    pub(super) fn change_policy(self, policy: &mut Policy) {
        match self {
            Set::To(change) => change.apply(policy),
            Set::Clear => *policy = Policy::default(),
            Set::Leave => {}
        }
    }
}

impl PolicyChange {
    /// Changes the policy.
    pub(super) fn apply(self, policy: &mut Policy) {
        let PolicyWanted {
            disabled,
            models,
            routes,
            providers,
            networks: _,
            requests_per_minute,
            tokens_per_minute,
            concurrent,
            budgets: _,
            time_zone,
            markup: _,
        } = self.wanted;
        disabled.apply(&mut policy.disabled);
        models.apply(&mut policy.models);
        routes.apply(&mut policy.routes);
        providers.apply(&mut policy.providers);
        self.networks.apply(&mut policy.networks);
        let limits = &mut policy.limits;
        requests_per_minute.apply_option(&mut limits.requests_per_minute);
        tokens_per_minute.apply_option(&mut limits.tokens_per_minute);
        concurrent.apply_option(&mut limits.concurrent);
        self.budgets.apply(&mut limits.budgets);
        time_zone.apply_option(&mut limits.time_zone);
        self.markup.apply_option(&mut policy.markup);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_leaves_null_clears_and_a_value_replaces() {
        let mut policy = Policy::default();
        let mut change = |json: &str| {
            let wanted: PolicyWanted = serde_json::from_str(json).unwrap();
            wanted.read().unwrap().apply(&mut policy);
            policy.clone()
        };
        let all = change(
            r#"{"disabled": true, "models": ["a"], "networks": ["10.1.2.3/8", "::ffff:192.0.2.1"], "concurrent": 0,
                "budgets": [{"window": "month", "money": "12.50"}], "time_zone": "Asia/Shanghai", "markup": "1.25"}"#,
        );
        let networks: Vec<String> = all.networks.iter().map(ToString::to_string).collect();
        assert_eq!(networks, ["10.0.0.0/8", "192.0.2.1/32"]);
        assert_eq!(all.limits.budgets[0].money, Some(NanoUsd(12_500_000_000)));
        assert_eq!(all.limits.concurrent, Some(0), "an explicit zero is zero");
        assert_eq!(change("{}"), all);
        let some = change(r#"{"models": null, "markup": null, "concurrent": null, "disabled": null}"#);
        assert!(some.models.is_empty() && some.markup.is_none() && some.limits.concurrent.is_none() && !some.disabled);
        assert_eq!(
            some.limits.time_zone.as_deref(),
            Some("Asia/Shanghai"),
            "what was not named stays"
        );
        assert_eq!(
            serde_json::to_string(&PolicyWanted {
                models: Set::Clear,
                ..PolicyWanted::default()
            })
            .unwrap(),
            r#"{"models":null}"#
        );
    }

    #[test]
    fn texts_that_are_none_are_told_with_their_place() {
        for (json, field) in [
            (r#"{"networks": ["10.0.0.0/8", "x"]}"#, "policy.networks[1]"),
            (r#"{"networks": ["10.0.0.0/33"]}"#, "policy.networks[0]"),
            (
                r#"{"budgets": [{"window": "day", "money": "-1"}]}"#,
                "policy.budgets[0].money",
            ),
            (
                r#"{"budgets": [{"window": "day", "money": "18446744074"}]}"#,
                "policy.budgets[0].money",
            ),
            (r#"{"markup": "1001"}"#, "policy.markup"),
        ] {
            let wanted: PolicyWanted = serde_json::from_str(json).unwrap();
            let refusal = wanted.read().err().map(|refusal| format!("{refusal:?}")).unwrap();
            assert!(refusal.contains(&format!("{field:?}")), "{refusal}");
        }
        for json in [
            r#"{"colour": 1}"#,
            r#"{"budgets": [{"window": "year"}]}"#,
            r#"{"budgets": [{"window": "day", "money": 1.5}]}"#,
            r#"{"concurrent": -1}"#,
            r#"[]"#,
            r#"[true]"#,
            r#"{"budgets": [["day", 1]]}"#,
            r#"{"concurrent": 4294967296}"#,
        ] {
            assert!(serde_json::from_str::<PolicyWanted>(json).is_err(), "{json}");
        }
    }
}
