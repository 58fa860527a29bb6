//! The page for people: written here as a whole, so that it needs no script, and kept up to date
//! section by section where there is one. All text is escaped where it is put in.

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

use crate::endpoint::route::PageFilter;
use crate::endpoint::view::{FailedItem, LookupError, Snapshot, StateTransition};

pub(super) const STYLESHEET: &str = include_str!("style.css");
pub(super) const SCRIPT: &str = include_str!("live.js");
pub(super) const ICON: &str = include_str!("icon.svg");

/// How often a page without a script loads itself again, in seconds: six of its sixty requests a
/// minute, three each time.
const REFRESH_SECONDS: u32 = 10;

/// Entries of the lists about one source: what fits before a person would rather use the command.
pub(super) const DETAIL_ROWS_MAX: usize = 50;

/// A part of the page that is replaced when it changes.
#[derive(Debug)]
pub(super) struct PageSection {
    /// Of its element.
    pub(super) id: String,
    pub(super) html: String,
}

/// One source from near.
#[derive(Debug)]
pub(super) struct SourceDetail {
    pub(super) name: String,
    pub(super) history: Result<Vec<StateTransition>, LookupError>,
    pub(super) failures: Result<Vec<FailedItem>, LookupError>,
}

/// The whole page.
pub(super) fn render_page(
    snapshot: &Snapshot,
    focus: &PageFilter,
    near: Option<&SourceDetail>,
) -> String {
    let parts = build_sections(snapshot, focus, near);
    let content = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                title { (snapshot.level.name()) " · Cynosure" }
                link rel="icon" href="icon.svg" type="image/svg+xml";
                link rel="stylesheet" href="style.css";
                script src="live.js" defer {}
                noscript { meta http-equiv="refresh" content=(REFRESH_SECONDS); }
            }
            body {
                a .skip href="#content" { "Skip to the content" }
                (parts.summary)
                main #content tabindex="-1" {
                    @if let Some(name) = focus.source.as_ref().filter(|_| near.is_none()) {
                        p .note { "There is no source named " strong { (name) } ". " a href="/" { "Show all" } }
                    }
                    @for part in &parts.before_cards { (part) }
                    section aria-labelledby="sources-title" {
                        h2 #sources-title { "Sources" }
                        @if parts.cards.is_empty() {
                            p .note { "No source yet: add a [source.NAME] table to the configuration." }
                        }
                        div .cards .many[parts.cards.len() > cards::CARDS_WITH_CHART_MAX] {
                            @for (_, card) in &parts.cards { (card) }
                        }
                    }
                    @for part in &parts.after_cards { (part) }
                }
                footer {
                    p {
                        "Cynosure " (env!("CARGO_PKG_VERSION")) " · for programs: "
                        a href="health" { "health" } ", " a href="metrics" { "metrics" } ", "
                        a href="api/health/overview" { "JSON" } ", "
                        a href="api/openapi.json" { "OpenAPI" }
                    }
                    p { "Times are those of the machine that is watched." }
                    noscript { p { "Without a script the page loads itself again every " (REFRESH_SECONDS) " seconds." } }
                }
            }
        }
    };
    content.into_string()
}

/// The sections that change, in the order of the page.
pub(super) fn changing_sections(
    snapshot: &Snapshot,
    focus: &PageFilter,
    near: Option<&SourceDetail>,
) -> Vec<PageSection> {
    let parts = build_sections(snapshot, focus, near);
    let named = |(id, html): (String, Markup)| PageSection { id, html: html.into_string() };
    let mut sections = vec![named(("summary".to_owned(), parts.summary))];
    let ids =
        |parts: Vec<FixedSection>| parts.into_iter().map(|part| (part.id.to_owned(), part.html));
    sections.extend(ids(parts.before_cards).map(named));
    sections.extend(parts.cards.into_iter().map(named));
    sections.extend(ids(parts.after_cards).map(named));
    sections
}

struct Sections {
    summary: Markup,
    before_cards: Vec<FixedSection>,
    /// With the id of each.
    cards: Vec<(String, Markup)>,
    after_cards: Vec<FixedSection>,
}

/// A section with its fixed id.
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
    focus: &PageFilter,
    near: Option<&SourceDetail>,
) -> Sections {
    let mut before = Vec::new();
    let seen = near.and_then(|near| Some((near, snapshot.source(&near.name)?)));
    if let Some((near, source)) = seen {
        before.push(FixedSection {
            id: "near",
            html: source_detail::source_detail(near, source, snapshot),
        });
    }
    before.push(FixedSection { id: "checks", html: checks::checks(snapshot) });
    let is_spacious = snapshot.sources.len() <= cards::CARDS_WITH_CHART_MAX;
    let card = |source| (cards::card_id(source), cards::card(source, snapshot, is_spacious));
    Sections {
        summary: summary::summary(snapshot),
        before_cards: before,
        cards: snapshot.sources.iter().map(card).collect(),
        after_cards: vec![
            FixedSection { id: "providers", html: providers::provider_grid(snapshot) },
            FixedSection { id: "heat", html: providers::heat_map(snapshot) },
            FixedSection { id: "trends", html: quotas::trend_charts(snapshot) },
            FixedSection { id: "alerts", html: alerts::alerts(snapshot, focus) },
        ],
    }
}

#[cfg(test)]
mod tests;
