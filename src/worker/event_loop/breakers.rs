//! Waits while a circuit breaker is open, and resumes when it closes.

use cynosure_engine::{Event, State, SyncPhase, Timestamp};

use super::EventLoop;
use crate::env::Env;
use crate::source::Source;
use crate::worker::breakers::OpenBreaker;

impl<S: Source + 'static, E: Env> EventLoop<S, E> {
    /// Synchronises the breakers with other processes, and waits or resumes accordingly.
    pub(super) async fn check_breakers(&mut self) {
        self.deps.breakers.sync(&*self.deps.env).await;
        match self.machine.state {
            State::Working(_) => {
                self.work.open_breaker = None;
                if let Some(breaker) = self.deps.breakers.open_breaker() {
                    self.wait_for_breaker(breaker).await;
                }
            }
            State::Error { .. } => {
                if self
                    .work
                    .open_breaker
                    .take_if(|breaker| !self.deps.breakers.is_in_open_period(&breaker.name))
                    .is_some()
                {
                    self.handle_event(Event::CircuitClosed).await;
                }
            }
            State::Idle { .. }
            | State::Completed
            | State::RateLimited { .. }
            | State::AuthFailed { .. } => self.work.open_breaker = None,
        }
    }

    /// Waits for an open breaker, whether this source or another has opened it.
    pub(super) async fn wait_for_breaker(&mut self, breaker: OpenBreaker) {
        // A poll or page in flight would continue beside the one that follows the wait.
        if let State::Working(SyncPhase::Polling | SyncPhase::Collecting) = self.machine.state {
            self.cancel_tasks();
        }
        let (until, reason) = (breaker.wait_until(self.deps.env.now()), breaker.to_string());
        self.work.open_breaker = Some(breaker);
        self.handle_event(Event::CircuitOpen { until, reason }).await;
    }

    /// Returns the time of the next synchronisation of the breakers; `None` while no breaker can
    /// end a wait or stop a request.
    pub(super) fn next_breaker_check(&self) -> Option<Timestamp> {
        let is_sync_needed = match self.machine.state {
            State::Error { .. } => self.work.open_breaker.is_some(),
            State::Working(_) => self.work.downloads.in_flight() > 0,
            State::Idle { .. }
            | State::Completed
            | State::RateLimited { .. }
            | State::AuthFailed { .. } => false,
        };
        is_sync_needed.then(|| self.deps.breakers.next_sync_at())
    }
}
