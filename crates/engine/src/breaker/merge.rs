//! Three-way merge of the states of a breaker that processes share by a file.

use super::PersistedBreaker;

impl PersistedBreaker {
    /// Merges `theirs`, the state in the file, and `ours`, which both began as `base`. If `base` is
    /// `None`, this process has not seen the file yet.
    ///
    /// Our change of state holds if the file has none, and otherwise the change in the file, since
    /// other processes already act on it. Counts are added, unless a reset began those of the file
    /// again.
    #[must_use]
    pub fn merge(base: Option<&Self>, ours: &Self, theirs: &Self) -> Self {
        let has_changed = base.map_or(theirs.generation != 0, |base| !base.has_same_change(theirs));
        let is_reset = base.is_some_and(|base| base.statistics_since != theirs.statistics_since);
        let statistics = if is_reset {
            theirs.statistics
        } else {
            let known = base.map(|base| base.statistics).unwrap_or_default();
            theirs.statistics.saturating_add(ours.statistics.saturating_sub(known))
        };
        let state = if has_changed { theirs } else { ours };
        Self { statistics, statistics_since: theirs.statistics_since, ..state.clone() }
    }

    /// Returns true if the last change of both states is the same. Two processes that change the
    /// same state give their changes the same generation, so the transition is compared, too.
    #[must_use]
    pub fn has_same_change(&self, other: &Self) -> bool {
        (self.generation, &self.last_transition) == (other.generation, &other.last_transition)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::*;
    use super::super::{Breaker, BreakerState, ManualCommand};
    use super::*;
    use crate::Timestamp;

    const OPEN: ManualCommand = ManualCommand::Open { until: None };

    /// Returns the state after a command at `now`.
    fn changed(
        state: &PersistedBreaker,
        command: ManualCommand,
        now: Timestamp,
    ) -> PersistedBreaker {
        let mut breaker = Breaker::restore("example", POLICY, state, now);
        drop(breaker.apply_command(command, now));
        breaker.to_persisted()
    }

    /// Returns the state after two more successes.
    fn counted(state: &PersistedBreaker) -> PersistedBreaker {
        let mut breaker = Breaker::restore("example", POLICY, state, NOW);
        for _ in 0..2 {
            drop(succeed(&mut breaker, NOW));
        }
        breaker.to_persisted()
    }

    fn successes(state: &PersistedBreaker) -> u64 {
        state.statistics.successes
    }

    #[test]
    fn our_change_holds_if_the_file_has_none() {
        let base = counted(&breaker().to_persisted());
        let ours = changed(&base, OPEN, after(1));

        let merged = PersistedBreaker::merge(Some(&base), &ours, &base);

        assert_eq!(merged, ours);
    }

    #[test]
    fn a_change_in_the_file_holds_and_counts_are_added() {
        let base = counted(&breaker().to_persisted());
        let ours = changed(&counted(&base), OPEN, after(2));
        let theirs = changed(&counted(&base), OPEN, after(1));
        assert_eq!(ours.generation, theirs.generation);
        assert!(!ours.has_same_change(&theirs));

        let merged = PersistedBreaker::merge(Some(&base), &ours, &theirs);

        assert!(merged.has_same_change(&theirs));
        assert_eq!((successes(&merged), merged.transitions), (6, theirs.transitions));
    }

    #[test]
    fn a_reset_in_the_file_drops_our_older_counts() {
        let base = counted(&breaker().to_persisted());
        let theirs = counted(&changed(&base, ManualCommand::Reset, after(1)));

        let merged = PersistedBreaker::merge(Some(&base), &counted(&base), &theirs);

        assert_eq!(merged, theirs);
    }

    #[test]
    fn first_counts_are_added_whenever_they_began() {
        let theirs = counted(&Breaker::new("example", POLICY, after(1)).to_persisted());
        let ours = changed(&counted(&breaker().to_persisted()), OPEN, after(2));

        let merged = PersistedBreaker::merge(None, &ours, &theirs);

        assert_eq!((&*merged.state, successes(&merged)), (BreakerState::Open.name(), 4));
        assert_eq!(merged.statistics_since, theirs.statistics_since);
        let theirs = changed(&theirs, ManualCommand::Reset, after(3));
        let merged = PersistedBreaker::merge(None, &ours, &theirs);
        assert_eq!((&*merged.state, successes(&merged)), (BreakerState::Closed.name(), 2));
    }
}
