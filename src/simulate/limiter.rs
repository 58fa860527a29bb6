//! Limiters as servers have them, in virtual time.

use std::collections::VecDeque;
use std::time::Duration;

use crate::engine::Timestamp;
use crate::engine::rate_limit::{Rate, ResetMeaning};

/// How a server counts.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// `quota` units in each window; windows begin `phase` after whole multiples of their length.
    FixedWindow { quota: u32, window: Duration, phase: Duration },
    /// `quota` units in any span of `window`.
    SlidingLog { quota: u32, window: Duration },
    /// Tokens come at `rate`, and at most `burst` are kept.
    TokenBucket { rate: Rate, burst: u32 },
    /// A sliding log; the first unit too many locks everything out.
    LockOut { quota: u32, window: Duration, lock: Duration, restart: Restart },
}

impl Shape {
    /// Returns the units per second that are granted in the long run.
    #[must_use]
    pub fn grants(&self) -> Rate {
        match *self {
            Self::FixedWindow { quota, window, .. }
            | Self::SlidingLog { quota, window }
            | Self::LockOut { quota, window, .. } => Rate::from_units(f64::from(quota), window),
            Self::TokenBucket { rate, .. } => rate,
        }
    }
}

/// What a request during a lock-out does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Restart {
    /// The lock-out ends when it was going to.
    Never,
    /// Any request lets it begin anew.
    ByAnyRequest,
}

/// What a server says of its limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Speech {
    Nothing,
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
pub enum Renewal {
    /// Everything: the limit is as if nothing had been asked.
    #[default]
    All,
    /// The next unit.
    Next,
}

/// A server's answer to one request.
#[derive(Clone, Debug, PartialEq)]
pub struct Ruling {
    pub is_accepted: bool,
    /// Names are lower-case.
    pub headers: Vec<(&'static str, String)>,
}

/// A limiter at work.
#[derive(Clone, Debug, PartialEq)]
pub struct Limiter {
    shape: Shape,
    speech: Speech,
    renewal: Renewal,
    /// When each unit still counted was accepted.
    log: VecDeque<Timestamp>,
    /// The fixed window that `used` belongs to.
    window: i64,
    used: u32,
    tokens: f64,
    filled_at: Timestamp,
    locked_until: Option<Timestamp>,
}

/// What is left of a limit at a moment.
struct Level {
    quota: u32,
    window: Duration,
    remaining: u32,
    /// Until what the server means by it has come back.
    reset: Duration,
    /// Until one more unit is accepted, if none is now.
    retry: Duration,
}

impl Limiter {
    #[must_use]
    pub fn new(shape: Shape, speech: Speech, renewal: Renewal, now: Timestamp) -> Self {
        let tokens = match &shape {
            Shape::TokenBucket { burst, .. } => f64::from(*burst),
            Shape::FixedWindow { .. } | Shape::SlidingLog { .. } | Shape::LockOut { .. } => 0.0,
        };
        Self {
            shape,
            speech,
            renewal,
            log: VecDeque::new(),
            window: i64::MIN,
            used: 0,
            tokens,
            filled_at: now,
            locked_until: None,
        }
    }

    /// Returns the units per second that the server grants in the long run.
    #[must_use]
    pub fn grants(&self) -> Rate {
        self.shape.grants()
    }

    /// Rules on a request of `weight` units. Requests must come in the order of time.
    pub fn ask(&mut self, weight: u32, now: Timestamp) -> Ruling {
        self.turn(now);
        let is_accepted = self.level(now).remaining >= weight;
        if is_accepted {
            self.used = self.used.saturating_add(weight);
            self.tokens -= f64::from(weight);
            self.log.extend((0..weight).map(|_| now));
        }
        self.lock(is_accepted, now);
        Ruling { is_accepted, headers: self.headers(is_accepted, now) }
    }

    /// Brings the counters up to `now`.
    fn turn(&mut self, now: Timestamp) {
        match self.shape {
            Shape::FixedWindow { window, phase, .. } => {
                let number = (now.0 - millis(phase)).div_euclid(millis(window).max(1));
                if number != self.window {
                    self.window = number;
                    self.used = 0;
                }
                self.log.clear();
            }
            Shape::SlidingLog { window, .. } | Shape::LockOut { window, .. } => {
                while self.log.front().is_some_and(|first| now.since(*first) >= window) {
                    self.log.pop_front();
                }
            }
            Shape::TokenBucket { rate, burst } => {
                let gained = now.since(self.filled_at).as_secs_f64() * rate.get();
                self.tokens = (self.tokens + gained).min(f64::from(burst));
                self.filled_at = now;
                self.log.clear();
            }
        }
        if self.locked_until.is_some_and(|until| until <= now) {
            self.locked_until = None;
        }
    }

    fn lock(&mut self, is_accepted: bool, now: Timestamp) {
        let Shape::LockOut { lock, restart, .. } = self.shape else { return };
        match (self.locked_until, restart) {
            _ if is_accepted => {}
            (None, _) | (Some(_), Restart::ByAnyRequest) => {
                self.locked_until = Some(now.after(lock));
            }
            (Some(_), Restart::Never) => {}
        }
    }

    fn level(&self, now: Timestamp) -> Level {
        match self.shape {
            Shape::FixedWindow { quota, window, phase } => {
                let into = (now.0 - millis(phase)).rem_euclid(millis(window).max(1));
                let reset = window.saturating_sub(Timestamp(into).since(Timestamp(0)));
                let remaining = quota.saturating_sub(self.used);
                Level { quota, window, remaining, reset, retry: reset }
            }
            Shape::SlidingLog { quota, window } | Shape::LockOut { quota, window, .. } => {
                let counted = u32::try_from(self.log.len()).unwrap_or(u32::MAX);
                let left = |at: Option<&Timestamp>| at.map(|at| at.after(window).since(now));
                let retry = left(self.log.front()).unwrap_or_default();
                let all = left(self.log.back()).unwrap_or_default();
                let free = Level {
                    quota,
                    window,
                    remaining: quota.saturating_sub(counted),
                    reset: self.renewed(all, retry),
                    retry,
                };
                match self.locked_until {
                    Some(until) => {
                        let locked = until.since(now);
                        Level { remaining: 0, reset: locked, retry: locked, ..free }
                    }
                    None => free,
                }
            }
            Shape::TokenBucket { rate, burst } => {
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
                Level {
                    quota: burst,
                    window: rate.interval() * burst,
                    remaining,
                    reset: self
                        .renewed(lacking(f64::from(burst)), lacking(f64::from(remaining) + 1.0)),
                    retry: lacking(1.0),
                }
            }
        }
    }

    fn renewed(&self, all: Duration, next: Duration) -> Duration {
        match self.renewal {
            Renewal::All => all,
            Renewal::Next => next,
        }
    }

    fn headers(&self, is_accepted: bool, now: Timestamp) -> Vec<(&'static str, String)> {
        let level = self.level(now);
        // The window of a bucket is no whole number of nanoseconds.
        let seconds = |span: Duration| (span.as_secs_f64() - 1e-6).ceil();
        let mut headers = match self.speech {
            Speech::Nothing | Speech::RetryAfter => Vec::new(),
            Speech::RateLimit => vec![
                (
                    "ratelimit-policy",
                    format!("\"default\";q={};w={}", level.quota, seconds(level.window)),
                ),
                (
                    "ratelimit",
                    format!("\"default\";r={};t={}", level.remaining, seconds(level.reset)),
                ),
            ],
            Speech::RateLimitOld => vec![
                ("ratelimit-limit", format!("{0}, {0};w={1}", level.quota, seconds(level.window))),
                ("ratelimit-remaining", level.remaining.to_string()),
                ("ratelimit-reset", seconds(level.reset).to_string()),
            ],
            Speech::XRateLimit(meaning) => vec![
                ("x-ratelimit-limit", level.quota.to_string()),
                ("x-ratelimit-remaining", level.remaining.to_string()),
                ("x-ratelimit-reset", written(meaning, level.reset, now)),
            ],
        };
        let says_when = match self.speech {
            Speech::RetryAfter | Speech::RateLimit => true,
            Speech::Nothing | Speech::RateLimitOld | Speech::XRateLimit(_) => false,
        };
        if says_when && !is_accepted {
            headers.push(("retry-after", seconds(level.retry).max(1.0).to_string()));
        }
        headers
    }
}

/// Writes a reset in one of its meanings, rounded up as servers do.
fn written(meaning: ResetMeaning, reset: Duration, now: Timestamp) -> String {
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

    fn accepted(limiter: &mut Limiter, times: u32, now: i64) -> u32 {
        (0..times).map(|_| u32::from(limiter.ask(1, Timestamp(now)).is_accepted)).sum()
    }

    #[test]
    fn a_fixed_window_is_full_again_at_its_end() {
        let shape = Shape::FixedWindow { quota: 5, window: MINUTE, phase: Duration::ZERO };
        let mut limiter = Limiter::new(shape, Speech::Nothing, Renewal::All, Timestamp(59_000));

        assert_eq!(accepted(&mut limiter, 9, 59_000), 5);
        assert_eq!(accepted(&mut limiter, 9, 60_000), 5);
    }

    #[test]
    fn a_sliding_log_counts_any_span() {
        let shape = Shape::SlidingLog { quota: 5, window: MINUTE };
        let mut limiter = Limiter::new(shape, Speech::Nothing, Renewal::All, Timestamp(0));

        assert_eq!(accepted(&mut limiter, 9, 59_000), 5);
        assert_eq!(accepted(&mut limiter, 9, 118_999), 0);
        assert_eq!(accepted(&mut limiter, 9, 119_000), 5);
    }

    #[test]
    fn a_bucket_refills_steadily() {
        let shape = Shape::TokenBucket { rate: Rate::per_second(10.0), burst: 20 };
        let mut limiter = Limiter::new(shape, Speech::Nothing, Renewal::All, Timestamp(0));

        assert_eq!(accepted(&mut limiter, 30, 0), 20);
        assert_eq!(accepted(&mut limiter, 30, 500), 5);
        assert_eq!(accepted(&mut limiter, 30, 60_000), 20);
    }

    #[test]
    fn a_lock_out_ends_on_time_or_begins_anew_with_each_request() {
        for (restart, after_it) in [(Restart::Never, 5), (Restart::ByAnyRequest, 0)] {
            let shape = Shape::LockOut { quota: 5, window: MINUTE, lock: MINUTE * 5, restart };
            let mut limiter = Limiter::new(shape, Speech::Nothing, Renewal::All, Timestamp(0));

            assert_eq!(accepted(&mut limiter, 6, 0), 5);
            assert_eq!(accepted(&mut limiter, 1, 200_000), 0);
            assert_eq!(accepted(&mut limiter, 5, 300_000), after_it, "{restart:?}");
        }
    }

    #[test]
    fn a_reset_names_the_next_unit_or_all_of_them() {
        for (renewal, told) in [(Renewal::Next, "50"), (Renewal::All, "60")] {
            let shape = Shape::SlidingLog { quota: 5, window: MINUTE };
            let mut limiter = Limiter::new(shape, Speech::RateLimit, renewal, Timestamp(0));
            accepted(&mut limiter, 1, 0);

            let ruling = limiter.ask(1, Timestamp(10_000));

            let reset = ("ratelimit", format!("\"default\";r=3;t={told}"));
            assert!(ruling.headers.contains(&reset), "{renewal:?}: {ruling:?}");
        }
    }

    #[test]
    fn a_server_says_what_is_left_and_when_to_come_back() {
        let shape = Shape::FixedWindow { quota: 1, window: MINUTE, phase: Duration::ZERO };
        let mut limiter = Limiter::new(shape, Speech::RateLimit, Renewal::All, Timestamp(0));

        assert_eq!(
            limiter.ask(1, Timestamp(500)).headers,
            [
                ("ratelimit-policy", "\"default\";q=1;w=60".to_owned()),
                ("ratelimit", "\"default\";r=0;t=60".to_owned()),
            ]
        );
        assert!(
            limiter.ask(1, Timestamp(9_500)).headers.contains(&("retry-after", "51".to_owned()))
        );
    }
}
