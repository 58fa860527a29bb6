//! The page for people: written here as a whole, so that it needs no script, and kept up to date
//! section by section where there is one. All text is escaped where it is put in.

mod alerts;
mod cards;
mod chart;
mod checks;
mod list;
mod mark;
mod near;
mod providers;
mod quotas;
mod summary;

use maud::{DOCTYPE, Markup, html};

use crate::endpoint::route::Focus;
use crate::endpoint::view::{Failed, Passed, Snapshot, Untold};

pub(super) const STYLE: &str = include_str!("style.css");
pub(super) const SCRIPT: &str = include_str!("live.js");
pub(super) const ICON: &str = include_str!("icon.svg");

/// How often a page without a script loads itself again, in seconds: six of its sixty requests a
/// minute, three each time.
const REFRESH_SECONDS: u32 = 10;

/// Entries of the lists about one source: what fits before a person would rather use the command.
pub(super) const NEAR_MAX: usize = 50;

/// A part of the page that is replaced when it changes.
#[derive(Debug)]
pub(super) struct Section {
    /// Of its element.
    pub(super) id: String,
    pub(super) html: String,
}

/// One source from near.
#[derive(Debug)]
pub(super) struct Near {
    pub(super) name: String,
    pub(super) history: Result<Vec<Passed>, Untold>,
    pub(super) failures: Result<Vec<Failed>, Untold>,
}

/// The whole page.
pub(super) fn whole(snapshot: &Snapshot, focus: &Focus, near: Option<&Near>) -> String {
    let parts = parts(snapshot, focus, near);
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
                    @for part in &parts.before { (part) }
                    section aria-labelledby="sources-title" {
                        h2 #sources-title { "Sources" }
                        @if parts.cards.is_empty() {
                            p .note { "No source yet: add a [source.NAME] table to the configuration." }
                        }
                        div .cards .many[parts.cards.len() > cards::SPACIOUS_MAX] {
                            @for (_, card) in &parts.cards { (card) }
                        }
                    }
                    @for part in &parts.after { (part) }
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
pub(super) fn sections(snapshot: &Snapshot, focus: &Focus, near: Option<&Near>) -> Vec<Section> {
    let parts = parts(snapshot, focus, near);
    let named = |(id, html): (String, Markup)| Section { id, html: html.into_string() };
    let mut sections = vec![named(("summary".to_owned(), parts.summary))];
    let ids = |parts: Vec<Part>| parts.into_iter().map(|part| (part.id.to_owned(), part.html));
    sections.extend(ids(parts.before).map(named));
    sections.extend(parts.cards.into_iter().map(named));
    sections.extend(ids(parts.after).map(named));
    sections
}

struct Parts {
    summary: Markup,
    before: Vec<Part>,
    /// With the id of each.
    cards: Vec<(String, Markup)>,
    after: Vec<Part>,
}

/// A section with its fixed id.
struct Part {
    id: &'static str,
    html: Markup,
}

impl maud::Render for Part {
    fn render(&self) -> Markup {
        self.html.clone()
    }
}

fn parts(snapshot: &Snapshot, focus: &Focus, near: Option<&Near>) -> Parts {
    let mut before = Vec::new();
    let seen = near.and_then(|near| Some((near, snapshot.source(&near.name)?)));
    if let Some((near, source)) = seen {
        before.push(Part { id: "near", html: near::near(near, source, snapshot) });
    }
    before.push(Part { id: "checks", html: checks::checks(snapshot) });
    let is_spacious = snapshot.sources.len() <= cards::SPACIOUS_MAX;
    let card = |source| (cards::id(source), cards::card(source, snapshot, is_spacious));
    Parts {
        summary: summary::summary(snapshot),
        before,
        cards: snapshot.sources.iter().map(card).collect(),
        after: vec![
            Part { id: "providers", html: providers::grid(snapshot) },
            Part { id: "heat", html: providers::heat(snapshot) },
            Part { id: "trends", html: quotas::trends(snapshot) },
            Part { id: "alerts", html: alerts::alerts(snapshot, focus) },
        ],
    }
}

#[cfg(test)]
mod tests;
