//! The limiters that real servers have, as plain as can be.

use std::collections::VecDeque;
use std::time::Duration;

/// How a server counts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LimiterKind {
    /// So many in each window of the clock.
    FixedWindow { quota: u32, window: Duration },
    /// So many in any window.
    SlidingLog { quota: u32, window: Duration },
    /// So many a second, and some saved up.
    TokenBucket { per_second: f64, burst: f64 },
    /// So many in each window; who asks for more is locked out for a while.
    Lockout { quota: u32, window: Duration, lockout: Duration },
}

/// What a request is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BenchDecision {
    pub(crate) is_accepted: bool,
    /// Units left.
    pub(crate) remaining: u32,
    /// Until the quota is full again, or the next unit is there.
    pub(crate) reset: Duration,
    /// Until a request is accepted again.
    pub(crate) retry_after: Duration,
}

/// One limiter at work. Times count from its start.
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
            Self::Lockout { quota, window, lockout: locked } => {
                format!("lock-out, {quota} in {window:?}, else {locked:?}")
            }
        }
    }

    /// The policy as a server announces it: units, and the seconds in which they are granted.
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

    /// The most that a client can have accepted in the first `span`.
    pub(crate) fn max_accepted(self, span: Duration) -> f64 {
        let windows = |window: Duration| span.as_secs_f64() / window.as_secs_f64();
        match self {
            Self::FixedWindow { quota, window }
            | Self::SlidingLog { quota, window }
            | Self::Lockout { quota, window, .. } => f64::from(quota) * windows(window).ceil(),
            Self::TokenBucket { per_second, burst } => burst + per_second * span.as_secs_f64(),
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
            LimiterKind::Lockout { quota, window, lockout: locked } => {
                self.lockout(quota, window, locked, now)
            }
        }
    }

    fn fixed_window(&mut self, quota: u32, window: Duration, now: Duration) -> BenchDecision {
        let number = now.as_nanos() / window.as_nanos();
        if self.window != number {
            (self.window, self.used) = (number, 0);
        }
        let is_accepted = self.used < quota;
        self.used += u32::from(is_accepted);
        let ends = window * u32::try_from(number + 1).unwrap_or(u32::MAX);
        let reset = ends.saturating_sub(now);
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
        locked: Duration,
        now: Duration,
    ) -> BenchDecision {
        if now < self.locked_until {
            let left = self.locked_until.saturating_sub(now);
            return BenchDecision {
                is_accepted: false,
                remaining: 0,
                reset: left,
                retry_after: left,
            };
        }
        let decision = self.fixed_window(quota, window, now);
        if decision.is_accepted {
            return decision;
        }
        self.locked_until = now + locked;
        BenchDecision { reset: locked, retry_after: locked, ..decision }
    }
}
