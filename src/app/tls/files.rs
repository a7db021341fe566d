//! The files of certificates: read all at once, and watched, also where they are links.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::config::TlsListener;
use crate::config::source::{MAX_FILE_BYTES, ReadError, read_bounded};
use crate::watch::{self, Watched};

use super::Tls;

/// Most links followed on the way to one file; the system itself follows 40.
const MAX_LINKS: usize = 40;

/// A hash of what was read.
pub(super) type Digest = [u8; 32];

type Read<T> = Result<T, ReadError>;

/// A chain and its key.
type Pair = (Read<Vec<u8>>, Read<Zeroizing<Vec<u8>>>);

/// What was in the files of a listener. Keys are wiped when it is dropped.
pub(super) struct Files {
    /// Chains and keys, in the order of the configuration.
    pub pairs: Vec<Pair>,
    /// The authorities of clients, if there are any.
    pub client_ca: Option<Read<Vec<u8>>>,
}

impl Files {
    /// Reads all of them.
    pub fn read(settings: &TlsListener) -> Self {
        let read = |path: &PathBuf| read_bounded(path, MAX_FILE_BYTES);
        let pairs = settings.certificates.iter();
        Files {
            pairs: pairs
                .map(|files| (read(&files.cert), read(&files.key).map(Zeroizing::new)))
                .collect(),
            client_ca: settings.client_ca.as_ref().map(read),
        }
    }

    /// Of everything.
    pub fn digest(&self) -> Digest {
        let pairs = self.pairs.iter();
        let parts = pairs.flat_map(|(chain, key)| [part(chain), part(key)]);
        digest(parts.chain(self.client_ca.as_ref().map(part)))
    }
}

fn part(read: &Read<impl AsRef<[u8]>>) -> Option<&[u8]> {
    read.as_ref().ok().map(AsRef::as_ref)
}

fn digest<'a>(parts: impl IntoIterator<Item = Option<&'a [u8]>>) -> Digest {
    let mut whole = Sha256::new();
    for part in parts {
        // A length before each: bytes that move from one file to the next are a change.
        whole.update(part.map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
        whole.update(part.unwrap_or_default());
    }
    whole.finalize().into()
}

/// What is watched for the running listeners.
pub(super) struct WatchedFiles(pub Arc<Tls>);

impl WatchedFiles {
    fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        let settings = self.0.all().map(|listener| &listener.settings);
        settings.flat_map(|settings| {
            let pairs = settings.certificates.iter().flat_map(|files| [&files.cert, &files.key]);
            pairs.chain(&settings.client_ca)
        })
    }
}

impl Watched for WatchedFiles {
    type Outside = Vec<watch::File>;

    const THREAD: &'static str = "tls-watch";

    fn folders(&self) -> Vec<PathBuf> {
        let mut folders = BTreeSet::new();
        for path in self.paths() {
            on_the_way(path, &mut folders);
        }
        folders.into_iter().collect()
    }

    fn outside(&self) -> Self::Outside {
        self.paths().map(|path| watch::file(path)).collect()
    }

    fn look(&mut self) {
        self.0.reload(false);
    }
}

/// The folders in which a change may make another file of `path`: its own, and those of all links on the way to it. A renewal
/// may replace the file, the link to it (certbot), or a link to its folder (Kubernetes).
fn on_the_way(path: &Path, folders: &mut BTreeSet<PathBuf>) {
    let Ok(mut path) = std::path::absolute(path) else {
        return;
    };
    for _ in 0..MAX_LINKS {
        let Some((at, target)) = first_link(&path) else {
            break;
        };
        let Some(folder) = at.parent() else { break };
        folders.extend(folder.canonicalize());
        let rest = path.strip_prefix(&at).unwrap_or(Path::new("")).to_owned();
        let next = folder.join(target);
        path = match rest.as_os_str().is_empty() {
            true => next,
            false => next.join(rest),
        };
    }
    folders.extend(path.parent().and_then(|folder| folder.canonicalize().ok()));
}

/// The first part of `path` that is a link, and where it leads.
fn first_link(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let mut before = PathBuf::new();
    for part in path.components() {
        before.push(part);
        if matches!(part, Component::Normal(_))
            && let Ok(target) = std::fs::read_link(&before)
        {
            return Some((before, target));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn way(path: &Path) -> Vec<PathBuf> {
        let mut folders = BTreeSet::new();
        on_the_way(path, &mut folders);
        folders.into_iter().collect()
    }

    #[test]
    fn every_folder_on_the_way_to_a_file_is_watched() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        for folder in ["live/x", "archive/x", "tls/..1"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        std::fs::write(root.join("archive/x/cert1.pem"), "").unwrap();
        symlink("../../archive/x/cert1.pem", root.join("live/x/cert.pem")).unwrap();
        assert_eq!(
            way(&root.join("live/x/cert.pem")),
            [root.join("archive/x"), root.join("live/x")]
        );
        std::fs::write(root.join("tls/..1/tls.crt"), "").unwrap();
        symlink("..1", root.join("tls/..data")).unwrap();
        symlink("..data/tls.crt", root.join("tls/tls.crt")).unwrap();
        assert_eq!(way(&root.join("tls/tls.crt")), [root.join("tls"), root.join("tls/..1")]);
        symlink("loop", root.join("loop")).unwrap();
        assert_eq!(way(&root.join("loop")), std::slice::from_ref(&root), "a loop ends");
        assert_eq!(
            way(&root.join("none/cert.pem")),
            [] as [PathBuf; 0],
            "what is not there is none"
        );
    }

    #[test]
    fn what_moves_from_one_file_to_the_next_is_a_change() {
        let files = |parts: &[&[u8]]| digest(parts.iter().map(|part| Some(*part)));
        assert_ne!(files(&[b"ab", b"c"]), files(&[b"a", b"bc"]));
        assert_ne!(digest([None]), digest([Some(&b""[..])]), "gone is not empty");
    }
}
