//! Alerts, newest first, of one severity or all.

use cynosure_engine::Timestamp;
use cynosure_engine::alert::Severity;
use maud::{Markup, html};

use super::badge;
use crate::endpoint::route::PageFilter;
use crate::endpoint::view::{AlertView, Snapshot};

/// Alerts on the page. The JSON API lists more.
const ALERTS_SHOWN_MAX: usize = 50;

pub(super) fn alerts(snapshot: &Snapshot, filter: &PageFilter) -> Markup {
    let is_selected =
        |alert: &&AlertView| filter.severity.is_none_or(|severity| severity == alert.severity);
    let selected: Vec<&AlertView> = snapshot.alerts.iter().filter(is_selected).collect();
    html! {
        section #alerts aria-labelledby="alerts-title" {
            h2 #alerts-title { "Alerts" }
            nav .filter aria-label="Alerts by severity" {
                (severity_link(filter, None, snapshot.alerts.len()))
                @for severity in Severity::ALL {
                    @let count = snapshot.alerts.iter().filter(|alert| alert.severity == severity).count();
                    (severity_link(filter, Some(severity), count))
                }
            }
            @if let Some(reason) = &snapshot.alerts_error {
                p .note { "The alerts are missing: " (reason) }
            } @else if selected.is_empty() {
                p .note { @if snapshot.alerts.is_empty() { "No alerts." } @else { "No alerts of this severity." } }
            }
            ol .timeline { @for alert in selected.iter().take(ALERTS_SHOWN_MAX) { (alert_item(alert, snapshot.at)) } }
            @if selected.len() > ALERTS_SHOWN_MAX {
                p .note { "The newest " (ALERTS_SHOWN_MAX) " of " (selected.len()) "; " a href="api/health/alerts?limit=1000" { "all as JSON" } }
            }
        }
    }
}

fn severity_link(filter: &PageFilter, severity: Option<Severity>, count: usize) -> Markup {
    let name = severity.map_or("all", Severity::name);
    let source = filter.source.as_ref().map(|source| format!("&source={source}"));
    let source = source.unwrap_or_default();
    let query = format!("/?severity={}{source}#alerts", severity.map_or("", Severity::name));
    let current = (filter.severity == severity).then_some("true");
    html! { a id={ "filter-" (name) } href=(query) aria-current=[current] { (name) " " span .count { (count) } } }
}

fn alert_item(alert: &AlertView, now: Timestamp) -> Markup {
    html! {
        li .resolved[alert.resolved_at.is_some()] {
            div .time { (badge::time_element(alert.started_at, now)) }
            div {
                (badge::severity_badge(alert.severity)) " "
                @if !alert.subject.is_empty() { strong { (alert.subject) } ": " }
                (alert.message)
                @if let Some(advice) = alert.advice.as_ref().filter(|_| alert.resolved_at.is_none()) {
                    (badge::advice_text(advice))
                }
                p .dim {
                    (alert.key)
                    @if alert.max_severity > alert.severity { " · was " (alert.max_severity.name()) }
                    @match alert.resolved_at {
                        Some(at) => { " · resolved at " (badge::time_element(at, now)) },
                        None => { " · firing" },
                    }
                    @if alert.occurrences > 1 { " · fired " (alert.occurrences) " times" }
                }
            }
        }
    }
}
