//! Health checks: failing ones with their advice, healthy ones folded.

use maud::{Markup, html};

use super::badge;
use crate::endpoint::view::Snapshot;
use crate::engine::health::HealthCheck;
use crate::engine::health::watch::HealthLevel;

pub(super) fn checks(snapshot: &Snapshot) -> Markup {
    let (healthy, mut failing): (Vec<&HealthCheck>, Vec<&HealthCheck>) =
        snapshot.health.checks.iter().partition(|check| check.level == HealthLevel::Healthy);
    failing.sort_by_key(|check| std::cmp::Reverse(check.level));
    html! {
        section #checks aria-labelledby="checks-title" {
            h2 #checks-title { "Checks" }
            @if !failing.is_empty() {
                ul .checks { @for check in &failing { (check_item(check)) } }
            }
            @if !healthy.is_empty() {
                details #checks-healthy {
                    summary {
                        @if failing.is_empty() { "All checks healthy" } @else { "Healthy checks" }
                        " (" (healthy.len()) ")"
                    }
                    ul .checks { @for check in &healthy { (check_item(check)) } }
                }
            }
            @if snapshot.health.checks.is_empty() { p .note { "No checks yet." } }
        }
    }
}

fn check_item(check: &HealthCheck) -> Markup {
    html! {
        li {
            (badge::level_badge(check.level)) " "
            strong { @if check.subject.is_empty() { (check.kind.name()) } @else { (check.subject) } }
            ": " (check.message)
            @match (&check.value, &check.threshold) {
                (Some(value), Some(threshold)) => { span .dim { " (" (value) "; threshold " (threshold) ")" } },
                (Some(value), None) => { span .dim { " (" (value) ")" } },
                (None, _) => {},
            }
            @if let Some(advice) = &check.advice { (badge::advice_text(advice)) }
        }
    }
}
