//! Work of the event loop: tasks that run, and tasks that are to be started.

use cynosure_engine::Timestamp;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;

use super::dependencies::Dependencies;
use super::known_good::{FailedFetch, KnownGoodCheck};
use crate::env::Env;
use crate::source::Source;
use crate::worker::breakers::OpenBreaker;
use crate::worker::commit_batch::CommitBatch;
use crate::worker::downloads::DownloadScheduler;
use crate::worker::tasks::{self, StoreHandle, TaskResult};

type TaskSet = FuturesUnordered<LocalBoxFuture<'static, TaskResult>>;

/// Work of one source.
pub(super) struct Work {
    pub downloads: DownloadScheduler,
    pub known_good_check: KnownGoodCheck,
    /// Tasks that may be cancelled.
    pub tasks: TaskSet,
    /// Commits, which must be waited for.
    pub commits: TaskSet,
    pub probe: ProbeState,
    /// Breaker that the loop waits for.
    pub open_breaker: Option<OpenBreaker>,
    pub is_polling: bool,
    pub is_finishing: bool,
    /// [`RunMode::Once`](super::RunMode::Once) has found an open session. Before that ends, the
    /// source is polled once.
    pub needs_final_poll: bool,
    /// Time of the last request that was not for an item: a poll, a page or a probe.
    pub last_request_at: Timestamp,
}

/// State of the probe: one request that changes nothing and must succeed before downloads resume.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ProbeState {
    NotNeeded,
    Needed,
    InFlight,
}

impl Work {
    pub(super) fn new(
        downloads: DownloadScheduler,
        open_breaker: Option<OpenBreaker>,
        needs_final_poll: bool,
        now: Timestamp,
    ) -> Self {
        Self {
            downloads,
            known_good_check: KnownGoodCheck::default(),
            tasks: TaskSet::new(),
            commits: TaskSet::new(),
            probe: ProbeState::NotNeeded,
            open_breaker,
            is_polling: false,
            is_finishing: false,
            needs_final_poll,
            last_request_at: now,
        }
    }

    /// Cancels all tasks except commits.
    pub(super) fn cancel_tasks(&mut self) {
        self.tasks.clear();
        self.downloads.drop_in_flight();
        // Their documents are fetched again.
        self.known_good_check.pending_failures.clear();
        (self.is_finishing, self.is_polling) = (false, false);
        if self.probe == ProbeState::InFlight {
            self.probe = ProbeState::Needed;
        }
    }

    pub(super) fn start_commit<E: Env>(
        &mut self,
        store: &StoreHandle<E>,
        batch: CommitBatch,
        now: Timestamp,
    ) {
        let recheck = self.downloads.recheck_policy();
        self.commits.push(tasks::commit_batch(store, batch, recheck, now));
    }

    /// Defers a failure that would open a breaker or fail the session, until a known-good document
    /// was requested. Returns any other failure.
    pub(super) fn defer_for_known_good<S: Source + 'static, E: Env>(
        &mut self,
        failed_fetch: FailedFetch,
        deps: &Dependencies<S, E>,
    ) -> Option<FailedFetch> {
        let FailedFetch { task, permit, failure, failed_at } = &failed_fetch;
        let is_check_needed = !self.downloads.is_item_specific_failure(task, failure, *failed_at)
            && (self.downloads.would_escalate(failure) || permit.would_open(task.item.0, failure));
        if !is_check_needed {
            return Some(failed_fetch);
        }
        let check = &mut self.known_good_check;
        if check.pending_failures.is_empty() {
            let served = check.served_documents.iter().cloned().collect();
            self.tasks.push(tasks::fetch_known_good(&deps.source, &deps.store, served));
        }
        check.pending_failures.push(failed_fetch);
        None
    }
}
