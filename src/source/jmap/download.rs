//! Brings the bytes of one mail (RFC 8620 §6.2), and makes sure that only the mail is blamed.

use std::sync::Arc;

use crate::engine::{Cause, Failure};
use crate::source::http::{Ask, Attempt, Wants};
use crate::source::jmap::session::Session;
use crate::source::jmap::{Jmap, mail};
use crate::source::{Fetched, Sink, Wanted};

/// Brings a mail into `sink`, or tells under which other blob it is.
pub(super) async fn fetch(
    jmap: &Jmap,
    document: &Wanted,
    sink: &mut impl Sink,
) -> Result<Fetched, Failure> {
    // The semaphore is never closed, and no permit would be no harm.
    let _permit = jmap.downloads.acquire().await.ok();
    let session = jmap.session().await.map_err(not_of_the_mail)?;
    let url = session.download(&document.blob)?;
    let pass = jmap.pass().await?;
    let ask = Ask { url: &url, post: None, wants: Wants::Document, pass: &pass };

    let first = if document.is_suspect { Attempt::Suspect } else { Attempt::First };
    let Wanted { size, strikes, .. } = document;
    match jmap.client.document(&ask, *size, *strikes, first, sink).await {
        Err(failure) if failure.cause == Cause::NotFound => {
            moved(jmap, &session, document, failure).await
        }
        result => result.map(Fetched::Complete),
    }
}

/// Tells a mail whose blob changed from one that was deleted, and both from downloads that are
/// all refused: a 404 for every mail would write a whole mailbox off as gone.
async fn moved(
    jmap: &Jmap,
    session: &Arc<Session>,
    document: &Wanted,
    failure: Failure,
) -> Result<Fetched, Failure> {
    let id = document.document.as_str().to_owned();
    let mut emails =
        mail::emails(jmap, session, &[id], mail::LISTED).await.map_err(not_of_the_mail)?;
    let Some(entry) = emails.pop().map(mail::Email::into_entry) else { return Err(failure) };
    if entry.blob != document.blob {
        return Ok(Fetched::Moved { blob: entry.blob, size: entry.size });
    }
    jmap.forget(session, None).await;
    let why = format!("{}, but the mail itself is there", failure.message);
    Err(Failure { response: failure.response, ..Failure::new(Cause::Server, why) })
}

/// Keeps a refusal of the service as a whole from being read as one of this mail.
fn not_of_the_mail(failure: Failure) -> Failure {
    if matches!(failure.cause, Cause::NotFound | Cause::Forbidden | Cause::TooLarge) {
        return Failure { cause: Cause::Challenge, ..failure };
    }
    failure
}
