//! Limiters as servers have them, in virtual time.

use std::collections::VecDeque;
use std::time::Duration;

use crate::engine::Timestamp;
use crate::engine::rate_limit::{Rate, ResetMeaning};

/// How a server counts.
#[derive(Clone, Debug, PartialEq)]
pub enum LimitAlgorithm {
    /// `quota` units in each window; windows begin `phase` after whole multiples of their length.
    FixedWindow { quota: u32, window: Duration, phase: Duration },
    /// `quota` units in any span of `window`.
    SlidingLog { quota: u32, window: Duration },
    /// Tokens come at `rate`, and at most `burst` are kept.
    TokenBucket { rate: Rate, burst: u32 },
    /// A sliding log; the first unit too many locks everything out.
    Lockout { quota: u32, window: Duration, lockout: Duration, extension: LockoutExtension },
}

impl LimitAlgorithm {
    /// Returns the units per second that are granted in the long run.
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

/// What a request during a lock-out does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LockoutExtension {
    /// The lock-out ends when it was going to.
    Never,
    /// Any request lets it begin anew.
    ByAnyRequest,
}

/// What a server says of its limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HeaderMode {
    None,
    /// Retry-After with each 429.
    RetryAfter,
    /// `RateLimit` and `RateLimit-Policy` with every reply, Retry-After with each 429.
    RateLimit,
    /// `RateLimit-Limit`, `-Remaining`, `-Reset` with every reply.
    RateLimitOld,
    /// `X-RateLimit-*` with every reply, the reset in this form.
    XRateLimit(ResetMeaning),
}

/// What has come back at the reset that a server names, where units come back one by one.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ResetSemantics {
    /// Everything: the limit is as if nothing had been asked.
    #[default]
    FullQuota,
    /// The next unit.
    NextUnit,
}

/// A server's answer to one request.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitDecision {
    pub is_accepted: bool,
    /// Names are lower-case.
    pub headers: Vec<(&'static str, String)>,
}

/// A limiter at work.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerLimiter {
    algorithm: LimitAlgorithm,
    header_mode: HeaderMode,
    reset_semantics: ResetSemantics,
    /// When each unit still counted was accepted.
    accepted_at: VecDeque<Timestamp>,
    /// The fixed window that `used` belongs to.
    window_index: i64,
    used: u32,
    tokens: f64,
    refilled_at: Timestamp,
    locked_until: Option<Timestamp>,
}

/// What is left of a limit at a moment.
struct RemainingQuota {
    quota: u32,
    window: Duration,
    remaining: u32,
    /// Until what the server means by it has come back.
    reset: Duration,
    /// Until one more unit is accepted, if none is now.
    retry_after: Duration,
}

impl ServerLimiter {
    #[must_use]
    pub fn new(
        shape: LimitAlgorithm,
        speech: HeaderMode,
        renewal: ResetSemantics,
        now: Timestamp,
    ) -> Self {
        let tokens = match &shape {
            LimitAlgorithm::TokenBucket { burst, .. } => f64::from(*burst),
            LimitAlgorithm::FixedWindow { .. }
            | LimitAlgorithm::SlidingLog { .. }
            | LimitAlgorithm::Lockout { .. } => 0.0,
        };
        Self {
            algorithm: shape,
            header_mode: speech,
            reset_semantics: renewal,
            accepted_at: VecDeque::new(),
            window_index: i64::MIN,
            used: 0,
            tokens,
            refilled_at: now,
            locked_until: None,
        }
    }

    /// Returns the units per second that the server grants in the long run.
    #[must_use]
    pub fn granted_rate(&self) -> Rate {
        self.algorithm.granted_rate()
    }

    /// Rules on a request of `weight` units. Requests must come in the order of time.
    pub fn decide(&mut self, weight: u32, now: Timestamp) -> LimitDecision {
        self.advance_to(now);
        let is_accepted = self.remaining_quota(now).remaining >= weight;
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
                let number = (now.0 - millis(phase)).div_euclid(millis(window).max(1));
                if number != self.window_index {
                    self.window_index = number;
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
        let LimitAlgorithm::Lockout { lockout: lock, extension: restart, .. } = self.algorithm
        else {
            return;
        };
        match (self.locked_until, restart) {
            _ if is_accepted => {}
            (None, _) | (Some(_), LockoutExtension::ByAnyRequest) => {
                self.locked_until = Some(now.after(lock));
            }
            (Some(_), LockoutExtension::Never) => {}
        }
    }

    fn remaining_quota(&self, now: Timestamp) -> RemainingQuota {
        match self.algorithm {
            LimitAlgorithm::FixedWindow { quota, window, phase } => {
                let into = (now.0 - millis(phase)).rem_euclid(millis(window).max(1));
                let reset = window.saturating_sub(Timestamp(into).since(Timestamp(0)));
                let remaining = quota.saturating_sub(self.used);
                RemainingQuota { quota, window, remaining, reset, retry_after: reset }
            }
            LimitAlgorithm::SlidingLog { quota, window }
            | LimitAlgorithm::Lockout { quota, window, .. } => {
                let counted = u32::try_from(self.accepted_at.len()).unwrap_or(u32::MAX);
                let left = |at: Option<&Timestamp>| at.map(|at| at.after(window).since(now));
                let retry = left(self.accepted_at.front()).unwrap_or_default();
                let all = left(self.accepted_at.back()).unwrap_or_default();
                let free = RemainingQuota {
                    quota,
                    window,
                    remaining: quota.saturating_sub(counted),
                    reset: self.reset_after(all, retry),
                    retry_after: retry,
                };
                match self.locked_until {
                    Some(until) => {
                        let locked = until.since(now);
                        RemainingQuota { remaining: 0, reset: locked, retry_after: locked, ..free }
                    }
                    None => free,
                }
            }
            LimitAlgorithm::TokenBucket { rate, burst } => {
                let lacking = |units: f64| {
                    Rate::from_units(rate.get(), Duration::from_secs(1))
                        .interval()
                        .mul_f64((units - self.tokens).max(0.0))
                };
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a bucket holds between nothing and its burst"
                )]
                let remaining = (self.tokens + 1e-9).max(0.0) as u32;
                RemainingQuota {
                    quota: burst,
                    window: rate.interval() * burst,
                    remaining,
                    reset: self.reset_after(
                        lacking(f64::from(burst)),
                        lacking(f64::from(remaining) + 1.0),
                    ),
                    retry_after: lacking(1.0),
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
        let level = self.remaining_quota(now);
        // The window of a bucket is no whole number of nanoseconds.
        let seconds = |span: Duration| (span.as_secs_f64() - 1e-6).ceil();
        let mut headers = match self.header_mode {
            HeaderMode::None | HeaderMode::RetryAfter => Vec::new(),
            HeaderMode::RateLimit => vec![
                (
                    "ratelimit-policy",
                    format!("\"default\";q={};w={}", level.quota, seconds(level.window)),
                ),
                (
                    "ratelimit",
                    format!("\"default\";r={};t={}", level.remaining, seconds(level.reset)),
                ),
            ],
            HeaderMode::RateLimitOld => vec![
                ("ratelimit-limit", format!("{0}, {0};w={1}", level.quota, seconds(level.window))),
                ("ratelimit-remaining", level.remaining.to_string()),
                ("ratelimit-reset", seconds(level.reset).to_string()),
            ],
            HeaderMode::XRateLimit(meaning) => vec![
                ("x-ratelimit-limit", level.quota.to_string()),
                ("x-ratelimit-remaining", level.remaining.to_string()),
                ("x-ratelimit-reset", format_reset(meaning, level.reset, now)),
            ],
        };
        let says_when = match self.header_mode {
            HeaderMode::RetryAfter | HeaderMode::RateLimit => true,
            HeaderMode::None | HeaderMode::RateLimitOld | HeaderMode::XRateLimit(_) => false,
        };
        if says_when && !is_accepted {
            headers.push(("retry-after", seconds(level.retry_after).max(1.0).to_string()));
        }
        headers
    }
}

/// Writes a reset in one of its meanings, rounded up as servers do.
fn format_reset(meaning: ResetMeaning, reset: Duration, now: Timestamp) -> String {
    let until = now.after(reset);
    let ceiling = Timestamp(until.0.saturating_add(999)).unix_seconds();
    match meaning {
        ResetMeaning::DeltaSeconds => reset.as_secs_f64().ceil().to_string(),
        ResetMeaning::DeltaMillis => reset.as_millis().to_string(),
        ResetMeaning::EpochSeconds => ceiling.to_string(),
        ResetMeaning::EpochMillis => until.0.to_string(),
        ResetMeaning::Date => Timestamp(ceiling.saturating_mul(1000)).to_string(),
    }
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
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
        let shape = LimitAlgorithm::FixedWindow { quota: 5, window: MINUTE, phase: Duration::ZERO };
        let mut limiter = ServerLimiter::new(
            shape,
            HeaderMode::None,
            ResetSemantics::FullQuota,
            Timestamp(59_000),
        );

        assert_eq!(count_accepted(&mut limiter, 9, 59_000), 5);
        assert_eq!(count_accepted(&mut limiter, 9, 60_000), 5);
    }

    #[test]
    fn a_sliding_log_counts_any_span() {
        let shape = LimitAlgorithm::SlidingLog { quota: 5, window: MINUTE };
        let mut limiter =
            ServerLimiter::new(shape, HeaderMode::None, ResetSemantics::FullQuota, Timestamp(0));

        assert_eq!(count_accepted(&mut limiter, 9, 59_000), 5);
        assert_eq!(count_accepted(&mut limiter, 9, 118_999), 0);
        assert_eq!(count_accepted(&mut limiter, 9, 119_000), 5);
    }

    #[test]
    fn a_bucket_refills_steadily() {
        let shape = LimitAlgorithm::TokenBucket { rate: Rate::per_second(10.0), burst: 20 };
        let mut limiter =
            ServerLimiter::new(shape, HeaderMode::None, ResetSemantics::FullQuota, Timestamp(0));

        assert_eq!(count_accepted(&mut limiter, 30, 0), 20);
        assert_eq!(count_accepted(&mut limiter, 30, 500), 5);
        assert_eq!(count_accepted(&mut limiter, 30, 60_000), 20);
    }

    #[test]
    fn a_lockout_ends_on_time_or_is_extended_by_each_request() {
        for (restart, after_it) in
            [(LockoutExtension::Never, 5), (LockoutExtension::ByAnyRequest, 0)]
        {
            let shape = LimitAlgorithm::Lockout {
                quota: 5,
                window: MINUTE,
                lockout: MINUTE * 5,
                extension: restart,
            };
            let mut limiter = ServerLimiter::new(
                shape,
                HeaderMode::None,
                ResetSemantics::FullQuota,
                Timestamp(0),
            );

            assert_eq!(count_accepted(&mut limiter, 6, 0), 5);
            assert_eq!(count_accepted(&mut limiter, 1, 200_000), 0);
            assert_eq!(count_accepted(&mut limiter, 5, 300_000), after_it, "{restart:?}");
        }
    }

    #[test]
    fn a_reset_names_the_next_unit_or_all_of_them() {
        for (renewal, told) in [(ResetSemantics::NextUnit, "50"), (ResetSemantics::FullQuota, "60")]
        {
            let shape = LimitAlgorithm::SlidingLog { quota: 5, window: MINUTE };
            let mut limiter =
                ServerLimiter::new(shape, HeaderMode::RateLimit, renewal, Timestamp(0));
            count_accepted(&mut limiter, 1, 0);

            let ruling = limiter.decide(1, Timestamp(10_000));

            let reset = ("ratelimit", format!("\"default\";r=3;t={told}"));
            assert!(ruling.headers.contains(&reset), "{renewal:?}: {ruling:?}");
        }
    }

    #[test]
    fn headers_carry_remaining_units_and_retry_after() {
        let shape = LimitAlgorithm::FixedWindow { quota: 1, window: MINUTE, phase: Duration::ZERO };
        let mut limiter = ServerLimiter::new(
            shape,
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
