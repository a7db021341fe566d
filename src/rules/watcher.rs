//! The watched folder: a thread that reloads the rules when a file in it changes.
//!
//! The system's events make it prompt. Because events are not everything (they are lost when the folder itself is
//! replaced, and never come on network file systems), the thread also looks by itself, every `LOOK_EVERY`.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::Live;
use super::folder::MAX_FILES;

/// Editors write, rename and touch in several steps: a change counts once it has been quiet for so long ...
const QUIET: Duration = Duration::from_millis(200);
/// ... or once it has gone on for so long.
const MAX_WAIT: Duration = Duration::from_secs(2);
/// How often the thread looks by itself.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Watches until it is dropped.
pub struct Watch {
    stop: Arc<AtomicBool>,
    wake: SyncSender<()>,
    thread: Option<JoinHandle<()>>,
}

impl Live {
    /// Watches the folder and reloads when it changes. An error is the system's, if it can't watch at all; that the
    /// folder is not there (now) is none.
    pub fn watch(self: &Arc<Self>) -> notify::Result<Watch> {
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
            live: self.clone(),
            watcher,
            watched: None,
            seen: None,
            stop: stop.clone(),
        };
        // In this thread, so that no change after this call is missed.
        looker.follow();
        let thread = std::thread::Builder::new()
            .name("rules-watch".to_owned())
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

struct Looker {
    live: Arc<Live>,
    watcher: RecommendedWatcher,
    /// The folder that is watched: a new one of the same name is another.
    watched: Option<Identity>,
    /// How the files were, seen from outside.
    seen: Option<Vec<Outside>>,
    stop: Arc<AtomicBool>,
}

impl Looker {
    fn run(mut self, woken: &Receiver<()>) {
        // What changed between loading and watching.
        self.reload();
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
            self.reload();
        }
    }

    /// A hook that panics must not end the watching: nobody would notice that changes are no longer taken.
    fn reload(&self) {
        let reload = AssertUnwindSafe(|| self.live.reload_if_changed());
        if std::panic::catch_unwind(reload).is_err() {
            tracing::error!("reloading the rules panicked; the rules before stay in force");
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

    /// Whether all looks as it did, without reading the files.
    fn same(&mut self) -> bool {
        let now = (identity(self.live.folder()), outside(self.live.folder()));
        let same = now == (self.watched, self.seen.take());
        self.seen = now.1;
        same
    }

    /// Watches the folder that now has the name.
    fn follow(&mut self) {
        let folder = self.live.folder();
        self.seen = outside(folder);
        let now = identity(folder);
        if now.is_some() && now == self.watched {
            return;
        }
        if self.watched.take().is_some() {
            // The old folder may be gone, and its watch with it.
            let _ = self.watcher.unwatch(folder);
        }
        if now.is_none() {
            return;
        }
        match self.watcher.watch(folder, RecursiveMode::NonRecursive) {
            Ok(()) => self.watched = now,
            Err(error) => tracing::warn!(
                folder = %folder.display(),
                "the rules folder can't be watched ({error}); it is looked at every {LOOK_EVERY:?} instead"
            ),
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

/// A file seen from outside: name, length, when changed.
type Outside = (std::ffi::OsString, u64, Option<SystemTime>);

fn outside(folder: &Path) -> Option<Vec<Outside>> {
    let entries = std::fs::read_dir(folder).ok()?;
    let files = entries.flatten().take(2 * MAX_FILES).map(|entry| {
        // Of the file itself where the entry is a link to it.
        let data = std::fs::metadata(entry.path()).ok();
        let length = data.as_ref().map_or(0, std::fs::Metadata::len);
        (entry.file_name(), length, data.and_then(|data| data.modified().ok()))
    });
    let mut files: Vec<Outside> = files.collect();
    files.sort();
    Some(files)
}
