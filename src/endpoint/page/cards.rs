//! Card of each source: status, progress, deadline and archive.

use cynosure_engine::health::HealthLevel;
use cynosure_engine::{Timestamp, format_bytes, format_count, format_duration};
use maud::{Markup, html};

use super::{badge, chart};
use crate::endpoint::view::{Snapshot, SourceView};
use crate::human::{format_byte_progress, format_rate, humanize};

/// Largest number of cards with charts. More cards have no room for them.
pub(super) const CARDS_WITH_CHART_MAX: usize = 24;

/// Returns the id of a source's card. Ids inside the card append a dot and a suffix; they are
/// unique, because source names contain no dot.
pub(super) fn card_id(source: &SourceView) -> String {
    format!("source-{}", source.name)
}

pub(super) fn card(source: &SourceView, snapshot: &Snapshot, with_chart: bool) -> Markup {
    let id = card_id(source);
    let trend = snapshot.trends.rates.get(&source.name).filter(|_| with_chart);
    html! {
        article .card id=(id) aria-labelledby={ (id) ".title" } {
            div .card-head {
                h3 id={ (id) ".title" } {
                    a id={ (id) ".link" } href={ "/?source=" (source.name) "#source-detail" } { (source.name) }
                }
                (state_badge(source))
            }
            p .dim { (source.provider) " · " (source.kind) }
            (progress(source, &id))
            p .status-text { (source.status_text) }
            (metric_list(source, snapshot.at))
            @if let Some(trend) = trend {
                (chart::sparkline(&trend.recent, snapshot.at, &chart::ITEMS_PER_SECOND))
            }
        }
    }
}

/// Badge of the state, in the colour of the source's health level.
pub(super) fn state_badge(source: &SourceView) -> Markup {
    let label = humanize(&source.state);
    let is_expected =
        source.is_running || matches!(source.state.as_str(), "completed" | "never_run");
    let label = if is_expected { label } else { format!("{label}, not running") };
    let (class, symbol) = match (source.level, source.state.as_str()) {
        (Some(HealthLevel::Critical), _) => ("bad", "✕"),
        (Some(HealthLevel::Warning), _) => ("fair", "!"),
        (Some(HealthLevel::Unknown), _) | (_, "unknown") => ("dim", "?"),
        (_, "auth_failed") => ("bad", "✕"),
        (_, "error" | "rate_limited") => ("fair", "◷"),
        (_, "collecting" | "downloading") => ("info", "↓"),
        (_, "completed") => ("good", "✓"),
        _ => ("dim", "–"),
    };
    badge::badge(class, symbol, &label)
}

pub(super) fn progress(source: &SourceView, id: &str) -> Markup {
    let label =
        format!("{} of {} settled", format_count(source.settled), format_count(source.total));
    html! {
        @if source.state == "collecting" {
            p .count { strong { (format_count(source.total)) } " listed so far" }
        } @else if source.total > 0 {
            progress id={ (id) ".progress" } max=(source.total) value=(source.settled) aria-label=(label) {}
            p .count {
                strong { (format_count(source.settled)) } " of " (format_count(source.total))
                @if let Some(bytes) = byte_progress(source) { " · " (bytes) }
                span .percent { (percent_settled(source)) }
            }
        }
    }
}

/// Returns the progress in bytes, while there is something left to fetch.
fn byte_progress(source: &SourceView) -> Option<String> {
    format_byte_progress(source.fetched_bytes, source.expected_bytes)
        .filter(|_| source.settled < source.total)
}

/// Rounds down, so that it is 100 % only if all items are settled.
fn percent_settled(source: &SourceView) -> String {
    let percent = u128::from(source.settled) * 100 / u128::from(source.total.max(1));
    format!("{percent} %")
}

fn metric_list(source: &SourceView, now: Timestamp) -> Markup {
    html! {
        dl .metrics {
            @if let Some(per_second) = source.items_per_second {
                (metric("rate", &format_rate(per_second)))
            }
            @if let Some(eta) = source.eta_seconds {
                (metric("time left", &format_duration(std::time::Duration::from_secs(eta))))
            }
            @if let Some(deadline) = &source.deadline_text { (metric(deadline_label(source), deadline)) }
            @if source.waiting_for_retry > 0 {
                (metric("waiting for a retry", &format_count(source.waiting_for_retry)))
            }
            @if source.quarantined > 0 { (metric("quarantined", &format_count(source.quarantined))) }
            @if source.gone > 0 { (metric("gone", &format_count(source.gone))) }
            @if source.restart_count > 0 {
                (metric("restarts", &source.restart_count.to_string()))
            }
            (archive_metrics(source, now))
        }
    }
}

/// Size of the archive, and the time up to which it is complete. Empty for a source that has never
/// run.
pub(super) fn archive_metrics(source: &SourceView, now: Timestamp) -> Markup {
    html! {
        @if let Some(size) = archive_size(source) { (metric("documents in archive", &size)) }
        @if source.state_since.is_some() {
            div {
                dt { "complete until" }
                dd {
                    @match source.complete_until {
                        Some(until) => (badge::minute_element(until, now)),
                        None => "not yet",
                    }
                    @if source.is_completeness_stale { " " (badge::badge("fair", "!", "stale")) }
                }
            }
        }
    }
}

/// Returns the documents and bytes in the archive, as in `81,112 · 4.2 GB`.
fn archive_size(source: &SourceView) -> Option<String> {
    let documents = format_count(source.archive_documents?);
    Some(format!("{documents} · {}", format_bytes(source.archive_bytes?)))
}

/// Label of the deadline.
fn deadline_label(source: &SourceView) -> &'static str {
    match source.state.as_str() {
        "collecting" | "downloading" => "progress due by",
        "idle" => "next check",
        "completed" => "completed at",
        _ => "next attempt",
    }
}

pub(super) fn metric(name: &str, value: &str) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}
