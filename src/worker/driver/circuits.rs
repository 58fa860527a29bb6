//! Waits where a breaker lets nothing through, and goes on when it does.

use super::Driver;
use crate::engine::{Event, State, SyncPhase, Timestamp};
use crate::source::Source;
use crate::worker::breakers::Shut;
use crate::worker::world::World;

impl<S: Source + 'static, W: World> Driver<S, W> {
    /// Sees to the breakers: what others have made of them, and whether the work may go on.
    pub(super) async fn heed_circuits(&mut self) {
        self.circuits.sync(&*self.world).await;
        match self.machine.state {
            State::Working(_) => {
                self.shut_by = None;
                if let Some(shut) = self.circuits.shut() {
                    self.wait_for(shut).await;
                }
            }
            State::Error { .. } => {
                if self.shut_by.take_if(|shut| self.circuits.is_closed(&shut.name)).is_some() {
                    self.decide(Event::CircuitClosed).await;
                }
            }
            State::Idle { .. }
            | State::Completed
            | State::RateLimited { .. }
            | State::AuthFailed { .. } => self.shut_by = None,
        }
    }

    /// Waits for a breaker, whoever opened it.
    pub(super) async fn wait_for(&mut self, shut: Shut) {
        // A look or a page on its way would go on beside the next one.
        if let State::Working(SyncPhase::Polling | SyncPhase::Collecting) = self.machine.state {
            self.drop_jobs();
        }
        let (until, reason) = (shut.until(self.world.now()), shut.to_string());
        self.shut_by = Some(shut);
        self.decide(Event::CircuitOpen { until, reason }).await;
    }

    /// When it is time to see what others have made of the breakers: often where that ends a
    /// wait, or stops what is under way.
    pub(super) fn heeds_at(&self) -> Option<Timestamp> {
        let matters = match self.machine.state {
            State::Error { .. } => self.shut_by.is_some(),
            State::Working(_) => self.downloads.in_flight() > 0,
            State::Idle { .. }
            | State::Completed
            | State::RateLimited { .. }
            | State::AuthFailed { .. } => false,
        };
        matters.then(|| self.circuits.next_look())
    }
}
