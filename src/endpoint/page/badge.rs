//! Badges and other small elements. Every colour is accompanied by a symbol and a label.

use cynosure_engine::alert::Severity;
use cynosure_engine::breaker::BreakerState;
use cynosure_engine::health::HealthLevel;
use cynosure_engine::health::degradation::DegradationLevel;
use cynosure_engine::{Timestamp, format_duration};
use maud::{Markup, html};

use crate::human::{EMPTY_CELL, format_clock_time, format_date_time};

/// Badge of a health level.
pub(super) fn level_badge(level: HealthLevel) -> Markup {
    let (class, symbol) = match level {
        HealthLevel::Skipped => ("dim", "–"),
        HealthLevel::Healthy => ("good", "✓"),
        HealthLevel::Warning => ("fair", "!"),
        HealthLevel::Unknown => ("dim", "?"),
        HealthLevel::Critical => ("bad", "✕"),
    };
    badge(class, symbol, &level.name().to_lowercase())
}

/// Badge of a severity.
pub(super) fn severity_badge(severity: Severity) -> Markup {
    let (class, symbol) = match severity {
        Severity::Info => ("info", "i"),
        Severity::Warning => ("fair", "!"),
        Severity::Critical => ("bad", "✕"),
    };
    badge(class, symbol, severity.name())
}

pub(super) fn badge(class: &str, symbol: &str, label: &str) -> Markup {
    html! { span class={ "badge " (class) } { span aria-hidden="true" { (symbol) } " " (label) } }
}

/// Advice; text between backquotes is shown as code.
pub(super) fn advice_text(text: &str) -> Markup {
    html! {
        span .advice { (text_with_code(text)) }
    }
}

/// Text; what is between backquotes is shown as code.
pub(super) fn text_with_code(text: &str) -> Markup {
    html! {
        @for (index, part) in text.split('`').enumerate() {
            @if index % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

/// CSS class and symbol of a degradation level.
pub(super) fn level_style(level: DegradationLevel) -> (&'static str, &'static str) {
    match level {
        DegradationLevel::Healthy => ("level-healthy", "·"),
        DegradationLevel::Minor => ("level-minor", "◔"),
        DegradationLevel::Moderate => ("level-moderate", "◑"),
        DegradationLevel::Severe => ("level-severe", "●"),
    }
}

/// State of a circuit breaker, drawn as a switch that is closed, half-open or open, with a label.
pub(super) fn breaker_badge(state: Option<BreakerState>) -> Markup {
    let (class, lever, label) = match state {
        Some(BreakerState::Closed) => ("closed", "M8 12 L24 12", "breaker closed"),
        Some(BreakerState::HalfOpen) => ("half", "M8 12 L23 7", "breaker half-open"),
        Some(BreakerState::Open) => ("open", "M8 12 L21 2", "breaker open"),
        None => ("none", "M8 12 L24 12", "no breaker yet"),
    };
    html! {
        span class={ "breaker " (class) } {
            svg viewBox="0 0 32 16" width="32" height="16" aria-hidden="true" focusable="false" {
                path d="M0 12 L8 12 M24 12 L32 12" {}
                path d=(lever) {}
                circle cx="8" cy="12" r="2" {}
                circle cx="24" cy="12" r="2" {}
            }
            " " (label)
        }
    }
}

/// Local time of the machine. Attribute and tooltip hold the exact time.
pub(super) fn time_element(at: Timestamp, now: Timestamp) -> Markup {
    html! { time datetime=(at) title=(format_date_time(at)) { (format_clock_time(at, now)) } }
}

/// Local time of the machine, to the minute. Attribute and tooltip hold the exact time.
pub(super) fn minute_element(at: Timestamp, now: Timestamp) -> Markup {
    let mut text = format_clock_time(at, now);
    // A time of today has seconds; the text of another day has a date and no seconds.
    if text.matches(':').count() == 2 {
        text.truncate(text.len() - ":00".len());
    }
    html! { time datetime=(at) title=(format_date_time(at)) { (text) } }
}

pub(super) fn optional_time(at: Option<Timestamp>, now: Timestamp) -> Markup {
    match at {
        Some(at) => time_element(at, now),
        None => html! { (EMPTY_CELL) },
    }
}

/// Formats a past time as `12 s ago`, in whole minutes from one minute on.
pub(super) fn format_ago(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.since(at).as_secs();
    let seconds = if seconds < 60 { seconds } else { seconds / 60 * 60 };
    format!("{} ago", format_duration(std::time::Duration::from_secs(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_element_has_no_seconds() {
        let now = Timestamp(1_700_000_000_000);
        let text_of = |at| {
            let html = minute_element(at, now).into_string();
            html.split(['<', '>']).nth(2).unwrap_or_default().to_owned()
        };

        assert_eq!(text_of(now).len(), "08:10".len());
        let other_day = now.before(std::time::Duration::from_secs(3 * 86_400));
        assert_eq!(text_of(other_day).len(), "2023-11-11 08:10".len());
    }

    #[test]
    fn text_between_backquotes_is_code() {
        let html = text_with_code("run `cynosure failures <work>` now").into_string();

        assert_eq!(html, "run <code>cynosure failures &lt;work&gt;</code> now");
    }
}
