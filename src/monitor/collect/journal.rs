//! Error counts of the units, read from the journal (journalctl(1)).
//!
//! Entries are read newest first, so that only old ones fall beyond a limit.

use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use cynosure_engine::health::{CollectResult, JournalErrors};
use cynosure_engine::{Timestamp, format_duration, sanitize_line};
use serde::Deserialize;
use serde_json::Value;

const JOURNALCTL: &str = "journalctl";

/// Maximum number of errors read, newest first. More would add no information.
const ERRORS_MAX: u32 = 1000;

/// Maximum size of the output read, in bytes: 1,000 errors with long messages.
const STDOUT_BYTES_MAX: u64 = 4 << 20;

/// Maximum size of the error output read, in bytes.
const STDERR_BYTES_MAX: u64 = 4 << 10;

/// Fields requested of each entry.
const OUTPUT_FIELDS: &str = "MESSAGE,_SYSTEMD_UNIT,UNIT,COREDUMP_UNIT,OBJECT_SYSTEMD_UNIT";

/// Journal entry. A message that is not UTF-8 is a list of bytes.
#[derive(Deserialize)]
struct JournalEntry {
    #[serde(rename = "MESSAGE", default)]
    message: Value,
    /// Unit that wrote the entry; the next fields name the unit that it is about
    /// (systemd.journal-fields(7)).
    #[serde(rename = "_SYSTEMD_UNIT", default)]
    systemd_unit: Value,
    #[serde(rename = "UNIT", default)]
    unit: Value,
    #[serde(rename = "COREDUMP_UNIT", default)]
    coredump_unit: Value,
    #[serde(rename = "OBJECT_SYSTEMD_UNIT", default)]
    object_unit: Value,
}

/// Counts the errors of each unit within `window`. Blocks until journalctl ends; it is killed after
/// `timeout`.
///
/// # Errors
/// The reason, and advice where there is any.
pub(super) fn count_errors(
    units: &[String],
    window: Duration,
    timeout: Duration,
    now: Timestamp,
) -> CollectResult<Vec<JournalErrors>> {
    let mut command = Command::new(JOURNALCTL);
    command.args(["--priority=err", "--output=json", "--no-pager", "--reverse"]);
    command.arg(format!("--output-fields={OUTPUT_FIELDS}"));
    command.arg(format!("--lines={ERRORS_MAX}"));
    command.args(units.iter().map(|unit| format!("--unit={unit}")));
    command.arg(format!("--since=@{}", now.before(window).unix_seconds()));
    run_journalctl(command, units, timeout)
}

fn run_journalctl(
    mut command: Command,
    units: &[String],
    timeout: Duration,
) -> CollectResult<Vec<JournalErrors>> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            return format!("{JOURNALCTL} is not installed");
        }
        format!("{JOURNALCTL} cannot be started: {error}")
    })?;
    let output = read_output(&mut child, units, timeout);
    // Also after a complete read, because the process may still run.
    child.kill().ok();
    let exit_status = child.wait();
    let (errors, stderr) = output?;
    // A process that we killed after its output was complete has no exit code, and did not fail.
    let failed = exit_status.is_ok_and(|status| status.code().is_some_and(|code| code != 0));
    match stderr.lines().next() {
        Some(line) if failed || errors.iter().all(|unit_errors| unit_errors.count == 0) => {
            Err(format!(
                "{JOURNALCTL}: {}; add this user to the group systemd-journal",
                sanitize_line(line)
            ))
        }
        Some(_) | None if failed => Err(format!("{JOURNALCTL} failed")),
        Some(_) | None => Ok(errors),
    }
}

/// Reads on a separate thread, because pipes cannot be read with a time limit. The thread ends with
/// the process.
fn read_output(
    child: &mut Child,
    units: &[String],
    timeout: Duration,
) -> CollectResult<(Vec<JournalErrors>, String)> {
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(format!("the output of {JOURNALCTL} is not available"));
    };
    let (sender, receiver) = mpsc::sync_channel(1);
    let units = units.to_vec();
    thread::spawn(move || {
        let errors = count_by_unit(BufReader::new(stdout.take(STDOUT_BYTES_MAX)), &units);
        let mut bytes = Vec::new();
        let read = stderr.take(STDERR_BYTES_MAX).read_to_end(&mut bytes);
        let stderr = read.map(|_length| String::from_utf8_lossy(&bytes).into_owned());
        drop(sender.send((errors, stderr.unwrap_or_default())));
    });
    let read = receiver.recv_timeout(timeout);
    let (errors, stderr) = read.map_err(|_timeout| {
        format!("{JOURNALCTL}: no response within {}", format_duration(timeout))
    })?;
    Ok((errors.map_err(|error| format!("{JOURNALCTL}: {error}"))?, stderr))
}

/// Counts the errors of each unit, in the order of `units`. The newest entries come first.
fn count_by_unit(lines: impl BufRead, units: &[String]) -> io::Result<Vec<JournalErrors>> {
    let no_errors = |unit: &String| JournalErrors { unit: unit.clone(), count: 0, newest: None };
    let mut errors: Vec<JournalErrors> = units.iter().map(no_errors).collect();
    for line in lines.lines() {
        let Ok(entry) = serde_json::from_str::<JournalEntry>(&line?) else { continue };
        let Some(unit_errors) = errors.iter_mut().find(|errors| entry.is_from_unit(&errors.unit))
        else {
            continue;
        };
        unit_errors.count += 1;
        unit_errors.newest = unit_errors.newest.take().or_else(|| message_text(&entry.message));
    }
    Ok(errors)
}

impl JournalEntry {
    fn is_from_unit(&self, unit: &str) -> bool {
        [&self.systemd_unit, &self.unit, &self.coredump_unit, &self.object_unit]
            .into_iter()
            .any(|name| name == unit)
    }
}

fn message_text(value: &Value) -> Option<String> {
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

    fn run_shell(script: &str) -> CollectResult<Vec<JournalErrors>> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        run_journalctl(command, &units(), Duration::from_secs(30))
    }

    fn echo_entry(field: &str, unit: &str, message: &str) -> String {
        format!("echo '{{\"MESSAGE\":{message},\"{field}\":\"{unit}\"}}';")
    }

    #[test]
    fn errors_are_counted_per_unit_newest_first() {
        let script = [
            echo_entry("_SYSTEMD_UNIT", UNIT, "[104,105,27]"),
            "echo junk;".to_owned(),
            echo_entry("_SYSTEMD_UNIT", UNIT, "\"before\""),
            echo_entry("UNIT", INSTANCE, "null"),
            echo_entry("COREDUMP_UNIT", INSTANCE, "\"dumped\""),
            echo_entry("_SYSTEMD_UNIT", "other.service", "\"no\""),
        ];

        let errors = run_shell(&script.concat()).unwrap();

        let unit_errors = |unit: &str, count, newest: &str| JournalErrors {
            unit: unit.to_owned(),
            count,
            newest: Some(newest.to_owned()),
        };
        assert_eq!(errors, [unit_errors(UNIT, 2, "hi\\u{1b}"), unit_errors(INSTANCE, 2, "dumped")]);
        assert!(run_shell("true").unwrap().iter().all(|unit_errors| unit_errors.count == 0));
    }

    #[test]
    fn output_beyond_the_limit_is_older() {
        let script = format!(
            "{} {} exec tr '\\0' x < /dev/zero",
            echo_entry("_SYSTEMD_UNIT", UNIT, "\"newest\""),
            echo_entry("_SYSTEMD_UNIT", UNIT, "\"older\"")
        );

        let errors = run_shell(&script).unwrap();

        assert_eq!((errors[0].count, errors[0].newest.as_deref()), (2, Some("newest")));
    }

    #[test]
    fn journalctl_failures_are_reported() {
        let error = |script: &str| run_shell(script).unwrap_err();

        assert!(
            error("echo 'No journal files were opened' >&2; exit 1")
                .contains("opened; add this user")
        );
        assert!(error("echo 'Hint: You are currently not seeing messages' >&2").contains("Hint"));
        assert_eq!(error("exit 1"), "journalctl failed");
        let absent =
            run_journalctl(Command::new("/nowhere/journalctl"), &units(), Duration::from_secs(1));
        assert_eq!(absent.unwrap_err(), "journalctl is not installed");
    }

    #[test]
    fn a_hanging_journalctl_is_killed() {
        let mut command = Command::new("sleep");
        command.arg("600");

        let error = run_journalctl(command, &units(), Duration::from_millis(20)).unwrap_err();

        assert_eq!(error, "journalctl: no response within 20 ms");
    }
}
