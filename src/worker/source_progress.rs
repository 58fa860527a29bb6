//! Current progress of a source, published within the process.

use cynosure_engine::{MachineConfig, State, StateMachine, Status, SyncPhase, Timestamp};

use crate::worker::state_mapping::SessionProgress;

/// Current status and progress of one source.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceProgress {
    pub status: Status,
    /// Items settled in this session.
    pub settled_items: u64,
    /// Items listed in this session.
    pub listed_items: u64,
    /// Items that wait for a retry of their own.
    pub waiting_items: u64,
    /// Bytes fetched in this session.
    pub fetched_bytes: u64,
    /// Estimated bytes to fetch in this session, if the server reports sizes.
    pub expected_bytes: Option<u64>,
    pub items_per_second: Option<f64>,
    /// Completion of the last session; `None` while one is open, and before the first.
    pub completed_at: Option<Timestamp>,
    pub reason: String,
    pub until: Timestamp,
}

impl SourceProgress {
    /// Returns the progress to show before the worker has published any.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            status: Status::Idle,
            settled_items: 0,
            listed_items: 0,
            waiting_items: 0,
            fetched_bytes: 0,
            expected_bytes: None,
            items_per_second: None,
            completed_at: None,
            reason: String::new(),
            until: Timestamp::default(),
        }
    }

    pub(super) fn new(
        machine: &StateMachine,
        config: &MachineConfig,
        progress: &SessionProgress,
    ) -> Self {
        Self {
            status: machine.status(),
            settled_items: progress.counts.settled(),
            listed_items: progress.counts.listed,
            waiting_items: progress.waiting_items,
            fetched_bytes: progress.counts.fetched_bytes(),
            expected_bytes: progress.counts.expected_bytes,
            items_per_second: progress.items_per_second,
            completed_at: machine.session.as_ref().and_then(|session| session.completed_at),
            reason: machine.reason.clone(),
            until: match machine.state {
                // The poll has been running since then, or is delayed until then.
                State::Working(SyncPhase::Polling) => machine.progress.expected_since,
                State::Idle { .. }
                | State::Working(SyncPhase::Collecting | SyncPhase::Downloading)
                | State::Completed
                | State::Error { .. }
                | State::RateLimited { .. }
                | State::AuthFailed { .. } => machine.deadline(config),
            },
        }
    }
}
