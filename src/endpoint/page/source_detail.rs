//! Details of one source: metrics, last session, charts, state history and failed items.

use cynosure_engine::time_series::{Aggregation, TimeSeries};
use cynosure_engine::{Timestamp, format_count};
use maud::{Markup, html};

use super::table::data_table;
use super::{DETAIL_ROWS_MAX, SourceDetail, badge, cards, chart};
use crate::endpoint::route::LIMIT_MAX;
use crate::endpoint::view::{
    ArchiveDay, FailedItem, GROWTH_STEP, LookupError, Snapshot, SourceSummary, SourceView,
    StateTransition, SummaryEntry,
};
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
            h3 { "Last session" }
            @match &detail.summary {
                Ok(summary) if summary.entries.is_empty() => p .note { "No session is completed yet." },
                Ok(summary) => (entry_list(&summary.entries)),
                Err(error) => (lookup_error(error)),
            }
            (charts(detail, snapshot))
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
            (cards::archive_metrics(source, now))
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

fn entry_list(entries: &[SummaryEntry]) -> Markup {
    html! {
        dl .facts {
            @for entry in entries {
                dt { (entry.label) }
                dd { (badge::text_with_code(&entry.text)) }
            }
        }
    }
}

/// Charts of the rate and of the archive, as far as there is data.
fn charts(detail: &SourceDetail, snapshot: &Snapshot) -> Markup {
    let now = snapshot.at;
    let trend = snapshot.trends.rates.get(&detail.name);
    let growth = detail.summary.as_ref().ok().and_then(growth_chart);
    html! {
        @if trend.is_some() || growth.is_some() {
            h3 { "Charts" }
            div .charts {
                @if let Some(trend) = trend {
                    (chart::line_chart(&trend.recent, now, &chart::ITEMS_PER_SECOND, "Items per second, last half hour"))
                    (chart::line_chart(&trend.day, now, &chart::ITEMS_PER_SECOND, "Items per second, last day"))
                }
                @if let Some(growth) = &growth { (growth) }
            }
        }
    }
}

/// Chart of the archive's size, one value a day; `None` if nothing is known of it.
fn growth_chart(summary: &SourceSummary) -> Option<Markup> {
    let today = summary.growth.last()?.starts_at;
    let mut series = TimeSeries::new(GROWTH_STEP, summary.growth.len());
    for ArchiveDay { starts_at, bytes, .. } in &summary.growth {
        if let Some(bytes) = bytes {
            series.record(to_f32(*bytes), Aggregation::Max, *starts_at);
        }
    }
    series.values_until(today).iter().flatten().next()?;
    let title = format!("Archive size, last {} days", summary.growth.len());
    Some(chart::line_chart(&series, today, &chart::ARCHIVE_SIZE, &title))
}

#[expect(clippy::cast_precision_loss, reason = "the height of a line in a chart")]
fn to_f32(bytes: u64) -> f32 {
    bytes as f32
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
