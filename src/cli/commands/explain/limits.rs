//! Rate-limit headers of the response, as text and JSON.

use cynosure_engine::rate_limit::{AdvertisedLimit, ReportedLimits, Reset, ResetMeaning};
use cynosure_engine::{Timestamp, format_count, format_duration, sanitize_line};
use serde::Serialize;

use super::format_timestamp;
use super::input::ExplainInput;

/// End of the year 9999, in Unix milliseconds. A later reset has no date.
const LAST_TIMESTAMP_MS: i64 = 253_402_300_799_999;

/// Rate limit in the JSON output.
#[derive(Serialize)]
pub(super) struct LimitJson<'a> {
    #[serde(rename = "family")]
    dialect: String,
    /// Empty if there is none.
    name: &'a str,
    /// Units granted per window.
    quota: Option<f64>,
    window_seconds: Option<f64>,
    /// Units left now.
    remaining: Option<f64>,
    /// Unit that is counted, as the server writes it; requests if null.
    unit: Option<&'a str>,
    /// Client or account that the limit applies to, as the server writes it.
    partition: Option<&'a str>,
    reset: Option<ResetJson>,
}

/// Time at which a limit is full again.
#[derive(Serialize)]
struct ResetJson {
    /// Value as written; a date as seconds since the epoch.
    #[serde(rename = "figure")]
    value: f64,
    meaning: String,
    /// True if the configuration or the format leaves no doubt about the meaning.
    is_certain: bool,
    /// Null if it is not a valid date.
    at: Option<Timestamp>,
}

/// Describes each limit in one to three lines.
pub(super) fn limit_lines(
    input: &ExplainInput,
    limit_headers: &ReportedLimits,
    now: Timestamp,
) -> Vec<String> {
    let mut lines = Vec::new();
    let retry_after = input.headers.iter().find(|(name, _)| name == "retry-after");
    match (limit_headers.retry_after, retry_after) {
        (Some(delay), _) => lines.push(format!("Retry-After: {}", format_duration(delay))),
        (None, Some((_, value))) => {
            lines.push(format!(
                "Retry-After: \"{}\" is not a valid delay and is ignored",
                sanitize_line(value)
            ));
        }
        (None, None) => {}
    }
    for limit in &limit_headers.limits {
        lines.push(limit_text(limit));
        lines.extend(limit.reset.map(|reset| reset_text(&reset, input.at, now)));
        if limit.reset.is_some_and(|reset| reset.is_too_far()) {
            lines.push("no known window is that long: the reset is ignored".to_owned());
        }
    }
    if limit_headers.is_cached {
        lines.push("the response comes from a cache: its values are ignored".to_owned());
    }
    lines
}

fn limit_text(limit: &AdvertisedLimit) -> String {
    let unit = |number: f64| match (&limit.unit, format_number(number).as_str()) {
        (Some(unit), _) => sanitize_line(unit),
        (None, "1") => "request".to_owned(),
        (None, _) => "requests".to_owned(),
    };
    let mut line = limit.dialect.to_string();
    if !limit.name.is_empty() {
        line.push_str(&format!(" \"{}\"", sanitize_line(&limit.name)));
    }
    match (limit.remaining, limit.quota) {
        (Some(remaining), Some(quota)) => {
            let (remaining, total) = (format_number(remaining), format_number(quota));
            line.push_str(&format!(": {remaining} of {total} {} left", unit(quota)));
        }
        (Some(remaining), None) => {
            line.push_str(&format!(": {} {} left", format_number(remaining), unit(remaining)));
        }
        (None, Some(quota)) => {
            line.push_str(&format!(": {} {} allowed", format_number(quota), unit(quota)));
        }
        (None, None) => line.push_str(": no readable count"),
    }
    if let Some(window) = limit.window {
        line.push_str(&format!(" in each {}", format_duration(window)));
    }
    if let Some(partition) = &limit.partition {
        line.push_str(&format!(", for \"{}\"", sanitize_line(partition)));
    }
    line
}

/// Formats a number; whole ones with thousands separators.
fn format_number(number: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range is checked"
    )]
    if number.fract() == 0.0 && (0.0..1e15).contains(&number) {
        format_count(number as u64)
    } else {
        number.to_string()
    }
}

fn reset_text(reset: &Reset, at: Timestamp, now: Timestamp) -> String {
    let certainty = if reset.is_certain { "" } else { ", guessed from its size" };
    let text = format!("reset {}, read as {}{certainty}", reset.value, reset.meaning);
    match reset_time(reset, at) {
        None => format!("{text}: not a valid date"),
        Some(reset_at) if reset_at <= now => {
            format!("{text}: {}, in the past", format_timestamp(reset_at))
        }
        Some(reset_at) => {
            format!(
                "{text}: {} (in {})",
                format_timestamp(reset_at),
                format_duration(reset_at.since(now))
            )
        }
    }
}

/// Returns the time of a reset. `None` if it has no date.
fn reset_time(reset: &Reset, at: Timestamp) -> Option<Timestamp> {
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates, beyond the last date")]
    let reset_at = match reset.meaning {
        ResetMeaning::DeltaSeconds | ResetMeaning::DeltaMillis => at.after(reset.delay),
        ResetMeaning::EpochSeconds | ResetMeaning::Date => Timestamp((reset.value * 1000.0) as i64),
        ResetMeaning::EpochMillis => Timestamp(reset.value as i64),
    };
    (-LAST_TIMESTAMP_MS..=LAST_TIMESTAMP_MS).contains(&reset_at.0).then_some(reset_at)
}

pub(super) fn limit_json(limit: &AdvertisedLimit, at: Timestamp) -> LimitJson<'_> {
    LimitJson {
        dialect: limit.dialect.to_string(),
        name: &limit.name,
        quota: limit.quota,
        window_seconds: limit.window.map(|window| window.as_secs_f64()),
        remaining: limit.remaining,
        unit: limit.unit.as_deref(),
        partition: limit.partition.as_deref(),
        reset: limit.reset.map(|reset| ResetJson {
            value: reset.value,
            meaning: reset.meaning.to_string(),
            is_certain: reset.is_certain,
            at: reset_time(&reset, at),
        }),
    }
}
