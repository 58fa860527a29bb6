//! From failures of items to a failure of the session.
//!
//! One failing item is its own affair. When the items fail one after the other,
//! it is not about them: the source is down, or shuts us out. The bridge watches
//! the row of failures and says when it crosses over.

use std::collections::BTreeSet;

use crate::engine::{Cause, Failure, Scope, Verdict};

/// So many different items forbidden in a row are no accident: it is the credential.
const FORBIDDEN_ITEMS: usize = 10;

/// So many challenges in a row mean that we are being kept out.
const CHALLENGES: u32 = 3;

/// When failures of items become a failure of the session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BridgePolicy {
    /// Different items that fail in a row before the source is called down; at least 1.
    pub failure_threshold: usize,
    /// Successes in a row after which the source counts as well again.
    pub success_threshold: u32,
}

/// The failures in a row, counted per meaning.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Bridge {
    failing: BTreeSet<i64>,
    forbidden: BTreeSet<i64>,
    challenges: u32,
    /// Successes still owed after a failure of the session: until then, one request at a time.
    owed: u32,
}

impl Bridge {
    /// Notes a success: whatever failed before, failed on its own account.
    pub fn succeeded(&mut self) {
        *self = Self { owed: self.owed.saturating_sub(1), ..Self::default() };
    }

    /// Notes that the session failed and is about to be tried again.
    pub fn half_open(&mut self, policy: BridgePolicy) {
        *self = Self { owed: policy.success_threshold, ..Self::default() };
    }

    /// Whether the source has still to prove itself, one request at a time.
    #[must_use]
    pub fn is_half_open(&self) -> bool {
        self.owed > 0
    }

    /// Tells beforehand whether [`failed`](Self::failed) would end a row of failures of items with a
    /// failure of the session.
    #[must_use]
    pub fn is_on_the_edge(&self, policy: BridgePolicy, item: i64, failure: &Failure) -> bool {
        let verdict = failure.cause.verdict(Scope::Item);
        if verdict == Verdict::Suspect {
            return self.challenges + 1 >= CHALLENGES;
        }
        let failing = self.failing.len() + usize::from(!self.failing.contains(&item));
        matches!(verdict, Verdict::Retry | Verdict::RetryCautiously)
            && failing >= policy.failure_threshold
    }

    /// Notes the failure of an item; returns the failure of the session it amounts to.
    pub fn failed(
        &mut self,
        policy: BridgePolicy,
        item: i64,
        failure: &Failure,
    ) -> Option<Failure> {
        match failure.cause.verdict(Scope::Item) {
            // Others are let through.
            Verdict::Wait if failure.is_own_throttle() => None,
            Verdict::Wait
            | Verdict::Renew
            | Verdict::LongWait
            | Verdict::SwitchProxy
            | Verdict::CollectInFull
            | Verdict::ListAgain
            | Verdict::WaitForNetwork
            | Verdict::WaitForStorage => Some(failure.clone()),
            // The source answered, and knows its items.
            Verdict::Gone => {
                self.succeeded();
                None
            }
            Verdict::Quarantine if failure.cause == Cause::Forbidden => {
                self.forbidden.insert(item);
                (self.forbidden.len() >= FORBIDDEN_ITEMS).then(|| {
                    let detail = format!(
                        "{FORBIDDEN_ITEMS} different items in a row are forbidden: {failure}"
                    );
                    let reply = failure.reply.clone();
                    Failure { reply, ..Failure::new(Cause::Unauthorized, detail) }
                })
            }
            Verdict::Quarantine => None,
            Verdict::Suspect => {
                self.challenges += 1;
                (self.challenges >= CHALLENGES).then(|| failure.clone())
            }
            Verdict::Retry | Verdict::RetryCautiously => {
                self.failing.insert(item);
                (self.failing.len() >= policy.failure_threshold).then(|| failure.clone())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: BridgePolicy = BridgePolicy { failure_threshold: 5, success_threshold: 3 };

    fn row(bridge: &mut Bridge, cause: Cause, items: impl Iterator<Item = i64>) -> Vec<bool> {
        items.map(|item| bridge.failed(POLICY, item, &Failure::new(cause, "x")).is_some()).collect()
    }

    #[test]
    fn five_different_items_in_a_row_make_a_failure_of_the_session() {
        let crossed = row(&mut Bridge::default(), Cause::Server, 1..=5);

        assert_eq!(crossed, [false, false, false, false, true]);
    }

    #[test]
    fn one_poison_item_never_does() {
        let crossed = row(&mut Bridge::default(), Cause::Server, std::iter::repeat_n(7, 100));

        assert!(!crossed.contains(&true));
    }

    #[test]
    fn a_success_between_them_breaks_the_row() {
        let mut bridge = Bridge::default();

        assert!(!row(&mut bridge, Cause::Server, 1..=4).contains(&true));
        bridge.succeeded();
        assert!(!row(&mut bridge, Cause::Server, 5..=8).contains(&true));
    }

    #[test]
    fn ten_forbidden_items_in_a_row_are_a_refused_credential() {
        let mut bridge = Bridge::default();
        assert!(!row(&mut bridge, Cause::Forbidden, 1..=9).contains(&true));

        let failure = bridge.failed(POLICY, 10, &Failure::new(Cause::Forbidden, "403"));

        assert_eq!(failure.map(|failure| failure.cause), Some(Cause::Unauthorized));
    }

    #[test]
    fn three_challenges_in_a_row_are_a_wall() {
        let crossed = row(&mut Bridge::default(), Cause::Challenge, std::iter::repeat_n(7, 3));

        assert_eq!(crossed, [false, false, true]);
    }

    #[test]
    fn after_a_failure_of_the_session_the_source_must_prove_itself() {
        let mut bridge = Bridge::default();

        bridge.half_open(POLICY);
        let proving: Vec<_> = (0..4)
            .map(|_| {
                let before = bridge.is_half_open();
                bridge.succeeded();
                before
            })
            .collect();

        assert_eq!(proving, [true, true, true, false]);
    }
}

#[cfg(test)]
mod laws {
    use super::*;
    use proptest::prelude::*;

    /// A success, or a failure of an item.
    fn end() -> impl Strategy<Value = Option<(i64, Cause)>> {
        let is_counted = |cause: &Cause| {
            let verdict = cause.verdict(Scope::Item);
            matches!(verdict, Verdict::Retry | Verdict::RetryCautiously | Verdict::Suspect)
        };
        let causes: Vec<_> = Cause::ALL.into_iter().filter(is_counted).collect();
        let failure = (0..8_i64, prop::sample::select(causes)).prop_map(Some);
        prop_oneof![1 => Just(None), 6 => failure]
    }

    proptest! {
        #[test]
        fn on_the_edge_is_where_one_more_failure_crosses_over(
            failure_threshold in 1..=8_usize,
            ends in prop::collection::vec(end(), 0..60),
        ) {
            let policy = BridgePolicy { failure_threshold, success_threshold: 3 };
            let mut bridge = Bridge::default();
            for end in ends {
                let Some((item, cause)) = end else {
                    bridge.succeeded();
                    continue;
                };
                let failure = Failure::new(cause, "x");
                let is_on_the_edge = bridge.is_on_the_edge(policy, item, &failure);
                let crossed = bridge.failed(policy, item, &failure);
                prop_assert_eq!(is_on_the_edge, crossed.is_some(), "{:?}", bridge);
            }
        }
    }
}
