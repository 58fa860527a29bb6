//! Where every loop of the process says when it looks again, for the watchdog to see.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::engine::{
    AfterWait, DualTimestamp, HeartbeatDeadline, MissedHeartbeat, State, StateMachine, Timestamp,
    find_missed_heartbeat,
};
use crate::worker::world::{RealWorld, World};

/// How long a loop may be busy between two waits: the slowest disk that still works, with
/// every retry, and much less than a night without anybody noticing.
const TURN_MAX: Duration = Duration::from_secs(120);

/// The promises of all loops. It is shared with a thread that no loop can block.
#[derive(Clone, Debug, Default)]
pub struct Board {
    seats: Arc<Mutex<BTreeMap<String, Entry>>>,
}

/// One loop's place at the board. What it promised stands until it [leaves](Self::leave) or
/// promises anew: a loop that breaks leaves its promise behind, to be missed.
#[derive(Clone, Debug)]
pub struct Seat {
    /// Absent where nobody watches.
    board: Option<Board>,
    name: String,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    promise: HeartbeatDeadline,
    last_progress: Timestamp,
    standing: Standing,
}

/// What starting the process anew would disturb.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    AtWork,
    /// It waits for a restart itself.
    AwaitsRestart,
    /// It is no source, and has nothing to lose.
    KeepsTime,
}

impl Board {
    #[must_use]
    pub fn seat(&self, name: &str) -> Seat {
        Seat { board: Some(self.clone()), name: name.to_owned() }
    }

    /// The promise that has been broken for longest, if any is.
    #[must_use]
    pub fn overdue(&self) -> Option<MissedHeartbeat> {
        let seats = self.lock();
        find_missed_heartbeat(
            seats.iter().map(|(name, entry)| (name.as_str(), entry.promise)),
            clocks(),
        )
    }

    /// When anything of the process last made progress.
    #[must_use]
    pub fn last_progress(&self) -> Timestamp {
        self.lock().values().map(|entry| entry.last_progress).max().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        // Every entry is whole, whoever broke while holding it.
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// A place that nobody looks at.
    #[must_use]
    pub fn unwatched() -> Self {
        Self { board: None, name: String::new() }
    }

    /// Promises to look again within `wait`, and then to be done with what it finds.
    pub fn promise(&self, wait: Duration, doing: &'static str) {
        let by = clocks().after(wait.saturating_add(TURN_MAX));
        self.set(HeartbeatDeadline { at: by, activity: doing }, Standing::AtWork);
    }

    /// Promises for the runtime itself to look again within exactly this time.
    pub(super) fn beat(&self, wait: Duration) {
        let promise = HeartbeatDeadline { at: clocks().after(wait), activity: "keeping time" };
        self.set(promise, Standing::KeepsTime);
    }

    /// Shows what the machine has come to.
    pub(super) fn show(&self, machine: &StateMachine) {
        let Some(board) = &self.board else { return };
        if let Some(entry) = board.lock().get_mut(&self.name) {
            entry.last_progress = machine.last_progress;
            entry.standing = match machine.state {
                State::Error { after_wait: AfterWait::Restart, .. }
                | State::AuthFailed { .. }
                | State::Completed => Standing::AwaitsRestart,
                State::Idle { .. }
                | State::Working(_)
                | State::Error { after_wait: AfterWait::Resume, .. }
                | State::RateLimited { .. } => Standing::AtWork,
            };
        }
    }

    /// Whether every other loop waits for a restart, so that one of the process disturbs nobody.
    #[must_use]
    pub(super) fn is_last_at_work(&self) -> bool {
        let Some(board) = &self.board else { return false };
        let others_at_work = board
            .lock()
            .iter()
            .any(|(name, entry)| *name != self.name && entry.standing == Standing::AtWork);
        !others_at_work
    }

    /// There is nothing more to expect of this loop.
    pub fn leave(&self) {
        if let Some(board) = &self.board {
            board.lock().remove(&self.name);
        }
    }

    /// Renews the promise; the standing is that of a first one, and later shown by the machine.
    fn set(&self, promise: HeartbeatDeadline, standing: Standing) {
        let Some(board) = &self.board else { return };
        let mut seats = board.lock();
        match seats.get_mut(&self.name) {
            Some(entry) => entry.promise = promise,
            None => {
                let new = Entry { promise, last_progress: Timestamp::default(), standing };
                seats.insert(self.name.clone(), new);
            }
        }
    }
}

fn clocks() -> DualTimestamp {
    DualTimestamp { wall: RealWorld.now(), uptime: RealWorld::uptime() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_breaks_leaves_its_promise_behind() {
        let board = Board::default();
        {
            let lost = board.seat("lost");
            lost.beat(Duration::ZERO);
            board.seat("kept").promise(Duration::from_secs(6 * 3600), "rate_limited");
        }
        let before = RealWorld::uptime();
        while RealWorld::uptime() < before + Duration::from_millis(5) {
            std::hint::spin_loop();
        }

        assert_eq!(board.overdue().map(|overdue| overdue.loop_name), Some("lost".to_owned()));

        board.seat("lost").leave();
        assert_eq!(board.overdue(), None);
    }

    #[test]
    fn a_process_may_start_anew_when_every_other_source_waits_for_that() {
        let board = Board::default();
        let [one, other] = ["one", "other"].map(|name| board.seat(name));
        board.seat("runtime").beat(Duration::from_secs(60));
        let mut machine = StateMachine::new(Timestamp(0));
        for seat in [&one, &other] {
            seat.promise(Duration::from_secs(60), "idle");
            seat.show(&machine);
        }

        assert!(!one.is_last_at_work());
        machine.state = State::Completed;
        other.show(&machine);
        assert!(one.is_last_at_work());
        assert!(!Seat::unwatched().is_last_at_work());
    }
}
