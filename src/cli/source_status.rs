//! Status of a source as seen by other processes: its state file and the liveness of its worker.

use serde_json::{Value, json};

use crate::cli::context::{ledger_file, state_file};
use crate::cli::sources::SourceRef;
use crate::config::{SourceAuth, SourceKind};
use crate::disk::{RealDisk, process_exists};
use crate::engine::{Status, Timestamp};
use crate::state::{ExecutionState, SCHEMA, StateFile, read_state_file, running_worker_pid};

/// Status of one source. Reading it changes nothing.
#[derive(Debug)]
pub(super) struct SourceStatus<'a> {
    pub source: &'a SourceRef,
    pub state: StateRead,
}

/// Result of reading the state file.
#[derive(Debug)]
pub(super) enum StateRead {
    NeverRun,
    State(Box<ExecutionState>, WorkerLiveness),
    /// The source has run, but its state file is missing or unreadable: the reason and the remedy.
    Unreadable(String),
}

/// Liveness of the process that writes the state file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum WorkerLiveness {
    Running,
    /// The process removed its pid from the state file when it exited.
    Stopped,
    /// The process no longer exists, but its pid is still in the state file.
    Crashed {
        pid: u32,
    },
}

/// Reads the status of a source.
#[must_use]
pub(super) fn read_status(source: &SourceRef) -> SourceStatus<'_> {
    let state = match read_state_file(&RealDisk, &state_file(&source.dir)) {
        Ok(StateFile::Read(state)) => {
            let liveness = worker_liveness(running_worker_pid(&source.dir, state.pid));
            StateRead::State(state, liveness)
        }
        Ok(StateFile::Absent) if ledger_file(&source.dir).exists() => {
            StateRead::Unreadable(format!("its state file is missing; {REBUILD_HINT}"))
        }
        Ok(StateFile::Absent) => StateRead::NeverRun,
        Ok(StateFile::Unreadable { reason }) => StateRead::Unreadable(format!(
            "its state file cannot be read ({reason}); {REBUILD_HINT}"
        )),
        Ok(StateFile::Newer { schema }) => StateRead::Unreadable(format!(
            "a newer cynosure wrote its state file (schema {schema}, this one knows {SCHEMA}); \
             use that version"
        )),
        Err(failure) => StateRead::Unreadable(failure.message),
    };
    SourceStatus { source, state }
}

const REBUILD_HINT: &str = "the next run rebuilds it from the ledger";

fn worker_liveness(pid: Option<u32>) -> WorkerLiveness {
    let Some(pid) = pid else { return WorkerLiveness::Stopped };
    if process_exists(pid) { WorkerLiveness::Running } else { WorkerLiveness::Crashed { pid } }
}

impl SourceStatus<'_> {
    /// Returns the keys of the state file in every case, and three more: `configured`, `running`
    /// and `trouble`.
    ///
    /// Before the first run the status is `idle`, the times are null and the counts zero. If the
    /// state file is missing or unreadable, the status is null and `trouble` is the reason.
    #[must_use]
    pub(super) fn to_json(&self) -> Value {
        let mut value = match &self.state {
            StateRead::State(state, _) => json!(state),
            StateRead::NeverRun | StateRead::Unreadable(_) => self.never_run_json(),
        };
        let unreadable = match &self.state {
            StateRead::Unreadable(reason) => Some(reason),
            StateRead::NeverRun | StateRead::State(..) => None,
        };
        if unreadable.is_some() {
            value["status"] = Value::Null;
        }
        let is_configured = self.source.settings.is_some();
        value["configured"] = (!self.source.is_config_uncertain).then_some(is_configured).into();
        value["running"] =
            matches!(self.state, StateRead::State(_, WorkerLiveness::Running)).into();
        value["trouble"] = unreadable.cloned().into();
        value
    }

    fn never_run_json(&self) -> Value {
        let settings = self.source.settings.as_ref();
        let epoch = Timestamp(0);
        let mut value = json!(ExecutionState {
            schema: SCHEMA,
            source: self.source.name.to_string(),
            account: settings.map(|source| source.account.clone()).unwrap_or_default(),
            provider: settings.map(|source| source.provider.clone()).unwrap_or_default(),
            kind: settings
                .map(|source| match source.kind {
                    SourceKind::Jmap => "jmap".to_owned(),
                })
                .unwrap_or_default(),
            status: Status::Idle,
            state_since: epoch,
            state_until: None,
            reason: "never run before".to_owned(),
            resume_state: None,
            should_restart_when_due: false,
            session_id: None,
            start_time: None,
            completion_time: None,
            last_poll: None,
            is_full_listing: false,
            is_listing_changes: false,
            total_threads: 0,
            downloaded_threads: 0,
            gone: 0,
            quarantined: 0,
            versions: 0,
            copies: 0,
            waiting_for_retry: 0,
            expected_documents: None,
            rate_per_second: None,
            last_progress: epoch,
            last_success: None,
            error_count: 0,
            consecutive_errors: 0,
            retry_count: 0,
            restart_count: 0,
            last_restart: None,
            last_error: None,
            is_rate_limited: false,
            rate_limit_until: None,
            rate_limits_in_a_row: 0,
            incomplete_listings_in_a_row: 0,
            last_updated: epoch,
            pid: None,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        });
        for key in ["state_since", "last_progress", "last_updated"] {
            value[key] = Value::Null;
        }
        value
    }

    /// Returns the noun for the credential of the source: password, token or credential.
    #[must_use]
    pub(super) fn credential_noun(&self) -> &'static str {
        match self.source.settings.as_ref().map(|source| &source.auth) {
            Some(SourceAuth::Basic { .. }) => "password",
            Some(SourceAuth::Bearer { .. }) => "token",
            None => "credential",
        }
    }
}
