//! Whether every loop still keeps its word: what the watchdog is fed by.
//!
//! A loop that waits knows when it looks again. It promises to, and as long as every
//! promise lies ahead the process is alive, however long a wait is: six hours with a known
//! end are as good as a second. What breaks a promise is a blocked thread, a dead pool of
//! threads, or a loop that is gone.

use std::time::Duration;

use crate::engine::Moment;

/// One instant on two clocks: the one that deadlines are told in, which can be set and runs
/// on through a suspend, and one that can't and doesn't.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Clocks {
    pub wall: Moment,
    pub uptime: Duration,
}

/// When a loop looks again at the latest, and what it does until then.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Promise {
    pub by: Clocks,
    pub doing: &'static str,
}

/// A broken promise.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Overdue {
    /// Who gave it.
    pub who: String,
    pub doing: &'static str,
    /// For how long it is broken.
    pub late: Duration,
}

/// What the keeper of the watchdog does at a look.
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use = "a watchdog that is not fed bites"]
pub enum Keep {
    Feed,
    /// Something is overdue for the first time: feed, and have the budget say when a restart
    /// may be asked for.
    Reckon(Overdue),
    /// Feed, and ask the service manager for a restart.
    Ask(Overdue),
    /// What was overdue has moved again: feed, and say so.
    Recovered,
    /// Asking was in vain: don't feed.
    Starve,
}

/// The last rungs of the ladder for what is stuck, each climbed once: the ones that a blocked
/// loop can't climb by itself.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Keeper {
    #[default]
    Well,
    /// A restart may be asked for from then on, by uptime.
    Patient(Duration),
    /// It was asked for, in vain.
    Refused,
}

impl Clocks {
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
pub fn overdue<'a>(
    promises: impl IntoIterator<Item = (&'a str, Promise)>,
    now: Clocks,
) -> Option<Overdue> {
    let late = promises.into_iter().map(|(who, promise)| (who, promise, now.since(promise.by)));
    let (who, promise, late) =
        late.filter(|(_, _, late)| !late.is_zero()).max_by_key(|(_, _, late)| *late)?;
    Some(Overdue { who: who.to_owned(), doing: promise.doing, late })
}

impl Keeper {
    /// Looks at what is overdue.
    pub fn look(&mut self, overdue: Option<Overdue>, uptime: Duration) -> Keep {
        match (*self, overdue) {
            (Self::Well, None) => Keep::Feed,
            (Self::Patient(_) | Self::Refused, None) => {
                *self = Self::Well;
                Keep::Recovered
            }
            (Self::Well, Some(overdue)) => {
                *self = Self::Patient(uptime);
                Keep::Reckon(overdue)
            }
            (Self::Patient(from), Some(_)) if uptime < from => Keep::Feed,
            (Self::Patient(_), Some(overdue)) => Keep::Ask(overdue),
            (Self::Refused, Some(_)) => Keep::Starve,
        }
    }

    /// The budget lets a restart be asked for after this long.
    pub fn wait(&mut self, wait: Duration, uptime: Duration) {
        *self = Self::Patient(uptime.saturating_add(wait));
    }

    /// The restart that was asked for won't happen.
    pub fn refused(&mut self) {
        *self = Self::Refused;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Clocks =
        Clocks { wall: Moment(1_700_000_000_000), uptime: Duration::from_secs(5000) };
    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3600);

    fn until(by: Clocks) -> [(&'static str, Promise); 1] {
        [("work", Promise { by, doing: "rate_limited" })]
    }

    fn stuck() -> Overdue {
        Overdue { who: "work".to_owned(), doing: "downloading", late: SECOND }
    }

    #[test]
    fn a_known_wait_of_six_hours_is_kept_to_its_end_and_no_longer() {
        let six_hours = NOW.after(6 * HOUR);

        assert_eq!(overdue(until(six_hours), NOW), None);
        assert_eq!(overdue(until(six_hours), six_hours), None);
        let late = overdue(until(six_hours), six_hours.after(SECOND)).unwrap();
        assert_eq!((late.who.as_str(), late.late), ("work", SECOND));
    }

    #[test]
    fn neither_a_clock_that_is_set_nor_a_suspend_breaks_a_promise() {
        let by = NOW.after(SECOND);
        let a_day_on = Clocks { wall: NOW.wall.after(24 * HOUR), ..NOW };
        let set_back = Clocks { wall: Moment(0), uptime: NOW.uptime + HOUR };

        assert_eq!(overdue(until(by), a_day_on), None);
        assert_eq!(overdue(until(by), set_back), None);
    }

    #[test]
    fn the_longest_overdue_is_named() {
        let promise = |by| Promise { by, doing: "downloading" };
        let both = [("a", promise(NOW)), ("b", promise(NOW.after(SECOND)))];

        assert_eq!(overdue(both, NOW.after(HOUR)).unwrap().who, "a");
    }

    #[test]
    fn each_rung_is_climbed_once_and_then_nothing_is_fed() {
        let mut keeper = Keeper::default();
        let at = |seconds| Duration::from_secs(seconds);
        assert_eq!(keeper.look(None, at(0)), Keep::Feed);

        assert!(matches!(keeper.look(Some(stuck()), at(1)), Keep::Reckon(_)));
        keeper.wait(at(10), at(1));
        assert_eq!(keeper.look(Some(stuck()), at(5)), Keep::Feed);
        assert!(matches!(keeper.look(Some(stuck()), at(11)), Keep::Ask(_)));
        keeper.refused();

        assert_eq!(keeper.look(Some(stuck()), at(12)), Keep::Starve);
        assert_eq!(keeper.look(Some(stuck()), at(13)), Keep::Starve);
    }

    #[test]
    fn what_moves_again_is_fed_again() {
        let mut keeper = Keeper::Refused;

        assert_eq!(keeper.look(None, SECOND), Keep::Recovered);
        assert_eq!(keeper.look(None, SECOND), Keep::Feed);
    }
}

#[cfg(test)]
mod laws {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_is_overdue_while_either_clock_says_so(
            by in 0..1_000_000_i64, wall in 0..2_000_000_i64, waited in 0..2_000_000_u64,
        ) {
            let promised = Clocks { wall: Moment(by), uptime: Duration::from_millis(1000) };
            let now = Clocks { wall: Moment(wall), uptime: Duration::from_millis(waited) };
            let late = overdue([("work", Promise { by: promised, doing: "idle" })], now);
            prop_assert_eq!(late.is_some(), wall > by && waited > 1000);
        }
    }
}
