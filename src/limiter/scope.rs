//! All limits of one scope: rate, concurrency and retry budget.

use std::rc::Rc;
use std::time::Duration;

use cynosure_engine::rate_limit::{
    Block, Rate, RateLimitPolicy, RateLimitResponse, RateLimiter, ReportedLimits, RequestToken,
    ResponseOutcome, SendDecision, WaitReason,
};
use cynosure_engine::{
    ConcurrencyLimiter, LatencySample, LoadSignal, RandomSample, RetryBudget, RetryBudgetPolicy,
    Timestamp,
};
use tokio::sync::{Mutex, Notify};

use crate::limiter::AttemptKind;
use crate::state::ScopeState;

/// Limits of one scope in this process.
#[derive(Debug)]
pub(super) struct ScopeLimiter {
    pub(super) rate_limiter: RateLimiter,
    pub(super) concurrency: ConcurrencyLimiter,
    pub(super) retry_budget: RetryBudget,
    pub(super) in_flight: u32,
    /// Number of the latest accepted request.
    pub(super) latest_accepted: Option<u64>,
    /// Path of the route, if the scope is for one.
    pub(super) route: Option<String>,
    /// Units that one request costs, to convert the rate into requests.
    request_weight: u32,
    /// Lock that lets waiting requests pass one by one, in the order of arrival.
    pub(super) waiters: Rc<Mutex<()>>,
    /// Notified when waiting requests should check again.
    pub(super) changed: Rc<Notify>,
    /// Time until which the first waiting request waits, if known.
    pub(super) next_admission_at: Option<Timestamp>,
    /// Time of the last write.
    pub(super) persisted_at: Timestamp,
    /// True if a request was sent or its response recorded since the last write.
    pub(super) has_unsaved_changes: bool,
}

/// Request in flight.
#[derive(Clone, Copy, Debug)]
pub(super) struct InFlight {
    pub(super) token: RequestToken,
    pub(super) sent_at: Timestamp,
    /// Requests in flight when it was sent, including itself.
    pub(super) concurrent_requests: u32,
    /// Number in the order of sending.
    pub(super) number: u64,
}

/// Decision about a request: send it now or wait.
pub(super) enum ScopeDecision {
    Admitted(InFlight),
    Wait {
        until: Timestamp,
        reason: WaitReason,
    },
    /// The concurrency limit is reached.
    WaitForSlot,
}

impl ScopeLimiter {
    pub(super) fn new(
        policy: RateLimitPolicy,
        concurrency: u32,
        route: Option<String>,
        saved_state: &ScopeState,
        now: Timestamp,
    ) -> Self {
        Self {
            rate_limiter: RateLimiter::restore(policy, &saved_state.rate_limit, now),
            concurrency: ConcurrencyLimiter::restore(concurrency, &saved_state.concurrency, now),
            retry_budget: RetryBudget::restore(
                RetryBudgetPolicy::default(),
                &saved_state.budget,
                now,
            ),
            in_flight: 0,
            latest_accepted: None,
            route,
            request_weight: 1,
            waiters: Rc::default(),
            changed: Rc::default(),
            next_admission_at: None,
            persisted_at: now,
            has_unsaved_changes: false,
        }
    }

    /// Merges the state written by another process, if any.
    pub(super) fn merge_from_peer(&mut self, peer_state: Option<&ScopeState>, now: Timestamp) {
        if let Some(peer_state) = peer_state {
            self.rate_limiter.merge_from_peer(&peer_state.rate_limit, now);
        }
    }

    /// Applies a new policy and concurrency limit.
    pub(super) fn reconfigure(
        &mut self,
        policy: RateLimitPolicy,
        concurrency: u32,
        now: Timestamp,
    ) {
        self.rate_limiter = self.rate_limiter.with_policy(policy, now);
        self.concurrency =
            ConcurrencyLimiter::restore(concurrency, &self.concurrency.to_state(now), now);
        self.changed.notify_waiters();
    }

    pub(super) fn to_state(&self, provider: &str, now: Timestamp) -> ScopeState {
        ScopeState {
            provider: provider.to_owned(),
            rate_limit: self.rate_limiter.to_state(now),
            concurrency: self.concurrency.to_state(now),
            budget: self.retry_budget.to_state(),
            ..ScopeState::default()
        }
    }

    /// Decides about one request, which gets this `number`.
    pub(super) fn admit(&mut self, weight: u32, number: u64, now: Timestamp) -> ScopeDecision {
        self.request_weight = weight;
        self.next_admission_at = None;
        if self.in_flight >= self.concurrency.limit(self.requests_per_second(now)) {
            return ScopeDecision::WaitForSlot;
        }
        match self.rate_limiter.admit(weight, now) {
            SendDecision::Admitted(token) => {
                self.in_flight += 1;
                self.has_unsaved_changes = true;
                ScopeDecision::Admitted(InFlight {
                    token,
                    sent_at: now,
                    concurrent_requests: self.in_flight,
                    number,
                })
            }
            SendDecision::Wait { until, reason } => {
                self.next_admission_at = Some(until);
                ScopeDecision::Wait { until, reason }
            }
        }
    }

    pub(super) fn record_response(
        &mut self,
        in_flight: &InFlight,
        outcome: ResponseOutcome,
        reported: &ReportedLimits,
        now: Timestamp,
        sample: RandomSample,
    ) -> Option<Block> {
        self.has_unsaved_changes = true;
        if outcome == ResponseOutcome::Accepted {
            self.latest_accepted = self.latest_accepted.max(Some(in_flight.number));
        }
        self.rate_limiter.record_response(
            in_flight.token,
            &RateLimitResponse { outcome, reported },
            now,
            sample,
        )
    }

    /// Releases the slot of a request.
    pub(super) fn release(&mut self, in_flight: &InFlight, signal: LoadSignal, now: Timestamp) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.concurrency.record_result(in_flight.sent_at, signal, now);
        self.changed.notify_waiters();
    }

    /// Returns the rate in force, or `None` if requests are not paced.
    pub(super) fn current_rate(&self, now: Timestamp) -> Option<Rate> {
        self.rate_limiter.current_rate(now)
    }

    fn requests_per_second(&self, now: Timestamp) -> Option<f64> {
        self.current_rate(now).map(|rate| rate.get() / f64::from(self.request_weight))
    }
}

/// Returns the signal that the end of a request gives about the load of the server.
pub(super) fn load_signal(
    outcome: Option<ResponseOutcome>,
    attempt: AttemptKind,
    time_to_first_byte: Option<Duration>,
    in_flight: &InFlight,
    now: Timestamp,
) -> LoadSignal {
    match (outcome, time_to_first_byte) {
        (Some(ResponseOutcome::Failed), _) => match attempt {
            AttemptKind::First => LoadSignal::Overloaded,
            AttemptKind::Suspect => LoadSignal::ItemSpecificFailure,
            // The first attempt has been counted already.
            AttemptKind::Retry => LoadSignal::Neutral,
        },
        (Some(ResponseOutcome::Accepted), Some(time_to_first_byte)) => {
            LoadSignal::Completed(LatencySample {
                time_to_first_byte,
                total: now.since(in_flight.sent_at).max(time_to_first_byte),
                in_flight: in_flight.concurrent_requests,
            })
        }
        (Some(ResponseOutcome::Accepted | ResponseOutcome::Throttled) | None, _) => {
            LoadSignal::Neutral
        }
    }
}
