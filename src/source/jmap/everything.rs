//! Lists all mails page by page: Email/query (RFC 8621 §4.4), oldest first.
//!
//! A page goes on after the last mail of the one before, found by its id (an
//! anchor, RFC 8620 §5.5), so that what comes and goes in front of it moves
//! nothing. New mail comes at the end. What else changes behind our back is in
//! the changes since the cursor that was pinned before.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::engine::{Cause, Failure, Place};
use crate::source::jmap::Jmap;
use crate::source::jmap::api::{Refused, call};
use crate::source::jmap::filter::{self, Filter};
use crate::source::jmap::mail;
use crate::source::jmap::place::{self, Trail};
use crate::source::jmap::session::Session;
use crate::source::{Next, Page};

/// How often a listing may lose its way and begin anew. Whole pages that vanish
/// between two requests are rare; a list that always does is collected as one
/// whose cursor is lost.
const RESTARTS_MAX: u32 = 3;

/// How far a listing has come.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Stop {
    /// Mails of the last page, the last one first: should it vanish, the next serves.
    anchors: Vec<String>,
    /// The position behind the first anchor, as far as we know.
    listed: u64,
    restarts: u32,
    trail: Trail,
}

/// Where a query begins.
#[derive(Clone, Copy)]
enum Start<'a> {
    Position(u64),
    After(&'a str),
}

#[derive(Deserialize)]
struct Found {
    ids: Vec<String>,
    total: Option<u64>,
}

/// Returns the page behind `place`.
pub(super) async fn page(jmap: &Jmap, place: Option<&Place>) -> Result<Page, Failure> {
    let session = jmap.session().await?;
    let listing =
        Query { jmap, session: &session, filter: filter::resolved(jmap, &session).await? };
    let mut stop: Stop = place::read(place).unwrap_or_default();

    let found = listing.behind(&mut stop).await?;
    let Some(last) = found.ids.last() else {
        return Ok(Page { entries: Vec::new(), total: found.total, next: Next::Done(None) });
    };
    stop.trail.step(last, found.ids.len())?;
    stop.listed = stop.listed.saturating_add(u64::try_from(found.ids.len()).unwrap_or(u64::MAX));
    stop.anchors = anchors(&found.ids);

    let mut seen = BTreeSet::new();
    let ids: Vec<String> = found.ids.into_iter().filter(|id| seen.insert(id.clone())).collect();
    let emails = mail::emails(jmap, &session, &ids, mail::LISTED).await?;
    Ok(Page {
        entries: emails.into_iter().map(mail::Email::into_entry).collect(),
        total: found.total,
        next: Next::More(place::write(&stop)),
    })
}

/// Picks the last mail of a page and some before it, ever farther apart.
fn anchors(ids: &[String]) -> Vec<String> {
    let count = ids.len();
    let mut picked: Vec<usize> = [1, 2, count / 4, count / 2, count]
        .into_iter()
        .filter_map(|back| count.checked_sub(back))
        .collect();
    picked.retain(|&at| at < count);
    picked.sort_unstable_by(|one, other| other.cmp(one));
    picked.dedup();
    picked.into_iter().map(|at| ids[at].clone()).collect()
}

struct Query<'a> {
    jmap: &'a Jmap,
    session: &'a Arc<Session>,
    filter: &'a Filter,
}

impl Query<'_> {
    /// Finds what lies behind a stop, and corrects the stop's position to where that begins.
    async fn behind(&self, stop: &mut Stop) -> Result<Found, Failure> {
        for anchor in &stop.anchors {
            match self.query(Start::After(anchor)).await {
                Ok(found) => return Ok(found),
                Err(refused) if refused.word == "anchorNotFound" => {}
                // Apache James knows positions only.
                Err(refused) if refused.word == "invalidArguments" => {
                    return self.behind_position(stop).await;
                }
                Err(refused) => return Err(refused.failure),
            }
        }
        self.anew(stop).await
    }

    /// Without anchors: goes back from where the first anchor was until one is met.
    /// Had only the position counted, deleted mails would hide as many that are there.
    async fn behind_position(&self, stop: &mut Stop) -> Result<Found, Failure> {
        let step = u64::from(self.page_size());
        let mut position = stop.listed.saturating_sub(1);
        loop {
            let mut found = self.query(Start::Position(position)).await.map_err(Failure::from)?;
            if let Some(at) = found.ids.iter().rposition(|id| stop.anchors.contains(id)) {
                found.ids.drain(..=at);
                stop.listed = position.saturating_add(u64::try_from(at + 1).unwrap_or(u64::MAX));
                if found.ids.is_empty() {
                    // The end, or a page that the server kept very short.
                    return Ok(self.query(Start::Position(stop.listed)).await?);
                }
                return Ok(found);
            }
            if position == 0 {
                return self.anew(stop).await;
            }
            position = position.saturating_sub(step);
        }
    }

    async fn anew(&self, stop: &mut Stop) -> Result<Found, Failure> {
        let restarts = if stop.anchors.is_empty() { 0 } else { stop.restarts + 1 };
        if RESTARTS_MAX < restarts {
            let why = "the list changes faster than it can be read";
            return Err(Failure::new(Cause::CursorExpired, why));
        }
        *stop = Stop { restarts, ..Stop::default() };
        Ok(self.query(Start::Position(0)).await?)
    }

    async fn query(&self, start: Start<'_>) -> Result<Found, Refused> {
        let sorted = json!([{"property": "receivedAt", "isAscending": true}]);
        match self.query_sorted(start, Some(sorted)).await {
            // The server's own order serves too, as long as it keeps to it.
            Err(refused) if refused.word == "unsupportedSort" => {
                self.query_sorted(start, None).await
            }
            result => result,
        }
    }

    async fn query_sorted(&self, start: Start<'_>, sort: Option<Value>) -> Result<Found, Refused> {
        let mut arguments = json!({"limit": self.page_size()});
        match start {
            Start::Position(position) => {
                arguments["position"] = json!(position);
                // Counting may cost the server much, and once is enough for a progress bar.
                arguments["calculateTotal"] = json!(position == 0);
            }
            Start::After(anchor) => {
                arguments["anchor"] = json!(anchor);
                arguments["anchorOffset"] = json!(1);
            }
        }
        if let Some(sort) = sort {
            arguments["sort"] = sort;
        }
        if let Some(condition) = self.filter.condition() {
            arguments["filter"] = condition;
        }
        call(self.jmap, self.session, "Email/query", arguments).await
    }

    fn page_size(&self) -> u32 {
        self.session.page_size(self.jmap.options.page_size_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(count: usize) -> Vec<String> {
        (0..count).map(|id| id.to_string()).collect()
    }

    #[test]
    fn anchors_begin_with_the_last_and_reach_back_over_the_page() {
        assert_eq!(anchors(&ids(100)), ["99", "98", "75", "50", "0"]);
        assert_eq!(anchors(&ids(2)), ["1", "0"]);
        assert_eq!(anchors(&ids(1)), ["0"]);
        assert!(anchors(&[]).is_empty());
    }
}
