//! Details of one source: metrics, state history and failed items.

use cynosure_engine::{Timestamp, format_count};
use maud::{Markup, html};

use super::table::data_table;
use super::{DETAIL_ROWS_MAX, SourceDetail, badge, cards, chart};
use crate::endpoint::route::LIMIT_MAX;
use crate::endpoint::view::{FailedItem, LookupError, Snapshot, SourceView, StateTransition};
use crate::human::{EMPTY_CELL, humanize};

pub(super) fn source_detail(
    detail: &SourceDetail,
    source: &SourceView,
    snapshot: &Snapshot,
) -> Markup {
    let now = snapshot.at;
    html! {
        section #source-detail aria-labelledby="source-detail-title" {
            div .card-head {
                h2 #source-detail-title { "Source " (source.name) }
                a #source-detail-close href={ "/#source-" (source.name) } { "Close" }
            }
            p .status-text { (cards::state_badge(source)) " " (source.status_text) }
            (cards::progress(source, "source-detail"))
            (metric_list(source, now))
            @if let Some(trend) = snapshot.trends.rates.get(&source.name) {
                div .charts {
                    (chart::line_chart(&trend.recent, now, "items per second", "Items per second, last half hour"))
                    (chart::line_chart(&trend.day, now, "items per second", "Items per second, last day"))
                }
            }
            h3 { "State history" }
            @match &detail.history {
                Ok(transitions) if transitions.is_empty() => p .note { "No state changes yet." },
                Ok(transitions) => {
                    (history_table(transitions, now))
                    (more_link(transitions.len(), source, "history"))
                },
                Err(error) => (lookup_error(error)),
            }
            h3 { "Failed items" }
            @match &detail.failures {
                Ok(items) if items.is_empty() => p .note { "No failed items." },
                Ok(items) => {
                    (failures_table(items, now))
                    (more_link(items.len(), source, "failures"))
                },
                Err(error) => (lookup_error(error)),
            }
        }
    }
}

fn metric_list(source: &SourceView, now: Timestamp) -> Markup {
    let error = source.last_error.as_ref();
    html! {
        dl .metrics .wide {
            (cards::metric("stored", &format_count(source.stored)))
            (cards::metric("gone", &format_count(source.gone)))
            (cards::metric("quarantined", &format_count(source.quarantined)))
            (cards::metric("waiting for a retry", &format_count(source.waiting_for_retry)))
            (cards::metric("consecutive errors", &source.consecutive_errors.to_string()))
            (cards::metric("restarts", &source.restart_count.to_string()))
            div { dt { "in this state since" } dd { (badge::optional_time(source.state_since, now)) } }
            div { dt { "last progress" } dd { (badge::optional_time(source.last_progress, now)) } }
            div .two-columns { dt { "session" } dd { (source.session.as_deref().unwrap_or(EMPTY_CELL)) } }
            @if let Some(error) = error {
                div .full-row { dt { "last error" } dd { (badge::time_element(error.at, now)) " " (error.cause) ": " (error.message) } }
            }
        }
    }
}

fn history_table(transitions: &[StateTransition], now: Timestamp) -> Markup {
    let row = |transition: &StateTransition| {
        vec![
            badge::time_element(transition.at, now),
            html! { (humanize(&transition.from)) },
            html! { (humanize(&transition.to)) },
            html! { (transition.reason) },
        ]
    };
    let rows: Vec<_> = transitions.iter().map(row).collect();
    data_table("State history", &["Time", "From", "To", "Reason"], &rows)
}

fn failures_table(items: &[FailedItem], now: Timestamp) -> Markup {
    let cause =
        |item: &FailedItem| item.cause.as_deref().map_or_else(|| EMPTY_CELL.to_owned(), humanize);
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
    let rows: Vec<_> = items.iter().map(row).collect();
    data_table(
        "Failed items",
        &["Item", "State", "Attempts", "Next attempt", "Cause", "Message"],
        &rows,
    )
}

/// Link to the whole list, if the table may not show all of it.
fn more_link(shown: usize, source: &SourceView, list: &str) -> Markup {
    let link = format!("api/sources/{}/{list}?limit={LIMIT_MAX}", source.name);
    html! {
        @if shown >= DETAIL_ROWS_MAX {
            p .note { (DETAIL_ROWS_MAX) " are shown; " a href=(link) { "up to " (LIMIT_MAX) " as JSON" } }
        }
    }
}

fn lookup_error(error: &LookupError) -> Markup {
    html! {
        p .note {
            @match error {
                LookupError::NoSuchSource => "The source no longer exists.",
                LookupError::Unreadable(reason) => (reason),
            }
        }
    }
}
