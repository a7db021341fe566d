//! What is said, and in what form each kind of webhook takes it. Short, in plain text: names that people gave are escaped where
//! the receiver would read more into them.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac as _};
use http::{HeaderName, HeaderValue};
use serde_json::json;
use sha2::Sha256;

use crate::clock::UnixMicros;
use crate::config::Secret;
use crate::config::alerts::{Condition, Severity, WebhookKind};
use crate::ids::AttemptId;
use crate::observe::rfc3339;

use super::Finding;
use super::cap::Held;

/// Most kinds named in a sum.
const MAX_SUMMED: usize = 10;

/// When a signed message was sent, in seconds since 1970: part of what is signed, so that old ones can be refused.
const TIMESTAMP: HeaderName = HeaderName::from_static("x-tollgate-timestamp");

/// HMAC-SHA256 over timestamp, a dot and the body: `v1=` and hexadecimal digits.
const SIGNATURE: HeaderName = HeaderName::from_static("x-tollgate-signature");

/// What kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Something holds.
    Raised,
    /// It still does.
    Reminder,
    /// It does no longer.
    Recovered,
    /// What was held back.
    Summary,
    /// The gateway lives.
    Heartbeat,
    /// Somebody asked for it.
    Test,
}

impl Kind {
    /// Its name.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Kind::Raised => "raised",
            Kind::Reminder => "reminder",
            Kind::Recovered => "recovered",
            Kind::Summary => "summary",
            Kind::Heartbeat => "heartbeat",
            Kind::Test => "test",
        }
    }
}

/// What is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Tells it from any other; the same in each try.
    pub(super) id: String,
    pub(super) kind: Kind,
    /// `None`: of none, as a test.
    pub(super) condition: Option<Condition>,
    pub(super) subject: String,
    pub(super) severity: Severity,
    pub(super) what: String,
    /// What to do; empty: nothing.
    pub(super) help: String,
    /// Since when it holds.
    pub(super) since: UnixMicros,
    pub(super) at: UnixMicros,
}

impl Message {
    pub(super) fn of(kind: Kind, finding: &Finding, since: UnixMicros, at: UnixMicros) -> Self {
        Message {
            condition: Some(finding.condition),
            subject: finding.subject.clone(),
            severity: finding.severity,
            what: finding.what.clone(),
            help: finding.help.clone(),
            since,
            ..Message::bare(kind, at)
        }
    }

    fn bare(kind: Kind, at: UnixMicros) -> Self {
        Message {
            id: AttemptId::new().to_string(),
            kind,
            condition: None,
            subject: String::new(),
            severity: Severity::Info,
            what: String::new(),
            help: String::new(),
            since: at,
            at,
        }
    }

    pub(super) fn heartbeat(standing: usize, at: UnixMicros) -> Self {
        let what = match standing {
            0 => "The gateway lives, and nothing is wrong that it knows of.".to_owned(),
            1 => "The gateway lives; 1 condition stands.".to_owned(),
            n => format!("The gateway lives; {n} conditions stand."),
        };
        Message {
            condition: Some(Condition::Heartbeat),
            what,
            ..Message::bare(Kind::Heartbeat, at)
        }
    }

    pub(super) fn test(at: UnixMicros) -> Self {
        Message {
            what: "This is a test: alerts of this gateway arrive here.".to_owned(),
            ..Message::bare(Kind::Test, at)
        }
    }

    pub(super) fn summary(held: &Held, at: UnixMicros) -> Self {
        let total: u64 = held.values().sum();
        let mut what = format!("{total} messages were held back, as there were too many within an hour: ");
        for (index, ((condition, kind), count)) in held.iter().take(MAX_SUMMED).enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            // Writing to a String can't fail.
            let _ = write!(what, "{comma}{count} {condition} {kind}");
        }
        what.push_str(if held.len() > MAX_SUMMED { ", and others." } else { "." });
        Message {
            severity: Severity::Critical,
            what,
            help: "What stands now is told by `tollgate alerts list`.".to_owned(),
            ..Message::bare(Kind::Summary, at)
        }
    }

    /// Its condition, or what it is instead.
    pub(super) fn condition_name(&self) -> &'static str {
        self.condition.map_or(self.kind.as_str(), Condition::as_str)
    }

    /// For people: `tollgate on HOST: CRITICAL ledger`, then what, since when, what to do.
    fn lines(&self, host: &str) -> String {
        let head = match self.kind {
            Kind::Raised => self.severity.as_str().to_ascii_uppercase(),
            Kind::Reminder => format!("STILL {}", self.severity.as_str().to_ascii_uppercase()),
            Kind::Recovered => "RECOVERED".to_owned(),
            Kind::Summary => "HELD BACK".to_owned(),
            Kind::Heartbeat => "OK".to_owned(),
            Kind::Test => "TEST".to_owned(),
        };
        let mut text = format!("tollgate on {host}: {head}");
        if let Some(condition) = self.condition.filter(|one| *one != Condition::Heartbeat) {
            let _ = write!(text, " {}", condition.as_str());
        }
        let _ = match self.kind {
            Kind::Recovered => write!(text, "\nNo longer: {}", self.what),
            _ => write!(text, "\n{}", self.what),
        };
        match self.kind {
            Kind::Raised | Kind::Reminder => {
                let _ = write!(text, "\nSince {}.", seconds(self.since));
                if !self.help.is_empty() {
                    let _ = write!(text, " {}", self.help);
                }
            }
            Kind::Recovered => {
                let _ = write!(text, "\nIt held from {} to {}.", seconds(self.since), seconds(self.at));
            }
            Kind::Summary => {
                let _ = write!(text, "\n{}", self.help);
            }
            Kind::Heartbeat | Kind::Test => {}
        }
        text
    }

    /// The document for a kind of webhook, and the headers that go with it. `now`: when it is sent.
    pub(super) fn document(
        &self,
        kind: WebhookKind,
        secret: Option<&Secret>,
        host: &str,
        now: UnixMicros,
    ) -> (String, Vec<(HeaderName, HeaderValue)>) {
        let timestamp = now.seconds().to_string();
        match kind {
            WebhookKind::Slack => {
                let text = for_slack(&self.lines(host));
                let document = json!({ "text": text, "unfurl_links": false, "unfurl_media": false });
                (document.to_string(), Vec::new())
            }
            WebhookKind::Feishu => {
                let mut document = json!({ "msg_type": "text", "content": { "text": for_feishu(&self.lines(host)) } });
                if let Some(secret) = secret {
                    document["sign"] = sign_feishu(&timestamp, secret).into();
                    document["timestamp"] = timestamp.into();
                }
                (document.to_string(), Vec::new())
            }
            WebhookKind::Generic => {
                let document = self.generic(host).to_string();
                let mut headers = Vec::new();
                if let Some(secret) = secret
                    && let Ok(time) = HeaderValue::from_str(&timestamp)
                    && let Ok(signature) = HeaderValue::from_str(&sign(&timestamp, &document, secret))
                {
                    headers.extend([(TIMESTAMP, time), (SIGNATURE, signature)]);
                }
                (document, headers)
            }
        }
    }

    fn generic(&self, host: &str) -> serde_json::Value {
        json!({
            "id": self.id,
            "event": self.kind.as_str(),
            "condition": self.condition.map(Condition::as_str),
            "subject": self.subject,
            "severity": self.severity.as_str(),
            "what": self.what,
            "help": self.help,
            "since": rfc3339(self.since).as_str(),
            "at": rfc3339(self.at).as_str(),
            "gateway": host,
            "version": env!("CARGO_PKG_VERSION"),
        })
    }
}

/// `2026-01-31 12:00:00 UTC`: people need no microseconds.
fn seconds(at: UnixMicros) -> String {
    let text = rfc3339(at);
    let text = text.get(..19).unwrap_or(&text);
    format!("{} UTC", text.replace('T', " "))
}

/// What Slack's documentation says is to be escaped: without it `<!channel>` would call everybody.
fn for_slack(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Text messages of Feishu know `<at ...>` and no escape: what looks the same takes the place of the brackets.
fn for_feishu(text: &str) -> String {
    text.replace('<', "\u{2039}").replace('>', "\u{203a}")
}

fn mac(key: &[u8], message: &[&[u8]]) -> Option<[u8; 32]> {
    // HMAC takes keys of any length.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    message.iter().for_each(|part| mac.update(part));
    Some(mac.finalize().into_bytes().into())
}

/// `v1=`, and HMAC-SHA256 over timestamp, `.` and body.
fn sign(timestamp: &str, body: &str, secret: &Secret) -> String {
    let mac = mac(
        secret.expose().as_bytes(),
        &[timestamp.as_bytes(), b".", body.as_bytes()],
    );
    let mut text = "v1=".to_owned();
    for byte in mac.unwrap_or_default() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// As its documentation has it: timestamp, a line's end and the secret are the key, the message is empty.
fn sign_feishu(timestamp: &str, secret: &Secret) -> String {
    let key = zeroize::Zeroizing::new(format!("{timestamp}\n{}", secret.expose()));
    STANDARD.encode(mac(key.as_bytes(), &[]).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: UnixMicros = UnixMicros(1_769_860_800_000_000);

    fn message(kind: Kind) -> Message {
        let finding = Finding {
            condition: Condition::Budget,
            subject: "key k day money".into(),
            instance: 0,
            severity: Severity::Warning,
            level: 80,
            what: "\"<!channel> & <at user_id=\"all\">\" used 80 %.".into(),
            help: "Raise it.".into(),
        };
        Message::of(kind, &finding, AT, UnixMicros(AT.0 + 60_000_000))
    }

    #[test]
    fn names_are_escaped_as_the_target_needs() {
        let (slack, headers) = message(Kind::Raised).document(WebhookKind::Slack, None, "h", AT);
        let slack: serde_json::Value = serde_json::from_str(&slack).unwrap();
        assert_eq!(
            slack["text"],
            "tollgate on h: WARNING budget\n\"&lt;!channel&gt; &amp; &lt;at user_id=\"all\"&gt;\" used 80 %.\n\
             Since 2026-01-31 12:00:00 UTC. Raise it."
        );
        assert!(headers.is_empty());
        let (feishu, _) = message(Kind::Recovered).document(WebhookKind::Feishu, None, "h", AT);
        let feishu: serde_json::Value = serde_json::from_str(&feishu).unwrap();
        assert_eq!(
            feishu["content"]["text"],
            "tollgate on h: RECOVERED budget\nNo longer: \"\u{2039}!channel\u{203a} & \u{2039}at user_id=\"all\"\u{203a}\" used 80 %.\n\
             It held from 2026-01-31 12:00:00 UTC to 2026-01-31 12:01:00 UTC."
        );
        assert_eq!(feishu["sign"], serde_json::Value::Null, "without a secret unsigned");
    }

    /// The values were made by `hmac.new(...)` of Python, as in the documentation's example.
    #[test]
    fn signatures_are_those_the_receivers_compute() {
        let secret = Secret::new("0123456789abcdef0123456789abcdef");
        assert_eq!(
            sign_feishu("1599360473", &secret),
            "2MhGsqAeFhb7dRo2Bqt3C4eMLkJWsd551NxrpBH1Xt4="
        );
        assert_eq!(
            sign("1599360473", "{}", &secret),
            "v1=35d1d398ed427362cdff3c58819749d35f11807086cb30799e5aa585ff59561d"
        );
        let (document, headers) = message(Kind::Raised).document(WebhookKind::Generic, Some(&secret), "h", AT);
        assert_eq!(headers[0].1, "1769860800");
        assert_eq!(headers[1].1, sign("1769860800", &document, &secret).as_str());
    }

    #[test]
    fn a_sum_names_what_was_held_back() {
        let held = Held::from([(("budget", "raised"), 3), (("budget", "recovered"), 1)]);
        assert_eq!(
            Message::summary(&held, AT).what,
            "4 messages were held back, as there were too many within an hour: 3 budget raised, 1 budget recovered."
        );
    }
}
