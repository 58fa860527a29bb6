//! Reads emails with Email/get (RFC 8621 §4.2), in batches that the server accepts.

use std::collections::BTreeSet;
use std::sync::Arc;

use cynosure_engine::{Cause, Cursor, Failure};
use serde::Deserialize;
use serde_json::json;

use crate::source::jmap::api::{MethodCallError, call, call_limited, limits_for_objects};
use crate::source::jmap::email::Email;
use crate::source::jmap::session::JmapSession;
use crate::source::jmap::source::JmapSource;

/// Bytes of a request without its ids, rounded up.
const REQUEST_OVERHEAD_BYTES: usize = 1_024;
/// Bytes of the quotes and the comma around an id.
const ID_OVERHEAD_BYTES: usize = 3;

/// Errors that a smaller batch avoids: by the name of the limit for the whole request (Cyrus), or
/// by an error type of the method (Stalwart).
const TOO_LARGE_ERROR_TYPES: &[&str] = &["requestTooLarge", "maxObjectsInGet", "maxSizeRequest"];

/// Result of reading emails by id.
#[derive(Debug, Default)]
pub(super) struct FoundEmails {
    pub(super) emails: Vec<Email>,
    /// Ids that the server reports as not found.
    pub(super) missing: Vec<String>,
    /// State of the change stream at the last request that was sent.
    pub(super) state: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EmailGetResponse {
    list: Vec<Email>,
    not_found: Option<Vec<String>>,
    state: Option<String>,
}

/// Returns the current state of the change stream.
pub(super) async fn fetch_state(
    jmap: &JmapSource,
    session: &Arc<JmapSession>,
) -> Result<Cursor, Failure> {
    #[derive(Deserialize)]
    struct StateOnly {
        state: String,
    }
    let response: StateOnly = call(jmap, session, "Email/get", json!({"ids": []})).await?;
    Ok(Cursor::new(response.state))
}

/// Reads the emails with these ids and omits those that the server does not find.
pub(super) async fn fetch_emails(
    jmap: &JmapSource,
    session: &Arc<JmapSession>,
    ids: &[String],
    properties: &[&str],
) -> Result<Vec<Email>, Failure> {
    Ok(find_emails(jmap, session, ids, properties).await?.emails)
}

/// Reads the emails with these ids, and returns the ids that the server does not find.
pub(super) async fn find_emails(
    jmap: &JmapSource,
    session: &Arc<JmapSession>,
    ids: &[String],
    properties: &[&str],
) -> Result<FoundEmails, Failure> {
    let mut found = FoundEmails::default();
    let mut batches = split_ids(session, ids);
    batches.reverse();
    while let Some(batch) = batches.pop() {
        match get_emails(jmap, session, batch, properties).await {
            Ok(mut part) => {
                found.emails.append(&mut part.emails);
                found.missing.append(&mut part.missing);
                found.state = part.state;
            }
            Err(error) if error.is_too_large() && 1 < batch.len() => {
                let (first, second) = batch.split_at(batch.len() / 2);
                batches.extend([second, first]);
            }
            Err(error) => return Err(error.into()),
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
    let limits = Some(limits_for_objects(ids.len()));
    let response: EmailGetResponse =
        call_limited(jmap, session, "Email/get", arguments, limits).await?;

    let returned: BTreeSet<&str> = response.list.iter().map(|email| email.id.as_str()).collect();
    let not_found: BTreeSet<&String> = response.not_found.iter().flatten().collect();
    let not_returned = ids.iter().filter(|id| !returned.contains(id.as_str()));
    let (missing, omitted): (Vec<_>, Vec<_>) = not_returned.partition(|id| not_found.contains(id));
    if !omitted.is_empty() {
        // Neither returned nor reported as not found: skipping the email silently would lose it.
        let (omitted, all) = (omitted.len(), ids.len());
        let message = format!("the response to Email/get omits {omitted} of {all} ids");
        return Err(Failure::new(Cause::Truncated, message).into());
    }
    let missing = missing.into_iter().cloned().collect();
    Ok(FoundEmails { missing, state: response.state, emails: response.list })
}

impl MethodCallError {
    /// True if a smaller batch may succeed: the server says so, or its response exceeded our limit.
    pub(super) fn is_too_large(&self) -> bool {
        TOO_LARGE_ERROR_TYPES.contains(&&*self.error_type) || self.failure.cause == Cause::TooLarge
    }
}

/// Splits ids into batches within the limits that the server announces.
fn split_ids<'a>(session: &JmapSession, ids: &'a [String]) -> Vec<&'a [String]> {
    let bytes_max = session.max_request_bytes.saturating_sub(REQUEST_OVERHEAD_BYTES);
    let mut batches = Vec::new();
    let mut begin = 0;
    let mut bytes = 0;
    for (at, id) in ids.iter().enumerate() {
        let id_bytes = id.len() + ID_OVERHEAD_BYTES;
        if begin < at && (session.max_objects_in_get <= at - begin || bytes_max < bytes + id_bytes)
        {
            batches.push(&ids[begin..at]);
            begin = at;
            bytes = 0;
        }
        bytes += id_bytes;
    }
    if begin < ids.len() {
        batches.push(&ids[begin..]);
    }
    batches
}
