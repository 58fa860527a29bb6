//! Result of a request, as the observers of the event loop get it.

use cynosure_engine::{Failure, Timestamp};

use crate::source::PollResult;
use crate::worker::downloads::FetchTask;
use crate::worker::tasks::TaskResult;

/// Result of a request to the source, or of a use of its ledger or archive.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestResult<'a> {
    pub kind: RequestKind<'a>,
    /// Start of the request; for a use of ledger or archive, that of the last request to the source
    /// that was not for an item.
    pub started_at: Timestamp,
    pub failure: Option<&'a Failure>,
}

/// Kind of a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum RequestKind<'a> {
    Poll,
    /// Poll that found changes. They may be known without a request.
    PollWithChanges,
    /// Page of the listing, recorded in the ledger.
    Page,
    Probe,
    Fetch(&'a FetchTask),
    Credential,
    /// Commit of a batch to archive and ledger.
    Commit,
    /// Any other use of the ledger.
    Ledger,
}

impl<'a> RequestResult<'a> {
    /// Returns the result of the request that a task has made, if any. `last_request_at` is the
    /// time of the last request that was not for an item.
    pub(super) fn new(result: &'a TaskResult, last_request_at: Timestamp) -> Option<Self> {
        let (kind, failure) = match result {
            TaskResult::Polled(Ok(PollResult::Changed)) => (RequestKind::PollWithChanges, None),
            TaskResult::Polled(result) => (RequestKind::Poll, result.as_ref().err()),
            TaskResult::PageListed(result) => (RequestKind::Page, result.as_ref().err()),
            TaskResult::Probed(result) => (RequestKind::Probe, result.as_ref().err()),
            TaskResult::Fetched { task, result, .. } => {
                (RequestKind::Fetch(task), result.as_ref().err())
            }
            TaskResult::CredentialRefreshed(result) => {
                (RequestKind::Credential, result.as_ref().err())
            }
            TaskResult::Committed { result, .. } => (RequestKind::Commit, result.as_ref().err()),
            TaskResult::DueItemsLoaded(result) => (RequestKind::Ledger, result.as_ref().err()),
            TaskResult::SessionFinished(result) => (RequestKind::Ledger, result.as_ref().err()),
            TaskResult::ReconcileDue
            | TaskResult::KnownGoodFetched(_)
            | TaskResult::BreakerOpen(_) => return None,
        };
        let started_at =
            if let RequestKind::Fetch(task) = kind { task.started_at } else { last_request_at };
        Some(Self { kind, started_at, failure })
    }
}
