//! What runs beside the loop: each job asks the source or the store, and answers once.

use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use tokio::sync::{Mutex as Turn, OnceCell};

use crate::archive::{Archive, Draft, Written};
use crate::engine::{
    Cause, ClockReading, ErrorAction, Failure, PageToken, RecheckPolicy, RequestScope, Session,
    SessionId, Timestamp,
};
use crate::ledger::{ItemNo, Tally};
use crate::retry::Policy;
use crate::source::{Fetched, Listing, News, Next, Renewal, Sink, Source, Wanted};
use crate::worker::breakers::{Circuits, Halt, Pass, Shut};
use crate::worker::downloads::{Control, Errand, Wish};
use crate::worker::group::{Group, Weight};
use crate::worker::rows::Rows;
use crate::worker::store::{Batch, Collection, PageRecorded, Store, Wants};
use crate::worker::world::World;

/// How often a refused credential is looked at for a change. A person who has just
/// put a new token in place waits for it; reading a small file costs nothing.
const CREDENTIAL_LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Bytes gathered before they go to a draft on disk, so that a slow disk is met away from the loop.
const SINK_BYTES: usize = 256 * 1024;

/// Blob ids that one attempt follows. A document that is stored under one is not looked for again,
/// so that more than one change within an attempt is rare; a server that never keeps a promise
/// costs the item its attempts.
const BLOB_CHANGES_MAX: u32 = 2;

/// Known-good documents of which one is chosen by chance: any of them may have been deleted since.
pub(super) const KNOWN_GOOD_MAX: usize = 8;

/// The answer of a job.
#[expect(clippy::large_enum_variant, reason = "nearly all are the largest")]
pub(super) enum Done {
    Looked(Result<News, Failure>),
    /// Nobody was asked: everything is to be listed once more.
    ReconcileDue,
    Paged(Result<PageRecorded, Failure>),
    Proved(Result<(), Failure>),
    Refilled(Result<Batch, Failure>),
    Fetched {
        errand: Errand,
        /// The leave that it was fetched with.
        pass: Pass,
        answer: Result<Draft, Failure>,
    },
    /// When a document that was served before was asked for, and served again.
    KnownGood(Option<Timestamp>),
    Committed {
        items: Vec<ItemNo>,
        retry_at: Option<Timestamp>,
        weight: Weight,
        took: Duration,
        result: Result<Tally, Failure>,
    },
    Finished(Result<Tally, Failure>),
    Renewed(Result<Renewal, Failure>),
    /// A breaker let nothing through.
    Shut(Shut),
}

/// The store, shared by the jobs, which use it one after the other and away from the loop.
#[derive(Debug)]
pub struct Shared<W> {
    world: Rc<W>,
    store: Arc<Mutex<Store>>,
    archive: Arc<Archive>,
    turns: Rc<Turns>,
    /// Set once the account behind the source is known to be the ledger's.
    account: Rc<OnceCell<()>>,
}

/// Has groups become durable in the order in which they came, two of them at a time: the next is
/// written while one is placed and recorded. Each step falls to whoever has waited longest.
#[derive(Debug, Default)]
struct Turns {
    to_write: Turn<()>,
    to_place: Turn<()>,
}

impl<W> Clone for Shared<W> {
    fn clone(&self) -> Self {
        Self {
            world: Rc::clone(&self.world),
            store: Arc::clone(&self.store),
            archive: Arc::clone(&self.archive),
            turns: Rc::clone(&self.turns),
            account: Rc::clone(&self.account),
        }
    }
}

impl<W: World> Shared<W> {
    #[must_use]
    pub fn new(world: Rc<W>, store: Store) -> Self {
        let archive = store.archive();
        let (store, turns) = (Arc::new(Mutex::new(store)), Rc::default());
        Self { world, store, archive, turns, account: Rc::default() }
    }

    pub(super) async fn with<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Store) -> T + Send + 'static,
    ) -> T {
        let store = Arc::clone(&self.store);
        self.world
            .offload(move || job(&mut store.lock().unwrap_or_else(PoisonError::into_inner)))
            .await
    }

    /// Makes sure that the account behind the source is the ledger's, before a cursor is sent to it.
    async fn check_account(&self, source: &impl Source) -> Result<(), Failure> {
        let check = async || {
            let account = source.account().await?;
            self.with(move |store| store.check_account(&account)).await
        };
        self.account.get_or_try_init(check).await.copied()
    }

    /// Makes a group durable: its bytes, their names, then their rows. Groups end in their order,
    /// also one that fails early.
    async fn commit(
        &self,
        group: Group,
        recheck: RecheckPolicy,
        now: Timestamp,
    ) -> Result<Tally, Failure> {
        let writing = self.turns.to_write.lock().await;
        let written = self.write(group).await;
        let _placing = self.turns.to_place.lock().await;
        drop(writing);
        let (written, rows) = written?;
        let archive = Arc::clone(&self.archive);
        let place = move || written.map(|written| archive.place(written)).transpose();
        let placed = self.world.offload(place).await?;
        self.with(move |store| store.record(rows, placed, recheck, now)).await
    }

    async fn write(&self, group: Group) -> Result<(Option<Written>, Rows), Failure> {
        let (papers, rows) = self.with(|store| store.sort(group)).await?;
        let archive = Arc::clone(&self.archive);
        let write = move || papers.map(|papers| archive.write(papers)).transpose();
        Ok((self.world.offload(write).await?, rows))
    }
}

type Job = LocalBoxFuture<'static, Done>;

/// Asks for news: of the source, and of quarantined items whose time has come.
pub(super) fn look<S: Source + 'static, W: World>(
    source: &Rc<S>,
    shared: &Shared<W>,
    circuits: &Circuits,
    not_before: ClockReading,
) -> Job {
    let (source, shared, circuits) = (Rc::clone(source), shared.clone(), circuits.clone());
    Box::pin(async move {
        shared.world.sleep_until(not_before).await;
        let now = shared.world.now();
        match shared.with(move |store| store.is_reconcile_due(now)).await {
            Ok(true) => return Done::ReconcileDue,
            Ok(false) => {}
            Err(failure) => return Done::Looked(Err(failure)),
        }
        let known = shared.with(move |store| store.known_news(now)).await;
        let looked = match known {
            Ok((true, _) | (false, None)) => Ok(News::Something),
            Ok((false, Some(cursor))) => {
                let look = async {
                    shared.check_account(&*source).await?;
                    source.look(&cursor).await
                };
                circuits.call(RequestScope::Listing, look).await
            }
            Err(failure) => Err(Halt::Failed(failure)),
        };
        halted(looked).map_or_else(Done::Shut, Done::Looked)
    })
}

/// Lists one page and records it, opening the session's collection if need be.
pub(super) fn collect<S: Source + 'static, W: World>(
    source: &Rc<S>,
    shared: &Shared<W>,
    circuits: &Circuits,
    session: &Session,
    wants: Wants,
    not_before: ClockReading,
    retry: &Policy,
) -> Job {
    let (source, shared, session) = (Rc::clone(source), shared.clone(), session.clone());
    let (circuits, retry) = (circuits.clone(), retry.clone());
    Box::pin(async move {
        shared.world.sleep_until(not_before).await;
        let paged = collect_page(&*source, &shared, &circuits, session, wants, &retry).await;
        halted(paged).map_or_else(Done::Shut, Done::Paged)
    })
}

async fn collect_page<S: Source, W: World>(
    source: &S,
    shared: &Shared<W>,
    circuits: &Circuits,
    session: Session,
    wants: Wants,
    retry: &Policy,
) -> Result<PageRecorded, Halt> {
    let id = session.id.clone();
    let now = shared.world.now();
    let collection = shared.with(move |store| store.collection(&id, wants, now)).await?;
    let (listing, place) = match collection {
        Collection::Open { listing, place } => (listing, place),
        Collection::Listed { tally } => {
            return Ok(PageRecorded { tally, total: None, listed_all: true, reconciled: None });
        }
        Collection::NotBegun { kind, listing } => {
            // The point from which the next look counts is pinned before anything is listed.
            let pinned = match &listing {
                Listing::Everything => {
                    let pin = async {
                        shared.check_account(source).await?;
                        source.pin().await
                    };
                    Some(circuits.call(RequestScope::Listing, pin).await?)
                }
                Listing::Since(_) => None,
            };
            let session = session.clone();
            shared.with(move |store| store.begin(&session, kind, pinned, now)).await?;
            (listing, None)
        }
    };
    let ask = async |place: Option<&PageToken>| {
        let page = retry.when(is_quick).run(async || {
            let page = async {
                shared.check_account(source).await?;
                source.page(&listing, place).await
            };
            circuits.call(RequestScope::Listing, page).await
        });
        page.await.map_err(|gave_up| {
            gave_up.failure(|guard| {
                Failure::new(Cause::Server, format!("{guard} is left alone")).into()
            })
        })
    };
    let mut page = ask(place.as_ref()).await?;
    if let Next::Unproved { back, .. } = &page.next {
        page = ask(Some(back)).await?;
    }
    if let Next::Unproved { why, .. } = &page.next {
        // The next attempt counts, and asks for, everything once more.
        shared.with(|store| store.begin_listing_again()).await?;
        return Err(Failure::new(Cause::ListingIncomplete, why).into());
    }
    let now = shared.world.now();
    Ok(shared.with(move |store| store.record_page(&page, now)).await?)
}

/// Tells what failed from what was not tried.
fn halted<T>(end: Result<T, Halt>) -> Result<Result<T, Failure>, Shut> {
    match end {
        Ok(brought) => Ok(Ok(brought)),
        Err(Halt::Failed(failure)) => Ok(Err(failure)),
        Err(Halt::Shut(shut)) => Err(shut),
    }
}

/// Whether a page may be asked for again at once. One that used up its time is the session's
/// to wait for: several of them would look as if the worker were stuck.
fn is_quick(halt: &Halt) -> bool {
    match halt {
        Halt::Failed(failure) => failure.is_transient() && failure.cause != Cause::Timeout,
        Halt::Shut(_) => false,
    }
}

/// Asks one harmless question, to see whether the source is well again.
pub(super) fn prove<S: Source + 'static>(source: &Rc<S>, circuits: &Circuits) -> Job {
    let (source, circuits) = (Rc::clone(source), circuits.clone());
    Box::pin(async move {
        let proved = circuits.call(RequestScope::Session, source.pin()).await.map(drop);
        halted(proved).map_or_else(Done::Shut, Done::Proved)
    })
}

/// Takes more of what is due from the ledger.
pub(super) fn refill<W: World>(shared: &Shared<W>, wish: Wish, now: Timestamp) -> Job {
    let shared = shared.clone();
    Box::pin(async move { Done::Refilled(shared.with(move |store| store.due(wish, now)).await) })
}

/// Fetches one document, and follows it to another blob.
pub(super) fn fetch<S: Source + 'static, W: World>(
    source: &Rc<S>,
    shared: &Shared<W>,
    pass: Pass,
    mut errand: Errand,
) -> Job {
    let (source, world) = (Rc::clone(source), Rc::clone(&shared.world));
    let draft = shared.archive.draft();
    Box::pin(async move {
        let mut sink = DraftSink { world, draft: Some(draft), gathered: Vec::new() };
        let brought = match control(&*source, &mut errand).await {
            Ok(()) => bring(&*source, &mut errand.wanted, &mut sink).await,
            Err(failure) => Err(failure),
        };
        let answer = match brought {
            Ok(()) => sink.finish().await,
            Err(failure) => Err(failure),
        };
        Done::Fetched { errand, pass, answer }
    })
}

/// Asks once more for a document that is stored, to tell items that fail from a provider that is down.
pub(super) fn fetch_known_good<S: Source + 'static, W: World>(
    source: &Rc<S>,
    shared: &Shared<W>,
    served: Vec<Wanted>,
) -> Job {
    let (source, shared) = (Rc::clone(source), shared.clone());
    Box::pin(async move {
        // What fails in the ledger fails again where it matters.
        let mut known =
            shared.with(|store| store.known_good(KNOWN_GOOD_MAX)).await.unwrap_or_default();
        if known.is_empty() {
            known = served;
        }
        while !known.is_empty() {
            let at = shared.world.draw().index_below(known.len());
            let wanted = known.swap_remove(at);
            // After whatever failed within the same millisecond.
            let sent = shared.world.now().after(Duration::from_millis(1));
            match source.fetch(&wanted, &mut Discard).await {
                Ok(Fetched::Complete(_)) => return Done::KnownGood(Some(sent)),
                // It was deleted or changed meanwhile.
                Ok(Fetched::Moved { .. }) => {}
                Err(failure) if failure.cause == Cause::NotFound => {}
                Err(_) => break,
            }
        }
        Done::KnownGood(None)
    })
}

/// Brings a document into the sink. `wanted` names the blob that was brought in the end.
async fn bring(
    source: &impl Source,
    wanted: &mut Wanted,
    sink: &mut impl Sink,
) -> Result<(), Failure> {
    for _ in 0..=BLOB_CHANGES_MAX {
        match source.fetch(wanted, sink).await? {
            Fetched::Complete(_) => return Ok(()),
            Fetched::Moved { blob, size } => (wanted.blob, wanted.size) = (blob, size),
        }
        sink.rewind().await?;
    }
    let why = format!("its blob id changed {} times in one attempt", BLOB_CHANGES_MAX + 1);
    Err(Failure::new(Cause::Server, why))
}

/// Asks for something that is no document, where an errand needs that. Where it succeeds, a throttle
/// of the document that follows is the document's own.
async fn control(source: &impl Source, errand: &mut Errand) -> Result<(), Failure> {
    if errand.control != Control::Needed {
        return Ok(());
    }
    match source.pin().await {
        Ok(_cursor) => {
            errand.control = Control::Made;
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
pub(super) fn commit<W: World>(
    shared: &Shared<W>,
    group: Group,
    recheck: RecheckPolicy,
    now: Timestamp,
) -> Job {
    let shared = shared.clone();
    Box::pin(async move {
        let (items, retry_at, weight) = (group.items(), group.retry_at(), group.weight());
        let result = shared.commit(group, recheck, now).await;
        let took = shared.world.now().since(now);
        Done::Committed { items, retry_at, weight, took, result }
    })
}

/// Closes the session in the ledger.
pub(super) fn finish<W: World>(shared: &Shared<W>, session: &SessionId, now: Timestamp) -> Job {
    let (shared, id) = (shared.clone(), session.clone());
    Box::pin(async move { Done::Finished(shared.with(move |store| store.finish(&id, now)).await) })
}

/// Reads the credential again.
pub(super) fn renew<S: Source + 'static>(source: &Rc<S>) -> Job {
    let source = Rc::clone(source);
    Box::pin(async move { Done::Renewed(source.renew().await) })
}

/// Waits until there is another credential.
pub(super) fn watch_credential<S: Source + 'static, W: World>(
    source: &Rc<S>,
    world: &Rc<W>,
) -> Job {
    let (source, world) = (Rc::clone(source), Rc::clone(world));
    Box::pin(async move {
        loop {
            world.sleep_until(world.time().after(CREDENTIAL_LOOK_INTERVAL)).await;
            // What goes wrong here is seen again when the wait is over.
            if let Ok(Renewal::Changed) = source.renew().await {
                return Done::Renewed(Ok(Renewal::Changed));
            }
        }
    })
}

/// Leads the bytes of a document into its draft.
struct DraftSink<W> {
    world: Rc<W>,
    /// Absent only while it is away on a blocking thread.
    draft: Option<Draft>,
    gathered: Vec<u8>,
}

impl<W: World> DraftSink<W> {
    async fn finish(mut self) -> Result<Draft, Failure> {
        self.pass_on().await?;
        self.draft.ok_or_else(lost)
    }

    /// Appends what was gathered: at once where that touches memory only.
    async fn pass_on(&mut self) -> Result<(), Failure> {
        let mut draft = self.draft.take().ok_or_else(lost)?;
        let gathered = std::mem::take(&mut self.gathered);
        let (draft, appended) = if draft.fits(gathered.len()) {
            let appended = draft.append(&gathered);
            (draft, appended)
        } else {
            self.world
                .offload(move || {
                    let appended = draft.append(&gathered);
                    (draft, appended)
                })
                .await
        };
        self.draft = Some(draft);
        appended
    }
}

/// Keeps nothing.
struct Discard;

impl Sink for Discard {
    async fn write(&mut self, _bytes: &[u8]) -> Result<(), Failure> {
        Ok(())
    }

    async fn rewind(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

impl<W: World> Sink for DraftSink<W> {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= SINK_BYTES { self.pass_on().await } else { Ok(()) }
    }

    async fn rewind(&mut self) -> Result<(), Failure> {
        self.gathered.clear();
        self.draft.as_mut().ok_or_else(lost)?.rewind();
        Ok(())
    }
}

/// A write was dropped half-way and the sink used on: a mistake in the source.
fn lost() -> Failure {
    Failure::new(Cause::Unknown, "the document was let go while it was written")
}
