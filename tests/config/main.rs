//! Loading and checking from outside: what is accepted, what each problem says, hot reload, `tollgate check`.

mod alerts;
mod check;
mod conf;
mod egress;
mod fuzz;
mod lint;
mod pools;
mod providers;
mod reload;
mod route_explain;
mod routes;
mod rules;
mod shipped;
mod tables;
mod tls;
mod when;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use tollgate::clock::{Clock, UnixMicros};
use tollgate::config::Problems;
use tollgate::rules::{Rules, compile_with};

/// A folder for one test.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Folder(tempfile::tempdir().unwrap())
    }

    fn with(files: &[(&str, &str)]) -> Self {
        let folder = Folder::new();
        for (name, text) in files {
            folder.write(name, text);
        }
        folder
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Problems as text, with this folder's name taken out.
    fn show(&self, problems: &Problems) -> String {
        let show = |p: &tollgate::config::Problem| {
            let mark = if p.warning { "warning: " } else { "" };
            format!("{mark}{p}\n")
        };
        let text: String = problems.iter().map(show).collect();
        text.replace(&format!("{}/", self.path().display()), "")
            .replace(&self.path().display().to_string(), "FOLDER")
    }

    fn compile(&self, environment: &[(&str, &str)]) -> Result<(Rules, Problems), Problems> {
        let environment: HashMap<&str, &str> = environment.iter().copied().collect();
        compile_with(self.path(), &Clock::manual(UnixMicros(7)), &environment)
    }
}

/// A provider that stands for any.
const PROVIDER: &str = "[provider.a]\ndialects = { openai_chat = \"http://a/v1\" }\nauth = \"none\"\n";
