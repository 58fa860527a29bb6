//! Saves the state of the machine, and publishes progress and metrics.

use std::time::Duration;

use tracing::{Span, error_span, info, warn};

use super::{EventLoop, ITERATION_SPAN, LoopExit, RunMode};
use crate::engine::metrics::SourceMetrics;
use crate::engine::{Failure, SessionId, State, StateMachine, Status, SyncPhase, Timestamp};
use crate::source::Source;
use crate::worker::env::Env;
use crate::worker::source_progress::SourceProgress;
use crate::worker::state_mapping::SessionProgress;

/// Interval at which progress is saved and published between transitions.
pub(super) const PUBLISH_INTERVAL: Duration = Duration::from_secs(2);

/// Interval at which progress is logged: a week of downloading gives ten thousand lines.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Interval at which metrics are written between changes of state: they are not read more often.
const METRICS_INTERVAL: Duration = Duration::from_secs(5);

/// Time and result of the last write of the metrics.
#[derive(Debug, Default)]
pub(super) struct MetricsPublication {
    published_at: Timestamp,
    /// The metrics are written with the next state, whatever the time.
    pub(super) is_forced: bool,
    /// The last write failed.
    has_failed: bool,
}

impl<S: Source + 'static, E: Env> EventLoop<S, E> {
    pub(super) fn should_save(&self, next: &StateMachine) -> bool {
        let is_poll = next.state == State::Working(SyncPhase::Polling);
        self.machine.status() != next.status()
            || (self.machine.state != next.state && !is_poll)
            || self.machine.session != next.session
            || self.machine.error_count != next.error_count
            || self.machine.restart_count != next.restart_count
    }

    pub(super) async fn save_state(&mut self, machine: &StateMachine) -> Result<(), Failure> {
        let (before, after) = (self.machine.status(), machine.clone());
        let has_left_status =
            before != machine.status() || self.machine.restart_count != machine.restart_count;
        let left_status = has_left_status.then_some(before);
        let (progress, now) = (self.progress(), self.env.now());
        let until = match machine.state {
            State::Completed => None,
            State::Idle { .. }
            | State::Working(_)
            | State::Error { .. }
            | State::RateLimited { .. }
            | State::AuthFailed { .. } => Some(machine.deadline(&self.machine_config)),
        };
        let error_response = self.unsaved_error_response.take();
        let metrics = self.take_due_metrics(has_left_status, now);
        let (response_result, result, metrics_result) = self
            .store
            .with_store(move |store| {
                let response_result = error_response
                    .map_or(Ok(()), |failure| store.save_error_response(&failure, now));
                let result = store.save(left_status, &after, until, &progress, now);
                (response_result, result, metrics.map(|metrics| store.save_metrics(&metrics, now)))
            })
            .await;
        self.record_metrics_result(metrics_result);
        if let Err(failure) = response_result {
            // The response would have helped an operator, but no work depends on it.
            warn!(
                cause = %failure.cause, error = %failure,
                "cannot save the server's error response"
            );
        }
        if result.is_ok() {
            self.has_unsaved_changes = false;
            self.state_saved_at = now;
        }
        self.publish_source_progress(machine);
        result
    }

    /// Saves and logs progress at intervals between transitions.
    pub(super) async fn publish_progress(&mut self) {
        if !self.has_unsaved_changes || self.env.now() < self.state_saved_at.after(PUBLISH_INTERVAL)
        {
            return;
        }
        let machine = self.machine.clone();
        self.state_saved_at = self.env.now();
        if let Err(failure) = self.save_state(&machine).await {
            warn!(cause = %failure.cause, error = %failure, "cannot save progress");
        }
        let now = self.env.now();
        if self.is_downloading() && self.progress_logged_at.after(LOG_INTERVAL) <= now {
            self.progress_logged_at = now;
            info!(done = self.counts.settled(), total = self.counts.listed, "download progress");
        }
    }

    /// Returns the metrics if they are due to be written.
    fn take_due_metrics(
        &mut self,
        has_left_status: bool,
        now: Timestamp,
    ) -> Option<Box<SourceMetrics>> {
        let publication = &mut self.metrics_publication;
        let is_interval_over = publication.published_at.after(METRICS_INTERVAL) <= now
            || now < publication.published_at;
        if !(has_left_status || is_interval_over || publication.is_forced) {
            return None;
        }
        (publication.published_at, publication.is_forced) = (now, false);
        let proxies = self.proxies.as_ref().map(|proxies| proxies.metrics());
        self.metrics.update(|metrics| metrics.proxies = proxies);
        Some(self.metrics.snapshot())
    }

    /// Logs the first of several failures to write the metrics: no work depends on them.
    fn record_metrics_result(&mut self, result: Option<Result<(), Failure>>) {
        match result {
            Some(Err(failure)) if !self.metrics_publication.has_failed => {
                warn!(cause = %failure.cause, error = %failure, "cannot write the metrics file");
                self.metrics_publication.has_failed = true;
            }
            Some(Ok(())) => self.metrics_publication.has_failed = false,
            Some(Err(_)) | None => {}
        }
    }

    /// Returns the log span of the next iteration. A new one is created when status or session
    /// changed.
    pub(super) fn iteration_span(&mut self) -> Span {
        let (status, session) = (self.machine.status(), self.machine.session.as_ref());
        let id = session.map(|session| &session.id);
        match &self.log_span {
            Some((span_status, span_session, span))
                if *span_status == status && span_session.as_ref() == id =>
            {
                span.clone()
            }
            Some(_) | None => {
                let session = id.map(SessionId::as_str);
                let span = error_span!(ITERATION_SPAN, session, state = status.name());
                self.log_span = Some((status, id.cloned(), span.clone()));
                span
            }
        }
    }

    pub(super) fn publish_source_progress(&self, machine: &StateMachine) {
        let progress = SourceProgress::new(machine, &self.machine_config, &self.progress());
        self.source_progress.send_replace(progress);
    }

    pub(super) fn progress(&self) -> SessionProgress {
        SessionProgress {
            counts: self.counts,
            waiting_items: self.waiting_items,
            expected_documents: self.expected_documents,
            items_per_second: self.throughput.per_second(self.env.now()),
            last_success_at: self.downloads.last_success_at(),
        }
    }

    pub(super) fn log_transition(&self, next: &StateMachine) {
        if next.status() == self.machine.status() {
            return;
        }
        let until = next.deadline(&self.machine_config);
        let (state, reason) = (next.status().name(), next.reason.as_str());
        match next.status() {
            Status::RateLimited => info!(state, %until, reason, "rate limited"),
            Status::Error => info!(state, %until, reason, "scheduling retry"),
            Status::AuthFailed => warn!(state, %until, reason, "authentication failed"),
            Status::Downloading => {
                info!(state, total = self.counts.listed, reason, "started downloading");
            }
            Status::Idle | Status::Collecting | Status::Completed => {
                info!(state, reason, "entered state");
            }
        }
    }

    pub(super) fn on_session_completed(&mut self) {
        let counts = self.counts;
        info!(
            listed = counts.listed,
            stored = counts.stored,
            gone = counts.gone,
            quarantined = counts.quarantined,
            versions = counts.versions,
            copies = counts.copies,
            "execution completed"
        );
        if self.mode != RunMode::Continuous {
            self.exit = Some(LoopExit::Completed);
        }
    }
}
