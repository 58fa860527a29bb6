//! View of one source for the dashboard, with the texts of the command `status`.

use std::time::Duration;

use cynosure_engine::health::HealthLevel;
use cynosure_engine::{SessionId, Status, Timestamp, sanitize_line};

use crate::app::breaker_notes::BreakerNotes;
use crate::app::source_status::SourceStatus;
use crate::app::status_row::status_row;
use crate::endpoint::view::{LastErrorView, SourceView};
use crate::human::{EMPTY_CELL, estimate_remaining, format_clock_time};
use crate::state::{ExecutionState, SourceState};

/// Number of poll intervals after which an archive that nothing completes is stale.
const POLLS_MISSED_MAX: u32 = 3;

pub(super) fn source_view(
    source_status: &SourceStatus<'_>,
    breaker_notes: &BreakerNotes,
    level: Option<HealthLevel>,
    now: Timestamp,
) -> SourceView {
    let row = status_row(source_status, breaker_notes, now);
    let empty = empty_view(source_status, level);
    match &source_status.state {
        SourceState::NeverRun => {
            SourceView { state: "never_run".to_owned(), status_text: row.reason, ..empty }
        }
        SourceState::Unreadable(_) => {
            SourceView { state: "unknown".to_owned(), status_text: row.reason, ..empty }
        }
        SourceState::Read(state, process) => {
            let status_text = if row.reason == EMPTY_CELL {
                default_status_text(state.status)
            } else {
                row.reason
            };
            let is_running = process.is_running();
            let deadline_text = deadline_text(state, is_running, &row.until, now);
            let settings = source_status.source.settings.as_ref();
            let polled = settings.filter(|settings| settings.is_enabled);
            let poll_interval = polled.map(|settings| settings.poll_interval);
            let is_completeness_stale =
                is_completeness_stale(state, is_running, poll_interval, now);
            let base = SourceView { status_text, deadline_text, is_completeness_stale, ..empty };
            with_state(state, is_running, base)
        }
    }
}

fn with_state(state: &ExecutionState, is_running: bool, base: SourceView) -> SourceView {
    let settled = state.downloaded_threads + state.gone + state.quarantined;
    let is_downloading = is_running && state.status == Status::Downloading;
    let rate = state.rate_per_second.filter(|_| is_downloading);
    let remaining = state.total_threads.saturating_sub(settled);
    SourceView {
        provider: sanitize_line(&state.provider),
        kind: sanitize_line(&state.kind),
        state: state.status.name().to_owned(),
        is_running,
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
        fetched_bytes: state.fetched_bytes,
        expected_bytes: state.expected_bytes,
        items_per_second: rate,
        eta_seconds: estimate_remaining(remaining, rate)
            .map(|eta| eta.as_secs())
            .filter(|_| remaining > 0),
        archive_documents: state.archive_documents,
        archive_bytes: state.archive_bytes,
        complete_until: state.complete_until,
        consecutive_errors: state.consecutive_errors,
        restart_count: state.restart_count,
        last_error: state.last_error.as_ref().map(|error| LastErrorView {
            cause: sanitize_line(&error.cause),
            message: sanitize_line(&error.message),
            at: error.at,
        }),
        ..base
    }
}

/// True if the archive has not been complete for too long, unless a session is at work. The
/// interval is `None` for a source that is disabled or removed: nothing is expected of it.
fn is_completeness_stale(
    state: &ExecutionState,
    is_running: bool,
    poll_interval: Option<Duration>,
    now: Timestamp,
) -> bool {
    let Some(poll_interval) = poll_interval else { return false };
    let is_at_work = match state.status {
        Status::Collecting | Status::Downloading => is_running,
        Status::Idle
        | Status::Completed
        | Status::Error
        | Status::RateLimited
        | Status::AuthFailed => false,
    };
    let max_age = poll_interval.saturating_mul(POLLS_MISSED_MAX);
    !is_at_work && state.complete_until.is_some_and(|until| now.since(until) > max_age)
}

/// Returns the view of a source without a state.
fn empty_view(source_status: &SourceStatus<'_>, level: Option<HealthLevel>) -> SourceView {
    let settings = source_status.source.settings.as_ref();
    SourceView {
        name: source_status.source.name.to_string(),
        provider: settings.map(|settings| settings.provider.clone()).unwrap_or_default(),
        kind: settings.map(|settings| settings.kind.name().to_owned()).unwrap_or_default(),
        level,
        ..SourceView::default()
    }
}

/// Returns the text of a state for which `status` has no reason to report.
fn default_status_text(status: Status) -> String {
    let text = match status {
        Status::Idle => "waiting for the next poll",
        Status::Collecting => "listing the items of the source",
        Status::Downloading => "downloading the listed items",
        Status::Completed => "all listed items are settled",
        Status::Error | Status::RateLimited | Status::AuthFailed => "waiting",
    };
    text.to_owned()
}

/// Returns the end of the current state. For work, it is the time at which progress is overdue.
fn deadline_text(
    state: &ExecutionState,
    is_running: bool,
    until: &str,
    now: Timestamp,
) -> Option<String> {
    match state.status {
        Status::Collecting | Status::Downloading => {
            let deadline = state.state_until.filter(|_| is_running)?;
            Some(format_clock_time(deadline, now))
        }
        Status::Completed => state.completion_time.map(|at| format_clock_time(at, now)),
        Status::Idle | Status::Error | Status::RateLimited | Status::AuthFailed => {
            (until != EMPTY_CELL).then(|| until.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);
    const POLL_INTERVAL: Duration = Duration::from_secs(300);

    fn is_stale(status: Status, is_running: bool, age_seconds: u64) -> bool {
        let complete_until = Some(NOW.before(Duration::from_secs(age_seconds)));
        let state = ExecutionState { status, complete_until, ..ExecutionState::default() };
        is_completeness_stale(&state, is_running, Some(POLL_INTERVAL), NOW)
    }

    #[test]
    fn completeness_is_stale_after_three_missed_polls() {
        for status in [Status::Idle, Status::Error, Status::AuthFailed] {
            assert!(!is_stale(status, true, 900), "{status:?}");
            assert!(is_stale(status, true, 901), "{status:?}");
        }
    }

    #[test]
    fn a_session_at_work_is_not_stale_until_it_stops() {
        for status in [Status::Collecting, Status::Downloading] {
            assert!(!is_stale(status, true, 1_000_000), "{status:?}");
            assert!(is_stale(status, false, 901), "{status:?}");
        }
    }

    #[test]
    fn a_source_without_a_completion_is_not_stale() {
        let state = ExecutionState { status: Status::AuthFailed, ..ExecutionState::default() };
        assert!(!is_completeness_stale(&state, true, Some(POLL_INTERVAL), NOW));

        // Three of the longest intervals are longer than any duration.
        let old = ExecutionState { complete_until: Some(Timestamp(i64::MIN)), ..state };
        assert!(!is_completeness_stale(&old, false, Some(Duration::MAX), NOW));
    }

    #[test]
    fn a_source_that_is_not_polled_is_not_stale() {
        let complete_until = Some(NOW.before(Duration::from_secs(1_000_000)));
        let state = ExecutionState { complete_until, ..ExecutionState::default() };

        assert!(is_completeness_stale(&state, false, Some(POLL_INTERVAL), NOW));
        assert!(!is_completeness_stale(&state, false, None, NOW));
    }
}
