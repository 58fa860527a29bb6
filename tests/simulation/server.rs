//! A made-up mailbox service with moods, and the truth about what it holds.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use cynosure::engine::rate_limit::{RateLimitHeaders, ReplyOutcome};
use cynosure::engine::{
    AccountId, BlobId, Cause, Cursor, DocumentId, Failure, ItemId, PageToken, ThrottleStrikes,
    Timestamp,
};
use cynosure::retry::RetryPolicy;
use cynosure::source::http::{AttemptKind, AttemptTracker, RequestInfo, RequestLimiter};
use cynosure::source::{
    CredentialChange, DocumentRef, FetchOutcome, ListedDocument, Listing, NextPage, Page,
    PollResult, Sink, Source,
};
use sha2::{Digest, Sha256};

use crate::world::SimWorld;

/// Entries on a page of a listing.
pub(crate) const PAGE: u32 = 7;

/// What the service is like at the moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mood {
    Well,
    /// Everything answers 503.
    Down,
    /// No route to it.
    Unreachable,
    /// One in three requests fails, in all the ways there are.
    Flaky,
    /// So many requests per window of so many seconds, then 429 with the time told.
    Throttling {
        requests: u32,
        window: i64,
    },
    /// So many per minute, then 429 without a time told.
    Mute {
        requests: u32,
    },
    /// Every answer is a login page.
    Walled,
    /// Two in three documents fail, whichever are asked for.
    Ailing,
    /// Well, and will be for the rest of the case.
    Healed,
}

/// How a message fails whenever it is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Bad {
    /// 404, though the listing has it.
    Missing,
    /// 500.
    Failed,
    /// The body breaks off.
    Cut,
    /// The body has another length than was listed.
    WrongSize,
    /// The connection breaks.
    Reset,
    /// No answer, until the client has had enough.
    Silent,
}

impl Bad {
    pub(crate) const ALL: [Self; 6] =
        [Self::Missing, Self::Failed, Self::Cut, Self::WrongSize, Self::Reset, Self::Silent];

    fn cause(self) -> Cause {
        match self {
            Self::Missing | Self::Failed => Cause::Server,
            Self::Cut | Self::WrongSize => Cause::Truncated,
            Self::Reset => Cause::Connection,
            Self::Silent => Cause::Timeout,
        }
    }

    /// How much longer than others its answer takes.
    pub(crate) fn takes(self) -> Duration {
        match self {
            Self::Silent => Duration::from_secs(30),
            Self::Missing | Self::Failed | Self::Cut | Self::WrongSize | Self::Reset => {
                Duration::ZERO
            }
        }
    }
}

/// One message.
#[expect(clippy::struct_excessive_bools, reason = "each is a fault of its own")]
#[derive(Clone, Debug)]
pub(crate) struct Mail {
    pub(crate) item: String,
    pub(crate) bytes: Vec<u8>,
    /// Contents that it had before.
    pub(crate) replaced: Vec<Vec<u8>>,
    /// Deleted: still in no listing, and 404 when asked for.
    pub(crate) deleted: bool,
    /// Always 500.
    pub(crate) poison: bool,
    /// Named by listings, and never found.
    pub(crate) vanished: bool,
    /// Always 429.
    pub(crate) throttled: bool,
    pub(crate) bad: Option<Bad>,
    /// How often it was asked for.
    pub(crate) asked: u32,
    /// How often its bytes were given out in full.
    pub(crate) served: u32,
}

impl Mail {
    /// The id of its content.
    fn blob(&self) -> BlobId {
        let hash = Sha256::digest(&self.bytes);
        BlobId::new(hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    }

    /// Puts another content in the place of the present one.
    pub(crate) fn replace(&mut self, bytes: Vec<u8>) {
        let replaced = std::mem::replace(&mut self.bytes, bytes);
        self.replaced.push(replaced);
    }
}

/// The truth.
pub(crate) struct Server {
    pub(crate) mail: BTreeMap<u64, Mail>,
    pub(crate) mood: Mood,
    /// Whose mail it shows.
    pub(crate) account: &'static str,
    /// Requests that carry a cursor, a place or an id, by the account that they were sent to.
    pub(crate) informed: BTreeMap<&'static str, u64>,
    /// So many pages of listings come without ids, wherever they are.
    pub(crate) empty_pages: u32,
    pub(crate) credential: u32,
    /// What is in the worker's credential file.
    pub(crate) credential_file: u32,
    /// How long it takes to read it.
    pub(crate) renewal_takes: Duration,
    /// Requests with a credential that is not valid.
    pub(crate) unauthorized: u64,
    /// Cursors before this one are forgotten.
    forgotten: u64,
    throttle: Throttle,
    pub(crate) requests: u64,
    /// Requests that are not answered yet.
    pub(crate) in_flight: u64,
    /// How much longer than usual an answer takes.
    pub(crate) slowness: Duration,
    pub(crate) requests_while_closed: u64,
    pub(crate) throttled: u64,
    /// How long the 429 of one mail says to stay away.
    pub(crate) retry_after: Option<Duration>,
    pub(crate) disk_is_full: bool,
    /// How often the disk was full: what was being stored is then fetched again.
    pub(crate) disk_faults: u64,
}

#[derive(Default)]
struct Throttle {
    window: i64,
    used: u32,
    closed_at: Timestamp,
    closed_until: Timestamp,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self {
            mail: BTreeMap::new(),
            mood: Mood::Well,
            account: "alice",
            informed: BTreeMap::new(),
            empty_pages: 0,
            credential: 1,
            credential_file: 1,
            renewal_takes: Duration::ZERO,
            unauthorized: 0,
            forgotten: 0,
            throttle: Throttle::default(),
            requests: 0,
            in_flight: 0,
            slowness: Duration::ZERO,
            requests_while_closed: 0,
            throttled: 0,
            retry_after: None,
            disk_is_full: false,
            disk_faults: 0,
        }
    }

    /// Delivers `number` messages, some into threads that are there.
    pub(crate) fn deliver(&mut self, number: u64, world: &SimWorld) {
        for _ in 0..number {
            let no = self.mail.len() as u64 + 1;
            let thread = if world.one_in(3) && no > 1 { 1 + world.below(no - 1) } else { no };
            let length = if world.one_in(200) { 300_000 } else { 1 + world.below(400) };
            let bytes = (0..length).map(|at| (at * 31 + no * 7).to_le_bytes()[0]).collect();
            let mail = Mail {
                item: format!("T{thread}"),
                bytes,
                replaced: Vec::new(),
                deleted: false,
                poison: world.one_in(150),
                vanished: false,
                throttled: false,
                bad: None,
                asked: 0,
                served: 0,
            };
            self.mail.insert(no, mail);
        }
    }

    /// Waits until so many messages were given out: the download is under way.
    pub(crate) async fn until_served(server: &RefCell<Self>, number: usize) {
        let served = || server.borrow().mail.values().filter(|mail| mail.served > 0).count();
        while served() < number {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn delete_one(&mut self, world: &SimWorld) {
        if !self.mail.is_empty() {
            let no = 1 + world.below(self.mail.len() as u64);
            self.mail.entry(no).and_modify(|mail| mail.deleted = true);
        }
    }

    /// Is restored from a backup: every mail has another content under its old id, one is new, and
    /// no cursor from before is known any more.
    pub(crate) fn restore(&mut self, world: &SimWorld) {
        self.deliver(1, world);
        for mail in self.mail.values_mut() {
            let mut bytes = mail.bytes.clone();
            bytes.extend_from_slice(b", restored");
            mail.replace(bytes);
        }
        self.forget_places();
    }

    pub(crate) fn forget_places(&mut self) {
        self.forgotten = self.mail.len() as u64;
    }

    /// Everything is repaired.
    pub(crate) fn heal(&mut self) {
        self.mood = Mood::Healed;
        self.credential_file = self.credential;
        for mail in self.mail.values_mut() {
            (mail.poison, mail.throttled) = (false, false);
        }
    }

    fn newest(&self) -> u64 {
        self.mail.len() as u64
    }

    fn refuses(&mut self, sent: Timestamp, known: u32, world: &SimWorld) -> Result<(), Failure> {
        self.requests += 1;
        let now = world.true_now();
        if self.throttle.closed_at < sent && sent < self.throttle.closed_until {
            self.requests_while_closed += 1;
        }
        if known != self.credential {
            self.unauthorized += 1;
            return Err(Failure::new(Cause::Unauthorized, "401 from the made-up service"));
        }
        match self.mood {
            Mood::Well | Mood::Ailing | Mood::Healed => Ok(()),
            Mood::Down => Err(Failure::new(Cause::Server, "503 from the made-up service")),
            Mood::Unreachable => Err(Failure::new(Cause::LocalNetwork, "no route")),
            Mood::Walled => Err(Failure::new(Cause::Challenge, "a login page")),
            Mood::Flaky if world.one_in(3) => {
                const CAUSES: [Cause; 5] = [
                    Cause::Server,
                    Cause::Connection,
                    Cause::Timeout,
                    Cause::Truncated,
                    Cause::Unknown,
                ];
                let cause = CAUSES[world.index(CAUSES.len())];
                Err(Failure::new(cause, "flaky"))
            }
            Mood::Flaky => Ok(()),
            Mood::Throttling { requests, window } => self.throttle(requests, window, now, true),
            Mood::Mute { requests } => self.throttle(requests, 60, now, false),
        }
    }

    /// Answers "too many" for one mail.
    fn throttles(&self, no: u64) -> Result<(), Failure> {
        if self.mail.get(&no).is_none_or(|mail| !mail.throttled) {
            return Ok(());
        }
        Err(Failure::new(Cause::RateLimit, "429 from the made-up service")
            .with_retry_after(self.retry_after))
    }

    fn throttle(
        &mut self,
        requests: u32,
        seconds: i64,
        now: Timestamp,
        tells: bool,
    ) -> Result<(), Failure> {
        let window = now.0.div_euclid(seconds * 1000);
        if self.throttle.window != window {
            (self.throttle.window, self.throttle.used) = (window, 0);
        }
        self.throttle.used += 1;
        if self.throttle.used <= requests {
            return Ok(());
        }
        self.throttled += 1;
        let failure = Failure::new(Cause::RateLimit, "429 from the made-up service");
        if !tells {
            return Err(failure);
        }
        let until = Timestamp((window + 1) * seconds * 1000);
        if self.throttle.closed_until < until {
            (self.throttle.closed_at, self.throttle.closed_until) = (now, until);
        }
        Err(failure.with_retry_after(Some(until.since(now))))
    }
}

/// The way to the service: what the worker holds.
pub(crate) struct SimSource {
    pub(crate) server: Rc<RefCell<Server>>,
    pub(crate) world: SimWorld,
    /// The credential as it was last read.
    pub(crate) known: std::cell::Cell<u32>,
    /// The one account that it speaks to.
    account: RefCell<Option<AccountId>>,
    gate: Rc<dyn RequestLimiter>,
    /// How a document is asked for again at once.
    retry: RetryPolicy,
}

impl SimSource {
    pub(crate) fn new(
        server: &Rc<RefCell<Server>>,
        world: &SimWorld,
        account: Option<AccountId>,
        gate: Rc<dyn RequestLimiter>,
        retry: RetryPolicy,
    ) -> Self {
        let known = std::cell::Cell::new(server.borrow().credential_file);
        let account = RefCell::new(account);
        Self { server: Rc::clone(server), world: world.clone(), known, account, gate, retry }
    }

    /// Finds out whose mail there is, and refuses another's.
    fn discover(&self) -> Result<AccountId, Failure> {
        let is = AccountId::new(self.server.borrow().account);
        let was = self.account.borrow_mut().get_or_insert_with(|| is.clone()).clone();
        if was == is { Ok(is) } else { Err(Failure::account_changed("sim", &was, &is)) }
    }

    /// Tells the server something that it told before.
    fn inform(&self) -> Result<(), Failure> {
        self.discover()?;
        let account = self.server.borrow().account;
        *self.server.borrow_mut().informed.entry(account).or_default() += 1;
        Ok(())
    }

    /// One request that tells the server something it told before.
    async fn informed_request(&self) -> Result<(), Failure> {
        self.inform()?;
        self.request().await
    }

    /// One request for something that is as it should be.
    async fn request(&self) -> Result<(), Failure> {
        self.send(AttemptKind::First, None).await
    }

    /// One request, for a mail if one is given: it passes the gate, takes a while, and may be
    /// refused.
    async fn send(
        &self,
        attempt: AttemptKind,
        mail: Option<(u64, ThrottleStrikes)>,
    ) -> Result<(), Failure> {
        let strikes = mail.map(|(_, strikes)| strikes);
        let bad = mail.and_then(|(no, _)| self.server.borrow().mail[&no].bad);
        let mut passage = self.gate.acquire(RequestInfo { strikes, ..outgoing(attempt) }).await?;
        self.world.step().await;
        let sent = self.world.true_now();
        let flight = Flight::begin(&self.server);
        let slowness = self.server.borrow().slowness + bad.map(Bad::takes).unwrap_or_default();
        let latency = slowness + Duration::from_millis(5 + self.world.below(200));
        tokio::time::sleep(latency).await;
        drop(flight);
        let answer = self.server.borrow_mut().refuses(sent, self.known.get(), &self.world);
        let answer = match mail {
            Some((no, _)) => answer.and_then(|()| self.server.borrow().throttles(no)),
            None => answer,
        };
        let answer = answer.and_then(|()| match bad {
            Some(bad) => Err(Failure::new(bad.cause(), format!("{bad:?}"))),
            None => Ok(()),
        });
        let told = answer.as_ref().err().and_then(|failure| failure.retry_after);
        passage.record_head(
            RateLimitHeaders { retry_after: told, ..RateLimitHeaders::default() },
            latency,
        );
        let held_until = passage.record_outcome(match &answer {
            Ok(()) => ReplyOutcome::Accepted,
            Err(failure) if failure.cause == Cause::RateLimit => ReplyOutcome::Throttled,
            Err(_) => ReplyOutcome::Failed,
        });
        let strikes = passage.strikes();
        drop(passage);
        self.world.step().await;
        answer.map_err(|failure| failure.with_blocked_until(held_until).with_strikes(strikes))
    }

    fn vanished(&self, from: u64, to: u64) -> Vec<DocumentId> {
        let server = self.server.borrow();
        let named = server.mail.range(from + 1..to.max(from) + 1);
        let vanished = named.filter(|(_, mail)| mail.vanished && !mail.deleted);
        vanished.map(|(no, _)| DocumentId::new(format!("D{no}"))).collect()
    }

    /// Asks for a document, and at once again where that may help and the budget allows it: what
    /// the HTTP client does.
    async fn ask_for(
        &self,
        mail: (u64, ThrottleStrikes),
        first: AttemptKind,
    ) -> Result<(), Failure> {
        let bad = self.server.borrow().mail[&mail.0].bad;
        let mut tries = AttemptTracker::default();
        let most = self.retry.backoff().max_attempts;
        let outcome = self.retry.when(|failure: &Failure| failure.is_transient()).run(async || {
            let attempt = tries.start_attempt(first);
            self.server.borrow_mut().mail.entry(mail.0).and_modify(|mail| mail.asked += 1);
            let answer = self.send(attempt, Some(mail)).await;
            if let Err(failure) = &answer {
                tries.record_failure(failure);
            }
            match answer {
                // A client that asks for the message in another way finds that it is there.
                Err(failure) if bad == Some(Bad::Missing) => {
                    Err(Failure { is_retry_budget_exhausted: false, ..failure }
                        .with_retry_after(Some(Duration::ZERO)))
                }
                Err(failure)
                    if failure.is_transient()
                        && tries.attempts() < most
                        && !self.gate.try_take_retry(outgoing(AttemptKind::Retry)) =>
                {
                    Err(Failure { is_retry_budget_exhausted: true, ..failure })
                }
                answer => answer,
            }
        });
        let outcome = outcome.await;
        outcome.map_err(|gave_up| {
            let failure = gave_up.into_failure(|guard| Failure::new(Cause::Server, guard));
            tries.annotate(failure)
        })
    }

    fn entries(&self, from: u64, to: u64) -> Vec<ListedDocument> {
        let server = self.server.borrow();
        let listed = server
            .mail
            .range(from + 1..to.max(from) + 1)
            .filter(|(_, mail)| !mail.deleted && !mail.vanished);
        listed
            .map(|(no, mail)| ListedDocument {
                item: ItemId::new(&*mail.item),
                document: DocumentId::new(format!("D{no}")),
                blob: mail.blob(),
                size: Some(mail.bytes.len() as u64),
            })
            .collect()
    }
}

impl Source for SimSource {
    async fn account(&self) -> Result<AccountId, Failure> {
        self.discover()
    }

    async fn poll_changes(&self, cursor: &Cursor) -> Result<PollResult, Failure> {
        self.informed_request().await?;
        let server = self.server.borrow();
        let since = number(cursor.as_str());
        if since < server.forgotten {
            return Err(Failure::new(Cause::CursorExpired, "cannot calculate changes"));
        }
        Ok(if since < server.newest() { PollResult::Changed } else { PollResult::Unchanged })
    }

    async fn current_cursor(&self) -> Result<Cursor, Failure> {
        self.discover()?;
        self.request().await?;
        Ok(Cursor::new(self.server.borrow().newest().to_string()))
    }

    async fn list_page(
        &self,
        listing: &Listing,
        place: Option<&PageToken>,
    ) -> Result<Page, Failure> {
        self.informed_request().await?;
        // What comes after the first page is in no listing: it is found by the next look.
        let newest = self.server.borrow().newest();
        let (from, end) = match (place, listing) {
            (Some(place), _) => {
                let (from, end) = place.as_str().split_once(" of ").expect("a place of ours");
                (number(from), number(end))
            }
            (None, Listing::Full) => (0, newest),
            (None, Listing::Since(cursor)) => (number(cursor.as_str()), newest),
        };
        if matches!(listing, Listing::Since(_)) && from < self.server.borrow().forgotten {
            return Err(Failure::new(Cause::CursorExpired, "cannot calculate changes"));
        }
        let left = self.server.borrow().empty_pages.checked_sub(1).filter(|_| from < end);
        if let Some(left) = left {
            self.server.borrow_mut().empty_pages = left;
            let back = PageToken::new(format!("{from} of {end}"));
            let why = format!("the list ended after {from} of {end} mails");
            let next = NextPage::Unverified { resume_from: back, reason: why };
            return Ok(Page {
                entries: Vec::new(),
                missing_documents: Vec::new(),
                total_documents: None,
                next,
            });
        }
        let to = end.min(from + u64::from(PAGE));
        let begin = match listing {
            Listing::Full => 0,
            Listing::Since(cursor) => number(cursor.as_str()),
        };
        let missing = if to < end { Vec::new() } else { self.vanished(begin, end) };
        let next = if to < end {
            NextPage::More(PageToken::new(format!("{to} of {end}")))
        } else {
            NextPage::Done(match listing {
                Listing::Full => None,
                Listing::Since(_) => Some(Cursor::new(to.to_string())),
            })
        };
        Ok(Page {
            entries: self.entries(from, to),
            missing_documents: missing,
            total_documents: None,
            next,
        })
    }

    async fn fetch(
        &self,
        wanted: &DocumentRef,
        sink: &mut impl Sink,
    ) -> Result<FetchOutcome, Failure> {
        let no = number(&wanted.document.as_str()[1..]);
        self.inform()?;
        let first = if wanted.is_suspect { AttemptKind::Suspect } else { AttemptKind::First };
        self.ask_for((no, wanted.strikes), first).await?;
        let mail = self.server.borrow().mail[&no].clone();
        if mail.deleted {
            return Err(Failure::new(Cause::NotFound, "404 from the made-up service"));
        }
        if self.server.borrow().mood == Mood::Ailing && self.world.below(3) > 0 {
            return Err(Failure::new(Cause::Timeout, "no answer in time"));
        }
        if mail.poison {
            return Err(Failure::new(Cause::Server, "500 from the made-up service"));
        }
        if mail.blob() != wanted.blob {
            let size = Some(mail.bytes.len() as u64);
            return Ok(FetchOutcome::Moved { blob: mail.blob(), size });
        }
        for chunk in mail.bytes.chunks(64 * 1024) {
            sink.write(chunk).await?;
        }
        self.server.borrow_mut().mail.entry(no).and_modify(|mail| mail.served += 1);
        Ok(FetchOutcome::Complete(mail.bytes.len() as u64))
    }

    async fn refresh_credential(&self) -> Result<CredentialChange, Failure> {
        self.world.step().await;
        let takes = self.server.borrow().renewal_takes;
        tokio::time::sleep(takes).await;
        let file = self.server.borrow().credential_file;
        let changed = self.known.replace(file) != file;
        Ok(if changed { CredentialChange::Changed } else { CredentialChange::Unchanged })
    }

    fn blocked_until(&self) -> Option<Timestamp> {
        self.gate.blocked_until()
    }
}

/// A request on its way, also where it is given up.
struct Flight<'a>(&'a RefCell<Server>);

impl<'a> Flight<'a> {
    fn begin(server: &'a RefCell<Server>) -> Self {
        server.borrow_mut().in_flight += 1;
        Self(server)
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.0.borrow_mut().in_flight -= 1;
    }
}

fn outgoing(attempt: AttemptKind) -> RequestInfo<'static> {
    RequestInfo { host: "sim", path: "/", attempt, strikes: None }
}

fn number(text: &str) -> u64 {
    text.parse().expect("the worker gives back what it was given")
}
