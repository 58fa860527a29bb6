//! Providers: current degradation, and the degradation over the last day.

use std::time::Duration;

use cynosure_engine::health::degradation::{DegradationHistory, DegradationLevel, SLOT_DURATION};
use cynosure_engine::{Timestamp, format_duration};
use maud::{Markup, html};

use super::badge;
use crate::endpoint::view::{ProviderView, Snapshot};
use crate::human::format_clock_time;

/// Columns of the heat map.
const HEAT_MAP_HOURS: u32 = 24;

const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn provider_grid(snapshot: &Snapshot) -> Markup {
    html! {
        section #providers aria-labelledby="providers-title" {
            h2 #providers-title { "Providers" }
            @if snapshot.providers.is_empty() { p .note { "No provider has data yet." } }
            ul .tiles { @for provider in &snapshot.providers { (provider_tile(provider)) } }
        }
    }
}

fn provider_tile(provider: &ProviderView) -> Markup {
    let health = &provider.health;
    let (class, symbol) = badge::level_style(health.level);
    html! {
        li class={ "tile " (class) } {
            p .tile-head {
                strong { (health.provider) }
                span .score {
                    span aria-hidden="true" { (symbol) } " " (health.level.name()) " " (format!("{:.2}", health.score))
                }
            }
            p { (health.status) }
            p { (badge::breaker_badge(health.breaker)) }
            @if let Some(note) = &provider.breaker_note { p { (note) } }
            p .tile-metrics {
                @if let Some(p95) = health.p95_latency { span { "p95 latency " (format_duration(p95)) } }
                @if let Some(rate) = health.success_rate { span { "success rate " (format!("{:.0} %", rate * 100.0)) } }
            }
        }
    }
}

pub(super) fn heat_map(snapshot: &Snapshot) -> Markup {
    let hours = hour_starts(snapshot.at);
    html! {
        section #heat aria-labelledby="heat-title" {
            h2 #heat-title { "Degradation over 24 hours" }
            @if let Some(reason) = &snapshot.degradation_error {
                p .note { "The last day is missing: " (reason) }
            } @else if snapshot.degradation.scores.is_empty() {
                p .note { "No data for the last day yet." }
            } @else {
                div .scroll tabindex="0" role="region" aria-labelledby="heat-title" {
                    table .heat {
                        caption .visually-hidden { "Worst score of each provider per hour, newest hour last" }
                        thead {
                            tr {
                                th scope="col" { span .visually-hidden { "Provider" } }
                                @for (index, hour) in hours.iter().enumerate() {
                                    th scope="col" { span .hour .hidden[index % 6 != 5] { (format_hour(*hour, snapshot.at)) } }
                                }
                            }
                        }
                        tbody {
                            @for (name, scores) in &snapshot.degradation.scores {
                                tr {
                                    th scope="row" { (name) }
                                    @for hour in &hours {
                                        (heat_cell(worst_score(&snapshot.degradation, scores, *hour), *hour, snapshot.at))
                                    }
                                }
                            }
                        }
                    }
                }
                (legend())
            }
        }
    }
}

fn heat_cell(score: Option<f64>, hour_start: Timestamp, now: Timestamp) -> Markup {
    let hour = format_hour(hour_start, now);
    html! {
        @match score {
            None => td .level-none title={ "from " (hour) ": no data" } { span .visually-hidden { "no data" } },
            Some(score) => {
                @let level = DegradationLevel::from_score(score);
                @let (class, symbol) = badge::level_style(level);
                @let text = format!("{score:.2}, {}", level.name());
                td class=(class) title={ "from " (hour) ": " (text) } {
                    span aria-hidden="true" { (symbol) }
                    span .visually-hidden { (text) }
                }
            },
        }
    }
}

fn legend() -> Markup {
    html! {
        ul .legend aria-label="Legend" {
            @for level in DegradationLevel::ALL {
                @let (class, symbol) = badge::level_style(level);
                li { span class={ "swatch " (class) } aria-hidden="true" { (symbol) } " " (level.name()) }
            }
            li { span .swatch .level-none aria-hidden="true" { } " no data" }
        }
    }
}

/// Returns the starts of the last 24 hours, oldest first. The last hour is the current one.
fn hour_starts(now: Timestamp) -> Vec<Timestamp> {
    let hour_ms = i64::try_from(HOUR.as_millis()).unwrap_or(i64::MAX);
    let current = Timestamp(now.0.div_euclid(hour_ms) * hour_ms);
    (0..HEAT_MAP_HOURS).rev().map(|hours_ago| current.before(HOUR * hours_ago)).collect()
}

/// Returns the worst score of the hour that begins at `hour_start`.
fn worst_score(
    history: &DegradationHistory,
    scores: &[Option<f64>],
    hour_start: Timestamp,
) -> Option<f64> {
    let slot_ms = i64::try_from(SLOT_DURATION.as_millis()).unwrap_or(i64::MAX);
    let scores_of_hour = scores.iter().enumerate().filter(|(index, _)| {
        let index = i64::try_from(*index).unwrap_or(i64::MAX);
        let starts_at =
            Timestamp(history.starts_at.0.saturating_add(index.saturating_mul(slot_ms)));
        hour_start <= starts_at && starts_at < hour_start.after(HOUR)
    });
    scores_of_hour.filter_map(|(_, score)| *score).reduce(f64::max)
}

/// Formats an hour as `14:00`, without the date: it is one of the last 24.
fn format_hour(at: Timestamp, now: Timestamp) -> String {
    let text = format_clock_time(at, now);
    let time = text.rsplit(' ').next().unwrap_or_default();
    time.chars().take("00:00".len()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half past an hour.
    const NOW: Timestamp = Timestamp(1_700_001_000_000);

    #[test]
    fn an_hour_shows_its_worst_score() {
        let hours = hour_starts(NOW);
        assert_eq!(hours.len(), 24);
        assert!(hours[23] <= NOW && NOW < hours[23].after(HOUR));
        let history = DegradationHistory { starts_at: hours[22], ..DegradationHistory::default() };
        let scores = [Some(0.1), Some(0.7), None, Some(0.2)];

        assert_eq!(worst_score(&history, &scores, hours[22]), Some(0.7));
        assert_eq!(worst_score(&history, &scores, hours[23]), None);
        let later: Vec<_> = std::iter::repeat_n(None, 12).chain(scores).collect();
        assert_eq!(worst_score(&history, &later, hours[22]), None);
        assert_eq!(worst_score(&history, &later, hours[23]), Some(0.7));
    }
}
