//! Saves what the machine became, and tells everyone who watches.

use std::time::Duration;

use tracing::{Span, error_span, info, warn};

use super::{Driver, Exit, Mode, TURN_SPAN};
use crate::engine::metrics::SourceMetrics;
use crate::engine::{Failure, SessionId, State, StateMachine, Status, SyncPhase, Timestamp};
use crate::source::Source;
use crate::worker::store::Progress;
use crate::worker::view::View;
use crate::worker::world::World;

/// How often progress is written to the state file and shown, between transitions.
pub(super) const PUBLISH_INTERVAL: Duration = Duration::from_secs(2);

/// How often progress is logged: a week of downloading is ten thousand lines.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// How often figures are written, between changes of state: whoever reads them looks no oftener.
const FIGURES_INTERVAL: Duration = Duration::from_secs(5);

/// When the figures were last written.
#[derive(Debug, Default)]
pub(super) struct Published {
    at: Timestamp,
    /// They are written with the next state, whatever the time.
    pub(super) is_overdue: bool,
    /// It did not work the last time.
    has_failed: bool,
}

impl<S: Source + 'static, W: World> Driver<S, W> {
    pub(super) fn is_worth_saving(&self, next: &StateMachine) -> bool {
        let is_look = next.state == State::Working(SyncPhase::Polling);
        self.machine.status() != next.status()
            || (self.machine.state != next.state && !is_look)
            || self.machine.session != next.session
            || self.machine.error_count != next.error_count
            || self.machine.restart_count != next.restart_count
    }

    pub(super) async fn save(&mut self, machine: &StateMachine) -> Result<(), Failure> {
        let (before, after) = (self.machine.status(), machine.clone());
        let has_left =
            before != machine.status() || self.machine.restart_count != machine.restart_count;
        let left = has_left.then_some(before);
        let (progress, now) = (self.progress(), self.world.now());
        let until = match machine.state {
            State::Completed => None,
            State::Idle { .. }
            | State::Working(_)
            | State::Error { .. }
            | State::RateLimited { .. }
            | State::AuthFailed { .. } => Some(machine.deadline(&self.rules)),
        };
        let refused = self.refused.take();
        let figures = self.figures_due(has_left, now);
        let (kept, saved, published) = self
            .shared
            .with(move |store| {
                let kept = refused.map_or(Ok(()), |failure| store.keep_reply(&failure, now));
                let saved = store.save(left, &after, until, &progress, now);
                (kept, saved, figures.map(|figures| store.publish(&figures, now)))
            })
            .await;
        self.note_published(published);
        if let Err(failure) = kept {
            // It would have told a person more; the work does not hang on it.
            warn!(cause = %failure.cause, "the server's reply is not kept: {failure}");
        }
        if saved.is_ok() {
            self.unsaved = false;
            self.published_at = now;
        }
        self.show(machine);
        saved
    }

    /// Writes progress down now and then, between transitions.
    pub(super) async fn publish(&mut self) {
        if !self.unsaved || self.world.now() < self.published_at.after(PUBLISH_INTERVAL) {
            return;
        }
        let machine = self.machine.clone();
        self.published_at = self.world.now();
        if let Err(failure) = self.save(&machine).await {
            warn!(cause = %failure.cause, "cannot save progress: {failure}");
        }
        let now = self.world.now();
        if self.is_downloading() && self.logged_at.after(LOG_INTERVAL) <= now {
            self.logged_at = now;
            info!(done = self.tally.settled(), total = self.tally.listed, "download progress");
        }
    }

    /// The figures, if it is time to write them down.
    fn figures_due(&mut self, has_left: bool, now: Timestamp) -> Option<Box<SourceMetrics>> {
        let published = &mut self.figures;
        let is_old = published.at.after(FIGURES_INTERVAL) <= now || now < published.at;
        if !(has_left || is_old || published.is_overdue) {
            return None;
        }
        (published.at, published.is_overdue) = (now, false);
        let proxies = self.proxies.as_ref().map(|proxies| proxies.figures());
        self.meter.note(|figures| figures.proxies = proxies);
        Some(self.meter.figures())
    }

    /// Complains of figures that could not be written, once: no work hangs on them.
    fn note_published(&mut self, published: Option<Result<(), Failure>>) {
        match published {
            Some(Err(failure)) if !self.figures.has_failed => {
                warn!(cause = %failure.cause, "nobody sees what is counted: {failure}");
                self.figures.has_failed = true;
            }
            Some(Ok(())) => self.figures.has_failed = false,
            Some(Err(_)) | None => {}
        }
    }

    /// The span of the next turn, made anew when what it says has changed.
    pub(super) fn span(&mut self) -> Span {
        let (status, session) = (self.machine.status(), self.machine.session.as_ref());
        let id = session.map(|session| &session.id);
        match &self.span {
            Some((of, with, span)) if *of == status && with.as_ref() == id => span.clone(),
            Some(_) | None => {
                let name = id.map(SessionId::as_str);
                let span = error_span!(TURN_SPAN, session = name, state = status.name());
                self.span = Some((status, id.cloned(), span.clone()));
                span
            }
        }
    }

    pub(super) fn show(&self, machine: &StateMachine) {
        let view = View::new(machine, &self.rules, &self.progress());
        self.view.send_replace(view);
    }

    pub(super) fn progress(&self) -> Progress {
        Progress {
            tally: self.tally,
            waiting: self.waiting,
            expected_documents: self.expected_documents,
            rate_per_second: self.rate.per_second(self.world.now()),
            succeeded_at: self.downloads.succeeded_at(),
        }
    }

    pub(super) fn log_transition(&self, next: &StateMachine) {
        if next.status() == self.machine.status() {
            return;
        }
        let until = next.deadline(&self.rules);
        let (state, why) = (next.status().name(), next.reason.as_str());
        match next.status() {
            Status::RateLimited => info!(state, %until, why, "rate limited"),
            Status::Error => info!(state, %until, why, "scheduling retry"),
            Status::AuthFailed => warn!(state, %until, why, "authentication failed"),
            Status::Downloading => {
                info!(state, total = self.tally.listed, why, "started downloading");
            }
            Status::Idle | Status::Collecting | Status::Completed => {
                info!(state, why, "entered state");
            }
        }
    }

    pub(super) fn log_completed(&mut self) {
        let tally = self.tally;
        info!(
            listed = tally.listed,
            stored = tally.stored,
            gone = tally.gone,
            quarantined = tally.quarantined,
            versions = tally.versions,
            copies = tally.copies,
            "execution completed"
        );
        if self.mode != Mode::Keep {
            self.exit = Some(Exit::Completed);
        }
    }
}
