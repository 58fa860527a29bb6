//! Source for one account, with its profile, its HTTP client and its credential.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::OnceLock;

use cynosure_engine::rest::RestProfile;
use cynosure_engine::{AccountId, Failure, Timestamp};
use tokio::sync::{Mutex, Semaphore};

use crate::limiter::RequestLimiter;
use crate::source::credential::Credential;
use crate::source::http::HttpClient;
use crate::source::rest::folder_names::FolderNames;
use crate::source::rest::listing::passes::SeenItems;
use crate::source::rest::options::RestOptions;

/// Source for one account of an API that a profile declares.
pub struct RestSource {
    pub(super) options: RestOptions,
    pub(super) client: HttpClient,
    pub(super) credential: Credential,
    /// Only account that is accessed; set by the first response if not configured.
    pub(super) account: OnceLock<AccountId>,
    /// Account that the server has named since the credential changed last.
    pub(super) verified_account: Mutex<Option<AccountId>>,
    pub(super) fetch_permits: Semaphore,
    pub(super) seen_items: RefCell<SeenItems>,
    pub(super) folder_names: Mutex<FolderNames>,
    /// Documents that were gone since the last one was fetched; `None` before the first one is.
    pub(super) gone_in_a_row: Cell<Option<u32>>,
}

impl RestSource {
    /// Creates the source. Nothing is sent or read before the first request.
    ///
    /// # Errors
    /// Returns the errors of [`HttpClient::new`].
    pub fn new(
        options: RestOptions,
        credential: Credential,
        limiter: Rc<dyn RequestLimiter>,
    ) -> Result<Self, Failure> {
        let mut http = options.http.clone();
        http.allowed_origins.push(options.base_url.origin());
        let client = HttpClient::new(http, limiter)?;
        let max_fetches =
            usize::try_from(options.concurrency).unwrap_or(Semaphore::MAX_PERMITS).max(1);
        let account = options.account.clone().map_or_else(OnceLock::new, OnceLock::from);
        Ok(Self {
            options,
            client,
            credential,
            account,
            verified_account: Mutex::default(),
            fetch_permits: Semaphore::new(max_fetches.min(Semaphore::MAX_PERMITS)),
            seen_items: RefCell::default(),
            folder_names: Mutex::default(),
            gone_in_a_row: Cell::new(None),
        })
    }

    pub(super) fn profile(&self) -> &RestProfile {
        &self.options.profile
    }

    /// Returns the current time by the clock of the rate limiter.
    pub(super) fn now(&self) -> Timestamp {
        self.client.now()
    }

    /// Returns the host of `base_url`, for messages.
    pub(super) fn host(&self) -> &str {
        self.options.base_url.host_str().unwrap_or("the server")
    }

    /// Returns the name of the profile, for messages.
    pub(super) fn profile_label(&self) -> String {
        match &self.options.profile.name {
            Some(name) => format!("profile \"{name}\""),
            None => format!("the tables of source \"{}\"", self.options.name),
        }
    }
}

impl fmt::Debug for RestSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestSource").field("options", &self.options).finish_non_exhaustive()
    }
}
