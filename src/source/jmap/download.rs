//! Brings the bytes of one mail (RFC 8620 §6.2), and makes sure that only the mail is blamed.

use std::sync::Arc;

use crate::engine::{Cause, Failure};
use crate::source::http::{AttemptKind, ExpectedContent, HttpRequest};
use crate::source::jmap::session::JmapSession;
use crate::source::jmap::{JmapSource, mail};
use crate::source::{DocumentRef, FetchOutcome, Sink};

/// Brings a mail into `sink`, or tells under which other blob it is.
pub(super) async fn fetch(
    jmap: &JmapSource,
    document: &DocumentRef,
    sink: &mut impl Sink,
) -> Result<FetchOutcome, Failure> {
    // The semaphore is never closed, and no permit would be no harm.
    let _permit = jmap.download_permits.acquire().await.ok();
    let session = jmap.session().await.map_err(as_service_failure)?;
    let url = session.download_url(&document.blob)?;
    let pass = jmap.authorization().await?;
    let ask = HttpRequest {
        url: &url,
        json_body: None,
        expected: ExpectedContent::Document,
        authorization: &pass,
    };

    let first = if document.is_suspect { AttemptKind::Suspect } else { AttemptKind::First };
    let DocumentRef { size, strikes, .. } = document;
    match jmap.client.fetch_streaming(&ask, *size, *strikes, first, sink).await {
        Err(failure) if failure.cause == Cause::NotFound => {
            resolve_not_found(jmap, &session, document, failure).await
        }
        result => result.map(FetchOutcome::Complete),
    }
}

/// Tells a mail whose blob changed from one that was deleted, and both from downloads that are
/// all refused: a 404 for every mail would write a whole mailbox off as gone.
async fn resolve_not_found(
    jmap: &JmapSource,
    session: &Arc<JmapSession>,
    document: &DocumentRef,
    failure: Failure,
) -> Result<FetchOutcome, Failure> {
    let id = document.document.as_str().to_owned();
    let mut emails = mail::fetch_emails(jmap, session, &[id], mail::LIST_PROPERTIES)
        .await
        .map_err(as_service_failure)?;
    let Some(entry) = emails.pop().map(mail::Email::into_listed_document) else {
        return Err(failure);
    };
    if entry.blob != document.blob {
        return Ok(FetchOutcome::Moved { blob: entry.blob, size: entry.size });
    }
    jmap.invalidate_session(session, None).await;
    let why = format!("{}, but the mail itself is there", failure.message);
    Err(Failure { response: failure.response, ..Failure::new(Cause::Server, why) })
}

/// Keeps a refusal of the service as a whole from being read as one of this mail.
fn as_service_failure(failure: Failure) -> Failure {
    if matches!(failure.cause, Cause::NotFound | Cause::Forbidden | Cause::TooLarge) {
        return Failure { cause: Cause::Challenge, ..failure };
    }
    failure
}
