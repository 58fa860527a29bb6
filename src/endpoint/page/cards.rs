//! A card for each source: what it does, how far it is, and what happens next.

use maud::{Markup, html};

use super::{badge, chart};
use crate::endpoint::view::{Snapshot, SourceView};
use crate::engine::watch::HealthLevel;
use crate::human::{format_count, format_duration, format_rate};

/// So many cards have room for a chart each.
pub(super) const CARDS_WITH_CHART_MAX: usize = 24;

/// The id of a source's card; what is inside has it with a dot, which no name of a source has.
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
                    a id={ (id) ".link" } href={ "/?source=" (source.name) "#near" } { (source.name) }
                }
                (state_badge(source))
            }
            p .dim { (source.provider) " · " (source.kind) }
            (progress(source, &id))
            p .sentence { (source.status_text) }
            (metric_list(source))
            @if let Some(trend) = trend {
                (chart::sparkline(&trend.recent, snapshot.at, "items per second"))
            }
        }
    }
}

/// The state as a badge, in the colour of what was found about the source.
pub(super) fn state_badge(source: &SourceView) -> Markup {
    let word = badge::humanize(&source.state);
    let at_work = source.is_running || matches!(source.state.as_str(), "completed" | "never_run");
    let word = if at_work { word } else { format!("{word}, not running") };
    let (class, sign) = match (source.level, source.state.as_str()) {
        (Some(HealthLevel::Critical), _) => ("bad", "✕"),
        (Some(HealthLevel::Warning), _) => ("fair", "!"),
        (Some(HealthLevel::Unknown), _) | (_, "unknown") => ("dim", "?"),
        (_, "auth_failed") => ("bad", "✕"),
        (_, "error" | "rate_limited") => ("fair", "◷"),
        (_, "collecting" | "downloading") => ("info", "↓"),
        (_, "completed") => ("good", "✓"),
        _ => ("dim", "–"),
    };
    badge::badge(class, sign, &word)
}

pub(super) fn progress(source: &SourceView, id: &str) -> Markup {
    let label =
        format!("{} settled of {}", format_count(source.settled), format_count(source.total));
    html! {
        @if source.state == "collecting" {
            p .count { strong { (format_count(source.total)) } " listed so far" }
        } @else if source.total > 0 {
            progress id={ (id) ".progress" } max=(source.total) value=(source.settled) aria-label=(label) {}
            p .count {
                strong { (format_count(source.settled)) } " of " (format_count(source.total))
                span .share { (percent_settled(source)) }
            }
        }
    }
}

/// Rounded down: not all is not a hundred percent.
fn percent_settled(source: &SourceView) -> String {
    let percent = u128::from(source.settled) * 100 / u128::from(source.total.max(1));
    format!("{percent} %")
}

fn metric_list(source: &SourceView) -> Markup {
    html! {
        dl .figures {
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
        }
    }
}

/// What happens at the deadline.
fn deadline_label(source: &SourceView) -> &'static str {
    match source.state.as_str() {
        "collecting" | "downloading" => "progress due by",
        "idle" => "next look",
        "completed" => "completed at",
        _ => "goes on at",
    }
}

pub(super) fn metric(name: &str, value: &str) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}
