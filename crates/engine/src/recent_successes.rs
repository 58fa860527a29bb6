//! Newest successes of a source, which distinguish item-specific failures from the provider's.

use crate::{ClockStep, Timestamp};

/// Newest successful request, and the newest one for any other item.
///
/// A failure is item-specific, and does not count against the provider, if the item failed before
/// and a request for another item that was sent after that succeeded.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RecentSuccesses {
    newest: Option<SuccessfulRequest>,
    newest_of_other_item: Option<SuccessfulRequest>,
}

/// Successful request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct SuccessfulRequest {
    /// Item of the request; `None` if it is stored already or unknown.
    item: Option<i64>,
    sent_at: Timestamp,
}

impl RecentSuccesses {
    /// Restores the newest success of an earlier process.
    #[must_use]
    pub fn restore(sent_at: Option<Timestamp>) -> Self {
        Self {
            newest: sent_at.map(|sent_at| SuccessfulRequest { item: None, sent_at }),
            newest_of_other_item: None,
        }
    }

    /// Returns the time at which the newest successful request was sent.
    #[must_use]
    pub fn newest_sent_at(&self) -> Option<Timestamp> {
        self.newest.map(|success| success.sent_at)
    }

    /// Records that a request for `item`, sent at `sent_at`, succeeded; `None` for an item that is
    /// stored already.
    pub fn record(&mut self, item: Option<i64>, sent_at: Timestamp) {
        let new = SuccessfulRequest { item, sent_at };
        match self.newest {
            Some(newest) if newest.item == new.item => {
                self.newest =
                    Some(SuccessfulRequest { sent_at: sent_at.max(newest.sent_at), ..new });
            }
            Some(newest) if sent_at < newest.sent_at => {
                self.newest_of_other_item = Some(latest_of(self.newest_of_other_item, new));
            }
            newest => (self.newest, self.newest_of_other_item) = (Some(new), newest),
        }
    }

    /// Shifts all times by a clock step, so that they compare with failures after it.
    pub fn shift_by(&mut self, step: ClockStep) {
        for success in [&mut self.newest, &mut self.newest_of_other_item].into_iter().flatten() {
            success.sent_at = success.sent_at.shifted_by(step);
        }
    }

    /// Returns true if a failure of `item` is item-specific; `failed_at` is its earlier failure.
    #[must_use]
    pub fn is_item_specific_failure(&self, item: i64, failed_at: Option<Timestamp>) -> bool {
        let Some(failed_at) = failed_at else { return false };
        let is_later_for_other_item =
            |success: SuccessfulRequest| success.item != Some(item) && failed_at < success.sent_at;
        [self.newest, self.newest_of_other_item].into_iter().flatten().any(is_later_for_other_item)
    }
}

fn latest_of(current: Option<SuccessfulRequest>, new: SuccessfulRequest) -> SuccessfulRequest {
    current.filter(|current| new.sent_at <= current.sent_at).unwrap_or(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp(second * 1000)
    }

    #[test]
    fn a_first_failure_is_never_item_specific() {
        let mut successes = RecentSuccesses::default();
        successes.record(Some(1), at(10));

        assert!(!successes.is_item_specific_failure(2, None));
    }

    #[test]
    fn a_later_success_makes_the_next_failure_item_specific() {
        let mut successes = RecentSuccesses::default();
        successes.record(Some(1), at(10));

        assert!(successes.is_item_specific_failure(2, Some(at(9))));
        assert!(
            !successes.is_item_specific_failure(2, Some(at(10))),
            "it may have been sent before"
        );
        assert!(!successes.is_item_specific_failure(2, Some(at(11))));
    }

    #[test]
    fn a_success_of_the_same_item_does_not_count() {
        let mut successes = RecentSuccesses::default();
        successes.record(Some(1), at(5));
        successes.record(Some(2), at(10));

        assert!(successes.is_item_specific_failure(2, Some(at(4))));
        assert!(!successes.is_item_specific_failure(2, Some(at(6))));
        assert!(successes.is_item_specific_failure(1, Some(at(6))));
    }

    #[test]
    fn a_success_before_the_restart_still_counts() {
        let successes = RecentSuccesses::restore(Some(at(10)));

        assert!(successes.is_item_specific_failure(2, Some(at(9))));
        assert_eq!(successes.newest_sent_at(), Some(at(10)));
    }
}

#[cfg(test)]
mod proptests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_agrees_with_a_full_history(
            successes in prop::collection::vec((0..4_i64, 0..30_i64), 0..20),
            item in 0..4_i64,
            failed_at in prop::option::of(0..30_i64),
        ) {
            let mut recent = RecentSuccesses::default();
            for (success_item, sent_at) in &successes {
                recent.record(Some(*success_item), Timestamp(*sent_at));
            }

            let expected = failed_at.is_some_and(|failed_at| {
                successes
                    .iter()
                    .any(|(success_item, sent_at)| *success_item != item && failed_at < *sent_at)
            });
            let failed_at = failed_at.map(Timestamp);
            prop_assert_eq!(recent.is_item_specific_failure(item, failed_at), expected);
        }
    }
}
