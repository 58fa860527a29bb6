//! Runs a program that prints a secret.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use super::{Problem, SECRET_BYTES_MAX, read_capped};

/// How long a program may take: a password manager that asks the network answers sooner, one that asks a person never.
pub(super) const TIME_LIMIT: Duration = Duration::from_secs(30);

/// How often, and how many times, a program that has closed its output is asked whether it has ended.
const EXIT_POLL: Duration = Duration::from_millis(10);
const EXIT_POLLS_MAX: u32 = 100;

/// Runs a program with its arguments and returns what it printed, at most a byte more than a secret may have.
///
/// It gets no input and its complaints are dropped, as they may hold the secret. The program and its children are one
/// process group, so that all of them end when the time is up.
pub(super) fn run(words: &[String]) -> Result<Vec<u8>, Problem> {
    run_within(words, TIME_LIMIT)
}

fn run_within(words: &[String], limit: Duration) -> Result<Vec<u8>, Problem> {
    let (program, arguments) = words.split_first().ok_or(Problem::Empty)?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(Problem::CommandNotStarted)?;
    let printed = read_output(&mut child, limit).and_then(|output| {
        if output.len() > SECRET_BYTES_MAX {
            return Err(Problem::TooLarge);
        }
        wait_for_success(&mut child).map(|()| output)
    });
    // One that failed has ended, and its number may be another's by now.
    if !matches!(printed, Ok(_) | Err(Problem::CommandFailed(_))) {
        end(&mut child);
    }
    printed
}

/// Reads on a thread of its own, as a pipe cannot be read with a time limit; the thread ends with the pipe.
fn read_output(child: &mut Child, limit: Duration) -> Result<Vec<u8>, Problem> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let Some(mut output) = child.stdout.take() else { return Err(Problem::Empty) };
    thread::spawn(move || {
        // Nobody listens any more once the time is up.
        drop(sender.send(read_capped(&mut output)));
    });
    match receiver.recv_timeout(limit) {
        Ok(read) => read.map_err(Problem::Unreadable),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            Err(Problem::CommandTimedOut)
        }
    }
}

fn wait_for_success(child: &mut Child) -> Result<(), Problem> {
    for _ in 0..EXIT_POLLS_MAX {
        match child.try_wait().map_err(Problem::Unreadable)? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(Problem::CommandFailed(status)),
            None => thread::park_timeout(EXIT_POLL),
        }
    }
    Err(Problem::CommandTimedOut)
}

/// Kills what is left of the program and its children; that some have ended by themselves is fine.
fn end(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        kill_process_group(group, Signal::KILL).ok();
    }
    child.wait().ok();
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode};

    fn shell(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[test]
    fn what_a_program_prints_is_read() {
        assert_eq!(run(&shell("echo open sesame")).expect("it succeeds"), b"open sesame\n");
    }

    #[test]
    fn arguments_reach_the_program_as_they_are() {
        let words = ["printf", "%s", "$HOME; `id` *"].map(str::to_owned);

        assert_eq!(run(&words).expect("it succeeds"), b"$HOME; `id` *");
    }

    #[test]
    fn a_program_that_fails_gives_no_secret_even_if_it_printed_one() {
        let outcome = run(&shell("echo secret; exit 3"));

        assert!(matches!(outcome, Err(Problem::CommandFailed(status)) if status.code() == Some(3)));
    }

    #[test]
    fn a_program_that_is_not_there_is_not_started() {
        let outcome = run(&["/nonexistent/program".to_owned()]);

        assert!(matches!(outcome, Err(Problem::CommandNotStarted(_))));
    }

    #[test]
    fn a_program_that_hangs_is_ended() {
        let outcome = run_within(&shell("sleep 600"), Duration::from_millis(50));

        assert!(matches!(outcome, Err(Problem::CommandTimedOut)));
    }

    #[test]
    fn a_program_that_prints_for_ever_is_ended_with_its_children() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let pipe = folder.path().join("pipe");
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, mode, 0).expect("pipes can be made");
        let script = format!("exec 3>{}; sleep 600 & yes", pipe.display());
        // The pipe ends when the last program that holds it has ended.
        let all_ended = thread::spawn(move || fs_err::read(pipe));

        assert!(matches!(run(&shell(&script)), Err(Problem::TooLarge)));
        assert_eq!(all_ended.join().expect("it does not panic").expect("it is a pipe"), b"");
    }

    #[test]
    fn a_program_gets_no_input() {
        assert_eq!(run(&shell("cat; echo done")).expect("it succeeds"), b"done\n");
    }
}
