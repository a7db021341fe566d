//! Files that are watched: a thread which says when something in some folders changed.
//!
//! The system's events make it prompt. Because events are not everything (they are lost when a folder itself is replaced,
//! and never come on network file systems), the thread also looks by itself, every `LOOK_EVERY`.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

/// Editors write, rename and touch in several steps: a change counts once it has been quiet for so long ...
const QUIET: Duration = Duration::from_millis(200);
/// ... or once it has gone on for so long.
const MAX_WAIT: Duration = Duration::from_secs(2);
/// How often the thread looks by itself.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What is watched. All of it is called on the watching thread but the first time, and may take its time there.
pub trait Watched: Send + 'static {
    /// How things look from outside: names, lengths, times. Equal: nothing to read.
    type Outside: PartialEq + Send;

    /// What the thread is called, in at most 15 bytes.
    const THREAD: &'static str;

    /// The folders whose entries matter; they may change with what is in them (links). One that is not there (now) is
    /// watched when it comes.
    fn folders(&self) -> Vec<PathBuf>;

    /// Looks, without reading files.
    fn outside(&self) -> Self::Outside;

    /// Something may have changed: reads, and does what is to be done if it has.
    fn look(&mut self);
}

/// Watches until it is dropped.
pub struct Watch {
    stop: Arc<AtomicBool>,
    wake: SyncSender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins: no change after this call is missed, and one before it is looked for at once. An error is the system's, if it
    /// can't watch at all.
    pub fn start<W: Watched>(what: W) -> notify::Result<Watch> {
        // One place: what is in it means "look again", twice is no more than once.
        let (wake, woken) = sync_channel(1);
        let events = wake.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if !matches!(event, Ok(event) if matches!(event.kind, EventKind::Access(_))) {
                // Full means that the thread will look anyway.
                let _ = events.try_send(());
            }
        })?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut looker = Looker {
            seen: None,
            what,
            watcher,
            watched: HashMap::new(),
            stop: stop.clone(),
        };
        // In this thread, so that no change after this call is missed.
        looker.follow();
        let thread = std::thread::Builder::new()
            .name(W::THREAD.to_owned())
            .spawn(move || looker.run(&woken))
            .map_err(notify::Error::io)?;
        Ok(Watch {
            stop,
            wake,
            thread: Some(thread),
        })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = self.wake.try_send(());
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

struct Looker<W: Watched> {
    what: W,
    watcher: RecommendedWatcher,
    /// The folders that are watched: a new one of the same name is another.
    watched: HashMap<PathBuf, Identity>,
    /// How things looked.
    seen: Option<W::Outside>,
    stop: Arc<AtomicBool>,
}

impl<W: Watched> Looker<W> {
    fn run(mut self, woken: &Receiver<()>) {
        // What changed between loading and watching.
        self.look();
        while !self.stopped() {
            match woken.recv_timeout(LOOK_EVERY) {
                Ok(()) => self.settle(woken),
                Err(RecvTimeoutError::Timeout) if self.same() => continue,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.stopped() {
                return;
            }
            self.follow();
            self.look();
        }
    }

    /// What panics there must not end the watching: nobody would notice that changes are no longer taken.
    fn look(&mut self) {
        let what = &mut self.what;
        if std::panic::catch_unwind(AssertUnwindSafe(|| what.look())).is_err() {
            tracing::error!(
                thread = W::THREAD,
                "looking at what changed panicked; all stays as it was before"
            );
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Waits until it is quiet, but not forever.
    fn settle(&self, woken: &Receiver<()>) {
        let since = Instant::now();
        while since.elapsed() < MAX_WAIT && !self.stopped() && woken.recv_timeout(QUIET).is_ok() {}
    }

    /// Whether all looks as it did.
    fn same(&self) -> bool {
        let there = |folder: &PathBuf| self.watched.get(folder).copied() == identity(folder);
        self.seen.as_ref() == Some(&self.what.outside()) && self.what.folders().iter().all(there)
    }

    /// Watches the folders that now have the names.
    fn follow(&mut self) {
        self.seen = Some(self.what.outside());
        let folders = self.what.folders();
        let (watcher, watched) = (&mut self.watcher, &mut self.watched);
        watched.retain(|folder, known| {
            let keep = folders.contains(folder) && identity(folder) == Some(*known);
            if !keep {
                // The old folder may be gone, and its watch with it.
                let _ = watcher.unwatch(folder);
            }
            keep
        });
        for folder in folders {
            let Some(now) = identity(&folder) else { continue };
            if watched.contains_key(&folder) {
                continue;
            }
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    watched.insert(folder, now);
                }
                Err(error) => tracing::warn!(
                    folder = %folder.display(),
                    "the folder can't be watched ({error}); it is looked at every {LOOK_EVERY:?} instead"
                ),
            }
        }
    }
}

/// Device and number of a folder.
type Identity = (u64, u64);

fn identity(folder: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    let data = std::fs::metadata(folder).ok()?;
    data.is_dir().then(|| (data.dev(), data.ino()))
}

/// A file seen from outside: length, when changed, which one it is. Of the file itself where it is a link to one; `None`: it is not
/// there.
pub type File = Option<(u64, Option<SystemTime>, u64)>;

/// Looks at a file.
pub fn file(path: &Path) -> File {
    use std::os::unix::fs::MetadataExt;
    let data = std::fs::metadata(path).ok()?;
    Some((data.len(), data.modified().ok(), data.ino()))
}
