//! Header of the page: overall health level and summary.

use cynosure_engine::format_bytes;
use cynosure_engine::health::HealthLevel;
use maud::{Markup, html};

use super::badge;
use crate::endpoint::view::{Snapshot, SourceView};
use crate::human::pluralize;

pub(super) fn summary(snapshot: &Snapshot) -> Markup {
    let class = match snapshot.health.level {
        HealthLevel::Healthy => "good",
        HealthLevel::Warning => "fair",
        HealthLevel::Skipped | HealthLevel::Unknown => "dim",
        HealthLevel::Critical => "bad",
    };
    let running = snapshot.sources.iter().filter(|source| source.is_running).count();
    let stale = snapshot.sources.iter().filter(|source| source.is_completeness_stale).count();
    html! {
        header #summary class=(class) data-title={ (snapshot.health.level.name()) " · Cynosure" } {
            p .brand { a href="/" { "Cynosure" } }
            // Screen readers announce changes of it. The line below changes too often for that.
            p .status role="status" { (badge::level_badge(snapshot.health.level)) " " span { (snapshot.health.summary) } }
            p .dim {
                (pluralize(snapshot.sources.len() as u64, "source")) ", " (running) " running · "
                @if let Some(size) = total_archive_size(&snapshot.sources) { (size) " · " }
                @match snapshot.health.checked_at {
                    Some(at) => { "checked " (badge::format_ago(at, snapshot.at)) },
                    None => { "not checked yet" },
                }
                @if stale > 0 { " · " (badge::badge("fair", "!", &pluralize(stale as u64, "stale source"))) }
            }
        }
    }
}

/// Returns the documents and bytes in the archives of all sources, as in `81,112 documents in
/// 4.2 GB`; `None` if no size is known.
fn total_archive_size(sources: &[SourceView]) -> Option<String> {
    let size = |source: &SourceView| source.archive_documents.zip(source.archive_bytes);
    let (documents, bytes) = sources.iter().filter_map(size).reduce(add_sizes)?;
    Some(format!("{} in {}", pluralize(documents, "document"), format_bytes(bytes)))
}

fn add_sizes((documents, bytes): (u64, u64), more: (u64, u64)) -> (u64, u64) {
    (documents.saturating_add(more.0), bytes.saturating_add(more.1))
}
