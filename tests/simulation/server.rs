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

use crate::virtual_env::SimEnv;

/// Entries on a page of a listing.
pub(crate) const PAGE_ENTRIES: u32 = 7;

/// What the service is like at the moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ServerCondition {
    Healthy,
    /// Everything answers 503.
    Down,
    /// No route to it.
    Unreachable,
    /// One in three requests fails, in all the ways there are.
    Flaky,
    /// So many requests per window of so many seconds, then 429 with the time told.
    RateLimited {
        requests: u32,
        window: i64,
    },
    /// So many per minute, then 429 without a time told.
    RateLimitedSilently {
        requests: u32,
    },
    /// Every answer is a login page.
    LoginPage,
    /// Two in three documents fail, whichever are asked for.
    MostDocumentsFail,
    /// Well, and will be for the rest of the case.
    HealthyForGood,
}

/// How a message fails whenever it is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum BadMessage {
    /// 404, though the listing has it.
    Missing,
    /// 500.
    ServerError,
    /// The body breaks off.
    Truncated,
    /// The body has another length than was listed.
    WrongSize,
    /// The connection breaks.
    ConnectionReset,
    /// No answer, until the client has had enough.
    NoResponse,
}

impl BadMessage {
    pub(crate) const ALL: [Self; 6] = [
        Self::Missing,
        Self::ServerError,
        Self::Truncated,
        Self::WrongSize,
        Self::ConnectionReset,
        Self::NoResponse,
    ];

    fn cause(self) -> Cause {
        match self {
            Self::Missing | Self::ServerError => Cause::Server,
            Self::Truncated | Self::WrongSize => Cause::Truncated,
            Self::ConnectionReset => Cause::Connection,
            Self::NoResponse => Cause::Timeout,
        }
    }

    /// How much longer than others its answer takes.
    pub(crate) fn extra_latency(self) -> Duration {
        match self {
            Self::NoResponse => Duration::from_secs(30),
            Self::Missing
            | Self::ServerError
            | Self::Truncated
            | Self::WrongSize
            | Self::ConnectionReset => Duration::ZERO,
        }
    }
}

/// One message.
#[expect(clippy::struct_excessive_bools, reason = "each is a fault of its own")]
#[derive(Clone, Debug)]
pub(crate) struct ServerMessage {
    pub(crate) item: String,
    pub(crate) bytes: Vec<u8>,
    /// Contents that it had before.
    pub(crate) previous_contents: Vec<Vec<u8>>,
    /// Deleted: still in no listing, and 404 when asked for.
    pub(crate) is_deleted: bool,
    /// Always 500.
    pub(crate) always_fails: bool,
    /// Named by listings, and never found.
    pub(crate) is_never_found: bool,
    /// Always 429.
    pub(crate) is_always_throttled: bool,
    pub(crate) bad: Option<BadMessage>,
    /// How often it was asked for.
    pub(crate) request_count: u32,
    /// How often its bytes were given out in full.
    pub(crate) served_count: u32,
}

impl ServerMessage {
    /// The id of its content.
    fn blob(&self) -> BlobId {
        let hash = Sha256::digest(&self.bytes);
        BlobId::new(hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    }

    /// Puts another content in the place of the present one.
    pub(crate) fn replace(&mut self, bytes: Vec<u8>) {
        let replaced = std::mem::replace(&mut self.bytes, bytes);
        self.previous_contents.push(replaced);
    }
}

/// The truth.
pub(crate) struct SimServer {
    pub(crate) messages: BTreeMap<u64, ServerMessage>,
    pub(crate) condition: ServerCondition,
    /// Whose mail it shows.
    pub(crate) account: &'static str,
    /// Requests that carry a cursor, a place or an id, by the account that they were sent to.
    pub(crate) identifying_requests: BTreeMap<&'static str, u64>,
    /// So many pages of listings come without ids, wherever they are.
    pub(crate) empty_pages: u32,
    pub(crate) credential: u32,
    /// What is in the worker's credential file.
    pub(crate) credential_file: u32,
    /// How long it takes to read it.
    pub(crate) credential_read_duration: Duration,
    /// Requests with a credential that is not valid.
    pub(crate) unauthorized_requests: u64,
    /// Cursors before this one are forgotten.
    oldest_valid_cursor: u64,
    rate_limit: RateLimitWindow,
    pub(crate) requests: u64,
    /// Requests that are not answered yet.
    pub(crate) in_flight: u64,
    /// How much longer than usual an answer takes.
    pub(crate) extra_latency: Duration,
    pub(crate) requests_while_blocked: u64,
    pub(crate) rate_limited_requests: u64,
    /// How long the 429 of one mail says to stay away.
    pub(crate) retry_after: Option<Duration>,
    pub(crate) disk_is_full: bool,
    /// How often the disk was full: what was being stored is then fetched again.
    pub(crate) disk_faults: u64,
}

#[derive(Default)]
struct RateLimitWindow {
    window: i64,
    used: u32,
    blocked_at: Timestamp,
    blocked_until: Timestamp,
}

impl SimServer {
    pub(crate) fn new() -> Self {
        Self {
            messages: BTreeMap::new(),
            condition: ServerCondition::Healthy,
            account: "alice",
            identifying_requests: BTreeMap::new(),
            empty_pages: 0,
            credential: 1,
            credential_file: 1,
            credential_read_duration: Duration::ZERO,
            unauthorized_requests: 0,
            oldest_valid_cursor: 0,
            rate_limit: RateLimitWindow::default(),
            requests: 0,
            in_flight: 0,
            extra_latency: Duration::ZERO,
            requests_while_blocked: 0,
            rate_limited_requests: 0,
            retry_after: None,
            disk_is_full: false,
            disk_faults: 0,
        }
    }

    /// Delivers `number` messages, some into threads that are there.
    pub(crate) fn deliver(&mut self, number: u64, world: &SimEnv) {
        for _ in 0..number {
            let no = self.messages.len() as u64 + 1;
            let thread =
                if world.chance_one_in(3) && no > 1 { 1 + world.random_below(no - 1) } else { no };
            let length =
                if world.chance_one_in(200) { 300_000 } else { 1 + world.random_below(400) };
            let bytes = (0..length).map(|at| (at * 31 + no * 7).to_le_bytes()[0]).collect();
            let mail = ServerMessage {
                item: format!("T{thread}"),
                bytes,
                previous_contents: Vec::new(),
                is_deleted: false,
                always_fails: world.chance_one_in(150),
                is_never_found: false,
                is_always_throttled: false,
                bad: None,
                request_count: 0,
                served_count: 0,
            };
            self.messages.insert(no, mail);
        }
    }

    /// Waits until so many messages were given out: the download is under way.
    pub(crate) async fn wait_until_served(server: &RefCell<Self>, number: usize) {
        let served =
            || server.borrow().messages.values().filter(|mail| mail.served_count > 0).count();
        while served() < number {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn delete_random_message(&mut self, world: &SimEnv) {
        if !self.messages.is_empty() {
            let no = 1 + world.random_below(self.messages.len() as u64);
            self.messages.entry(no).and_modify(|mail| mail.is_deleted = true);
        }
    }

    /// Is restored from a backup: every mail has another content under its old id, one is new, and
    /// no cursor from before is known any more.
    pub(crate) fn restore_from_backup(&mut self, world: &SimEnv) {
        self.deliver(1, world);
        for mail in self.messages.values_mut() {
            let mut bytes = mail.bytes.clone();
            bytes.extend_from_slice(b", restored");
            mail.replace(bytes);
        }
        self.expire_cursors();
    }

    pub(crate) fn expire_cursors(&mut self) {
        self.oldest_valid_cursor = self.messages.len() as u64;
    }

    /// Everything is repaired.
    pub(crate) fn repair_all(&mut self) {
        self.condition = ServerCondition::HealthyForGood;
        self.credential_file = self.credential;
        for mail in self.messages.values_mut() {
            (mail.always_fails, mail.is_always_throttled) = (false, false);
        }
    }

    fn newest(&self) -> u64 {
        self.messages.len() as u64
    }

    fn error_for_request(
        &mut self,
        sent: Timestamp,
        known: u32,
        world: &SimEnv,
    ) -> Result<(), Failure> {
        self.requests += 1;
        let now = world.server_now();
        if self.rate_limit.blocked_at < sent && sent < self.rate_limit.blocked_until {
            self.requests_while_blocked += 1;
        }
        if known != self.credential {
            self.unauthorized_requests += 1;
            return Err(Failure::new(Cause::Unauthorized, "401 from the made-up service"));
        }
        match self.condition {
            ServerCondition::Healthy
            | ServerCondition::MostDocumentsFail
            | ServerCondition::HealthyForGood => Ok(()),
            ServerCondition::Down => {
                Err(Failure::new(Cause::Server, "503 from the made-up service"))
            }
            ServerCondition::Unreachable => Err(Failure::new(Cause::LocalNetwork, "no route")),
            ServerCondition::LoginPage => Err(Failure::new(Cause::Challenge, "a login page")),
            ServerCondition::Flaky if world.chance_one_in(3) => {
                const RANDOM_CAUSES: [Cause; 5] = [
                    Cause::Server,
                    Cause::Connection,
                    Cause::Timeout,
                    Cause::Truncated,
                    Cause::Unknown,
                ];
                let cause = RANDOM_CAUSES[world.random_index(RANDOM_CAUSES.len())];
                Err(Failure::new(cause, "flaky"))
            }
            ServerCondition::Flaky => Ok(()),
            ServerCondition::RateLimited { requests, window } => {
                self.check_rate_limit(requests, window, now, true)
            }
            ServerCondition::RateLimitedSilently { requests } => {
                self.check_rate_limit(requests, 60, now, false)
            }
        }
    }

    /// Answers "too many" for one mail.
    fn error_for_message(&self, no: u64) -> Result<(), Failure> {
        if self.messages.get(&no).is_none_or(|mail| !mail.is_always_throttled) {
            return Ok(());
        }
        Err(Failure::new(Cause::RateLimit, "429 from the made-up service")
            .with_retry_after(self.retry_after))
    }

    fn check_rate_limit(
        &mut self,
        requests: u32,
        seconds: i64,
        now: Timestamp,
        tells: bool,
    ) -> Result<(), Failure> {
        let window = now.0.div_euclid(seconds * 1000);
        if self.rate_limit.window != window {
            (self.rate_limit.window, self.rate_limit.used) = (window, 0);
        }
        self.rate_limit.used += 1;
        if self.rate_limit.used <= requests {
            return Ok(());
        }
        self.rate_limited_requests += 1;
        let failure = Failure::new(Cause::RateLimit, "429 from the made-up service");
        if !tells {
            return Err(failure);
        }
        let until = Timestamp((window + 1) * seconds * 1000);
        if self.rate_limit.blocked_until < until {
            (self.rate_limit.blocked_at, self.rate_limit.blocked_until) = (now, until);
        }
        Err(failure.with_retry_after(Some(until.since(now))))
    }
}

/// The way to the service: what the worker holds.
pub(crate) struct SimSource {
    pub(crate) server: Rc<RefCell<SimServer>>,
    pub(crate) env: SimEnv,
    /// The credential as it was last read.
    pub(crate) cached_credential: std::cell::Cell<u32>,
    /// The one account that it speaks to.
    account: RefCell<Option<AccountId>>,
    limiter: Rc<dyn RequestLimiter>,
    /// How a document is asked for again at once.
    retry: RetryPolicy,
}

impl SimSource {
    pub(crate) fn new(
        server: &Rc<RefCell<SimServer>>,
        world: &SimEnv,
        account: Option<AccountId>,
        gate: Rc<dyn RequestLimiter>,
        retry: RetryPolicy,
    ) -> Self {
        let known = std::cell::Cell::new(server.borrow().credential_file);
        let account = RefCell::new(account);
        Self {
            server: Rc::clone(server),
            env: world.clone(),
            cached_credential: known,
            account,
            limiter: gate,
            retry,
        }
    }

    /// Finds out whose mail there is, and refuses another's.
    fn discover(&self) -> Result<AccountId, Failure> {
        let is = AccountId::new(self.server.borrow().account);
        let was = self.account.borrow_mut().get_or_insert_with(|| is.clone()).clone();
        if was == is { Ok(is) } else { Err(Failure::account_changed("sim", &was, &is)) }
    }

    /// Tells the server something that it told before.
    fn record_identifying_request(&self) -> Result<(), Failure> {
        self.discover()?;
        let account = self.server.borrow().account;
        *self.server.borrow_mut().identifying_requests.entry(account).or_default() += 1;
        Ok(())
    }

    /// One request that tells the server something it told before.
    async fn identifying_request(&self) -> Result<(), Failure> {
        self.record_identifying_request()?;
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
        let bad = mail.and_then(|(no, _)| self.server.borrow().messages[&no].bad);
        let mut passage =
            self.limiter.acquire(RequestInfo { strikes, ..request_info(attempt) }).await?;
        self.env.kill_point().await;
        let sent = self.env.server_now();
        let flight = InFlightGuard::start(&self.server);
        let slowness = self.server.borrow().extra_latency
            + bad.map(BadMessage::extra_latency).unwrap_or_default();
        let latency = slowness + Duration::from_millis(5 + self.env.random_below(200));
        tokio::time::sleep(latency).await;
        drop(flight);
        let answer = self.server.borrow_mut().error_for_request(
            sent,
            self.cached_credential.get(),
            &self.env,
        );
        let answer = match mail {
            Some((no, _)) => answer.and_then(|()| self.server.borrow().error_for_message(no)),
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
        self.env.kill_point().await;
        answer.map_err(|failure| failure.with_blocked_until(held_until).with_strikes(strikes))
    }

    fn missing_messages(&self, from: u64, to: u64) -> Vec<DocumentId> {
        let server = self.server.borrow();
        let named = server.messages.range(from + 1..to.max(from) + 1);
        let vanished = named.filter(|(_, mail)| mail.is_never_found && !mail.is_deleted);
        vanished.map(|(no, _)| DocumentId::new(format!("D{no}"))).collect()
    }

    /// Asks for a document, and at once again where that may help and the budget allows it: what
    /// the HTTP client does.
    async fn fetch_with_retries(
        &self,
        mail: (u64, ThrottleStrikes),
        first: AttemptKind,
    ) -> Result<(), Failure> {
        let bad = self.server.borrow().messages[&mail.0].bad;
        let mut tries = AttemptTracker::default();
        let most = self.retry.backoff().max_attempts;
        let outcome = self.retry.when(|failure: &Failure| failure.is_transient()).run(async || {
            let attempt = tries.start_attempt(first);
            self.server
                .borrow_mut()
                .messages
                .entry(mail.0)
                .and_modify(|mail| mail.request_count += 1);
            let answer = self.send(attempt, Some(mail)).await;
            if let Err(failure) = &answer {
                tries.record_failure(failure);
            }
            match answer {
                // A client that asks for the message in another way finds that it is there.
                Err(failure) if bad == Some(BadMessage::Missing) => {
                    Err(Failure { is_retry_budget_exhausted: false, ..failure }
                        .with_retry_after(Some(Duration::ZERO)))
                }
                Err(failure)
                    if failure.is_transient()
                        && tries.attempts() < most
                        && !self.limiter.try_take_retry(request_info(AttemptKind::Retry)) =>
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
            .messages
            .range(from + 1..to.max(from) + 1)
            .filter(|(_, mail)| !mail.is_deleted && !mail.is_never_found);
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
        self.identifying_request().await?;
        let server = self.server.borrow();
        let since = number(cursor.as_str());
        if since < server.oldest_valid_cursor {
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
        self.identifying_request().await?;
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
        if matches!(listing, Listing::Since(_)) && from < self.server.borrow().oldest_valid_cursor {
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
        let to = end.min(from + u64::from(PAGE_ENTRIES));
        let begin = match listing {
            Listing::Full => 0,
            Listing::Since(cursor) => number(cursor.as_str()),
        };
        let missing = if to < end { Vec::new() } else { self.missing_messages(begin, end) };
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
        self.record_identifying_request()?;
        let first = if wanted.is_suspect { AttemptKind::Suspect } else { AttemptKind::First };
        self.fetch_with_retries((no, wanted.strikes), first).await?;
        let mail = self.server.borrow().messages[&no].clone();
        if mail.is_deleted {
            return Err(Failure::new(Cause::NotFound, "404 from the made-up service"));
        }
        if self.server.borrow().condition == ServerCondition::MostDocumentsFail
            && self.env.random_below(3) > 0
        {
            return Err(Failure::new(Cause::Timeout, "no answer in time"));
        }
        if mail.always_fails {
            return Err(Failure::new(Cause::Server, "500 from the made-up service"));
        }
        if mail.blob() != wanted.blob {
            let size = Some(mail.bytes.len() as u64);
            return Ok(FetchOutcome::Moved { blob: mail.blob(), size });
        }
        for chunk in mail.bytes.chunks(64 * 1024) {
            sink.write(chunk).await?;
        }
        self.server.borrow_mut().messages.entry(no).and_modify(|mail| mail.served_count += 1);
        Ok(FetchOutcome::Complete(mail.bytes.len() as u64))
    }

    async fn refresh_credential(&self) -> Result<CredentialChange, Failure> {
        self.env.kill_point().await;
        let takes = self.server.borrow().credential_read_duration;
        tokio::time::sleep(takes).await;
        let file = self.server.borrow().credential_file;
        let changed = self.cached_credential.replace(file) != file;
        Ok(if changed { CredentialChange::Changed } else { CredentialChange::Unchanged })
    }

    fn blocked_until(&self) -> Option<Timestamp> {
        self.limiter.blocked_until()
    }
}

/// A request on its way, also where it is given up.
struct InFlightGuard<'a>(&'a RefCell<SimServer>);

impl<'a> InFlightGuard<'a> {
    fn start(server: &'a RefCell<SimServer>) -> Self {
        server.borrow_mut().in_flight += 1;
        Self(server)
    }
}

impl Drop for InFlightGuard<'_> {
    fn drop(&mut self) {
        self.0.borrow_mut().in_flight -= 1;
    }
}

fn request_info(attempt: AttemptKind) -> RequestInfo<'static> {
    RequestInfo { host: "sim", path: "/", attempt, strikes: None }
}

fn number(text: &str) -> u64 {
    text.parse().expect("the worker gives back what it was given")
}
