//! Bytes received in the last 24 hours, for a provider that locks a mailbox out after too many.
//!
//! A server counts bytes before they arrive here, so that it counts none any more that arrived 24
//! hours ago.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{ClockStep, Timestamp};

/// Time for which bytes count.
const DAY: Duration = Duration::from_secs(86_400);

/// Bytes that arrive within this time are one number: a day needs few of them, and a wait is at
/// most this much too long.
const BUCKET_MILLIS: i64 = 15 * 60_000;

/// Percentage of the budget from which no request is sent. The rest is for the documents in flight,
/// and for other programs that read the mailbox.
pub(super) const USED_PERCENT_MAX: u64 = 90;

/// Received bytes, by the start of their bucket in milliseconds since the Unix epoch.
type ByteBuckets = BTreeMap<i64, u64>;

/// Bytes of the last 24 hours, of this process and of others.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ByteBudget {
    received: ByteBuckets,
    /// Part of `received` that is not saved yet, so that no other process knows it.
    unsaved: ByteBuckets,
}

impl ByteBudget {
    pub(super) fn record(&mut self, bytes: u64, now: Timestamp) {
        let start = now.0.div_euclid(BUCKET_MILLIS).saturating_mul(BUCKET_MILLIS);
        for buckets in [&mut self.received, &mut self.unsaved] {
            add_bytes(buckets, start, bytes);
            buckets.retain(|start, _| now < expiry(*start));
        }
    }

    /// Returns the bytes of the last 24 hours.
    pub(super) fn received(&self, now: Timestamp) -> u64 {
        self.counted(now).fold(0, |sum, (_, bytes)| sum.saturating_add(bytes))
    }

    /// Returns the time until which no request is sent: until then, more bytes were received in the
    /// last 24 hours than `bytes_per_day` allows.
    pub(super) fn wait_until(&self, bytes_per_day: u64, now: Timestamp) -> Option<Timestamp> {
        let allowed = (bytes_per_day / 100).saturating_mul(USED_PERCENT_MAX).max(1);
        let mut received = self.received(now);
        if received < allowed {
            return None;
        }
        self.counted(now).find_map(|(start, bytes)| {
            received = received.saturating_sub(bytes);
            (received < allowed).then(|| expiry(start))
        })
    }

    /// Replaces the saved bytes by those that another process has saved since. `clock_step` is the
    /// step from its clock to the own one.
    pub(super) fn merge_from_peer(&mut self, saved: &ByteBuckets, clock_step: Option<ClockStep>) {
        self.received = match clock_step {
            Some(step) => shifted(saved, step),
            None => saved.clone(),
        };
        for (start, bytes) in &self.unsaved {
            add_bytes(&mut self.received, *start, *bytes);
        }
    }

    /// Records that all bytes are saved.
    pub(super) fn record_saved(&mut self) {
        self.unsaved.clear();
    }

    /// Shifts all times by a clock step, so that the age of the bytes stays the same.
    pub(super) fn shift_by(&mut self, step: ClockStep) {
        self.received = shifted(&self.received, step);
        self.unsaved = shifted(&self.unsaved, step);
    }

    pub(super) fn to_state(&self) -> ByteBuckets {
        self.received.clone()
    }

    /// Returns the buckets that count, the oldest first.
    fn counted(&self, now: Timestamp) -> impl Iterator<Item = (i64, u64)> {
        let buckets = self.received.iter().map(|(start, bytes)| (*start, *bytes));
        buckets.filter(move |(start, _)| now < expiry(*start))
    }
}

fn add_bytes(buckets: &mut ByteBuckets, start: i64, bytes: u64) {
    let bucket = buckets.entry(start).or_default();
    *bucket = bucket.saturating_add(bytes);
}

fn shifted(buckets: &ByteBuckets, step: ClockStep) -> ByteBuckets {
    buckets.iter().map(|(start, bytes)| (Timestamp(*start).shifted_by(step).0, *bytes)).collect()
}

/// Returns the time from which none of the bytes of a bucket count.
fn expiry(start: i64) -> Timestamp {
    Timestamp(start.saturating_add(BUCKET_MILLIS)).after(DAY)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::RandomSample;
    use crate::rate_limit::{
        Block, RateLimitMode, RateLimitPolicy, RateLimitResponse, RateLimiter, RateLimiterState,
        ReportedLimits, RequestToken, ResponseOutcome, SendDecision, WaitReason,
    };

    /// Start of a bucket.
    const START: Timestamp = Timestamp(1_800_000_000_000);
    const BUDGET: u64 = 1_000_000;
    const HOUR: Duration = Duration::from_secs(3600);

    /// Largest document, and most permits that are open at once, of the property.
    const DOCUMENT_BYTES_MAX: u64 = 200_000;
    const OPEN_PERMITS_MAX: u64 = 4;

    /// Policy that paces nothing, so that only the bytes block.
    fn policy() -> RateLimitPolicy {
        RateLimitPolicy {
            mode: RateLimitMode::Off,
            bytes_per_day: Some(BUDGET),
            ..RateLimitPolicy::default()
        }
    }

    fn limiter() -> RateLimiter {
        RateLimiter::new(policy(), START)
    }

    fn blocked_until(limiter: &mut RateLimiter, now: Timestamp) -> Option<Timestamp> {
        match limiter.admit(1, now) {
            SendDecision::Admitted(token) => {
                limiter.record_cancelled(token, now);
                None
            }
            SendDecision::Wait { until, reason } => {
                assert_eq!(reason, WaitReason::Blocked);
                Some(until)
            }
        }
    }

    fn restarted(limiter: &RateLimiter, now: Timestamp) -> RateLimiter {
        let text = serde_json::to_string(&limiter.to_state(now)).expect("it is plain data");
        let state: RateLimiterState = serde_json::from_str(&text).expect("it reads what it wrote");
        RateLimiter::restore(policy(), &state, now)
    }

    #[test]
    fn requests_stop_at_nine_tenths_until_the_bytes_are_a_day_old() {
        let mut limiter = limiter();
        assert!(limiter.record_bytes(500_000, START));
        assert!(limiter.record_bytes(399_999, START.after(HOUR)));
        assert_eq!(blocked_until(&mut limiter, START.after(HOUR)), None);

        assert!(limiter.record_bytes(1, START.after(2 * HOUR)));

        let a_day_later = START.after(24 * HOUR + HOUR / 4);
        assert_eq!(blocked_until(&mut limiter, START.after(2 * HOUR)), Some(a_day_later));
        assert_eq!(blocked_until(&mut limiter, a_day_later), None);
        let block = limiter.status(START.after(2 * HOUR)).block.expect("it is blocked");
        assert_eq!(
            block.to_string(),
            "900.0 kB were received in the last 24 h; requests stop at 90 % of bytes_per_day, \
             1.0 MB"
        );
    }

    #[test]
    fn bytes_are_not_counted_without_a_budget() {
        let mut limiter = RateLimiter::new(RateLimitPolicy::default(), START);

        assert!(!limiter.record_bytes(u64::MAX, START));

        assert_eq!(limiter.to_state(START).received_bytes, ByteBuckets::new());
    }

    #[test]
    fn a_restart_and_a_new_policy_keep_the_bytes() {
        let mut limiter = limiter();
        assert!(limiter.record_bytes(BUDGET, START));
        let until = blocked_until(&mut limiter, START);

        assert!(until.is_some());
        assert_eq!(blocked_until(&mut restarted(&limiter, START), START), until);
        assert_eq!(blocked_until(&mut limiter.with_policy(policy(), START), START), until);
    }

    #[test]
    fn the_bytes_of_two_processes_add_up() {
        let (mut first, mut second) = (limiter(), limiter());
        assert!(first.record_bytes(300_000, START));
        assert!(second.record_bytes(300_000, START));

        first.record_saved();
        second.merge_from_peer(&first.to_state(START), START);
        second.record_saved();
        assert!(first.record_bytes(300_000, START));
        first.merge_from_peer(&second.to_state(START), START);

        assert_eq!(first.byte_budget.received(START), 900_000);
        assert!(blocked_until(&mut first, START).is_some());
        assert_eq!(blocked_until(&mut second, START), None, "it has not read the last bytes");
    }

    #[test]
    fn a_clock_step_keeps_the_age_of_the_bytes() {
        let steps = [Timestamp::before as fn(Timestamp, Duration) -> Timestamp, Timestamp::after];
        for set_clock in steps {
            let mut limiter = limiter();
            assert!(limiter.record_bytes(BUDGET, START));
            let until = blocked_until(&mut limiter, START).expect("it is blocked");
            let week = 7 * 24 * HOUR;

            limiter.shift_by(ClockStep::between(START, set_clock(START, week)).expect("a step"));

            let now = set_clock(START, week);
            assert_eq!(blocked_until(&mut limiter, now), Some(set_clock(until, week)));
        }
    }

    #[derive(Clone, Debug)]
    enum BudgetAction {
        Open,
        Finish { bytes: u64 },
        Wait { minutes: u64 },
        Restart,
    }

    fn action() -> impl Strategy<Value = BudgetAction> {
        prop_oneof![
            8 => Just(BudgetAction::Open),
            8 => (0..=DOCUMENT_BYTES_MAX).prop_map(|bytes| BudgetAction::Finish { bytes }),
            2 => (0..600_u64).prop_map(|minutes| BudgetAction::Wait { minutes }),
            1 => Just(BudgetAction::Restart),
        ]
    }

    fn finish(limiter: &mut RateLimiter, token: RequestToken, bytes: u64, now: Timestamp) {
        assert!(limiter.record_bytes(bytes, now));
        let reported = ReportedLimits::default();
        let response =
            RateLimitResponse { outcome: ResponseOutcome::Accepted, reported: &reported };
        let _block: Option<Block> = limiter.record_response(token, &response, now, RandomSample(0));
    }

    proptest! {
        #[test]
        fn no_day_has_more_than_the_budget_and_the_open_documents(
            actions in prop::collection::vec(action(), 1..200)
        ) {
            let (mut limiter, mut now) = (limiter(), START);
            let (mut open, mut received) = (Vec::new(), Vec::new());
            for action in actions {
                match action {
                    BudgetAction::Open => {
                        if open.len() as u64 == OPEN_PERMITS_MAX {
                            continue;
                        }
                        match limiter.admit(1, now) {
                            SendDecision::Admitted(token) => open.push(token),
                            SendDecision::Wait { until, .. } => prop_assert!(now < until),
                        }
                    }
                    BudgetAction::Finish { bytes } => {
                        let Some(token) = open.pop() else { continue };
                        finish(&mut limiter, token, bytes, now);
                        received.push((now, bytes));
                    }
                    BudgetAction::Wait { minutes } => {
                        now = now.after(Duration::from_secs(60 * minutes));
                    }
                    BudgetAction::Restart => {
                        limiter = restarted(&limiter, now);
                        open.clear();
                    }
                }
                let last_day = received.iter().filter(|(at, _)| now.since(*at) < DAY);
                let sum: u64 = last_day.map(|(_, bytes)| bytes).sum();
                let open_documents = OPEN_PERMITS_MAX * DOCUMENT_BYTES_MAX;
                prop_assert!(sum <= BUDGET / 10 * 9 + open_documents, "{sum} bytes in a day");
            }
        }

        #[test]
        fn every_wait_ends_when_it_says(
            chunks in prop::collection::vec((0..=DOCUMENT_BYTES_MAX, 0..120_u64), 1..60)
        ) {
            let (mut limiter, mut now) = (limiter(), START);
            for (bytes, minutes) in chunks {
                limiter.record_bytes(bytes, now);
                now = now.after(Duration::from_secs(60 * minutes));
            }
            if let Some(until) = blocked_until(&mut limiter, now) {
                prop_assert!(until.since(now) <= DAY + HOUR / 4);
                prop_assert!(blocked_until(&mut limiter, Timestamp(until.0 - 1)).is_some());
                prop_assert_eq!(blocked_until(&mut limiter, until), None);
            }
        }
    }
}
