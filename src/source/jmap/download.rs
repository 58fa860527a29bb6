//! Downloads one email (RFC 8620 §6.2), and separates failures of the email from failures of the
//! service.

use std::sync::Arc;

use cynosure_engine::{Cause, Failure};

use crate::limiter::AttemptKind;
use crate::source::http::{ExpectedContent, HttpRequest};
use crate::source::jmap::email::{self, Email};
use crate::source::jmap::email_get;
use crate::source::jmap::session::JmapSession;
use crate::source::jmap::source::JmapSource;
use crate::source::{DocumentRef, FetchOutcome, Sink};

/// Writes an email to `sink`, or returns its new blob id.
pub(super) async fn fetch(
    jmap: &JmapSource,
    document: &DocumentRef,
    sink: &mut impl Sink,
) -> Result<FetchOutcome, Failure> {
    // The semaphore is never closed, and sending without a permit would be harmless.
    let _permit = jmap.download_permits.acquire().await.ok();
    let session = jmap.session().await.map_err(as_service_failure)?;
    let url = session.download_url(&document.blob)?;
    let authorization = jmap.authorization().await?;
    let request = HttpRequest::get(&url, ExpectedContent::Document, &authorization);

    let first = if document.is_suspect { AttemptKind::Suspect } else { AttemptKind::First };
    let DocumentRef { size, strikes, .. } = document;
    match jmap.client.fetch_streaming(&request, *size, *strikes, first, sink).await {
        Err(failure) if failure.cause == Cause::NotFound => {
            resolve_not_found(jmap, &session, document, failure).await
        }
        // The listing names the folders.
        result => result.map(|bytes| FetchOutcome::Complete { bytes, folders: Vec::new() }),
    }
}

/// Distinguishes an email whose blob changed from a deleted one, and both from a server that
/// refuses all downloads: a 404 for every email would mark a whole mailbox as deleted.
async fn resolve_not_found(
    jmap: &JmapSource,
    session: &Arc<JmapSession>,
    document: &DocumentRef,
    failure: Failure,
) -> Result<FetchOutcome, Failure> {
    let id = document.document.as_str().to_owned();
    let mut emails = email_get::fetch_emails(jmap, session, &[id], email::LIST_PROPERTIES)
        .await
        .map_err(as_service_failure)?;
    let Some(entry) = emails.pop().map(Email::into_listed_document) else {
        return Err(failure);
    };
    if entry.blob != document.blob {
        return Ok(FetchOutcome::Moved { blob: entry.blob, size: entry.size });
    }
    jmap.invalidate_session(session, None).await;
    let message = format!("{}, but the message exists", failure.message);
    Err(Failure { response: failure.response, ..Failure::new(Cause::Server, message) })
}

/// Changes the cause of a failure of the whole service, so that it does not count against the
/// email.
fn as_service_failure(failure: Failure) -> Failure {
    if matches!(failure.cause, Cause::NotFound | Cause::Forbidden | Cause::TooLarge) {
        return Failure { cause: Cause::Challenge, ..failure };
    }
    failure
}
