//! The program's own log (standard error). Targets of others (`pingora*`, `h2`, `rustls` ...) are capped at INFO in code:
//! at DEBUG they print headers, credentials included (PINGORA.md, HARDENING S6). `RUST_LOG` is not read.

use std::fmt;
use std::sync::LazyLock;

use arc_swap::ArcSwapOption;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{Format, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use super::redact::{Masker, is_control, push_escaped};

/// Installs the subscriber, also for what libraries log through the `log` crate, and the panic hook. `level`: error,
/// warn, info, debug; anything else reads as info. The first call counts.
pub fn init(level: &str, json: bool) {
    if subscriber(level, json, std::io::stderr).try_init().is_ok() {
        install_panic_hook();
    }
}

/// From now on these secrets are replaced by `***` in each line of the log. Call it again when the rules have changed.
pub fn mask(masker: Masker) {
    MASKER.store(Some(masker.into()));
}

static MASKER: LazyLock<ArcSwapOption<Masker>> = LazyLock::new(ArcSwapOption::empty);

/// The filter: our own code at the level asked for, everybody else at INFO or less. It names who may be loud, not who
/// may not: a library added later is quiet by itself.
fn filter(level: &str) -> Targets {
    let level = match level {
        "error" => LevelFilter::ERROR,
        "warn" => LevelFilter::WARN,
        "debug" => LevelFilter::DEBUG,
        _ => LevelFilter::INFO,
    };
    // A less verbose level is the smaller one.
    Targets::new()
        .with_default(level.min(LevelFilter::INFO))
        .with_target(env!("CARGO_CRATE_NAME"), level)
}

fn subscriber<W>(level: &str, json: bool, writer: W) -> impl Subscriber + for<'a> LookupSpan<'a> + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(writer);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = if json {
        let format = tracing_subscriber::fmt::format().json().flatten_event(true);
        layer
            .fmt_fields(JsonFields::new())
            .event_format(Escaped(format))
            .boxed()
    } else {
        layer
            .event_format(Escaped(tracing_subscriber::fmt::format().with_ansi(false)))
            .boxed()
    };
    tracing_subscriber::registry().with(layer.with_filter(filter(level)))
}

/// Another format, with known secrets masked and control characters escaped: an event is always one line.
struct Escaped<F>(Format<F>);

impl<S, N, F> FormatEvent<S, N> for Escaped<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    Format<F>: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::with_capacity(256);
        self.0.format_event(context, Writer::new(&mut line), event)?;
        let line = line.strip_suffix('\n').unwrap_or(&line);
        let masker = MASKER.load();
        let line = masker.as_ref().map_or(line.into(), |masker| masker.mask(line));
        if line.chars().any(is_control) {
            let mut escaped = String::with_capacity(line.len() + 16);
            line.chars().for_each(|character| push_escaped(&mut escaped, character));
            out.write_str(&escaped)?;
        } else {
            out.write_str(&line)?;
        }
        out.write_char('\n')
    }
}

/// Says where a panic was, and nothing of what it said: the payload may quote a request (HARDENING S7).
fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let thread = thread.name().unwrap_or("unnamed");
        match panic.location() {
            Some(at) => tracing::error!(thread, file = at.file(), line = at.line(), "panicked"),
            None => tracing::error!(thread, "panicked"),
        }
    }));
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Buffer {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().clone()).expect("UTF-8")
        }
    }

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Buffer {
        type Writer = Buffer;

        fn make_writer(&self) -> Buffer {
            self.clone()
        }
    }

    fn logged(level: &str, json: bool, work: impl FnOnce()) -> String {
        let buffer = Buffer::default();
        let guard = subscriber(level, json, buffer.clone()).set_default();
        work();
        drop(guard);
        buffer.text()
    }

    #[test]
    fn other_targets_are_capped_at_info_whatever_the_level() {
        for json in [false, true] {
            let text = logged("debug", json, || {
                tracing::debug!(target: "pingora_core", "canary one");
                tracing::debug!(target: "pingora_core::protocols::http", "canary two");
                tracing::debug!(target: "h2::codec", "canary three");
                tracing::trace!(target: "rustls", "canary four");
                tracing::debug!(target: "some_new_library", "canary five");
                log::debug!(target: "pingora_core", "canary six");
                log::trace!(target: "pingora_proxy", "canary seven");
                tracing::debug!("ours");
                tracing::info!(target: "pingora_core", "theirs");
                log::info!(target: "pingora_core", "through the log crate");
            });
            assert!(!text.contains("canary"), "printed at DEBUG: {text}");
            for expected in ["ours", "theirs", "through the log crate"] {
                assert!(text.contains(expected), "{expected} is missing: {text}");
            }
        }
    }

    #[test]
    fn the_level_holds_for_all() {
        let text = logged("warn", false, || {
            tracing::info!("canary");
            tracing::info!(target: "pingora_core", "canary");
            tracing::warn!("ours");
        });
        assert!(!text.contains("canary") && text.contains("ours"), "{text}");
    }

    #[test]
    fn an_event_is_one_line_without_control_characters() {
        for json in [false, true] {
            let text = logged("info", json, || {
                tracing::info!(field = "a\nb\u{1b}[2J", "first\nsecond\r\u{9b}\u{2028}\u{7f}");
            });
            assert_eq!(text.matches('\n').count(), 1, "one line: {text:?}");
            assert!(
                !text.trim_end_matches('\n').chars().any(is_control),
                "control characters: {text:?}"
            );
            if json {
                let value: serde_json::Value = serde_json::from_str(&text).expect("a JSON line");
                assert_eq!(value["field"], "a\nb\u{1b}[2J", "JSON keeps the value itself");
            }
        }
    }

    #[test]
    fn known_secrets_are_masked() {
        mask(Masker::new(&[crate::config::Secret::new("sk-log-canary-1")]));
        let text = logged("info", true, || {
            tracing::info!(answer = "bad key sk-log-canary-1", "sk-log-canary-1")
        });
        assert!(!text.contains("canary") && text.contains("***"), "{text}");
    }

    #[test]
    fn a_panic_is_told_by_its_place_only() {
        let text = logged("info", false, || {
            let before = std::panic::take_hook();
            install_panic_hook();
            let outcome = std::panic::catch_unwind(|| panic!("canary {}", "prompt"));
            std::panic::set_hook(before);
            assert!(outcome.is_err());
        });
        assert!(text.contains("log.rs"), "no place: {text}");
        assert!(!text.contains("canary"), "the payload: {text}");
    }
}
