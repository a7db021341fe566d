//! The two threads behind the journal: the writer and the syncer.

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::config::Durability;

use super::LedgerError;
use super::disk::{self, free_space, is_full, is_passing};
use super::journal::{BUFFER_KEPT, Buffer, Journal, LONG_NAP, NAP};
use super::metrics::metrics;
use super::segment::{self, Position, io_error};

/// How often free disk space is looked at, and the longest sleep of either thread.
const TICK: Duration = Duration::from_secs(1);

/// Makes the first segment, synced, so that a journal which can't be written is found at the start.
pub(super) fn prepare(journal: &Journal) -> Result<(), LedgerError> {
    let folder = &journal.settings.folder;
    journal.files.lock().folder = Some(Arc::new(File::open(folder).map_err(io_error(folder))?));
    match next_segment(journal) {
        // What is left of the room is for this too: requests are refused, but operating the gateway works.
        Err(LedgerError::Io { source, .. }) if is_full(&source) && disk::drop_ballast(&journal.settings.folder) => {
            next_segment(journal)?;
        }
        made => made?,
    }
    sync(journal)?;
    check_disk(journal);
    Ok(())
}

/// What became of what waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrote {
    Nothing,
    All,
    /// There is no room: it waits on, in the batch.
    Stuck,
}

/// The writer thread's life.
pub(super) fn write(journal: &Journal) {
    journal.writer.is_me();
    let mut napped = false;
    let mut seen = 0;
    let mut stop_by = None::<Instant>;
    let mut rotate_from = Instant::now();
    loop {
        let stopping = journal.stopping.load(Ordering::SeqCst);
        let helped = journal.written.load(Ordering::Relaxed) > seen;
        let wrote = {
            let mut batch = journal.writing.lock();
            write_waiting(journal, &mut batch).and_then(|wrote| {
                // Only here: a new file waits for the disk. An empty one is never left for another.
                let offset = journal.end.lock().position.offset;
                let is_full_size =
                    offset >= journal.settings.segment && offset > crate::store::frames::HEADER_LEN as u64;
                if is_full_size && wrote != Wrote::Stuck && Instant::now() >= rotate_from {
                    match next_segment(journal) {
                        // The segment grows beyond its size meanwhile.
                        Err(LedgerError::Io { source, .. }) if is_full(&source) || is_passing(&source) => {
                            rotate_from = Instant::now() + TICK;
                        }
                        made => made?,
                    }
                }
                if wrote == Wrote::Stuck {
                    let waiting = batch.bytes.len() + journal.buffer.lock().bytes.len();
                    let late =
                        stopping && Instant::now() >= *stop_by.get_or_insert_with(|| Instant::now() + disk::STOP_WAIT);
                    if waiting > disk::WAITING_MAX || late {
                        return Err(LedgerError::DiskFull);
                    }
                }
                Ok(wrote)
            })
        };
        seen = journal.written.load(Ordering::Relaxed);
        let nap = if helped { LONG_NAP } else { NAP };
        match wrote {
            Err(e) => {
                journal.fail(&e);
                return;
            }
            Ok(Wrote::Stuck) => std::thread::sleep(disk::RETRY_EVERY),
            // Handed over while this thread held the lock.
            Ok(_) if journal.is_wanted() => {}
            Ok(Wrote::All) => {
                journal.writer.nap(nap);
                napped = true;
            }
            Ok(Wrote::Nothing) => {
                if stopping {
                    return;
                }
                if napped {
                    journal.writer.sleep(TICK, || {
                        journal.buffer.lock().bytes.is_empty() && !journal.stopping.load(Ordering::SeqCst)
                    });
                } else {
                    journal.writer.nap(nap);
                }
                napped = !napped;
            }
        }
    }
}

/// Writes what waits in the buffer. `batch` is what [`Journal::writing`] guards; what found no room stays in it, and goes first.
pub(super) fn write_waiting(journal: &Journal, batch: &mut Buffer) -> Result<Wrote, LedgerError> {
    if batch.bytes.is_empty() {
        let mut buffer = journal.buffer.lock();
        std::mem::swap(&mut buffer.bytes, &mut batch.bytes);
        batch.number = buffer.number;
        batch.opened = std::mem::take(&mut buffer.opened);
        batch.closed = std::mem::take(&mut buffer.closed);
    }
    if batch.bytes.is_empty() {
        // A record that could not be encoded has a number and no bytes: nobody is to wait for it.
        if batch.number > journal.written.load(Ordering::Acquire) {
            journal.written.store(batch.number, Ordering::SeqCst);
            journal.progress.notify_waiters();
        }
        return Ok(Wrote::Nothing);
    }
    if !write_batch(journal, batch)? {
        return Ok(Wrote::Stuck);
    }
    batch.bytes.clear();
    if batch.bytes.capacity() > BUFFER_KEPT {
        batch.bytes = Vec::new();
    }
    Ok(Wrote::All)
}

/// False: there is no room.
fn write_batch(journal: &Journal, batch: &Buffer) -> Result<bool, LedgerError> {
    let Some((path, file)) = journal.files.lock().current.clone() else {
        return Ok(true);
    };
    let offset = journal.end.lock().position.offset;
    let append = || disk::append(&journal.settings.write, &file, &batch.bytes, offset).map_err(io_error(&path));
    let mut fits = append()?;
    if !fits && disk::drop_ballast(&journal.settings.folder) {
        tracing::warn!("the disk is full: the ballast was removed, so that what is under way can be entered");
        fits = append()?;
    }
    if journal.stuck.swap(!fits, Ordering::SeqCst) == fits {
        if fits {
            tracing::info!("the journal can be written again");
        } else {
            tracing::error!("the disk is full: nothing is admitted, and what is under way waits in memory");
        }
    }
    if !fits {
        return Ok(false);
    }
    let end = {
        let mut end = journal.end.lock();
        end.position.offset += batch.bytes.len() as u64;
        end.bytes += batch.bytes.len() as u64;
        *end
    };
    journal.written.store(batch.number, Ordering::SeqCst);
    journal.progress.notify_waiters();
    journal.syncer.wake_if_asleep();
    journal.ingest.grown(end.bytes);
    if let Some(metrics) = metrics() {
        metrics.opened.inc_by(batch.opened);
        metrics.closed.inc_by(batch.closed);
    }
    Ok(true)
}

fn next_segment(journal: &Journal) -> Result<(), LedgerError> {
    let settings = &journal.settings;
    let number = journal.end.lock().position.segment + 1;
    let room = disk::room_ahead(&settings.folder, settings.segment, settings.min_free);
    let (path, file) = segment::create(&settings.folder, &journal.boot, number, journal.salt, room)?;
    {
        let mut files = journal.files.lock();
        let full = files.current.replace((path, Arc::new(file)));
        files.retired.extend(full);
        files.new_name = true;
    }
    let mut end = journal.end.lock();
    end.position = Position {
        segment: number,
        offset: crate::store::frames::HEADER_LEN as u64,
    };
    end.bytes += end.position.offset;
    Ok(())
}

/// The syncer thread's life.
pub(super) fn keep_synced(journal: &Journal) {
    journal.syncer.is_me();
    let mut last_sync = None::<Instant>;
    let mut last_tick = Instant::now();
    loop {
        let stopping = journal.stopping.load(Ordering::SeqCst);
        if last_tick.elapsed() >= TICK {
            last_tick = Instant::now();
            check_disk(journal);
            show(journal);
        }
        if journal.failed.load(Ordering::Acquire) {
            return;
        }
        let is_idle = || journal.synced.load(Ordering::Relaxed) >= journal.written.load(Ordering::SeqCst);
        if is_idle() {
            if stopping && journal.writer_ended.load(Ordering::SeqCst) {
                // A row may have been handed over when the writer had looked for the last time.
                write_the_last(journal);
                // What was written just now is to be synced too.
                if is_idle() && journal.queued() == 0 {
                    show(journal);
                    return;
                }
            }
            let time = if stopping { NAP } else { TICK };
            journal.syncer.sleep(time, is_idle);
            continue;
        }
        let wait = match journal.settings.durability {
            _ if journal.hurry.swap(false, Ordering::SeqCst) => None,
            Durability::Power => None, // somebody waits for it; records that come meanwhile are the next group
            Durability::Process => last_sync
                .map(|last| journal.settings.sync_every.saturating_sub(last.elapsed()))
                .filter(|wait| !wait.is_zero() && !stopping),
        };
        if let Some(wait) = wait {
            journal.syncer.nap(wait.min(TICK));
            continue;
        }
        let start = Instant::now();
        last_sync = Some(start);
        if let Err(e) = sync(journal) {
            journal.fail(&e);
            return;
        }
        if let Some(metrics) = metrics() {
            metrics.sync_seconds.observe(start.elapsed().as_secs_f64());
        }
    }
}

/// Writes what was handed over after the writer ended.
fn write_the_last(journal: &Journal) {
    // The writer is there as long as it holds this.
    if let Some(mut batch) = journal.writing.try_lock()
        && let Err(error) = write_waiting(journal, &mut batch)
    {
        journal.fail(&error);
    }
}

/// Syncs all that is written by now.
fn sync(journal: &Journal) -> Result<(), LedgerError> {
    // The number first: what it counts is in one of the files taken after it.
    let number = journal.written.load(Ordering::Acquire);
    let end = *journal.end.lock();
    let (files, folder) = {
        let mut files = journal.files.lock();
        let mut all = std::mem::take(&mut files.retired);
        all.extend(files.current.clone());
        let new_name = std::mem::take(&mut files.new_name);
        (all, files.folder.clone().filter(|_| new_name))
    };
    for (path, file) in &files {
        file.sync_data().map_err(io_error(path))?;
    }
    if let Some(folder) = folder {
        folder.sync_all().map_err(io_error(&journal.settings.folder))?;
    }
    *journal.synced_end.lock() = end;
    journal.synced.store(number, Ordering::Release);
    if journal.settings.durability == Durability::Power {
        journal.progress.notify_waiters();
    }
    Ok(())
}

fn check_disk(journal: &Journal) {
    let settings = &journal.settings;
    match free_space(&settings.folder) {
        Ok(free) => {
            let full = free < settings.min_free;
            if journal.disk_full.swap(full, Ordering::Relaxed) != full {
                if full {
                    tracing::error!(
                        free,
                        min_free = settings.min_free,
                        "the disk is nearly full: requests are refused"
                    );
                } else {
                    tracing::info!(free, "there is disk space again: requests are admitted");
                }
            }
        }
        Err(e) => {
            tracing::warn!(error = %e, folder = %settings.folder.display(), "free disk space can't be read");
        }
    }
}

fn show(journal: &Journal) {
    if let Some(metrics) = metrics() {
        metrics.queue.set(journal.queued().cast_signed());
        metrics.open.set(journal.open.load(Ordering::Relaxed).cast_signed());
    }
}
