//! Classification of header names by rule.

use std::time::Duration;

use crate::rate_limit::reported_limits::HeaderDialect;
use crate::rate_limit::structured::parse_count;

/// Role of one header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum HeaderRole {
    Limit,
    Remaining,
    Used,
    Reset,
    /// A reset whose name says that it is a duration.
    ResetAfter,
    /// The `RateLimit` header itself.
    RateLimit,
    /// The `RateLimit-Policy` header.
    Policy,
}

/// Classifies a header such as `x-ratelimit-remaining-minute` or
/// `anthropic-ratelimit-requests-reset`: its dialect, the name of its limit (`minute`, `requests`),
/// and its role.
pub(super) fn classify_name(name: &str) -> Option<(HeaderDialect, &str, HeaderRole)> {
    let at = name.find("rate")?;
    let (vendor, rest) = name.split_at(at);
    let rest = rest.strip_prefix("ratelimit").or_else(|| rest.strip_prefix("rate-limit"))?;
    let dialect =
        if vendor.is_empty() { HeaderDialect::RateLimitLegacy } else { HeaderDialect::XRateLimit };
    let Some(tail) = rest.strip_prefix('-') else {
        return match (rest, dialect) {
            ("", HeaderDialect::RateLimitLegacy) => {
                Some((HeaderDialect::RateLimit, "", HeaderRole::RateLimit))
            }
            ("", _) => Some((dialect, "", HeaderRole::Limit)),
            _ => None,
        };
    };
    if tail == "policy" && dialect == HeaderDialect::RateLimitLegacy {
        return Some((HeaderDialect::RateLimit, "", HeaderRole::Policy));
    }
    if tail == "reset-after" {
        return Some((dialect, "", HeaderRole::ResetAfter));
    }
    let (first, after) = tail.split_once('-').unwrap_or((tail, ""));
    let (before, last) = tail.rsplit_once('-').unwrap_or(("", tail));
    role(first)
        .map(|role| (dialect, after, role))
        .or_else(|| role(last).map(|role| (dialect, before, role)))
}

fn role(name: &str) -> Option<HeaderRole> {
    match name {
        "limit" => Some(HeaderRole::Limit),
        "remaining" => Some(HeaderRole::Remaining),
        "used" => Some(HeaderRole::Used),
        "reset" => Some(HeaderRole::Reset),
        _ => None,
    }
}

/// Returns the window that the name of a limit implies.
pub(super) fn window_from_name(name: &str) -> Option<Duration> {
    let seconds = match name {
        "second" | "sec" => 1,
        "minute" | "min" => 60,
        "hour" | "hourly" => 3600,
        "day" | "daily" => 86_400,
        "month" | "monthly" => 30 * 86_400,
        _ => return None,
    };
    Some(Duration::from_secs(seconds))
}

/// Parses a duration as some servers write it: `6m0s`, `1.5s`, `20ms`. Returns seconds.
pub(super) fn parse_duration_secs(text: &str) -> Option<f64> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let scale = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        total += parse_count(number)? * scale;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}
