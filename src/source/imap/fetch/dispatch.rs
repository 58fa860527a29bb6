//! Entry of the fetches: queues their requests, and starts workers for them.

use std::cell::RefCell;
use std::rc::Rc;

use cynosure_engine::{DocumentLocation, ThrottleStrikes};
use tokio::sync::mpsc::Receiver;
use tokio::task::spawn_local;

use crate::limiter::AttemptKind;
use crate::source::imap::fetch::queue::RequestQueue;
use crate::source::imap::fetch::request::{BodyEvent, BodyRequest};
use crate::source::imap::fetch::worker::FetchWorker;
use crate::source::imap::options::ImapOptions;
use crate::source::imap::pool::Pool;

/// Fetches messages in sets, over the connections of a pool.
pub(in crate::source::imap) struct SetFetcher {
    pool: Rc<Pool>,
    queue: Rc<RefCell<RequestQueue>>,
    /// Maximum number of workers, each with one connection.
    workers_max: u32,
    /// Largest document, in bytes.
    max_document: u64,
}

impl SetFetcher {
    pub(in crate::source::imap) fn new(pool: Rc<Pool>, options: &ImapOptions) -> Rc<Self> {
        Rc::new(Self {
            pool,
            queue: Rc::default(),
            workers_max: options.connections.max(1),
            max_document: options.limits.max_document,
        })
    }

    /// Requests a message and returns the receiver of its body.
    pub(super) fn request(
        &self,
        location: DocumentLocation,
        attempt: AttemptKind,
        strikes: ThrottleStrikes,
    ) -> Receiver<BodyEvent> {
        let (request, events) = BodyRequest::new(location, attempt, strikes);
        let is_worker_needed = {
            let mut queue = self.queue.borrow_mut();
            queue.push(request);
            queue.try_add_worker(self.workers_max)
        };
        if is_worker_needed {
            let worker =
                FetchWorker::new(Rc::clone(&self.pool), Rc::clone(&self.queue), self.max_document);
            spawn_local(worker.run());
        }
        events
    }
}
