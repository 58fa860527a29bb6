//! Limits that a response reports, whatever its protocol.

use std::fmt;
use std::time::Duration;

use crate::Timestamp;

/// A reset further away is invalid, because no known window is longer than a month.
pub(super) const RESET_DELAY_MAX: Duration = Duration::from_secs(31 * 24 * 3600);

/// Limits that one response reports. The default means that there are none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReportedLimits {
    /// Retry-After, relative to the response.
    pub retry_after: Option<Duration>,
    /// Wait after the first of several lock-outs in a row, if the response means one whose end the
    /// server does not name.
    pub lock_out_wait: Option<Duration>,
    /// Every limit that the response names.
    pub limits: Vec<AdvertisedLimit>,
    /// True if the response comes from a cache, so that its values are out of date.
    pub is_cached: bool,
}

impl ReportedLimits {
    /// Returns true if a limit reports that nothing remains.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.limits.iter().any(|limit| limit.remaining == Some(0.0))
    }
}

/// One limit, as described by the server.
#[derive(Clone, Debug, PartialEq)]
pub struct AdvertisedLimit {
    /// Name of the policy, or the end of the header name; empty if there is none.
    pub name: String,
    pub dialect: HeaderDialect,
    /// Units granted per window.
    pub quota: Option<f64>,
    pub window: Option<Duration>,
    /// Units left now.
    pub remaining: Option<f64>,
    pub reset: Option<Reset>,
    /// Unit that is counted, as the server writes it (`requests` if absent).
    pub unit: Option<String>,
    /// Partition key: the client or account that the limit applies to, as the server writes it.
    pub partition: Option<String>,
}

/// Family of headers that a limit was read from.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum HeaderDialect {
    /// `RateLimit` and `RateLimit-Policy`, structured fields.
    RateLimit,
    /// `RateLimit-Limit`, `RateLimit-Remaining`, `RateLimit-Reset`.
    RateLimitLegacy,
    /// `X-RateLimit-*`, `X-Rate-Limit-*` and vendor-specific names of that form.
    XRateLimit,
    /// Header names configured by the user.
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

/// Time at which a limit is full again, as written and as first interpreted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reset {
    /// Value as written; a date as seconds since the epoch.
    pub value: f64,
    pub meaning: ResetMeaning,
    /// True if the configuration or the format leaves no doubt about the meaning.
    pub is_certain: bool,
    /// Time from the response to the reset, if the meaning is right; zero if it lies in the past.
    pub delay: Duration,
}

impl Reset {
    /// Returns true if the reset is further away than any known window; it is then ignored.
    #[must_use]
    pub fn is_too_far(&self) -> bool {
        self.delay > RESET_DELAY_MAX
    }
}

/// Meaning of a reset value; these five occur in practice.
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
    /// Returns the time from `server_time` to a reset written as `value`; zero if it lies in the
    /// past.
    #[must_use]
    pub fn delay_from(self, value: f64, server_time: Timestamp) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit in 53 bits")]
        let server_secs = server_time.0 as f64 / 1000.0;
        let seconds = match self {
            Self::DeltaSeconds => value,
            Self::DeltaMillis => value / 1000.0,
            Self::EpochSeconds | Self::Date => value - server_secs,
            Self::EpochMillis => value / 1000.0 - server_secs,
        };
        Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
    }
}
