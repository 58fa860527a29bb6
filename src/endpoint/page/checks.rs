//! What was found amiss, with what to do; and what is well, for whoever wants to know.

use maud::{Markup, html};

use super::badge;
use crate::endpoint::view::Snapshot;
use crate::engine::health::HealthCheck;
use crate::engine::watch::HealthLevel;

pub(super) fn checks(snapshot: &Snapshot) -> Markup {
    let (well, mut ill): (Vec<&HealthCheck>, Vec<&HealthCheck>) =
        snapshot.checks.iter().partition(|check| check.level == HealthLevel::Healthy);
    ill.sort_by_key(|check| std::cmp::Reverse(check.level));
    html! {
        section #checks aria-labelledby="checks-title" {
            h2 #checks-title { "Checks" }
            @if !ill.is_empty() {
                ul .checks { @for check in &ill { (check_item(check)) } }
            }
            @if !well.is_empty() {
                details #checks-well {
                    summary {
                        @if ill.is_empty() { "All " (well.len()) " are well" } @else { (well.len()) " are well" }
                    }
                    ul .checks { @for check in &well { (check_item(check)) } }
                }
            }
            @if snapshot.checks.is_empty() { p .note { "Nothing was looked at yet." } }
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
                (Some(figure), Some(threshold)) => { span .dim { " (" (figure) "; limit " (threshold) ")" } },
                (Some(figure), None) => { span .dim { " (" (figure) ")" } },
                (None, _) => {},
            }
            @if let Some(advice) = &check.advice { (badge::advice_text(advice)) }
        }
    }
}
