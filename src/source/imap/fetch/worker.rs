//! Worker that fetches sets of messages over one connection at a time.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use cynosure_engine::{Cause, DocumentLocation, Failure, ImapStatus};

use crate::source::imap::connection::Connection;
use crate::source::imap::fetch::body::BodyRouter;
use crate::source::imap::fetch::queue::{
    RequestQueue, RequestSet, SET_REQUESTS_MAX, SET_REQUESTS_MIN,
};
use crate::source::imap::fetch::set::FetchSet;
use crate::source::imap::fetch::settlement::{
    fail_all, folder_remade, is_expunge_notice, settle_closed_folder, settle_failed_connection,
    settle_reply,
};
use crate::source::imap::pool::{Pool, PooledConnection};
use crate::source::imap::wire::{FolderName, Response};

/// Number before that of any request: the folder is open since an earlier use of the connection, so
/// any message may be newer than what the server shows.
const OPENED_EARLIER: u64 = 0;

/// Worker that ends when no requests are queued.
pub(super) struct FetchWorker {
    pool: Rc<Pool>,
    queue: Rc<RefCell<RequestQueue>>,
    /// Largest document, in bytes.
    max_document: u64,
    slot: WorkerSlot,
}

/// Place of a worker in the counts of the queue, until it is dropped.
struct WorkerSlot {
    queue: Rc<RefCell<RequestQueue>>,
    has_taken_requests: Cell<bool>,
}

/// Use of one connection.
struct ConnectionUse {
    router: BodyRouter,
    folder: Option<FolderView>,
    has_sent_set: bool,
    /// True if the rate limiter admits no second set before the first is complete.
    is_second_set_denied: bool,
}

/// State of a folder as a connection sees it: as it was opened.
struct FolderView {
    name: String,
    uid_validity: u32,
    /// Number of the next request at the time of opening.
    opened_at: u64,
}

impl FolderView {
    /// True if the UID of a message in the folder means this message.
    fn has_uids_of(&self, location: &DocumentLocation) -> bool {
        self.name == location.folder && self.uid_validity == location.uid_validity
    }
}

impl FetchWorker {
    /// Creates a worker that the queue has counted.
    pub(super) fn new(pool: Rc<Pool>, queue: Rc<RefCell<RequestQueue>>, max_document: u64) -> Self {
        let slot = WorkerSlot { queue: Rc::clone(&queue), has_taken_requests: Cell::new(false) };
        Self { pool, queue, max_document, slot }
    }

    pub(super) async fn run(self) {
        while self.queue.borrow_mut().has_requests() {
            match self.pool.acquire().await {
                Ok(connection) => self.use_connection(connection).await,
                Err(failure) => {
                    let requests = self.queue.borrow_mut().take_all();
                    fail_all(requests, &failure).await;
                }
            }
        }
    }

    /// Fetches over one connection until no requests are queued, another task waits for a
    /// connection, or the connection or its folder fails.
    async fn use_connection(&self, mut connection: PooledConnection) {
        let mut usage = ConnectionUse {
            router: BodyRouter::new(Rc::clone(&self.queue), self.max_document),
            folder: None,
            has_sent_set: false,
            is_second_set_denied: false,
        };
        let Err(failure) = self.exchange(&mut connection, &mut usage).await else {
            return;
        };
        let router = &mut usage.router;
        let requests = router.sets.take_requests();
        if router.is_giving_up() {
            // None of these has failed, so none may run out of attempts.
            self.queue.borrow_mut().put_back(requests.into_iter());
        } else {
            let interrupted = router.interrupted_body();
            settle_failed_connection(&self.queue, requests, interrupted, &failure).await;
        }
    }

    async fn exchange(
        &self,
        connection: &mut Connection,
        usage: &mut ConnectionUse,
    ) -> Result<(), Failure> {
        loop {
            while let Some(requests) = self.next_set(usage) {
                self.send_set(connection, usage, requests).await?;
            }
            if usage.router.sets.is_empty() {
                return Ok(());
            }
            let response = connection.read(&mut usage.router).await?;
            self.on_response(connection, usage, response).await?;
        }
    }

    /// Takes the requests of the next set, if one is to be sent now.
    fn next_set(&self, usage: &ConnectionUse) -> Option<RequestSet> {
        let sets = &usage.router.sets;
        let open = usage.folder.as_ref().map(|folder| folder.name.as_str());
        if usage.has_sent_set && self.pool.has_waiters() {
            return None;
        }
        let mut queue = self.queue.borrow_mut();
        if sets.is_empty() {
            loop {
                let folder = queue.choose_folder(open)?.to_owned();
                let requests = queue.take_set(&folder, None);
                if !requests.is_empty() {
                    self.slot.mark_busy(&mut queue);
                    return Some(requests);
                }
            }
        }
        let first = sets.only().filter(|_first| !usage.is_second_set_denied)?;
        let open = open.filter(|&open| queue.choose_folder(Some(open)) == Some(open))?;
        let is_worth_a_command =
            first.unanswered.len() <= SET_REQUESTS_MIN || SET_REQUESTS_MAX <= queue.count_of(open);
        if !is_worth_a_command || first.is_exclusive() {
            return None;
        }
        Some(queue.take_set(open, Some(&first.unanswered))).filter(|set| !set.is_empty())
    }

    /// Sends the command of a set. Its folder is opened, unless another set is in flight.
    async fn send_set(
        &self,
        connection: &mut Connection,
        usage: &mut ConnectionUse,
        requests: RequestSet,
    ) -> Result<(), Failure> {
        let Some(location) = requests.values().next().map(|request| request.location.clone())
        else {
            return Ok(());
        };
        usage.has_sent_set = true;
        let is_first = usage.router.sets.is_empty();
        if is_first && let Err(failure) = self.open_folder(connection, usage, &location).await {
            settle_closed_folder(&self.queue, &location.folder, requests, &failure).await;
            return Err(failure);
        }
        let opened = usage.folder.as_ref().filter(|open| open.has_uids_of(&location));
        let Some(opened_at) = opened.map(|open| open.opened_at) else {
            if !is_first {
                // The folder may have been made again since it was opened.
                usage.is_second_set_denied = true;
                self.queue.borrow_mut().put_back(requests.into_values());
                return Ok(());
            }
            fail_all(requests.into_values(), &folder_remade(&location.folder)).await;
            return Ok(());
        };
        let set = FetchSet::new(requests, opened_at);
        if is_first {
            self.start_first_set(connection, usage, set).await
        } else {
            self.start_second_set(connection, usage, set).await
        }
    }

    /// Opens the folder of a message, unless it is open already with the UIDs of the message.
    async fn open_folder(
        &self,
        connection: &mut Connection,
        usage: &mut ConnectionUse,
        location: &DocumentLocation,
    ) -> Result<(), Failure> {
        let DocumentLocation { folder, uid_validity, .. } = location;
        if usage.folder.as_ref().is_some_and(|open| open.has_uids_of(location)) {
            return Ok(());
        }
        let name = FolderName::from_text(folder);
        let mut opened_at = OPENED_EARLIER;
        if connection.already_open(&name).is_none_or(|open| open.uid_validity != *uid_validity) {
            connection.forget_folder();
            opened_at = self.queue.borrow().next_number();
        }
        let opened = connection.open_folder(&name).await?;
        let (name, uid_validity) = (folder.clone(), opened.uid_validity);
        usage.folder = Some(FolderView { name, uid_validity, opened_at });
        Ok(())
    }

    async fn start_first_set(
        &self,
        connection: &mut Connection,
        usage: &mut ConnectionUse,
        mut set: FetchSet,
    ) -> Result<(), Failure> {
        match connection.start_attempt(&set.to_command(), set.phase, set.attempt()).await {
            Ok(command) => {
                set.record_sent();
                usage.router.sets.push(command, set);
                Ok(())
            }
            Err(failure) => {
                let requests = set.unanswered.into_values().collect();
                settle_failed_connection(&self.queue, requests, None, &failure).await;
                Err(failure)
            }
        }
    }

    /// Sends a second command if the rate limiter admits it at once.
    async fn start_second_set(
        &self,
        connection: &mut Connection,
        usage: &mut ConnectionUse,
        mut set: FetchSet,
    ) -> Result<(), Failure> {
        let (command, attempt) = (set.to_command(), set.attempt());
        let result = match connection.try_start_attempt(&command, set.phase, attempt).await {
            Ok(Some(command)) => {
                set.record_sent();
                usage.router.sets.push(command, set);
                return Ok(());
            }
            Ok(None) => Ok(()),
            // Whatever the limiter says, the answers to the first set can be read.
            Err(failure) if failure.cause == Cause::RateLimit => Ok(()),
            Err(failure) => Err(failure),
        };
        usage.is_second_set_denied = true;
        self.queue.borrow_mut().put_back(set.unanswered.into_values());
        result
    }

    async fn on_response(
        &self,
        connection: &mut Connection,
        usage: &mut ConnectionUse,
        response: Response,
    ) -> Result<(), Failure> {
        let router = &mut usage.router;
        match response {
            Response::Tagged { tag, reply } => {
                let Some((command, mut set)) = router.sets.take(&tag) else {
                    let message = format!("the server answered {tag}, which was not sent");
                    return Err(Failure::new(Cause::Connection, message));
                };
                usage.is_second_set_denied = false;
                router.on_reply();
                set.has_expunge_notice |= is_expunge_notice(&reply);
                let result = connection.finish(command, &reply);
                if set.has_unseen() {
                    usage.folder = None;
                    connection.forget_folder();
                }
                settle_reply(&self.queue, set, result).await;
            }
            Response::Status(reply) if is_expunge_notice(&reply) => {
                router.sets.mark_expunge_notice();
            }
            Response::Status(reply) if matches!(reply.status, ImapStatus::No | ImapStatus::Bad) => {
                router.sets.record_warning(&reply.to_string());
            }
            Response::Data { name, values, .. } if name == "FETCH" => {
                if router.on_fetch_response(&values).await? {
                    connection.record_progress();
                }
            }
            Response::Status(_) | Response::Data { .. } | Response::Continuation(_) => {}
        }
        Ok(())
    }
}

impl WorkerSlot {
    fn mark_busy(&self, queue: &mut RequestQueue) {
        if !self.has_taken_requests.replace(true) {
            queue.on_worker_busy();
        }
    }
}

impl Drop for WorkerSlot {
    fn drop(&mut self) {
        // Borrowed only if a panic of this worker drops it.
        if let Ok(mut queue) = self.queue.try_borrow_mut() {
            self.mark_busy(&mut queue);
            queue.on_worker_ended();
        }
    }
}
