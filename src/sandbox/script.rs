//! What a model name asks the sandbox to do: `[sandbox/]NAME[,option=value]...`.
//!
//! | option | means | bound |
//! | --- | --- | --- |
//! | `tokens=N` | words of the answer (default 16) | 1,000,000 |
//! | `chunk=N` | words per stream event (default 1) | 1 to 1,000,000 |
//! | `pace=10ms` | wait between stream events | 60 s |
//! | `first=200ms` | wait before the header | 10 min |
//! | `prompt=N` | input tokens reported (default: words of the request) | 1,000,000,000 |
//! | `cached=N` | of these, read from a cache | `prompt` |
//! | `reasoning=N` | reasoning tokens, visible where the dialect shows them | 1,000,000 |
//! | `tools=N` | parallel tool calls, if tools are offered (default 1; 0: text all the same) | 32 |
//! | `finish=length\|filter` | why the answer ends | |
//! | `pad=N` | spaces appended to the JSON of each event, or of the whole answer | 1 MiB |
//! | `status=429` | an error of that status, in the dialect's shape | 400 to 599 |
//! | `retry=5` | `Retry-After` of that error, in seconds | one day |
//! | `fault=...` | see [`Fault`] | |
//! | `coding=gzip\|br\|zstd` | content coding, if `accept-encoding` allows it | |
//! | `echo` | the answer is the last user text; the NAME `echo` means the same. With `status`: the error quotes the key sent | |

use std::time::Duration;

/// The table above for `tollgate sandbox --help`.
pub const HELP: &str = "\
Model names: [sandbox/]NAME[,OPTION]...
  tokens=N            words of the answer (16)
  chunk=N             words per stream event (1)
  pace=10ms           wait between stream events
  first=200ms         wait before the header
  prompt=N            input tokens reported (words of the request)
  cached=N            of these, read from a cache
  reasoning=N         reasoning tokens
  tools=N             parallel tool calls, if tools are offered (1)
  finish=length       or filter: why the answer ends
  pad=N               spaces appended to the JSON of each event
  status=429          an error; with retry=5 it carries Retry-After
  fault=hang          never answers
  fault=reset         closes the connection before the header
  fault=cut:N         breaks the connection after N events
  fault=stop:N        ends cleanly after N events, without the last one
  fault=error:N       an error event after N events
  fault=garbage       status 502 and HTML
  fault=length        a wrong Content-Length
  fault=drip          byte by byte
  coding=gzip         or br, zstd: if accept-encoding allows it
  echo                the answer is the last user text (also: the NAME echo);
                      with status=401: the error quotes the key it was sent";

/// Longest answer and longest reasoning, in words.
pub const MAX_TOKENS: u32 = 1_000_000;
/// Largest `prompt`, in tokens.
pub const MAX_PROMPT: u64 = 1_000_000_000;
/// Longest `pace`.
pub const MAX_PACE: Duration = Duration::from_secs(60);
/// Longest `first`.
pub const MAX_FIRST: Duration = Duration::from_secs(600);
/// Most parallel tool calls.
pub const MAX_TOOLS: u32 = 32;
/// Largest `pad`, in bytes.
pub const MAX_PAD: u32 = 1 << 20;
/// Largest `retry`, in seconds.
pub const MAX_RETRY: u32 = 86_400;
/// Words of an answer if the name does not say.
pub const DEFAULT_TOKENS: u32 = 16;

/// Why the answer ends, if not by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EarlyFinish {
    /// `finish=length`: the output limit.
    Length,
    /// `finish=filter`: the content filter, or a refusal.
    Filter,
}

/// What goes wrong. A whole (not streamed) answer counts as one event: `cut` and `stop` leave half of it out, `error`
/// makes it a 500. In a stream they strike after N events, and before the last one in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `hang`: nothing is ever answered.
    Hang,
    /// `reset`: the connection is closed before the header.
    Reset,
    /// `cut:N`: the connection breaks.
    Cut(u32),
    /// `stop:N`: the answer ends cleanly, too early.
    Stop(u32),
    /// `error:N`: an error event, in a stream of status 200.
    Error(u32),
    /// `garbage`: status 502 and HTML, as a proxy in between would answer.
    Garbage,
    /// `length`: `Content-Length` says more than is sent before the connection closes. On a stream too.
    Length,
    /// `drip`: each byte is written and flushed by itself; `pace` then lies between bytes.
    Drip,
}

/// Content coding of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// gzip.
    Gzip,
    /// Brotli.
    Brotli,
    /// zstd.
    Zstd,
}

impl Coding {
    /// As `content-encoding` writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Brotli => "br",
            Coding::Zstd => "zstd",
        }
    }
}

/// A model name, understood. The fields are the options of the module's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Words of the answer.
    pub tokens: u32,
    /// Words per stream event.
    pub chunk: u32,
    /// Wait between stream events.
    pub pace: Duration,
    /// Wait before the header.
    pub first: Duration,
    /// Input tokens to report; `None`: words of the request.
    pub prompt: Option<u64>,
    /// Of the input tokens, those read from a cache.
    pub cached: u64,
    /// Reasoning tokens.
    pub reasoning: u32,
    /// Parallel tool calls.
    pub tools: u32,
    /// Why the answer ends.
    pub finish: Option<EarlyFinish>,
    /// Spaces per event.
    pub pad: usize,
    /// Error status to answer with.
    pub status: Option<u16>,
    /// `Retry-After` of the error, in seconds.
    pub retry: Option<u32>,
    /// What goes wrong.
    pub fault: Option<Fault>,
    /// Content coding, if the request allows it.
    pub coding: Option<Coding>,
    /// The answer is the last user text.
    pub echo: bool,
}

impl Default for Script {
    fn default() -> Self {
        Script {
            tokens: DEFAULT_TOKENS,
            chunk: 1,
            pace: Duration::ZERO,
            first: Duration::ZERO,
            prompt: None,
            cached: 0,
            reasoning: 0,
            tools: 1,
            finish: None,
            pad: 0,
            status: None,
            retry: None,
            fault: None,
            coding: None,
            echo: false,
        }
    }
}

/// Why a model name is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// Nothing before the first comma.
    #[error("the model has no name: say NAME[,option=value]...")]
    NoName,
    /// No such option.
    #[error("unknown option `{0}` in the model name")]
    Unknown(String),
    /// An option stands twice.
    #[error("the option `{0}` stands twice in the model name")]
    Twice(String),
    /// The value is not what the option takes.
    #[error("the option `{option}` of the model name must be {expected}")]
    Value {
        /// Which.
        option: String,
        /// What it takes.
        expected: &'static str,
    },
}

impl Script {
    /// Reads a model name.
    pub fn parse(model: &str) -> Result<Script, ScriptError> {
        let model = model.strip_prefix("sandbox/").unwrap_or(model);
        let mut words = model.split(',');
        let name = words.next().unwrap_or_default().trim();
        if name.is_empty() {
            return Err(ScriptError::NoName);
        }
        let mut script = Script {
            echo: name == "echo",
            ..Script::default()
        };
        let mut seen: Vec<&str> = Vec::new();
        for word in words {
            let (option, value) = match word.split_once('=') {
                Some((option, value)) => (option.trim(), Some(value.trim())),
                None => (word.trim(), None),
            };
            if seen.contains(&option) {
                return Err(ScriptError::Twice(option.to_owned()));
            }
            script.set(option, value)?;
            seen.push(option);
        }
        if script.prompt.is_some_and(|prompt| script.cached > prompt) {
            return Err(ScriptError::Value {
                option: "cached".to_owned(),
                expected: "at most `prompt`",
            });
        }
        Ok(script)
    }

    fn set(&mut self, option: &str, value: Option<&str>) -> Result<(), ScriptError> {
        let wrong = |expected| ScriptError::Value {
            option: option.to_owned(),
            expected,
        };
        let number = |least: u64, most: u64, expected| {
            let number = value.and_then(|v| v.parse::<u64>().ok());
            number
                .filter(|n| (least..=most).contains(n))
                .ok_or_else(|| wrong(expected))
        };
        let small = |least: u32, most: u32, expected| {
            number(u64::from(least), u64::from(most), expected).map(|n| u32::try_from(n).unwrap_or(most))
        };
        let wait = |most: Duration, expected| {
            let wait = value.and_then(|v| humantime::parse_duration(v).ok());
            wait.filter(|w| *w <= most).ok_or_else(|| wrong(expected))
        };
        match option {
            "tokens" => self.tokens = small(0, MAX_TOKENS, "a number up to 1000000")?,
            "chunk" => self.chunk = small(1, MAX_TOKENS, "a number from 1 to 1000000")?,
            "pace" => self.pace = wait(MAX_PACE, "a duration up to 60s, such as 10ms")?,
            "first" => self.first = wait(MAX_FIRST, "a duration up to 10min, such as 200ms")?,
            "prompt" => self.prompt = Some(number(0, MAX_PROMPT, "a number up to 1000000000")?),
            "cached" => self.cached = number(0, MAX_PROMPT, "a number up to 1000000000")?,
            "reasoning" => self.reasoning = small(0, MAX_TOKENS, "a number up to 1000000")?,
            "tools" => self.tools = small(0, MAX_TOOLS, "a number up to 32")?,
            "pad" => self.pad = small(0, MAX_PAD, "a number up to 1048576")? as usize,
            "retry" => self.retry = Some(small(0, MAX_RETRY, "seconds, up to 86400")?),
            "status" => {
                let status = small(400, 599, "an error status from 400 to 599")?;
                self.status = u16::try_from(status).ok();
            }
            "finish" => {
                self.finish = Some(match value {
                    Some("length") => EarlyFinish::Length,
                    Some("filter") => EarlyFinish::Filter,
                    _ => return Err(wrong("`length` or `filter`")),
                });
            }
            "coding" => {
                self.coding = Some(match value {
                    Some("gzip") => Coding::Gzip,
                    Some("br") => Coding::Brotli,
                    Some("zstd") => Coding::Zstd,
                    _ => return Err(wrong("`gzip`, `br` or `zstd`")),
                });
            }
            "echo" => match value {
                None => self.echo = true,
                Some(_) => return Err(wrong("without a value")),
            },
            "fault" => self.fault = Some(value.and_then(Fault::parse).ok_or_else(|| wrong(Fault::EXPECTED))?),
            unknown => return Err(ScriptError::Unknown(unknown.to_owned())),
        }
        Ok(())
    }
}

impl Fault {
    const EXPECTED: &str = "`hang`, `reset`, `cut:N`, `stop:N`, `error:N`, `garbage`, `length` or `drip`";

    fn parse(value: &str) -> Option<Fault> {
        if let Some((kind, after)) = value.split_once(':') {
            let after = after.parse::<u32>().ok()?;
            return match kind {
                "cut" => Some(Fault::Cut(after)),
                "stop" => Some(Fault::Stop(after)),
                "error" => Some(Fault::Error(after)),
                _ => None,
            };
        }
        match value {
            "hang" => Some(Fault::Hang),
            "reset" => Some(Fault::Reset),
            "garbage" => Some(Fault::Garbage),
            "length" => Some(Fault::Length),
            "drip" => Some(Fault::Drip),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_read() {
        let script = Script::parse(
            "sandbox/x,tokens=20,chunk=4,pace=10ms,first=1s,prompt=100,cached=40,reasoning=7,tools=2,finish=length,\
             pad=9,status=429,retry=5,fault=cut:3,coding=br,echo",
        );
        let expected = Script {
            tokens: 20,
            chunk: 4,
            pace: Duration::from_millis(10),
            first: Duration::from_secs(1),
            prompt: Some(100),
            cached: 40,
            reasoning: 7,
            tools: 2,
            finish: Some(EarlyFinish::Length),
            pad: 9,
            status: Some(429),
            retry: Some(5),
            fault: Some(Fault::Cut(3)),
            coding: Some(Coding::Brotli),
            echo: true,
        };
        assert_eq!(script, Ok(expected));
    }

    #[test]
    fn a_plain_name_asks_for_the_defaults_with_or_without_the_prefix() {
        assert_eq!(Script::parse("gpt-9"), Ok(Script::default()));
        assert_eq!(Script::parse("sandbox/gpt-9"), Ok(Script::default()));
        assert!(
            Script::parse("echo").is_ok_and(|s| s.echo),
            "the name `echo` means the option"
        );
    }

    #[test]
    fn what_is_not_understood_names_the_option() {
        for (model, option) in [
            ("x,speed=3", "speed"),
            ("x,tokens=1000001", "tokens"),
            ("x,tokens", "tokens"),
            ("x,chunk=0", "chunk"),
            ("x,pace=61s", "pace"),
            ("x,pace=fast", "pace"),
            ("x,status=200", "status"),
            ("x,fault=explode", "fault"),
            ("x,fault=cut", "fault"),
            ("x,fault=cut:-1", "fault"),
            ("x,pad=1048577", "pad"),
            ("x,tools=33", "tools"),
            ("x,prompt=5,cached=6", "cached"),
            ("x,echo=1", "echo"),
            ("x,tokens=1,tokens=2", "tokens"),
        ] {
            let problem = Script::parse(model).expect_err(model).to_string();
            assert!(problem.contains(&format!("`{option}`")), "{model}: {problem}");
        }
        assert_eq!(Script::parse("sandbox/"), Err(ScriptError::NoName));
        assert_eq!(Script::parse(",tokens=3"), Err(ScriptError::NoName));
    }
}
