//! Whether every loop still keeps its word: what the watchdog is fed by.
//!
//! A loop that waits knows when it looks again. It promises to, and as long as every
//! promise lies ahead the process is alive, however long a wait is: six hours with a known
//! end are as good as a second. What breaks a promise is a blocked thread, a dead pool of
//! threads, or a loop that is gone.

use std::time::Duration;

use crate::engine::Timestamp;

/// One instant on two clocks: the one that deadlines are told in, which can be set and runs
/// on through a suspend, and one that can't and doesn't.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DualTimestamp {
    pub wall: Timestamp,
    pub uptime: Duration,
}

/// When a loop looks again at the latest, and what it does until then.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HeartbeatDeadline {
    pub at: DualTimestamp,
    pub activity: &'static str,
}

/// A broken promise.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MissedHeartbeat {
    /// Who gave it.
    pub loop_name: String,
    pub activity: &'static str,
    /// For how long it is broken.
    pub overdue_by: Duration,
}

/// What the keeper of the watchdog does at a look.
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use = "a watchdog that is not fed bites"]
pub enum WatchdogAction {
    SendKeepAlive,
    /// Something is overdue for the first time: feed, and have the budget say when a restart
    /// may be asked for.
    ConsultRestartBudget(MissedHeartbeat),
    /// Feed, and ask the service manager for a restart.
    RequestRestart(MissedHeartbeat),
    /// What was overdue has moved again: feed, and say so.
    Recovered,
    /// Asking was in vain: don't feed.
    WithholdKeepAlive,
}

/// The last rungs of the ladder for what is stuck, each climbed once: the ones that a blocked
/// loop can't climb by itself.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum WatchdogState {
    #[default]
    Healthy,
    /// A restart may be asked for from then on, by uptime.
    WaitingToRestart(Duration),
    /// It was asked for, in vain.
    RestartRefused,
}

impl DualTimestamp {
    /// Returns the instant `wait` later.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self { wall: self.wall.after(wait), uptime: self.uptime.saturating_add(wait) }
    }

    /// Returns the time since `earlier` that both clocks agree on; zero if it lies ahead by either.
    ///
    /// A clock that was set, or a night's suspend, makes only one of them run away.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.wall.since(earlier.wall).min(self.uptime.saturating_sub(earlier.uptime))
    }
}

/// Returns the promise that has been broken for longest, if any is.
#[must_use]
pub fn find_missed_heartbeat<'a>(
    promises: impl IntoIterator<Item = (&'a str, HeartbeatDeadline)>,
    now: DualTimestamp,
) -> Option<MissedHeartbeat> {
    let late = promises.into_iter().map(|(who, promise)| (who, promise, now.since(promise.at)));
    let (who, promise, late) =
        late.filter(|(_, _, late)| !late.is_zero()).max_by_key(|(_, _, late)| *late)?;
    Some(MissedHeartbeat {
        loop_name: who.to_owned(),
        activity: promise.activity,
        overdue_by: late,
    })
}

impl WatchdogState {
    /// Looks at what is overdue.
    pub fn evaluate(
        &mut self,
        overdue: Option<MissedHeartbeat>,
        uptime: Duration,
    ) -> WatchdogAction {
        match (*self, overdue) {
            (Self::Healthy, None) => WatchdogAction::SendKeepAlive,
            (Self::WaitingToRestart(_) | Self::RestartRefused, None) => {
                *self = Self::Healthy;
                WatchdogAction::Recovered
            }
            (Self::Healthy, Some(overdue)) => {
                *self = Self::WaitingToRestart(uptime);
                WatchdogAction::ConsultRestartBudget(overdue)
            }
            (Self::WaitingToRestart(from), Some(_)) if uptime < from => {
                WatchdogAction::SendKeepAlive
            }
            (Self::WaitingToRestart(_), Some(overdue)) => WatchdogAction::RequestRestart(overdue),
            (Self::RestartRefused, Some(_)) => WatchdogAction::WithholdKeepAlive,
        }
    }

    /// The budget lets a restart be asked for after this long.
    pub fn wait_to_restart(&mut self, wait: Duration, uptime: Duration) {
        *self = Self::WaitingToRestart(uptime.saturating_add(wait));
    }

    /// The restart that was asked for won't happen.
    pub fn mark_restart_refused(&mut self) {
        *self = Self::RestartRefused;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: DualTimestamp =
        DualTimestamp { wall: Timestamp(1_700_000_000_000), uptime: Duration::from_secs(5000) };
    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3600);

    fn deadline_at(by: DualTimestamp) -> [(&'static str, HeartbeatDeadline); 1] {
        [("work", HeartbeatDeadline { at: by, activity: "rate_limited" })]
    }

    fn missed_heartbeat() -> MissedHeartbeat {
        MissedHeartbeat {
            loop_name: "work".to_owned(),
            activity: "downloading",
            overdue_by: SECOND,
        }
    }

    #[test]
    fn a_six_hour_wait_is_overdue_only_after_its_end() {
        let six_hours = NOW.after(6 * HOUR);

        assert_eq!(find_missed_heartbeat(deadline_at(six_hours), NOW), None);
        assert_eq!(find_missed_heartbeat(deadline_at(six_hours), six_hours), None);
        let late = find_missed_heartbeat(deadline_at(six_hours), six_hours.after(SECOND)).unwrap();
        assert_eq!((late.loop_name.as_str(), late.overdue_by), ("work", SECOND));
    }

    #[test]
    fn neither_clock_step_nor_suspend_misses_a_heartbeat() {
        let by = NOW.after(SECOND);
        let a_day_on = DualTimestamp { wall: NOW.wall.after(24 * HOUR), ..NOW };
        let set_back = DualTimestamp { wall: Timestamp(0), uptime: NOW.uptime + HOUR };

        assert_eq!(find_missed_heartbeat(deadline_at(by), a_day_on), None);
        assert_eq!(find_missed_heartbeat(deadline_at(by), set_back), None);
    }

    #[test]
    fn the_longest_missed_heartbeat_is_reported() {
        let promise = |by| HeartbeatDeadline { at: by, activity: "downloading" };
        let both = [("a", promise(NOW)), ("b", promise(NOW.after(SECOND)))];

        assert_eq!(find_missed_heartbeat(both, NOW.after(HOUR)).unwrap().loop_name, "a");
    }

    #[test]
    fn each_escalation_happens_once_then_keep_alives_stop() {
        let mut keeper = WatchdogState::default();
        let at = |seconds| Duration::from_secs(seconds);
        assert_eq!(keeper.evaluate(None, at(0)), WatchdogAction::SendKeepAlive);

        assert!(matches!(
            keeper.evaluate(Some(missed_heartbeat()), at(1)),
            WatchdogAction::ConsultRestartBudget(_)
        ));
        keeper.wait_to_restart(at(10), at(1));
        assert_eq!(keeper.evaluate(Some(missed_heartbeat()), at(5)), WatchdogAction::SendKeepAlive);
        assert!(matches!(
            keeper.evaluate(Some(missed_heartbeat()), at(11)),
            WatchdogAction::RequestRestart(_)
        ));
        keeper.mark_restart_refused();

        assert_eq!(
            keeper.evaluate(Some(missed_heartbeat()), at(12)),
            WatchdogAction::WithholdKeepAlive
        );
        assert_eq!(
            keeper.evaluate(Some(missed_heartbeat()), at(13)),
            WatchdogAction::WithholdKeepAlive
        );
    }

    #[test]
    fn keep_alives_resume_after_recovery() {
        let mut keeper = WatchdogState::RestartRefused;

        assert_eq!(keeper.evaluate(None, SECOND), WatchdogAction::Recovered);
        assert_eq!(keeper.evaluate(None, SECOND), WatchdogAction::SendKeepAlive);
    }
}

#[cfg(test)]
mod proptests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_is_overdue_until_both_clocks_agree(
            by in 0..1_000_000_i64, wall in 0..2_000_000_i64, waited in 0..2_000_000_u64,
        ) {
            let promised = DualTimestamp { wall: Timestamp(by), uptime: Duration::from_millis(1000) };
            let now = DualTimestamp { wall: Timestamp(wall), uptime: Duration::from_millis(waited) };
            let late = find_missed_heartbeat([("work", HeartbeatDeadline { at: promised, activity: "idle" })], now);
            prop_assert_eq!(late.is_some(), wall > by && waited > 1000);
        }
    }
}
