//! Parser of the rate-limit headers of a response.
//!
//! `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers), its older form of
//! three headers, and everything of the form `X-RateLimit-*`, by rule rather than by a list of
//! names.

mod names;
mod redact;
#[cfg(test)]
mod tests;

use std::time::Duration;

use chrono::DateTime;

use crate::rate_limit::reported_limits::{
    AdvertisedLimit, HeaderDialect, ReportedLimits, Reset, ResetMeaning,
};
use crate::rate_limit::structured::{item_value, parameter, parse_count, split};
use crate::{Timestamp, retry_after};

use self::names::{HeaderRole, classify_name, parse_duration_secs, window_from_name};

pub use self::redact::redact_headers;

/// Minimum value of a time in seconds since the epoch (1973 and later); smaller values are
/// durations.
const EPOCH_SECONDS_MIN: f64 = 1e8;

/// Minimum value of a time in milliseconds since the epoch.
const EPOCH_MILLIS_MIN: f64 = 1e11;

/// Maximum duration in seconds if no window is known. A larger value more likely means ten seconds
/// in milliseconds than three hours.
const DELTA_SECONDS_MAX: f64 = 10_000.0;

/// Maximum number of limits read from one response.
const LIMITS_MAX: usize = 16;

/// Header names that the user configures for a server with names of its own, and the meaning of its
/// reset.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeaderNames {
    /// Lower-case, like the two below. If any of the three is set, the known header dialects are
    /// not read.
    pub limit: Option<String>,
    pub remaining: Option<String>,
    pub reset: Option<String>,
    /// Meaning of a reset in any dialect.
    pub reset_meaning: Option<ResetMeaning>,
}

/// Parses `headers`. Names are lower-case; malformed values are ignored.
#[must_use]
pub fn parse_headers(
    headers: &[(&str, &str)],
    names: &HeaderNames,
    now: Timestamp,
) -> ReportedLimits {
    let mut reader = HeaderReader { headers, names, now, limits: Vec::new() };
    let mut parsed = ReportedLimits::default();
    for &(name, text) in headers {
        match name {
            "retry-after" => parsed.retry_after = retry_after::parse(text, reader.server_time()),
            "age" => parsed.is_cached |= parse_count(text).is_some_and(|age| age > 0.0),
            _ => {
                if let Some((dialect, limit_name, role)) = reader.classify(name) {
                    reader.read_header(dialect, limit_name, role, text);
                }
            }
        }
    }
    parsed.limits = reader.limits;
    parsed
}

struct HeaderReader<'a> {
    headers: &'a [(&'a str, &'a str)],
    names: &'a HeaderNames,
    now: Timestamp,
    limits: Vec<AdvertisedLimit>,
}

impl<'a> HeaderReader<'a> {
    fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.iter().find(|header| header.0 == name).map(|header| header.1)
    }

    /// Returns the dialect of a header, the name of its limit, and its role.
    fn classify<'n>(&self, name: &'n str) -> Option<(HeaderDialect, &'n str, HeaderRole)> {
        let HeaderNames { limit, remaining, reset, .. } = self.names;
        if limit.is_none() && remaining.is_none() && reset.is_none() {
            return classify_name(name);
        }
        [(limit, HeaderRole::Limit), (remaining, HeaderRole::Remaining), (reset, HeaderRole::Reset)]
            .into_iter()
            .find(|(configured, _)| configured.as_deref() == Some(name))
            .map(|(_, role)| (HeaderDialect::Custom, "", role))
    }

    fn read_header(
        &mut self,
        dialect: HeaderDialect,
        limit_name: &str,
        role: HeaderRole,
        text: &str,
    ) {
        match role {
            HeaderRole::RateLimit => self.read_rate_limit(text),
            HeaderRole::Policy => self.read_policies(text),
            HeaderRole::Limit => self.read_limits(dialect, limit_name, text),
            HeaderRole::Remaining => {
                let remaining = parse_count(item_value(text));
                if let Some(limit) = remaining.and_then(|_| self.limit_entry(dialect, limit_name)) {
                    limit.remaining = remaining;
                }
            }
            HeaderRole::Used => self.read_used(dialect, limit_name, text),
            HeaderRole::Reset | HeaderRole::ResetAfter => {
                let window = self.limit_entry(dialect, limit_name).and_then(|limit| limit.window);
                let reset = self.parse_reset(dialect, role, text, window);
                if let Some(limit) = self.limit_entry(dialect, limit_name) {
                    limit.reset = reset;
                }
            }
        }
    }

    /// Reads `"default";r=50;t=30, "daily";r=9000`; older: `limit=100, remaining=50, reset=30`.
    fn read_rate_limit(&mut self, text: &str) {
        for item in split(text, b',') {
            if let Some((key, value)) = item.split_once('=').filter(|(key, _)| !key.contains(';')) {
                let role = match key.trim() {
                    "limit" => HeaderRole::Limit,
                    "remaining" => HeaderRole::Remaining,
                    "reset" => HeaderRole::ResetAfter,
                    _ => continue,
                };
                self.read_header(HeaderDialect::RateLimit, "", role, value);
                continue;
            }
            let remaining = parameter(item, "r").and_then(parse_count);
            let reset = parameter(item, "t").and_then(parse_count).map(|t| self.delta_reset(t));
            let partition = parameter(item, "pk").map(str::to_owned);
            if let Some(limit) = self.limit_entry(HeaderDialect::RateLimit, item_value(item)) {
                limit.remaining = remaining.or(limit.remaining);
                limit.reset = reset.or(limit.reset);
                limit.partition = partition.or_else(|| limit.partition.take());
            }
        }
    }

    /// Reads `"default";q=100;w=60;qu="requests";pk=:dXNlcg==:`; older: `100;w=60`.
    fn read_policies(&mut self, text: &str) {
        for item in split(text, b',') {
            let item_count = parse_count(item_value(item));
            let quota = parameter(item, "q").and_then(parse_count).or(item_count);
            let name = if item_count.is_some() { "" } else { item_value(item) };
            let window = parameter(item, "w").and_then(parse_count).and_then(duration_from_secs);
            let unit = parameter(item, "qu").map(str::to_owned);
            let partition = parameter(item, "pk").map(str::to_owned);
            if let Some(limit) = self.limit_entry(HeaderDialect::RateLimit, name) {
                limit.quota = quota.or(limit.quota);
                limit.window = window.or(limit.window);
                limit.unit = unit;
                limit.partition = partition;
            }
        }
    }

    /// Reads `100`, or with the policies it comes from: `100, 100;w=60, 5000;w=3600`.
    fn read_limits(&mut self, dialect: HeaderDialect, limit_name: &str, text: &str) {
        let mut first_quota = None;
        for item in split(text, b',') {
            let Some(quota) = parse_count(item_value(item)) else { continue };
            let window = parameter(item, "w").and_then(parse_count).and_then(duration_from_secs);
            let first = *first_quota.get_or_insert(quota);
            #[expect(clippy::float_cmp, reason = "the same number, written twice")]
            let is_first = first == quota;
            let name = if is_first { limit_name } else { item };
            if let Some(limit) = self.limit_entry(dialect, name) {
                limit.quota = Some(quota);
                limit.window = window.or(limit.window);
            }
        }
    }

    /// Derives the remaining units from the used ones, unless the former are given too.
    fn read_used(&mut self, dialect: HeaderDialect, limit_name: &str, text: &str) {
        let Some(used) = parse_count(item_value(text)) else { return };
        let total = self.headers.iter().find_map(|(name, text)| {
            (classify_name(name)? == (dialect, limit_name, HeaderRole::Limit))
                .then(|| parse_count(item_value(text)))?
        });
        if let (Some(total), Some(limit)) = (total, self.limit_entry(dialect, limit_name)) {
            let remaining = (total - used).max(0.0);
            limit.remaining = limit.remaining.or(Some(remaining));
        }
    }

    /// Returns the limit of this name, creating it if needed, or `None` if there are too many.
    fn limit_entry(&mut self, dialect: HeaderDialect, name: &str) -> Option<&mut AdvertisedLimit> {
        let is_match = |limit: &AdvertisedLimit| limit.dialect == dialect && limit.name == name;
        if let Some(at) = self.limits.iter().position(is_match) {
            return self.limits.get_mut(at);
        }
        if self.limits.len() == LIMITS_MAX {
            return None;
        }
        let window = window_from_name(name);
        self.limits.push(AdvertisedLimit {
            name: name.to_owned(),
            dialect,
            quota: None,
            window,
            remaining: None,
            reset: None,
            unit: (window.is_none() && dialect == HeaderDialect::XRateLimit && !name.is_empty())
                .then(|| name.to_owned()),
            partition: None,
        });
        self.limits.last_mut()
    }

    fn parse_reset(
        &self,
        dialect: HeaderDialect,
        role: HeaderRole,
        text: &str,
        window: Option<Duration>,
    ) -> Option<Reset> {
        let text = text.trim();
        let Some(value) = parse_count(text) else {
            return parse_duration_secs(text)
                .map(|secs| self.delta_reset(secs))
                .or_else(|| self.date_reset(text));
        };
        let given = match role {
            HeaderRole::ResetAfter => Some(ResetMeaning::DeltaSeconds),
            HeaderRole::Limit
            | HeaderRole::Remaining
            | HeaderRole::Used
            | HeaderRole::Reset
            | HeaderRole::RateLimit
            | HeaderRole::Policy => self.names.reset_meaning,
        };
        let meaning = given.unwrap_or_else(|| guess_meaning(value, dialect, window));
        let is_certain = given.is_some()
            || value >= EPOCH_SECONDS_MIN
            || dialect == HeaderDialect::RateLimit
            || dialect == HeaderDialect::RateLimitLegacy;
        let delay = meaning.delay_from(value, self.server_time());
        Some(Reset { value, meaning, is_certain, delay })
    }

    fn delta_reset(&self, seconds: f64) -> Reset {
        let meaning = ResetMeaning::DeltaSeconds;
        Reset {
            value: seconds,
            meaning,
            is_certain: true,
            delay: meaning.delay_from(seconds, self.now),
        }
    }

    fn date_reset(&self, text: &str) -> Option<Reset> {
        let date = DateTime::parse_from_rfc2822(text)
            .or_else(|_| DateTime::parse_from_rfc3339(text))
            .ok()?;
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 fit in 53 bits")]
        let value = date.timestamp_millis() as f64 / 1000.0;
        let meaning = ResetMeaning::Date;
        Some(Reset {
            value,
            meaning,
            is_certain: true,
            delay: meaning.delay_from(value, self.server_time()),
        })
    }

    /// Returns the server's time of the response, because our clock may be wrong.
    fn server_time(&self) -> Timestamp {
        self.header("date")
            .and_then(|date| DateTime::parse_from_rfc2822(date.trim()).ok())
            .map_or(self.now, |date| Timestamp(date.timestamp_millis()))
    }
}

fn guess_meaning(value: f64, dialect: HeaderDialect, window: Option<Duration>) -> ResetMeaning {
    let delta_max = match dialect {
        HeaderDialect::RateLimit | HeaderDialect::RateLimitLegacy => EPOCH_SECONDS_MIN,
        HeaderDialect::XRateLimit | HeaderDialect::Custom => {
            window.map_or(DELTA_SECONDS_MAX, |window| window.as_secs_f64() * 1.5)
        }
    };
    if value >= EPOCH_MILLIS_MIN {
        ResetMeaning::EpochMillis
    } else if value >= EPOCH_SECONDS_MIN {
        ResetMeaning::EpochSeconds
    } else if value <= delta_max {
        ResetMeaning::DeltaSeconds
    } else {
        ResetMeaning::DeltaMillis
    }
}

fn duration_from_secs(secs: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(secs).ok().filter(|duration| !duration.is_zero())
}
