//! What a key, or all keys of a group, may do.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::clock::UnixMicros;
use crate::ids::GroupId;
use crate::limits::Limits;
use crate::money::Markup;

/// What a key or a group may do. The empty one allows everything. A group's holds for each of its keys beside their own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// Refused for now.
    pub disabled: bool,
    /// Models that may be asked for: names and globs. Empty: all.
    pub models: Vec<String>,
    /// Routes that may be taken, by name. Empty: all.
    pub routes: Vec<String>,
    /// Providers that may serve it, by name. Empty: all.
    pub providers: Vec<String>,
    /// Networks it may be used from. Empty: all.
    pub networks: Vec<IpNet>,
    /// What it may use.
    pub limits: Limits,
    /// The factor on costs. `None`: of a key the group's, of a group 1.
    pub markup: Option<Markup>,
}

/// Keys of one team, and what they may do together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub id: GroupId,
    /// What it is for, for people; may be empty.
    #[serde(default)]
    pub description: String,
    /// When it was made.
    pub created_at: UnixMicros,
    /// When it was deleted; `None`: it is there. Its keys are refused from then on; its rows stay.
    #[serde(default)]
    pub deleted_at: Option<UnixMicros>,
    /// What its keys may do together.
    #[serde(default)]
    pub policy: Policy,
}
