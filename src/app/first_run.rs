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
        Ok(token) => return Ok((Secret::new(token.trim()), None)),
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
