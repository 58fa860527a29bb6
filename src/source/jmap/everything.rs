//! Lists all mails page by page: Email/query (RFC 8621 §4.4), oldest first.
//!
//! A page goes on after the last mail of the one before, found by its id (an
//! anchor, RFC 8620 §5.5), so that what comes and goes in front of it moves
//! nothing. New mail comes at the end. What else changes behind our back is in
//! the changes since the cursor that was pinned before.
//!
//! A page without ids is no end by itself: the last mail is asked for once more,
//! with the server's total, and what comes must prove it (`proof.rs`).

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::engine::{Cause, Failure, PageToken};
use crate::source::jmap::Jmap;
use crate::source::jmap::api::{Refused, call_within, room_for_ids};
use crate::source::jmap::filter::{self, Filter};
use crate::source::jmap::mail::{self, Email};
use crate::source::jmap::missing::{Asking, Missing};
use crate::source::jmap::place::{self, Trail};
use crate::source::jmap::proof::{End, Proof};
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
    anchors: Vec<Anchor>,
    /// The position behind the first anchor, as far as we know.
    listed: u64,
    restarts: u32,
    trail: Trail,
    proof: Proof,
    missing: Missing,
}

/// A mail that a listing can go on from.
#[derive(Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Anchor {
    id: String,
    /// How many were listed after it.
    followers: u64,
}

/// Where a query begins.
#[derive(Clone, Copy)]
enum Start<'a> {
    Position(u64),
    After(&'a str),
    /// With the mail itself.
    At(&'a str),
}

/// What a listing asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wish {
    Page,
    /// Whether the mail listed last is the last there is.
    End,
}

#[derive(Deserialize)]
struct Found {
    ids: Vec<String>,
    total: Option<u64>,
    /// Where the ids begin in the server's list, where it tells.
    position: Option<u64>,
    /// How many of the mails listed last lie behind where the ids begin.
    #[serde(skip)]
    followers: u64,
}

/// Returns the page behind `place`.
pub(super) async fn page(jmap: &Jmap, place: Option<&PageToken>) -> Result<Page, Failure> {
    let session = jmap.session().await?;
    let query = Query { jmap, session: &session, filter: filter::resolved(jmap, &session).await? };
    let mut stop = match place::read(place) {
        Some(stop) => stop,
        None => query.beginning().await?,
    };

    let mut found = query.behind(&mut stop, Wish::Page).await?;
    if found.ids.is_empty() {
        found = query.behind(&mut stop, Wish::End).await?;
    }
    let Some(last) = found.ids.last() else { return query.ended(stop, &found).await };
    stop.trail.step(last, found.ids.len())?;
    let listed = stop.listed.saturating_sub(found.followers);
    stop.listed = listed.saturating_add(number(found.ids.len()));
    stop.proof.go_back(found.followers);
    stop.anchors = anchors(&found.ids);

    let is_first = stop.proof.is_new();
    let mut seen = BTreeSet::new();
    let ids: Vec<String> = found.ids.into_iter().filter(|id| seen.insert(id.clone())).collect();
    stop.proof.note_page(number(ids.len()), found.position);
    let got = mail::find(jmap, &session, &ids, mail::LISTED).await?;
    if is_first {
        stop.proof.note_announced(found.total, got.state.as_deref());
    }
    let (late, missing) =
        stop.missing.settle(jmap, &session, got.missing, mail::LISTED, Asking::Later).await?;
    Ok(Page {
        entries: got.emails.into_iter().chain(late).map(Email::into_entry).collect(),
        missing,
        total: found.total,
        next: Next::More(place::write(&stop)),
    })
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// Picks the last mail of a page and some before it, ever farther apart.
fn anchors(ids: &[String]) -> Vec<Anchor> {
    let count = ids.len();
    let mut picked: Vec<usize> = [1, 2, count / 4, count / 2, count]
        .into_iter()
        .filter_map(|back| count.checked_sub(back))
        .collect();
    picked.retain(|&at| at < count);
    picked.sort_unstable_by(|one, other| other.cmp(one));
    picked.dedup();
    let anchor = |at: usize| Anchor { id: ids[at].clone(), followers: number(count - 1 - at) };
    picked.into_iter().map(anchor).collect()
}

struct Query<'a> {
    jmap: &'a Jmap,
    session: &'a Arc<Session>,
    filter: &'a Filter,
}

impl Query<'_> {
    /// A stop before the first page.
    async fn beginning(&self) -> Result<Stop, Failure> {
        let since = mail::state(self.jmap, self.session).await?;
        Ok(Stop { proof: Proof::new(since.as_str()), ..Stop::default() })
    }

    /// Judges an end of the server's list.
    async fn ended(&self, mut stop: Stop, found: &Found) -> Result<Page, Failure> {
        let (jmap, session) = (self.jmap, self.session);
        let total = found.total;
        let end = End { total, index: found.position, followers: found.followers };
        if let Some(why) = stop.proof.contradiction(jmap, session, self.filter, end).await? {
            let next = Next::Unproved { back: place::write(&stop), why };
            return Ok(Page { entries: Vec::new(), missing: Vec::new(), total, next });
        }
        let (late, missing) =
            stop.missing.settle(jmap, session, Vec::new(), mail::LISTED, Asking::Now).await?;
        let entries = late.into_iter().map(Email::into_entry).collect();
        Ok(Page { entries, missing, total, next: Next::Done(None) })
    }

    /// Finds what lies behind a stop, and corrects the stop's position to where that begins.
    async fn behind(&self, stop: &mut Stop, wish: Wish) -> Result<Found, Failure> {
        for anchor in &stop.anchors {
            let start = match wish {
                Wish::Page => Start::After(&anchor.id),
                Wish::End => Start::At(&anchor.id),
            };
            match self.query(start, wish).await {
                Ok(mut found) => {
                    if wish == Wish::End {
                        found.begin_behind_anchor(&anchor.id);
                    }
                    found.followers = anchor.followers;
                    return Ok(found);
                }
                Err(refused) if *refused.word == *"anchorNotFound" => {}
                // Apache James knows positions only.
                Err(refused) if *refused.word == *"invalidArguments" => {
                    return self.behind_position(stop, wish).await;
                }
                Err(refused) => return Err(refused.failure),
            }
        }
        self.anew(stop, wish).await
    }

    /// Without anchors: goes back from where the first anchor was until one is met.
    /// Had only the position counted, deleted mails would hide as many that are there.
    async fn behind_position(&self, stop: &mut Stop, wish: Wish) -> Result<Found, Failure> {
        let step = u64::from(self.page_size());
        let mut position = stop.listed.saturating_sub(1);
        loop {
            let mut found = self.query(Start::Position(position), wish).await?;
            let is_met = |id: &String| stop.anchors.iter().find(|anchor| anchor.id == *id);
            let met = found.ids.iter().enumerate().rev();
            let mut met = met.filter_map(|(at, id)| Some((at, is_met(id)?)));
            if let Some((at, anchor)) = met.next() {
                let followers = anchor.followers;
                let begin = position.saturating_add(number(at + 1));
                stop.listed = begin.saturating_add(followers);
                found.position = Some(position);
                found.begin_behind(at);
                if found.ids.is_empty() && wish == Wish::Page {
                    // The end, or a page that the server kept very short.
                    found = self.query(Start::Position(begin), wish).await?;
                }
                return Ok(Found { followers, ..found });
            }
            if position == 0 {
                return self.anew(stop, wish).await;
            }
            position = position.saturating_sub(step);
        }
    }

    async fn anew(&self, stop: &mut Stop, wish: Wish) -> Result<Found, Failure> {
        if !stop.anchors.is_empty() {
            let restarts = stop.restarts + 1;
            if RESTARTS_MAX < restarts {
                let why = "the list changes faster than it can be read";
                return Err(Failure::new(Cause::CursorExpired, why));
            }
            *stop = Stop { restarts, ..self.beginning().await? };
        }
        Ok(self.query(Start::Position(0), wish).await?)
    }

    async fn query(&self, start: Start<'_>, wish: Wish) -> Result<Found, Refused> {
        let sorted = json!([{"property": "receivedAt", "isAscending": true}]);
        match self.query_sorted(start, wish, Some(sorted)).await {
            // The server's own order serves too, as long as it keeps to it.
            Err(refused) if *refused.word == *"unsupportedSort" => {
                self.query_sorted(start, wish, None).await
            }
            result => result,
        }
    }

    async fn query_sorted(
        &self,
        start: Start<'_>,
        wish: Wish,
        sort: Option<Value>,
    ) -> Result<Found, Refused> {
        let mut arguments = json!({"limit": self.page_size()});
        // Counting may cost the server much: a progress bar needs it once, and the proof once more.
        if wish == Wish::End || matches!(start, Start::Position(0)) {
            arguments["calculateTotal"] = json!(true);
        }
        match start {
            Start::Position(position) => {
                arguments["position"] = json!(position);
            }
            Start::After(anchor) => {
                arguments["anchor"] = json!(anchor);
                arguments["anchorOffset"] = json!(1);
            }
            Start::At(anchor) => {
                arguments["anchor"] = json!(anchor);
                arguments["anchorOffset"] = json!(0);
            }
        }
        if let Some(sort) = sort {
            arguments["sort"] = sort;
        }
        if let Some(condition) = self.filter.condition() {
            arguments["filter"] = condition;
        }
        // What a server names beyond the limit is behind the last id that is kept, as if it had kept to it.
        let room = room_for_ids(usize::try_from(self.page_size()).unwrap_or(usize::MAX));
        call_within(self.jmap, self.session, "Email/query", arguments, Some(room)).await
    }

    fn page_size(&self) -> u32 {
        self.session.page_size(self.jmap.options.page_size_max)
    }
}

impl Found {
    /// Leaves the anchor out that was asked for. Without it, nothing is known of where it is.
    fn begin_behind_anchor(&mut self, anchor: &str) {
        if self.ids.first().is_some_and(|first| first == anchor) {
            self.begin_behind(0);
        } else {
            self.position = None;
        }
    }

    /// Leaves out what is listed already, up to the mail with this index.
    fn begin_behind(&mut self, at: usize) {
        self.ids.drain(..=at);
        self.position = self.position.map(|position| position.saturating_add(number(at + 1)));
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
        let picked = |count| {
            let anchors = anchors(&ids(count)).into_iter();
            anchors.map(|anchor| (anchor.id, anchor.followers)).collect::<Vec<_>>()
        };
        let at = |id: &str, followers| (id.to_owned(), followers);

        let expected = [at("99", 0), at("98", 1), at("75", 24), at("50", 49), at("0", 99)];
        assert_eq!(picked(100), expected);
        assert_eq!(picked(2), [at("1", 0), at("0", 1)]);
        assert_eq!(picked(1), [at("0", 0)]);
        assert!(picked(0).is_empty());
    }
}
