//! Lists all emails page by page: Email/query (RFC 8621 §4.4), oldest first.
//!
//! A page continues after the last email of the previous page, found by its id (an anchor, RFC 8620
//! §5.5), so that emails added or deleted before it shift nothing. New email appears at the end.
//! Other changes during the listing are in the changes since the cursor that was read before it.
//!
//! Each listing reads the names of the mailboxes again, because no change of an email reports that
//! one was renamed.
//!
//! A page without ids alone does not prove the end: the last email is requested once more, with the
//! server's total, and the result must pass the check in `completeness.rs`.

use std::collections::BTreeSet;
use std::sync::Arc;

use cynosure_engine::{Cause, Failure, NextPage, PageToken};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::source::jmap::api::{MethodCallError, call_limited, limits_for_ids};
use crate::source::jmap::completeness::{CompletenessCheck, ListEnd};
use crate::source::jmap::filter::MailFilter;
use crate::source::jmap::missing::{MissingIds, RefetchTiming};
use crate::source::jmap::session::JmapSession;
use crate::source::jmap::source::JmapSource;
use crate::source::jmap::{email, email_folders, email_get, mailboxes};
use crate::source::page_token::{self, CycleDetector, EMPTY_PAGES_MAX};
use crate::source::{Page, UnverifiedEnd};

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
    /// Number of emails listed already that come after the anchor: these ids contain them again,
    /// unless they have vanished.
    #[serde(skip)]
    listed_after: u64,
}

/// Returns the page after `token`.
pub(super) async fn list_page(
    jmap: &JmapSource,
    token: Option<&PageToken>,
) -> Result<Page, Failure> {
    let session = jmap.session().await?;
    if token.is_none() {
        session.mailbox_paths.lock().await.clear();
        jmap.has_refused_mailboxes.set(false);
    }
    let query = EmailQuery {
        jmap,
        session: &session,
        filter: mailboxes::resolve_filter(jmap, &session).await?,
    };
    let mut position = match page_token::decode(token) {
        Some(position) => position,
        None => query.initial_position().await?,
    };

    let mut response = query.query_after(&mut position, QueryTarget::Page).await?;
    if response.ids.is_empty() {
        response = query.query_after(&mut position, QueryTarget::ListEnd).await?;
    }
    let Some(last) = response.ids.last() else {
        return query.finish_listing(position, &response).await;
    };
    position.cycle_detector.step(last, response.ids.len(), EMPTY_PAGES_MAX)?;
    let listed = position.next_position.saturating_sub(response.listed_after);
    position.next_position = listed.saturating_add(to_u64(response.ids.len()));
    position.completeness.rewind(response.listed_after);
    position.anchors = pick_anchors(&response.ids);

    let is_first = position.completeness.is_first_page();
    let mut seen = BTreeSet::new();
    let ids: Vec<String> = response.ids.into_iter().filter(|id| seen.insert(id.clone())).collect();
    position.completeness.record_page(to_u64(ids.len()), response.position);
    let fetched = email_get::find_emails(jmap, &session, &ids, email::LIST_PROPERTIES).await?;
    if is_first {
        position.completeness.record_initial_total(response.total, fetched.state.as_deref());
    }
    let (refetched, missing) = position
        .missing
        .refetch(jmap, &session, fetched.missing, email::LIST_PROPERTIES, RefetchTiming::Later)
        .await?;
    let emails = fetched.emails.into_iter().chain(refetched).collect();
    Ok(Page {
        entries: email_folders::to_listed_documents(jmap, &session, emails).await?,
        missing_documents: missing,
        total_documents: response.total,
        vanished: Vec::new(),
        next: Ok(NextPage::More(page_token::encode(&position))),
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
        .filter_map(|distance| count.checked_sub(distance))
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
        let since = email_get::fetch_state(self.jmap, self.session).await?;
        Ok(QueryPosition {
            completeness: CompletenessCheck::new(since.as_str()),
            ..QueryPosition::default()
        })
    }

    /// Checks an end of the server's list, and finishes the listing or reports it as unverified.
    async fn finish_listing(
        &self,
        mut position: QueryPosition,
        response: &QueryResponse,
    ) -> Result<Page, Failure> {
        let (jmap, session) = (self.jmap, self.session);
        let total = response.total;
        let end = ListEnd { total, index: response.position, vanished: response.listed_after };
        if let Some(reason) =
            position.completeness.find_contradiction(jmap, session, self.filter, end).await?
        {
            let resume_from = page_token::encode(&position);
            return Ok(Page {
                entries: Vec::new(),
                missing_documents: Vec::new(),
                total_documents: total,
                vanished: Vec::new(),
                next: Err(UnverifiedEnd { resume_from, reason }),
            });
        }
        let (refetched, missing) = position
            .missing
            .refetch(jmap, session, Vec::new(), email::LIST_PROPERTIES, RefetchTiming::Now)
            .await?;
        Ok(Page {
            entries: email_folders::to_listed_documents(jmap, session, refetched).await?,
            missing_documents: missing,
            total_documents: total,
            vanished: Vec::new(),
            next: Ok(NextPage::Done(None)),
        })
    }

    /// Queries the emails after a position, and corrects the position to the start of the result.
    async fn query_after(
        &self,
        position: &mut QueryPosition,
        target: QueryTarget,
    ) -> Result<QueryResponse, Failure> {
        for anchor in &position.anchors {
            let start = match target {
                QueryTarget::Page => QueryStart::After(&anchor.id),
                QueryTarget::ListEnd => QueryStart::At(&anchor.id),
            };
            match self.send(start, target).await {
                Ok(mut response) => {
                    if target == QueryTarget::ListEnd {
                        response.skip_anchor(&anchor.id);
                    }
                    response.listed_after = anchor.listed_after;
                    return Ok(response);
                }
                Err(error) if *error.error_type == *"anchorNotFound" => {}
                // Apache James supports positions only.
                Err(error) if *error.error_type == *"invalidArguments" => {
                    return self.query_after_position(position, target).await;
                }
                Err(error) => return Err(error.failure),
            }
        }
        self.restart(position, target).await
    }

    /// Queries without anchors: steps back from the first anchor's position until an anchor is
    /// found. The position alone would skip as many emails as were deleted before it.
    async fn query_after_position(
        &self,
        position: &mut QueryPosition,
        target: QueryTarget,
    ) -> Result<QueryResponse, Failure> {
        let step = u64::from(self.page_size());
        let mut start = position.next_position.saturating_sub(1);
        loop {
            let mut response = self.send(QueryStart::Position(start), target).await?;
            let matching_anchor =
                |id: &String| position.anchors.iter().find(|anchor| anchor.id == *id);
            let ids_from_end = response.ids.iter().enumerate().rev();
            let mut matches = ids_from_end.filter_map(|(at, id)| Some((at, matching_anchor(id)?)));
            if let Some((at, anchor)) = matches.next() {
                let listed_after = anchor.listed_after;
                let begin = start.saturating_add(to_u64(at + 1));
                position.next_position = begin.saturating_add(listed_after);
                response.position = Some(start);
                response.skip_through(at);
                if response.ids.is_empty() && target == QueryTarget::Page {
                    // This is the end of the list, or the server returned a very short page.
                    response = self.send(QueryStart::Position(begin), target).await?;
                }
                return Ok(QueryResponse { listed_after, ..response });
            }
            if start == 0 {
                return self.restart(position, target).await;
            }
            start = start.saturating_sub(step);
        }
    }

    async fn restart(
        &self,
        position: &mut QueryPosition,
        target: QueryTarget,
    ) -> Result<QueryResponse, Failure> {
        if !position.anchors.is_empty() {
            let restarts = position.restarts + 1;
            if RESTARTS_MAX < restarts {
                let message = "the list changes faster than it can be read";
                return Err(Failure::new(Cause::CursorExpired, message));
            }
            *position = QueryPosition { restarts, ..self.initial_position().await? };
        }
        Ok(self.send(QueryStart::Position(0), target).await?)
    }

    async fn send(
        &self,
        start: QueryStart<'_>,
        target: QueryTarget,
    ) -> Result<QueryResponse, MethodCallError> {
        let sorted = json!([{"property": "receivedAt", "isAscending": true}]);
        match self.send_sorted(start, target, Some(sorted)).await {
            // The server's own order works too, as long as it is stable.
            Err(error) if *error.error_type == *"unsupportedSort" => {
                self.send_sorted(start, target, None).await
            }
            result => result,
        }
    }

    async fn send_sorted(
        &self,
        start: QueryStart<'_>,
        target: QueryTarget,
        sort: Option<Value>,
    ) -> Result<QueryResponse, MethodCallError> {
        let mut arguments = json!({"limit": self.page_size()});
        // Counting may be expensive for the server: progress needs it once, the completeness check
        // once more.
        if target == QueryTarget::ListEnd || matches!(start, QueryStart::Position(0)) {
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
        let limits = limits_for_ids(usize::try_from(self.page_size()).unwrap_or(usize::MAX));
        call_limited(self.jmap, self.session, "Email/query", arguments, Some(limits)).await
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
        let anchor = |id: &str, listed_after| (id.to_owned(), listed_after);

        let expected =
            [anchor("99", 0), anchor("98", 1), anchor("75", 24), anchor("50", 49), anchor("0", 99)];
        assert_eq!(picked(100), expected);
        assert_eq!(picked(2), [anchor("1", 0), anchor("0", 1)]);
        assert_eq!(picked(1), [anchor("0", 0)]);
        assert!(picked(0).is_empty());
    }
}
