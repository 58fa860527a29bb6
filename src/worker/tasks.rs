//! Tasks that run beside the event loop: each uses the source or the store, and returns one result.

use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cynosure_engine::{
    Cause, ClockReading, ErrorAction, Failure, PageToken, RecheckPolicy, RequestScope, Session,
    SessionId, Timestamp,
};
use futures_util::future::LocalBoxFuture;
use tokio::sync::{Mutex as AsyncMutex, OnceCell};

use crate::archive::{Archive, SpooledDocument, StagedBatch};
use crate::env::Env;
use crate::ledger::{ItemRowId, SessionCounts};
use crate::retry::RetryPolicy;
use crate::source::{
    CredentialChange, DocumentRef, FetchOutcome, Listing, PollResult, Sink, Source,
};
use crate::worker::breakers::{CallError, CallPermit, OpenBreaker, SourceBreakers};
use crate::worker::commit_batch::{BatchStats, CommitBatch};
use crate::worker::document_writer::{DiscardSink, DocumentWriter};
use crate::worker::downloads::{ControlRequest, FetchTask, RefillRequest};
use crate::worker::ledger_updates::LedgerUpdates;
use crate::worker::store::{DueItems, ListingNeeds, ListingState, RecordedPage, Store};

/// Interval at which a rejected credential is read again. A user who has just replaced a token
/// waits for it, and reading a small file costs nothing.
const CREDENTIAL_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Blob id changes that one attempt follows. A document stored under one blob id is not fetched
/// again, so more than one change per attempt is rare. A server that keeps changing the id costs
/// the item its attempts.
const BLOB_CHANGES_MAX: u32 = 2;

/// Known-good documents of which one is chosen at random: any may have been deleted since.
pub(super) const KNOWN_GOOD_CANDIDATES_MAX: usize = 8;

/// Result of a task.
#[expect(clippy::large_enum_variant, reason = "nearly all values are of the largest variant")]
pub(super) enum TaskResult {
    Polled(Result<PollResult, Failure>),
    /// The source was not polled, because a reconcile is due: everything is listed again.
    ReconcileDue,
    PageListed(Result<RecordedPage, Failure>),
    Probed(Result<(), Failure>),
    DueItemsLoaded(Result<DueItems, Failure>),
    Fetched {
        task: FetchTask,
        /// Permit of the circuit breakers for this request.
        permit: CallPermit,
        result: Result<SpooledDocument, Failure>,
    },
    /// Time at which the served known-good document was requested; `None` if none was served.
    KnownGoodFetched(Option<Timestamp>),
    Committed {
        items: Vec<ItemRowId>,
        retry_at: Option<Timestamp>,
        stats: BatchStats,
        duration: Duration,
        result: Result<SessionCounts, Failure>,
    },
    SessionFinished(Result<SessionCounts, Failure>),
    CredentialRefreshed(Result<CredentialChange, Failure>),
    /// A circuit breaker rejected the request.
    BreakerOpen(OpenBreaker),
}

/// Store shared by the tasks, which use it one after another on blocking threads.
#[derive(Debug)]
pub struct StoreHandle<E> {
    env: Rc<E>,
    store: Arc<Mutex<Store>>,
    archive: Arc<dyn Archive>,
    pipeline: Rc<CommitPipeline>,
    /// Set once the account of the source is known to be the ledger's.
    account_check: Rc<OnceCell<()>>,
}

/// Locks that commit batches in their order, two at a time: the next batch is written while one is
/// published and recorded. Each lock goes to the task that has waited longest.
#[derive(Debug, Default)]
struct CommitPipeline {
    write_lock: AsyncMutex<()>,
    publish_lock: AsyncMutex<()>,
}

impl<E> Clone for StoreHandle<E> {
    fn clone(&self) -> Self {
        Self {
            env: Rc::clone(&self.env),
            store: Arc::clone(&self.store),
            archive: Arc::clone(&self.archive),
            pipeline: Rc::clone(&self.pipeline),
            account_check: Rc::clone(&self.account_check),
        }
    }
}

impl<E: Env> StoreHandle<E> {
    #[must_use]
    pub fn new(env: Rc<E>, store: Store) -> Self {
        let archive = store.archive();
        let (store, pipeline) = (Arc::new(Mutex::new(store)), Rc::default());
        Self { env, store, archive, pipeline, account_check: Rc::default() }
    }

    pub(super) async fn with_store<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Store) -> T + Send + 'static,
    ) -> T {
        let store = Arc::clone(&self.store);
        self.env
            .spawn_blocking(move || job(&mut store.lock().unwrap_or_else(PoisonError::into_inner)))
            .await
    }

    /// Checks that the account of the source is the ledger's, before a cursor is sent to it.
    async fn check_account(&self, source: &impl Source) -> Result<(), Failure> {
        let check = async || {
            let account = source.account().await?;
            self.with_store(move |store| store.check_account(&account)).await
        };
        self.account_check.get_or_try_init(check).await.copied()
    }

    /// Commits a batch: writes its files, publishes them under their names, then records their
    /// rows. Batches finish in their order, including those that fail early.
    async fn commit(
        &self,
        batch: CommitBatch,
        recheck: RecheckPolicy,
        now: Timestamp,
    ) -> Result<SessionCounts, Failure> {
        let write_lock = self.pipeline.write_lock.lock().await;
        let written = self.write_batch(batch).await;
        let _publish_lock = self.pipeline.publish_lock.lock().await;
        drop(write_lock);
        let (staged, updates) = written?;
        let publish = move || staged.map(|staged| staged.publish()).transpose();
        let published = self.env.spawn_blocking(publish).await?;
        self.with_store(move |store| store.record_batch(updates, published, recheck, now)).await
    }

    async fn write_batch(
        &self,
        batch: CommitBatch,
    ) -> Result<(Option<Box<dyn StagedBatch>>, LedgerUpdates), Failure> {
        let (documents, updates) = self.with_store(|store| store.split_batch(batch)).await?;
        let archive = Arc::clone(&self.archive);
        let stage = move || documents.map(|documents| archive.stage_batch(documents)).transpose();
        Ok((self.env.spawn_blocking(stage).await?, updates))
    }
}

type TaskFuture = LocalBoxFuture<'static, TaskResult>;

/// Polls for changes: of the source, and of quarantined items whose recheck is due.
pub(super) fn poll_changes<S: Source + 'static, E: Env>(
    source: &Rc<S>,
    handle: &StoreHandle<E>,
    breakers: &SourceBreakers,
    not_before: ClockReading,
) -> TaskFuture {
    let (source, handle, breakers) = (Rc::clone(source), handle.clone(), breakers.clone());
    Box::pin(async move {
        handle.env.sleep_until(not_before).await;
        let now = handle.env.now();
        match handle.with_store(move |store| store.is_reconcile_due(now)).await {
            Ok(true) => return TaskResult::ReconcileDue,
            Ok(false) => {}
            Err(failure) => return TaskResult::Polled(Err(failure)),
        }
        let changes = handle.with_store(move |store| store.local_changes(now)).await;
        let result = match changes {
            Ok((true, _) | (false, None)) => Ok(PollResult::Changed),
            Ok((false, Some(cursor))) => {
                let poll = async {
                    handle.check_account(&*source).await?;
                    source.poll_changes(&cursor).await
                };
                breakers.call(RequestScope::Listing, poll).await
            }
            Err(failure) => Err(CallError::Failed(failure)),
        };
        split_rejected(result).map_or_else(TaskResult::BreakerOpen, TaskResult::Polled)
    })
}

/// Lists one page and records it. Begins the listing of the session if necessary.
pub(super) fn list_page<S: Source + 'static, E: Env>(
    source: &Rc<S>,
    handle: &StoreHandle<E>,
    breakers: &SourceBreakers,
    session: &Session,
    needs: ListingNeeds,
    not_before: ClockReading,
    retry: &RetryPolicy,
) -> TaskFuture {
    let (source, handle, session) = (Rc::clone(source), handle.clone(), session.clone());
    let (breakers, retry) = (breakers.clone(), retry.clone());
    Box::pin(async move {
        handle.env.sleep_until(not_before).await;
        let result =
            list_and_record_page(&*source, &handle, &breakers, session, needs, &retry).await;
        split_rejected(result).map_or_else(TaskResult::BreakerOpen, TaskResult::PageListed)
    })
}

async fn list_and_record_page<S: Source, E: Env>(
    source: &S,
    handle: &StoreHandle<E>,
    breakers: &SourceBreakers,
    session: Session,
    needs: ListingNeeds,
    retry: &RetryPolicy,
) -> Result<RecordedPage, CallError> {
    let id = session.id.clone();
    let now = handle.env.now();
    let state = handle.with_store(move |store| store.listing_state(&id, needs, now)).await?;
    let (listing, page_token) = match state {
        ListingState::Open { listing, page_token } => (listing, page_token),
        ListingState::Complete { counts } => {
            return Ok(RecordedPage {
                counts,
                total: None,
                is_listing_complete: true,
                reconciled: None,
            });
        }
        ListingState::NotStarted { kind, listing } => {
            // Read before the listing, so that the next poll misses no change.
            let cursor = match &listing {
                Listing::Full => {
                    let read_cursor = async {
                        handle.check_account(source).await?;
                        source.current_cursor().await
                    };
                    Some(breakers.call(RequestScope::Listing, read_cursor).await?)
                }
                Listing::Since(_) => None,
            };
            let session = session.clone();
            handle
                .with_store(move |store| store.begin_listing(&session, kind, cursor, now))
                .await?;
            (listing, None)
        }
    };
    let request_page = async |page_token: Option<&PageToken>| {
        let page = retry.when(should_retry_at_once).run(async || {
            let request = async {
                handle.check_account(source).await?;
                source.list_page(&listing, page_token).await
            };
            breakers.call(RequestScope::Listing, request).await
        });
        page.await.map_err(|error| {
            error.into_failure(|breaker| {
                Failure::new(Cause::Server, format!("the circuit breaker {breaker} is open")).into()
            })
        })
    };
    let mut page = request_page(page_token.as_ref()).await?;
    if let Err(end) = &page.next {
        page = request_page(Some(&end.resume_from)).await?;
    }
    if let Err(end) = &page.next {
        // The next attempt counts and lists everything from the first page.
        handle.with_store(|store| store.reset_page_token()).await?;
        return Err(Failure::new(Cause::ListingIncomplete, &end.reason).into());
    }
    let now = handle.env.now();
    Ok(handle.with_store(move |store| store.record_page(&page, now)).await?)
}

/// Separates a failed call from one that a breaker rejected.
fn split_rejected<T>(result: Result<T, CallError>) -> Result<Result<T, Failure>, OpenBreaker> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(CallError::Failed(failure)) => Ok(Err(failure)),
        Err(CallError::Rejected(breaker)) => Err(breaker),
    }
}

/// Returns true if a page may be requested again at once. The session waits after a timeout
/// instead, because several of them would look as if the worker were stuck.
fn should_retry_at_once(error: &CallError) -> bool {
    match error {
        CallError::Failed(failure) => failure.is_transient() && failure.cause != Cause::Timeout,
        CallError::Rejected(_) => false,
    }
}

/// Probes the source with one request that changes nothing.
pub(super) fn probe_source<S: Source + 'static>(
    source: &Rc<S>,
    breakers: &SourceBreakers,
) -> TaskFuture {
    let (source, breakers) = (Rc::clone(source), breakers.clone());
    Box::pin(async move {
        let result = breakers.call(RequestScope::Session, source.current_cursor()).await.map(drop);
        split_rejected(result).map_or_else(TaskResult::BreakerOpen, TaskResult::Probed)
    })
}

/// Loads due items from the ledger.
pub(super) fn load_due_items<E: Env>(
    handle: &StoreHandle<E>,
    request: RefillRequest,
    now: Timestamp,
) -> TaskFuture {
    let handle = handle.clone();
    Box::pin(async move {
        TaskResult::DueItemsLoaded(
            handle.with_store(move |store| store.due_items(request, now)).await,
        )
    })
}

/// Fetches one document, and follows changes of its blob id.
pub(super) fn fetch_document<S: Source + 'static, E: Env>(
    source: &Rc<S>,
    handle: &StoreHandle<E>,
    permit: CallPermit,
    mut task: FetchTask,
) -> TaskFuture {
    let (source, env) = (Rc::clone(source), Rc::clone(&handle.env));
    let spooled = handle.archive.spool_document();
    Box::pin(async move {
        let mut sink = DocumentWriter { env, spooled: Some(spooled), buffer: Vec::new() };
        let fetched = match send_control_request(&*source, &mut task).await {
            Ok(()) => fetch_following_blob(&*source, &mut task.document_ref, &mut sink).await,
            Err(failure) => Err(failure),
        };
        let result = match fetched {
            Ok(folders) => {
                task.folders = folders;
                sink.finish().await
            }
            Err(failure) => Err(failure),
        };
        // A listed content is in the spool now, and would be held twice until its batch is
        // committed.
        task.document_ref.content = None;
        TaskResult::Fetched { task, permit, result }
    })
}

/// Fetches a document that is stored already, to distinguish failing items from a failing provider.
pub(super) fn fetch_known_good<S: Source + 'static, E: Env>(
    source: &Rc<S>,
    handle: &StoreHandle<E>,
    served_documents: Vec<DocumentRef>,
) -> TaskFuture {
    let (source, handle) = (Rc::clone(source), handle.clone());
    Box::pin(async move {
        // An error of the ledger occurs again where it is handled.
        let mut candidates = handle
            .with_store(|store| store.known_good_documents(KNOWN_GOOD_CANDIDATES_MAX))
            .await
            .unwrap_or_default();
        if candidates.is_empty() {
            candidates = served_documents;
        }
        while !candidates.is_empty() {
            let index = handle.env.random_sample().index_below(candidates.len());
            let document_ref = candidates.swap_remove(index);
            // Later than any failure within the same millisecond.
            let sent_at = handle.env.now().after(Duration::from_millis(1));
            match source.fetch(&document_ref, &mut DiscardSink).await {
                Ok(FetchOutcome::Complete { .. }) => {
                    return TaskResult::KnownGoodFetched(Some(sent_at));
                }
                // The document was deleted or changed meanwhile.
                Ok(FetchOutcome::Moved { .. }) => {}
                Err(failure) if failure.cause == Cause::NotFound => {}
                Err(_) => break,
            }
        }
        TaskResult::KnownGoodFetched(None)
    })
}

/// Fetches a document into the sink. `document_ref` names the fetched blob in the end. Returns the
/// names of the document's folders, if the response reports them.
pub(super) async fn fetch_following_blob(
    source: &impl Source,
    document_ref: &mut DocumentRef,
    sink: &mut impl Sink,
) -> Result<Vec<String>, Failure> {
    for _ in 0..=BLOB_CHANGES_MAX {
        match source.fetch(document_ref, sink).await? {
            FetchOutcome::Complete { folders, .. } => return Ok(folders),
            FetchOutcome::Moved { blob, size } => {
                (document_ref.blob, document_ref.size) = (blob, size);
            }
        }
        sink.rewind().await?;
    }
    let message = format!(
        "the blob id of the document changed {} times in one attempt",
        BLOB_CHANGES_MAX + 1
    );
    Err(Failure::new(Cause::Server, message))
}

/// Sends a request for something other than a document, if the task needs it. If it succeeds, a
/// throttle of the document that follows is specific to that document.
async fn send_control_request(source: &impl Source, task: &mut FetchTask) -> Result<(), Failure> {
    if task.control != ControlRequest::Needed {
        return Ok(());
    }
    match source.current_cursor().await {
        Ok(_cursor) => {
            task.control = ControlRequest::Succeeded;
            Ok(())
        }
        // A failure of the whole service must not count as a failure of the document.
        Err(failure)
            if matches!(
                failure.cause.action(RequestScope::Item),
                ErrorAction::MarkGone | ErrorAction::Quarantine
            ) =>
        {
            Err(Failure { cause: Cause::Challenge, ..failure })
        }
        Err(failure) => Err(failure),
    }
}

pub(super) fn commit_batch<E: Env>(
    handle: &StoreHandle<E>,
    batch: CommitBatch,
    recheck: RecheckPolicy,
    now: Timestamp,
) -> TaskFuture {
    let handle = handle.clone();
    Box::pin(async move {
        let (items, retry_at, stats) = (batch.items(), batch.earliest_retry(), batch.stats());
        let result = handle.commit(batch, recheck, now).await;
        let duration = handle.env.now().since(now);
        TaskResult::Committed { items, retry_at, stats, duration, result }
    })
}

/// Closes the session in the ledger.
pub(super) fn finish_session<E: Env>(
    handle: &StoreHandle<E>,
    session: &SessionId,
    now: Timestamp,
) -> TaskFuture {
    let (handle, id) = (handle.clone(), session.clone());
    Box::pin(async move {
        TaskResult::SessionFinished(
            handle.with_store(move |store| store.finish_session(&id, now)).await,
        )
    })
}

pub(super) fn refresh_credential<S: Source + 'static>(source: &Rc<S>) -> TaskFuture {
    let source = Rc::clone(source);
    Box::pin(async move { TaskResult::CredentialRefreshed(source.refresh_credential().await) })
}

/// Waits until the credential has changed.
pub(super) fn watch_credential<S: Source + 'static, E: Env>(
    source: &Rc<S>,
    env: &Rc<E>,
) -> TaskFuture {
    let (source, env) = (Rc::clone(source), Rc::clone(env));
    Box::pin(async move {
        loop {
            env.sleep_until(env.time().after(CREDENTIAL_CHECK_INTERVAL)).await;
            // An error here occurs again when the wait of the session is over.
            if let Ok(CredentialChange::Changed) = source.reload_credential().await {
                return TaskResult::CredentialRefreshed(Ok(CredentialChange::Changed));
            }
        }
    })
}
