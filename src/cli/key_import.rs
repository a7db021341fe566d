//! `tollgate keys import`: keys of another system. Their texts stay on this machine: only hashes are sent.

use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::Failure;
use super::client::Client;
use super::keys::{Given, How, table};
use super::policy_flags::Expires;
use crate::admin::key_secrets::{ImportWanted, ImportedKey, KeysImported};
use crate::keys::ring::IMPORTED_LEN;

/// Keys of one call: so many fit into a body with long names.
const BATCH: usize = 150;
/// Largest file, in bytes.
const FILE_MAX: u64 = 64 << 20;

/// Runs the command.
pub(super) fn execute(conf: &Path, file: &Path, given: Given, how: &How) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::Given(format!("{}: {error}", file.display()));
    let mut text = Zeroizing::new(String::new());
    match file == Path::new("-") {
        true => std::io::stdin().lock().take(FILE_MAX).read_to_string(&mut text),
        false => std::fs::File::open(file).and_then(|file| file.take(FILE_MAX).read_to_string(&mut text)),
    }
    .map_err(failed)?;
    let keys = read(&text)?;
    if keys.is_empty() {
        return Err(Failure::Given(format!("{} holds no key", file.display())));
    }
    let client = Client::new(conf, &how.reach)?;
    let policy = given.policy.wanted(&[], None);
    let expires_at = given.expires.map(|Expires(at)| at);
    let mut all = KeysImported {
        keys: Vec::new(),
        known: Vec::new(),
    };
    for batch in keys.chunks(BATCH) {
        let wanted = ImportWanted {
            keys: batch.to_vec(),
            owner: given.owner.clone(),
            tags: given.tags.clone(),
            group: given.group.clone(),
            expires_at: expires_at.clone(),
            policy: policy.clone(),
        };
        let done: Result<KeysImported, Failure> = client.post("/api/v1/keys/import", Some(&wanted));
        match done {
            Ok(done) => {
                all.keys.extend(done.keys);
                all.known.extend(done.known);
            }
            Err(error) => {
                let taken = all.keys.len() + all.known.len();
                eprintln!(
                    "{taken} of {} keys were taken over; it does no harm to import them again",
                    keys.len()
                );
                return Err(error);
            }
        }
    }
    if how.json {
        return super::print_json(&all);
    }
    eprintln!(
        "{} keys taken over, {} were known already",
        all.keys.len(),
        all.known.len()
    );
    super::print(&table(&all.keys))
}

/// In each line a key or `sha256:HEX`, then a name if there is one. Empty lines and lines which begin with `#` are left out.
/// What is wrong is told by the number of its line, never by its text.
fn read(text: &str) -> Result<Vec<ImportedKey>, Failure> {
    let mut keys = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, name) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let wrong = |told: &str| Failure::Given(format!("line {}: {told}", number + 1));
        let (sha256, hint) = match key.strip_prefix("sha256:") {
            Some(digits) if digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                (digits.to_ascii_lowercase(), format!("sha256:{}…", &digits[..8]))
            }
            Some(_) => return Err(wrong("after `sha256:` 64 hexadecimal digits are expected")),
            None if IMPORTED_LEN.contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()) => {
                let digest = Sha256::digest(key);
                (digest.iter().map(|byte| format!("{byte:02x}")).collect(), hint(key))
            }
            None => return Err(wrong("a key has 8 to 256 visible ASCII characters")),
        };
        keys.push(ImportedKey {
            sha256,
            hint,
            name: (!name.trim().is_empty()).then(|| name.trim().to_owned()),
        });
    }
    Ok(keys)
}

/// The beginning and the end of a key, as far as what is left is still a secret.
fn hint(key: &str) -> String {
    match key.len() {
        32.. => format!("{}…{}", &key[..6], &key[key.len() - 4..]),
        16.. => format!("…{}", &key[key.len() - 4..]),
        _ => format!("…{}", &key[key.len() - 2..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_no_key_is_told() {
        let digits = "ab".repeat(32);
        let text = format!("# old keys\n\nsk-canary-0123456789abcdef0123456789 Build robot\nsha256:{digits}\nshortcan");
        let keys = read(&text).unwrap();
        assert_eq!(keys.len(), 3);
        assert_eq!(keys[0].name.as_deref(), Some("Build robot"));
        assert_eq!(keys[0].hint, "sk-can…6789");
        assert_eq!(keys[1].sha256, digits);
        assert_eq!(keys[2].hint, "…an");
        assert_eq!(
            keys[2].sha256,
            Sha256::digest("shortcan")
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
        );
        for bad in [
            "canary7",
            "sha256:canary",
            "canary\u{e9}\u{e9}\u{e9}",
            &"canary".repeat(50),
        ] {
            let Err(Failure::Given(told)) = read(bad) else {
                panic!("{bad} is taken");
            };
            assert!(told.starts_with("line 1:") && !told.contains("canary"), "{told}");
        }
    }
}
