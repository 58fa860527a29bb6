//! Server-side rate limiters in virtual time.

use std::collections::VecDeque;
use std::time::Duration;

use cynosure_engine::Timestamp;
use cynosure_engine::rate_limit::{Rate, ResetMeaning};

/// Algorithm by which a server limits requests.
#[derive(Clone, Debug, PartialEq)]
pub enum LimitAlgorithm {
    /// `quota` units in each window. Windows begin `phase` after whole multiples of their length.
    FixedWindow { quota: u32, window: Duration, phase: Duration },
    /// `quota` units in any period of length `window`.
    SlidingLog { quota: u32, window: Duration },
    /// A bucket that holds at most `burst` tokens and is refilled at `rate`.
    TokenBucket { rate: Rate, burst: u32 },
    /// A sliding log. The first rejected request makes the server reject everything for `lockout`.
    Lockout { quota: u32, window: Duration, lockout: Duration, extension: LockoutExtension },
}

impl LimitAlgorithm {
    /// Returns the long-term rate, in units per second.
    #[must_use]
    pub fn granted_rate(&self) -> Rate {
        match *self {
            Self::FixedWindow { quota, window, .. }
            | Self::SlidingLog { quota, window }
            | Self::Lockout { quota, window, .. } => Rate::from_units(f64::from(quota), window),
            Self::TokenBucket { rate, .. } => rate,
        }
    }
}

/// Effect of a request during a lockout.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LockoutExtension {
    /// The lockout ends at its original time.
    Never,
    /// Any request restarts the lockout.
    ByAnyRequest,
}

/// Rate limit headers that a server sends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HeaderMode {
    None,
    /// Retry-After with each 429.
    RetryAfter,
    /// `RateLimit` and `RateLimit-Policy` with every response, Retry-After with each 429.
    RateLimit,
    /// `RateLimit-Limit`, `-Remaining`, `-Reset` with every response.
    RateLimitLegacy,
    /// `X-RateLimit-*` with every response, the reset in this form.
    XRateLimit(ResetMeaning),
}

/// Quota that is available again at the advertised reset, for a limit that frees units one by one.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ResetSemantics {
    /// The full quota.
    #[default]
    FullQuota,
    /// One more unit.
    NextUnit,
}

/// Decision of a limiter on one request.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitDecision {
    pub is_accepted: bool,
    /// Names are lower-case.
    pub headers: Vec<(&'static str, String)>,
}

/// Server-side rate limiter with its counters.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerLimiter {
    algorithm: LimitAlgorithm,
    header_mode: HeaderMode,
    reset_semantics: ResetSemantics,
    /// Time at which each unit that still counts was accepted.
    accepted_at: VecDeque<Timestamp>,
    /// Number of the fixed window that `used` belongs to.
    window_index: i64,
    used: u32,
    tokens: f64,
    refilled_at: Timestamp,
    locked_until: Option<Timestamp>,
}

/// Quota of a limit at one time: what remains of it, and when it is available again.
struct QuotaStatus {
    quota: u32,
    window: Duration,
    remaining: u32,
    /// Time to the reset that the headers advertise; see [`ResetSemantics`].
    reset: Duration,
    /// Time until one more unit is accepted, if none is accepted now.
    retry_after: Duration,
}

impl ServerLimiter {
    #[must_use]
    pub fn new(
        algorithm: LimitAlgorithm,
        header_mode: HeaderMode,
        reset_semantics: ResetSemantics,
        now: Timestamp,
    ) -> Self {
        let tokens = match &algorithm {
            LimitAlgorithm::TokenBucket { burst, .. } => f64::from(*burst),
            LimitAlgorithm::FixedWindow { .. }
            | LimitAlgorithm::SlidingLog { .. }
            | LimitAlgorithm::Lockout { .. } => 0.0,
        };
        Self {
            algorithm,
            header_mode,
            reset_semantics,
            accepted_at: VecDeque::new(),
            window_index: i64::MIN,
            used: 0,
            tokens,
            refilled_at: now,
            locked_until: None,
        }
    }

    /// Returns the long-term rate of the limit, in units per second.
    #[must_use]
    pub fn granted_rate(&self) -> Rate {
        self.algorithm.granted_rate()
    }

    /// Accepts or rejects a request of `weight` units. Calls must be in chronological order.
    pub fn decide(&mut self, weight: u32, now: Timestamp) -> LimitDecision {
        self.advance_to(now);
        let is_accepted = self.quota_status(now).remaining >= weight;
        if is_accepted {
            self.used = self.used.saturating_add(weight);
            self.tokens -= f64::from(weight);
            self.accepted_at.extend((0..weight).map(|_| now));
        }
        self.update_lockout(is_accepted, now);
        LimitDecision { is_accepted, headers: self.headers(is_accepted, now) }
    }

    /// Brings the counters up to `now`.
    fn advance_to(&mut self, now: Timestamp) {
        match self.algorithm {
            LimitAlgorithm::FixedWindow { window, phase, .. } => {
                let index = (now.0 - millis(phase)).div_euclid(millis(window).max(1));
                if index != self.window_index {
                    self.window_index = index;
                    self.used = 0;
                }
                self.accepted_at.clear();
            }
            LimitAlgorithm::SlidingLog { window, .. } | LimitAlgorithm::Lockout { window, .. } => {
                while self.accepted_at.front().is_some_and(|first| now.since(*first) >= window) {
                    self.accepted_at.pop_front();
                }
            }
            LimitAlgorithm::TokenBucket { rate, burst } => {
                let gained = now.since(self.refilled_at).as_secs_f64() * rate.get();
                self.tokens = (self.tokens + gained).min(f64::from(burst));
                self.refilled_at = now;
                self.accepted_at.clear();
            }
        }
        if self.locked_until.is_some_and(|until| until <= now) {
            self.locked_until = None;
        }
    }

    fn update_lockout(&mut self, is_accepted: bool, now: Timestamp) {
        let LimitAlgorithm::Lockout { lockout, extension, .. } = self.algorithm else { return };
        match (self.locked_until, extension) {
            _ if is_accepted => {}
            (None, _) | (Some(_), LockoutExtension::ByAnyRequest) => {
                self.locked_until = Some(now.after(lockout));
            }
            (Some(_), LockoutExtension::Never) => {}
        }
    }

    fn quota_status(&self, now: Timestamp) -> QuotaStatus {
        match self.algorithm {
            LimitAlgorithm::FixedWindow { quota, window, phase } => {
                let offset = (now.0 - millis(phase)).rem_euclid(millis(window).max(1));
                let reset = window.saturating_sub(Timestamp(offset).since(Timestamp(0)));
                let remaining = quota.saturating_sub(self.used);
                QuotaStatus { quota, window, remaining, reset, retry_after: reset }
            }
            LimitAlgorithm::SlidingLog { quota, window }
            | LimitAlgorithm::Lockout { quota, window, .. } => {
                let counted = u32::try_from(self.accepted_at.len()).unwrap_or(u32::MAX);
                let expiry = |at: Option<&Timestamp>| at.map(|at| at.after(window).since(now));
                let next = expiry(self.accepted_at.front()).unwrap_or_default();
                let all = expiry(self.accepted_at.back()).unwrap_or_default();
                let unlocked = QuotaStatus {
                    quota,
                    window,
                    remaining: quota.saturating_sub(counted),
                    reset: self.reset_after(all, next),
                    retry_after: next,
                };
                match self.locked_until {
                    Some(until) => {
                        let wait = until.since(now);
                        QuotaStatus { remaining: 0, reset: wait, retry_after: wait, ..unlocked }
                    }
                    None => unlocked,
                }
            }
            LimitAlgorithm::TokenBucket { rate, burst } => {
                let refill_time = |units: f64| {
                    Rate::from_units(rate.get(), Duration::from_secs(1))
                        .interval()
                        .mul_f64((units - self.tokens).max(0.0))
                };
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a bucket holds between 0 and `burst` tokens"
                )]
                let remaining = (self.tokens + 1e-9).max(0.0) as u32;
                QuotaStatus {
                    quota: burst,
                    window: rate.interval() * burst,
                    remaining,
                    reset: self.reset_after(
                        refill_time(f64::from(burst)),
                        refill_time(f64::from(remaining) + 1.0),
                    ),
                    retry_after: refill_time(1.0),
                }
            }
        }
    }

    fn reset_after(&self, all: Duration, next: Duration) -> Duration {
        match self.reset_semantics {
            ResetSemantics::FullQuota => all,
            ResetSemantics::NextUnit => next,
        }
    }

    fn headers(&self, is_accepted: bool, now: Timestamp) -> Vec<(&'static str, String)> {
        let status = self.quota_status(now);
        // The window of a token bucket can be some nanoseconds too long, because `Rate::interval`
        // is rounded. Without the subtraction it would be rounded up to the next second.
        let seconds = |duration: Duration| (duration.as_secs_f64() - 1e-6).ceil();
        let mut headers = match self.header_mode {
            HeaderMode::None | HeaderMode::RetryAfter => Vec::new(),
            HeaderMode::RateLimit => vec![
                (
                    "ratelimit-policy",
                    format!("\"default\";q={};w={}", status.quota, seconds(status.window)),
                ),
                (
                    "ratelimit",
                    format!("\"default\";r={};t={}", status.remaining, seconds(status.reset)),
                ),
            ],
            HeaderMode::RateLimitLegacy => vec![
                (
                    "ratelimit-limit",
                    format!("{0}, {0};w={1}", status.quota, seconds(status.window)),
                ),
                ("ratelimit-remaining", status.remaining.to_string()),
                ("ratelimit-reset", seconds(status.reset).to_string()),
            ],
            HeaderMode::XRateLimit(meaning) => vec![
                ("x-ratelimit-limit", status.quota.to_string()),
                ("x-ratelimit-remaining", status.remaining.to_string()),
                ("x-ratelimit-reset", format_reset(meaning, status.reset, now)),
            ],
        };
        let sends_retry_after = match self.header_mode {
            HeaderMode::RetryAfter | HeaderMode::RateLimit => true,
            HeaderMode::None | HeaderMode::RateLimitLegacy | HeaderMode::XRateLimit(_) => false,
        };
        if sends_retry_after && !is_accepted {
            headers.push(("retry-after", seconds(status.retry_after).max(1.0).to_string()));
        }
        headers
    }
}

/// Formats a reset in one of its units. Seconds are rounded up, because servers do so.
fn format_reset(meaning: ResetMeaning, reset: Duration, now: Timestamp) -> String {
    let until = now.after(reset);
    let until_seconds = Timestamp(until.0.saturating_add(999)).unix_seconds();
    match meaning {
        ResetMeaning::DeltaSeconds => reset.as_secs_f64().ceil().to_string(),
        ResetMeaning::DeltaMillis => reset.as_millis().to_string(),
        ResetMeaning::EpochSeconds => until_seconds.to_string(),
        ResetMeaning::EpochMillis => until.0.to_string(),
        ResetMeaning::Date => Timestamp(until_seconds.saturating_mul(1000)).to_string(),
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn count_accepted(limiter: &mut ServerLimiter, times: u32, now: i64) -> u32 {
        (0..times).map(|_| u32::from(limiter.decide(1, Timestamp(now)).is_accepted)).sum()
    }

    #[test]
    fn a_fixed_window_is_full_again_at_its_end() {
        let algorithm =
            LimitAlgorithm::FixedWindow { quota: 5, window: MINUTE, phase: Duration::ZERO };
        let mut limiter = ServerLimiter::new(
            algorithm,
            HeaderMode::None,
            ResetSemantics::FullQuota,
            Timestamp(59_000),
        );

        assert_eq!(count_accepted(&mut limiter, 9, 59_000), 5);
        assert_eq!(count_accepted(&mut limiter, 9, 60_000), 5);
    }

    #[test]
    fn a_sliding_log_counts_any_span() {
        let algorithm = LimitAlgorithm::SlidingLog { quota: 5, window: MINUTE };
        let mut limiter = ServerLimiter::new(
            algorithm,
            HeaderMode::None,
            ResetSemantics::FullQuota,
            Timestamp(0),
        );

        assert_eq!(count_accepted(&mut limiter, 9, 59_000), 5);
        assert_eq!(count_accepted(&mut limiter, 9, 118_999), 0);
        assert_eq!(count_accepted(&mut limiter, 9, 119_000), 5);
    }

    #[test]
    fn a_bucket_refills_steadily() {
        let algorithm = LimitAlgorithm::TokenBucket { rate: Rate::per_second(10.0), burst: 20 };
        let mut limiter = ServerLimiter::new(
            algorithm,
            HeaderMode::None,
            ResetSemantics::FullQuota,
            Timestamp(0),
        );

        assert_eq!(count_accepted(&mut limiter, 30, 0), 20);
        assert_eq!(count_accepted(&mut limiter, 30, 500), 5);
        assert_eq!(count_accepted(&mut limiter, 30, 60_000), 20);
    }

    #[test]
    fn a_lockout_ends_on_time_or_is_extended_by_each_request() {
        for (extension, accepted_after) in
            [(LockoutExtension::Never, 5), (LockoutExtension::ByAnyRequest, 0)]
        {
            let algorithm = LimitAlgorithm::Lockout {
                quota: 5,
                window: MINUTE,
                lockout: MINUTE * 5,
                extension,
            };
            let mut limiter = ServerLimiter::new(
                algorithm,
                HeaderMode::None,
                ResetSemantics::FullQuota,
                Timestamp(0),
            );

            assert_eq!(count_accepted(&mut limiter, 6, 0), 5);
            assert_eq!(count_accepted(&mut limiter, 1, 200_000), 0);
            assert_eq!(count_accepted(&mut limiter, 5, 300_000), accepted_after, "{extension:?}");
        }
    }

    #[test]
    fn a_reset_names_the_next_unit_or_all_of_them() {
        for (reset_semantics, expected) in
            [(ResetSemantics::NextUnit, "50"), (ResetSemantics::FullQuota, "60")]
        {
            let algorithm = LimitAlgorithm::SlidingLog { quota: 5, window: MINUTE };
            let mut limiter =
                ServerLimiter::new(algorithm, HeaderMode::RateLimit, reset_semantics, Timestamp(0));
            count_accepted(&mut limiter, 1, 0);

            let decision = limiter.decide(1, Timestamp(10_000));

            let reset = ("ratelimit", format!("\"default\";r=3;t={expected}"));
            assert!(decision.headers.contains(&reset), "{reset_semantics:?}: {decision:?}");
        }
    }

    #[test]
    fn headers_carry_remaining_units_and_retry_after() {
        let algorithm =
            LimitAlgorithm::FixedWindow { quota: 1, window: MINUTE, phase: Duration::ZERO };
        let mut limiter = ServerLimiter::new(
            algorithm,
            HeaderMode::RateLimit,
            ResetSemantics::FullQuota,
            Timestamp(0),
        );

        assert_eq!(
            limiter.decide(1, Timestamp(500)).headers,
            [
                ("ratelimit-policy", "\"default\";q=1;w=60".to_owned()),
                ("ratelimit", "\"default\";r=0;t=60".to_owned()),
            ]
        );
        assert!(
            limiter.decide(1, Timestamp(9_500)).headers.contains(&("retry-after", "51".to_owned()))
        );
    }
}
