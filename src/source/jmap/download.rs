//! Brings the bytes of one mail (RFC 8620 §6.2), and makes sure that only the mail is blamed.

use std::sync::Arc;

use crate::engine::{Cause, Failure};
use crate::source::http::{Ask, Wants};
use crate::source::jmap::session::Session;
use crate::source::jmap::{Jmap, mail};
use crate::source::{Sink, Wanted};

/// Brings a mail into `sink`.
pub(super) async fn fetch(
    jmap: &Jmap,
    document: &Wanted,
    sink: &mut impl Sink,
) -> Result<u64, Failure> {
    // The semaphore is never closed, and no permit would be no harm.
    let _permit = jmap.downloads.acquire().await.ok();
    let session = jmap.session().await.map_err(not_of_the_mail)?;
    let url = session.download(&document.blob)?;
    let pass = jmap.pass().await?;
    let ask = Ask { url: &url, post: None, wants: Wants::Document, pass: &pass };

    match jmap.client.document(&ask, document.size, sink).await {
        Err(failure) if failure.cause == Cause::NotFound => {
            Err(missing(jmap, &session, document, failure).await)
        }
        result => result,
    }
}

/// Says whether a mail without bytes was deleted, or whether something else moved: after
/// that a 404 for every mail would be a whole mailbox written off as gone.
async fn missing(
    jmap: &Jmap,
    session: &Arc<Session>,
    document: &Wanted,
    failure: Failure,
) -> Failure {
    let id = document.document.as_str().to_owned();
    match mail::emails(jmap, session, &[id], mail::LISTED).await {
        Ok(emails) if emails.is_empty() => failure,
        Ok(_there) => {
            jmap.forget(session, None).await;
            let why = format!("{}, but the mail itself is there", failure.detail);
            Failure { reply: failure.reply, ..Failure::new(Cause::Server, why) }
        }
        Err(unsure) => not_of_the_mail(unsure),
    }
}

/// Keeps a refusal of the service as a whole from being read as one of this mail.
fn not_of_the_mail(failure: Failure) -> Failure {
    if matches!(failure.cause, Cause::NotFound | Cause::Forbidden | Cause::TooLarge) {
        return Failure { cause: Cause::Challenge, ..failure };
    }
    failure
}
