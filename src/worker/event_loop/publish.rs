//! Saves the state of the machine, and publishes progress and metrics.

use cynosure_engine::{Failure, State, StateMachine, Status, SyncPhase};
use tracing::{info, warn};

use super::{EventLoop, LoopExit, RunMode};
use crate::env::Env;
use crate::source::Source;
use crate::worker::source_progress::SourceProgress;

impl<S: Source + 'static, E: Env> EventLoop<S, E> {
    pub(super) fn should_save(&self, next: &StateMachine) -> bool {
        let is_poll = next.state == State::Working(SyncPhase::Polling);
        self.machine.status() != next.status()
            || (self.machine.state != next.state && !is_poll)
            || self.machine.session != next.session
            || self.machine.errors.total != next.errors.total
            || self.machine.restarts.count != next.restarts.count
    }

    pub(super) async fn save_state(&mut self, machine: &StateMachine) -> Result<(), Failure> {
        let (before, after) = (self.machine.status(), machine.clone());
        let has_left_status =
            before != machine.status() || self.machine.restarts.count != machine.restarts.count;
        let left_status = has_left_status.then_some(before);
        let now = self.deps.env.now();
        let progress = self.progress.snapshot(self.work.downloads.last_success_at(), now);
        let until = match machine.state {
            State::Completed => None,
            State::Idle { .. }
            | State::Working(_)
            | State::Error { .. }
            | State::RateLimited { .. }
            | State::AuthFailed { .. } => Some(machine.deadline(&self.policy.machine_config)),
        };
        let error_response = self.publication.unsaved_error_response.take();
        let metrics = self.publication.take_due_metrics(has_left_status, &self.observers, now);
        let (response_result, result, metrics_result) = self
            .deps
            .store
            .with_store(move |store| {
                let response_result = error_response
                    .map_or(Ok(()), |failure| store.save_error_response(&failure, now));
                let result = store.save(left_status, &after, until, &progress, now);
                (response_result, result, metrics.map(|metrics| store.save_metrics(&metrics, now)))
            })
            .await;
        self.publication.record_metrics_result(metrics_result);
        if let Err(failure) = response_result {
            // The response would have helped an operator, but no work depends on it.
            warn!(
                cause = %failure.cause, error = %failure,
                "cannot save the server's error response"
            );
        }
        if result.is_ok() {
            self.publication.has_unsaved_changes = false;
            self.publication.state_saved_at = now;
        }
        self.publish_source_progress(machine);
        result
    }

    /// Reads the totals of the archive from the ledger. No work depends on them.
    pub(super) async fn read_archive_totals(&mut self) {
        let totals = self.deps.store.with_store(|store| store.archive_totals()).await;
        if let Err(failure) = &totals {
            warn!(cause = %failure.cause, error = %failure, "cannot count the stored documents");
        }
        self.progress.archive = totals.ok();
    }

    /// Saves and logs progress at intervals between transitions.
    pub(super) async fn publish_progress(&mut self) {
        let now = self.deps.env.now();
        if self.publication.due_at().is_none_or(|due_at| now < due_at) {
            return;
        }
        let machine = self.machine.clone();
        self.publication.state_saved_at = now;
        if let Err(failure) = self.save_state(&machine).await {
            warn!(cause = %failure.cause, error = %failure, "cannot save progress");
        }
        if self.is_downloading() && self.publication.take_due_log(self.deps.env.now()) {
            let counts = self.progress.counts;
            info!(done = counts.settled(), total = counts.listed, "download progress");
        }
    }

    fn publish_source_progress(&self, machine: &StateMachine) {
        let last_success_at = self.work.downloads.last_success_at();
        let progress = self.progress.snapshot(last_success_at, self.deps.env.now());
        let progress = SourceProgress::new(machine, &self.policy.machine_config, &progress);
        self.publication.source_progress.send_replace(progress);
    }

    pub(super) fn log_transition(&self, next: &StateMachine) {
        if next.status() == self.machine.status() {
            return;
        }
        let until = next.deadline(&self.policy.machine_config);
        let (state, reason) = (next.status().name(), next.reason.as_str());
        match next.status() {
            Status::RateLimited => info!(state, %until, reason, "rate limited"),
            Status::Error => info!(state, %until, reason, "scheduling retry"),
            Status::AuthFailed => warn!(state, %until, reason, "authentication failed"),
            Status::Downloading => {
                info!(state, total = self.progress.counts.listed, reason, "started downloading");
            }
            Status::Idle | Status::Collecting | Status::Completed => {
                info!(state, reason, "entered state");
            }
        }
    }

    pub(super) fn on_session_completed(&mut self) {
        let counts = self.progress.counts;
        let archive = self.progress.archive;
        info!(
            listed = counts.listed,
            stored = counts.stored,
            gone = counts.gone,
            quarantined = counts.quarantined,
            versions = counts.versions,
            copies = counts.copies,
            archive_documents = archive.map(|archive| archive.documents),
            archive_bytes = archive.map(|archive| archive.bytes),
            complete_until = self.machine.sync.complete_until.map(display),
            "execution completed"
        );
        if self.policy.mode != RunMode::Continuous {
            self.exit = Some(LoopExit::Completed);
        }
    }
}
