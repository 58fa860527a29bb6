//! The newest successes of a source: they tell an item's own failure from one of its provider.

use crate::engine::Timestamp;

/// The newest successful request, and the newest of another item than that.
///
/// A failure counts as the item's own, and not against the provider, when the item failed before and
/// another item's request that was sent after that succeeded.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct RecentSuccesses {
    newest: Option<SuccessfulRequest>,
    newest_of_other_item: Option<SuccessfulRequest>,
}

/// A request that succeeded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct SuccessfulRequest {
    /// `None` where it is none that is pending now.
    item: Option<i64>,
    sent_at: Timestamp,
}

impl RecentSuccesses {
    /// Goes on with the newest success of an earlier life.
    #[must_use]
    pub fn restore(sent: Option<Timestamp>) -> Self {
        Self {
            newest: sent.map(|sent| SuccessfulRequest { item: None, sent_at: sent }),
            newest_of_other_item: None,
        }
    }

    /// When the newest one was sent.
    #[must_use]
    pub fn newest_sent_at(&self) -> Option<Timestamp> {
        self.newest.map(|success| success.sent_at)
    }

    /// Notes that a request for `item`, sent at `sent`, succeeded; `None` for one that is stored.
    pub fn record(&mut self, item: Option<i64>, sent: Timestamp) {
        let new = SuccessfulRequest { item, sent_at: sent };
        match self.newest {
            Some(newest) if newest.item == new.item => {
                self.newest = Some(SuccessfulRequest { sent_at: sent.max(newest.sent_at), ..new });
            }
            Some(newest) if sent < newest.sent_at => {
                self.newest_of_other_item = Some(latest_of(self.newest_of_other_item, new))
            }
            newest => (self.newest, self.newest_of_other_item) = (Some(new), newest),
        }
    }

    /// Whether the failure of an item that failed before, at `failed_at`, counts as its own.
    #[must_use]
    pub fn is_item_specific_failure(&self, item: i64, failed_at: Option<Timestamp>) -> bool {
        let Some(failed_at) = failed_at else { return false };
        let after =
            |success: SuccessfulRequest| success.item != Some(item) && failed_at < success.sent_at;
        [self.newest, self.newest_of_other_item].into_iter().flatten().any(after)
    }
}

fn latest_of(known: Option<SuccessfulRequest>, new: SuccessfulRequest) -> SuccessfulRequest {
    known.filter(|known| new.sent_at <= known.sent_at).unwrap_or(new)
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
            let mut kept = RecentSuccesses::default();
            for (of, sent) in &successes {
                kept.record(Some(*of), Timestamp(*sent));
            }

            let is_own = failed_at.is_some_and(|failed_at| {
                successes.iter().any(|(of, sent)| *of != item && failed_at < *sent)
            });
            prop_assert_eq!(kept.is_item_specific_failure(item, failed_at.map(Timestamp)), is_own);
        }
    }
}
