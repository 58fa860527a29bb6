//! Heartbeats: every loop of the process sets a deadline, and the watchdog checks them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cynosure_engine::{
    AfterWait, DualTimestamp, HeartbeatDeadline, MissedHeartbeat, State, StateMachine, Timestamp,
    find_missed_heartbeat,
};

use crate::env::{Env, RealEnv};

/// Longest time that a loop may be busy between two waits. It suffices for the slowest disk that
/// still works, with every retry, and is much shorter than a night in which nobody would notice a
/// hang.
const ITERATION_MAX: Duration = Duration::from_secs(120);

/// Heartbeat deadlines of all loops. Shared with a thread that no loop can block.
#[derive(Clone, Debug, Default)]
pub struct HeartbeatRegistry {
    heartbeats: Arc<Mutex<BTreeMap<String, HeartbeatEntry>>>,
}

/// Heartbeat handle of one loop. Its deadline is kept until the loop
/// [unregisters](Self::unregister) or sets another: a loop that panics leaves its deadline behind
/// and becomes overdue.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// Absent if there is no watchdog.
    registry: Option<HeartbeatRegistry>,
    name: String,
}

#[derive(Clone, Copy, Debug)]
struct HeartbeatEntry {
    deadline: HeartbeatDeadline,
    last_progress_at: Timestamp,
    restart_impact: RestartImpact,
}

/// Effect that a restart of the process has on a loop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum RestartImpact {
    InterruptsWork,
    /// The loop waits for a restart itself.
    AwaitingRestart,
    /// The loop is no source and has nothing to lose.
    RuntimeOnly,
}

impl HeartbeatRegistry {
    #[must_use]
    pub fn register(&self, name: &str) -> Heartbeat {
        Heartbeat { registry: Some(self.clone()), name: name.to_owned() }
    }

    /// Returns the heartbeat that has been overdue for longest, if any is.
    #[must_use]
    pub fn most_overdue(&self) -> Option<MissedHeartbeat> {
        let entries = self.lock();
        find_missed_heartbeat(
            entries.iter().map(|(name, entry)| (name.as_str(), entry.deadline)),
            read_clocks(),
        )
    }

    /// Returns the time at which any loop of the process last made progress.
    #[must_use]
    pub fn last_progress_at(&self) -> Timestamp {
        self.lock().values().map(|entry| entry.last_progress_at).max().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, HeartbeatEntry>> {
        // Every entry is complete, even if a thread panicked while it held the lock.
        self.heartbeats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heartbeat {
    /// Returns a heartbeat that is not registered and has no effect.
    #[must_use]
    pub fn noop() -> Self {
        Self { registry: None, name: String::new() }
    }

    /// Sets the deadline: the loop waits for at most `wait`, then is busy for at most
    /// `ITERATION_MAX`.
    pub fn beat_within(&self, wait: Duration, activity: &'static str) {
        let at = read_clocks().after(wait.saturating_add(ITERATION_MAX));
        self.set_deadline(HeartbeatDeadline { at, activity }, RestartImpact::InterruptsWork);
    }

    /// Sets the deadline of the runtime to exactly `wait` from now.
    pub(super) fn runtime_beat(&self, wait: Duration) {
        let deadline =
            HeartbeatDeadline { at: read_clocks().after(wait), activity: "running timers" };
        self.set_deadline(deadline, RestartImpact::RuntimeOnly);
    }

    /// Takes the last progress and the effect of a restart from the machine.
    pub(super) fn update_from_machine(&self, machine: &StateMachine) {
        let Some(registry) = &self.registry else { return };
        if let Some(entry) = registry.lock().get_mut(&self.name) {
            entry.last_progress_at = machine.progress.last_at;
            entry.restart_impact = match machine.state {
                State::Error { after_wait: AfterWait::Restart, .. }
                | State::AuthFailed { .. }
                | State::Completed => RestartImpact::AwaitingRestart,
                State::Idle { .. }
                | State::Working(_)
                | State::Error { after_wait: AfterWait::Resume, .. }
                | State::RateLimited { .. } => RestartImpact::InterruptsWork,
            };
        }
    }

    /// Returns true if every other loop waits for a restart, so that a restart of the process
    /// interrupts no work.
    #[must_use]
    pub(super) fn is_last_active(&self) -> bool {
        let Some(registry) = &self.registry else { return false };
        let is_other_working = registry.lock().iter().any(|(name, entry)| {
            *name != self.name && entry.restart_impact == RestartImpact::InterruptsWork
        });
        !is_other_working
    }

    /// Removes the heartbeat: nothing more is expected of this loop.
    pub fn unregister(&self) {
        if let Some(registry) = &self.registry {
            registry.lock().remove(&self.name);
        }
    }

    /// Renews the deadline. `restart_impact` is used for the first one only; later ones keep what
    /// [`Self::update_from_machine`] has set.
    fn set_deadline(&self, deadline: HeartbeatDeadline, restart_impact: RestartImpact) {
        let Some(registry) = &self.registry else { return };
        let mut entries = registry.lock();
        match entries.get_mut(&self.name) {
            Some(entry) => entry.deadline = deadline,
            None => {
                let new = HeartbeatEntry {
                    deadline,
                    last_progress_at: Timestamp::default(),
                    restart_impact,
                };
                entries.insert(self.name.clone(), new);
            }
        }
    }
}

fn read_clocks() -> DualTimestamp {
    DualTimestamp { wall: RealEnv.now(), uptime: RealEnv::uptime() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_panics_leaves_its_heartbeat_overdue() {
        let registry = HeartbeatRegistry::default();
        {
            let panicked = registry.register("panicked");
            panicked.runtime_beat(Duration::ZERO);
            registry.register("waiting").beat_within(Duration::from_secs(6 * 3600), "rate_limited");
        }
        let before = RealEnv::uptime();
        while RealEnv::uptime() < before + Duration::from_millis(5) {
            std::hint::spin_loop();
        }

        assert_eq!(
            registry.most_overdue().map(|overdue| overdue.loop_name),
            Some("panicked".to_owned())
        );

        registry.register("panicked").unregister();
        assert_eq!(registry.most_overdue(), None);
    }

    #[test]
    fn process_may_restart_once_all_other_sources_await_it() {
        let registry = HeartbeatRegistry::default();
        let [one, other] = ["one", "other"].map(|name| registry.register(name));
        registry.register("runtime").runtime_beat(Duration::from_secs(60));
        let mut machine = StateMachine::new(Timestamp(0));
        for heartbeat in [&one, &other] {
            heartbeat.beat_within(Duration::from_secs(60), "idle");
            heartbeat.update_from_machine(&machine);
        }

        assert!(!one.is_last_active());
        machine.state = State::Completed;
        other.update_from_machine(&machine);
        assert!(one.is_last_active());
        assert!(!Heartbeat::noop().is_last_active());
    }
}
