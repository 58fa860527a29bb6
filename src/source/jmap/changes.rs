//! Lists the emails added since a cursor: Email/changes (RFC 8621 §4.3).
//!
//! Not Email/queryChanges, because servers lose the state it needs without reporting that.

use std::collections::BTreeSet;
use std::sync::Arc;

use cynosure_engine::{Cause, Cursor, Failure, NextPage, PageToken};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::source::jmap::api::{MethodCallError, call_limited, limits_for_ids};
use crate::source::jmap::filter::MailFilter;
use crate::source::jmap::missing::{MissingIds, RefetchTiming};
use crate::source::jmap::session::JmapSession;
use crate::source::jmap::source::JmapSource;
use crate::source::jmap::{email_folders, email_get, mailboxes};
use crate::source::page_token::{self, CycleDetector, EMPTY_PAGES_MAX};
use crate::source::{Page, PollResult};

/// Maximum number of changes in a poll. Enough to see whether anything is new besides a few emails
/// marked as read; if there are more changes, a listing follows.
const POLL_CHANGES_MAX: u32 = 50;

/// Maximum number of ids in one list of a response; a server that sends more ignores `maxChanges`.
/// It is twenty times the largest `maxChanges` sent. The lists cannot be truncated, because the new
/// state comes after all of them.
const CHANGES_MAX: usize = 10_000;

/// Position in a listing of changes.
#[derive(Debug, Deserialize, Serialize)]
struct ChangesPosition {
    state: String,
    #[serde(rename = "trail")]
    cycle_detector: CycleDetector,
    #[serde(default)]
    missing: MissingIds,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ChangesResponse {
    pub(super) new_state: String,
    pub(super) has_more_changes: bool,
    pub(super) created: Vec<String>,
    pub(super) updated: Option<Vec<String>>,
    pub(super) destroyed: Option<Vec<String>>,
}

/// Checks whether a listing would find anything new.
///
/// Changed flags and deletions do not count. They leave the cursor where it is, until so many
/// accumulate that a listing follows and moves it.
pub(super) async fn poll_changes(
    jmap: &JmapSource,
    cursor: &Cursor,
) -> Result<PollResult, Failure> {
    let session = jmap.session().await?;
    let filter = mailboxes::resolve_filter(jmap, &session).await?;
    let changes = fetch_changes(jmap, &session, cursor.as_str(), POLL_CHANGES_MAX).await?;
    let has_more = changes.has_more_changes;
    Ok(if has_more || !changes.candidate_ids(filter).is_empty() {
        PollResult::Changed
    } else {
        PollResult::Unchanged
    })
}

/// Returns the page after `token`; the first page starts at `cursor`.
pub(super) async fn list_page(
    jmap: &JmapSource,
    cursor: &Cursor,
    token: Option<&PageToken>,
) -> Result<Page, Failure> {
    let session = jmap.session().await?;
    let filter = mailboxes::resolve_filter(jmap, &session).await?;
    let mut position: ChangesPosition =
        page_token::decode(token).unwrap_or_else(|| ChangesPosition {
            state: cursor.as_str().to_owned(),
            cycle_detector: CycleDetector::default(),
            missing: MissingIds::default(),
        });

    let page_size = session.page_size(jmap.options.page_size_max);
    let changes = fetch_changes(jmap, &session, &position.state, page_size).await?;
    let candidates = changes.candidate_ids(filter);
    let found =
        email_get::find_emails(jmap, &session, &candidates, filter.required_properties()).await?;
    let timing = if changes.has_more_changes { RefetchTiming::Later } else { RefetchTiming::Now };
    let properties = filter.required_properties();
    let (refetched, missing) =
        position.missing.refetch(jmap, &session, found.missing, properties, timing).await?;
    let next = if changes.has_more_changes {
        position.cycle_detector.step(&changes.new_state, candidates.len(), EMPTY_PAGES_MAX)?;
        if position.state == changes.new_state {
            return Err(Failure::new(
                Cause::Unknown,
                "the server's list of changes does not advance",
            ));
        }
        position.state = changes.new_state;
        NextPage::More(page_token::encode(&position))
    } else {
        NextPage::Done(Some(Cursor::new(changes.new_state)))
    };

    let emails = found.emails.into_iter().chain(refetched);
    let matching = emails.filter(|email| filter.matches(email)).collect();
    Ok(Page {
        entries: email_folders::to_listed_documents(jmap, &session, matching).await?,
        missing_documents: missing,
        total_documents: None,
        vanished: Vec::new(),
        next: Ok(next),
    })
}

/// Requests at most `max` changes since a state.
pub(super) async fn fetch_changes(
    jmap: &JmapSource,
    session: &Arc<JmapSession>,
    since: &str,
    max: u32,
) -> Result<ChangesResponse, Failure> {
    let arguments = json!({"sinceState": since, "maxChanges": max});
    let limits = Some(limits_for_ids(CHANGES_MAX));
    let changes = call_limited(jmap, session, "Email/changes", arguments, limits).await;
    let changes: ChangesResponse = changes.map_err(|error: MethodCallError| {
        // The server cannot read the cursor: an upgrade corrupted it, or it belongs to another
        // server.
        let is_unreadable = matches!(&*error.error_type, "invalidArguments" | "notRequest");
        let cause = if is_unreadable { Cause::CursorExpired } else { error.failure.cause };
        Failure { cause, ..error.failure }
    })?;
    if changes.is_truncated() {
        // The expired cursor causes a full listing, which is paginated.
        let message =
            format!("the server returned {CHANGES_MAX} or more changes instead of at most {max}");
        return Err(Failure::new(Cause::CursorExpired, message));
    }
    Ok(changes)
}

impl ChangesResponse {
    /// True if a list has the maximum length, because it may have been truncated.
    fn is_truncated(&self) -> bool {
        let lists = [Some(&self.created), self.updated.as_ref(), self.destroyed.as_ref()];
        lists.into_iter().flatten().any(|ids| CHANGES_MAX <= ids.len())
    }

    /// Returns the ids of emails that may be new. An email moved into a selected mailbox counts as
    /// updated; the ledger recognises emails that are already archived.
    fn candidate_ids(&self, filter: &MailFilter) -> Vec<String> {
        let moved = self.updated.iter().flatten().filter(|_| filter.can_match_later());
        let mut ids: BTreeSet<&String> = self.created.iter().chain(moved).collect();
        for id in self.destroyed.iter().flatten() {
            ids.remove(id);
        }
        ids.into_iter().cloned().collect()
    }
}
