//! Detection of item-specific throttles: one document is throttled repeatedly while others are not.

/// Number of strikes from which a throttle says nothing about the rate limit.
const ITEM_SPECIFIC_MIN: u32 = 2;

/// Number of strikes from which each costs its item an attempt.
const ATTEMPT_COST_MIN: u32 = 3;

/// Count of a document's throttles that are evidence about the document itself.
///
/// Requests of a scope are numbered in the order in which they are sent. A first throttle may have
/// any reason, and is respected. Another counts if a request sent after the previous one succeeded,
/// because an exhausted rate limit admits no request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ThrottleStrikes {
    count: u32,
    /// Number of the request that was throttled last; `None` if that was in an earlier process.
    last_throttled: Option<u64>,
    /// True if the last throttle counted.
    has_increased: bool,
}

impl ThrottleStrikes {
    /// Restores the count of an earlier process.
    #[must_use]
    pub fn restore(count: u32) -> Self {
        Self { count, ..Self::default() }
    }

    /// Returns the strikes after `request` was throttled as well. `last_succeeded` is the latest
    /// request of its scope that succeeded in this process.
    #[must_use]
    pub fn with_throttle(self, request: u64, last_succeeded: Option<u64>) -> Self {
        let has_increased = match last_succeeded {
            _ if self.count == 0 => true,
            Some(succeeded) => self.last_throttled.is_none_or(|last| last < succeeded),
            None => false,
        };
        let count = self.count.saturating_add(u32::from(has_increased));
        Self { count, last_throttled: Some(request), has_increased }
    }

    #[must_use]
    pub fn count(self) -> u32 {
        self.count
    }

    /// True if the throttles are specific to the document: they block no other requests and do not
    /// change the estimated rate.
    #[must_use]
    pub fn is_item_specific(self) -> bool {
        self.count >= ITEM_SPECIFIC_MIN
    }

    /// True if the last throttle costs the item an attempt.
    #[must_use]
    pub fn costs_attempt(self) -> bool {
        self.has_increased && self.count >= ATTEMPT_COST_MIN
    }
}

#[cfg(test)]
mod proptests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// FAULTS 50: the server throttles one document again and again.
        #[test]
        fn a_throttle_is_a_strike_only_after_a_later_request_succeeded(
            successes in vec(any::<bool>(), 1..30)
        ) {
            let mut strikes = ThrottleStrikes::default();
            let (mut request, mut last_succeeded) = (0, None);
            for (round, has_succeeded) in successes.iter().enumerate() {
                let before = strikes;
                strikes = strikes.with_throttle(request, last_succeeded);
                let counts = round == 0 || successes[round - 1];
                prop_assert_eq!(strikes.count(), before.count() + u32::from(counts));
                prop_assert_eq!(strikes.costs_attempt(), counts && strikes.count() >= 3);
                request += 1;
                if *has_succeeded {
                    last_succeeded = Some(request);
                    request += 1;
                }
            }
        }

        #[test]
        fn an_exhausted_rate_limit_adds_no_strike(
            documents in 1_usize..20, rounds in 1_usize..20, before in 0_u64..50
        ) {
            // Every earlier request succeeded, and none since.
            let last_succeeded = before.checked_sub(1);
            let mut all = vec![ThrottleStrikes::default(); documents];
            let order = (0..documents).cycle().take(documents * rounds);
            for (request, document) in (before..).zip(order) {
                all[document] = all[document].with_throttle(request, last_succeeded);
            }

            prop_assert!(!all.iter().any(|strikes| strikes.is_item_specific()), "{all:?}");
        }

        #[test]
        fn counting_continues_after_a_restart(
            count in 1_u32..9, request: u64, last_succeeded: Option<u64>
        ) {
            let strikes = ThrottleStrikes::restore(count).with_throttle(request, last_succeeded);

            prop_assert_eq!(strikes.count(), count + u32::from(last_succeeded.is_some()));
        }
    }
}
