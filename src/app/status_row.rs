//! Texts about a source that `status` and the dashboard show: its state, the reason, and the next
//! step.

use cynosure_engine::health::watch::ProcessStatus;
use cynosure_engine::{
    Cause, RestartCause, Status, Timestamp, format_bytes, format_count, format_duration,
    sanitize_line,
};

use crate::app::breaker_notes::BreakerNotes;
use crate::app::source_status::SourceStatus;
use crate::config::{CredentialRef, SourceAuth};
use crate::human::{
    EMPTY_CELL, estimate_remaining, format_byte_progress, format_clock_time, format_deadline,
    format_rate, pluralize,
};
use crate::state::{ExecutionState, SourceState};

/// Table row of a source, one text per column.
pub(crate) struct StatusRow {
    pub state: String,
    pub progress: String,
    pub rate: String,
    pub until: String,
    /// Size of the archive.
    pub archive: String,
    /// Time up to which the archive is complete.
    pub complete_until: String,
    pub reason: String,
}

/// Returns the row of a source, with notes about its circuit breakers and its configuration.
pub(crate) fn status_row(
    source_status: &SourceStatus<'_>,
    breaker_notes: &BreakerNotes,
    now: Timestamp,
) -> StatusRow {
    let name = source_status.source.name.to_string();
    match &source_status.state {
        SourceState::NeverRun => {
            let reason = format!("start it with `cynosure run {name}`");
            let reason = with_breaker_note(reason, source_status, breaker_notes);
            let reason = with_config_note(reason, source_status);
            StatusRow { state: "never run".to_owned(), reason, ..StatusRow::empty() }
        }
        SourceState::Unreadable(problem) => {
            let reason = sanitize_line(&problem.with_remedy());
            let reason = with_breaker_note(reason, source_status, breaker_notes);
            let reason = with_config_note(reason, source_status);
            StatusRow { state: "unknown".to_owned(), reason, ..StatusRow::empty() }
        }
        SourceState::Read(state, process) => {
            let label = state.status.name().replace('_', " ");
            let is_plain = process.is_running() || state.status == Status::Completed;
            let label = if is_plain { label } else { format!("{label} (not running)") };
            let reason = reason_text(source_status, state, *process, now);
            let reason = with_breaker_note(reason, source_status, breaker_notes);
            let is_downloading = process.is_running() && state.status == Status::Downloading;
            let per_second = state.rate_per_second.filter(|_| is_downloading);
            StatusRow {
                state: label,
                progress: progress_text(state),
                rate: per_second.map_or_else(empty_cell, format_rate),
                until: until_text(source_status, state, process.is_running(), now),
                archive: state.archive_bytes.map_or_else(empty_cell, format_bytes),
                complete_until: state
                    .complete_until
                    .map_or_else(empty_cell, |until| format_minute_or_date(until, now)),
                reason: with_config_note(reason, source_status),
            }
        }
    }
}

impl StatusRow {
    fn empty() -> Self {
        let [state, progress, rate, until, archive, complete_until, reason] =
            std::array::from_fn(|_| empty_cell());
        Self { state, progress, rate, until, archive, complete_until, reason }
    }
}

fn empty_cell() -> String {
    EMPTY_CELL.to_owned()
}

/// Formats a time in local time, to the minute if it is today, else to the day.
fn format_minute_or_date(at: Timestamp, now: Timestamp) -> String {
    let text = format_clock_time(at, now);
    match (text.split_once(' '), text.rsplit_once(':')) {
        (Some((date, _)), _) => date.to_owned(),
        (None, Some((minute, _))) => minute.to_owned(),
        (None, None) => text,
    }
}

fn settled_items(state: &ExecutionState) -> u64 {
    state.downloaded_threads + state.gone + state.quarantined
}

fn progress_text(state: &ExecutionState) -> String {
    match state.status {
        // The total is not known before the listing is complete.
        Status::Collecting => format!("{} listed", format_count(state.total_threads)),
        Status::Idle
        | Status::Downloading
        | Status::Completed
        | Status::Error
        | Status::RateLimited
        | Status::AuthFailed => {
            let items = format!(
                "{} / {}",
                format_count(settled_items(state)),
                format_count(state.total_threads)
            );
            match byte_progress(state) {
                Some(bytes) => format!("{items}, {bytes}"),
                None => items,
            }
        }
    }
}

/// Returns the progress in bytes, while there is something left to fetch.
fn byte_progress(state: &ExecutionState) -> Option<String> {
    format_byte_progress(state.fetched_bytes, state.expected_bytes)
        .filter(|_| settled_items(state) < state.total_threads)
}

fn until_text(
    source_status: &SourceStatus<'_>,
    state: &ExecutionState,
    is_running: bool,
    now: Timestamp,
) -> String {
    let remaining = state.total_threads.saturating_sub(settled_items(state));
    let wait = state.state_until.map(|until| format_deadline(until, now));
    let text = match state.status {
        Status::Downloading if is_running => estimate_remaining(remaining, state.rate_per_second)
            .map(|duration| format!("about {}", format_duration(duration))),
        Status::Collecting | Status::Downloading => None,
        Status::Idle if !is_running => None,
        Status::Completed => {
            state.completion_time.map(|at| format!("since {}", format_clock_time(at, now)))
        }
        Status::AuthFailed if !is_running => {
            Some(format!("new {}", source_status.credential_noun()))
        }
        Status::AuthFailed => {
            let until = state.state_until.filter(|until| *until > now);
            let clock =
                until.map_or_else(|| "now".to_owned(), |until| format_clock_time(until, now));
            Some(format!("{clock} or new {}", source_status.credential_noun()))
        }
        Status::Idle | Status::Error | Status::RateLimited => wait,
    };
    text.unwrap_or_else(|| EMPTY_CELL.to_owned())
}

fn reason_text(
    source_status: &SourceStatus<'_>,
    state: &ExecutionState,
    process: ProcessStatus,
    now: Timestamp,
) -> String {
    let mut parts = Vec::new();
    match state.status {
        Status::Collecting | Status::Downloading => match process {
            // The deadline of these states is the time by which progress is expected.
            ProcessStatus::Running { .. }
                if state.state_until.is_some_and(|until| until <= now) =>
            {
                parts.push(format!(
                    "no progress since {}",
                    format_clock_time(state.last_progress, now)
                ));
            }
            ProcessStatus::Running { .. } => {}
            ProcessStatus::Exited => {
                parts.push("it was stopped; the next run continues from here".to_owned());
            }
            ProcessStatus::Died { pid } => parts.push(format!(
                "its worker (process {pid}) has died; the next run continues from here"
            )),
        },
        Status::Completed => {}
        Status::Idle => match process {
            ProcessStatus::Running { .. }
                if state.state_until.is_some_and(|until| until <= now) =>
            {
                parts.push("checking for changes".to_owned());
            }
            ProcessStatus::Running { .. } => {}
            ProcessStatus::Exited | ProcessStatus::Died { .. } => {
                parts.push("the next run checks for changes".to_owned());
            }
        },
        Status::Error | Status::RateLimited => parts.push(sanitize_line(&state.reason)),
        Status::AuthFailed => {
            parts.push(sanitize_line(&state.reason));
            let cause = state.last_error.as_ref().map(|error| error.cause.as_str());
            // The reason of a changed account already contains a remedy.
            if cause != Some(Cause::AccountChanged.name()) {
                parts.extend(credential_hint(source_status));
            }
        }
    }
    parts.extend(restart_note(state, now));
    if state.waiting_for_retry > 0 {
        parts.push(format!("{} waiting for a retry", format_count(state.waiting_for_retry)));
    }
    if state.quarantined > 0 {
        parts.push(format!("{} quarantined", format_count(state.quarantined)));
    }
    if state.copies > 0 {
        parts.push(format!("{}, stored once", pluralize(state.copies, "copy")));
    }
    if parts.is_empty() { EMPTY_CELL.to_owned() } else { parts.join("; ") }
}

/// Returns a note about the last restart, if there was no progress since.
fn restart_note(state: &ExecutionState, now: Timestamp) -> Option<String> {
    let restart =
        state.last_restart.as_ref().filter(|restart| restart.at >= state.last_progress)?;
    let cause = match RestartCause::from_name(&restart.cause)? {
        RestartCause::Completed => return None,
        RestartCause::Errors => "after too many errors",
        RestartCause::Authentication => "with the reloaded credential",
        RestartCause::Stuck => "after a time without progress",
        RestartCause::ExecutionTime => "after the maximum execution time",
    };
    Some(format!("restarted at {} {cause}", format_clock_time(restart.at, now)))
}

/// Returns the instruction for replacing the credential.
fn credential_hint(source_status: &SourceStatus<'_>) -> Option<String> {
    let (noun, source) = (source_status.credential_noun(), source_status.source);
    let auth = &source.settings.as_ref()?.auth;
    let Some(credential_ref) = auth.credential_ref() else {
        return match auth {
            SourceAuth::SignIn { .. } => {
                Some(format!("sign in with `cynosure auth {}`", source.name))
            }
            SourceAuth::Application { .. } => {
                Some(format!("correct it, and test it with `cynosure auth {}`", source.name))
            }
            SourceAuth::None
            | SourceAuth::Basic { .. }
            | SourceAuth::Bearer { .. }
            | SourceAuth::Password { .. }
            | SourceAuth::OAuth2 { .. }
            | SourceAuth::Header { .. }
            | SourceAuth::Query { .. }
            | SourceAuth::Session { .. } => None,
        };
    };
    Some(match credential_ref {
        CredentialRef::File(path) => format!("put a fresh {noun} into {}", path.display()),
        CredentialRef::Env(name) => format!("restart it with a fresh {noun} in {name}"),
        CredentialRef::Command(_) | CredentialRef::Systemd(_) => {
            format!("make the {credential_ref} return a fresh {noun}")
        }
    })
}

/// Adds a note about an open circuit breaker, unless the reason already mentions it.
fn with_breaker_note(
    reason: String,
    source_status: &SourceStatus<'_>,
    breaker_notes: &BreakerNotes,
) -> String {
    let settings = source_status.source.settings.as_ref();
    let (provider, is_mentioned) = match &source_status.state {
        SourceState::Read(state, _) => {
            let is_mentioned =
                state.status == Status::Error && reason.contains("the circuit breaker");
            (Some(state.provider.as_str()), is_mentioned)
        }
        SourceState::NeverRun | SourceState::Unreadable(_) => {
            (settings.map(|settings| settings.provider.as_str()), false)
        }
    };
    let note = provider.and_then(|provider| breaker_notes.for_provider(provider));
    match note.filter(|_| !is_mentioned) {
        Some(note) if reason == EMPTY_CELL => note,
        Some(note) => format!("{reason}; {note}"),
        None => reason,
    }
}

/// Adds a note if the source is disabled, or its configuration is missing or unreadable.
fn with_config_note(reason: String, source_status: &SourceStatus<'_>) -> String {
    let name = &source_status.source.name;
    let note = match &source_status.source.settings {
        None if source_status.source.is_config_uncertain => {
            "its configuration cannot be read".to_owned()
        }
        None => format!("not in the configuration; `cynosure reset {name}` deletes its progress"),
        Some(source) if !source.is_enabled => "disabled in the configuration".to_owned(),
        Some(_) => return reason,
    };
    if reason == EMPTY_CELL { note } else { format!("{reason}; {note}") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_time_of_today_is_a_minute_and_an_earlier_one_a_day() {
        let now = Timestamp(1_773_565_503_000);
        let three_days_ago = now.before(Duration::from_secs(3 * 86_400));

        let (today, earlier) =
            (format_minute_or_date(now, now), format_minute_or_date(three_days_ago, now));

        // In any time zone.
        assert_eq!((today.len(), today.matches(':').count()), (5, 1), "{today}");
        assert!(earlier.len() == 10 && earlier.starts_with("2026-03-1"), "{earlier}");
        assert_eq!(format_minute_or_date(Timestamp(i64::MAX), now), EMPTY_CELL);
    }
}
