//! Rate limiters of real servers, in their simplest form.

use std::collections::VecDeque;
use std::time::Duration;

/// Algorithm of a server's rate limiter.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LimiterKind {
    /// `quota` requests in each window; the windows follow one another.
    FixedWindow { quota: u32, window: Duration },
    /// `quota` requests in any window.
    SlidingLog { quota: u32, window: Duration },
    /// `per_second` requests a second, of which up to `burst` can accumulate.
    TokenBucket { per_second: f64, burst: f64 },
    /// `quota` requests in each window; one more causes a lockout.
    Lockout { quota: u32, window: Duration, lockout: Duration },
}

/// Decision about one request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BenchDecision {
    pub(crate) is_accepted: bool,
    /// Units left.
    pub(crate) remaining: u32,
    /// Time until the quota is full again.
    pub(crate) reset: Duration,
    /// Time until a request is accepted again.
    pub(crate) retry_after: Duration,
}

/// State of a limiter. Times count from its start.
#[derive(Debug)]
pub(crate) struct BenchLimiter {
    kind: LimiterKind,
    window: u128,
    used: u32,
    accepted_at: VecDeque<Duration>,
    tokens: f64,
    refilled_at: Duration,
    locked_until: Duration,
}

impl LimiterKind {
    pub(crate) fn name(self) -> String {
        match self {
            Self::FixedWindow { quota, window } => format!("fixed window, {quota} in {window:?}"),
            Self::SlidingLog { quota, window } => format!("sliding log, {quota} in {window:?}"),
            Self::TokenBucket { per_second, burst } => {
                format!("token bucket, {per_second}/s and {burst}")
            }
            Self::Lockout { quota, window, lockout } => {
                format!("lock-out, {quota} in {window:?}, else {lockout:?}")
            }
        }
    }

    /// Returns the policy as a server advertises it: units, and the seconds of their window.
    pub(crate) fn policy(self) -> (u32, u64) {
        match self {
            Self::FixedWindow { quota, window }
            | Self::SlidingLog { quota, window }
            | Self::Lockout { quota, window, .. } => (quota, window.as_secs()),
            Self::TokenBucket { per_second, burst } => {
                (burst as u32, (burst / per_second).round() as u64)
            }
        }
    }

    /// Returns the maximum number of accepted requests within this time from the start.
    pub(crate) fn max_accepted(self, duration: Duration) -> f64 {
        let windows = |window: Duration| duration.as_secs_f64() / window.as_secs_f64();
        match self {
            Self::FixedWindow { quota, window }
            | Self::SlidingLog { quota, window }
            | Self::Lockout { quota, window, .. } => f64::from(quota) * windows(window).ceil(),
            Self::TokenBucket { per_second, burst } => burst + per_second * duration.as_secs_f64(),
        }
    }
}

impl BenchLimiter {
    pub(crate) fn new(kind: LimiterKind) -> Self {
        let tokens = if let LimiterKind::TokenBucket { burst, .. } = kind { burst } else { 0.0 };
        Self {
            kind,
            window: 0,
            used: 0,
            accepted_at: VecDeque::new(),
            tokens,
            refilled_at: Duration::ZERO,
            locked_until: Duration::ZERO,
        }
    }

    pub(crate) fn decide(&mut self, now: Duration) -> BenchDecision {
        match self.kind {
            LimiterKind::FixedWindow { quota, window } => self.fixed_window(quota, window, now),
            LimiterKind::SlidingLog { quota, window } => self.sliding_log(quota, window, now),
            LimiterKind::TokenBucket { per_second, burst } => {
                self.token_bucket(per_second, burst, now)
            }
            LimiterKind::Lockout { quota, window, lockout } => {
                self.lockout(quota, window, lockout, now)
            }
        }
    }

    fn fixed_window(&mut self, quota: u32, window: Duration, now: Duration) -> BenchDecision {
        let window_number = now.as_nanos() / window.as_nanos();
        if self.window != window_number {
            (self.window, self.used) = (window_number, 0);
        }
        let is_accepted = self.used < quota;
        self.used += u32::from(is_accepted);
        let end = window * u32::try_from(window_number + 1).unwrap_or(u32::MAX);
        let reset = end.saturating_sub(now);
        BenchDecision { is_accepted, remaining: quota - self.used, reset, retry_after: reset }
    }

    fn sliding_log(&mut self, quota: u32, window: Duration, now: Duration) -> BenchDecision {
        while self.accepted_at.front().is_some_and(|at| *at + window <= now) {
            self.accepted_at.pop_front();
        }
        let used = u32::try_from(self.accepted_at.len()).unwrap_or(u32::MAX);
        let is_accepted = used < quota;
        if is_accepted {
            self.accepted_at.push_back(now);
        }
        let until = |at: Option<&Duration>| {
            at.map_or(Duration::ZERO, |at| (*at + window).saturating_sub(now))
        };
        BenchDecision {
            is_accepted,
            remaining: quota - used - u32::from(is_accepted),
            reset: until(self.accepted_at.back()),
            retry_after: until(self.accepted_at.front()),
        }
    }

    fn token_bucket(&mut self, per_second: f64, burst: f64, now: Duration) -> BenchDecision {
        self.tokens = (self.tokens
            + now.saturating_sub(self.refilled_at).as_secs_f64() * per_second)
            .min(burst);
        self.refilled_at = now;
        let is_accepted = 1.0 <= self.tokens;
        if is_accepted {
            self.tokens -= 1.0;
        }
        BenchDecision {
            is_accepted,
            remaining: self.tokens as u32,
            reset: Duration::from_secs_f64((burst - self.tokens) / per_second),
            retry_after: Duration::from_secs_f64((1.0 - self.tokens).max(0.0) / per_second),
        }
    }

    fn lockout(
        &mut self,
        quota: u32,
        window: Duration,
        lockout: Duration,
        now: Duration,
    ) -> BenchDecision {
        if now < self.locked_until {
            let remaining = self.locked_until.saturating_sub(now);
            return BenchDecision {
                is_accepted: false,
                remaining: 0,
                reset: remaining,
                retry_after: remaining,
            };
        }
        let decision = self.fixed_window(quota, window, now);
        if decision.is_accepted {
            return decision;
        }
        self.locked_until = now + lockout;
        BenchDecision { reset: lockout, retry_after: lockout, ..decision }
    }
}
