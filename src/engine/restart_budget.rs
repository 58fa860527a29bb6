//! Rate limit of restart requests: at once, then after 10 s, 20 s, and so on to 300 s.
//!
//! The count is persisted, since a restarted process loses its memory. Progress resets it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::Timestamp;

/// Delay after the first restart: the time in which a server or a disk can recover.
const RESTART_DELAY_INITIAL: Duration = Duration::from_secs(10);

/// Longest delay, short enough to resume within minutes of a recovery.
const RESTART_DELAY_MAX: Duration = Duration::from_secs(300);

/// Restarts without progress in between; more are a crash loop.
const RESTARTS_MAX: u32 = 5;

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
        let ready = match self.last_restart_ms {
            Some(last) => Timestamp(last).after(restart_delay(self.consecutive_restarts)),
            None => now,
        };
        // A backward clock step must not lengthen the delay.
        let at = ready.clamp(now, now.after(restart_delay(self.consecutive_restarts)));
        self.consecutive_restarts = self.consecutive_restarts.saturating_add(1);
        self.last_restart_ms = Some(at.0);
        let looping = match self.consecutive_restarts {
            ..=RESTARTS_MAX => CrashLoop::NotDetected,
            many if many == RESTARTS_MAX + 1 => CrashLoop::Detected,
            _ => CrashLoop::Ongoing,
        };
        RestartPermit {
            not_before: at,
            consecutive_restarts: self.consecutive_restarts,
            crash_loop: looping,
        }
    }

    /// Returns true during a crash loop that no progress has ended since.
    #[must_use]
    pub fn is_crash_looping(&self, last_progress: Timestamp) -> bool {
        let is_since = self.last_restart_ms.is_some_and(|last| Timestamp(last) >= last_progress);
        self.consecutive_restarts > RESTARTS_MAX && is_since
    }
}

/// Returns the delay after this many consecutive restarts.
fn restart_delay(in_a_row: u32) -> Duration {
    let doublings = in_a_row.saturating_sub(1).min(10);
    RESTART_DELAY_INITIAL.saturating_mul(1 << doublings).min(RESTART_DELAY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);

    #[test]
    fn delays_double_to_five_minutes_the_sixth_is_a_crash_loop() {
        let mut restarts = RestartBudget::default();
        let mut now = NOW;
        let mut told = Vec::new();
        for _ in 0..8 {
            let grant = restarts.request_restart(Timestamp(0), now);
            told.push((grant.not_before.since(now).as_secs(), grant.crash_loop));
            now = grant.not_before;
        }

        let (no, still) = (CrashLoop::NotDetected, CrashLoop::Ongoing);
        let expected = [(0, no), (10, no), (20, no), (40, no), (80, no)];
        assert_eq!(told[..5], expected);
        assert_eq!(told[5..], [(160, CrashLoop::Detected), (300, still), (300, still)]);
    }

    #[test]
    fn a_crash_loop_lasts_until_there_is_progress() {
        let restarts = RestartBudget { consecutive_restarts: 6, last_restart_ms: Some(NOW.0) };

        assert!(restarts.is_crash_looping(NOW));
        assert!(!restarts.is_crash_looping(Timestamp(NOW.0 + 1)));
        assert!(!RestartBudget { consecutive_restarts: 5, ..restarts }.is_crash_looping(NOW));
    }

    #[test]
    fn progress_resets_the_count() {
        let mut restarts = RestartBudget { consecutive_restarts: 6, last_restart_ms: Some(NOW.0) };

        let grant = restarts.request_restart(Timestamp(NOW.0 + 1), Timestamp(NOW.0 + 2));

        assert_eq!(
            grant,
            RestartPermit {
                not_before: Timestamp(NOW.0 + 2),
                consecutive_restarts: 1,
                crash_loop: CrashLoop::NotDetected
            }
        );
    }

    #[test]
    fn a_backward_clock_step_lengthens_no_delay() {
        let mut restarts = RestartBudget { consecutive_restarts: 2, last_restart_ms: Some(NOW.0) };
        let past = Timestamp(NOW.0 - 86_400_000);

        assert_eq!(
            restarts.request_restart(Timestamp(0), past).not_before.since(past).as_secs(),
            20
        );
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
            let (mut restarts, mut now) = (RestartBudget::default(), Timestamp(1));
            let mut last: Option<Timestamp> = None;
            for step in steps {
                let grant = restarts.request_restart(Timestamp(0), now);
                prop_assert!(grant.not_before >= now);
                prop_assert!(grant.not_before.since(now) <= RESTART_DELAY_MAX);
                if let Some(last) = last {
                    prop_assert!(grant.not_before.since(last) >= RESTART_DELAY_INITIAL);
                }
                last = Some(grant.not_before);
                now = grant.not_before.after(Duration::from_millis(step));
            }
        }
    }
}
