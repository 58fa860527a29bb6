//! Simulated mailbox service with faults, and the source that talks to it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use cynosure::limiter::{AttemptKind, PermitRequest, QuotaScope, RequestLimiter};
use cynosure::retry::RetryPolicy;
use cynosure::source::http::AttemptTracker;
use cynosure::source::{
    CredentialChange, DocumentRef, FetchOutcome, Listing, Page, PollResult, Sink, Source,
    UnverifiedEnd,
};
use cynosure_engine::rate_limit::{ReportedLimits, ResponseOutcome};
use cynosure_engine::{
    AccountId, BlobId, Cause, Cursor, DocumentId, Failure, FolderCount, ItemId, ListedDocument,
    NextPage, PageToken, ThrottleStrikes, Timestamp,
};
use sha2::{Digest, Sha256};

use crate::virtual_env::SimEnv;

/// Number of entries on a page of a listing.
pub(crate) const PAGE_ENTRIES: u32 = 7;

/// Scope of all requests.
const SCOPE: QuotaScope<'static> = QuotaScope { server: "sim", route: None };

/// Current condition of the service.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ServerCondition {
    Healthy,
    /// Every response is 503.
    Down,
    /// There is no route to the service.
    Unreachable,
    /// One in three requests fails, with a random cause.
    Flaky,
    /// `requests` requests per window, then 429 with Retry-After.
    RateLimited {
        requests: u32,
        window_seconds: i64,
    },
    /// `requests` requests per minute, then 429 without Retry-After.
    RateLimitedSilently {
        requests: u32,
    },
    /// Every response is a login page.
    LoginPage,
    /// Two in three requests for documents fail, at random.
    MostDocumentsFail,
    /// Healthy for the rest of the case.
    HealthyForGood,
}

/// Fault of a message, the same for each request for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum MessageFault {
    /// 404, although the listing contains it.
    Missing,
    /// The response is 500.
    ServerError,
    /// The body is truncated.
    Truncated,
    /// The body has another length than listed.
    WrongSize,
    /// The connection is reset.
    ConnectionReset,
    /// There is no response until the client times out.
    NoResponse,
}

impl MessageFault {
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

    /// Returns the additional latency of the response.
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

/// Message on the server.
#[expect(clippy::struct_excessive_bools, reason = "each is a separate fault")]
#[derive(Clone, Debug)]
pub(crate) struct ServerMessage {
    pub(crate) item: String,
    pub(crate) bytes: Vec<u8>,
    /// Earlier contents.
    pub(crate) previous_contents: Vec<Vec<u8>>,
    /// Deleted: absent from listings, and requests for it return 404.
    pub(crate) is_deleted: bool,
    /// Every request for it returns 500.
    pub(crate) always_fails: bool,
    /// Reported by listings as missing: listed, but never found.
    pub(crate) is_never_found: bool,
    /// Every request for it returns 429.
    pub(crate) is_always_throttled: bool,
    pub(crate) fault: Option<MessageFault>,
    /// Number of requests for it.
    pub(crate) request_count: u32,
    /// Number of times its bytes were sent in full.
    pub(crate) served_count: u32,
}

impl ServerMessage {
    /// Returns the id of its content.
    fn blob(&self) -> BlobId {
        let hash = Sha256::digest(&self.bytes);
        BlobId::new(hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    }

    /// Replaces the content. The present one becomes an earlier one.
    pub(crate) fn replace(&mut self, bytes: Vec<u8>) {
        let replaced = std::mem::replace(&mut self.bytes, bytes);
        self.previous_contents.push(replaced);
    }
}

/// Simulated server. The reference model compares ledger and disk with its messages.
pub(crate) struct SimServer {
    pub(crate) messages: BTreeMap<u64, ServerMessage>,
    pub(crate) condition: ServerCondition,
    /// Account whose mail it returns.
    pub(crate) account: &'static str,
    /// Requests with a cursor, a page token or a document id, by the account that received them.
    pub(crate) identifying_requests: BTreeMap<&'static str, u64>,
    /// Number of listing pages that will be returned without entries, at any position.
    pub(crate) empty_pages: u32,
    /// Credential that it accepts.
    pub(crate) credential: u32,
    /// Credential in the worker's file.
    pub(crate) credential_file: u32,
    /// Duration of a read of that file.
    pub(crate) credential_read_duration: Duration,
    /// Requests with an invalid credential.
    pub(crate) unauthorized_requests: u64,
    /// Earlier cursors are expired.
    oldest_valid_cursor: u64,
    rate_limit: RateLimitWindow,
    pub(crate) requests: u64,
    /// Requests without a response so far.
    pub(crate) in_flight: u64,
    /// Additional latency of every response.
    pub(crate) extra_latency: Duration,
    pub(crate) requests_while_blocked: u64,
    pub(crate) rate_limited_requests: u64,
    /// Retry-After of the 429 for a throttled message.
    pub(crate) retry_after: Option<Duration>,
    pub(crate) disk_is_full: bool,
    /// Disk faults so far. After each, the documents that were being stored are fetched again.
    pub(crate) disk_faults: u64,
}

#[derive(Default)]
struct RateLimitWindow {
    /// Number of the window since the epoch.
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

    /// Delivers `count` messages, some of them into existing threads.
    pub(crate) fn deliver(&mut self, count: u64, env: &SimEnv) {
        for _ in 0..count {
            let id = self.messages.len() as u64 + 1;
            let thread =
                if env.chance_one_in(3) && id > 1 { 1 + env.random_below(id - 1) } else { id };
            let length = if env.chance_one_in(200) { 300_000 } else { 1 + env.random_below(400) };
            let bytes = (0..length).map(|at| (at * 31 + id * 7).to_le_bytes()[0]).collect();
            let message = ServerMessage {
                item: format!("T{thread}"),
                bytes,
                previous_contents: Vec::new(),
                is_deleted: false,
                always_fails: env.chance_one_in(150),
                is_never_found: false,
                is_always_throttled: false,
                fault: None,
                request_count: 0,
                served_count: 0,
            };
            self.messages.insert(id, message);
        }
    }

    /// Waits until `count` messages were sent, so that the download is in progress.
    pub(crate) async fn wait_until_served(server: &RefCell<Self>, count: usize) {
        let served_count =
            || server.borrow().messages.values().filter(|message| message.served_count > 0).count();
        while served_count() < count {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(crate) fn delete_random_message(&mut self, env: &SimEnv) {
        if !self.messages.is_empty() {
            let id = 1 + env.random_below(self.messages.len() as u64);
            self.messages.entry(id).and_modify(|message| message.is_deleted = true);
        }
    }

    /// Restores the server from a backup: every message has another content under its old id, one
    /// message is new, and all earlier cursors are expired.
    pub(crate) fn restore_from_backup(&mut self, env: &SimEnv) {
        self.deliver(1, env);
        for message in self.messages.values_mut() {
            let mut bytes = message.bytes.clone();
            bytes.extend_from_slice(b", restored");
            message.replace(bytes);
        }
        self.expire_cursors();
    }

    pub(crate) fn expire_cursors(&mut self) {
        self.oldest_valid_cursor = self.messages.len() as u64;
    }

    /// Ends the faults for the rest of the case.
    pub(crate) fn repair_all(&mut self) {
        self.condition = ServerCondition::HealthyForGood;
        self.credential_file = self.credential;
        for message in self.messages.values_mut() {
            (message.always_fails, message.is_always_throttled) = (false, false);
        }
    }

    fn newest(&self) -> u64 {
        self.messages.len() as u64
    }

    fn check_request(
        &mut self,
        sent_at: Timestamp,
        credential: u32,
        env: &SimEnv,
    ) -> Result<(), Failure> {
        self.requests += 1;
        let now = env.server_now();
        if self.rate_limit.blocked_at < sent_at && sent_at < self.rate_limit.blocked_until {
            self.requests_while_blocked += 1;
        }
        if credential != self.credential {
            self.unauthorized_requests += 1;
            return Err(Failure::new(Cause::Unauthorized, "401 from the simulated service"));
        }
        match self.condition {
            ServerCondition::Healthy
            | ServerCondition::MostDocumentsFail
            | ServerCondition::HealthyForGood => Ok(()),
            ServerCondition::Down => {
                Err(Failure::new(Cause::Server, "503 from the simulated service"))
            }
            ServerCondition::Unreachable => Err(Failure::new(Cause::LocalNetwork, "no route")),
            ServerCondition::LoginPage => Err(Failure::new(Cause::Challenge, "a login page")),
            ServerCondition::Flaky if env.chance_one_in(3) => {
                const RANDOM_CAUSES: [Cause; 5] = [
                    Cause::Server,
                    Cause::Connection,
                    Cause::Timeout,
                    Cause::Truncated,
                    Cause::Unknown,
                ];
                let cause = RANDOM_CAUSES[env.random_index(RANDOM_CAUSES.len())];
                Err(Failure::new(cause, "flaky"))
            }
            ServerCondition::Flaky => Ok(()),
            ServerCondition::RateLimited { requests, window_seconds } => {
                self.check_rate_limit(requests, window_seconds, now, true)
            }
            ServerCondition::RateLimitedSilently { requests } => {
                self.check_rate_limit(requests, 60, now, false)
            }
        }
    }

    /// Returns the 429 of a message that is always throttled.
    fn check_message(&self, id: u64) -> Result<(), Failure> {
        if self.messages.get(&id).is_none_or(|message| !message.is_always_throttled) {
            return Ok(());
        }
        Err(Failure::new(Cause::RateLimit, "429 from the simulated service")
            .with_retry_after(self.retry_after))
    }

    fn check_rate_limit(
        &mut self,
        requests: u32,
        window_seconds: i64,
        now: Timestamp,
        sends_retry_after: bool,
    ) -> Result<(), Failure> {
        let window = now.0.div_euclid(window_seconds * 1000);
        if self.rate_limit.window != window {
            (self.rate_limit.window, self.rate_limit.used) = (window, 0);
        }
        self.rate_limit.used += 1;
        if self.rate_limit.used <= requests {
            return Ok(());
        }
        self.rate_limited_requests += 1;
        let failure = Failure::new(Cause::RateLimit, "429 from the simulated service");
        if !sends_retry_after {
            return Err(failure);
        }
        let until = Timestamp((window + 1) * window_seconds * 1000);
        if self.rate_limit.blocked_until < until {
            (self.rate_limit.blocked_at, self.rate_limit.blocked_until) = (now, until);
        }
        Err(failure.with_retry_after(Some(until.since(now))))
    }
}

/// Source that the worker uses to talk to the server.
pub(crate) struct SimSource {
    pub(crate) server: Rc<RefCell<SimServer>>,
    pub(crate) env: SimEnv,
    /// Credential as last read from the file.
    pub(crate) cached_credential: std::cell::Cell<u32>,
    /// The only account that it accepts.
    account: RefCell<Option<AccountId>>,
    limiter: Rc<dyn RequestLimiter>,
    /// Policy of the quick retries of a document request.
    retry: RetryPolicy,
}

impl SimSource {
    pub(crate) fn new(
        server: &Rc<RefCell<SimServer>>,
        env: &SimEnv,
        account: Option<AccountId>,
        limiter: Rc<dyn RequestLimiter>,
        retry: RetryPolicy,
    ) -> Self {
        let cached_credential = std::cell::Cell::new(server.borrow().credential_file);
        let account = RefCell::new(account);
        Self {
            server: Rc::clone(server),
            env: env.clone(),
            cached_credential,
            account,
            limiter,
            retry,
        }
    }

    /// Returns the account of the server, or an error if it is not the recorded one. The first
    /// account is recorded.
    fn discover(&self) -> Result<AccountId, Failure> {
        let current = AccountId::new(self.server.borrow().account);
        let recorded = self.account.borrow_mut().get_or_insert_with(|| current.clone()).clone();
        if recorded != current {
            return Err(Failure::account_changed("sim", &recorded, &current));
        }
        Ok(current)
    }

    /// Checks the account and counts a request with a cursor, a page token or a document id.
    fn record_identifying_request(&self) -> Result<(), Failure> {
        self.discover()?;
        let account = self.server.borrow().account;
        *self.server.borrow_mut().identifying_requests.entry(account).or_default() += 1;
        Ok(())
    }

    /// Sends a request with a cursor or a page token.
    async fn identifying_request(&self) -> Result<(), Failure> {
        self.record_identifying_request()?;
        self.request().await
    }

    /// Sends a request that is not for a message.
    async fn request(&self) -> Result<(), Failure> {
        self.send(AttemptKind::First, None).await
    }

    /// Sends one attempt of a request, for a message if one is given: waits for the rate limiter,
    /// takes a random time, and may fail.
    async fn send(
        &self,
        attempt: AttemptKind,
        message: Option<(u64, ThrottleStrikes)>,
    ) -> Result<(), Failure> {
        let strikes = message.map(|(_, strikes)| strikes);
        let fault = message.and_then(|(id, _)| self.server.borrow().messages[&id].fault);
        let mut permit =
            self.limiter.acquire(PermitRequest { scope: SCOPE, cost: 1, attempt, strikes }).await?;
        self.env.kill_point().await;
        let sent_at = self.env.server_now();
        let in_flight = InFlightGuard::start(&self.server);
        let extra_latency = self.server.borrow().extra_latency
            + fault.map(MessageFault::extra_latency).unwrap_or_default();
        let latency = extra_latency + Duration::from_millis(5 + self.env.random_below(200));
        tokio::time::sleep(latency).await;
        drop(in_flight);
        let result = self.server.borrow_mut().check_request(
            sent_at,
            self.cached_credential.get(),
            &self.env,
        );
        let result = match message {
            Some((id, _)) => result.and_then(|()| self.server.borrow().check_message(id)),
            None => result,
        };
        let result = result.and_then(|()| match fault {
            Some(fault) => Err(Failure::new(fault.cause(), format!("{fault:?}"))),
            None => Ok(()),
        });
        let retry_after = result.as_ref().err().and_then(|failure| failure.retry_after);
        let reported = ReportedLimits { retry_after, ..ReportedLimits::default() };
        permit.record_response_start(reported, latency);
        let blocked_until = permit.record_outcome(match &result {
            Ok(()) => ResponseOutcome::Accepted,
            Err(failure) if failure.cause == Cause::RateLimit => ResponseOutcome::Throttled,
            Err(_) => ResponseOutcome::Failed,
        });
        let strikes = permit.strikes();
        drop(permit);
        self.env.kill_point().await;
        result.map_err(|failure| failure.with_blocked_until(blocked_until).with_strikes(strikes))
    }

    fn missing_messages(&self, from: u64, to: u64) -> Vec<DocumentId> {
        let server = self.server.borrow();
        let in_range = server.messages.range(from + 1..to.max(from) + 1);
        let missing = in_range.filter(|(_, message)| message.is_never_found && !message.is_deleted);
        missing.map(|(id, _)| DocumentId::new(format!("D{id}"))).collect()
    }

    /// Requests a document. Retries transient failures quickly while the retry budget allows it, as
    /// the HTTP client does.
    async fn fetch_with_retries(
        &self,
        message: (u64, ThrottleStrikes),
        first: AttemptKind,
    ) -> Result<(), Failure> {
        let fault = self.server.borrow().messages[&message.0].fault;
        let mut tracker = AttemptTracker::default();
        let max_attempts = self.retry.backoff().max_attempts;
        let outcome = self.retry.when(|failure: &Failure| failure.is_transient()).run(async || {
            let attempt = tracker.start_attempt(first);
            self.server
                .borrow_mut()
                .messages
                .entry(message.0)
                .and_modify(|message| message.request_count += 1);
            let result = self.send(attempt, Some(message)).await;
            if let Err(failure) = &result {
                tracker.record_failure(failure);
            }
            match result {
                // Like the 404 of a message that exists in the JMAP source: `retry_after` prevents
                // quick retries.
                Err(failure) if fault == Some(MessageFault::Missing) => {
                    Err(Failure { is_retry_budget_exhausted: false, ..failure }
                        .with_retry_after(Some(Duration::ZERO)))
                }
                Err(failure)
                    if failure.is_transient()
                        && tracker.attempts() < max_attempts
                        && !self.limiter.try_take_retry(SCOPE) =>
                {
                    Err(Failure { is_retry_budget_exhausted: true, ..failure })
                }
                result => result,
            }
        });
        let outcome = outcome.await;
        outcome.map_err(|error| {
            let failure = error.into_failure(|breaker| Failure::new(Cause::Server, breaker));
            tracker.annotate(failure)
        })
    }

    fn entries(&self, from: u64, to: u64) -> Vec<ListedDocument> {
        let server = self.server.borrow();
        let listed = server
            .messages
            .range(from + 1..to.max(from) + 1)
            .filter(|(_, message)| !message.is_deleted && !message.is_never_found);
        listed
            .map(|(id, message)| {
                let item = ItemId::new(&*message.item);
                let document = DocumentId::new(format!("D{id}"));
                let entry = ListedDocument::new(item, document, message.blob());
                ListedDocument { size: Some(message.bytes.len() as u64), ..entry }
            })
            .collect()
    }
}

impl Source for SimSource {
    async fn account(&self) -> Result<AccountId, Failure> {
        self.discover()
    }

    async fn folders(&self) -> Result<Vec<FolderCount>, Failure> {
        self.discover()?;
        self.request().await?;
        let server = self.server.borrow();
        let present = server.messages.values().filter(|message| !message.is_deleted);
        let (name, messages) = ("mail".to_owned(), Some(present.count() as u64));
        Ok(vec![FolderCount { name, messages, is_extracted: true }])
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
        page_token: Option<&PageToken>,
    ) -> Result<Page, Failure> {
        self.identifying_request().await?;
        // A message that arrives after the first page is not listed: the next poll finds it.
        let newest = self.server.borrow().newest();
        let (from, end) = match (page_token, listing) {
            (Some(token), _) => {
                let (from, end) = token.as_str().split_once(" of ").expect("the server's token");
                (number(from), number(end))
            }
            (None, Listing::Full) => (0, newest),
            (None, Listing::Since(cursor)) => (number(cursor.as_str()), newest),
        };
        if matches!(listing, Listing::Since(_)) && from < self.server.borrow().oldest_valid_cursor {
            return Err(Failure::new(Cause::CursorExpired, "cannot calculate changes"));
        }
        let empty_pages_left =
            self.server.borrow().empty_pages.checked_sub(1).filter(|_| from < end);
        if let Some(empty_pages_left) = empty_pages_left {
            self.server.borrow_mut().empty_pages = empty_pages_left;
            let resume_from = PageToken::new(format!("{from} of {end}"));
            let reason = format!("the list ended after {from} of {end} messages");
            return Ok(Page {
                entries: Vec::new(),
                missing_documents: Vec::new(),
                total_documents: None,
                vanished: Vec::new(),
                next: Err(UnverifiedEnd { resume_from, reason }),
            });
        }
        let to = end.min(from + u64::from(PAGE_ENTRIES));
        let start = match listing {
            Listing::Full => 0,
            Listing::Since(cursor) => number(cursor.as_str()),
        };
        let missing = if to < end { Vec::new() } else { self.missing_messages(start, end) };
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
            vanished: Vec::new(),
            next: Ok(next),
        })
    }

    async fn fetch(
        &self,
        document: &DocumentRef,
        sink: &mut impl Sink,
    ) -> Result<FetchOutcome, Failure> {
        let id = number(&document.document.as_str()[1..]);
        self.record_identifying_request()?;
        let first = if document.is_suspect { AttemptKind::Suspect } else { AttemptKind::First };
        self.fetch_with_retries((id, document.strikes), first).await?;
        let message = self.server.borrow().messages[&id].clone();
        if message.is_deleted {
            return Err(Failure::new(Cause::NotFound, "404 from the simulated service"));
        }
        if self.server.borrow().condition == ServerCondition::MostDocumentsFail
            && self.env.random_below(3) > 0
        {
            return Err(Failure::new(Cause::Timeout, "no response in time"));
        }
        if message.always_fails {
            return Err(Failure::new(Cause::Server, "500 from the simulated service"));
        }
        if message.blob() != document.blob {
            let size = Some(message.bytes.len() as u64);
            return Ok(FetchOutcome::Moved { blob: message.blob(), size });
        }
        for chunk in message.bytes.chunks(64 * 1024) {
            sink.write(chunk).await?;
        }
        self.server.borrow_mut().messages.entry(id).and_modify(|message| message.served_count += 1);
        Ok(FetchOutcome::Complete { bytes: message.bytes.len() as u64, folders: Vec::new() })
    }

    async fn refresh_credential(&self) -> Result<CredentialChange, Failure> {
        self.env.kill_point().await;
        let duration = self.server.borrow().credential_read_duration;
        tokio::time::sleep(duration).await;
        let credential = self.server.borrow().credential_file;
        let changed = self.cached_credential.replace(credential) != credential;
        Ok(if changed { CredentialChange::Changed } else { CredentialChange::Unchanged })
    }

    fn blocked_until(&self) -> Option<Timestamp> {
        self.limiter.blocked_until()
    }
}

/// Counts a request as in flight until it is dropped, also if the request is cancelled.
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

fn number(text: &str) -> u64 {
    text.parse().expect("the worker returns cursors, page tokens and ids unchanged")
}
