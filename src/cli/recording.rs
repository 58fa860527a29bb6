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
const WAITING_BYTES_MAX: usize = 4 << 20;

/// How every line begins.
const OURS: &[u8] = b"{\"at\":\"";

/// No line is longer, with every byte of its headers escaped.
const LINE_BYTES_MAX: u64 = 16 * 1024;

/// How long the last lines may take when the program ends.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// A trace that is being written.
#[derive(Debug)]
pub(super) struct Recording {
    desk: Arc<Desk>,
    /// How many answers were recorded, once all are written; nothing where they could not be.
    written: Receiver<u64>,
}

/// Where lines are left for the thread.
#[derive(Debug)]
struct Desk {
    path: PathBuf,
    waiting: Mutex<Waiting>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    text: String,
    answers: u64,
    /// No more is taken.
    is_over: bool,
}

impl Recording {
    /// Opens the file, or makes it, and starts the thread.
    ///
    /// # Errors
    /// A sentence, where it can't be written or holds something else.
    pub(super) fn start(path: &Path) -> Result<Self, String> {
        let (file, length) = open(path)?;
        Self::into(file, length, path).map_err(|error| format!("cannot record: {error}"))
    }

    fn into(file: File, length: u64, path: &Path) -> io::Result<Self> {
        let (waiting, news) = (Mutex::default(), Condvar::new());
        let desk = Arc::new(Desk { path: path.to_owned(), waiting, news });
        let (done, written) = mpsc::channel();
        let shared = Arc::clone(&desk);
        thread::Builder::new().name("recording".to_owned()).spawn(move || {
            match shared.write_all(file, length) {
                // Whoever ends may have stopped waiting.
                Ok(answers) => drop(done.send(answers)),
                Err(why) => shared.end(shared.take(), &why),
            }
        })?;
        Ok(Self { desk, written })
    }

    /// What hears the answers.
    pub(super) fn recorder(&self) -> ResponseRecorder {
        let (desk, began) = (Arc::clone(&self.desk), RealEnv.time());
        ResponseRecorder::new(move |ResponseRecord { status, latency: took, headers }| {
            let now = RealEnv.time();
            // By the clock as it was: one that is set must neither stretch nor fold the trace.
            let at = began.booted_at.after(now.wall.since(now.booted_at));
            desk.put(&Trace::to_json_line(at, status, took, headers));
        })
    }

    /// Waits for the last lines, and returns what is to be said of them, unless there are none or trouble was told.
    pub(super) fn close(self) -> Option<String> {
        self.desk.take().is_over = true;
        self.desk.news.notify_one();
        let answers = self.written.recv_timeout(CLOSE_LIMIT).ok().filter(|answers| *answers > 0)?;
        let path = self.desk.path.display();
        Some(format!(
            "recorded {} answers; `cynosure simulate {path}` replays them",
            format_count(answers)
        ))
    }
}

impl Desk {
    fn take(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, line: &str) {
        let mut waiting = self.take();
        if waiting.is_over {
            return;
        }
        if waiting.text.len() + line.len() <= WAITING_BYTES_MAX {
            waiting.text.push_str(line);
            waiting.answers += 1;
            self.news.notify_one();
            return;
        }
        self.end(waiting, "the disk is too slow");
    }

    /// Takes no more, and says why.
    fn end(&self, mut waiting: MutexGuard<'_, Waiting>, why: &str) {
        waiting.is_over = true;
        drop(waiting);
        self.news.notify_one();
        error!(file = %self.path.display(), "recording has ended, and the work goes on: {why}");
    }

    /// Writes until it is over, whole lines at a time, and returns how many.
    fn write_all(&self, mut file: File, mut length: u64) -> Result<u64, String> {
        loop {
            let nothing = |waiting: &mut Waiting| waiting.text.is_empty() && !waiting.is_over;
            let waited = self.news.wait_while(self.take(), nothing);
            let mut waiting = waited.unwrap_or_else(PoisonError::into_inner);
            let (text, answers, is_over) =
                (std::mem::take(&mut waiting.text), waiting.answers, waiting.is_over);
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
fn open(path: &Path) -> Result<(File, u64), String> {
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
    let head = part(&mut file, 0).map_err(cannot)?;
    let tail = part(&mut file, length.saturating_sub(LINE_BYTES_MAX)).map_err(cannot)?;
    let first = head.iter().position(|byte| *byte == b'\n').map(|end| &head[..end]);
    let last = tail.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    let begun = &last[..last.len().min(OURS.len())];
    if first.is_some_and(|first| !is_answer(path, first)) || !OURS.starts_with(begun) {
        return Err(format!(
            "{shown} holds something else than what was recorded before; name another file"
        ));
    }
    if is_answer(path, last) {
        file.write_all(b"\n").map_err(cannot)?;
        return Ok((file, length + 1));
    }
    // What a power cut left of a line.
    let length = length - last.len() as u64;
    file.set_len(length).map_err(cannot)?;
    Ok((file, length))
}

/// As much of a file as a line may have.
fn part(file: &mut File, from: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(from))?;
    file.take(LINE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether a line is one with a date.
fn is_answer(path: &Path, line: &[u8]) -> bool {
    let read = Trace::parse(path, &String::from_utf8_lossy(line));
    read.is_ok_and(|trace| trace.records().iter().all(|answer| answer.wall_clock_ms.is_some()))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::RecvError;

    use super::*;

    const LINE: &str = "{\"at\":\"2026-11-22T06:32:09.000Z\",\"status\":200}";

    #[test]
    fn a_disk_that_takes_nothing_ends_the_recording_and_holds_up_nobody() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let recording = Recording::into(full, 0, Path::new("t.jsonl")).unwrap();

        recording.desk.put(LINE);
        assert_eq!(recording.written.recv(), Err(RecvError));
        recording.desk.put(LINE);

        assert_eq!(recording.desk.take().text, "");
        assert_eq!(recording.close(), None);
    }

    #[test]
    fn a_disk_that_is_too_slow_ends_it_rather_than_leaving_a_gap() {
        let desk = Desk {
            path: PathBuf::from("t.jsonl"),
            waiting: Mutex::default(),
            news: Condvar::new(),
        };
        let half = "x".repeat(WAITING_BYTES_MAX / 2);

        for line in [half.as_str(), &half, LINE, LINE] {
            desk.put(line);
        }
        desk.take().text.clear();
        desk.put(LINE);

        let waiting = desk.take();
        assert_eq!((waiting.text.as_str(), waiting.answers, waiting.is_over), ("", 2, true));
    }

    #[test]
    fn what_is_there_is_gone_on_with_from_a_line_of_its_own_or_left_alone() {
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

            let (_, length) = open(&path).unwrap();

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

            assert!(open(&path).unwrap_err().contains("something else"), "{foreign}");
            assert_eq!(fs_err::read_to_string(&path).unwrap(), foreign);
        }
    }
}
