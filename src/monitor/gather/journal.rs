//! What the units complained of, as the journal has it (journalctl(1)).
//!
//! It gives the newest first, so that what is beyond a limit is old.

use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::engine::health::{CollectResult, JournalErrors};
use crate::engine::{Timestamp, format_duration, sanitize_line};

const PROGRAM: &str = "journalctl";

/// The newest errors that are read: more only say the same.
const ERRORS_MAX: u32 = 1000;

/// What is read of it, in bytes: that many errors with long stories.
const OUTPUT_BYTES_MAX: u64 = 4 << 20;

/// What is read of its complaints, in bytes.
const COMPLAINT_BYTES_MAX: u64 = 4 << 10;

/// What is asked of each entry.
const FIELDS: &str = "MESSAGE,_SYSTEMD_UNIT,UNIT,COREDUMP_UNIT,OBJECT_SYSTEMD_UNIT";

/// One entry. A message that is not UTF-8 comes as a list of bytes.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "MESSAGE", default)]
    message: Value,
    /// Whoever wrote it, or the unit that it is about (systemd.journal-fields(7)).
    #[serde(rename = "_SYSTEMD_UNIT", default)]
    by: Value,
    #[serde(rename = "UNIT", default)]
    about: Value,
    #[serde(rename = "COREDUMP_UNIT", default)]
    dumped: Value,
    #[serde(rename = "OBJECT_SYSTEMD_UNIT", default)]
    object: Value,
}

/// Counts the errors of each of the units within `window`. It blocks, until the program is ended after
/// `timeout`.
///
/// # Errors
/// Why they are not known, and what to do.
pub(super) fn errors(
    units: &[String],
    window: Duration,
    timeout: Duration,
    now: Timestamp,
) -> CollectResult<Vec<JournalErrors>> {
    let mut command = Command::new(PROGRAM);
    command.args(["--priority=err", "--output=json", "--no-pager", "--reverse"]);
    command.arg(format!("--output-fields={FIELDS}"));
    command.arg(format!("--lines={ERRORS_MAX}"));
    command.args(units.iter().map(|unit| format!("--unit={unit}")));
    command.arg(format!("--since=@{}", now.before(window).unix_seconds()));
    run(command, units, timeout)
}

fn run(
    mut command: Command,
    units: &[String],
    timeout: Duration,
) -> CollectResult<Vec<JournalErrors>> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            return format!("{PROGRAM} is not here");
        }
        format!("{PROGRAM} cannot be started: {error}")
    })?;
    let read = read(&mut child, units, timeout);
    // Also where all is read: it may not have ended.
    child.kill().ok();
    let ended = child.wait();
    let (errors, complaint) = read?;
    // One that was ended by us, after its last word, was well.
    let failed = ended.is_ok_and(|status| status.code().is_some_and(|code| code != 0));
    match complaint.lines().next() {
        Some(complaint) if failed || errors.iter().all(|of_unit| of_unit.count == 0) => {
            Err(format!(
                "{PROGRAM}: {}; let this user read the journal, as members of the group systemd-journal may",
                sanitize_line(complaint)
            ))
        }
        Some(_) | None if failed => Err(format!("{PROGRAM} failed")),
        Some(_) | None => Ok(errors),
    }
}

/// Reads on threads of their own, since pipes cannot be read with a time limit; they end with the program.
fn read(
    child: &mut Child,
    units: &[String],
    timeout: Duration,
) -> CollectResult<(Vec<JournalErrors>, String)> {
    let (Some(output), Some(complaints)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(format!("{PROGRAM} has no output"));
    };
    let (sender, receiver) = mpsc::sync_channel(1);
    let units = units.to_vec();
    thread::spawn(move || {
        let errors = count(BufReader::new(output.take(OUTPUT_BYTES_MAX)), &units);
        let mut complaint = Vec::new();
        let read = complaints.take(COMPLAINT_BYTES_MAX).read_to_end(&mut complaint);
        let complaint = read.map(|_length| String::from_utf8_lossy(&complaint).into_owned());
        drop(sender.send((errors, complaint.unwrap_or_default())));
    });
    let read = receiver.recv_timeout(timeout);
    let (errors, complaint) =
        read.map_err(|_late| format!("{PROGRAM}: no answer within {}", format_duration(timeout)))?;
    Ok((errors.map_err(|error| format!("{PROGRAM}: {error}"))?, complaint))
}

/// Each of the units, in their order; the newest entries come first.
fn count(lines: impl BufRead, units: &[String]) -> io::Result<Vec<JournalErrors>> {
    let none = |unit: &String| JournalErrors { unit: unit.clone(), count: 0, newest: None };
    let mut errors: Vec<JournalErrors> = units.iter().map(none).collect();
    for line in lines.lines() {
        let Ok(entry) = serde_json::from_str::<Entry>(&line?) else { continue };
        let Some(of_unit) = errors.iter_mut().find(|of_unit| entry.is_of(&of_unit.unit)) else {
            continue;
        };
        of_unit.count += 1;
        of_unit.newest = of_unit.newest.take().or_else(|| message(&entry.message));
    }
    Ok(errors)
}

impl Entry {
    fn is_of(&self, unit: &str) -> bool {
        [&self.by, &self.about, &self.dumped, &self.object].into_iter().any(|name| name == unit)
    }
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
    Some(sanitize_line(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: &str = "cynosure.service";
    const INSTANCE: &str = "cynosure@work.service";

    fn units() -> Vec<String> {
        [UNIT, INSTANCE].map(str::to_owned).to_vec()
    }

    fn shell(script: &str) -> CollectResult<Vec<JournalErrors>> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        run(command, &units(), Duration::from_secs(30))
    }

    fn entry(field: &str, unit: &str, message: &str) -> String {
        format!("echo '{{\"MESSAGE\":{message},\"{field}\":\"{unit}\"}}';")
    }

    #[test]
    fn errors_are_counted_for_each_unit_and_the_newest_comes_first() {
        let script = [
            entry("_SYSTEMD_UNIT", UNIT, "[104,105,27]"),
            "echo junk;".to_owned(),
            entry("_SYSTEMD_UNIT", UNIT, "\"before\""),
            entry("UNIT", INSTANCE, "null"),
            entry("COREDUMP_UNIT", INSTANCE, "\"dumped\""),
            entry("_SYSTEMD_UNIT", "other.service", "\"no\""),
        ];

        let errors = shell(&script.concat()).unwrap();

        let of = |unit: &str, count, newest: &str| JournalErrors {
            unit: unit.to_owned(),
            count,
            newest: Some(newest.to_owned()),
        };
        assert_eq!(errors, [of(UNIT, 2, "hi\\u{1b}"), of(INSTANCE, 2, "dumped")]);
        assert!(shell("true").unwrap().iter().all(|of_unit| of_unit.count == 0));
    }

    #[test]
    fn what_is_beyond_the_limit_is_old() {
        let script = format!(
            "{} {} exec tr '\\0' x < /dev/zero",
            entry("_SYSTEMD_UNIT", UNIT, "\"newest\""),
            entry("_SYSTEMD_UNIT", UNIT, "\"older\"")
        );

        let errors = shell(&script).unwrap();

        assert_eq!((errors[0].count, errors[0].newest.as_deref()), (2, Some("newest")));
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
        let absent = run(Command::new("/nowhere/journalctl"), &units(), Duration::from_secs(1));
        assert_eq!(absent.unwrap_err(), "journalctl is not here");
    }

    #[test]
    fn one_that_hangs_is_ended() {
        let mut command = Command::new("sleep");
        command.arg("600");

        let told = run(command, &units(), Duration::from_millis(20)).unwrap_err();

        assert_eq!(told, "journalctl: no answer within 20 ms");
    }
}
