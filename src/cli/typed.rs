//! A secret that is typed or piped in: never an argument, which other users see in the list of processes and the shell keeps in
//! its history.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

use super::Failure;
use crate::config::Secret;

/// Longest that is read.
const MAX: u64 = 16 << 10;

/// A secret on its way to the gateway.
pub struct Typed(Secret);

/// The one place where a secret is written into a request's body.
impl Serialize for Typed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose())
    }
}

impl Typed {
    /// From standard input: its first and only line. At a terminal it is asked for, and what is typed does not show.
    pub fn read(what: &str) -> Result<Self, Failure> {
        let stdin = io::stdin();
        let mut text = Zeroizing::new(String::with_capacity(MAX as usize + 1));
        let mut bounded = stdin.lock().take(MAX + 1);
        if stdin.is_terminal() {
            eprint!("{what}: ");
            io::stderr().flush()?;
            let silence = Silence::begin()?;
            bounded.read_line(&mut text)?;
            drop(silence);
            eprintln!();
        } else {
            bounded.read_to_string(&mut text)?;
        }
        if text.len() as u64 > MAX {
            return Err(Failure::Given(format!("{what} is longer than {MAX} bytes")));
        }
        match text.trim() {
            "" => Err(Failure::Given(format!(
                "nothing was given: type {what}, or pipe it in (`< FILE`)"
            ))),
            line if line.contains(['\n', '\r']) => Err(Failure::Given(format!("{what} must be a single line"))),
            line => Ok(Typed(Secret::new(line))),
        }
    }
}

/// While it lives, the terminal does not show what is typed.
struct Silence(Termios);

impl Silence {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &silent)?;
        Ok(Silence(before))
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // What else could be done about a terminal that is gone?
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
