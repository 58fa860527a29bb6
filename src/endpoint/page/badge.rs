//! Marks: what a colour means is always also a sign and a word.

use maud::{Markup, html};

use crate::engine::Timestamp;
use crate::engine::alert::Severity;
use crate::engine::breaker::BreakerState;
use crate::engine::degradation::DegradationLevel;
use crate::engine::watch::HealthLevel;
use crate::human::{EMPTY_CELL, format_clock_time, format_date_time, format_duration, format_utc};

/// A level as a badge.
pub(super) fn level_badge(level: HealthLevel) -> Markup {
    let (class, sign) = match level {
        HealthLevel::Healthy => ("good", "✓"),
        HealthLevel::Warning => ("fair", "!"),
        HealthLevel::Unknown => ("dim", "?"),
        HealthLevel::Critical => ("bad", "✕"),
    };
    badge(class, sign, &level.name().to_lowercase())
}

/// A severity as a badge.
pub(super) fn severity_badge(severity: Severity) -> Markup {
    let (class, sign) = match severity {
        Severity::Info => ("info", "i"),
        Severity::Warning => ("fair", "!"),
        Severity::Critical => ("bad", "✕"),
    };
    badge(class, sign, severity.name())
}

pub(super) fn badge(class: &str, sign: &str, word: &str) -> Markup {
    html! { span class={ "badge " (class) } { span aria-hidden="true" { (sign) } " " (word) } }
}

/// What to do; what stands between backquotes is to be typed.
pub(super) fn advice_text(text: &str) -> Markup {
    html! {
        span .advice {
            @for (at, part) in text.split('`').enumerate() {
                @if at % 2 == 1 { code { (part) } } @else { (part) }
            }
        }
    }
}

/// The class and the sign of a band of degradation.
pub(super) fn band_style(band: DegradationLevel) -> (&'static str, &'static str) {
    match band {
        DegradationLevel::Healthy => ("band-healthy", "·"),
        DegradationLevel::Minor => ("band-minor", "◔"),
        DegradationLevel::Moderate => ("band-moderate", "◑"),
        DegradationLevel::Severe => ("band-severe", "●"),
    }
}

/// A breaker as a switch that is closed, ajar or open, and its word.
pub(super) fn breaker_badge(phase: Option<BreakerState>) -> Markup {
    let (class, blade, word) = match phase {
        Some(BreakerState::Closed) => ("closed", "M8 12 L24 12", "breaker closed"),
        Some(BreakerState::HalfOpen) => ("half", "M8 12 L23 7", "breaker half-open"),
        Some(BreakerState::Open) => ("open", "M8 12 L21 2", "breaker open"),
        None => ("none", "M8 12 L24 12", "no breaker yet"),
    };
    html! {
        span class={ "breaker " (class) } {
            svg viewBox="0 0 32 16" width="32" height="16" aria-hidden="true" focusable="false" {
                path d="M0 12 L8 12 M24 12 L32 12" {}
                path d=(blade) {}
                circle cx="8" cy="12" r="2" {}
                circle cx="24" cy="12" r="2" {}
            }
            " " (word)
        }
    }
}

/// A time on the clock of the machine, exact where a program or a pointer asks.
pub(super) fn time_element(at: Timestamp, now: Timestamp) -> Markup {
    html! { time datetime=(format_utc(at)) title=(format_date_time(at)) { (format_clock_time(at, now)) } }
}

pub(super) fn optional_time(at: Option<Timestamp>, now: Timestamp) -> Markup {
    match at {
        Some(at) => time_element(at, now),
        None => html! { (EMPTY_CELL) },
    }
}

/// `12 s ago`, to the second only where it is that near.
pub(super) fn format_ago(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.since(at).as_secs();
    let seconds = if seconds < 60 { seconds } else { seconds / 60 * 60 };
    format!("{} ago", format_duration(std::time::Duration::from_secs(seconds)))
}

/// `rate limited` of `rate_limited`.
pub(super) fn humanize(word: &str) -> String {
    word.replace('_', " ")
}
