//! What a failure means for the one item it happened to.

use std::time::Duration;

use crate::engine::{Cause, Draw, Failure, Kind, Moment, Scope, Verdict};

/// How often, and how patiently, one item is tried.
#[derive(Clone, Debug, PartialEq)]
pub struct ItemPolicy {
    /// Failed attempts before the item is set aside; at least 1.
    pub max_attempts: u32,
    /// Failed requests in a row before it is set aside, also where its attempts were cut short.
    pub max_requests: u32,
    pub retry_delay: Duration,
    pub max_retry_delay: Duration,
    pub recheck: Recheck,
}

/// How long quarantined items rest before they are looked at again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Recheck {
    /// The first rest, and every one of an item whose trouble may pass by itself.
    pub every: Duration,
    /// The longest rest of an item whose trouble is permanent: its rests double up to this.
    pub max: Duration,
}

/// What the failures of an item count for, since it was last taken on.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Trial {
    /// Whole attempts that failed.
    pub attempts: u32,
    /// Requests that failed in a row, quick retries included.
    pub requests: u32,
    /// Throttles of its own.
    pub strikes: u32,
    /// When the first request that failed was made, where that is known. Others that were made since
    /// then and succeeded show that the failures are its own.
    pub since: Option<Moment>,
}

/// What becomes of an item after a failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ItemStep {
    /// It was deleted at the source: settled.
    Gone,
    /// It is tried again at the time given.
    Retry { trial: Trial, at: Moment },
    /// Set it aside until its [next look](Recheck::next_look).
    Quarantine,
    /// It is not the item's fault: it waits for the session, with its attempts untouched.
    Unharmed,
}

impl ItemPolicy {
    /// Judges a failure of an item that has failed as `trial` says before.
    #[must_use]
    pub fn after(&self, failure: &Failure, trial: Trial, now: Moment, draw: Draw) -> ItemStep {
        match failure.cause.verdict(Scope::Item) {
            Verdict::Gone => ItemStep::Gone,
            Verdict::Quarantine => ItemStep::Quarantine,
            Verdict::Retry | Verdict::Suspect | Verdict::RetryCautiously => {
                // One that was cut short says less of the item than a whole attempt, and still
                // something: only its requests count, and it goes to the end of the queue.
                let attempts = trial.attempts.saturating_add(u32::from(!failure.is_deferred));
                let requests = trial.requests.saturating_add(failure.requests);
                if attempts >= self.max_attempts || requests >= self.max_requests {
                    return ItemStep::Quarantine;
                }
                let doublings = if failure.is_deferred { 1 } else { attempts };
                let since = trial.since.or(Some(now));
                let trial = Trial { attempts, requests, since, ..trial };
                ItemStep::Retry { trial, at: now.after(self.delay(doublings, failure, draw)) }
            }
            // It waits by itself, and is at the end of its attempts some time.
            Verdict::Wait if failure.is_own_throttle() => {
                let strikes = failure.strikes.unwrap_or_default();
                let costs = strikes.costs_attempt();
                let attempts = trial.attempts.saturating_add(u32::from(costs));
                if attempts >= self.max_attempts {
                    return ItemStep::Quarantine;
                }
                let at = now.after(self.delay(attempts.max(1), failure, draw));
                let trial = Trial { attempts, strikes: strikes.count(), ..trial };
                ItemStep::Retry { trial, at }
            }
            Verdict::Wait
            | Verdict::Renew
            | Verdict::LongWait
            | Verdict::SwitchProxy
            | Verdict::CollectInFull
            | Verdict::ListAgain
            | Verdict::WaitForNetwork
            | Verdict::WaitForStorage => ItemStep::Unharmed,
        }
    }

    /// Doubling, over the upper half of the delay by chance, never below the server's word.
    fn delay(&self, attempts: u32, failure: &Failure, draw: Draw) -> Duration {
        let doubled = self.retry_delay.saturating_mul(2_u32.saturating_pow(attempts - 1));
        let capped = doubled.min(self.max_retry_delay);
        capped.mul_f64(0.5 + draw.share() / 2.0).max(failure.told.unwrap_or_default())
    }
}

impl Recheck {
    /// No rest at all.
    pub const AT_ONCE: Self = Self { every: Duration::ZERO, max: Duration::ZERO };

    /// When an item is looked at again that is quarantined now, for `cause`, after it was
    /// quarantined `times` times before with no success between.
    #[must_use]
    pub fn next_look(&self, cause: Cause, times: u32, now: Moment) -> Moment {
        now.after(self.rest(cause, times))
    }

    /// What is forbidden or too large stays so until a person changes something; servers get
    /// repaired within days.
    fn rest(&self, cause: Cause, times: u32) -> Duration {
        match cause.kind() {
            Kind::Permanent => {
                let doubled = self.every.saturating_mul(2_u32.saturating_pow(times));
                doubled.min(self.max.max(self.every))
            }
            Kind::Temporary | Kind::Authentication | Kind::Local | Kind::Unknown => self.every,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Strikes;

    const DAY: Duration = Duration::from_secs(86_400);
    const NOW: Moment = Moment(1_000_000);
    const LATE: Draw = Draw(u32::MAX);
    const POLICY: ItemPolicy = ItemPolicy {
        max_attempts: 3,
        max_requests: 9,
        retry_delay: Duration::from_secs(10),
        max_retry_delay: Duration::from_secs(15),
        recheck: Recheck { every: DAY, max: Duration::from_secs(7 * 86_400) },
    };

    fn tried(attempts: u32, requests: u32) -> Trial {
        Trial { attempts, requests, strikes: 0, since: None }
    }

    fn after(cause: Cause, attempts: u32) -> ItemStep {
        POLICY.after(&Failure::new(cause, "x"), tried(attempts, attempts), NOW, LATE)
    }

    fn retry(attempts: u32, requests: u32, at: i64) -> ItemStep {
        let since = Some(NOW);
        ItemStep::Retry { trial: Trial { since, ..tried(attempts, requests) }, at: Moment(at) }
    }

    #[test]
    fn a_failing_item_is_tried_again_later_and_later_and_then_set_aside() {
        assert_eq!(after(Cause::Server, 0), retry(1, 1, 1_010_000));
        assert_eq!(after(Cause::Server, 1), retry(2, 2, 1_015_000));
        assert_eq!(after(Cause::Server, 2), ItemStep::Quarantine);
    }

    #[test]
    fn what_is_permanent_is_looked_at_less_and_less_and_the_rest_once_a_day() {
        let days = |cause| {
            let looks = (0..5).map(|times| POLICY.recheck.next_look(cause, times, NOW));
            looks.map(|look| look.since(NOW).as_secs() / 86_400).collect::<Vec<_>>()
        };

        assert_eq!(days(Cause::Forbidden), [1, 2, 4, 7, 7]);
        assert_eq!(days(Cause::TooLarge), [1, 2, 4, 7, 7]);
        assert_eq!(days(Cause::Server), [1; 5]);
        assert_eq!(POLICY.recheck.next_look(Cause::Forbidden, u32::MAX, NOW), NOW.after(7 * DAY));
    }

    #[test]
    fn what_is_not_the_items_fault_costs_it_nothing() {
        for cause in [Cause::RateLimit, Cause::Unauthorized, Cause::Storage, Cause::LocalNetwork] {
            assert_eq!(after(cause, 2), ItemStep::Unharmed, "{cause}");
        }
    }

    /// FAULTS 50.
    #[test]
    fn an_item_that_alone_is_throttled_waits_by_itself_and_is_set_aside() {
        let mut strikes = Strikes::default();
        let mut trial = Trial::default();
        let steps: Vec<ItemStep> = (0..5)
            .map(|round| {
                // Between two of its throttles another request succeeds.
                strikes = strikes.throttled(2 * round, (2 * round).checked_sub(1));
                let failure = Failure::new(Cause::RateLimit, "429")
                    .told(Some(Duration::from_secs(60)))
                    .struck(Some(strikes));
                let step = POLICY.after(&failure, trial, NOW, LATE);
                if let ItemStep::Retry { trial: so_far, .. } = step {
                    trial = so_far;
                }
                step
            })
            .collect();

        let retry = |attempts, strikes| {
            let trial = Trial { strikes, ..tried(attempts, 0) };
            ItemStep::Retry { trial, at: Moment(1_060_000) }
        };
        let quarantine = ItemStep::Quarantine;
        assert_eq!(steps, [ItemStep::Unharmed, retry(0, 2), retry(1, 3), retry(2, 4), quarantine]);
    }

    #[test]
    fn a_deleted_item_is_gone_and_a_forbidden_one_set_aside_at_once() {
        assert_eq!(after(Cause::NotFound, 0), ItemStep::Gone);
        assert_eq!(after(Cause::Forbidden, 0), ItemStep::Quarantine);
    }

    #[test]
    fn an_attempt_that_was_cut_short_counts_by_its_requests() {
        let failure = Failure { is_deferred: true, ..Failure::new(Cause::Server, "x") };

        for attempts in [0, 2] {
            let step = POLICY.after(&failure, tried(attempts, 5), NOW, LATE);
            assert_eq!(step, retry(attempts, 6, 1_010_000));
        }
    }

    /// FAULTS 31.
    #[test]
    fn attempts_that_are_all_cut_short_come_to_an_end() {
        let failure = Failure { is_deferred: true, ..Failure::new(Cause::Timeout, "x") };
        let mut trial = Trial::default();

        for _ in 1..POLICY.max_requests {
            match POLICY.after(&failure, trial, NOW, LATE) {
                ItemStep::Retry { trial: next, .. } => trial = next,
                step @ (ItemStep::Gone | ItemStep::Quarantine | ItemStep::Unharmed) => {
                    panic!("{step:?} after {trial:?}")
                }
            }
        }

        assert_eq!(POLICY.after(&failure, trial, NOW, LATE), ItemStep::Quarantine);
    }

    #[test]
    fn the_servers_word_holds_for_an_item_too() {
        let failure = Failure::new(Cause::Server, "x").told(Some(Duration::from_secs(100)));

        let step = POLICY.after(&failure, Trial::default(), NOW, Draw(0));

        assert_eq!(step, retry(1, 1, 1_100_000));
    }
}
