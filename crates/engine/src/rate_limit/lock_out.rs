//! Lock-outs whose end the server does not name: the wait doubles with each one in a row.
//!
//! A login or an opened folder does not end the row, because a server may accept those and still
//! refuse to send documents. A document that arrives does.

use std::cmp::Reverse;
use std::time::Duration;

use crate::backoff::{doubled_delay, retry_after_with_margin};
use crate::rate_limit::block::{Block, BlockReason};
use crate::rate_limit::policy::RateLimitPolicy;
use crate::rate_limit::state::LockOutState;
use crate::{ClockStep, RandomSample, Timestamp};

/// Longest wait for the end of a lock-out: Gmail's last up to a day.
pub const LOCK_OUT_WAIT_MAX: Duration = Duration::from_secs(86_400);

/// Time after a wait in which the next lock-out is still in the same row. Later, the last one has
/// certainly ended, also where no document was there to show it.
const ROW_GAP_MAX: Duration = LOCK_OUT_WAIT_MAX;

/// Lock-outs in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct LockOutSeries {
    /// Zero once the row has ended.
    count: u32,
    /// End of the last wait.
    waited_until: Timestamp,
}

impl LockOutSeries {
    /// Returns the block after another lock-out. The first of a row lasts for `first_wait`.
    pub(super) fn next_block(
        &mut self,
        first_wait: Duration,
        policy: &RateLimitPolicy,
        now: Timestamp,
        sample: RandomSample,
    ) -> Block {
        if self.waited_until.after(ROW_GAP_MAX) < now {
            self.count = 0;
        }
        let wait = doubled_delay(first_wait, self.count, LOCK_OUT_WAIT_MAX);
        let until = now.after(retry_after_with_margin(wait, sample));
        *self = Self { count: self.count.saturating_add(1), waited_until: until };
        let reason = BlockReason::NoTimeGiven { throttles: self.count };
        Block { until, reason, exceeds_max_wait: wait > policy.max_wait }
    }

    /// Records that a document arrives. After the last wait, that ends the row.
    pub(super) fn record_received(&mut self, now: Timestamp) {
        if self.waited_until <= now {
            self.count = 0;
        }
    }

    /// Shifts the end of the last wait by a clock step.
    pub(super) fn shift_by(&mut self, step: ClockStep) {
        self.waited_until = self.waited_until.shifted_by(step);
    }

    /// Takes over the row that another process has saved if it is later, or if it has ended.
    /// `clock_step` is the step from the clock of that process to the own one.
    pub(super) fn merge_from_peer(
        &mut self,
        saved: Option<LockOutState>,
        clock_step: Option<ClockStep>,
    ) {
        let Some(LockOutState { count, waited_until }) = saved else { return };
        let mut peer = Self { count, waited_until: Timestamp(waited_until) };
        if let Some(step) = clock_step {
            peer.shift_by(step);
        }
        // Both processes know the row by the end of its last wait.
        let order = |row: &Self| (row.waited_until, Reverse(row.count));
        if order(self) < order(&peer) {
            *self = peer;
        }
    }

    pub(super) fn to_state(self) -> Option<LockOutState> {
        let state = LockOutState { count: self.count, waited_until: self.waited_until.0 };
        (self != Self::default()).then_some(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate_limit::{
        RateLimitMode, RateLimitResponse, RateLimiter, RateLimiterState, ReportedLimits,
        RequestToken, ResponseOutcome, SendDecision,
    };

    const START: Timestamp = Timestamp(1_800_000_000_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn limiter(mode: RateLimitMode) -> RateLimiter {
        RateLimiter::new(RateLimitPolicy { mode, ..RateLimitPolicy::default() }, START)
    }

    fn send(limiter: &mut RateLimiter, now: Timestamp) -> RequestToken {
        match limiter.admit(1, now) {
            SendDecision::Admitted(token) => token,
            SendDecision::Wait { until, reason } => panic!("waits until {until}: {reason:?}"),
        }
    }

    fn respond(
        limiter: &mut RateLimiter,
        token: RequestToken,
        outcome: ResponseOutcome,
        now: Timestamp,
    ) -> Option<Block> {
        let is_throttled = outcome == ResponseOutcome::Throttled;
        let reported = ReportedLimits {
            lock_out_wait: is_throttled.then_some(HOUR),
            ..ReportedLimits::default()
        };
        let response = RateLimitResponse { outcome, reported: &reported };
        limiter.record_response(token, &response, now, RandomSample(0))
    }

    /// Sends a request that is refused because of a lock-out. Returns the block.
    fn lock_out(limiter: &mut RateLimiter, now: Timestamp) -> Block {
        let token = send(limiter, now);
        respond(limiter, token, ResponseOutcome::Throttled, now).expect("it is blocked")
    }

    /// Logs in after the block, and is refused again. Returns the block.
    fn lock_out_after_login(limiter: &mut RateLimiter, block: &Block) -> Block {
        let login = send(limiter, block.until);
        assert_eq!(respond(limiter, login, ResponseOutcome::Accepted, block.until), None);
        lock_out(limiter, block.until.after(Duration::from_secs(1)))
    }

    fn hours(block: &Block, since: Timestamp) -> u64 {
        block.until.since(since).as_secs() / 3600
    }

    fn restarted(limiter: &RateLimiter, now: Timestamp) -> RateLimiter {
        let text = serde_json::to_string(&limiter.to_state(now)).expect("it is plain data");
        let state: RateLimiterState = serde_json::from_str(&text).expect("it reads what it wrote");
        RateLimiter::restore(RateLimitPolicy::default(), &state, now)
    }

    #[test]
    fn the_wait_doubles_up_to_a_day() {
        for mode in [RateLimitMode::Adaptive, RateLimitMode::Off] {
            let mut limiter = limiter(mode);
            let mut block = lock_out(&mut limiter, START);
            let mut waits = vec![hours(&block, START)];
            for _ in 0..6 {
                let refused_at = block.until.after(Duration::from_secs(1));
                block = lock_out_after_login(&mut limiter, &block);
                waits.push(hours(&block, refused_at));
            }

            assert_eq!(waits, [1, 2, 4, 8, 16, 24, 24], "{mode:?}");
            assert!(block.exceeds_max_wait, "it is worth an alert");
            assert_eq!(
                block.to_string(),
                "the server said: too many requests, 7 times, without a retry time"
            );
        }
    }

    #[test]
    fn the_first_wait_is_obeyed_late_rather_than_early() {
        let block = lock_out(&mut limiter(RateLimitMode::Adaptive), START);

        assert_eq!(block.until, START.after(HOUR + Duration::from_secs(1)));
        assert!(!block.exceeds_max_wait);
    }

    #[test]
    fn a_document_after_the_wait_ends_the_row() {
        let mut limiter = limiter(RateLimitMode::Adaptive);
        let first = lock_out(&mut limiter, START);
        let second = lock_out_after_login(&mut limiter, &first);
        // The rest of a document that was on its way when the lock-out began.
        limiter.record_bytes(1, second.until.before(HOUR));
        let third = lock_out_after_login(&mut limiter, &second);
        assert_eq!(hours(&third, second.until), 4);

        let login = send(&mut limiter, third.until);
        assert_eq!(respond(&mut limiter, login, ResponseOutcome::Accepted, third.until), None);
        limiter.record_bytes(1, third.until);

        let fourth = lock_out(&mut limiter, third.until.after(HOUR));
        assert_eq!(hours(&fourth, third.until.after(HOUR)), 1);
    }

    #[test]
    fn a_lock_out_days_later_begins_another_row() {
        for (days, expected) in [(1, 2), (2, 1)] {
            let mut limiter = limiter(RateLimitMode::Adaptive);
            let first = lock_out(&mut limiter, START);
            let login = send(&mut limiter, first.until);
            assert_eq!(respond(&mut limiter, login, ResponseOutcome::Accepted, first.until), None);

            let later = first.until.after(24 * HOUR * days);

            assert_eq!(hours(&lock_out(&mut limiter, later), later), expected, "{days} days");
        }
    }

    #[test]
    fn refusals_of_requests_in_flight_count_once() {
        let mut limiter = limiter(RateLimitMode::Off);
        let [first, second] = [send(&mut limiter, START), send(&mut limiter, START)];
        let block = respond(&mut limiter, first, ResponseOutcome::Throttled, START);
        assert_eq!(respond(&mut limiter, second, ResponseOutcome::Throttled, START), None);

        let block = block.expect("it is blocked");
        let next = lock_out_after_login(&mut limiter, &block);

        assert_eq!(hours(&next, block.until), 2);
    }

    #[test]
    fn a_restart_keeps_the_row() {
        let mut limiter = limiter(RateLimitMode::Adaptive);
        let first = lock_out(&mut limiter, START);
        let mut next = restarted(&limiter, START);
        assert_eq!(next.current_block(START).map(|block| block.until), Some(first.until));

        let second = lock_out_after_login(&mut next, &first);
        let third = lock_out_after_login(&mut restarted(&next, second.until), &second);

        assert_eq!([hours(&second, first.until), hours(&third, second.until)], [2, 4]);
    }

    #[test]
    fn a_row_that_has_ended_has_ended_for_all_processes() {
        let mut ours = limiter(RateLimitMode::Adaptive);
        let block = lock_out(&mut ours, START);
        ours.record_saved();
        let mut theirs = restarted(&ours, START);
        let ended_at = block.until;
        let login = send(&mut ours, ended_at);
        assert_eq!(respond(&mut ours, login, ResponseOutcome::Accepted, ended_at), None);
        ours.record_bytes(1, ended_at);

        // They have written since, and have not read of the end.
        ours.merge_from_peer(&theirs.to_state(ended_at), ended_at);
        theirs.merge_from_peer(&ours.to_state(ended_at), ended_at);

        let later = ended_at.after(HOUR);
        for limiter in [&mut ours, &mut theirs] {
            assert_eq!(hours(&lock_out(limiter, later), later), 1);
        }
    }

    #[test]
    fn a_clock_step_keeps_the_row() {
        let mut limiter = limiter(RateLimitMode::Adaptive);
        let first = lock_out(&mut limiter, START);
        let set_back = START.before(30 * 24 * HOUR);
        let step = ClockStep::between(START, set_back).expect("a step");

        limiter.shift_by(step);

        let shifted = Block { until: first.until.shifted_by(step), ..first };
        let second = lock_out_after_login(&mut limiter, &shifted);
        assert_eq!(hours(&second, shifted.until), 2);
    }

    /// A lock-out for too many bytes says nothing about the rate of requests.
    #[test]
    fn a_lock_out_teaches_no_rate() {
        let mut limiter = limiter(RateLimitMode::Adaptive);
        let first = lock_out(&mut limiter, START);
        let second = lock_out_after_login(&mut limiter, &first);

        assert_eq!(limiter.status(second.until).estimated_rate, None);
    }

    #[test]
    fn a_throttle_before_a_lock_out_teaches_no_rate() {
        let mut limiter = limiter(RateLimitMode::Adaptive);
        let token = send(&mut limiter, START);
        let reported = ReportedLimits::default();
        let response =
            RateLimitResponse { outcome: ResponseOutcome::Throttled, reported: &reported };
        let throttled = limiter.record_response(token, &response, START, RandomSample(0));
        let first = lock_out(&mut limiter, throttled.expect("it is blocked").until);

        let login = send(&mut limiter, first.until);
        assert_eq!(respond(&mut limiter, login, ResponseOutcome::Accepted, first.until), None);

        assert_eq!(limiter.status(first.until).estimated_rate, None);
    }
}
