//! What a person who watches sees at the moment.

use crate::engine::{MachineConfig, State, StateMachine, Status, SyncPhase, Timestamp};
use crate::worker::store::Progress;

/// One source, right now.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    pub status: Status,
    /// Items settled in this session.
    pub done: u64,
    /// Items listed in this session.
    pub total: u64,
    /// Items that wait for a retry of their own.
    pub waiting: u64,
    pub rate_per_second: Option<f64>,
    pub reason: String,
    pub until: Timestamp,
}

impl View {
    /// What is seen before the worker has said anything.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            status: Status::Idle,
            done: 0,
            total: 0,
            waiting: 0,
            rate_per_second: None,
            reason: String::new(),
            until: Timestamp::default(),
        }
    }

    pub(super) fn new(machine: &StateMachine, rules: &MachineConfig, progress: &Progress) -> Self {
        Self {
            status: machine.status(),
            done: progress.tally.settled(),
            total: progress.tally.listed,
            waiting: progress.waiting,
            rate_per_second: progress.rate_per_second,
            reason: machine.reason.clone(),
            until: match machine.state {
                // A look goes on since then, or waits for its turn until then.
                State::Working(SyncPhase::Polling) => machine.progress_expected_since,
                State::Idle { .. }
                | State::Working(SyncPhase::Collecting | SyncPhase::Downloading)
                | State::Completed
                | State::Error { .. }
                | State::RateLimited { .. }
                | State::AuthFailed { .. } => machine.deadline(rules),
            },
        }
    }
}
