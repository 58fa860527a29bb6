//! What was understood of the headers about limits.

use serde_json::{Value, json};

use super::format_timestamp;
use super::input::ExplainInput;
use crate::engine::rate_limit::{AdvertisedLimit, RateLimitHeaders, Reset, ResetMeaning};
use crate::engine::{Timestamp, sanitize_line};
use crate::human::{format_count, format_duration, format_utc};

/// A moment this far from any real one is written as a figure only: the calendar ends.
const LAST_TIMESTAMP_MS: i64 = 253_402_300_799_999;

/// Says what the limits are, a line or two for each.
pub(super) fn limit_lines(
    asked: &ExplainInput,
    signals: &RateLimitHeaders,
    now: Timestamp,
) -> Vec<String> {
    let mut lines = Vec::new();
    let retry_after = asked.headers.iter().find(|(name, _)| name == "retry-after");
    match (signals.retry_after, retry_after) {
        (Some(told), _) => lines.push(format!("Retry-After: {}", format_duration(told))),
        (None, Some((_, value))) => {
            lines.push(format!(
                "Retry-After: \"{}\" is no time to wait, and counts for nothing",
                sanitize_line(value)
            ));
        }
        (None, None) => {}
    }
    for limit in &signals.limits {
        lines.push(limit_text(limit));
        lines.extend(limit.reset.map(|reset| reset_text(&reset, asked.at, now)));
        if limit.reset.is_some_and(|reset| reset.is_too_far()) {
            lines.push("no quota lasts that long: the reset counts for nothing".to_owned());
        }
    }
    if signals.is_cached {
        lines.push("the reply comes from a cache: its figures are not counted".to_owned());
    }
    lines
}

fn limit_text(limit: &AdvertisedLimit) -> String {
    let units = |figure: f64| match (&limit.unit, format_number(figure).as_str()) {
        (Some(unit), _) => sanitize_line(unit),
        (None, "1") => "request".to_owned(),
        (None, _) => "requests".to_owned(),
    };
    let mut line = limit.dialect.to_string();
    if !limit.name.is_empty() {
        line.push_str(&format!(" \"{}\"", sanitize_line(&limit.name)));
    }
    match (limit.remaining, limit.quota) {
        (Some(left), Some(quota)) => {
            let (left, all) = (format_number(left), format_number(quota));
            line.push_str(&format!(": {left} of {all} {} left", units(quota)));
        }
        (Some(left), None) => {
            line.push_str(&format!(": {} {} left", format_number(left), units(left)))
        }
        (None, Some(quota)) => {
            line.push_str(&format!(": {} {} allowed", format_number(quota), units(quota)));
        }
        (None, None) => line.push_str(": no count that can be read"),
    }
    if let Some(window) = limit.window {
        line.push_str(&format!(" in each {}", format_duration(window)));
    }
    if let Some(partition) = &limit.partition {
        line.push_str(&format!(", for \"{}\"", sanitize_line(partition)));
    }
    line
}

/// A figure as a server writes it, whole ones grouped by thousands.
fn format_number(figure: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is checked")]
    if figure.fract() == 0.0 && (0.0..1e15).contains(&figure) {
        format_count(figure as u64)
    } else {
        figure.to_string()
    }
}

fn reset_text(reset: &Reset, at: Timestamp, now: Timestamp) -> String {
    let certainty = if reset.is_certain { "" } else { ", by its size" };
    let read = format!("reset {}, read as {}{certainty}", reset.value, reset.meaning);
    match reset_time(reset, at) {
        None => format!("{read}: a moment that no calendar has"),
        Some(resets) if resets <= now => {
            format!("{read}: {}, which is past", format_timestamp(resets))
        }
        Some(resets) => {
            format!(
                "{read}: {} (in {})",
                format_timestamp(resets),
                format_duration(resets.since(now))
            )
        }
    }
}

/// The moment of a reset, as the server meant it.
fn reset_time(reset: &Reset, at: Timestamp) -> Option<Timestamp> {
    #[expect(clippy::cast_possible_truncation, reason = "what does not fit is out of the calendar")]
    let moment = match reset.meaning {
        ResetMeaning::DeltaSeconds | ResetMeaning::DeltaMillis => at.after(reset.delay),
        ResetMeaning::EpochSeconds | ResetMeaning::Date => Timestamp((reset.value * 1000.0) as i64),
        ResetMeaning::EpochMillis => Timestamp(reset.value as i64),
    };
    (-LAST_TIMESTAMP_MS..=LAST_TIMESTAMP_MS).contains(&moment.0).then_some(moment)
}

pub(super) fn limit_json(limit: &AdvertisedLimit, at: Timestamp) -> Value {
    json!({
        "family": limit.dialect.to_string(),
        "name": limit.name,
        "quota": limit.quota,
        "window_seconds": limit.window.map(|window| window.as_secs_f64()),
        "remaining": limit.remaining,
        "unit": limit.unit,
        "partition": limit.partition,
        "reset": limit.reset.map(|reset| json!({
            "figure": reset.value,
            "meaning": reset.meaning.to_string(),
            "is_certain": reset.is_certain,
            "at": reset_time(&reset, at).map(format_utc),
        })),
    })
}
