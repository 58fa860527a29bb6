//! Maps machine and progress to the contents of the state file, for operators and the next start,
//! and back.

use cynosure_engine::{
    AfterWait, Cause, ErrorHistory, LastError, LastRestart, ListingMode, ProgressTracker,
    RestartCause, RestartHistory, Session, State, StateMachine, Status, SyncHistory, SyncPhase,
    Timestamp,
};

use crate::ledger::{ArchiveTotals, SessionCounts};
use crate::state::{self, ExecutionState, SCHEMA};

/// Description of a source that is shown with its state.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SourceInfo {
    pub source: String,
    pub kind: &'static str,
    pub account: String,
    pub provider: String,
}

/// Progress of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct SessionProgress {
    pub counts: SessionCounts,
    /// Items that wait for a retry of their own.
    pub waiting_items: u64,
    /// Total number of documents, if the server reports it.
    pub expected_documents: Option<u64>,
    pub items_per_second: Option<f64>,
    /// Totals of all sessions; `None` if they could not be read.
    pub archive: Option<ArchiveTotals>,
    /// Time at which the newest successful request for an item was sent.
    pub last_success_at: Option<Timestamp>,
}

/// Returns the contents of the state file: everything that the next start or an operator must know.
pub(super) fn to_execution_state(
    machine: &StateMachine,
    until: Option<Timestamp>,
    progress: &SessionProgress,
    info: &SourceInfo,
    pid: Option<u32>,
    now: Timestamp,
) -> ExecutionState {
    let session = machine.session.as_ref();
    let counts = progress.counts;
    let is_rate_limited = machine.status() == Status::RateLimited;
    ExecutionState {
        schema: SCHEMA,
        source: info.source.clone(),
        account: info.account.clone(),
        provider: info.provider.clone(),
        kind: info.kind.to_owned(),
        status: machine.status(),
        state_since: machine.state_since,
        state_until: until,
        reason: machine.reason.clone(),
        resume_state: resumable_phase(&machine.state).map(status_for_phase),
        should_restart_when_due: matches!(
            machine.state,
            State::Error { after_wait: AfterWait::Restart, .. }
        ),
        session_id: session.map(|session| session.id.clone()),
        start_time: session.map(|session| session.started_at),
        completion_time: session.and_then(|session| session.completed_at),
        last_poll: machine.sync.last_poll,
        is_full_listing: machine.listing.is_full_resync,
        is_listing_changes: machine.listing.is_listing_changes,
        total_threads: counts.listed,
        downloaded_threads: counts.stored,
        gone: counts.gone,
        quarantined: counts.quarantined,
        versions: counts.versions,
        copies: counts.copies,
        fetched_bytes: counts.fetched_bytes(),
        expected_bytes: counts.expected_bytes,
        waiting_for_retry: progress.waiting_items,
        expected_documents: progress.expected_documents,
        rate_per_second: progress.items_per_second,
        last_progress: machine.progress.last_at,
        last_success: progress.last_success_at,
        error_count: machine.errors.total,
        consecutive_errors: machine.errors.consecutive,
        retry_count: machine.errors.retries,
        restart_count: machine.restarts.count,
        last_restart: machine.restarts.last.map(|restart| state::RecordedRestart {
            cause: restart.cause.name().to_owned(),
            at: restart.at,
        }),
        last_error: machine.errors.last.as_ref().map(to_recorded_error),
        is_rate_limited,
        rate_limit_until: until.filter(|_| is_rate_limited),
        rate_limits_in_a_row: machine.errors.consecutive_rate_limits,
        incomplete_listings_in_a_row: machine.listing.consecutive_incomplete,
        archive_documents: progress.archive.map(|archive| archive.documents),
        archive_bytes: progress.archive.map(|archive| archive.bytes),
        complete_until: machine.sync.complete_until,
        listed_until: machine.sync.listed_until,
        last_updated: now,
        pid,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Restores the machine. A state that lacks its deadline is due at once.
pub(super) fn to_machine(state: &ExecutionState, now: Timestamp) -> StateMachine {
    let new = StateMachine::new(now);
    let session = state.session_id.clone().map(|id| Session {
        id,
        started_at: state.start_time.unwrap_or(state.state_since),
        completed_at: state.completion_time,
    });
    StateMachine {
        state: to_machine_state(state, now),
        reason: state.reason.clone(),
        state_since: state.state_since,
        session,
        sync: SyncHistory {
            last_poll: state.last_poll,
            listed_until: state.listed_until,
            complete_until: state.complete_until,
            ..SyncHistory::default()
        },
        progress: ProgressTracker { last_at: state.last_progress, ..new.progress },
        errors: to_error_history(state),
        restarts: to_restart_history(state),
        listing: ListingMode {
            consecutive_incomplete: state.incomplete_listings_in_a_row,
            is_full_resync: state.is_full_listing,
            is_listing_changes: state.is_listing_changes,
        },
        ..new
    }
}

fn to_recorded_error(error: &LastError) -> state::RecordedError {
    state::RecordedError {
        cause_family: error.cause.category().name().to_owned(),
        cause: error.cause.name().to_owned(),
        message: error.message.clone(),
        at: error.at,
    }
}

fn to_error_history(state: &ExecutionState) -> ErrorHistory {
    ErrorHistory {
        last: state.last_error.as_ref().map(|error| LastError {
            cause: Cause::from_name(&error.cause).unwrap_or(Cause::Unknown),
            message: error.message.clone(),
            at: error.at,
        }),
        total: state.error_count,
        consecutive: state.consecutive_errors,
        retries: state.retry_count,
        consecutive_rate_limits: state.rate_limits_in_a_row,
    }
}

fn to_restart_history(state: &ExecutionState) -> RestartHistory {
    RestartHistory {
        count: state.restart_count,
        last: state.last_restart.as_ref().and_then(|restart| {
            let cause = RestartCause::from_name(&restart.cause)?;
            Some(LastRestart { cause, at: restart.at })
        }),
    }
}

/// Restores the progress. The throughput is measured again.
pub(super) fn to_progress(state: &ExecutionState) -> SessionProgress {
    SessionProgress {
        counts: SessionCounts {
            listed: state.total_threads,
            stored: state.downloaded_threads,
            gone: state.gone,
            quarantined: state.quarantined,
            versions: state.versions,
            copies: state.copies,
            bytes: state.fetched_bytes,
            expected_bytes: state.expected_bytes,
            ..SessionCounts::default()
        },
        waiting_items: state.waiting_for_retry,
        expected_documents: state.expected_documents,
        items_per_second: None,
        archive: to_archive_totals(state),
        last_success_at: state.last_success,
    }
}

fn to_archive_totals(state: &ExecutionState) -> Option<ArchiveTotals> {
    let (documents, bytes) = state.archive_documents.zip(state.archive_bytes)?;
    Some(ArchiveTotals { documents, bytes })
}

fn to_machine_state(state: &ExecutionState, now: Timestamp) -> State {
    let until = state.state_until.unwrap_or(now);
    let resume_phase = state.resume_state.map_or(SyncPhase::Polling, phase_for_status);
    match state.status {
        // A poll that was running is started again at once.
        Status::Idle => State::Idle { until },
        Status::Collecting => State::Working(SyncPhase::Collecting),
        Status::Downloading => State::Working(SyncPhase::Downloading),
        Status::Completed => State::Completed,
        Status::Error => {
            let after_wait =
                if state.should_restart_when_due { AfterWait::Restart } else { AfterWait::Resume };
            State::Error { until, resume_phase, after_wait }
        }
        Status::RateLimited => State::RateLimited { until, resume_phase },
        Status::AuthFailed => State::AuthFailed { until, resume_phase },
    }
}

fn resumable_phase(state: &State) -> Option<SyncPhase> {
    match state {
        State::Error { resume_phase, .. }
        | State::RateLimited { resume_phase, .. }
        | State::AuthFailed { resume_phase, .. } => Some(*resume_phase),
        State::Idle { .. } | State::Working(_) | State::Completed => None,
    }
}

fn status_for_phase(phase: SyncPhase) -> Status {
    State::Working(phase).status()
}

fn phase_for_status(status: Status) -> SyncPhase {
    match status {
        Status::Collecting => SyncPhase::Collecting,
        Status::Downloading => SyncPhase::Downloading,
        Status::Idle
        | Status::Completed
        | Status::Error
        | Status::RateLimited
        | Status::AuthFailed => SyncPhase::Polling,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_772_874_303_456);

    #[test]
    fn completeness_and_totals_survive_a_restart() {
        let sync = SyncHistory {
            last_poll: Some(NOW),
            poll_started_at: Some(NOW),
            listed_until: Some(Timestamp(NOW.0 - 1_000)),
            complete_until: Some(Timestamp(NOW.0 - 2_000)),
        };
        let machine = StateMachine { sync, ..StateMachine::new(NOW) };
        let archive = Some(ArchiveTotals { documents: 81_112, bytes: 4_200_000_000 });
        let progress = SessionProgress { archive, ..SessionProgress::default() };
        let info = SourceInfo {
            source: "work".to_owned(),
            kind: "jmap",
            account: "me@example.com".to_owned(),
            provider: "example".to_owned(),
        };

        let state = to_execution_state(&machine, None, &progress, &info, None, NOW);
        let state = ExecutionState::from_json(&state.to_json()).unwrap();

        // A poll that was interrupted starts again.
        let expected = SyncHistory { poll_started_at: None, ..sync };
        assert_eq!(to_machine(&state, NOW).sync, expected);
        assert_eq!(to_progress(&state).archive, archive);
    }

    #[test]
    fn a_state_of_an_earlier_version_has_neither_completeness_nor_totals() {
        let state = ExecutionState::default();

        assert_eq!(to_machine(&state, NOW).sync, SyncHistory::default());
        assert_eq!(to_progress(&state).archive, None);
    }
}
