//! Runs a program that prints a secret.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use super::{CredentialErrorKind, SECRET_BYTES_MAX, read_capped};

/// Time limit of a program. A password manager that uses the network is faster; one that prompts
/// for input never finishes.
pub(super) const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// Interval and number of the checks for the exit of a program that has closed its output.
const EXIT_POLL_INTERVAL: Duration = Duration::from_millis(10);
const EXIT_POLLS_MAX: u32 = 100;

/// Runs a program with its arguments and returns its output, at most
/// [`SECRET_BYTES_MAX`] bytes.
///
/// It gets no input, and its error output is dropped, because it may hold the secret. The program
/// and its children are one process group, so that all of them are killed at the time limit.
pub(super) fn run_command(argv: &[String]) -> Result<Vec<u8>, CredentialErrorKind> {
    run_with_timeout(argv, COMMAND_TIMEOUT)
}

fn run_with_timeout(argv: &[String], timeout: Duration) -> Result<Vec<u8>, CredentialErrorKind> {
    let (program, arguments) = argv.split_first().ok_or(CredentialErrorKind::Empty)?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(CredentialErrorKind::CommandNotStarted)?;
    let result = read_output(&mut child, timeout).and_then(|output| {
        if output.len() > SECRET_BYTES_MAX {
            return Err(CredentialErrorKind::TooLarge);
        }
        wait_for_success(&mut child).map(|()| output)
    });
    // A program that exited is not killed: its process id may belong to another process by now.
    if !matches!(result, Ok(_) | Err(CredentialErrorKind::CommandFailed(_))) {
        kill_process_tree(&mut child);
    }
    result
}

/// Reads the output on a separate thread, because reading a pipe has no timeout. The thread ends
/// when the pipe is closed.
fn read_output(child: &mut Child, timeout: Duration) -> Result<Vec<u8>, CredentialErrorKind> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let Some(mut output) = child.stdout.take() else { return Err(CredentialErrorKind::Empty) };
    thread::spawn(move || {
        // After the timeout there is no receiver.
        drop(sender.send(read_capped(&mut output)));
    });
    match receiver.recv_timeout(timeout) {
        Ok(result) => result.map_err(CredentialErrorKind::Unreadable),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            Err(CredentialErrorKind::CommandTimedOut)
        }
    }
}

fn wait_for_success(child: &mut Child) -> Result<(), CredentialErrorKind> {
    for _ in 0..EXIT_POLLS_MAX {
        match child.try_wait().map_err(CredentialErrorKind::Unreadable)? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(CredentialErrorKind::CommandFailed(status)),
            None => thread::park_timeout(EXIT_POLL_INTERVAL),
        }
    }
    Err(CredentialErrorKind::CommandTimedOut)
}

/// Kills the program and its children. Those that have already exited cause no error.
fn kill_process_tree(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        kill_process_group(group, Signal::KILL).ok();
    }
    child.wait().ok();
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode};

    fn shell_command(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[test]
    fn the_output_of_a_program_is_read() {
        assert_eq!(
            run_command(&shell_command("echo open sesame")).expect("it succeeds"),
            b"open sesame\n"
        );
    }

    #[test]
    fn arguments_are_passed_unchanged() {
        let argv = ["printf", "%s", "$HOME; `id` *"].map(str::to_owned);

        assert_eq!(run_command(&argv).expect("it succeeds"), b"$HOME; `id` *");
    }

    #[test]
    fn a_failed_program_gives_no_secret() {
        let result = run_command(&shell_command("echo secret; exit 3"));

        assert!(
            matches!(result, Err(CredentialErrorKind::CommandFailed(status)) if status.code() == Some(3))
        );
    }

    #[test]
    fn a_missing_program_is_reported() {
        let result = run_command(&["/nonexistent/program".to_owned()]);

        assert!(matches!(result, Err(CredentialErrorKind::CommandNotStarted(_))));
    }

    #[test]
    fn a_hanging_program_is_killed() {
        let result = run_with_timeout(&shell_command("sleep 600"), Duration::from_millis(50));

        assert!(matches!(result, Err(CredentialErrorKind::CommandTimedOut)));
    }

    #[test]
    fn an_endless_program_is_killed_with_its_children() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let pipe = folder.path().join("pipe");
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(CWD, &pipe, FileType::Fifo, mode, 0).expect("pipes can be made");
        let script = format!("exec 3>{}; sleep 600 & yes", pipe.display());
        // Reading the pipe ends when the last process that has it open has exited.
        let all_ended = thread::spawn(move || fs_err::read(pipe));

        assert!(matches!(run_command(&shell_command(&script)), Err(CredentialErrorKind::TooLarge)));
        assert_eq!(all_ended.join().expect("it does not panic").expect("it is a pipe"), b"");
    }

    #[test]
    fn a_program_gets_no_input() {
        assert_eq!(run_command(&shell_command("cat; echo done")).expect("it succeeds"), b"done\n");
    }
}
