//! Lists all emails page by page: Email/query (RFC 8621 §4.4), oldest first.
//!
//! A page continues after the last email of the previous page, found by its id (an anchor, RFC 8620
//! §5.5), so that emails added or deleted before it shift nothing. New email appears at the end.
//! Other changes during the listing are in the changes since the cursor that was read before it.
//!
//! A page without ids alone does not prove the end: the last email is requested once more, with the
//! server's total, and the result must pass the check in `completeness.rs`.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::engine::{Cause, Failure, PageToken};
use crate::source::jmap::JmapSource;
use crate::source::jmap::api::{MethodCallError, call_limited, limits_for_ids};
use crate::source::jmap::completeness::{CompletenessCheck, ListEnd};
use crate::source::jmap::filter::{self, MailFilter};
use crate::source::jmap::mail::{self, Email};
use crate::source::jmap::missing::{MissingIds, RefetchTiming};
use crate::source::jmap::page_token::{self, CycleDetector};
use crate::source::jmap::session::JmapSession;
use crate::source::{NextPage, Page};

/// Maximum restarts of a listing that has lost its position. Whole pages rarely vanish between two
/// requests; if it keeps happening, the listing fails as if its cursor had expired.
const RESTARTS_MAX: u32 = 3;

/// Position in a full listing.
#[derive(Debug, Default, Deserialize, Serialize)]
struct QueryPosition {
    /// Emails of the last page, last one first: if one vanishes, the next is used.
    anchors: Vec<ListAnchor>,
    /// Position after the first anchor, as far as known.
    #[serde(rename = "listed")]
    next_position: u64,
    restarts: u32,
    #[serde(rename = "trail")]
    cycle_detector: CycleDetector,
    #[serde(rename = "proof")]
    completeness: CompletenessCheck,
    missing: MissingIds,
}

/// Email after which a listing can continue.
#[derive(Debug, Deserialize, Eq, PartialEq, Serialize)]
struct ListAnchor {
    id: String,
    /// Number of emails listed after it.
    #[serde(rename = "followers")]
    listed_after: u64,
}

/// Start of a query.
#[derive(Clone, Copy)]
enum QueryStart<'a> {
    Position(u64),
    After(&'a str),
    /// Includes the email itself.
    At(&'a str),
}

/// Purpose of a query.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum QueryTarget {
    Page,
    /// Check whether the email listed last is the last in the list.
    ListEnd,
}

#[derive(Deserialize)]
struct QueryResponse {
    ids: Vec<String>,
    total: Option<u64>,
    /// Position of the first id in the server's list, if the server reports it.
    position: Option<u64>,
    /// Number of the emails listed last that come after the start of these ids.
    #[serde(skip)]
    listed_after: u64,
}

/// Returns the page after the token `place`.
pub(super) async fn list_page(
    jmap: &JmapSource,
    place: Option<&PageToken>,
) -> Result<Page, Failure> {
    let session = jmap.session().await?;
    let query =
        EmailQuery { jmap, session: &session, filter: filter::resolve(jmap, &session).await? };
    let mut stop = match page_token::decode(place) {
        Some(stop) => stop,
        None => query.initial_position().await?,
    };

    let mut found = query.query_after(&mut stop, QueryTarget::Page).await?;
    if found.ids.is_empty() {
        found = query.query_after(&mut stop, QueryTarget::ListEnd).await?;
    }
    let Some(last) = found.ids.last() else { return query.finish_listing(stop, &found).await };
    stop.cycle_detector.step(last, found.ids.len())?;
    let listed = stop.next_position.saturating_sub(found.listed_after);
    stop.next_position = listed.saturating_add(to_u64(found.ids.len()));
    stop.completeness.rewind(found.listed_after);
    stop.anchors = pick_anchors(&found.ids);

    let is_first = stop.completeness.is_first_page();
    let mut seen = BTreeSet::new();
    let ids: Vec<String> = found.ids.into_iter().filter(|id| seen.insert(id.clone())).collect();
    stop.completeness.record_page(to_u64(ids.len()), found.position);
    let got = mail::find_emails(jmap, &session, &ids, mail::LIST_PROPERTIES).await?;
    if is_first {
        stop.completeness.record_initial_total(found.total, got.state.as_deref());
    }
    let (late, missing) = stop
        .missing
        .refetch(jmap, &session, got.missing, mail::LIST_PROPERTIES, RefetchTiming::Later)
        .await?;
    Ok(Page {
        entries: got.emails.into_iter().chain(late).map(Email::into_listed_document).collect(),
        missing_documents: missing,
        total_documents: found.total,
        next: NextPage::More(page_token::encode(&stop)),
    })
}

fn to_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// Returns the last email of a page and some before it, at growing distances.
fn pick_anchors(ids: &[String]) -> Vec<ListAnchor> {
    let count = ids.len();
    let mut picked: Vec<usize> = [1, 2, count / 4, count / 2, count]
        .into_iter()
        .filter_map(|back| count.checked_sub(back))
        .collect();
    picked.retain(|&at| at < count);
    picked.sort_unstable_by(|one, other| other.cmp(one));
    picked.dedup();
    let anchor =
        |at: usize| ListAnchor { id: ids[at].clone(), listed_after: to_u64(count - 1 - at) };
    picked.into_iter().map(anchor).collect()
}

struct EmailQuery<'a> {
    jmap: &'a JmapSource,
    session: &'a Arc<JmapSession>,
    filter: &'a MailFilter,
}

impl EmailQuery<'_> {
    /// Returns the position before the first page.
    async fn initial_position(&self) -> Result<QueryPosition, Failure> {
        let since = mail::fetch_state(self.jmap, self.session).await?;
        Ok(QueryPosition {
            completeness: CompletenessCheck::new(since.as_str()),
            ..QueryPosition::default()
        })
    }

    /// Checks an end of the server's list, and finishes the listing or reports it as unverified.
    async fn finish_listing(
        &self,
        mut stop: QueryPosition,
        found: &QueryResponse,
    ) -> Result<Page, Failure> {
        let (jmap, session) = (self.jmap, self.session);
        let total = found.total;
        let end = ListEnd { total, index: found.position, vanished: found.listed_after };
        if let Some(why) =
            stop.completeness.find_contradiction(jmap, session, self.filter, end).await?
        {
            let next = NextPage::Unverified { resume_from: page_token::encode(&stop), reason: why };
            return Ok(Page {
                entries: Vec::new(),
                missing_documents: Vec::new(),
                total_documents: total,
                next,
            });
        }
        let (late, missing) = stop
            .missing
            .refetch(jmap, session, Vec::new(), mail::LIST_PROPERTIES, RefetchTiming::Now)
            .await?;
        let entries = late.into_iter().map(Email::into_listed_document).collect();
        Ok(Page {
            entries,
            missing_documents: missing,
            total_documents: total,
            next: NextPage::Done(None),
        })
    }

    /// Queries the emails after a position, and corrects the position to the start of the result.
    async fn query_after(
        &self,
        stop: &mut QueryPosition,
        wish: QueryTarget,
    ) -> Result<QueryResponse, Failure> {
        for anchor in &stop.anchors {
            let start = match wish {
                QueryTarget::Page => QueryStart::After(&anchor.id),
                QueryTarget::ListEnd => QueryStart::At(&anchor.id),
            };
            match self.send(start, wish).await {
                Ok(mut found) => {
                    if wish == QueryTarget::ListEnd {
                        found.skip_anchor(&anchor.id);
                    }
                    found.listed_after = anchor.listed_after;
                    return Ok(found);
                }
                Err(refused) if *refused.error_type == *"anchorNotFound" => {}
                // Apache James supports positions only.
                Err(refused) if *refused.error_type == *"invalidArguments" => {
                    return self.query_after_position(stop, wish).await;
                }
                Err(refused) => return Err(refused.failure),
            }
        }
        self.restart(stop, wish).await
    }

    /// Queries without anchors: steps back from the first anchor's position until an anchor is
    /// found. The position alone would skip as many emails as were deleted before it.
    async fn query_after_position(
        &self,
        stop: &mut QueryPosition,
        wish: QueryTarget,
    ) -> Result<QueryResponse, Failure> {
        let step = u64::from(self.page_size());
        let mut position = stop.next_position.saturating_sub(1);
        loop {
            let mut found = self.send(QueryStart::Position(position), wish).await?;
            let is_met = |id: &String| stop.anchors.iter().find(|anchor| anchor.id == *id);
            let met = found.ids.iter().enumerate().rev();
            let mut met = met.filter_map(|(at, id)| Some((at, is_met(id)?)));
            if let Some((at, anchor)) = met.next() {
                let followers = anchor.listed_after;
                let begin = position.saturating_add(to_u64(at + 1));
                stop.next_position = begin.saturating_add(followers);
                found.position = Some(position);
                found.skip_through(at);
                if found.ids.is_empty() && wish == QueryTarget::Page {
                    // This is the end of the list, or the server returned a very short page.
                    found = self.send(QueryStart::Position(begin), wish).await?;
                }
                return Ok(QueryResponse { listed_after: followers, ..found });
            }
            if position == 0 {
                return self.restart(stop, wish).await;
            }
            position = position.saturating_sub(step);
        }
    }

    async fn restart(
        &self,
        stop: &mut QueryPosition,
        wish: QueryTarget,
    ) -> Result<QueryResponse, Failure> {
        if !stop.anchors.is_empty() {
            let restarts = stop.restarts + 1;
            if RESTARTS_MAX < restarts {
                let why = "the list changes faster than it can be read";
                return Err(Failure::new(Cause::CursorExpired, why));
            }
            *stop = QueryPosition { restarts, ..self.initial_position().await? };
        }
        Ok(self.send(QueryStart::Position(0), wish).await?)
    }

    async fn send(
        &self,
        start: QueryStart<'_>,
        wish: QueryTarget,
    ) -> Result<QueryResponse, MethodCallError> {
        let sorted = json!([{"property": "receivedAt", "isAscending": true}]);
        match self.send_sorted(start, wish, Some(sorted)).await {
            // The server's own order works too, as long as it is stable.
            Err(refused) if *refused.error_type == *"unsupportedSort" => {
                self.send_sorted(start, wish, None).await
            }
            result => result,
        }
    }

    async fn send_sorted(
        &self,
        start: QueryStart<'_>,
        wish: QueryTarget,
        sort: Option<Value>,
    ) -> Result<QueryResponse, MethodCallError> {
        let mut arguments = json!({"limit": self.page_size()});
        // Counting may be expensive for the server: progress needs it once, the completeness check
        // once more.
        if wish == QueryTarget::ListEnd || matches!(start, QueryStart::Position(0)) {
            arguments["calculateTotal"] = json!(true);
        }
        match start {
            QueryStart::Position(position) => {
                arguments["position"] = json!(position);
            }
            QueryStart::After(anchor) => {
                arguments["anchor"] = json!(anchor);
                arguments["anchorOffset"] = json!(1);
            }
            QueryStart::At(anchor) => {
                arguments["anchor"] = json!(anchor);
                arguments["anchorOffset"] = json!(0);
            }
        }
        if let Some(sort) = sort {
            arguments["sort"] = sort;
        }
        if let Some(condition) = self.filter.to_query_condition() {
            arguments["filter"] = condition;
        }
        // Ids beyond the limit come after the last id that is kept, as if the server had respected
        // the limit.
        let room = limits_for_ids(usize::try_from(self.page_size()).unwrap_or(usize::MAX));
        call_limited(self.jmap, self.session, "Email/query", arguments, Some(room)).await
    }

    fn page_size(&self) -> u32 {
        self.session.page_size(self.jmap.options.page_size_max)
    }
}

impl QueryResponse {
    /// Removes the requested anchor. If it is not there, the position is unknown.
    fn skip_anchor(&mut self, anchor: &str) {
        if self.ids.first().is_some_and(|first| first == anchor) {
            self.skip_through(0);
        } else {
            self.position = None;
        }
    }

    /// Removes the ids that are listed already, up to the one with this index.
    fn skip_through(&mut self, at: usize) {
        self.ids.drain(..=at);
        self.position = self.position.map(|position| position.saturating_add(to_u64(at + 1)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered_ids(count: usize) -> Vec<String> {
        (0..count).map(|id| id.to_string()).collect()
    }

    #[test]
    fn anchors_spread_backwards_from_the_end_of_the_page() {
        let picked = |count| {
            let anchors = pick_anchors(&numbered_ids(count)).into_iter();
            anchors.map(|anchor| (anchor.id, anchor.listed_after)).collect::<Vec<_>>()
        };
        let at = |id: &str, followers| (id.to_owned(), followers);

        let expected = [at("99", 0), at("98", 1), at("75", 24), at("50", 49), at("0", 99)];
        assert_eq!(picked(100), expected);
        assert_eq!(picked(2), [at("1", 0), at("0", 1)]);
        assert_eq!(picked(1), [at("0", 0)]);
        assert!(picked(0).is_empty());
    }
}
