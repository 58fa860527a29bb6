//! The newest successes of a source: they tell an item's own failure from one of its provider.

use crate::engine::Moment;

/// The newest successful request, and the newest of another item than that.
///
/// A failure counts as the item's own, and not against the provider, when the item failed before and
/// another item's request that was sent after that succeeded.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Successes {
    newest: Option<Success>,
    other: Option<Success>,
}

/// A request that succeeded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Success {
    /// `None` where it is none that is pending now.
    item: Option<i64>,
    sent: Moment,
}

impl Successes {
    /// Goes on with the newest success of an earlier life.
    #[must_use]
    pub fn recall(sent: Option<Moment>) -> Self {
        Self { newest: sent.map(|sent| Success { item: None, sent }), other: None }
    }

    /// When the newest one was sent.
    #[must_use]
    pub fn newest(&self) -> Option<Moment> {
        self.newest.map(|success| success.sent)
    }

    /// Notes that a request for `item`, sent at `sent`, succeeded; `None` for one that is stored.
    pub fn note(&mut self, item: Option<i64>, sent: Moment) {
        let new = Success { item, sent };
        match self.newest {
            Some(newest) if newest.item == new.item => {
                self.newest = Some(Success { sent: sent.max(newest.sent), ..new });
            }
            Some(newest) if sent < newest.sent => self.other = Some(later(self.other, new)),
            newest => (self.newest, self.other) = (Some(new), newest),
        }
    }

    /// Whether the failure of an item that failed before, at `failed_at`, counts as its own.
    #[must_use]
    pub fn is_own_failure(&self, item: i64, failed_at: Option<Moment>) -> bool {
        let Some(failed_at) = failed_at else { return false };
        let after = |success: Success| success.item != Some(item) && failed_at < success.sent;
        [self.newest, self.other].into_iter().flatten().any(after)
    }
}

fn later(known: Option<Success>, new: Success) -> Success {
    known.filter(|known| new.sent <= known.sent).unwrap_or(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Moment {
        Moment(second * 1000)
    }

    #[test]
    fn a_first_failure_is_never_the_items_own() {
        let mut successes = Successes::default();
        successes.note(Some(1), at(10));

        assert!(!successes.is_own_failure(2, None));
    }

    #[test]
    fn a_success_sent_after_a_failure_makes_the_next_its_own() {
        let mut successes = Successes::default();
        successes.note(Some(1), at(10));

        assert!(successes.is_own_failure(2, Some(at(9))));
        assert!(!successes.is_own_failure(2, Some(at(10))), "it may have been sent before");
        assert!(!successes.is_own_failure(2, Some(at(11))));
    }

    #[test]
    fn a_success_of_the_item_itself_says_nothing_of_others() {
        let mut successes = Successes::default();
        successes.note(Some(1), at(5));
        successes.note(Some(2), at(10));

        assert!(successes.is_own_failure(2, Some(at(4))));
        assert!(!successes.is_own_failure(2, Some(at(6))));
        assert!(successes.is_own_failure(1, Some(at(6))));
    }

    #[test]
    fn what_an_earlier_life_knew_still_counts() {
        let successes = Successes::recall(Some(at(10)));

        assert!(successes.is_own_failure(2, Some(at(9))));
        assert_eq!(successes.newest(), Some(at(10)));
    }
}

#[cfg(test)]
mod laws {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_what_a_full_memory_would_say(
            successes in prop::collection::vec((0..4_i64, 0..30_i64), 0..20),
            item in 0..4_i64,
            failed_at in prop::option::of(0..30_i64),
        ) {
            let mut kept = Successes::default();
            for (of, sent) in &successes {
                kept.note(Some(*of), Moment(*sent));
            }

            let is_own = failed_at.is_some_and(|failed_at| {
                successes.iter().any(|(of, sent)| *of != item && failed_at < *sent)
            });
            prop_assert_eq!(kept.is_own_failure(item, failed_at.map(Moment)), is_own);
        }
    }
}
