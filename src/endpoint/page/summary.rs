//! Header of the page: overall health level and summary.

use cynosure_engine::health::HealthLevel;
use maud::{Markup, html};

use super::badge;
use crate::endpoint::view::Snapshot;
use crate::human::pluralize;

pub(super) fn summary(snapshot: &Snapshot) -> Markup {
    let class = match snapshot.health.level {
        HealthLevel::Healthy => "good",
        HealthLevel::Warning => "fair",
        HealthLevel::Skipped | HealthLevel::Unknown => "dim",
        HealthLevel::Critical => "bad",
    };
    let running = snapshot.sources.iter().filter(|source| source.is_running).count();
    html! {
        header #summary class=(class) data-title={ (snapshot.health.level.name()) " · Cynosure" } {
            p .brand { a href="/" { "Cynosure" } }
            // Screen readers announce changes of it. The line below changes too often for that.
            p .status role="status" { (badge::level_badge(snapshot.health.level)) " " span { (snapshot.health.summary) } }
            p .dim {
                (pluralize(snapshot.sources.len() as u64, "source")) ", " (running) " running · "
                @match snapshot.health.checked_at {
                    Some(at) => { "checked " (badge::format_ago(at, snapshot.at)) },
                    None => { "not checked yet" },
                }
            }
        }
    }
}
