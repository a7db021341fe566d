//! An export as it comes from the gateway: to a file that is there only when it is complete, or to standard output.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{HumanBytes, ProgressBar};

use super::lines::line_ends;
use crate::cli::Failure;
use crate::cli::table::grouped;

/// Writes beside the file, then puts it in its place: a file that is there is complete.
pub(super) fn to_file(rows: impl Read, file: &Path) -> Result<(), Failure> {
    let name = file
        .file_name()
        .ok_or_else(|| Failure::Given(format!("--out {}: not a file's name", file.display())))?;
    let mut part_name = name.to_owned();
    part_name.push(".part");
    let part = file.with_file_name(part_name);
    let made = File::create(&part).map_err(|error| Failure::Given(format!("--out {}: {error}", part.display())))?;
    let mut to = BufWriter::new(made);
    let outcome = copy(rows, &mut to)
        .and_then(|lines| {
            to.flush()?;
            to.get_ref().sync_all()?;
            std::fs::rename(&part, file)?;
            Ok(lines)
        })
        .with_context(|| format!("the export is not complete; {} was not written", file.display()));
    match outcome {
        Ok(lines) => {
            eprintln!("{} lines in {}", grouped(lines), file.display());
            Ok(())
        }
        Err(error) => {
            // The part is of no use to anybody; that it could not be removed either is not the news.
            let _ = std::fs::remove_file(&part);
            Err(error.into())
        }
    }
}

pub(super) fn to_stdout(rows: impl Read) -> Result<(), Failure> {
    let mut to = io::stdout().lock();
    match copy(rows, &mut to).and_then(|_| to.flush()) {
        // Whoever read it has enough: `tollgate usage export | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other.context("the export is not complete")?),
    }
}

/// Copies and counts lines; tells how far it is if it takes more than a second and somebody watches.
fn copy(mut from: impl Read, to: &mut impl Write) -> io::Result<u64> {
    const SHOW_AFTER: Duration = Duration::from_secs(1);
    let begun = Instant::now();
    let watched = io::stderr().is_terminal();
    let mut progress: Option<ProgressBar> = None;
    let mut buffer = vec![0; 64 * 1024];
    let (mut lines, mut bytes) = (0, 0);
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // Not to be taken for a broken pipe on our own output.
            Err(error) => return Err(io::Error::other(error)),
        };
        to.write_all(&buffer[..read])?;
        lines += line_ends(&buffer[..read]);
        bytes += read as u64;
        if watched && progress.is_none() && begun.elapsed() > SHOW_AFTER {
            progress = Some(ProgressBar::new_spinner());
        }
        if let Some(progress) = &progress {
            progress.set_message(format!("{} lines, {}", grouped(lines), HumanBytes(bytes)));
            progress.tick();
        }
    }
    if let Some(progress) = progress {
        progress.finish_and_clear();
    }
    Ok(lines)
}
