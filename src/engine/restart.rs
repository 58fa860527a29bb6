//! How often a restart may be asked for: at once, then after 10 s, 20 s, and so on to 300 s.
//!
//! The count outlives the process, since what is restarted forgets. Progress ends it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::Moment;

/// The pause after the first restart: what a server or a disk needs to come back.
const FIRST_PAUSE: Duration = Duration::from_secs(10);

/// The longest pause: soon enough to go on within minutes when the trouble is over.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// More restarts than this without progress between them are a crash loop.
const RESTARTS_MAX: u32 = 5;

/// The restarts of one thing that were asked for.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Restarts {
    /// Without progress between them.
    pub in_a_row: u32,
    /// When the last was due, in milliseconds since the epoch.
    pub last_ms: Option<i64>,
}

/// A restart that may be had.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Grant {
    /// Not before this.
    pub at: Moment,
    pub in_a_row: u32,
    pub looping: Looping,
}

/// Whether restarts have become a loop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Looping {
    No,
    /// With this one, which a person is to be told.
    Begins,
    Still,
}

impl Restarts {
    /// Counts one more, and says when it may happen.
    pub fn ask(&mut self, last_progress: Moment, now: Moment) -> Grant {
        let last = self.last_ms.map(Moment);
        if last.is_none_or(|last| last < last_progress) {
            *self = Self::default();
        }
        let ready = match self.last_ms {
            Some(last) => Moment(last).after(pause(self.in_a_row)),
            None => now,
        };
        // A clock that was set back must not make the pause longer.
        let at = ready.clamp(now, now.after(pause(self.in_a_row)));
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.last_ms = Some(at.0);
        let looping = match self.in_a_row {
            ..=RESTARTS_MAX => Looping::No,
            many if many == RESTARTS_MAX + 1 => Looping::Begins,
            _ => Looping::Still,
        };
        Grant { at, in_a_row: self.in_a_row, looping }
    }

    /// Whether the restarts have become a loop that no progress has ended since.
    #[must_use]
    pub fn is_looping(&self, last_progress: Moment) -> bool {
        let is_since = self.last_ms.is_some_and(|last| Moment(last) >= last_progress);
        self.in_a_row > RESTARTS_MAX && is_since
    }
}

/// The pause after so many restarts in a row.
fn pause(in_a_row: u32) -> Duration {
    let doublings = in_a_row.saturating_sub(1).min(10);
    FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment(1_700_000_000_000);

    #[test]
    fn the_pauses_double_to_five_minutes_and_the_sixth_is_a_crash_loop() {
        let mut restarts = Restarts::default();
        let mut now = NOW;
        let mut told = Vec::new();
        for _ in 0..8 {
            let grant = restarts.ask(Moment(0), now);
            told.push((grant.at.since(now).as_secs(), grant.looping));
            now = grant.at;
        }

        let (no, still) = (Looping::No, Looping::Still);
        let expected = [(0, no), (10, no), (20, no), (40, no), (80, no)];
        assert_eq!(told[..5], expected);
        assert_eq!(told[5..], [(160, Looping::Begins), (300, still), (300, still)]);
    }

    #[test]
    fn a_loop_lasts_until_there_is_progress() {
        let restarts = Restarts { in_a_row: 6, last_ms: Some(NOW.0) };

        assert!(restarts.is_looping(NOW));
        assert!(!restarts.is_looping(Moment(NOW.0 + 1)));
        assert!(!Restarts { in_a_row: 5, ..restarts }.is_looping(NOW));
    }

    #[test]
    fn progress_ends_the_count() {
        let mut restarts = Restarts { in_a_row: 6, last_ms: Some(NOW.0) };

        let grant = restarts.ask(Moment(NOW.0 + 1), Moment(NOW.0 + 2));

        assert_eq!(grant, Grant { at: Moment(NOW.0 + 2), in_a_row: 1, looping: Looping::No });
    }

    #[test]
    fn a_clock_that_is_set_back_lengthens_no_pause() {
        let mut restarts = Restarts { in_a_row: 2, last_ms: Some(NOW.0) };
        let past = Moment(NOW.0 - 86_400_000);

        assert_eq!(restarts.ask(Moment(0), past).at.since(past).as_secs(), 20);
    }
}

#[cfg(test)]
mod laws {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn without_progress_restarts_keep_their_distance(
            steps in proptest::collection::vec(0_u64..1_000_000, 1..40),
        ) {
            let (mut restarts, mut now) = (Restarts::default(), Moment(1));
            let mut last: Option<Moment> = None;
            for step in steps {
                let grant = restarts.ask(Moment(0), now);
                prop_assert!(grant.at >= now);
                prop_assert!(grant.at.since(now) <= LONGEST_PAUSE);
                if let Some(last) = last {
                    prop_assert!(grant.at.since(last) >= FIRST_PAUSE);
                }
                last = Some(grant.at);
                now = grant.at.after(Duration::from_millis(step));
            }
        }
    }
}
