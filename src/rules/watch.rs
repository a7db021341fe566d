//! Hot reload: all or nothing, and the last good rules stay in force. The folder's watcher is in `watcher.rs`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use prometheus::{IntCounterVec, IntGauge, register_int_counter_vec, register_int_gauge};

use crate::clock::{Clock, UnixMicros};
use crate::config::problem::{log, part};
use crate::config::source::Source;
use crate::config::{Problem, Problems};

use super::Rules;
use super::environment::{Environment, Process};
use super::folder::{self, Folder};

/// Reloads tried, by result: `ok`, `failed`. `None` only if something else took the name.
static RELOADS: LazyLock<Option<IntCounterVec>> = LazyLock::new(|| {
    let help = "Reloads of the rules, by result.";
    register_int_counter_vec!("tollgate_rules_reloads_total", help, &["result"]).ok()
});

/// When the rules in force were loaded.
static LOADED: LazyLock<Option<IntGauge>> = LazyLock::new(|| {
    let help = "When the rules in force were loaded, in seconds since 1970.";
    register_int_gauge!("tollgate_rules_loaded_timestamp_seconds", help).ok()
});

/// Whether the files are other than what is in force.
static REFUSED: LazyLock<Option<IntGauge>> = LazyLock::new(|| {
    let help = "1: the last reload of the rules failed, and those before stay in force.";
    register_int_gauge!("tollgate_rules_refused", help).ok()
});

/// What is called with new rules.
pub type OnChange = Box<dyn Fn(&Arc<Rules>) + Send + Sync>;

/// The rules in force. Cheap to read: one per request.
pub struct Live {
    current: ArcSwap<Rules>,
    folder: PathBuf,
    clock: Clock,
    environment: Box<dyn Environment + Send + Sync>,
    status: ArcSwap<ReloadStatus>,
    /// One reload at a time.
    tried: Mutex<Tried>,
    hooks: Mutex<Vec<Arc<OnChange>>>,
}

/// What was read.
struct Tried {
    /// The digest of what was last tried, good or not.
    digest: u32,
    /// The files in force; `None`: they were another's before this began.
    good: Option<Folder>,
}

/// What became of the last reload.
#[derive(Clone, Debug)]
pub struct ReloadStatus {
    /// When it was tried.
    pub at: UnixMicros,
    /// Whether new rules are in force since.
    pub ok: bool,
    /// What stood in its way, or warnings.
    pub problems: Vec<Problem>,
}

/// Why a file of the rules was not rewritten.
#[derive(Debug)]
pub enum NotRewritten {
    /// The rules would have problems, or have some already: nothing was written.
    Refused(Problems),
    /// What should be taken out does not stand there, or not so that it could be found.
    Missing,
    /// It can't be written.
    Io(std::io::Error),
}

impl Live {
    /// Starts with these rules; values come from the process's environment.
    pub fn new(folder: PathBuf, rules: Rules, clock: Clock) -> Arc<Self> {
        Self::with(folder, rules, clock, Box::new(Process))
    }

    /// As [`Live::new`], with an environment of its own.
    pub fn with(
        folder: PathBuf,
        rules: Rules,
        clock: Clock,
        environment: Box<dyn Environment + Send + Sync>,
    ) -> Arc<Self> {
        if let Some(loaded) = &*LOADED {
            loaded.set(rules.loaded_at.seconds());
        }
        LazyLock::force(&REFUSED);
        if let Some(reloads) = &*RELOADS {
            // Both rows are there from the start: an alert can't count from nothing.
            for result in ["ok", "failed"] {
                reloads.with_label_values(&[result]).inc_by(0);
            }
        }
        Arc::new(Live {
            status: ArcSwap::from_pointee(ReloadStatus {
                at: rules.loaded_at,
                ok: true,
                problems: Vec::new(),
            }),
            tried: Mutex::new(Tried {
                digest: rules.digest,
                good: Some(Folder::read(&folder)).filter(|read| read.digest == rules.digest),
            }),
            current: ArcSwap::from_pointee(rules),
            folder,
            clock,
            environment,
            hooks: Mutex::default(),
        })
    }

    /// The rules in force.
    pub fn load(&self) -> arc_swap::Guard<Arc<Rules>> {
        self.current.load()
    }

    /// The rules in force, to be kept.
    pub fn load_full(&self) -> Arc<Rules> {
        self.current.load_full()
    }

    /// What became of the last reload; at first, of the load at start.
    pub fn status(&self) -> Arc<ReloadStatus> {
        self.status.load_full()
    }

    /// The folder they come from.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Has `call` called with new rules, on the thread that reloads, just before they come into force: what it prepares
    /// (addresses resolved ahead) is there for the first request. It holds up the reload, and no request; it must not
    /// reload itself.
    pub fn on_change(&self, call: OnChange) {
        self.hooks.lock().push(Arc::new(call));
    }

    /// Reads the folder again: all or nothing. Also where nothing changed: the environment's files may have. Blocking.
    pub fn reload(&self) -> Result<Problems, Problems> {
        let mut tried = self.tried.lock();
        let read = Folder::read(&self.folder);
        self.try_out(read, &mut tried)
    }

    /// Compiles the files in force once more, since something they refer to has changed: a secret in the store. What lies in
    /// the folder by now is not looked at: it may be half written. Blocking.
    pub fn refresh(&self) -> Result<Problems, Problems> {
        let mut tried = self.tried.lock();
        let read = match tried.good.take() {
            Some(good) => good,
            None => Folder::read(&self.folder),
        };
        let result = self.apply(&read);
        tried.good = Some(read);
        result
    }

    /// Rewrites a file of the folder, which may not be there yet, and reloads. `edit` gives the new text from the old one (empty:
    /// there is no such file). Nothing is written if the folder would not compile then, and no reload comes between. Blocking.
    pub(super) fn rewrite(
        &self,
        name: &str,
        edit: impl FnOnce(&str) -> Result<String, NotRewritten>,
    ) -> Result<Problems, NotRewritten> {
        let mut tried = self.tried.lock();
        let file = self.folder.join(name);
        let read = Folder::read(&self.folder);
        let known = read.sources.iter().find(|source| source.file == file);
        let before = known.map(|source| source.text.clone());
        if before.is_none() && file.exists() {
            // It is there and can't be read: the problem says why.
            return Err(NotRewritten::Refused(read.problems));
        }
        let after = edit(before.as_deref().unwrap_or_default())?;
        let changed = read.with(Source::new(file.clone(), after.clone()));
        super::compile::compile_folder(&changed, &self.folder, &self.clock, &*self.environment)
            .map_err(NotRewritten::Refused)?;
        folder::replace(&file, Some(&after)).map_err(NotRewritten::Io)?;
        // Somebody may have changed another file meanwhile.
        self.try_out(Folder::read(&self.folder), &mut tried)
            .map_err(|problems| match folder::replace(&file, before.as_deref()) {
                Ok(()) => NotRewritten::Refused(problems),
                Err(error) => NotRewritten::Io(error),
            })
    }

    /// Reads the folder again if it is not as it was when last tried. Blocking.
    pub(super) fn reload_if_changed(&self) -> Option<Result<Problems, Problems>> {
        let mut tried = self.tried.lock();
        let read = Folder::read(&self.folder);
        if read.digest == tried.digest {
            return None;
        }
        Some(self.try_out(read, &mut tried))
    }

    fn try_out(&self, read: Folder, tried: &mut Tried) -> Result<Problems, Problems> {
        tried.digest = read.digest;
        let result = self.apply(&read);
        if result.is_ok() {
            tried.good = Some(read);
        }
        result
    }

    fn apply(&self, read: &Folder) -> Result<Problems, Problems> {
        let compiled = super::compile::compile_folder(read, &self.folder, &self.clock, &*self.environment);
        let result = compiled.map(|(rules, warnings)| {
            let rules = Arc::new(rules);
            let hooks: Vec<Arc<OnChange>> = self.hooks.lock().clone();
            hooks.iter().for_each(|hook| hook(&rules));
            self.current.store(rules);
            warnings
        });
        self.tell(&result);
        result
    }

    /// Status, metrics, log.
    fn tell(&self, result: &Result<Problems, Problems>) {
        let (Ok(problems) | Err(problems)) = result;
        if let Some(refused) = &*REFUSED {
            refused.set(result.is_err().into());
        }
        self.status.store(Arc::new(ReloadStatus {
            at: self.clock.now(),
            ok: result.is_ok(),
            problems: problems.clone(),
        }));
        let word = if result.is_ok() { "ok" } else { "failed" };
        if let Some(reloads) = &*RELOADS {
            reloads.with_label_values(&[word]).inc();
        }
        let rules = self.load();
        if let Some(loaded) = &*LOADED {
            loaded.set(rules.loaded_at.seconds());
        }
        log(problems);
        match result {
            Ok(_) => tracing::info!(
                providers = rules.providers.len(),
                routes = rules.routes.len(),
                digest = %format_args!("{:08x}", rules.digest),
                "rules reloaded"
            ),
            Err(problems) => tracing::error!("{}", unchanged(problems, rules.loaded_at)),
        }
    }
}

/// `2 problems; nothing was changed, the rules of 14:02:11 stay in force.`
fn unchanged(problems: &[Problem], since: UnixMicros) -> String {
    let wrong = part(problems.to_vec()).0.len();
    let plural = if wrong == 1 { "" } else { "s" };
    let since = jiff::Timestamp::from_microsecond(since.0).unwrap_or_default();
    format!(
        "{wrong} problem{plural}; nothing was changed, the rules of {} stay in force.",
        since.strftime("%F %T UTC")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_reload_says_what_stays() {
        let problem = Problem::of_file("rules/a.toml", "x", "y");
        let warning = Problem {
            warning: true,
            ..problem.clone()
        };
        assert_eq!(
            unchanged(&[problem, warning], UnixMicros(1_700_000_000_000_000)),
            "1 problem; nothing was changed, the rules of 2023-11-14 22:13:20 UTC stay in force."
        );
    }

    #[test]
    fn only_a_change_reloads_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let write = |text: &str| std::fs::write(folder.path().join("a.toml"), text).unwrap();
        write("# 1");
        let clock = Clock::manual(UnixMicros(0));
        let (rules, _) = super::super::compile(folder.path(), &clock).unwrap();
        let live = Live::new(folder.path().to_owned(), rules, clock);
        write("# 1");
        std::fs::write(folder.path().join("other.txt"), "x").unwrap();
        assert!(live.reload_if_changed().is_none(), "touched, and another file");
        write("# 2");
        assert!(live.reload_if_changed().is_some_and(|result| result.is_ok()));
        write("[[");
        assert!(live.reload_if_changed().is_some_and(|result| result.is_err()));
        assert!(
            live.reload_if_changed().is_none(),
            "what was refused is not tried again"
        );
        write("# 2");
        assert!(
            live.reload_if_changed().is_some(),
            "back to good is a change from what was refused"
        );
        assert!(live.status().ok);
    }
}
