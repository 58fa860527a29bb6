//! Publication: what was saved and shown of the source, and when the next time is due.

use std::time::Duration;

use cynosure_engine::metrics::SourceMetrics;
use cynosure_engine::{Failure, SessionId, StateMachine, Status, Timestamp};
use tokio::sync::watch;
use tracing::{Span, error_span, warn};

use super::observers::Observers;
use crate::worker::source_progress::SourceProgress;

/// Name of the log span of one iteration. Its fields are `session` and `state`.
pub const ITERATION_SPAN: &str = "iteration";

/// Interval at which progress is saved and published between transitions.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(2);

/// Interval at which progress is logged: a week of downloading gives ten thousand lines.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Interval at which metrics are written between changes of state: they are not read more often.
const METRICS_INTERVAL: Duration = Duration::from_secs(5);

/// Publication of state, progress, metrics and logs of one source.
#[derive(Debug)]
pub(super) struct Publication {
    pub source_progress: watch::Sender<SourceProgress>,
    /// Time of the last save, or of the last attempt between transitions.
    pub state_saved_at: Timestamp,
    pub has_unsaved_changes: bool,
    /// Last failure with a response, until the response is stored.
    pub unsaved_error_response: Option<Failure>,
    metrics_published_at: Timestamp,
    /// The metrics are written with the next state, whatever the time.
    pub are_metrics_forced: bool,
    /// The last write of the metrics failed.
    has_metrics_failure: bool,
    progress_logged_at: Timestamp,
    /// Log span for the current status and session.
    log_span: Option<(Status, Option<SessionId>, Span)>,
}

impl Publication {
    pub(super) fn new(source_progress: watch::Sender<SourceProgress>, now: Timestamp) -> Self {
        Self {
            source_progress,
            // Saved at once, so that readers see that a worker runs again.
            state_saved_at: Timestamp::default(),
            has_unsaved_changes: true,
            unsaved_error_response: None,
            metrics_published_at: Timestamp::default(),
            are_metrics_forced: false,
            has_metrics_failure: false,
            progress_logged_at: now,
            log_span: None,
        }
    }

    /// Returns the time at which changes are saved between transitions; `None` without changes.
    pub(super) fn due_at(&self) -> Option<Timestamp> {
        self.has_unsaved_changes.then(|| self.state_saved_at.after(PUBLISH_INTERVAL))
    }

    /// Returns true if progress is to be logged now.
    pub(super) fn take_due_log(&mut self, now: Timestamp) -> bool {
        let is_due = self.progress_logged_at.after(LOG_INTERVAL) <= now;
        if is_due {
            self.progress_logged_at = now;
        }
        is_due
    }

    /// Starts all intervals again. Readers of the state must not use timestamps of the old clock
    /// any longer.
    pub(super) fn on_clock_step(&mut self, now: Timestamp) {
        self.progress_logged_at = now;
        (self.has_unsaved_changes, self.state_saved_at) = (true, Timestamp::default());
    }

    /// Returns the metrics if they are due to be written.
    pub(super) fn take_due_metrics(
        &mut self,
        has_left_status: bool,
        observers: &Observers,
        now: Timestamp,
    ) -> Option<Box<SourceMetrics>> {
        let is_interval_over = self.metrics_published_at.after(METRICS_INTERVAL) <= now
            || now < self.metrics_published_at;
        if !(has_left_status || is_interval_over || self.are_metrics_forced) {
            return None;
        }
        (self.metrics_published_at, self.are_metrics_forced) = (now, false);
        Some(observers.metrics_snapshot())
    }

    /// Logs the first of several failures to write the metrics: no work depends on them.
    pub(super) fn record_metrics_result(&mut self, result: Option<Result<(), Failure>>) {
        match result {
            Some(Err(failure)) if !self.has_metrics_failure => {
                warn!(cause = %failure.cause, error = %failure, "cannot write the metrics file");
                self.has_metrics_failure = true;
            }
            Some(Ok(())) => self.has_metrics_failure = false,
            Some(Err(_)) | None => {}
        }
    }

    /// Returns the log span of the next iteration. A new one is created when status or session
    /// changed.
    pub(super) fn iteration_span(&mut self, machine: &StateMachine) -> Span {
        let (status, session) = (machine.status(), machine.session.as_ref());
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
}
