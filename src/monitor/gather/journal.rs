//! What the unit complained of, as the journal has it (journalctl(1)).

use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::engine::health::{Errors, Known};
use crate::engine::{Moment, printable, span};

const PROGRAM: &str = "journalctl";

/// The newest errors that are read: more only say the same.
const ERRORS_MAX: u32 = 1000;

/// What is read of it, in bytes: that many errors with long stories.
const OUTPUT_BYTES_MAX: u64 = 4 << 20;

/// What is read of its complaints, in bytes.
const COMPLAINT_BYTES_MAX: u64 = 4 << 10;

/// One entry. A message that is not UTF-8 comes as a list of bytes.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "MESSAGE", default)]
    message: Value,
}

/// Counts the errors of `unit` within `window`. It blocks, until the program is ended after `timeout`.
///
/// # Errors
/// Why they are not known, and what to do.
pub(super) fn errors(
    unit: &str,
    window: Duration,
    timeout: Duration,
    now: Moment,
) -> Known<Errors> {
    let mut command = Command::new(PROGRAM);
    command.args(["--priority=err", "--output=json", "--output-fields=MESSAGE", "--no-pager"]);
    command.arg(format!("--lines={ERRORS_MAX}"));
    command.arg(format!("--unit={unit}"));
    command.arg(format!("--since=@{}", now.before(window).unix_seconds()));
    run(command, timeout)
}

fn run(mut command: Command, timeout: Duration) -> Known<Errors> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            return format!("{PROGRAM} is not here");
        }
        format!("{PROGRAM} cannot be started: {error}")
    })?;
    let read = read(&mut child, timeout);
    // Also where all is read: it may not have ended.
    child.kill().ok();
    let ended = child.wait();
    let (errors, complaint) = read?;
    // One that was ended by us, after its last word, was well.
    let failed = ended.is_ok_and(|status| status.code().is_some_and(|code| code != 0));
    match complaint.lines().next() {
        Some(complaint) if failed || errors.count == 0 => Err(format!(
            "{PROGRAM}: {}; let this user read the journal, as members of the group systemd-journal may",
            printable(complaint)
        )),
        Some(_) | None if failed => Err(format!("{PROGRAM} failed")),
        Some(_) | None => Ok(errors),
    }
}

/// Reads on threads of their own, since pipes cannot be read with a time limit; they end with the program.
fn read(child: &mut Child, timeout: Duration) -> Known<(Errors, String)> {
    let (Some(output), Some(complaints)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(format!("{PROGRAM} has no output"));
    };
    let (sender, receiver) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let errors = count(BufReader::new(output.take(OUTPUT_BYTES_MAX)));
        let mut complaint = Vec::new();
        let read = complaints.take(COMPLAINT_BYTES_MAX).read_to_end(&mut complaint);
        let complaint = read.map(|_length| String::from_utf8_lossy(&complaint).into_owned());
        drop(sender.send((errors, complaint.unwrap_or_default())));
    });
    let read = receiver.recv_timeout(timeout);
    let (errors, complaint) =
        read.map_err(|_late| format!("{PROGRAM}: no answer within {}", span(timeout)))?;
    Ok((errors.map_err(|error| format!("{PROGRAM}: {error}"))?, complaint))
}

/// The oldest come first.
fn count(lines: impl BufRead) -> io::Result<Errors> {
    let mut errors = Errors { count: 0, newest: None };
    for line in lines.lines() {
        let Ok(entry) = serde_json::from_str::<Entry>(&line?) else { continue };
        errors.count += 1;
        errors.newest = message(&entry.message).or(errors.newest);
    }
    Ok(errors)
}

fn message(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Array(bytes) => {
            let byte = |value: &Value| u8::try_from(value.as_u64()?).ok();
            let bytes: Vec<u8> = bytes.iter().filter_map(byte).collect();
            String::from_utf8_lossy(&bytes).into_owned()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => return None,
    };
    Some(printable(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Known<Errors> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        run(command, Duration::from_secs(30))
    }

    #[test]
    fn errors_are_counted_and_the_newest_is_quoted() {
        let errors =
            shell("echo '{\"MESSAGE\":\"first\"}'; echo junk; echo '{\"MESSAGE\":[104,105,27]}'")
                .unwrap();

        assert_eq!((errors.count, errors.newest.as_deref()), (2, Some("hi\\u{1b}")));
        assert_eq!(shell("true").unwrap().count, 0);
    }

    #[test]
    fn whatever_keeps_it_from_us_is_told() {
        let told = |script: &str| shell(script).unwrap_err();

        assert!(
            told("echo 'No journal files were opened' >&2; exit 1")
                .contains("opened; let this user")
        );
        assert!(told("echo 'Hint: You are currently not seeing messages' >&2").contains("Hint"));
        assert_eq!(told("exit 1"), "journalctl failed");
        let absent = run(Command::new("/nowhere/journalctl"), Duration::from_secs(1));
        assert_eq!(absent.unwrap_err(), "journalctl is not here");
    }

    #[test]
    fn one_that_hangs_is_ended() {
        let mut command = Command::new("sleep");
        command.arg("600");

        let told = run(command, Duration::from_millis(20)).unwrap_err();

        assert_eq!(told, "journalctl: no answer within 20 ms");
    }
}
