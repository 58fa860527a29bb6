//! Findings of the health checks: failing ones with their advice, healthy ones folded.

use cynosure_engine::health::{Finding, HealthLevel};
use maud::{Markup, html};

use super::badge;
use crate::endpoint::view::Snapshot;

pub(super) fn checks(snapshot: &Snapshot) -> Markup {
    let (healthy, mut failing): (Vec<&Finding>, Vec<&Finding>) =
        snapshot.health.findings.iter().partition(|finding| finding.level == HealthLevel::Healthy);
    failing.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    html! {
        section #checks aria-labelledby="checks-title" {
            h2 #checks-title { "Checks" }
            @if !failing.is_empty() {
                ul .checks { @for finding in &failing { (finding_item(finding)) } }
            }
            @if !healthy.is_empty() {
                details #checks-healthy {
                    summary {
                        @if failing.is_empty() { "All checks healthy" } @else { "Healthy checks" }
                        " (" (healthy.len()) ")"
                    }
                    ul .checks { @for finding in &healthy { (finding_item(finding)) } }
                }
            }
            @if snapshot.health.findings.is_empty() { p .note { "No checks yet." } }
        }
    }
}

fn finding_item(finding: &Finding) -> Markup {
    let subject =
        if finding.subject.is_empty() { finding.check.name() } else { finding.subject.as_str() };
    html! {
        li {
            (badge::level_badge(finding.level)) " "
            strong { (subject) }
            ": " (finding.message)
            @match (&finding.value, &finding.threshold) {
                (Some(value), Some(threshold)) => { span .dim { " (" (value) "; threshold " (threshold) ")" } },
                (Some(value), None) => { span .dim { " (" (value) ")" } },
                (None, _) => {},
            }
            @if let Some(advice) = &finding.advice { (badge::advice_text(advice)) }
        }
    }
}
