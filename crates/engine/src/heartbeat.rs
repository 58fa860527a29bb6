//! Watchdog decision: send a keep-alive while every heartbeat deadline lies ahead.
//!
//! A waiting loop knows when it runs next, and sets that time as its heartbeat deadline. While all
//! deadlines lie ahead the process is healthy, however long a wait is: a wait of six hours with a
//! known end is as healthy as one of a second. A blocked thread, a dead thread pool or a loop that
//! has ended misses its deadline.

use std::time::Duration;

use crate::Timestamp;

/// Instant on two clocks: the wall clock, which can be set and continues during a suspend, and
/// the uptime, which can't be set and stops during a suspend.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DualTimestamp {
    pub wall: Timestamp,
    pub uptime: Duration,
}

/// Latest time of the next heartbeat of a loop, and its activity until then.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HeartbeatDeadline {
    pub at: DualTimestamp,
    pub activity: &'static str,
}

/// Heartbeat deadline that has passed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MissedHeartbeat {
    /// Name of the loop that missed it.
    pub loop_name: String,
    pub activity: &'static str,
    /// Time since the deadline.
    pub overdue_by: Duration,
}

/// Action of the watchdog after one check.
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use = "without this keep-alive the service manager restarts the process"]
pub enum WatchdogAction {
    SendKeepAlive,
    /// First check with a missed heartbeat: send a keep-alive, and ask the restart budget when a
    /// restart may be requested.
    ConsultRestartBudget(MissedHeartbeat),
    /// Send a keep-alive, and ask the service manager for a restart.
    RequestRestart(MissedHeartbeat),
    /// No heartbeat is missed any more: send a keep-alive, and log the recovery.
    Recovered,
    /// The restart was refused: send no keep-alive.
    WithholdKeepAlive,
}

/// State of the watchdog. It takes the last escalation steps for a stuck loop, each once, because a
/// blocked loop can't take them itself.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum WatchdogState {
    #[default]
    Healthy,
    /// A restart may be requested from this uptime on.
    WaitingToRestart(Duration),
    /// The restart was requested, without success.
    RestartRefused,
}

impl DualTimestamp {
    /// Returns the instant `wait` later.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self { wall: self.wall.after(wait), uptime: self.uptime.saturating_add(wait) }
    }

    /// Returns the time since `earlier` on which both clocks agree; zero if it is ahead on either.
    ///
    /// A clock step, or a suspend over a night, moves only one of them.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.wall.since(earlier.wall).min(self.uptime.saturating_sub(earlier.uptime))
    }
}

/// Returns the heartbeat that has been missed for longest, if any.
#[must_use]
pub fn find_missed_heartbeat<'a>(
    deadlines: impl IntoIterator<Item = (&'a str, HeartbeatDeadline)>,
    now: DualTimestamp,
) -> Option<MissedHeartbeat> {
    let (loop_name, deadline, overdue_by) = deadlines
        .into_iter()
        .map(|(loop_name, deadline)| (loop_name, deadline, now.since(deadline.at)))
        .filter(|(_, _, overdue_by)| !overdue_by.is_zero())
        .max_by_key(|(_, _, overdue_by)| *overdue_by)?;
    Some(MissedHeartbeat {
        loop_name: loop_name.to_owned(),
        activity: deadline.activity,
        overdue_by,
    })
}

impl WatchdogState {
    /// Returns the action for the longest missed heartbeat, if any.
    pub fn evaluate(
        &mut self,
        missed: Option<MissedHeartbeat>,
        uptime: Duration,
    ) -> WatchdogAction {
        match (*self, missed) {
            (Self::Healthy, None) => WatchdogAction::SendKeepAlive,
            (Self::WaitingToRestart(_) | Self::RestartRefused, None) => {
                *self = Self::Healthy;
                WatchdogAction::Recovered
            }
            (Self::Healthy, Some(missed)) => {
                *self = Self::WaitingToRestart(uptime);
                WatchdogAction::ConsultRestartBudget(missed)
            }
            (Self::WaitingToRestart(from), Some(_)) if uptime < from => {
                WatchdogAction::SendKeepAlive
            }
            (Self::WaitingToRestart(_), Some(missed)) => WatchdogAction::RequestRestart(missed),
            (Self::RestartRefused, Some(_)) => WatchdogAction::WithholdKeepAlive,
        }
    }

    /// Sets the wait after which the restart budget permits a restart request.
    pub fn wait_to_restart(&mut self, wait: Duration, uptime: Duration) {
        *self = Self::WaitingToRestart(uptime.saturating_add(wait));
    }

    /// Records that the requested restart won't happen.
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

    fn deadline_at(at: DualTimestamp) -> [(&'static str, HeartbeatDeadline); 1] {
        [("work", HeartbeatDeadline { at, activity: "rate_limited" })]
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
        let missed =
            find_missed_heartbeat(deadline_at(six_hours), six_hours.after(SECOND)).unwrap();
        assert_eq!((missed.loop_name.as_str(), missed.overdue_by), ("work", SECOND));
    }

    #[test]
    fn neither_clock_step_nor_suspend_misses_a_heartbeat() {
        let at = NOW.after(SECOND);
        let next_day = DualTimestamp { wall: NOW.wall.after(24 * HOUR), ..NOW };
        let set_back = DualTimestamp { wall: Timestamp(0), uptime: NOW.uptime + HOUR };

        assert_eq!(find_missed_heartbeat(deadline_at(at), next_day), None);
        assert_eq!(find_missed_heartbeat(deadline_at(at), set_back), None);
    }

    #[test]
    fn the_longest_missed_heartbeat_is_reported() {
        let deadline = |at| HeartbeatDeadline { at, activity: "downloading" };
        let both = [("a", deadline(NOW)), ("b", deadline(NOW.after(SECOND)))];

        assert_eq!(find_missed_heartbeat(both, NOW.after(HOUR)).unwrap().loop_name, "a");
    }

    #[test]
    fn each_escalation_happens_once_then_keep_alives_stop() {
        let mut watchdog = WatchdogState::default();
        let at = |seconds| Duration::from_secs(seconds);
        assert_eq!(watchdog.evaluate(None, at(0)), WatchdogAction::SendKeepAlive);

        assert!(matches!(
            watchdog.evaluate(Some(missed_heartbeat()), at(1)),
            WatchdogAction::ConsultRestartBudget(_)
        ));
        watchdog.wait_to_restart(at(10), at(1));
        assert_eq!(
            watchdog.evaluate(Some(missed_heartbeat()), at(5)),
            WatchdogAction::SendKeepAlive
        );
        assert!(matches!(
            watchdog.evaluate(Some(missed_heartbeat()), at(11)),
            WatchdogAction::RequestRestart(_)
        ));
        watchdog.mark_restart_refused();

        assert_eq!(
            watchdog.evaluate(Some(missed_heartbeat()), at(12)),
            WatchdogAction::WithholdKeepAlive
        );
        assert_eq!(
            watchdog.evaluate(Some(missed_heartbeat()), at(13)),
            WatchdogAction::WithholdKeepAlive
        );
    }

    #[test]
    fn keep_alives_resume_after_recovery() {
        let mut watchdog = WatchdogState::RestartRefused;

        assert_eq!(watchdog.evaluate(None, SECOND), WatchdogAction::Recovered);
        assert_eq!(watchdog.evaluate(None, SECOND), WatchdogAction::SendKeepAlive);
    }
}

#[cfg(test)]
mod proptests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_is_overdue_until_both_clocks_agree(
            deadline_wall in 0..1_000_000_i64,
            wall in 0..2_000_000_i64,
            uptime in 0..2_000_000_u64,
        ) {
            let instant = |wall, uptime| DualTimestamp {
                wall: Timestamp(wall),
                uptime: Duration::from_millis(uptime),
            };
            let deadline = HeartbeatDeadline { at: instant(deadline_wall, 1000), activity: "idle" };
            let missed = find_missed_heartbeat([("work", deadline)], instant(wall, uptime));
            prop_assert_eq!(missed.is_some(), wall > deadline_wall && uptime > 1000);
        }
    }
}
