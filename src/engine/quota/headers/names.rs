//! Headers' names and their words, by rule.

use std::time::Duration;

use crate::engine::quota::Family;
use crate::engine::quota::structured::count;

/// What one header says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Part {
    Limit,
    Remaining,
    Used,
    Reset,
    /// A reset that is a span by its name.
    ResetAfter,
    /// `RateLimit` itself.
    Current,
    /// `RateLimit-Policy`.
    Policy,
}

/// Takes a name apart: `x-ratelimit-remaining-minute`, `anthropic-ratelimit-requests-reset`.
pub(super) fn by_rule(name: &str) -> Option<(Family, &str, Part)> {
    let at = name.find("rate")?;
    let (vendor, rest) = name.split_at(at);
    let rest = rest.strip_prefix("ratelimit").or_else(|| rest.strip_prefix("rate-limit"))?;
    let family = if vendor.is_empty() { Family::RateLimitOld } else { Family::XRateLimit };
    let Some(tail) = rest.strip_prefix('-') else {
        return match (rest, family) {
            ("", Family::RateLimitOld) => Some((Family::RateLimit, "", Part::Current)),
            ("", _) => Some((family, "", Part::Limit)),
            _ => None,
        };
    };
    if tail == "policy" && family == Family::RateLimitOld {
        return Some((Family::RateLimit, "", Part::Policy));
    }
    if tail == "reset-after" {
        return Some((family, "", Part::ResetAfter));
    }
    let (first, after) = tail.split_once('-').unwrap_or((tail, ""));
    let (before, last) = tail.rsplit_once('-').unwrap_or(("", tail));
    part(first)
        .map(|part| (family, after, part))
        .or_else(|| part(last).map(|part| (family, before, part)))
}

fn part(word: &str) -> Option<Part> {
    match word {
        "limit" => Some(Part::Limit),
        "remaining" => Some(Part::Remaining),
        "used" => Some(Part::Used),
        "reset" => Some(Part::Reset),
        _ => None,
    }
}

/// Returns the window that a group's name gives away.
pub(super) fn span_named(name: &str) -> Option<Duration> {
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

/// Reads a span as some servers write it: `6m0s`, `1.5s`, `20ms`.
pub(super) fn duration(text: &str) -> Option<f64> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (figure, after) = rest.split_at(digits);
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
        total += count(figure)? * scale;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}
