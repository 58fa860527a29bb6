//! How often a restart may be asked for: at once, then after 10 s, 20 s, and so on to 300 s.
//!
//! The count outlives the process, since what is restarted forgets. Progress ends it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::Timestamp;

/// The pause after the first restart: what a server or a disk needs to come back.
const RESTART_DELAY_INITIAL: Duration = Duration::from_secs(10);

/// The longest pause: soon enough to go on within minutes when the trouble is over.
const RESTART_DELAY_MAX: Duration = Duration::from_secs(300);

/// More restarts than this without progress between them are a crash loop.
const RESTARTS_MAX: u32 = 5;

/// The restarts of one thing that were asked for.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct RestartBudget {
    /// Without progress between them.
    #[serde(rename = "in_a_row")]
    pub consecutive_restarts: u32,
    /// When the last was due, in milliseconds since the epoch.
    #[serde(rename = "last_ms")]
    pub last_restart_ms: Option<i64>,
}

/// A restart that may be had.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RestartPermit {
    /// Not before this.
    pub not_before: Timestamp,
    pub consecutive_restarts: u32,
    pub crash_loop: CrashLoop,
}

/// Whether restarts have become a loop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CrashLoop {
    NotDetected,
    /// With this one, which a person is to be told.
    Detected,
    Ongoing,
}

impl RestartBudget {
    /// Counts one more, and says when it may happen.
    pub fn request_restart(&mut self, last_progress: Timestamp, now: Timestamp) -> RestartPermit {
        let last = self.last_restart_ms.map(Timestamp);
        if last.is_none_or(|last| last < last_progress) {
            *self = Self::default();
        }
        let ready = match self.last_restart_ms {
            Some(last) => Timestamp(last).after(restart_delay(self.consecutive_restarts)),
            None => now,
        };
        // A clock that was set back must not make the pause longer.
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

    /// Whether the restarts have become a loop that no progress has ended since.
    #[must_use]
    pub fn is_crash_looping(&self, last_progress: Timestamp) -> bool {
        let is_since = self.last_restart_ms.is_some_and(|last| Timestamp(last) >= last_progress);
        self.consecutive_restarts > RESTARTS_MAX && is_since
    }
}

/// The pause after so many restarts in a row.
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
