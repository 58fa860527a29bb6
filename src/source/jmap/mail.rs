//! Reads mails: Email/get (RFC 8621 §4.2), in portions that the server accepts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::json;

use crate::engine::{BlobId, Cause, Cursor, DocumentId, Failure, ItemId};
use crate::source::ListedDocument;
use crate::source::jmap::JmapSource;
use crate::source::jmap::api::{MethodCallError, call, call_limited, limits_for_objects};
use crate::source::jmap::session::JmapSession;

/// What of a request is not ids, in bytes, rounded up.
const REQUEST_OVERHEAD_BYTES: usize = 1_024;
/// Quotes and comma around an id, in bytes.
const ID_OVERHEAD_BYTES: usize = 3;

/// The refusals that a smaller portion answers: by the name of the limit for the
/// whole request (Cyrus), or by a type for the method (Stalwart).
const TOO_LARGE_ERROR_TYPES: &[&str] = &["requestTooLarge", "maxObjectsInGet", "maxSizeRequest"];

/// What an entry of a listing needs.
pub(super) const LIST_PROPERTIES: &[&str] = &["id", "blobId", "threadId", "size"];
/// The same, and what a filter judges.
pub(super) const FILTER_PROPERTIES: &[&str] =
    &["id", "blobId", "threadId", "size", "mailboxIds", "receivedAt"];

/// A mail as far as listing needs it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Email {
    id: String,
    blob_id: String,
    thread_id: String,
    size: Option<u64>,
    mailbox_ids: Option<BTreeMap<String, bool>>,
    received_at: Option<String>,
}

/// What reading mails by their ids has brought.
#[derive(Debug, Default)]
pub(super) struct FoundEmails {
    pub(super) emails: Vec<Email>,
    /// Ids that the server says it does not find.
    pub(super) missing: Vec<String>,
    /// Where the stream of changes stood at the last of the requests that it took.
    pub(super) state: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EmailGetResponse {
    list: Vec<Email>,
    not_found: Option<Vec<String>>,
    state: Option<String>,
}

/// Returns where the stream of changes stands.
pub(super) async fn fetch_state(
    jmap: &JmapSource,
    session: &Arc<JmapSession>,
) -> Result<Cursor, Failure> {
    #[derive(Deserialize)]
    struct Stand {
        state: String,
    }
    let stand: Stand = call(jmap, session, "Email/get", json!({"ids": []})).await?;
    Ok(Cursor::new(stand.state))
}

/// Reads the mails of these ids; those that the server does not find are left out.
pub(super) async fn fetch_emails(
    jmap: &JmapSource,
    session: &Arc<JmapSession>,
    ids: &[String],
    properties: &[&str],
) -> Result<Vec<Email>, Failure> {
    Ok(find_emails(jmap, session, ids, properties).await?.emails)
}

/// Reads the mails of these ids, and says which the server does not find.
pub(super) async fn find_emails(
    jmap: &JmapSource,
    session: &Arc<JmapSession>,
    ids: &[String],
    properties: &[&str],
) -> Result<FoundEmails, Failure> {
    let mut found = FoundEmails::default();
    let mut portions = split_ids(session, ids);
    portions.reverse();
    while let Some(portion) = portions.pop() {
        match get_emails(jmap, session, portion, properties).await {
            Ok(mut some) => {
                found.emails.append(&mut some.emails);
                found.missing.append(&mut some.missing);
                found.state = some.state;
            }
            Err(refused) if refused.is_too_large() && 1 < portion.len() => {
                let (first, second) = portion.split_at(portion.len() / 2);
                portions.extend([second, first]);
            }
            Err(refused) => return Err(refused.into()),
        }
    }
    Ok(found)
}

async fn get_emails(
    jmap: &JmapSource,
    session: &Arc<JmapSession>,
    ids: &[String],
    properties: &[&str],
) -> Result<FoundEmails, MethodCallError> {
    let arguments = json!({"ids": ids, "properties": properties});
    let room = Some(limits_for_objects(ids.len()));
    let got: EmailGetResponse = call_limited(jmap, session, "Email/get", arguments, room).await?;

    let there: BTreeSet<&str> = got.list.iter().map(|email| email.id.as_str()).collect();
    let not_found: BTreeSet<&String> = got.not_found.iter().flatten().collect();
    let not_there = ids.iter().filter(|id| !there.contains(id.as_str()));
    let (missing, passed_over): (Vec<_>, Vec<_>) = not_there.partition(|id| not_found.contains(id));
    if !passed_over.is_empty() {
        // Neither there nor gone: a mail that is passed over in silence is a mail lost.
        let (passed_over, all) = (passed_over.len(), ids.len());
        let why = format!("the answer to Email/get leaves out {passed_over} of {all} ids");
        return Err(Failure::new(Cause::Truncated, why).into());
    }
    let missing = missing.into_iter().cloned().collect();
    Ok(FoundEmails { missing, state: got.state, emails: got.list })
}

impl MethodCallError {
    /// Whether fewer ids at once may be answered: so the server says, or its reply found no room.
    fn is_too_large(&self) -> bool {
        TOO_LARGE_ERROR_TYPES.contains(&&*self.error_type) || self.failure.cause == Cause::TooLarge
    }
}

/// Cuts ids into portions within the limits that the server announces.
fn split_ids<'a>(session: &JmapSession, ids: &'a [String]) -> Vec<&'a [String]> {
    let bytes_max = session.max_request_bytes.saturating_sub(REQUEST_OVERHEAD_BYTES);
    let mut portions = Vec::new();
    let mut begin = 0;
    let mut bytes = 0;
    for (at, id) in ids.iter().enumerate() {
        let more = id.len() + ID_OVERHEAD_BYTES;
        if begin < at && (session.max_objects_in_get <= at - begin || bytes_max < bytes + more) {
            portions.push(&ids[begin..at]);
            begin = at;
            bytes = 0;
        }
        bytes += more;
    }
    if begin < ids.len() {
        portions.push(&ids[begin..]);
    }
    portions
}

impl Email {
    /// Whether it lies in one of the mailboxes.
    pub(super) fn is_in_any(&self, mailboxes: &[String]) -> bool {
        let is_in = |id: &String| self.mailbox_ids.as_ref().is_some_and(|ids| ids.contains_key(id));
        mailboxes.iter().any(is_in)
    }

    /// When it was received, if the server says so legibly.
    pub(super) fn received_at(&self) -> Option<DateTime<Utc>> {
        self.received_at.as_ref()?.parse().ok()
    }

    pub(super) fn into_listed_document(self) -> ListedDocument {
        ListedDocument {
            item: ItemId::new(self.thread_id),
            document: DocumentId::new(self.id),
            blob: BlobId::new(self.blob_id),
            size: self.size,
        }
    }
}
