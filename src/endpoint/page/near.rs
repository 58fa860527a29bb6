//! One source from near: its figures, the states it passed, and what failed.

use maud::{Markup, html};

use super::list::list;
use super::{NEAR_MAX, Near, cards, chart, mark};
use crate::endpoint::route::LIMIT_MAX;
use crate::endpoint::view::{Failed, Passed, Snapshot, Source, Untold};
use crate::engine::Timestamp;
use crate::human::{EMPTY_CELL, format_count};

pub(super) fn near(near: &Near, source: &Source, snapshot: &Snapshot) -> Markup {
    let now = snapshot.at;
    html! {
        section #near aria-labelledby="near-title" {
            div .card-head {
                h2 #near-title { "Source " (source.name) }
                a #near-close href={ "/#source-" (source.name) } { "Close" }
            }
            p .sentence { (cards::state(source)) " " (source.sentence) }
            (cards::progress(source, "near"))
            (figures(source, now))
            @if let Some(trend) = snapshot.trends.rates.get(&source.name) {
                div .charts {
                    (chart::line(&trend.recent, now, "items per second", "Items per second, lately"))
                    (chart::line(&trend.day, now, "items per second", "Items per second, the last day"))
                }
            }
            h3 { "What it passed" }
            @match &near.history {
                Ok(passed) if passed.is_empty() => p .note { "Nothing has happened yet." },
                Ok(passed) => {
                    (history(passed, now))
                    (rest(passed.len(), source, "history"))
                },
                Err(untold) => (unreadable(untold)),
            }
            h3 { "What failed" }
            @match &near.failures {
                Ok(failed) if failed.is_empty() => p .note { "Nothing: every item is stored, or waits for its first try." },
                Ok(failed) => {
                    (failures(failed, now))
                    (rest(failed.len(), source, "failures"))
                },
                Err(untold) => (unreadable(untold)),
            }
        }
    }
}

fn figures(source: &Source, now: Timestamp) -> Markup {
    let error = source.last_error.as_ref();
    html! {
        dl .figures .wide {
            (cards::figure("stored", &format_count(source.stored)))
            (cards::figure("gone", &format_count(source.gone)))
            (cards::figure("quarantined", &format_count(source.quarantined)))
            (cards::figure("waiting for a retry", &format_count(source.waiting_for_retry)))
            (cards::figure("errors in a row", &source.consecutive_errors.to_string()))
            (cards::figure("restarts", &source.restart_count.to_string()))
            div { dt { "in this state since" } dd { (mark::time_if_any(source.state_since, now)) } }
            div { dt { "last progress" } dd { (mark::time_if_any(source.last_progress, now)) } }
            div .long { dt { "session" } dd { (source.session.as_deref().unwrap_or(EMPTY_CELL)) } }
            @if let Some(error) = error {
                div .whole { dt { "last error" } dd { (mark::time(error.at, now)) " " (error.cause) ": " (error.message) } }
            }
        }
    }
}

fn history(passed: &[Passed], now: Timestamp) -> Markup {
    let row = |step: &Passed| {
        vec![
            mark::time(step.at, now),
            html! { (mark::spaced(&step.from)) },
            html! { (mark::spaced(&step.to)) },
            html! { (step.reason) },
        ]
    };
    let rows: Vec<_> = passed.iter().map(row).collect();
    list("The states it passed", &["Time", "From", "To", "Why"], &rows)
}

fn failures(failed: &[Failed], now: Timestamp) -> Markup {
    let cause =
        |item: &Failed| item.cause.as_deref().map_or_else(|| EMPTY_CELL.to_owned(), mark::spaced);
    let row = |item: &Failed| {
        vec![
            html! { (item.item) },
            html! { (item.state) },
            html! { (item.attempts) },
            mark::time_if_any(item.next_at, now),
            html! { (cause(item)) },
            html! { (item.message) },
        ]
    };
    let rows: Vec<_> = failed.iter().map(row).collect();
    list("The items that failed", &["Item", "State", "Attempts", "Next", "Cause", "Why"], &rows)
}

/// Where more of a list is, if there may be more.
fn rest(shown: usize, source: &Source, list: &str) -> Markup {
    let more = format!("api/sources/{}/{list}?limit={LIMIT_MAX}", source.name);
    html! {
        @if shown >= NEAR_MAX {
            p .note { (NEAR_MAX) " are shown; " a href=(more) { "up to " (LIMIT_MAX) " as JSON" } }
        }
    }
}

fn unreadable(untold: &Untold) -> Markup {
    html! {
        p .note {
            @match untold {
                Untold::NoSuchSource => "It is no longer there.",
                Untold::Unreadable(why) => (why),
            }
        }
    }
}
