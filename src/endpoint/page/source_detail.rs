//! One source from near: its figures, the states it passed, and what failed.

use maud::{Markup, html};

use super::table::data_table;
use super::{DETAIL_ROWS_MAX, SourceDetail, badge, cards, chart};
use crate::endpoint::route::LIMIT_MAX;
use crate::endpoint::view::{FailedItem, LookupError, Snapshot, SourceView, StateTransition};
use crate::engine::Timestamp;
use crate::human::{EMPTY_CELL, format_count};

pub(super) fn source_detail(
    near: &SourceDetail,
    source: &SourceView,
    snapshot: &Snapshot,
) -> Markup {
    let now = snapshot.at;
    html! {
        section #near aria-labelledby="near-title" {
            div .card-head {
                h2 #near-title { "Source " (source.name) }
                a #near-close href={ "/#source-" (source.name) } { "Close" }
            }
            p .sentence { (cards::state_badge(source)) " " (source.status_text) }
            (cards::progress(source, "near"))
            (metric_list(source, now))
            @if let Some(trend) = snapshot.trends.rates.get(&source.name) {
                div .charts {
                    (chart::line_chart(&trend.recent, now, "items per second", "Items per second, lately"))
                    (chart::line_chart(&trend.day, now, "items per second", "Items per second, the last day"))
                }
            }
            h3 { "What it passed" }
            @match &near.history {
                Ok(passed) if passed.is_empty() => p .note { "Nothing has happened yet." },
                Ok(passed) => {
                    (history_table(passed, now))
                    (more_link(passed.len(), source, "history"))
                },
                Err(untold) => (lookup_error(untold)),
            }
            h3 { "What failed" }
            @match &near.failures {
                Ok(failed) if failed.is_empty() => p .note { "Nothing: every item is stored, or waits for its first try." },
                Ok(failed) => {
                    (failures_table(failed, now))
                    (more_link(failed.len(), source, "failures"))
                },
                Err(untold) => (lookup_error(untold)),
            }
        }
    }
}

fn metric_list(source: &SourceView, now: Timestamp) -> Markup {
    let error = source.last_error.as_ref();
    html! {
        dl .figures .wide {
            (cards::metric("stored", &format_count(source.stored)))
            (cards::metric("gone", &format_count(source.gone)))
            (cards::metric("quarantined", &format_count(source.quarantined)))
            (cards::metric("waiting for a retry", &format_count(source.waiting_for_retry)))
            (cards::metric("errors in a row", &source.consecutive_errors.to_string()))
            (cards::metric("restarts", &source.restart_count.to_string()))
            div { dt { "in this state since" } dd { (badge::optional_time(source.state_since, now)) } }
            div { dt { "last progress" } dd { (badge::optional_time(source.last_progress, now)) } }
            div .long { dt { "session" } dd { (source.session.as_deref().unwrap_or(EMPTY_CELL)) } }
            @if let Some(error) = error {
                div .whole { dt { "last error" } dd { (badge::time_element(error.at, now)) " " (error.cause) ": " (error.message) } }
            }
        }
    }
}

fn history_table(passed: &[StateTransition], now: Timestamp) -> Markup {
    let row = |step: &StateTransition| {
        vec![
            badge::time_element(step.at, now),
            html! { (badge::humanize(&step.from)) },
            html! { (badge::humanize(&step.to)) },
            html! { (step.reason) },
        ]
    };
    let rows: Vec<_> = passed.iter().map(row).collect();
    data_table("The states it passed", &["Time", "From", "To", "Why"], &rows)
}

fn failures_table(failed: &[FailedItem], now: Timestamp) -> Markup {
    let cause = |item: &FailedItem| {
        item.cause.as_deref().map_or_else(|| EMPTY_CELL.to_owned(), badge::humanize)
    };
    let row = |item: &FailedItem| {
        vec![
            html! { (item.item) },
            html! { (item.state) },
            html! { (item.attempts) },
            badge::optional_time(item.next_at, now),
            html! { (cause(item)) },
            html! { (item.message) },
        ]
    };
    let rows: Vec<_> = failed.iter().map(row).collect();
    data_table(
        "The items that failed",
        &["Item", "State", "Attempts", "Next", "Cause", "Why"],
        &rows,
    )
}

/// Where more of a list is, if there may be more.
fn more_link(shown: usize, source: &SourceView, list: &str) -> Markup {
    let more = format!("api/sources/{}/{list}?limit={LIMIT_MAX}", source.name);
    html! {
        @if shown >= DETAIL_ROWS_MAX {
            p .note { (DETAIL_ROWS_MAX) " are shown; " a href=(more) { "up to " (LIMIT_MAX) " as JSON" } }
        }
    }
}

fn lookup_error(untold: &LookupError) -> Markup {
    html! {
        p .note {
            @match untold {
                LookupError::NoSuchSource => "It is no longer there.",
                LookupError::Unreadable(why) => (why),
            }
        }
    }
}
