//! What a first start makes, so that a fresh checkout works: a client key and the admin token, in a file only its owner
//! can read.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::config::{Config, Secret};
use crate::keys::{Keys, NewKey};

use super::StartError;

/// Characters of the admin token: 256 bits in hexadecimal.
const TOKEN_BYTES: usize = 32;

/// Fewest characters of a token that people chose: what a generator gives for 128 bits in hexadecimal. Nothing slows guessing
/// down.
const TOKEN_MIN: usize = 32;

/// What a first start made.
pub struct FirstRun {
    /// Where it is written down.
    pub file: PathBuf,
    /// The first client key, for the line that is printed.
    pub key: Secret,
}

/// The admin token, and what was made if this is the first start: no `admin.token` in the data folder.
pub fn prepare(config: &Config, keys: &Keys) -> Result<(Secret, Option<FirstRun>), StartError> {
    let token_file = config.data.join("admin.token");
    match std::fs::read_to_string(&token_file) {
        Ok(token) => {
            let token = Secret::new(token.trim());
            fit(&token).map_err(|why| StartError::File {
                path: token_file,
                source: std::io::Error::other(why),
            })?;
            return Ok((token, None));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => {
            return Err(StartError::File {
                path: token_file,
                source,
            });
        }
    }
    let token = Secret::new(random_hex().map_err(|source| StartError::File {
        path: "the system's randomness".into(),
        source,
    })?);
    let file = config.data.join("first-run.toml");
    let mut made = None;
    if keys.list().is_empty() {
        let (_, text) = keys.create(NewKey {
            name: "first".into(),
            ..NewKey::default()
        })?;
        let contents = format!(
            "# Made by the first start. Keep it secret, or move both values to where you keep secrets and delete this file.\n\
             key = \"{}\"\nadmin_token = \"{}\"\n",
            text.0.expose(),
            token.expose()
        );
        write_secret(&file, &contents)?;
        made = Some(FirstRun { file, key: text.0 });
    }
    // Last: while it is missing, the next start is still the first.
    write_secret(&token_file, &format!("{}\n", token.expose()))?;
    Ok((token, made))
}

/// Whether a token is one that nobody guesses; why not, and what to do.
fn fit(token: &Secret) -> Result<(), String> {
    let characters = token.expose().chars().count();
    if characters < TOKEN_MIN {
        return Err(format!(
            "the admin token has {characters} characters, and must have at least {TOKEN_MIN}: write a random one into the file \
             (openssl rand -hex 32), or delete the file and the next start makes one"
        ));
    }
    if !token.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the admin token must be one word of printable ASCII (openssl rand -hex 32)".into());
    }
    Ok(())
}

/// Whether a gateway ran with this data folder before: there are journals or an audit log. Ask before anything is opened.
pub fn was_used(data: &Path) -> bool {
    let journals = std::fs::read_dir(data.join("journal"));
    journals.is_ok_and(|mut files| files.next().is_some()) || data.join("audit.jsonl").exists()
}

/// Tells of a store that is gone: its folder is new in a data folder that was used. What the journals bring back are sums and rows
/// only.
pub fn tell_of_lost_store(data: &Path) {
    tracing::error!(
        store = %data.join("store").display(),
        "all client keys, groups, admin tokens and secrets are gone: the store is new, but the data folder was used before. Stop the \
         gateway, restore this folder from a backup (with the master key it was made with), and start again; until then every \
         client key is refused"
    );
}

fn random_hex() -> std::io::Result<String> {
    let mut bytes = [0u8; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn write_secret(path: &Path, contents: &str) -> Result<(), StartError> {
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(contents.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|source| StartError::File {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_token_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = Config {
            data: folder.path().to_owned(),
            ..Config::default()
        };
        let master = crate::keys::MasterKey::of_byte(7);
        let store = crate::store::Store::open(&folder.path().join("store"), 16 << 20).expect("it opens");
        let clock = crate::clock::Clock::manual(crate::clock::UnixMicros(0));
        let keys = Keys::load(store.into(), &master, Default::default(), clock).expect("they load");
        for (token, good) in [
            ("12345\n".to_owned(), false),
            (String::new(), false),
            (format!("{}\n", "x".repeat(31)), false),
            (format!("{}\n", "x x ".repeat(20)), false),
            (format!("{}\n", "x".repeat(32)), true),
        ] {
            std::fs::write(folder.path().join("admin.token"), &token).expect("written");
            match prepare(&config, &keys) {
                Ok((read, made)) => assert!(good && read.expose() == token.trim() && made.is_none(), "{token}"),
                Err(error) => {
                    let told = error.to_string();
                    assert!(!good && told.contains("admin.token: the admin token"), "{told}");
                    assert!(token.is_empty() || !told.contains(token.trim()), "not told: {told}");
                }
            }
        }
    }

    #[test]
    fn a_data_folder_that_was_used_is_known() {
        for file in ["journal/00000001.tgj", "audit.jsonl"] {
            let folder = tempfile::tempdir().expect("a folder");
            assert!(!was_used(folder.path()));
            std::fs::create_dir(folder.path().join("journal")).expect("a folder");
            std::fs::write(folder.path().join("master.key"), "").expect("written");
            assert!(!was_used(folder.path()));
            std::fs::write(folder.path().join(file), "").expect("written");
            assert!(was_used(folder.path()), "{file}");
        }
    }
}
