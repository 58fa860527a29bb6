//! What runs beside the loop: each job asks the source or the store, and answers once.

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
use crate::worker::downloads::{ControlRequest, FetchTask, RefillRequest};
use crate::worker::env::Env;
use crate::worker::ledger_updates::LedgerUpdates;
use crate::worker::store::{DueItems, ListingNeeds, ListingState, RecordedPage, Store};

/// How often a refused credential is looked at for a change. A person who has just
/// put a new token in place waits for it; reading a small file costs nothing.
const CREDENTIAL_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// Bytes gathered before they go to a draft on disk, so that a slow disk is met away from the loop.
const SINK_BUFFER_BYTES: usize = 256 * 1024;

/// Blob ids that one attempt follows. A document that is stored under one is not looked for again,
/// so that more than one change within an attempt is rare; a server that never keeps a promise
/// costs the item its attempts.
const BLOB_CHANGES_MAX: u32 = 2;

/// Known-good documents of which one is chosen by chance: any of them may have been deleted since.
pub(super) const KNOWN_GOOD_CANDIDATES_MAX: usize = 8;

/// The answer of a job.
#[expect(clippy::large_enum_variant, reason = "nearly all are the largest")]
pub(super) enum TaskResult {
    Polled(Result<PollResult, Failure>),
    /// Nobody was asked: everything is to be listed once more.
    ReconcileDue,
    PageListed(Result<RecordedPage, Failure>),
    Probed(Result<(), Failure>),
    DueItemsLoaded(Result<DueItems, Failure>),
    Fetched {
        task: FetchTask,
        /// The leave that it was fetched with.
        permit: CallPermit,
        result: Result<SpooledDocument, Failure>,
    },
    /// When a document that was served before was asked for, and served again.
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
    /// A breaker let nothing through.
    BreakerOpen(OpenBreaker),
}

/// The store, shared by the jobs, which use it one after the other and away from the loop.
#[derive(Debug)]
pub struct StoreHandle<W> {
    env: Rc<W>,
    store: Arc<Mutex<Store>>,
    archive: Arc<Archive>,
    pipeline: Rc<CommitPipeline>,
    /// Set once the account behind the source is known to be the ledger's.
    account_check: Rc<OnceCell<()>>,
}

/// Has groups become durable in the order in which they came, two of them at a time: the next is
/// written while one is placed and recorded. Each step falls to whoever has waited longest.
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

    /// Makes sure that the account behind the source is the ledger's, before a cursor is sent to it.
    async fn check_account(&self, source: &impl Source) -> Result<(), Failure> {
        let check = async || {
            let account = source.account().await?;
            self.with_store(move |store| store.check_account(&account)).await
        };
        self.account_check.get_or_try_init(check).await.copied()
    }

    /// Makes a group durable: its bytes, their names, then their rows. Groups end in their order,
    /// also one that fails early.
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

/// Asks for news: of the source, and of quarantined items whose time has come.
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

/// Lists one page and records it, opening the session's collection if need be.
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
            // The point from which the next look counts is pinned before anything is listed.
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
        // The next attempt counts, and asks for, everything once more.
        shared.with_store(|store| store.restart_listing()).await?;
        return Err(Failure::new(Cause::ListingIncomplete, why).into());
    }
    let now = shared.env.now();
    Ok(shared.with_store(move |store| store.record_page(&page, now)).await?)
}

/// Tells what failed from what was not tried.
fn split_rejected<T>(end: Result<T, CallError>) -> Result<Result<T, Failure>, OpenBreaker> {
    match end {
        Ok(brought) => Ok(Ok(brought)),
        Err(CallError::Failed(failure)) => Ok(Err(failure)),
        Err(CallError::Rejected(shut)) => Err(shut),
    }
}

/// Whether a page may be asked for again at once. One that used up its time is the session's
/// to wait for: several of them would look as if the worker were stuck.
fn should_retry_at_once(halt: &CallError) -> bool {
    match halt {
        CallError::Failed(failure) => failure.is_transient() && failure.cause != Cause::Timeout,
        CallError::Rejected(_) => false,
    }
}

/// Asks one harmless question, to see whether the source is well again.
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

/// Takes more of what is due from the ledger.
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

/// Fetches one document, and follows it to another blob.
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

/// Asks once more for a document that is stored, to tell items that fail from a provider that is down.
pub(super) fn fetch_known_good<S: Source + 'static, W: Env>(
    source: &Rc<S>,
    shared: &StoreHandle<W>,
    served: Vec<DocumentRef>,
) -> TaskFuture {
    let (source, shared) = (Rc::clone(source), shared.clone());
    Box::pin(async move {
        // What fails in the ledger fails again where it matters.
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
            // After whatever failed within the same millisecond.
            let sent = shared.env.now().after(Duration::from_millis(1));
            match source.fetch(&wanted, &mut DiscardSink).await {
                Ok(FetchOutcome::Complete(_)) => return TaskResult::KnownGoodFetched(Some(sent)),
                // It was deleted or changed meanwhile.
                Ok(FetchOutcome::Moved { .. }) => {}
                Err(failure) if failure.cause == Cause::NotFound => {}
                Err(_) => break,
            }
        }
        TaskResult::KnownGoodFetched(None)
    })
}

/// Brings a document into the sink. `wanted` names the blob that was brought in the end.
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

/// Asks for something that is no document, where an errand needs that. Where it succeeds, a throttle
/// of the document that follows is the document's own.
async fn send_control_request(source: &impl Source, errand: &mut FetchTask) -> Result<(), Failure> {
    if errand.control != ControlRequest::Needed {
        return Ok(());
    }
    match source.current_cursor().await {
        Ok(_cursor) => {
            errand.control = ControlRequest::Succeeded;
            Ok(())
        }
        // What the service refuses as a whole is not refused to the document.
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

/// Makes a group durable.
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

/// Reads the credential again.
pub(super) fn refresh_credential<S: Source + 'static>(source: &Rc<S>) -> TaskFuture {
    let source = Rc::clone(source);
    Box::pin(async move { TaskResult::CredentialRefreshed(source.refresh_credential().await) })
}

/// Waits until there is another credential.
pub(super) fn watch_credential<S: Source + 'static, W: Env>(
    source: &Rc<S>,
    world: &Rc<W>,
) -> TaskFuture {
    let (source, world) = (Rc::clone(source), Rc::clone(world));
    Box::pin(async move {
        loop {
            world.sleep_until(world.time().after(CREDENTIAL_CHECK_INTERVAL)).await;
            // What goes wrong here is seen again when the wait is over.
            if let Ok(CredentialChange::Changed) = source.refresh_credential().await {
                return TaskResult::CredentialRefreshed(Ok(CredentialChange::Changed));
            }
        }
    })
}

/// Leads the bytes of a document into its draft.
struct DocumentWriter<W> {
    env: Rc<W>,
    /// Absent only while it is away on a blocking thread.
    spooled: Option<SpooledDocument>,
    buffer: Vec<u8>,
}

impl<W: Env> DocumentWriter<W> {
    async fn finish(mut self) -> Result<SpooledDocument, Failure> {
        self.flush_buffer().await?;
        self.spooled.ok_or_else(interrupted_write)
    }

    /// Appends what was gathered: at once where that touches memory only.
    async fn flush_buffer(&mut self) -> Result<(), Failure> {
        let mut draft = self.spooled.take().ok_or_else(interrupted_write)?;
        let gathered = std::mem::take(&mut self.buffer);
        let (draft, appended) = if draft.fits_in_memory(gathered.len()) {
            let appended = draft.append(&gathered);
            (draft, appended)
        } else {
            self.env
                .spawn_blocking(move || {
                    let appended = draft.append(&gathered);
                    (draft, appended)
                })
                .await
        };
        self.spooled = Some(draft);
        appended
    }
}

/// Keeps nothing.
struct DiscardSink;

impl Sink for DiscardSink {
    async fn write(&mut self, _bytes: &[u8]) -> Result<(), Failure> {
        Ok(())
    }

    async fn rewind(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

impl<W: Env> Sink for DocumentWriter<W> {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= SINK_BUFFER_BYTES { self.flush_buffer().await } else { Ok(()) }
    }

    async fn rewind(&mut self) -> Result<(), Failure> {
        self.buffer.clear();
        self.spooled.as_mut().ok_or_else(interrupted_write)?.rewind();
        Ok(())
    }
}

/// A write was dropped half-way and the sink used on: a mistake in the source.
fn interrupted_write() -> Failure {
    Failure::new(Cause::Unknown, "the document was let go while it was written")
}
