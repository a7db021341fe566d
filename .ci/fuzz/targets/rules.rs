//! Rules: any text either compiles or is told off, with a line of the file.
#![no_main]

use std::collections::HashMap;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use tollgate::clock::{Clock, UnixMicros};
use tollgate::rules::compile_with;

fuzz_target!(|input: &[u8]| {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| tempfile::tempdir().expect("a folder")).path();
    std::fs::write(folder.join("rules.toml"), input).expect("a file");
    let environment = HashMap::from([("NAME", "value")]);
    let lines = input.iter().filter(|byte| **byte == b'\n').count() + 1;
    match compile_with(folder, &Clock::manual(UnixMicros(0)), &environment) {
        Ok((_, warnings)) => assert!(
            warnings.iter().all(|problem| problem.warning),
            "what compiles has no faults"
        ),
        Err(problems) => {
            assert!(problems.iter().any(|problem| !problem.warning), "a refusal says why");
            assert!(
                problems.iter().all(|problem| problem.line <= lines),
                "problems name lines of the file"
            );
        }
    }
});
