//! The clock was set: every moment that is remembered moves with it, so that a wait is as long as
//! it was.

use tracing::{error, warn};

use super::Driver;
use crate::engine::{ClockReading, ClockStep, Timestamp};
use crate::source::Source;
use crate::worker::world::World;

impl<S: Source + 'static, W: World> Driver<S, W> {
    /// The time, once all moments here are of the clock as it is set now.
    pub(super) fn follow_clock(&mut self) -> Timestamp {
        let ClockReading { wall: now, booted_at: booted } = self.world.time();
        let Some(step) = ClockStep::between(self.booted, booted) else { return now };
        warn!(%step, "the clock was set: what is waited for is as far away as it was");
        self.booted = booted;
        self.machine = self.machine.clone().shifted_by(step);
        self.downloads.moved(step);
        self.rate.restart(self.tally.settled(), now);
        self.logged_at = now;
        // Whoever reads the state must not go by the old clock any longer.
        (self.unsaved, self.published_at) = (true, Timestamp::default());
        self.seat.show(&self.machine);
        now
    }

    /// A moment of the clock that all moments here are of.
    pub(super) fn reckoned(&self, at: Timestamp) -> ClockReading {
        ClockReading { wall: at, booted_at: self.booted }
    }

    /// Whether what waits in the ledger still goes by an earlier clock.
    pub(super) fn is_ledger_behind(&self) -> bool {
        self.ledger_booted != self.booted
    }

    /// Has what waits in the ledger go by the clock as it is set now, once nothing is under way
    /// that goes by an earlier one.
    pub(super) async fn move_ledger(&mut self) {
        if !self.is_ledger_behind() || !self.commits.is_empty() {
            return;
        }
        let step = ClockStep::between(self.ledger_booted, self.booted);
        self.ledger_booted = self.booted;
        let Some(step) = step else { return };
        if let Err(failure) = self.shared.with(move |store| store.move_by(step)).await {
            error!(cause = %failure.cause, "items wait for times of the old clock: {failure}");
        }
        self.downloads.ask_again();
    }
}
