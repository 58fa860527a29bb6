//! Records what a server answers as a trace, which `simulate` replays: from a thread of its own, so that
//! no disk holds up the work.
//!
//! A trace goes on where an earlier run left it. At the first trouble a run records no more: lines that
//! are missing in between would tell of another server.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing::error;

use crate::human::{format_bytes, format_count};
use crate::simulate::{TRACE_BYTES_MAX, Trace};
use crate::source::{ResponseRecord, ResponseRecorder};
use crate::worker::{Env, RealEnv};

/// Lines that wait to be written, in bytes: some twenty thousand answers, for a disk that is busy.
const PENDING_BYTES_MAX: usize = 4 << 20;

/// How every line begins.
const LINE_PREFIX: &[u8] = b"{\"at\":\"";

/// No line is longer, with every byte of its headers escaped.
const LINE_BYTES_MAX: u64 = 16 * 1024;

/// How long the last lines may take when the program ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// A trace that is being written.
#[derive(Debug)]
pub(super) struct TraceWriter {
    queue: Arc<LineQueue>,
    /// How many answers were recorded, once all are written; nothing where they could not be.
    written_count: Receiver<u64>,
}

/// Where lines are left for the thread.
#[derive(Debug)]
struct LineQueue {
    path: PathBuf,
    pending: Mutex<PendingLines>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct PendingLines {
    text: String,
    records: u64,
    /// No more is taken.
    is_closed: bool,
}

impl TraceWriter {
    /// Opens the file, or makes it, and starts the thread.
    ///
    /// # Errors
    /// A sentence, where it can't be written or holds something else.
    pub(super) fn start(path: &Path) -> Result<Self, String> {
        let (file, length) = open_trace(path)?;
        Self::spawn(file, length, path).map_err(|error| format!("cannot record: {error}"))
    }

    fn spawn(file: File, length: u64, path: &Path) -> io::Result<Self> {
        let (waiting, news) = (Mutex::default(), Condvar::new());
        let desk = Arc::new(LineQueue { path: path.to_owned(), pending: waiting, changed: news });
        let (done, written) = mpsc::channel();
        let shared = Arc::clone(&desk);
        thread::Builder::new().name("recording".to_owned()).spawn(move || {
            match shared.write_all(file, length) {
                // Whoever ends may have stopped waiting.
                Ok(answers) => drop(done.send(answers)),
                Err(why) => shared.fail(shared.lock(), &why),
            }
        })?;
        Ok(Self { queue: desk, written_count: written })
    }

    /// What hears the answers.
    pub(super) fn recorder(&self) -> ResponseRecorder {
        let (desk, began) = (Arc::clone(&self.queue), RealEnv.time());
        ResponseRecorder::new(move |ResponseRecord { status, latency: took, headers }| {
            let now = RealEnv.time();
            // By the clock as it was: one that is set must neither stretch nor fold the trace.
            let at = began.booted_at.after(now.wall.since(now.booted_at));
            desk.push(&Trace::to_json_line(at, status, took, headers));
        })
    }

    /// Waits for the last lines, and returns what is to be said of them, unless there are none or trouble was told.
    pub(super) fn finish(self) -> Option<String> {
        self.queue.lock().is_closed = true;
        self.queue.changed.notify_one();
        let answers =
            self.written_count.recv_timeout(FLUSH_TIMEOUT).ok().filter(|answers| *answers > 0)?;
        let path = self.queue.path.display();
        Some(format!(
            "recorded {} answers; `cynosure simulate {path}` replays them",
            format_count(answers)
        ))
    }
}

impl LineQueue {
    fn lock(&self) -> MutexGuard<'_, PendingLines> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &str) {
        let mut waiting = self.lock();
        if waiting.is_closed {
            return;
        }
        if waiting.text.len() + line.len() <= PENDING_BYTES_MAX {
            waiting.text.push_str(line);
            waiting.records += 1;
            self.changed.notify_one();
            return;
        }
        self.fail(waiting, "the disk is too slow");
    }

    /// Takes no more, and says why.
    fn fail(&self, mut waiting: MutexGuard<'_, PendingLines>, why: &str) {
        waiting.is_closed = true;
        drop(waiting);
        self.changed.notify_one();
        error!(file = %self.path.display(), "recording has ended, and the work goes on: {why}");
    }

    /// Writes until it is over, whole lines at a time, and returns how many.
    fn write_all(&self, mut file: File, mut length: u64) -> Result<u64, String> {
        loop {
            let nothing =
                |waiting: &mut PendingLines| waiting.text.is_empty() && !waiting.is_closed;
            let waited = self.changed.wait_while(self.lock(), nothing);
            let mut waiting = waited.unwrap_or_else(PoisonError::into_inner);
            let (text, answers, is_over) =
                (std::mem::take(&mut waiting.text), waiting.records, waiting.is_closed);
            drop(waiting);
            let longer = length + text.len() as u64;
            if longer > TRACE_BYTES_MAX {
                return Err(format!(
                    "`simulate` reads no more than {}",
                    format_bytes(TRACE_BYTES_MAX)
                ));
            }
            if let Err(error) = file.write_all(text.as_bytes()) {
                // A line that broke off would be in the way of what is appended later.
                file.set_len(length).ok();
                return Err(format!("cannot write: {error}"));
            }
            length = longer;
            if is_over {
                return Ok(answers);
            }
        }
    }
}

/// Opens a trace to be gone on with, and returns its length.
fn open_trace(path: &Path) -> Result<(File, u64), String> {
    let shown = path.display();
    let cannot = |error: io::Error| {
        format!("cannot record into {shown}: {error}; name a file that can be written")
    };
    let mut options = OpenOptions::new();
    let file = options.read(true).append(true).create(true).mode(0o600).open(path);
    let mut file = file.map_err(cannot)?;
    if !file.metadata().map_err(cannot)?.is_file() {
        return Err(format!("cannot record into {shown}: it is no plain file"));
    }
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(format!("another process records into {shown}; name another file"));
        }
        Err(TryLockError::Error(error)) => return Err(cannot(error)),
    }
    let length = file.metadata().map_err(cannot)?.len();
    let head = read_chunk(&mut file, 0).map_err(cannot)?;
    let tail = read_chunk(&mut file, length.saturating_sub(LINE_BYTES_MAX)).map_err(cannot)?;
    let first = head.iter().position(|byte| *byte == b'\n').map(|end| &head[..end]);
    let last = tail.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    let begun = &last[..last.len().min(LINE_PREFIX.len())];
    if first.is_some_and(|first| !is_trace_line(path, first)) || !LINE_PREFIX.starts_with(begun) {
        return Err(format!(
            "{shown} holds something else than what was recorded before; name another file"
        ));
    }
    if is_trace_line(path, last) {
        file.write_all(b"\n").map_err(cannot)?;
        return Ok((file, length + 1));
    }
    // What a power cut left of a line.
    let length = length - last.len() as u64;
    file.set_len(length).map_err(cannot)?;
    Ok((file, length))
}

/// As much of a file as a line may have.
fn read_chunk(file: &mut File, from: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(from))?;
    file.take(LINE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether a line is one with a date.
fn is_trace_line(path: &Path, line: &[u8]) -> bool {
    let read = Trace::parse(path, &String::from_utf8_lossy(line));
    read.is_ok_and(|trace| trace.records().iter().all(|answer| answer.wall_clock_ms.is_some()))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::RecvError;

    use super::*;

    const LINE: &str = "{\"at\":\"2026-11-22T06:32:09.000Z\",\"status\":200}";

    #[test]
    fn a_full_disk_ends_the_recording_without_blocking() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let recording = TraceWriter::spawn(full, 0, Path::new("t.jsonl")).unwrap();

        recording.queue.push(LINE);
        assert_eq!(recording.written_count.recv(), Err(RecvError));
        recording.queue.push(LINE);

        assert_eq!(recording.queue.lock().text, "");
        assert_eq!(recording.finish(), None);
    }

    #[test]
    fn a_slow_disk_ends_the_recording_without_a_gap() {
        let desk = LineQueue {
            path: PathBuf::from("t.jsonl"),
            pending: Mutex::default(),
            changed: Condvar::new(),
        };
        let half = "x".repeat(PENDING_BYTES_MAX / 2);

        for line in [half.as_str(), &half, LINE, LINE] {
            desk.push(line);
        }
        desk.lock().text.clear();
        desk.push(LINE);

        let waiting = desk.lock();
        assert_eq!((waiting.text.as_str(), waiting.records, waiting.is_closed), ("", 2, true));
    }

    #[test]
    fn an_existing_trace_is_appended_to_and_other_files_rejected() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("t.jsonl");
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

            assert!(open_trace(&path).unwrap_err().contains("something else"), "{foreign}");
            assert_eq!(fs_err::read_to_string(&path).unwrap(), foreign);
        }
    }
}
