//! The alerts, the newest first, of one severity or all.

use maud::{Markup, html};

use super::mark;
use crate::endpoint::route::Focus;
use crate::endpoint::view::{Alert, Snapshot};
use crate::engine::Timestamp;
use crate::engine::alert::Severity;

/// Alerts that are shown; the rest of them is in JSON.
const SHOWN_MAX: usize = 50;

pub(super) fn alerts(snapshot: &Snapshot, focus: &Focus) -> Markup {
    let is_meant =
        |alert: &&Alert| focus.severity.is_none_or(|severity| severity == alert.severity);
    let shown: Vec<&Alert> = snapshot.alerts.iter().filter(is_meant).collect();
    html! {
        section #alerts aria-labelledby="alerts-title" {
            h2 #alerts-title { "Alerts" }
            nav .filter aria-label="Alerts by severity" {
                (choice(focus, None, snapshot.alerts.len()))
                @for severity in Severity::ALL {
                    @let number = snapshot.alerts.iter().filter(|alert| alert.severity == severity).count();
                    (choice(focus, Some(severity), number))
                }
            }
            @if let Some(why) = &snapshot.alerts_untold {
                p .note { "The alerts are missing: " (why) }
            } @else if shown.is_empty() {
                p .note { @if snapshot.alerts.is_empty() { "There was none." } @else { "None of this severity." } }
            }
            ol .timeline { @for alert in shown.iter().take(SHOWN_MAX) { (entry(alert, snapshot.at)) } }
            @if shown.len() > SHOWN_MAX {
                p .note { "The newest " (SHOWN_MAX) " of " (shown.len()) "; " a href="api/health/alerts?limit=1000" { "all as JSON" } }
            }
        }
    }
}

fn choice(focus: &Focus, severity: Option<Severity>, number: usize) -> Markup {
    let word = severity.map_or("all", Severity::name);
    let source = focus.source.as_ref().map(|name| format!("&source={name}")).unwrap_or_default();
    let query = format!("/?severity={}{source}#alerts", severity.map_or("", Severity::name));
    let current = (focus.severity == severity).then_some("true");
    html! { a id={ "filter-" (word) } href=(query) aria-current=[current] { (word) " " span .number { (number) } } }
}

fn entry(alert: &Alert, now: Timestamp) -> Markup {
    html! {
        li .over[alert.ended_at.is_some()] {
            div .when { (mark::time(alert.raised_at, now)) }
            div {
                (mark::severity(alert.severity)) " "
                @if !alert.about.is_empty() { strong { (alert.about) } ": " }
                (alert.message)
                @if let Some(advice) = alert.advice.as_ref().filter(|_| alert.ended_at.is_none()) {
                    (mark::advice(advice))
                }
                p .dim {
                    (alert.cause)
                    @if alert.worst > alert.severity { " · was " (alert.worst.name()) }
                    @match alert.ended_at {
                        Some(ended) => { " · over since " (mark::time(ended, now)) },
                        None => { " · lasts" },
                    }
                    @if alert.times > 1 { " · began " (alert.times) " times" }
                }
            }
        }
    }
}
