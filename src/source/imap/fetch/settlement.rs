//! Requests that a reply, a lost connection or a folder leaves unanswered: each is made again or
//! ends with a failure.

use std::cell::RefCell;

use cynosure_engine::{Cause, Failure, ImapPhase, ImapReply};

use crate::source::imap::fetch::queue::{RequestQueue, RequestSet};
use crate::source::imap::fetch::request::BodyRequest;
use crate::source::imap::fetch::set::FetchSet;

/// Code of a reply after which messages may be missing that are not reported as expunged
/// (RFC 5530 §3).
const EXPUNGE_ISSUED: &str = "EXPUNGEISSUED";

/// Requests that a failure concerns.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum FailureReach {
    /// One message, or its folder: others may succeed.
    Item,
    /// The connection: another one may succeed.
    Connection,
    /// All requests of the account.
    Account,
}

impl FailureReach {
    pub(super) fn of(cause: Cause) -> Self {
        match cause {
            Cause::Forbidden
            | Cause::NotFound
            | Cause::Server
            | Cause::TooLarge
            | Cause::Unknown => Self::Item,
            Cause::Connection | Cause::Timeout | Cause::Truncated => Self::Connection,
            Cause::RateLimit
            | Cause::Unauthorized
            | Cause::Tls
            | Cause::Challenge
            | Cause::Proxy
            | Cause::CursorExpired
            | Cause::AccountChanged
            | Cause::ListingIncomplete
            | Cause::LocalNetwork
            | Cause::Storage
            | Cause::Ledger => Self::Account,
        }
    }
}

/// Body that broke off with the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct InterruptedBody {
    pub(super) uid: u32,
    pub(super) received_bytes: u64,
    pub(super) length: u64,
}

impl InterruptedBody {
    fn to_failure(self, failure: &Failure) -> Failure {
        let Self { received_bytes, length, .. } = self;
        let cause = if failure.cause == Cause::Timeout { Cause::Timeout } else { Cause::Truncated };
        if received_bytes == length {
            return Failure { cause, ..failure.clone() };
        }
        let message =
            format!("the message was cut after {received_bytes} of {length} bytes: {failure}");
        Failure::new(cause, message)
    }
}

/// Returns true if a reply says that messages were expunged.
pub(super) fn is_expunge_notice(reply: &ImapReply) -> bool {
    reply.code_name() == Some(EXPUNGE_ISSUED)
}

/// Ends the failure of a set, or the absence of messages from a successful reply. `result` is that
/// of the whole command.
pub(super) async fn settle_reply(
    queue: &RefCell<RequestQueue>,
    set: FetchSet,
    result: Result<(), Failure>,
) {
    let is_single = set.phase == ImapPhase::Fetch { is_single: true };
    let failure = match result {
        Ok(()) => return settle_absence(queue, set).await,
        Err(failure) => failure,
    };
    let requests = set.unanswered.into_values();
    // One bad message must not fail the others.
    if FailureReach::of(failure.cause) == FailureReach::Item && !is_single {
        put_back_singly(queue, requests);
    } else {
        fail_all(requests, &failure).await;
    }
}

/// A message that a successful command did not return is gone (RFC 9051 §6.4.9), unless there is a
/// reason to ask once more.
async fn settle_absence(queue: &RefCell<RequestQueue>, mut set: FetchSet) {
    let (warning, has_unclaimed_body) = (set.warning.take(), set.has_unclaimed_body);
    let is_doubtful = set.has_expunge_notice || has_unclaimed_body || warning.is_some();
    let unanswered = std::mem::take(&mut set.unanswered).into_values();
    let (unseen, seen): (Vec<_>, Vec<_>) =
        unanswered.partition(|request| set.may_be_unseen(request));
    queue.borrow_mut().put_back(unseen.into_iter());
    let (again, settled): (Vec<_>, Vec<_>) =
        seen.into_iter().partition(|request| is_doubtful && !request.has_gone_unanswered);
    let again = again.into_iter().map(|mut request| {
        request.has_gone_unanswered = true;
        request
    });
    put_back_singly(queue, again);
    for request in settled {
        let failure = if has_unclaimed_body {
            let message = "the server sent a message without its UID, so it cannot be assigned";
            Failure::new(Cause::Server, message)
        } else if let Some(warning) = &warning {
            let message = format!("the server sends no message, and warns: \"{warning}\"");
            Failure::new(Cause::Server, message)
        } else {
            message_gone(&request.location.folder)
        };
        request.finish(Err(failure)).await;
    }
}

/// Ends the failure of a connection on which `requests` were made or about to be made, the oldest
/// first. One of them may be the cause: that of the interrupted body, or else the first.
pub(super) async fn settle_failed_connection(
    queue: &RefCell<RequestQueue>,
    mut requests: Vec<BodyRequest>,
    interrupted: Option<InterruptedBody>,
    failure: &Failure,
) {
    let reach = FailureReach::of(failure.cause);
    if reach == FailureReach::Account {
        return fail_all(requests, failure).await;
    }
    if reach == FailureReach::Item && interrupted.is_none() && requests.len() > 1 {
        // Such as a message of more than 4 GiB: it is not known which one that is.
        requests.iter_mut().for_each(|request| request.is_single = true);
        return put_back_counted(queue, requests, failure).await;
    }
    let suspect = match &interrupted {
        Some(body) => requests.iter().position(|request| request.location.uid == body.uid),
        None => (!requests.is_empty()).then_some(0),
    };
    if let Some(index) = suspect {
        let request = requests.remove(index);
        let failure = interrupted.map_or_else(|| failure.clone(), |body| body.to_failure(failure));
        request.finish(Err(failure)).await;
    }
    put_back_counted(queue, requests, failure).await;
}

/// Puts back requests of a lost connection. One that lost too many connections fails.
async fn put_back_counted(
    queue: &RefCell<RequestQueue>,
    requests: Vec<BodyRequest>,
    failure: &Failure,
) {
    let mut again = Vec::with_capacity(requests.len());
    for mut request in requests {
        if request.count_lost_connection() {
            again.push(request);
        } else {
            request.finish(Err(failure.clone())).await;
        }
    }
    queue.borrow_mut().put_back(again.into_iter());
}

/// Ends the failure to open a folder for `requests`.
pub(super) async fn settle_closed_folder(
    queue: &RefCell<RequestQueue>,
    folder: &str,
    requests: RequestSet,
    failure: &Failure,
) {
    let requests = requests.into_values().collect::<Vec<_>>();
    match FailureReach::of(failure.cause) {
        FailureReach::Connection | FailureReach::Account => {
            settle_failed_connection(queue, requests, None, failure).await;
        }
        FailureReach::Item => {
            let queued = queue.borrow_mut().take_folder(folder);
            fail_all(requests.into_iter().chain(queued), failure).await;
        }
    }
}

/// Fails all requests with the same failure.
pub(super) async fn fail_all(requests: impl IntoIterator<Item = BodyRequest>, failure: &Failure) {
    for request in requests {
        request.finish(Err(failure.clone())).await;
    }
}

pub(super) fn message_gone(folder: &str) -> Failure {
    Failure::new(Cause::NotFound, format!("the message is no longer in \"{folder}\""))
}

pub(super) fn folder_remade(folder: &str) -> Failure {
    let message = format!(
        "the folder \"{folder}\" was made again, so the message has another UID, if it still exists"
    );
    Failure::new(Cause::NotFound, message)
}

fn put_back_singly(
    queue: &RefCell<RequestQueue>,
    requests: impl DoubleEndedIterator<Item = BodyRequest>,
) {
    let singly = requests.map(|mut request| {
        request.is_single = true;
        request
    });
    queue.borrow_mut().put_back(singly);
}
