//! The providers: how degraded each is now, and was over the last day.

use std::time::Duration;

use maud::{Markup, html};

use super::badge;
use crate::endpoint::view::{ProviderView, Snapshot};
use crate::engine::Timestamp;
use crate::engine::degradation::{DegradationHistory, DegradationLevel, SLOT_DURATION};
use crate::human::{format_clock_time, format_duration};

/// The hours of the map.
const HEAT_MAP_HOURS: u32 = 24;

const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn provider_grid(snapshot: &Snapshot) -> Markup {
    html! {
        section #providers aria-labelledby="providers-title" {
            h2 #providers-title { "Providers" }
            @if snapshot.providers.is_empty() { p .note { "None is judged." } }
            ul .tiles { @for provider in &snapshot.providers { (provider_tile(provider)) } }
        }
    }
}

fn provider_tile(provider: &ProviderView) -> Markup {
    let health = &provider.health;
    let (class, sign) = badge::band_style(health.level);
    html! {
        li class={ "tile " (class) } {
            p .tile-head {
                strong { (health.provider) }
                span .score {
                    span aria-hidden="true" { (sign) } " " (health.level.name()) " " (format!("{:.2}", health.score))
                }
            }
            p { (health.status) }
            p { (badge::breaker_badge(health.breaker)) }
            @if let Some(says) = &provider.breaker_note { p { (says) } }
            p .tile-figures {
                @if let Some(p95) = health.p95_latency { span { "95 % within " (format_duration(p95)) } }
                @if let Some(rate) = health.success_rate { span { (format!("{:.0} %", rate * 100.0)) " succeed" } }
            }
        }
    }
}

pub(super) fn heat_map(snapshot: &Snapshot) -> Markup {
    let hours = hour_starts(snapshot.at);
    html! {
        section #heat aria-labelledby="heat-title" {
            h2 #heat-title { "Degradation over 24 hours" }
            @if let Some(why) = &snapshot.degradation_error {
                p .note { "The last day is missing: " (why) }
            } @else if snapshot.degradation.scores.is_empty() {
                p .note { "Nothing is known of the last day yet." }
            } @else {
                div .scroll tabindex="0" role="region" aria-labelledby="heat-title" {
                    table .heat {
                        caption .unseen { "The worst score of each provider in each hour, the last hour at the end" }
                        thead {
                            tr {
                                th scope="col" { span .unseen { "provider" } }
                                @for (at, from) in hours.iter().enumerate() {
                                    th scope="col" { span .hour .rare[at % 6 != 5] { (format_hour(*from, snapshot.at)) } }
                                }
                            }
                        }
                        tbody {
                            @for (name, scores) in &snapshot.degradation.scores {
                                tr {
                                    th scope="row" { (name) }
                                    @for from in &hours {
                                        (cell(worst_score(&snapshot.degradation, scores, *from), *from, snapshot.at))
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

fn cell(score: Option<f64>, from: Timestamp, now: Timestamp) -> Markup {
    let hour = format_hour(from, now);
    html! {
        @match score {
            None => td .band-none title={ "from " (hour) ": nothing known" } { span .unseen { "nothing known" } },
            Some(score) => {
                @let (class, sign) = badge::band_style(DegradationLevel::from_score(score));
                @let told = format!("{score:.2}, {}", DegradationLevel::from_score(score).name());
                td class=(class) title={ "from " (hour) ": " (told) } {
                    span aria-hidden="true" { (sign) }
                    span .unseen { (told) }
                }
            },
        }
    }
}

fn legend() -> Markup {
    html! {
        ul .legend aria-label="What the signs mean" {
            @for band in DegradationLevel::ALL {
                @let (class, sign) = badge::band_style(band);
                li { span class={ "swatch " (class) } aria-hidden="true" { (sign) } " " (band.name()) }
            }
            li { span .swatch .band-none aria-hidden="true" { } " nothing known" }
        }
    }
}

/// Where the last hours begin, the oldest first; the last of them is not over.
fn hour_starts(now: Timestamp) -> Vec<Timestamp> {
    let hour = i64::try_from(HOUR.as_millis()).unwrap_or(i64::MAX);
    let last = Timestamp(now.0.div_euclid(hour) * hour);
    (0..HEAT_MAP_HOURS).rev().map(|back| last.before(HOUR * back)).collect()
}

/// The worst score of the hour that begins then.
fn worst_score(
    history: &DegradationHistory,
    scores: &[Option<f64>],
    from: Timestamp,
) -> Option<f64> {
    let slot = i64::try_from(SLOT_DURATION.as_millis()).unwrap_or(i64::MAX);
    let of_hour = scores.iter().enumerate().filter(|(at, _)| {
        let at = i64::try_from(*at).unwrap_or(i64::MAX);
        let begins = Timestamp(history.starts_at.0.saturating_add(at.saturating_mul(slot)));
        from <= begins && begins < from.after(HOUR)
    });
    of_hour.filter_map(|(_, score)| *score).reduce(f64::max)
}

/// `14:00`, whatever the day: it is one of the last 24.
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
