//! The master key: 32 bytes in a file of their own (HARDENING S1). Other keys are derived from it.
//!
//! The file is named by a path, or as `credential:NAME`: what systemd hands the service with `LoadCredential=NAME:FILE`
//! (systemd.exec(5), "Credentials"). There is no way to hand it over in an environment variable: it would stay readable in
//! `/proc` and be inherited, and taking it out of there needs unsafe code.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

/// Longest file that is read: 64 digits and a line end.
const FILE_MAX: usize = 66;

/// What stands before the name of a credential of the service, in place of a path.
pub const CREDENTIAL: &str = "credential:";

/// Where systemd puts the credentials of a service.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// What a master key's file may not let others do.
const OTHERS: u32 = 0o077;

/// The same of a service's credential: systemd lets the service's user in by an access control list, whose mask shows as
/// rights of the group (root's); the folder around it is closed to everybody else.
const OTHERS_OF_CREDENTIAL: u32 = 0o037;

/// The master key. Wiped from memory when dropped; can't be printed.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; 32]>);

/// Why there is no master key.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// The file can't be read or made.
    #[error("the master key {file}: {source}")]
    Io {
        /// Which.
        file: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not 32 bytes (64 hexadecimal digits), all zero, or readable by others.
    #[error("the master key {file}: {why}")]
    Unfit {
        /// Which.
        file: std::path::PathBuf,
        /// What is wrong and what to do.
        why: String,
    },
}

impl MasterKey {
    /// One made of this byte.
    #[cfg(test)]
    pub(crate) fn of_byte(byte: u8) -> Self {
        MasterKey(Zeroizing::new([byte; 32]))
    }

    /// Reads the key; makes one (mode 0400) if the file is missing and `may_create`. Pass `may_create` only while the
    /// store has never seen a master key ([`crate::keys::Keys::sealed`]): with a new one all issued client keys are void.
    ///
    /// A service's credential (`credential:NAME`) is never made.
    pub fn load(file: &Path, may_create: bool) -> Result<Self, MasterKeyError> {
        match service_credential(file, std::env::var_os(CREDENTIALS)) {
            None => Self::load_file(file, may_create),
            Some(Ok(handed)) => match File::open(&handed) {
                Ok(open) => Self::read(&handed, open, OTHERS_OF_CREDENTIAL),
                Err(source) => Err(MasterKeyError::Io { file: handed, source }),
            },
            Some(Err(why)) => Err(MasterKeyError::Unfit {
                file: file.to_owned(),
                why,
            }),
        }
    }

    fn load_file(file: &Path, may_create: bool) -> Result<Self, MasterKeyError> {
        let failed = |source| MasterKeyError::Io {
            file: file.to_owned(),
            source,
        };
        match File::open(file) {
            Ok(open) => Self::read(file, open, OTHERS),
            Err(e) if e.kind() == io::ErrorKind::NotFound && may_create => {
                let mut key = Zeroizing::new([0; 32]);
                getrandom::fill(key.as_mut_slice()).map_err(|e| failed(io::Error::other(e.to_string())))?;
                write(file, &key).map_err(failed)?;
                Ok(MasterKey(key))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(MasterKeyError::Unfit {
                file: file.to_owned(),
                why: "the file is missing, but the data folder was used with a master key before; put that key back \
                      (a new one would void every client key)"
                    .into(),
            }),
            Err(e) => Err(failed(e)),
        }
    }

    fn read(file: &Path, open: File, others: u32) -> Result<Self, MasterKeyError> {
        let failed = |source| MasterKeyError::Io {
            file: file.to_owned(),
            source,
        };
        let unfit = |why: &str| {
            Err(MasterKeyError::Unfit {
                file: file.to_owned(),
                why: why.into(),
            })
        };
        let metadata = open.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return unfit("it is not a regular file");
        }
        if metadata.permissions().mode() & others != 0 {
            return unfit("others may read or write it; run chmod 0400 on it, and think about who may have read it");
        }
        if ![0, rustix::process::geteuid().as_raw()].contains(&metadata.uid()) {
            return unfit("it belongs to another user, who may read and replace it; run chown on it");
        }
        // One allocation of full size, so that no copy of a grown buffer stays behind.
        let mut text = Zeroizing::new(Vec::with_capacity(FILE_MAX + 1));
        open.take(FILE_MAX as u64 + 1).read_to_end(&mut text).map_err(failed)?;
        let mut key = Zeroizing::new([0; 32]);
        match text.len() {
            0 => return unfit("it is empty; it should hold 64 hexadecimal digits (openssl rand -hex 32)"),
            32 => key.copy_from_slice(&text),
            _ => {
                let digits = text.strip_suffix(b"\n").unwrap_or(&text);
                let digits = digits.strip_suffix(b"\r").unwrap_or(digits);
                if digits.len() != 64 {
                    return unfit("it should hold 64 hexadecimal digits (openssl rand -hex 32), or 32 bytes");
                }
                for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
                    let (Some(high), Some(low)) = (hex_digit(pair[0]), hex_digit(pair[1])) else {
                        return unfit("it holds something other than hexadecimal digits");
                    };
                    *byte = high << 4 | low;
                }
            }
        }
        if key.iter().all(|&byte| byte == 0) {
            return unfit("it is all zero; make a random one (openssl rand -hex 32)");
        }
        Ok(MasterKey(key))
    }

    /// A key for one purpose: HKDF-SHA256(master, purpose).
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        // RFC 5869 2.3: only more than 255 * 32 bytes of output can be refused.
        let expanded = Hkdf::<Sha256>::new(None, self.0.as_slice()).expand(purpose.as_bytes(), key.as_mut_slice());
        debug_assert!(expanded.is_ok(), "HKDF gives 32 bytes for any purpose");
        key
    }
}

/// The file of a service's credential, if `file` names one; `folder`: where systemd put them.
fn service_credential(file: &Path, folder: Option<OsString>) -> Option<Result<PathBuf, String>> {
    let name = file.to_str()?.strip_prefix(CREDENTIAL)?;
    Some(match folder {
        _ if name.is_empty() || name.contains('/') || name.starts_with('.') => Err(format!(
            "after {CREDENTIAL} stands the NAME of the unit's LoadCredential=NAME:FILE"
        )),
        None => Err(format!(
            "{CREDENTIALS} is not set: this is for a service of systemd whose unit has LoadCredential={name}:FILE"
        )),
        Some(folder) => Ok(Path::new(&folder).join(name)),
    })
}

fn hex_digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

fn write(file: &Path, key: &[u8; 32]) -> io::Result<()> {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = Zeroizing::new([b'\n'; 65]);
    for (pair, byte) in text.chunks_exact_mut(2).zip(key) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    let mut open = File::options().write(true).create_new(true).mode(0o400).open(file)?;
    if let Err(e) = open.write_all(text.as_slice()).and_then(|()| open.sync_all()) {
        let _ = fs::remove_file(file); // half a key must not be read at the next start
        return Err(e);
    }
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_mode(file: &Path, bytes: &[u8], mode: u32) {
        fs::write(file, bytes).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_key_is_made_once_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("deep/er/master.key");
        assert!(MasterKey::load(&file, false).is_err(), "none is made unless it may be");
        assert!(!file.exists());
        let made = MasterKey::load(&file, true).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o400);
        assert_eq!(
            fs::metadata(file.parent().unwrap()).unwrap().permissions().mode() & 0o777,
            0o700
        );
        let read = MasterKey::load(&file, true).unwrap();
        assert_eq!(*made.derive("x"), *read.derive("x"));
        assert_ne!(*made.derive("x"), *read.derive("y"), "each purpose has its own key");
    }

    #[test]
    fn both_forms_give_the_same_key() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        with_mode(&file, &[0xAB; 32], 0o600);
        let raw = MasterKey::load(&file, false).unwrap();
        for text in ["ab".repeat(32), "AB".repeat(32) + "\n", "aB".repeat(32) + "\r\n"] {
            with_mode(&file, text.as_bytes(), 0o400);
            assert_eq!(*MasterKey::load(&file, false).unwrap().derive("x"), *raw.derive("x"));
            fs::remove_file(&file).unwrap();
        }
    }

    #[test]
    fn unfit_files_are_refused_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let good = "ab".repeat(32);
        let cases: [(&[u8], u32); 9] = [
            (b"", 0o400),
            (b"abcd", 0o400),
            (&[0; 32], 0o400),
            ("00".repeat(32).leak().as_bytes(), 0o400),
            ("xy".repeat(32).leak().as_bytes(), 0o400),
            ("ab".repeat(33).leak().as_bytes(), 0o400),
            ("ab".repeat(600).leak().as_bytes(), 0o400),
            (good.as_bytes(), 0o440),
            (good.as_bytes(), 0o604),
        ];
        for (n, (bytes, mode)) in cases.into_iter().enumerate() {
            let file = folder.path().join(n.to_string());
            with_mode(&file, bytes, mode);
            let error = MasterKey::load(&file, true).err().unwrap();
            assert!(matches!(error, MasterKeyError::Unfit { .. }), "case {n}");
            assert!(!error.to_string().contains("abab"), "an error never shows the key");
            assert_eq!(
                fs::read(&file).unwrap(),
                bytes,
                "case {n}: a file that is there stays as it is"
            );
        }
        assert!(MasterKey::load(folder.path(), true).is_err(), "a folder is no key");
    }

    #[test]
    fn a_credential_of_the_service_is_found_by_its_name() {
        let find = |text: &str, folder: Option<&str>| service_credential(Path::new(text), folder.map(OsString::from));
        assert!(find("conf/master.key", Some("/run/c")).is_none(), "a path is a path");
        assert_eq!(
            find("credential:master", Some("/run/c")).unwrap().unwrap(),
            Path::new("/run/c/master")
        );
        for (text, folder) in [
            ("credential:master", None),
            ("credential:", Some("/run/c")),
            ("credential:../x", Some("/run/c")),
            ("credential:..", Some("/run/c")),
        ] {
            assert!(find(text, folder).unwrap().is_err(), "{text}");
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        with_mode(&file, &[7; 32], 0o440);
        let read = |others| MasterKey::read(&file, File::open(&file).unwrap(), others);
        assert!(read(OTHERS_OF_CREDENTIAL).is_ok(), "as systemd hands it over");
        assert!(read(OTHERS).is_err());
        let named = Path::new("credential:no-such");
        assert!(MasterKey::load(named, true).is_err(), "none is made");
        assert!(!named.exists());
    }
}
