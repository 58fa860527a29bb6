//! Mail over JMAP: RFC 8620 for the protocol, RFC 8621 for mail.
//!
//! Threads are the items, mails their documents. Mails are what is listed, not
//! collapsed threads, so that a listing tells exactly which bytes are new before
//! any of them is fetched. Every request carries one method call: servers differ
//! most in what one bad call does to the others of its batch.

mod api;
mod changes;
mod download;
mod everything;
mod filter;
mod mail;
mod missing;
mod place;
mod proof;
mod session;

use std::fmt;
use std::rc::Rc;
use std::sync::{Arc, OnceLock};

use chrono::NaiveDate;
use secrecy::SecretString;
use tokio::sync::{Mutex, Semaphore};
use url::{Origin, Url};

use self::session::Session;
use crate::engine::{AccountId, Cursor, ErrorRule, Failure, PageToken, Timestamp};
use crate::source::credential::Credential;
use crate::source::http::{Client, Egress, Gate, Limits, Pass};
use crate::source::{Fetched, Listing, Meter, News, Page, Recorder, Renewal, Sink, Source, Wanted};

/// How one account is reached, and what of it is wanted.
#[derive(Clone, Debug)]
pub struct Options {
    /// The name of the source in the configuration, for sentences about it.
    pub name: String,
    /// The account that the ledger belongs to; the first one found where that is not known yet.
    pub account: Option<AccountId>,
    /// Where the service is found: a bare origin, or the URL of the session resource itself.
    pub url: Url,
    /// Other origins that the server may send us to. The one of `url` need not be named.
    pub allowed_origins: Vec<Origin>,
    pub auth: Auth,
    /// Names, roles or paths (`Parent/Child`) of the only mailboxes wanted; all when empty.
    pub mailboxes: Vec<String>,
    /// Only mail received on or after this day (UTC).
    pub since: Option<NaiveDate>,
    /// How many mails one page lists at most.
    pub page_size_max: u32,
    /// How many documents are fetched side by side.
    pub concurrency: u32,
    pub limits: Limits,
    /// What the user knows of the errors of this provider.
    pub error_rules: Vec<ErrorRule>,
    /// How its requests leave this machine.
    pub egress: Egress,
    /// By what they are counted.
    pub meter: Meter,
    /// By what its answers are noted.
    pub recorder: Recorder,
}

/// How the credential is presented.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Auth {
    Basic { username: String },
    Bearer,
}

/// One account on a JMAP server.
pub struct Jmap {
    options: Options,
    client: Client,
    credential: Credential,
    known: Mutex<Known>,
    /// The one account that is spoken to.
    account: OnceLock<AccountId>,
    downloads: Semaphore,
}

/// What is remembered between requests.
#[derive(Default)]
struct Known {
    session: Option<Arc<Session>>,
    /// The session state that an answer told of before we looked for it.
    announced: Option<String>,
}

impl Jmap {
    /// Makes the source. Nothing is sent or read before the first request.
    ///
    /// # Errors
    /// As of [`Client::new`].
    pub fn new(
        options: Options,
        credential: Credential,
        gate: Rc<dyn Gate>,
    ) -> Result<Self, Failure> {
        let mut trusted = options.allowed_origins.clone();
        trusted.push(options.url.origin());
        let (limits, meter) = (options.limits.clone(), options.meter.clone());
        let client = Client::new(limits, trusted, &options.egress, gate, meter)?
            .judging_by(options.error_rules.clone())
            .recorded_by(options.recorder.clone());
        let at_once = usize::try_from(options.concurrency).unwrap_or(Semaphore::MAX_PERMITS).max(1);
        let account = options.account.clone().map_or_else(OnceLock::new, OnceLock::from);
        Ok(Self {
            options,
            client,
            credential,
            known: Mutex::default(),
            account,
            downloads: Semaphore::new(at_once),
        })
    }

    async fn pass(&self) -> Result<Pass, Failure> {
        let secret: SecretString = self.credential.current().await?;
        Ok(match &self.options.auth {
            Auth::Basic { username } => {
                Pass::Basic { username: username.clone(), password: secret }
            }
            Auth::Bearer => Pass::Bearer { token: secret },
        })
    }

    /// Returns the session, discovering it if it is not known. One discovery at a time.
    async fn session(&self) -> Result<Arc<Session>, Failure> {
        let mut known = self.known.lock().await;
        if let Some(session) = &known.session {
            return Ok(Arc::clone(session));
        }
        let pass = self.pass().await?;
        let announced = known.announced.take();
        let session = session::discover(&self.client, &self.options.url, &pass, announced).await?;
        let expected = self.account.get_or_init(|| session.account.clone());
        if *expected != session.account {
            return Err(Failure::account_changed(&self.options.name, expected, &session.account));
        }
        let session = Arc::new(session);
        known.session = Some(Arc::clone(&session));
        Ok(session)
    }

    /// Forgets a session that has turned out stale, unless somebody was faster.
    async fn forget(&self, stale: &Arc<Session>, announced: Option<String>) {
        let mut known = self.known.lock().await;
        if known.session.as_ref().is_some_and(|session| Arc::ptr_eq(session, stale)) {
            *known = Known { session: None, announced };
        }
    }
}

impl Source for Jmap {
    async fn account(&self) -> Result<AccountId, Failure> {
        Ok(self.session().await?.account.clone())
    }

    async fn look(&self, cursor: &Cursor) -> Result<News, Failure> {
        changes::look(self, cursor).await
    }

    async fn pin(&self) -> Result<Cursor, Failure> {
        let session = self.session().await?;
        mail::state(self, &session).await
    }

    async fn page(&self, listing: &Listing, place: Option<&PageToken>) -> Result<Page, Failure> {
        match listing {
            Listing::Everything => everything::page(self, place).await,
            Listing::Since(cursor) => changes::page(self, cursor, place).await,
        }
    }

    async fn fetch(&self, document: &Wanted, sink: &mut impl Sink) -> Result<Fetched, Failure> {
        download::fetch(self, document, sink).await
    }

    async fn renew(&self) -> Result<Renewal, Failure> {
        let renewal = self.credential.renew().await?;
        if renewal == Renewal::Changed {
            // Another credential may see another account.
            *self.known.lock().await = Known::default();
        }
        Ok(renewal)
    }

    fn waits_until(&self) -> Option<Timestamp> {
        self.client.waits_until()
    }
}

impl fmt::Debug for Jmap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jmap").field("options", &self.options).finish_non_exhaustive()
    }
}
