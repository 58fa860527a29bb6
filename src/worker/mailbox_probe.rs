//! Probe of a mailbox: lists its folders and fetches one message, and stores nothing of it.

use std::rc::Rc;

use cynosure_engine::{AccountId, Cause, Failure, FolderCount, ListedDocument, NextPage};

use crate::archive::DocumentFormat;
use crate::config::{EnvVars, Settings, SourceName, SourceSettings};
use crate::env::RealEnv;
use crate::limiter::RateLimiters;
use crate::oauth::RefreshesInFlight;
use crate::source::{
    DocumentRef, DynSource, Listing, MetricsHandle, Page, ResponseRecorder, Source,
};
use crate::state::StateFolder;
use crate::worker::archive_binding::document_format;
use crate::worker::credential_context::CredentialContext;
use crate::worker::last_credential::LastCredential;
use crate::worker::probed_document::{HeadSink, ProbedDocument, stored_path};
use crate::worker::proxy_pool::ProxyPoolProvider;
use crate::worker::retry_policies::RetryPolicies;
use crate::worker::source_credential::check_source_credential;
use crate::worker::source_run::{SourceAccount, SourceDeps, build_source};
use crate::worker::start_error::StartError;
use crate::worker::tasks::fetch_following_blob;

/// Maximum number of pages that are listed. One may end before its first message, because the
/// server fails to list a folder.
const PAGES_MAX: usize = 3;

/// Maximum number of messages that are tried. Any of them may have been deleted since the listing,
/// or be too large.
const CANDIDATES_MAX: usize = 3;

/// Configuration, rate limiters and proxies that the probed sources share, as those of a worker do.
#[derive(Debug)]
pub struct ProbeContext<'a> {
    settings: &'a Settings,
    environment: &'a EnvVars,
    state_folder: StateFolder,
    rate_limiters: RateLimiters<RealEnv>,
    proxy_pools: ProxyPoolProvider,
    refreshes: RefreshesInFlight,
}

/// Mailbox of a source, to be used within a `LocalSet`.
#[derive(Debug)]
pub struct ProbedMailbox {
    client: DynSource,
    /// Format in which the documents are stored.
    format: DocumentFormat,
    last_credential: LastCredential,
}

/// Result of fetching one message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MessageProbe {
    Fetched(ProbedDocument),
    /// The whole listing has no message.
    EmptyMailbox,
    /// The first pages of the listing have no message.
    EmptyPages,
}

impl<'a> ProbeContext<'a> {
    /// Creates the context. The rate limiters keep their state in the state folder, as those of
    /// other processes do.
    #[must_use]
    pub fn new(
        settings: &'a Settings,
        environment: &'a EnvVars,
        state_folder: StateFolder,
    ) -> Self {
        let limiters_file = state_folder.limiters_file();
        Self {
            settings,
            environment,
            state_folder,
            rate_limiters: RateLimiters::new(Rc::new(RealEnv), limiters_file),
            proxy_pools: ProxyPoolProvider::default(),
            refreshes: RefreshesInFlight::default(),
        }
    }

    /// Waits until no access token is being refreshed, but no longer than a refresh may take.
    /// Called before the runtime ends.
    pub async fn wait_for_refreshes(&self) {
        self.refreshes.wait().await;
    }

    /// Builds the client of a source. Reads its credential and those of the proxies, and sends
    /// nothing. Blocks. `account` is the account that the ledger belongs to, if known.
    ///
    /// # Errors
    /// [`StartError::Configuration`] for an unusable credential, and the failure of the client.
    pub fn open(
        &self,
        (name, source): (&SourceName, &SourceSettings),
        account: Option<AccountId>,
    ) -> Result<ProbedMailbox, StartError> {
        let last_credential = LastCredential::default();
        let credential = CredentialContext {
            source: name.to_string(),
            environment: self.environment.clone(),
            last_credential: last_credential.clone(),
            source_state_dir: self.state_folder.source(name.as_str()).path().to_owned(),
            refreshes: self.refreshes.clone(),
        };
        check_source_credential(&source.auth, &credential).map_err(StartError::Configuration)?;
        let proxy_mode = self.proxy_pools.proxy_mode(&self.settings.proxy, self.environment)?;
        let (metrics, recorder) = (MetricsHandle::default(), ResponseRecorder::default());
        let deps = SourceDeps {
            credential: &credential,
            rate_limiters: &self.rate_limiters,
            metrics: &metrics,
            recorder: &recorder,
        };
        let identity = SourceAccount { name: name.as_str(), account };
        let policies = RetryPolicies::new(self.settings);
        let client = build_source(identity, deps, self.settings, source, &policies, proxy_mode)?;
        Ok(ProbedMailbox { client, format: document_format(source), last_credential })
    }
}

impl ProbedMailbox {
    /// True if the sign-in server has refused the client rather than the account: only a correction
    /// of the configuration helps.
    #[must_use]
    pub fn is_client_refused(&self) -> bool {
        self.last_credential.is_client_refused()
    }

    /// Logs in, and returns the account that the server names.
    ///
    /// # Errors
    /// The failure of the source.
    pub async fn log_in(&self) -> Result<AccountId, Failure> {
        self.client.account().await
    }

    /// Returns the folders, with their numbers of messages.
    ///
    /// # Errors
    /// The failure of the source.
    pub async fn folders(&self) -> Result<Vec<FolderCount>, Failure> {
        self.client.folders().await
    }

    /// Fetches one of the first messages of a full listing, and discards its bytes.
    ///
    /// # Errors
    /// The failure of the source.
    pub async fn fetch_message(&self) -> Result<MessageProbe, Failure> {
        let page = self.first_page_with_messages().await?;
        let mut first_failure = None;
        let listed_documents = page.entries.len();
        for listed in page.entries.into_iter().take(CANDIDATES_MAX) {
            match self.fetch(listed, listed_documents).await {
                Ok(document) => return Ok(MessageProbe::Fetched(document)),
                Err(failure) if matches!(failure.cause, Cause::NotFound | Cause::TooLarge) => {
                    first_failure.get_or_insert(failure);
                }
                Err(failure) => return Err(failure),
            }
        }
        match (first_failure, page.next) {
            (Some(failure), _) => Err(failure),
            (None, Ok(NextPage::Done(_))) => Ok(MessageProbe::EmptyMailbox),
            (None, Ok(NextPage::More(_))) => Ok(MessageProbe::EmptyPages),
            (None, Err(end)) => Err(Failure::new(Cause::ListingIncomplete, end.reason)),
        }
    }

    /// Returns the first page with messages, or the last one that is listed.
    async fn first_page_with_messages(&self) -> Result<Page, Failure> {
        let mut page = self.client.list_page(&Listing::Full, None).await?;
        for _ in 1..PAGES_MAX {
            let page_token = match &page.next {
                Ok(NextPage::More(page_token)) if page.entries.is_empty() => page_token,
                Ok(NextPage::More(_) | NextPage::Done(_)) => break,
                Err(end) => &end.resume_from,
            };
            page = self.client.list_page(&Listing::Full, Some(page_token)).await?;
        }
        Ok(page)
    }

    async fn fetch(
        &self,
        listed: ListedDocument,
        listed_documents: usize,
    ) -> Result<ProbedDocument, Failure> {
        let ListedDocument { item, document, blob, size, location, labels, content, .. } = listed;
        let locations = location.into_iter().collect();
        let document_ref = DocumentRef::new(document, blob, size).with_locations(locations);
        let mut document_ref = DocumentRef { content, ..document_ref };
        let mut sink = HeadSink::default();
        let started_at = RealEnv::uptime();
        fetch_following_blob(&self.client, &mut document_ref, &mut sink).await?;
        let duration = RealEnv::uptime().saturating_sub(started_at);
        Ok(ProbedDocument {
            listed_documents,
            bytes: sink.bytes(),
            duration,
            path: stored_path(&self.format, &item, &document_ref.document, sink.is_line()),
            labels,
            first_line: sink.first_line(),
        })
    }
}
