//! Settings as lines which a shell evaluates. Every value is quoted so that the shell takes it as it is.

use std::fmt::Write as _;

use super::clients::Settings;

/// The shells whose lines are known.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    /// POSIX: sh, bash, zsh, dash.
    Sh,
    /// fish.
    Fish,
    /// PowerShell.
    Powershell,
}

impl Shell {
    /// The lines. What is not set stands in comments.
    pub fn write(self, settings: &Settings) -> String {
        let name = settings.target.name();
        let take = match self {
            Shell::Sh => format!("eval \"$(tollgate env {name})\""),
            Shell::Fish => format!("tollgate env {name} --shell fish | source"),
            Shell::Powershell => format!("tollgate env {name} --shell powershell | Out-String | Invoke-Expression"),
        };
        let mut lines = format!("# {take}\n");
        for note in &settings.notes {
            let _ = writeln!(lines, "# {note}");
        }
        for variable in &settings.unset {
            let _ = writeln!(lines, "{}", self.unset(variable));
        }
        for (variable, value) in &settings.variables {
            let _ = writeln!(lines, "{}", self.set(variable, value));
        }
        for (variable, value, why) in &settings.suggested {
            let _ = writeln!(lines, "# Suggested ({why}):\n# {}", self.set(variable, value));
        }
        if let Some(file) = &settings.file {
            let _ = writeln!(lines, "# Also needed, in {} (`--file` prints it alone):", file.path);
            for line in file.text.lines() {
                let _ = writeln!(lines, "{}", format!("#   {line}").trim_end());
            }
            for line in file.how {
                let _ = writeln!(lines, "# {line}");
            }
        }
        lines
    }

    fn set(self, variable: &str, value: &str) -> String {
        let value = self.quoted(value);
        match self {
            Shell::Sh => format!("export {variable}={value}"),
            Shell::Fish => format!("set -gx {variable} {value}"),
            Shell::Powershell => format!("$env:{variable} = {value}"),
        }
    }

    fn unset(self, variable: &str) -> String {
        match self {
            Shell::Sh => format!("unset {variable}"),
            Shell::Fish => format!("set -e {variable}"),
            Shell::Powershell => format!("Remove-Item Env:{variable} -ErrorAction SilentlyContinue"),
        }
    }

    /// Printable ASCII within single quotes, where no shell expands anything.
    fn quoted(self, value: &str) -> String {
        let inside = match self {
            Shell::Sh => value.replace('\'', r"'\''"),
            Shell::Fish => value.replace('\\', r"\\").replace('\'', r"\'"),
            Shell::Powershell => value.replace('\'', "''"),
        };
        format!("'{inside}'")
    }
}
