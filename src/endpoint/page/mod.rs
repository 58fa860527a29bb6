//! Dashboard page. It is rendered completely on the server, so that it works without JavaScript; a
//! script replaces the sections that change. All text is escaped when it is inserted.

mod alerts;
mod badge;
mod cards;
mod chart;
mod checks;
mod providers;
mod quotas;
mod source_detail;
mod summary;
mod table;

use maud::{DOCTYPE, Markup, html};
use serde::Serialize;

use crate::endpoint::route::PageFilter;
use crate::endpoint::view::{FailedItem, LookupError, Snapshot, SourceSummary, StateTransition};

pub(super) const STYLESHEET: &str = include_str!("style.css");
pub(super) const SCRIPT: &str = include_str!("live.js");
pub(super) const ICON: &str = include_str!("icon.svg");

/// Interval at which a page without JavaScript reloads, in seconds. Six reloads a minute with three
/// requests each stay below the default limit of sixty.
const REFRESH_SECONDS: u32 = 10;

/// Rows of each table about one source. For longer lists, the command is more convenient.
pub(super) const DETAIL_ROWS_MAX: usize = 50;

/// Part of the page that is replaced when it changes.
#[derive(Debug, Serialize)]
pub(super) struct PageSection {
    /// Id of its element.
    pub(super) id: String,
    pub(super) html: String,
}

/// Details of one source.
#[derive(Debug)]
pub(super) struct SourceDetail {
    pub(super) name: String,
    pub(super) history: Result<Vec<StateTransition>, LookupError>,
    pub(super) failures: Result<Vec<FailedItem>, LookupError>,
    pub(super) summary: Result<SourceSummary, LookupError>,
}

/// Renders the whole page.
pub(super) fn render_page(
    snapshot: &Snapshot,
    filter: &PageFilter,
    detail: Option<&SourceDetail>,
) -> String {
    let sections = build_sections(snapshot, filter, detail);
    let content = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                title { (snapshot.health.level.name()) " · Cynosure" }
                link rel="icon" href="icon.svg" type="image/svg+xml";
                link rel="stylesheet" href="style.css";
                script src="live.js" defer {}
                noscript { meta http-equiv="refresh" content=(REFRESH_SECONDS); }
            }
            body {
                a .skip href="#content" { "Skip to the content" }
                (sections.summary)
                main #content tabindex="-1" {
                    @if let Some(name) = filter.source.as_ref().filter(|_| detail.is_none()) {
                        p .note { "There is no source named " strong { (name) } ". " a href="/" { "Show all" } }
                    }
                    @for section in &sections.before_cards { (section) }
                    section aria-labelledby="sources-title" {
                        h2 #sources-title { "Sources" }
                        @if sections.cards.is_empty() {
                            p .note { "No source yet: add a [source.NAME] table to the configuration." }
                        }
                        div .cards .compact[sections.cards.len() > cards::CARDS_WITH_CHART_MAX] {
                            @for (_, card) in &sections.cards { (card) }
                        }
                    }
                    @for section in &sections.after_cards { (section) }
                }
                footer {
                    p {
                        "Cynosure " (env!("CARGO_PKG_VERSION")) " · API: "
                        a href="health" { "health" } ", " a href="metrics" { "metrics" } ", "
                        a href="api/health/overview" { "JSON" } ", "
                        a href="api/openapi.json" { "OpenAPI" }
                    }
                    p { "Times are in the local time of the monitored machine." }
                    noscript { p { "Without JavaScript, the page reloads every " (REFRESH_SECONDS) " seconds." } }
                }
            }
        }
    };
    content.into_string()
}

/// Renders the sections that can change, in the order of the page.
pub(super) fn changing_sections(
    snapshot: &Snapshot,
    filter: &PageFilter,
    detail: Option<&SourceDetail>,
) -> Vec<PageSection> {
    let sections = build_sections(snapshot, filter, detail);
    let render = |(id, html): (String, Markup)| PageSection { id, html: html.into_string() };
    let mut changing = vec![render(("summary".to_owned(), sections.summary))];
    let with_ids = |sections: Vec<FixedSection>| {
        sections.into_iter().map(|section| (section.id.to_owned(), section.html))
    };
    changing.extend(with_ids(sections.before_cards).map(render));
    changing.extend(sections.cards.into_iter().map(render));
    changing.extend(with_ids(sections.after_cards).map(render));
    changing
}

struct Sections {
    summary: Markup,
    before_cards: Vec<FixedSection>,
    /// Id and content of each card.
    cards: Vec<(String, Markup)>,
    after_cards: Vec<FixedSection>,
}

/// Section with a fixed id.
struct FixedSection {
    id: &'static str,
    html: Markup,
}

impl maud::Render for FixedSection {
    fn render(&self) -> Markup {
        self.html.clone()
    }
}

fn build_sections(
    snapshot: &Snapshot,
    filter: &PageFilter,
    detail: Option<&SourceDetail>,
) -> Sections {
    let mut before = Vec::new();
    let selected = detail.and_then(|detail| Some((detail, snapshot.source(&detail.name)?)));
    if let Some((detail, source)) = selected {
        before.push(FixedSection {
            id: "source-detail",
            html: source_detail::source_detail(detail, source, snapshot),
        });
    }
    before.push(FixedSection { id: "checks", html: checks::checks(snapshot) });
    let with_charts = snapshot.sources.len() <= cards::CARDS_WITH_CHART_MAX;
    let card = |source| (cards::card_id(source), cards::card(source, snapshot, with_charts));
    Sections {
        summary: summary::summary(snapshot),
        before_cards: before,
        cards: snapshot.sources.iter().map(card).collect(),
        after_cards: vec![
            FixedSection { id: "providers", html: providers::provider_grid(snapshot) },
            FixedSection { id: "heat", html: providers::heat_map(snapshot) },
            FixedSection { id: "trends", html: quotas::trend_charts(snapshot) },
            FixedSection { id: "alerts", html: alerts::alerts(snapshot, filter) },
        ],
    }
}

#[cfg(test)]
mod tests;
