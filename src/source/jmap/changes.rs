//! Lists what has come since a cursor: Email/changes (RFC 8621 §4.3).
//!
//! Not Email/queryChanges: servers forget what it needs without saying so.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::engine::{Cause, Cursor, Failure, PageToken};
use crate::source::jmap::JmapSource;
use crate::source::jmap::api::{MethodCallError, call_limited, limits_for_ids};
use crate::source::jmap::filter::{self, MailFilter};
use crate::source::jmap::mail::{self, Email};
use crate::source::jmap::missing::{MissingIds, RefetchTiming};
use crate::source::jmap::page_token::{self, CycleDetector};
use crate::source::jmap::session::JmapSession;
use crate::source::{NextPage, Page, PollResult};

/// How many changes a look asks for. Enough to see past a few read marks; more are listed.
const POLL_CHANGES_MAX: u32 = 50;

/// Ids in one list of a reply beyond which a server does not keep to `maxChanges`: twenty times what it is asked
/// for at most. They cannot be cut, as the new state is behind all of them.
const CHANGES_MAX: usize = 10_000;

/// How far a listing of changes has come.
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

/// Asks whether a listing would have anything to list.
///
/// Flags and deletions are no news. The cursor stays where it is for them, and
/// is moved by the listing that many of them cause.
pub(super) async fn poll_changes(
    jmap: &JmapSource,
    cursor: &Cursor,
) -> Result<PollResult, Failure> {
    let session = jmap.session().await?;
    let filter = filter::resolve(jmap, &session).await?;
    let changes = fetch_changes(jmap, &session, cursor.as_str(), POLL_CHANGES_MAX).await?;
    let more = changes.has_more_changes;
    Ok(if more || !changes.candidate_ids(filter).is_empty() {
        PollResult::Changed
    } else {
        PollResult::Unchanged
    })
}

/// Returns the page behind `place`, the first one begins at `cursor`.
pub(super) async fn list_page(
    jmap: &JmapSource,
    cursor: &Cursor,
    place: Option<&PageToken>,
) -> Result<Page, Failure> {
    let session = jmap.session().await?;
    let filter = filter::resolve(jmap, &session).await?;
    let mut stop: ChangesPosition = page_token::decode(place).unwrap_or_else(|| ChangesPosition {
        state: cursor.as_str().to_owned(),
        cycle_detector: CycleDetector::default(),
        missing: MissingIds::default(),
    });

    let page_size = session.page_size(jmap.options.page_size_max);
    let changes = fetch_changes(jmap, &session, &stop.state, page_size).await?;
    let candidates = changes.candidate_ids(filter);
    let found =
        mail::find_emails(jmap, &session, &candidates, filter.required_properties()).await?;
    let asking = if changes.has_more_changes { RefetchTiming::Later } else { RefetchTiming::Now };
    let properties = filter.required_properties();
    let (late, missing) =
        stop.missing.refetch(jmap, &session, found.missing, properties, asking).await?;
    let next = if changes.has_more_changes {
        stop.cycle_detector.step(&changes.new_state, candidates.len())?;
        if stop.state == changes.new_state {
            return Err(Failure::new(Cause::Unknown, "the server's changes do not move forward"));
        }
        stop.state = changes.new_state;
        NextPage::More(page_token::encode(&stop))
    } else {
        NextPage::Done(Some(Cursor::new(changes.new_state)))
    };

    let wanted = found.emails.into_iter().chain(late).filter(|email| filter.matches(email));
    Ok(Page {
        entries: wanted.map(Email::into_listed_document).collect(),
        missing_documents: missing,
        total_documents: None,
        next,
    })
}

/// Asks what has changed since a state, and for no more than so much of it.
pub(super) async fn fetch_changes(
    jmap: &JmapSource,
    session: &Arc<JmapSession>,
    since: &str,
    max: u32,
) -> Result<ChangesResponse, Failure> {
    let arguments = json!({"sinceState": since, "maxChanges": max});
    let room = Some(limits_for_ids(CHANGES_MAX));
    let changes = call_limited(jmap, session, "Email/changes", arguments, room).await;
    let changes: ChangesResponse = changes.map_err(|refused: MethodCallError| {
        // A cursor that the server cannot even read: one garbled by an upgrade, or of another server.
        let is_unreadable = matches!(&*refused.error_type, "invalidArguments" | "notRequest");
        let cause = if is_unreadable { Cause::CursorExpired } else { refused.failure.cause };
        Failure { cause, ..refused.failure }
    })?;
    if changes.is_truncated() {
        // A listing of everything goes page by page.
        let why =
            format!("the server names {CHANGES_MAX} changes or more where {max} were asked for");
        return Err(Failure::new(Cause::CursorExpired, why));
    }
    Ok(changes)
}

impl ChangesResponse {
    /// Whether a list is as long as any that is kept: there may have been more.
    fn is_truncated(&self) -> bool {
        let lists = [Some(&self.created), self.updated.as_ref(), self.destroyed.as_ref()];
        lists.into_iter().flatten().any(|ids| CHANGES_MAX <= ids.len())
    }

    /// The mails that may be new to us. One moved into a wanted mailbox counts as
    /// updated; one that we have already is recognised by the ledger.
    fn candidate_ids(&self, filter: &MailFilter) -> Vec<String> {
        let moved = self.updated.iter().flatten().filter(|_| filter.can_match_later());
        let mut ids: BTreeSet<&String> = self.created.iter().chain(moved).collect();
        for gone in self.destroyed.iter().flatten() {
            ids.remove(gone);
        }
        ids.into_iter().cloned().collect()
    }
}
