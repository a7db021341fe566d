//! The session in `metadata.user_id`, where an agent puts it.

use std::ops::Range;

use serde_json::{Map, Value};

use crate::dialects::outline::MAX_CACHE_KEY;
use crate::dialects::spans::{text_of, value_of};

/// What stands before the session in the older form: `user_<hash>_account_<id>_session_<uuid>`.
const BEFORE: &str = "_session_";

/// The session of a request whose `metadata` stands at `at`: Claude Code writes it into `user_id`, as a part of a text, and
/// since 2.1.78 as `session_id` of an object written as text (ding113/claude-code-hub#939). Any other `user_id` names a
/// person, not a conversation: `None`.
pub(super) fn of_metadata(body: &[u8], at: &Range<usize>) -> Option<String> {
    let user = text_of(body, &value_of(body, at.start, "user_id")?)?;
    if user.len() > MAX_CACHE_KEY {
        return None;
    }
    let session = if user.trim_start().starts_with('{') {
        let map: Map<String, Value> = serde_json::from_str(&user).ok()?;
        map.get("session_id")?.as_str()?.to_owned()
    } else {
        user.rsplit_once(BEFORE)?.1.to_owned()
    };
    (!session.is_empty()).then_some(session)
}
