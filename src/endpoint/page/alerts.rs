//! The alerts, the newest first, of one severity or all.

use maud::{Markup, html};

use super::badge;
use crate::endpoint::route::PageFilter;
use crate::endpoint::view::{AlertView, Snapshot};
use crate::engine::Timestamp;
use crate::engine::alert::Severity;

/// Alerts that are shown; the rest of them is in JSON.
const ALERTS_SHOWN_MAX: usize = 50;

pub(super) fn alerts(snapshot: &Snapshot, focus: &PageFilter) -> Markup {
    let is_meant =
        |alert: &&AlertView| focus.severity.is_none_or(|severity| severity == alert.severity);
    let shown: Vec<&AlertView> = snapshot.alerts.iter().filter(is_meant).collect();
    html! {
        section #alerts aria-labelledby="alerts-title" {
            h2 #alerts-title { "Alerts" }
            nav .filter aria-label="Alerts by severity" {
                (severity_link(focus, None, snapshot.alerts.len()))
                @for severity in Severity::ALL {
                    @let number = snapshot.alerts.iter().filter(|alert| alert.severity == severity).count();
                    (severity_link(focus, Some(severity), number))
                }
            }
            @if let Some(why) = &snapshot.alerts_error {
                p .note { "The alerts are missing: " (why) }
            } @else if shown.is_empty() {
                p .note { @if snapshot.alerts.is_empty() { "There was none." } @else { "None of this severity." } }
            }
            ol .timeline { @for alert in shown.iter().take(ALERTS_SHOWN_MAX) { (alert_item(alert, snapshot.at)) } }
            @if shown.len() > ALERTS_SHOWN_MAX {
                p .note { "The newest " (ALERTS_SHOWN_MAX) " of " (shown.len()) "; " a href="api/health/alerts?limit=1000" { "all as JSON" } }
            }
        }
    }
}

fn severity_link(focus: &PageFilter, severity: Option<Severity>, number: usize) -> Markup {
    let word = severity.map_or("all", Severity::name);
    let source = focus.source.as_ref().map(|name| format!("&source={name}")).unwrap_or_default();
    let query = format!("/?severity={}{source}#alerts", severity.map_or("", Severity::name));
    let current = (focus.severity == severity).then_some("true");
    html! { a id={ "filter-" (word) } href=(query) aria-current=[current] { (word) " " span .number { (number) } } }
}

fn alert_item(alert: &AlertView, now: Timestamp) -> Markup {
    html! {
        li .over[alert.resolved_at.is_some()] {
            div .when { (badge::time_element(alert.started_at, now)) }
            div {
                (badge::severity_badge(alert.severity)) " "
                @if !alert.subject.is_empty() { strong { (alert.subject) } ": " }
                (alert.message)
                @if let Some(advice) = alert.advice.as_ref().filter(|_| alert.resolved_at.is_none()) {
                    (badge::advice_text(advice))
                }
                p .dim {
                    (alert.cause)
                    @if alert.max_severity > alert.severity { " · was " (alert.max_severity.name()) }
                    @match alert.resolved_at {
                        Some(ended) => { " · over since " (badge::time_element(ended, now)) },
                        None => { " · lasts" },
                    }
                    @if alert.occurrences > 1 { " · began " (alert.occurrences) " times" }
                }
            }
        }
    }
}
