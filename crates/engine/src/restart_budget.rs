//! Delays between restart requests: none before the first, then 10 s, 20 s, and so on to 300 s.
//!
//! The count is persisted, since a restart ends the process that counts. Progress resets it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::backoff::doubled_delay;

/// Delay after the first restart: the time in which a server or a disk can recover.
const RESTART_DELAY_INITIAL: Duration = Duration::from_secs(10);

/// Longest delay, short enough to resume within minutes of a recovery.
const RESTART_DELAY_MAX: Duration = Duration::from_secs(300);

/// Restarts without progress in between; more are a crash loop.
pub(super) const RESTARTS_MAX: u32 = 5;

/// Requested restarts of one unit or source.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct RestartBudget {
    /// Restarts without progress in between.
    #[serde(rename = "in_a_row")]
    pub consecutive_restarts: u32,
    /// Time from which the last restart was permitted, in milliseconds since the epoch.
    #[serde(rename = "last_ms")]
    pub last_restart_ms: Option<i64>,
}

/// Permission for one restart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RestartPermit {
    /// Earliest time of the restart.
    pub not_before: Timestamp,
    pub consecutive_restarts: u32,
    pub crash_loop: CrashLoop,
}

/// Result of the crash loop detection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CrashLoop {
    NotDetected,
    /// Detected with this restart, which should send an alert.
    Detected,
    Ongoing,
}

impl RestartBudget {
    /// Counts one more restart, and returns the time from which it is permitted.
    pub fn request_restart(&mut self, last_progress: Timestamp, now: Timestamp) -> RestartPermit {
        let last = self.last_restart_ms.map(Timestamp);
        if last.is_none_or(|last| last < last_progress) {
            *self = Self::default();
        }
        let permitted_at = match self.last_restart_ms {
            Some(last) => Timestamp(last).after(restart_delay(self.consecutive_restarts)),
            None => now,
        };
        // A backward clock step must not lengthen the delay.
        let not_before =
            permitted_at.clamp(now, now.after(restart_delay(self.consecutive_restarts)));
        self.consecutive_restarts = self.consecutive_restarts.saturating_add(1);
        self.last_restart_ms = Some(not_before.0);
        let crash_loop = match self.consecutive_restarts {
            ..=RESTARTS_MAX => CrashLoop::NotDetected,
            count if count == RESTARTS_MAX + 1 => CrashLoop::Detected,
            _ => CrashLoop::Ongoing,
        };
        RestartPermit { not_before, consecutive_restarts: self.consecutive_restarts, crash_loop }
    }

    /// Returns true during a crash loop, which ends with the next progress.
    #[must_use]
    pub fn is_crash_looping(&self, last_progress: Timestamp) -> bool {
        let has_no_progress =
            self.last_restart_ms.is_some_and(|last| Timestamp(last) >= last_progress);
        self.consecutive_restarts > RESTARTS_MAX && has_no_progress
    }
}

/// Returns the delay after this many consecutive restarts.
fn restart_delay(consecutive_restarts: u32) -> Duration {
    let doublings = consecutive_restarts.saturating_sub(1);
    doubled_delay(RESTART_DELAY_INITIAL, doublings, RESTART_DELAY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    #[test]
    fn delays_double_to_five_minutes_the_sixth_is_a_crash_loop() {
        let mut budget = RestartBudget::default();
        let mut now = NOW;
        let mut permits = Vec::new();
        for _ in 0..8 {
            let permit = budget.request_restart(Timestamp(0), now);
            permits.push((permit.not_before.since(now).as_secs(), permit.crash_loop));
            now = permit.not_before;
        }

        let (none, ongoing) = (CrashLoop::NotDetected, CrashLoop::Ongoing);
        let expected = [(0, none), (10, none), (20, none), (40, none), (80, none)];
        assert_eq!(permits[..5], expected);
        assert_eq!(permits[5..], [(160, CrashLoop::Detected), (300, ongoing), (300, ongoing)]);
    }

    #[test]
    fn a_crash_loop_lasts_until_there_is_progress() {
        let budget = RestartBudget { consecutive_restarts: 6, last_restart_ms: Some(NOW.0) };

        assert!(budget.is_crash_looping(NOW));
        assert!(!budget.is_crash_looping(Timestamp(NOW.0 + 1)));
        assert!(!RestartBudget { consecutive_restarts: 5, ..budget }.is_crash_looping(NOW));
    }

    #[test]
    fn progress_resets_the_count() {
        let mut budget = RestartBudget { consecutive_restarts: 6, last_restart_ms: Some(NOW.0) };

        let permit = budget.request_restart(Timestamp(NOW.0 + 1), Timestamp(NOW.0 + 2));

        assert_eq!(
            permit,
            RestartPermit {
                not_before: Timestamp(NOW.0 + 2),
                consecutive_restarts: 1,
                crash_loop: CrashLoop::NotDetected
            }
        );
    }

    #[test]
    fn a_backward_clock_step_lengthens_no_delay() {
        let mut budget = RestartBudget { consecutive_restarts: 2, last_restart_ms: Some(NOW.0) };
        let past = Timestamp(NOW.0 - 86_400_000);

        assert_eq!(budget.request_restart(Timestamp(0), past).not_before.since(past).as_secs(), 20);
    }
}

#[cfg(test)]
mod proptests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn restarts_without_progress_keep_their_delay(
            steps in proptest::collection::vec(0_u64..1_000_000, 1..40),
        ) {
            let (mut budget, mut now) = (RestartBudget::default(), Timestamp(1));
            let mut last: Option<Timestamp> = None;
            for step in steps {
                let permit = budget.request_restart(Timestamp(0), now);
                prop_assert!(permit.not_before >= now);
                prop_assert!(permit.not_before.since(now) <= RESTART_DELAY_MAX);
                if let Some(last) = last {
                    prop_assert!(permit.not_before.since(last) >= RESTART_DELAY_INITIAL);
                }
                last = Some(permit.not_before);
                now = permit.not_before.after(Duration::from_millis(step));
            }
        }
    }
}
