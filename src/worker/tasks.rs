//! Tasks that run beside the event loop: each uses the source or the store, and returns one result.

use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tokio::sync::{Mutex as Turn, OnceCell};

use crate::archive::{Archive, SpooledDocument, StagedBatch};
use crate::engine::{
    Cause, ClockReading, ErrorAction, Failure, PageToken, RecheckPolicy, RequestScope, Session,
    SessionId, Timestamp,
};
use crate::ledger::{ItemRowId, SessionCounts};
use crate::retry::RetryPolicy;
use crate::source::{
    CredentialChange, DocumentRef, FetchOutcome, Listing, NextPage, PollResult, Sink, Source,
};
use crate::worker::breakers::{CallError, CallPermit, OpenBreaker, SourceBreakers};
use crate::worker::commit_batch::{BatchStats, CommitBatch};
use crate::worker::document_writer::{DiscardSink, DocumentWriter};
use crate::worker::downloads::{ControlRequest, FetchTask, RefillRequest};
use crate::worker::env::Env;
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
#[expect(clippy::large_enum_variant, reason = "nearly all are the largest")]
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
    /// Time at which the known-good document was requested that was served; `None` if none was.
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
pub struct StoreHandle<W> {
    env: Rc<W>,
    store: Arc<Mutex<Store>>,
    archive: Arc<Archive>,
    pipeline: Rc<CommitPipeline>,
    /// Set once the account of the source is known to be the ledger's.
    account_check: Rc<OnceCell<()>>,
}

/// Locks that commit batches in their order, two at a time: the next batch is written while one is
/// published and recorded. Each lock goes to the task that has waited longest.
#[derive(Debug, Default)]
struct CommitPipeline {
    write_lock: Turn<()>,
    publish_lock: Turn<()>,
}

impl<W> Clone for StoreHandle<W> {
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

impl<W: Env> StoreHandle<W> {
    #[must_use]
    pub fn new(world: Rc<W>, store: Store) -> Self {
        let archive = store.archive();
        let (store, turns) = (Arc::new(Mutex::new(store)), Rc::default());
        Self { env: world, store, archive, pipeline: turns, account_check: Rc::default() }
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
        group: CommitBatch,
        recheck: RecheckPolicy,
        now: Timestamp,
    ) -> Result<SessionCounts, Failure> {
        let writing = self.pipeline.write_lock.lock().await;
        let written = self.write_batch(group).await;
        let _placing = self.pipeline.publish_lock.lock().await;
        drop(writing);
        let (written, rows) = written?;
        let archive = Arc::clone(&self.archive);
        let place = move || written.map(|written| archive.publish(written)).transpose();
        let placed = self.env.spawn_blocking(place).await?;
        self.with_store(move |store| store.record_batch(rows, placed, recheck, now)).await
    }

    async fn write_batch(
        &self,
        group: CommitBatch,
    ) -> Result<(Option<StagedBatch>, LedgerUpdates), Failure> {
        let (papers, rows) = self.with_store(|store| store.split_batch(group)).await?;
        let archive = Arc::clone(&self.archive);
        let write = move || papers.map(|papers| archive.stage_batch(papers)).transpose();
        Ok((self.env.spawn_blocking(write).await?, rows))
    }
}

type TaskFuture = LocalBoxFuture<'static, TaskResult>;

/// Polls for changes: of the source, and of quarantined items whose recheck is due.
pub(super) fn poll_changes<S: Source + 'static, W: Env>(
    source: &Rc<S>,
    shared: &StoreHandle<W>,
    circuits: &SourceBreakers,
    not_before: ClockReading,
) -> TaskFuture {
    let (source, shared, circuits) = (Rc::clone(source), shared.clone(), circuits.clone());
    Box::pin(async move {
        shared.env.sleep_until(not_before).await;
        let now = shared.env.now();
        match shared.with_store(move |store| store.is_reconcile_due(now)).await {
            Ok(true) => return TaskResult::ReconcileDue,
            Ok(false) => {}
            Err(failure) => return TaskResult::Polled(Err(failure)),
        }
        let known = shared.with_store(move |store| store.local_changes(now)).await;
        let looked = match known {
            Ok((true, _) | (false, None)) => Ok(PollResult::Changed),
            Ok((false, Some(cursor))) => {
                let look = async {
                    shared.check_account(&*source).await?;
                    source.poll_changes(&cursor).await
                };
                circuits.call(RequestScope::Listing, look).await
            }
            Err(failure) => Err(CallError::Failed(failure)),
        };
        split_rejected(looked).map_or_else(TaskResult::BreakerOpen, TaskResult::Polled)
    })
}

/// Lists one page and records it. Begins the listing of the session if necessary.
pub(super) fn list_page<S: Source + 'static, W: Env>(
    source: &Rc<S>,
    shared: &StoreHandle<W>,
    circuits: &SourceBreakers,
    session: &Session,
    wants: ListingNeeds,
    not_before: ClockReading,
    retry: &RetryPolicy,
) -> TaskFuture {
    let (source, shared, session) = (Rc::clone(source), shared.clone(), session.clone());
    let (circuits, retry) = (circuits.clone(), retry.clone());
    Box::pin(async move {
        shared.env.sleep_until(not_before).await;
        let paged =
            list_and_record_page(&*source, &shared, &circuits, session, wants, &retry).await;
        split_rejected(paged).map_or_else(TaskResult::BreakerOpen, TaskResult::PageListed)
    })
}

async fn list_and_record_page<S: Source, W: Env>(
    source: &S,
    shared: &StoreHandle<W>,
    circuits: &SourceBreakers,
    session: Session,
    wants: ListingNeeds,
    retry: &RetryPolicy,
) -> Result<RecordedPage, CallError> {
    let id = session.id.clone();
    let now = shared.env.now();
    let collection = shared.with_store(move |store| store.listing_state(&id, wants, now)).await?;
    let (listing, place) = match collection {
        ListingState::Open { listing, page_token: place } => (listing, place),
        ListingState::Complete { counts: tally } => {
            return Ok(RecordedPage {
                counts: tally,
                total: None,
                is_listing_complete: true,
                reconciled: None,
            });
        }
        ListingState::NotStarted { kind, listing } => {
            // Taken before the listing, so that the next poll misses no change.
            let pinned = match &listing {
                Listing::Full => {
                    let pin = async {
                        shared.check_account(source).await?;
                        source.current_cursor().await
                    };
                    Some(circuits.call(RequestScope::Listing, pin).await?)
                }
                Listing::Since(_) => None,
            };
            let session = session.clone();
            shared
                .with_store(move |store| store.begin_listing(&session, kind, pinned, now))
                .await?;
            (listing, None)
        }
    };
    let ask = async |place: Option<&PageToken>| {
        let page = retry.when(should_retry_at_once).run(async || {
            let page = async {
                shared.check_account(source).await?;
                source.list_page(&listing, place).await
            };
            circuits.call(RequestScope::Listing, page).await
        });
        page.await.map_err(|gave_up| {
            gave_up.into_failure(|guard| {
                Failure::new(Cause::Server, format!("{guard} is left alone")).into()
            })
        })
    };
    let mut page = ask(place.as_ref()).await?;
    if let NextPage::Unverified { resume_from: back, .. } = &page.next {
        page = ask(Some(back)).await?;
    }
    if let NextPage::Unverified { reason: why, .. } = &page.next {
        // The next attempt counts and lists everything from the first page.
        shared.with_store(|store| store.restart_listing()).await?;
        return Err(Failure::new(Cause::ListingIncomplete, why).into());
    }
    let now = shared.env.now();
    Ok(shared.with_store(move |store| store.record_page(&page, now)).await?)
}

/// Separates a failed call from one that a breaker rejected.
fn split_rejected<T>(end: Result<T, CallError>) -> Result<Result<T, Failure>, OpenBreaker> {
    match end {
        Ok(brought) => Ok(Ok(brought)),
        Err(CallError::Failed(failure)) => Ok(Err(failure)),
        Err(CallError::Rejected(shut)) => Err(shut),
    }
}

/// Returns true if a page may be requested again at once. The session waits after a timeout
/// instead, because several of them would look as if the worker were stuck.
fn should_retry_at_once(halt: &CallError) -> bool {
    match halt {
        CallError::Failed(failure) => failure.is_transient() && failure.cause != Cause::Timeout,
        CallError::Rejected(_) => false,
    }
}

/// Probes the source with one request that changes nothing.
pub(super) fn probe_source<S: Source + 'static>(
    source: &Rc<S>,
    circuits: &SourceBreakers,
) -> TaskFuture {
    let (source, circuits) = (Rc::clone(source), circuits.clone());
    Box::pin(async move {
        let proved = circuits.call(RequestScope::Session, source.current_cursor()).await.map(drop);
        split_rejected(proved).map_or_else(TaskResult::BreakerOpen, TaskResult::Probed)
    })
}

/// Loads due items from the ledger.
pub(super) fn load_due_items<W: Env>(
    shared: &StoreHandle<W>,
    wish: RefillRequest,
    now: Timestamp,
) -> TaskFuture {
    let shared = shared.clone();
    Box::pin(async move {
        TaskResult::DueItemsLoaded(shared.with_store(move |store| store.due_items(wish, now)).await)
    })
}

/// Fetches one document, and follows changes of its blob id.
pub(super) fn fetch_document<S: Source + 'static, W: Env>(
    source: &Rc<S>,
    shared: &StoreHandle<W>,
    pass: CallPermit,
    mut errand: FetchTask,
) -> TaskFuture {
    let (source, world) = (Rc::clone(source), Rc::clone(&shared.env));
    let draft = shared.archive.spool_document();
    Box::pin(async move {
        let mut sink = DocumentWriter { env: world, spooled: Some(draft), buffer: Vec::new() };
        let brought = match send_control_request(&*source, &mut errand).await {
            Ok(()) => fetch_following_blob(&*source, &mut errand.document_ref, &mut sink).await,
            Err(failure) => Err(failure),
        };
        let answer = match brought {
            Ok(()) => sink.finish().await,
            Err(failure) => Err(failure),
        };
        TaskResult::Fetched { task: errand, permit: pass, result: answer }
    })
}

/// Fetches a document that is stored already, to distinguish failing items from a failing provider.
pub(super) fn fetch_known_good<S: Source + 'static, W: Env>(
    source: &Rc<S>,
    shared: &StoreHandle<W>,
    served: Vec<DocumentRef>,
) -> TaskFuture {
    let (source, shared) = (Rc::clone(source), shared.clone());
    Box::pin(async move {
        // An error of the ledger occurs again where it is handled.
        let mut known = shared
            .with_store(|store| store.known_good_documents(KNOWN_GOOD_CANDIDATES_MAX))
            .await
            .unwrap_or_default();
        if known.is_empty() {
            known = served;
        }
        while !known.is_empty() {
            let at = shared.env.random_sample().index_below(known.len());
            let wanted = known.swap_remove(at);
            // Later than any failure within the same millisecond.
            let sent = shared.env.now().after(Duration::from_millis(1));
            match source.fetch(&wanted, &mut DiscardSink).await {
                Ok(FetchOutcome::Complete(_)) => return TaskResult::KnownGoodFetched(Some(sent)),
                // The document was deleted or changed meanwhile.
                Ok(FetchOutcome::Moved { .. }) => {}
                Err(failure) if failure.cause == Cause::NotFound => {}
                Err(_) => break,
            }
        }
        TaskResult::KnownGoodFetched(None)
    })
}

/// Fetches a document into the sink. `wanted` names the fetched blob in the end.
async fn fetch_following_blob(
    source: &impl Source,
    wanted: &mut DocumentRef,
    sink: &mut impl Sink,
) -> Result<(), Failure> {
    for _ in 0..=BLOB_CHANGES_MAX {
        match source.fetch(wanted, sink).await? {
            FetchOutcome::Complete(_) => return Ok(()),
            FetchOutcome::Moved { blob, size } => (wanted.blob, wanted.size) = (blob, size),
        }
        sink.rewind().await?;
    }
    let why = format!("its blob id changed {} times in one attempt", BLOB_CHANGES_MAX + 1);
    Err(Failure::new(Cause::Server, why))
}

/// Sends a request for something other than a document, if the task needs it. If it succeeds, a
/// throttle of the document that follows is specific to that document.
async fn send_control_request(source: &impl Source, errand: &mut FetchTask) -> Result<(), Failure> {
    if errand.control != ControlRequest::Needed {
        return Ok(());
    }
    match source.current_cursor().await {
        Ok(_cursor) => {
            errand.control = ControlRequest::Succeeded;
            Ok(())
        }
        // A refusal of the whole service must not count as a refusal of the document.
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

pub(super) fn commit_batch<W: Env>(
    shared: &StoreHandle<W>,
    group: CommitBatch,
    recheck: RecheckPolicy,
    now: Timestamp,
) -> TaskFuture {
    let shared = shared.clone();
    Box::pin(async move {
        let (items, retry_at, weight) = (group.items(), group.earliest_retry(), group.stats());
        let result = shared.commit(group, recheck, now).await;
        let took = shared.env.now().since(now);
        TaskResult::Committed { items, retry_at, stats: weight, duration: took, result }
    })
}

/// Closes the session in the ledger.
pub(super) fn finish_session<W: Env>(
    shared: &StoreHandle<W>,
    session: &SessionId,
    now: Timestamp,
) -> TaskFuture {
    let (shared, id) = (shared.clone(), session.clone());
    Box::pin(async move {
        TaskResult::SessionFinished(
            shared.with_store(move |store| store.finish_session(&id, now)).await,
        )
    })
}

pub(super) fn refresh_credential<S: Source + 'static>(source: &Rc<S>) -> TaskFuture {
    let source = Rc::clone(source);
    Box::pin(async move { TaskResult::CredentialRefreshed(source.refresh_credential().await) })
}

/// Waits until the credential has changed.
pub(super) fn watch_credential<S: Source + 'static, W: Env>(
    source: &Rc<S>,
    world: &Rc<W>,
) -> TaskFuture {
    let (source, world) = (Rc::clone(source), Rc::clone(world));
    Box::pin(async move {
        loop {
            world.sleep_until(world.time().after(CREDENTIAL_CHECK_INTERVAL)).await;
            // An error here occurs again when the wait of the session is over.
            if let Ok(CredentialChange::Changed) = source.refresh_credential().await {
                return TaskResult::CredentialRefreshed(Ok(CredentialChange::Changed));
            }
        }
    })
}
