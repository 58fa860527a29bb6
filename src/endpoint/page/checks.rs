//! What was found amiss, with what to do; and what is well, for whoever wants to know.

use maud::{Markup, html};

use super::mark;
use crate::endpoint::view::Snapshot;
use crate::engine::health::Check;
use crate::engine::watch::Level;

pub(super) fn checks(snapshot: &Snapshot) -> Markup {
    let (well, mut ill): (Vec<&Check>, Vec<&Check>) =
        snapshot.checks.iter().partition(|check| check.level == Level::Healthy);
    ill.sort_by_key(|check| std::cmp::Reverse(check.level));
    html! {
        section #checks aria-labelledby="checks-title" {
            h2 #checks-title { "Checks" }
            @if !ill.is_empty() {
                ul .checks { @for check in &ill { (item(check)) } }
            }
            @if !well.is_empty() {
                details #checks-well {
                    summary {
                        @if ill.is_empty() { "All " (well.len()) " are well" } @else { (well.len()) " are well" }
                    }
                    ul .checks { @for check in &well { (item(check)) } }
                }
            }
            @if snapshot.checks.is_empty() { p .note { "Nothing was looked at yet." } }
        }
    }
}

fn item(check: &Check) -> Markup {
    html! {
        li {
            (mark::level(check.level)) " "
            strong { @if check.about.is_empty() { (check.name.name()) } @else { (check.about) } }
            ": " (check.message)
            @match (&check.figure, &check.threshold) {
                (Some(figure), Some(threshold)) => { span .dim { " (" (figure) "; limit " (threshold) ")" } },
                (Some(figure), None) => { span .dim { " (" (figure) ")" } },
                (None, _) => {},
            }
            @if let Some(advice) = &check.advice { (mark::advice(advice)) }
        }
    }
}
