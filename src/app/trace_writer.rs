//! Trace writer: records a server's responses as a trace, which `simulate` replays. A separate
//! thread writes the file, so that a slow disk does not delay the run.
//!
//! A trace is continued by later runs. After the first error a run records nothing more, because a
//! trace with missing lines would describe a different server.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use cynosure_engine::{format_bytes, format_count};
use cynosure_lab::simulate::{TRACE_BYTES_MAX, Trace};
use tracing::error;

use crate::env::{Env, RealEnv};
use crate::source::{ResponseRecord, ResponseRecorder};

/// Maximum bytes of lines that wait to be written: about 20,000 responses, for a busy disk.
const PENDING_BYTES_MAX: usize = 4 << 20;

/// Prefix of every line.
const LINE_PREFIX: &[u8] = b"{\"at\":\"";

/// Maximum length of a line, in bytes, with every byte of its headers escaped.
const LINE_BYTES_MAX: u64 = 16 * 1024;

/// Maximum time to write the last lines when the program ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Writer of one trace file.
#[derive(Debug)]
pub(crate) struct TraceWriter {
    queue: Arc<LineQueue>,
    /// Receives the number of recorded responses once all are written. Closed if writing failed.
    written_count: Receiver<u64>,
}

/// Queue of lines for the writer thread.
#[derive(Debug)]
struct LineQueue {
    path: PathBuf,
    pending: Mutex<PendingLines>,
    changed: Condvar,
}

/// Lines that are not written yet.
#[derive(Debug, Default)]
struct PendingLines {
    text: String,
    /// Number of responses recorded so far, including the written ones.
    records: u64,
    /// True if no more lines are accepted.
    is_closed: bool,
}

impl TraceWriter {
    /// Opens or creates the file, and starts the writer thread.
    ///
    /// # Errors
    /// A message for users if the file cannot be written, or contains anything other than a trace.
    pub(crate) fn start(path: &Path) -> Result<Self, String> {
        let (file, length) = open_trace(path)?;
        Self::spawn(file, length, path)
            .map_err(|error| format!("cannot start the recording thread: {error}"))
    }

    fn spawn(file: File, length: u64, path: &Path) -> io::Result<Self> {
        let (pending, changed) = (Mutex::default(), Condvar::new());
        let queue = Arc::new(LineQueue { path: path.to_owned(), pending, changed });
        let (count_sender, written_count) = mpsc::channel();
        let shared = Arc::clone(&queue);
        thread::Builder::new().name("recording".to_owned()).spawn(move || {
            match shared.write_all(file, length) {
                // The receiver may have stopped waiting.
                Ok(records) => drop(count_sender.send(records)),
                Err(reason) => shared.fail(shared.lock(), &reason),
            }
        })?;
        Ok(Self { queue, written_count })
    }

    /// Returns the recorder that passes responses to this writer.
    pub(crate) fn recorder(&self) -> ResponseRecorder {
        let (queue, started) = (Arc::clone(&self.queue), RealEnv.time());
        ResponseRecorder::new(move |ResponseRecord { status, latency, headers }| {
            let now = RealEnv.time();
            // Boot time read at the start, plus uptime: a clock step must not change the intervals.
            let at = started.booted_at.after(now.wall.since(now.booted_at));
            queue.push(&Trace::to_json_line(at, status, latency, headers));
        })
    }

    /// Waits for the last lines, and returns a note for users. `None` if nothing was recorded, or
    /// if writing failed, which is logged.
    pub(crate) fn finish(self) -> Option<String> {
        self.queue.lock().is_closed = true;
        self.queue.changed.notify_one();
        let records =
            self.written_count.recv_timeout(FLUSH_TIMEOUT).ok().filter(|records| *records > 0)?;
        let path = self.queue.path.display();
        Some(format!(
            "recorded {} responses; `cynosure simulate {path}` replays them",
            format_count(records)
        ))
    }
}

impl LineQueue {
    fn lock(&self) -> MutexGuard<'_, PendingLines> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &str) {
        let mut pending = self.lock();
        if pending.is_closed {
            return;
        }
        if pending.text.len() + line.len() <= PENDING_BYTES_MAX {
            pending.text.push_str(line);
            pending.records += 1;
            self.changed.notify_one();
            return;
        }
        self.fail(pending, "the disk is too slow");
    }

    /// Closes the queue and logs the reason.
    fn fail(&self, mut pending: MutexGuard<'_, PendingLines>, reason: &str) {
        pending.is_closed = true;
        drop(pending);
        self.changed.notify_one();
        error!(file = %self.path.display(), reason, "recording stopped, the run continues");
    }

    /// Writes whole lines until the queue is closed, and returns the number of responses.
    fn write_all(&self, mut file: File, mut length: u64) -> Result<u64, String> {
        loop {
            let is_idle =
                |pending: &mut PendingLines| pending.text.is_empty() && !pending.is_closed;
            let result = self.changed.wait_while(self.lock(), is_idle);
            let mut pending = result.unwrap_or_else(PoisonError::into_inner);
            let (text, records, is_closed) =
                (std::mem::take(&mut pending.text), pending.records, pending.is_closed);
            drop(pending);
            let new_length = length + text.len() as u64;
            if new_length > TRACE_BYTES_MAX {
                return Err(format!("`simulate` reads at most {}", format_bytes(TRACE_BYTES_MAX)));
            }
            if let Err(error) = file.write_all(text.as_bytes()) {
                // A truncated line must not stay, because later runs append to the file.
                file.set_len(length).ok();
                return Err(format!("cannot write: {error}"));
            }
            length = new_length;
            if is_closed {
                return Ok(records);
            }
        }
    }
}

/// Opens a trace for appending, and returns the file and its length in bytes.
fn open_trace(path: &Path) -> Result<(File, u64), String> {
    let display_path = path.display();
    let to_message = |error: io::Error| {
        format!("cannot record into {display_path}: {error}; name a file that can be written")
    };
    let mut options = OpenOptions::new();
    let file = options.read(true).append(true).create(true).mode(0o600).open(path);
    let mut file = file.map_err(to_message)?;
    if !file.metadata().map_err(to_message)?.is_file() {
        return Err(format!("cannot record into {display_path}: it is not a regular file"));
    }
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(format!("another process records into {display_path}; name another file"));
        }
        Err(TryLockError::Error(error)) => return Err(to_message(error)),
    }
    let length = file.metadata().map_err(to_message)?.len();
    let head = read_chunk(&mut file, 0).map_err(to_message)?;
    let tail = read_chunk(&mut file, length.saturating_sub(LINE_BYTES_MAX)).map_err(to_message)?;
    let first = head.iter().position(|byte| *byte == b'\n').map(|end| &head[..end]);
    let last = tail.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    let prefix = &last[..last.len().min(LINE_PREFIX.len())];
    if first.is_some_and(|first| !is_trace_line(path, first)) || !LINE_PREFIX.starts_with(prefix) {
        return Err(format!(
            "{display_path} contains something other than a trace; name another file"
        ));
    }
    if is_trace_line(path, last) {
        file.write_all(b"\n").map_err(to_message)?;
        return Ok((file, length + 1));
    }
    // Removes an incomplete last line, for example after a power failure.
    let length = length - last.len() as u64;
    file.set_len(length).map_err(to_message)?;
    Ok((file, length))
}

/// Reads at most [`LINE_BYTES_MAX`] bytes from an offset.
fn read_chunk(file: &mut File, from: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(from))?;
    file.take(LINE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// True if the line is a trace line with a timestamp.
fn is_trace_line(path: &Path, line: &[u8]) -> bool {
    let result = Trace::parse(path, &String::from_utf8_lossy(line));
    result.is_ok_and(|trace| trace.records().iter().all(|record| record.wall_clock_ms.is_some()))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::RecvError;

    use super::*;

    const LINE: &str = "{\"at\":\"2026-11-22T06:32:09.000Z\",\"status\":200}";

    #[test]
    fn a_full_disk_ends_the_recording_without_blocking() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let writer = TraceWriter::spawn(full, 0, Path::new("t.jsonl")).unwrap();

        writer.queue.push(LINE);
        assert_eq!(writer.written_count.recv(), Err(RecvError));
        writer.queue.push(LINE);

        assert_eq!(writer.queue.lock().text, "");
        assert_eq!(writer.finish(), None);
    }

    #[test]
    fn a_slow_disk_ends_the_recording_without_a_gap() {
        let queue = LineQueue {
            path: PathBuf::from("t.jsonl"),
            pending: Mutex::default(),
            changed: Condvar::new(),
        };
        let half = "x".repeat(PENDING_BYTES_MAX / 2);

        for line in [half.as_str(), &half, LINE, LINE] {
            queue.push(line);
        }
        queue.lock().text.clear();
        queue.push(LINE);

        let pending = queue.lock();
        assert_eq!((pending.text.as_str(), pending.records, pending.is_closed), ("", 2, true));
    }

    #[test]
    fn an_existing_trace_is_appended_to_and_other_files_rejected() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.jsonl");
        let line = format!("{LINE}\n");
        for (before, after) in [
            (String::new(), String::new()),
            (LINE.to_owned(), line.clone()),
            (line.clone(), line.clone()),
            (LINE[..30].to_owned(), String::new()),
            ("{".to_owned(), String::new()),
            (format!("{line}{}", &LINE[..20]), line.clone()),
            (format!("{line}{LINE}"), line.repeat(2)),
            (line.repeat(1000), line.repeat(1000)),
        ] {
            fs_err::write(&path, &before).unwrap();

            let (_, length) = open_trace(&path).unwrap();

            assert_eq!(fs_err::read_to_string(&path).unwrap(), after);
            assert_eq!(length, after.len() as u64);
        }
        for foreign in [
            "{}",
            "\n",
            "{\"at\":\"x\"}\n",
            &line.replace('{', "["),
            &format!("{line}["),
            &"x".repeat(1 << 20),
        ] {
            fs_err::write(&path, foreign).unwrap();

            assert!(open_trace(&path).unwrap_err().contains("something other"), "{foreign}");
            assert_eq!(fs_err::read_to_string(&path).unwrap(), foreign);
        }
    }
}
