//! Fetches messages in sets: one `UID FETCH` for up to 64 of them.
//!
//! A round trip for each message would be a hundred times slower (50 ms of delay: 19 messages a
//! second one by one, thousands in sets). So each fetch queues a request, and workers with one
//! connection each answer them: a worker takes the queued requests of one folder, sends their
//! command, and gives each body to the fetch that waits for it, chunk by chunk. In memory are, for
//! each connection, its buffer of 64 KiB, one chunk, and at most 256 KiB of a body whose UID is
//! still to come.

mod body;
mod dispatch;
mod queue;
mod request;
mod set;
mod settlement;
#[cfg(test)]
mod tests;
mod worker;

use cynosure_engine::{Cause, DocumentLocation, Failure, ThrottleStrikes};
use tokio::sync::mpsc::Receiver;

pub(in crate::source::imap) use self::dispatch::SetFetcher;
use self::request::BodyEvent;
use crate::limiter::{AttemptKind, QuotaScope};
use crate::retry::Retryable as _;
use crate::source::http::AttemptTracker;
use crate::source::imap::source::ImapSource;
use crate::source::{DocumentRef, FetchOutcome, Sink};

/// Writes a message to `sink`. It is requested again quickly after a failure that may pass.
///
/// # Errors
/// Returns the failure of the last attempt, or that of the sink.
pub(in crate::source::imap) async fn fetch(
    source: &ImapSource,
    document: &DocumentRef,
    sink: &mut impl Sink,
) -> Result<FetchOutcome, Failure> {
    let locations = locations_of(document)?;
    let policy = &source.options.limits.retry_policy;
    let scope = QuotaScope { server: &source.options.host, route: None };
    let mut tracker = AttemptTracker::default();
    let outcome = policy.run(async || {
        let attempt = tracker.start_attempt(first_attempt(document));
        if attempt == AttemptKind::Retry {
            sink.rewind().await?;
        }
        let result = fetch_once(&source.fetcher, &locations, attempt, document.strikes, sink).await;
        result.map_err(|failure| {
            tracker.record_failure(&failure);
            let is_budget_exhausted = failure.is_retryable()
                && tracker.attempts() < policy.backoff().max_attempts
                && !source.limiter.try_take_retry(scope);
            let is_retry_budget_exhausted =
                failure.is_retry_budget_exhausted || is_budget_exhausted;
            Failure { is_retry_budget_exhausted, ..failure }
        })
    });
    let length = outcome.await.map_err(|retry_error| {
        let failure = retry_error.into_failure(|breaker| {
            Failure::new(Cause::Server, format!("the circuit breaker {breaker} is open"))
        });
        tracker.annotate(failure)
    })?;
    Ok(FetchOutcome::Complete { bytes: length, folders: Vec::new() })
}

fn first_attempt(document: &DocumentRef) -> AttemptKind {
    if document.is_suspect { AttemptKind::Suspect } else { AttemptKind::First }
}

/// Returns the places of a document, the first to be tried first. Without known places, its blob
/// is one.
fn locations_of(document: &DocumentRef) -> Result<Vec<DocumentLocation>, Failure> {
    if !document.locations.is_empty() {
        return Ok(document.locations.clone());
    }
    let location = DocumentLocation::from_blob(&document.blob).ok_or_else(|| {
        let message = format!("no folder is known that contains \"{}\"", document.blob);
        Failure::new(Cause::Unknown, message)
    })?;
    Ok(vec![location])
}

/// Fetches a message from the first of its places where it still is and may be read. Returns its
/// length. A message that is refused somewhere is not gone, even if it is nowhere else.
async fn fetch_once(
    fetcher: &SetFetcher,
    locations: &[DocumentLocation],
    attempt: AttemptKind,
    strikes: ThrottleStrikes,
    sink: &mut impl Sink,
) -> Result<u64, Failure> {
    let mut absence = Failure::new(Cause::Unknown, "the message has no location");
    let mut refusal = None;
    for location in locations {
        match receive(fetcher.request(location.clone(), attempt, strikes), sink).await {
            Err(failure) if failure.cause == Cause::NotFound => absence = failure,
            Err(failure) if failure.cause == Cause::Forbidden => refusal = Some(failure),
            result => return result,
        }
    }
    Err(refusal.unwrap_or(absence))
}

/// Writes a body to `sink` while it arrives. Returns its length.
async fn receive(mut events: Receiver<BodyEvent>, sink: &mut impl Sink) -> Result<u64, Failure> {
    while let Some(event) = events.recv().await {
        match event {
            BodyEvent::Chunk(bytes) => sink.write(&bytes).await?,
            BodyEvent::Restart => sink.rewind().await?,
            // No message is empty: the server cannot read the one that it has.
            BodyEvent::Done(Ok(0)) => {
                return Err(Failure::new(Cause::Server, "the server sent an empty message"));
            }
            BodyEvent::Done(result) => return result,
        }
    }
    Err(Failure::new(Cause::Unknown, "the request for the message was dropped without an answer"))
}
