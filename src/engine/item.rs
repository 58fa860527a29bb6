//! What a failure means for the one item it happened to.

use std::time::Duration;

use crate::engine::{Draw, Failure, Moment, Scope, Verdict};

/// How often, and how patiently, one item is tried.
#[derive(Clone, Debug, PartialEq)]
pub struct ItemPolicy {
    /// Failed attempts before the item is set aside; at least 1.
    pub max_attempts: u32,
    pub retry_delay: Duration,
    pub max_retry_delay: Duration,
    /// How long a quarantined item rests before it is looked at again.
    pub recheck: Duration,
}

/// What becomes of an item after a failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ItemStep {
    /// It was deleted at the source: settled.
    Gone,
    /// It costs an attempt; try again at the time given.
    Retry { attempts: u32, at: Moment },
    /// Set it aside until its [next look](ItemPolicy::next_look).
    Quarantine,
    /// It is not the item's fault: it waits for the session, with its attempts untouched.
    Unharmed,
}

impl ItemPolicy {
    /// Judges a failure of an item that has failed `attempts` times before.
    #[must_use]
    pub fn after(&self, failure: &Failure, attempts: u32, now: Moment, draw: Draw) -> ItemStep {
        match failure.cause.verdict(Scope::Item) {
            Verdict::Gone => ItemStep::Gone,
            Verdict::Quarantine => ItemStep::Quarantine,
            // So much fails at the source that this says little of the item: it goes to the end
            // of the queue, and has its full attempt there.
            Verdict::Retry if failure.is_deferred => {
                ItemStep::Retry { attempts, at: now.after(self.delay(1, failure, draw)) }
            }
            Verdict::Retry | Verdict::Suspect | Verdict::RetryCautiously => {
                let attempts = attempts.saturating_add(1);
                if attempts >= self.max_attempts {
                    return ItemStep::Quarantine;
                }
                ItemStep::Retry { attempts, at: now.after(self.delay(attempts, failure, draw)) }
            }
            Verdict::Wait
            | Verdict::Renew
            | Verdict::LongWait
            | Verdict::SwitchProxy
            | Verdict::CollectInFull
            | Verdict::WaitForNetwork
            | Verdict::WaitForStorage => ItemStep::Unharmed,
        }
    }

    /// When an item that is quarantined now is looked at again.
    #[must_use]
    pub fn next_look(&self, now: Moment) -> Moment {
        now.after(self.recheck)
    }

    /// Doubling, over the upper half of the delay by chance, never below the server's word.
    fn delay(&self, attempts: u32, failure: &Failure, draw: Draw) -> Duration {
        let doubled = self.retry_delay.saturating_mul(2_u32.saturating_pow(attempts - 1));
        let capped = doubled.min(self.max_retry_delay);
        capped.mul_f64(0.5 + draw.share() / 2.0).max(failure.told.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Cause;

    const NOW: Moment = Moment(1_000_000);
    const LATE: Draw = Draw(u32::MAX);
    const POLICY: ItemPolicy = ItemPolicy {
        max_attempts: 3,
        retry_delay: Duration::from_secs(10),
        max_retry_delay: Duration::from_secs(15),
        recheck: Duration::from_secs(86_400),
    };

    fn after(cause: Cause, attempts: u32) -> ItemStep {
        POLICY.after(&Failure::new(cause, "x"), attempts, NOW, LATE)
    }

    #[test]
    fn a_failing_item_is_tried_again_later_and_later_and_then_set_aside() {
        assert_eq!(after(Cause::Server, 0), ItemStep::Retry { attempts: 1, at: Moment(1_010_000) });
        assert_eq!(after(Cause::Server, 1), ItemStep::Retry { attempts: 2, at: Moment(1_015_000) });
        assert_eq!(after(Cause::Server, 2), ItemStep::Quarantine);
        assert_eq!(POLICY.next_look(NOW), Moment(87_400_000));
    }

    #[test]
    fn what_is_not_the_items_fault_costs_it_nothing() {
        for cause in [Cause::RateLimit, Cause::Unauthorized, Cause::Storage, Cause::LocalNetwork] {
            assert_eq!(after(cause, 2), ItemStep::Unharmed, "{cause}");
        }
    }

    #[test]
    fn a_deleted_item_is_gone_and_a_forbidden_one_set_aside_at_once() {
        assert_eq!(after(Cause::NotFound, 0), ItemStep::Gone);
        assert_eq!(after(Cause::Forbidden, 0), ItemStep::Quarantine);
    }

    #[test]
    fn an_attempt_that_was_cut_short_to_save_up_retries_does_not_count() {
        let failure = Failure { is_deferred: true, ..Failure::new(Cause::Server, "x") };

        for attempts in [0, 2] {
            let step = POLICY.after(&failure, attempts, NOW, LATE);
            assert_eq!(step, ItemStep::Retry { attempts, at: Moment(1_010_000) });
        }
    }

    #[test]
    fn the_servers_word_holds_for_an_item_too() {
        let failure = Failure::new(Cause::Server, "x").told(Some(Duration::from_secs(100)));

        let step = POLICY.after(&failure, 0, NOW, Draw(0));

        assert_eq!(step, ItemStep::Retry { attempts: 1, at: Moment(1_100_000) });
    }
}
