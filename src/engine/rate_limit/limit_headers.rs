//! What the headers of one reply say about a quota.

use std::fmt;
use std::time::Duration;

use crate::engine::Timestamp;

/// A reset further away is junk, as no quota window known is longer than a month.
pub(super) const RESET_DELAY_MAX: Duration = Duration::from_secs(31 * 24 * 3600);

/// What one reply says. The default says nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RateLimitHeaders {
    /// Retry-After, counted from the reply.
    pub retry_after: Option<Duration>,
    /// Every limit the reply names.
    pub limits: Vec<AdvertisedLimit>,
    /// The reply comes from a cache: its figures are those of another moment.
    pub is_cached: bool,
}

impl RateLimitHeaders {
    /// Returns whether a limit says that nothing remains.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.limits.iter().any(|limit| limit.remaining == Some(0.0))
    }
}

/// One limit, as far as the server describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct AdvertisedLimit {
    /// What the server calls it: the policy's name, or the end of a header's name; empty if nothing.
    pub name: String,
    pub dialect: HeaderDialect,
    /// Units granted in each window.
    pub quota: Option<f64>,
    pub window: Option<Duration>,
    /// Units left now.
    pub remaining: Option<f64>,
    pub reset: Option<Reset>,
    /// What is counted (`requests` unless said), as the server writes it.
    pub unit: Option<String>,
    /// Whose quota it is, as the server writes it.
    pub partition: Option<String>,
}

/// The family of headers a limit was read from.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum HeaderDialect {
    /// `RateLimit` and `RateLimit-Policy`, structured fields.
    RateLimit,
    /// `RateLimit-Limit`, `RateLimit-Remaining`, `RateLimit-Reset`.
    RateLimitLegacy,
    /// `X-RateLimit-*`, `X-Rate-Limit-*` and vendors' own of that shape.
    XRateLimit,
    /// Names that the user gave.
    Custom,
}

impl HeaderDialect {
    pub(super) const ALL: [Self; 4] =
        [Self::RateLimit, Self::RateLimitLegacy, Self::XRateLimit, Self::Custom];
}

impl fmt::Display for HeaderDialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RateLimit => "RateLimit",
            Self::RateLimitLegacy => "RateLimit-*",
            Self::XRateLimit => "X-RateLimit-*",
            Self::Custom => "the configured headers",
        })
    }
}

/// When a limit is full again, as written and as first understood.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reset {
    /// The figure as written; a date as seconds since the epoch.
    pub value: f64,
    pub meaning: ResetMeaning,
    /// The user or the form leaves no doubt about the meaning.
    pub is_certain: bool,
    /// From the reply to the reset, if the meaning is right; zero for the past.
    pub delay: Duration,
}

impl Reset {
    /// Whether no quota can end so late: then it is not believed.
    #[must_use]
    pub fn is_too_far(&self) -> bool {
        self.delay > RESET_DELAY_MAX
    }
}

/// The five meanings a reset has in the wild.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ResetMeaning {
    DeltaSeconds,
    DeltaMillis,
    EpochSeconds,
    EpochMillis,
    Date,
}

impl fmt::Display for ResetMeaning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DeltaSeconds => "seconds from now",
            Self::DeltaMillis => "milliseconds from now",
            Self::EpochSeconds => "seconds since 1970",
            Self::EpochMillis => "milliseconds since 1970",
            Self::Date => "a date",
        })
    }
}

impl ResetMeaning {
    /// Returns the time from `said_at` to a reset written as `figure`; zero for the past.
    #[must_use]
    pub fn delay_from(self, figure: f64, said_at: Timestamp) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit in 53 bits")]
        let said_at = said_at.0 as f64 / 1000.0;
        let seconds = match self {
            Self::DeltaSeconds => figure,
            Self::DeltaMillis => figure / 1000.0,
            Self::EpochSeconds | Self::Date => figure - said_at,
            Self::EpochMillis => figure / 1000.0 - said_at,
        };
        Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
    }
}
