//! The last check of everything, and what is told of it: metrics each time, the log only when something changed.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use super::metrics::{CERTIFICATE, CHECKS, CREDENTIAL_UP, PEER_UP, RESOLVES};
use super::schedule::{Target, What};
use super::{CheckResult, Finding, PlaceCheck};
use crate::clock::UnixMicros;

/// A certificate that expires soon is warned of so often.
const WARN_EVERY: i64 = DAY;

const DAY: i64 = 24 * 3600;

/// As many entries as there are targets; what is gone is forgotten.
pub(super) struct Book {
    pages: Mutex<Pages>,
    /// How long before its end a certificate is warned of, in seconds.
    warning: i64,
}

#[derive(Default)]
struct Pages {
    credentials: HashMap<Target, CheckResult>,
    places: HashMap<Target, Place>,
}

struct Place {
    check: PlaceCheck,
    /// When its certificate was warned of, in seconds since 1970.
    warned: Option<i64>,
}

impl Book {
    /// Nothing known. `warning`: how long before its end a certificate is warned of.
    pub(super) fn new(warning: Duration) -> Self {
        Book {
            pages: Mutex::default(),
            warning: i64::try_from(warning.as_secs()).unwrap_or(i64::MAX),
        }
    }

    /// Enters the check of a credential.
    pub(super) fn credential(&self, target: &Target, result: &CheckResult) {
        let What::Credential(credential) = &target.what else {
            return;
        };
        let provider = &*target.provider;
        CHECKS.with_label_values(&[provider, result.finding.as_str()]).inc();
        if let Some(good) = result.finding.credential_is_good() {
            CREDENTIAL_UP.set(provider, credential, good.into());
        }
        let before = self.pages.lock().credentials.insert(target.clone(), result.clone());
        let before = before.map(|before| before.finding);
        if before == Some(result.finding) || (before.is_none() && result.finding == Finding::Ok) {
            return;
        }
        let (found, words, status) = (result.finding.as_str(), result.words.as_str(), result.status);
        match result.finding.credential_is_good() {
            Some(true) => tracing::info!(provider, %credential, "a check finds the credential good again"),
            Some(false) => {
                tracing::warn!(provider, %credential, found, status, words, "a check finds the credential at fault");
            }
            None => {
                tracing::info!(provider, %credential, found, status, words, "a check can't tell whether the credential is good")
            }
        }
    }

    /// Enters the check of a place.
    pub(super) fn place(&self, target: &Target, check: PlaceCheck, now: UnixMicros) {
        let provider = &*target.provider;
        let place = &*check.place;
        let mut pages = self.pages.lock();
        let before = pages.places.remove(target);
        RESOLVES.set(provider, place, check.resolves.into());
        if !check.resolves {
            CHECKS.with_label_values(&[provider, "unresolved"]).inc();
        }
        match (before.as_ref().map(|before| before.check.resolves), check.resolves) {
            (Some(true) | None, false) => tracing::warn!(provider, place, "the name of a provider does not resolve"),
            (Some(false), true) => tracing::info!(provider, place, "the name of a provider resolves again"),
            _ => {}
        }
        let known = before.as_ref().map_or(&[][..], |before| &before.check.addresses);
        for (address, result) in &check.addresses {
            CHECKS.with_label_values(&[provider, result.finding.as_str()]).inc();
            PEER_UP.set(provider, &address.to_string(), (result.finding == Finding::Ok).into());
            let before = known.iter().find(|(known, _)| known == address);
            let before = before.map_or(Finding::Ok, |(_, before)| before.finding);
            if before != result.finding {
                let (found, words) = (result.finding.as_str(), result.words.as_str());
                match result.finding {
                    Finding::Ok => tracing::info!(provider, place, %address, "a check reaches the address again"),
                    _ => tracing::warn!(provider, place, %address, found, words, "a check does not reach the address"),
                }
            }
        }
        for (address, _) in known {
            if check.addresses.iter().all(|(present, _)| present != address) {
                PEER_UP.forget(provider, &address.to_string());
            }
        }
        let warned = before.and_then(|before| before.warned);
        let warned = self.certificate(provider, &check, warned, now.seconds());
        pages.places.insert(target.clone(), Place { check, warned });
    }

    /// Tells of a certificate that expires soon; returns when it was warned of last.
    fn certificate(&self, provider: &str, check: &PlaceCheck, warned: Option<i64>, now: i64) -> Option<i64> {
        let expires = check.certificate_expires?.seconds();
        let place = &*check.place;
        CERTIFICATE.set(provider, place, expires);
        let days = (expires - now).div_euclid(DAY);
        if expires - now >= self.warning {
            return None;
        }
        if warned.is_some_and(|warned| now - warned < WARN_EVERY) {
            return warned;
        }
        tracing::warn!(provider, place, days, "the certificate of a provider expires soon");
        Some(now)
    }

    /// Forgets what is no longer to be checked, or is no longer what it was.
    pub(super) fn forget(&self, target: &Target) {
        let mut pages = self.pages.lock();
        let provider = &*target.provider;
        match &target.what {
            What::Credential(credential) => {
                pages.credentials.remove(target);
                CREDENTIAL_UP.forget(provider, credential);
            }
            What::Place(place) => {
                let gone = pages.places.remove(target);
                RESOLVES.forget(provider, place);
                CERTIFICATE.forget(provider, place);
                for (address, _) in gone.iter().flat_map(|gone| &gone.check.addresses) {
                    PEER_UP.forget(provider, &address.to_string());
                }
            }
        }
    }

    /// Forgets the credentials that are no longer there.
    pub(super) fn retain(&self, is_there: impl Fn(&Target) -> bool) {
        let known: Vec<Target> = self.pages.lock().credentials.keys().cloned().collect();
        for gone in known.iter().filter(|target| !is_there(target)) {
            self.forget(gone);
        }
    }

    /// The last check of a credential.
    pub(super) fn of_credential(&self, target: &Target) -> Option<CheckResult> {
        self.pages.lock().credentials.get(target).cloned()
    }

    /// The last checks of a provider's places, by name.
    pub(super) fn of_places(&self, provider: &str) -> Vec<PlaceCheck> {
        let pages = self.pages.lock();
        let own = pages.places.iter().filter(|(target, _)| *target.provider == *provider);
        let mut own: Vec<PlaceCheck> = own.map(|(_, place)| place.check.clone()).collect();
        own.sort_by(|a, b| a.place.cmp(&b.place));
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_warned_of_ahead_of_time_and_once_a_day() {
        let expires = 1_800_000_000;
        let check = PlaceCheck {
            place: "https://expiring.example".into(),
            resolves: true,
            certificate_expires: Some(UnixMicros(expires * 1_000_000)),
            addresses: Vec::new(),
        };
        let book = Book::new(Duration::from_secs(14 * DAY as u64));
        let told = |warned, now| book.certificate("expiring", &check, warned, now);
        assert_eq!(told(None, expires - 15 * DAY), None, "there is time");
        let first = expires - 14 * DAY + 1;
        assert_eq!(told(None, first), Some(first));
        assert_eq!(
            told(Some(first), first + DAY - 1),
            Some(first),
            "not again on the same day"
        );
        assert_eq!(told(Some(first), first + DAY), Some(first + DAY));
        assert_eq!(told(None, expires + DAY), Some(expires + DAY), "an expired one too");
    }
}
