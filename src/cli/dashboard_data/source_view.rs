//! One source as the endpoint shows it, in the words of `status`.

use crate::cli::breaker::BreakerNotes;
use crate::cli::source_status::{SourceStatus, StateRead, WorkerLiveness};
use crate::cli::status;
use crate::config::SourceKind;
use crate::endpoint::view::{LastErrorView, SourceView};
use crate::engine::watch::HealthLevel;
use crate::engine::{SessionId, Status, Timestamp, sanitize_line};
use crate::human::{EMPTY_CELL, estimate_remaining, format_clock_time};
use crate::state::ExecutionState;

pub(super) fn source_view(
    standing: &SourceStatus<'_>,
    circuits: &BreakerNotes,
    level: Option<HealthLevel>,
    now: Timestamp,
) -> SourceView {
    let told = status::status_row(standing, circuits, now);
    let blank = empty_view(standing, level);
    match &standing.state {
        StateRead::NeverRun => {
            SourceView { state: "never_run".to_owned(), status_text: told.reason, ..blank }
        }
        StateRead::Unreadable(_) => {
            SourceView { state: "unknown".to_owned(), status_text: told.reason, ..blank }
        }
        StateRead::State(state, worker) => {
            let sentence = if told.reason == EMPTY_CELL {
                default_status_text(state.status)
            } else {
                told.reason
            };
            let deadline = deadline_text(state, *worker, &told.until, now);
            with_state(
                state,
                *worker,
                SourceView { status_text: sentence, deadline_text: deadline, ..blank },
            )
        }
    }
}

fn with_state(state: &ExecutionState, worker: WorkerLiveness, blank: SourceView) -> SourceView {
    let settled = state.downloaded_threads + state.gone + state.quarantined;
    let is_running = worker == WorkerLiveness::Running;
    let is_moving = is_running && state.status == Status::Downloading;
    let rate = state.rate_per_second.filter(|_| is_moving);
    let left = state.total_threads.saturating_sub(settled);
    SourceView {
        provider: sanitize_line(&state.provider),
        kind: sanitize_line(&state.kind),
        state: state.status.name().to_owned(),
        is_running: is_running,
        deadline_at: state.state_until,
        state_since: Some(state.state_since),
        last_progress: Some(state.last_progress),
        session: state.session_id.as_ref().map(SessionId::as_str).map(sanitize_line),
        total: state.total_threads,
        settled,
        stored: state.downloaded_threads,
        gone: state.gone,
        quarantined: state.quarantined,
        waiting_for_retry: state.waiting_for_retry,
        items_per_second: rate,
        eta_seconds: estimate_remaining(left, rate).map(|left| left.as_secs()).filter(|_| left > 0),
        consecutive_errors: state.consecutive_errors,
        restart_count: state.restart_count,
        last_error: state.last_error.as_ref().map(|error| LastErrorView {
            cause: sanitize_line(&error.cause),
            message: sanitize_line(&error.message),
            at: error.at,
        }),
        ..blank
    }
}

/// What is known of a source that says nothing.
fn empty_view(standing: &SourceStatus<'_>, level: Option<HealthLevel>) -> SourceView {
    let settings = standing.source.settings.as_ref();
    let kind = settings.map(|settings| match settings.kind {
        SourceKind::Jmap => "jmap",
    });
    SourceView {
        name: standing.source.name.to_string(),
        provider: settings.map(|settings| settings.provider.clone()).unwrap_or_default(),
        kind: kind.unwrap_or_default().to_owned(),
        state: String::new(),
        is_running: false,
        level,
        status_text: String::new(),
        deadline_text: None,
        deadline_at: None,
        state_since: None,
        last_progress: None,
        session: None,
        total: 0,
        settled: 0,
        stored: 0,
        gone: 0,
        quarantined: 0,
        waiting_for_retry: 0,
        items_per_second: None,
        eta_seconds: None,
        consecutive_errors: 0,
        restart_count: 0,
        last_error: None,
    }
}

/// What is to be said where all is as usual.
fn default_status_text(status: Status) -> String {
    let sentence = match status {
        Status::Idle => "waits for its next look for something new",
        Status::Collecting => "lists what there is",
        Status::Downloading => "fetches and stores what was listed",
        Status::Completed => "everything that was listed is settled",
        Status::Error | Status::RateLimited | Status::AuthFailed => "waits",
    };
    sentence.to_owned()
}

/// When the present state ends; for work, when progress is missed.
fn deadline_text(
    state: &ExecutionState,
    worker: WorkerLiveness,
    told: &str,
    now: Timestamp,
) -> Option<String> {
    match state.status {
        Status::Collecting | Status::Downloading => {
            let until = state.state_until.filter(|_| worker == WorkerLiveness::Running)?;
            Some(format_clock_time(until, now))
        }
        Status::Completed => state.completion_time.map(|at| format_clock_time(at, now)),
        Status::Idle | Status::Error | Status::RateLimited | Status::AuthFailed => {
            (told != EMPTY_CELL).then(|| told.to_owned())
        }
    }
}
