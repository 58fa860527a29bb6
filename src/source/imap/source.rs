//! Source for one account, with its connections and its credential.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

use cynosure_engine::{AccountId, Failure};

use crate::limiter::RequestLimiter;
use crate::source::CredentialChange;
use crate::source::credential::Credential;
use crate::source::imap::fetch::SetFetcher;
use crate::source::imap::folders::WarningLog;
use crate::source::imap::folders::survey::RecentSurvey;
use crate::source::imap::options::ImapOptions;
use crate::source::imap::pool::{Pool, PooledConnection};

/// Source for one account on an IMAP server. It must be used within a `LocalSet`.
pub struct ImapSource {
    pub(super) options: ImapOptions,
    pub(super) limiter: Rc<dyn RequestLimiter>,
    pub(super) fetcher: Rc<SetFetcher>,
    pub(super) warnings: WarningLog,
    pub(super) recent_survey: RecentSurvey,
    credential: Rc<Credential>,
    pool: Rc<Pool>,
    /// True once the server has accepted the credential.
    is_login_proven: Cell<bool>,
}

impl ImapSource {
    /// Creates the source. Nothing is sent or read before the first request, which also reads the
    /// certificates.
    #[must_use]
    pub fn new(
        options: ImapOptions,
        credential: Credential,
        limiter: Rc<dyn RequestLimiter>,
    ) -> Self {
        let credential = Rc::new(credential);
        let pool = Rc::new(Pool::new(options.clone(), Rc::clone(&credential), Rc::clone(&limiter)));
        let fetcher = SetFetcher::new(Rc::clone(&pool), &options);
        Self {
            options,
            limiter,
            fetcher,
            warnings: WarningLog::default(),
            recent_survey: RecentSurvey::default(),
            credential,
            pool,
            is_login_proven: Cell::new(false),
        }
    }

    /// Returns the account, after a login has shown that the credential is valid for it.
    pub(super) async fn proven_account(&self) -> Result<AccountId, Failure> {
        let account = self.check_account()?;
        if !self.is_login_proven.get() {
            drop(self.pool.acquire().await?);
            self.is_login_proven.set(true);
        }
        Ok(account)
    }

    /// Returns the account that the configuration names.
    ///
    /// # Errors
    /// Returns [`Cause::AccountChanged`](cynosure_engine::Cause::AccountChanged) if the ledger
    /// belongs to another one.
    pub(super) fn check_account(&self) -> Result<AccountId, Failure> {
        let ImapOptions { name, account: expected, username, host, .. } = &self.options;
        let account = AccountId::new(format!("{username} at {host}"));
        match expected {
            Some(expected) if *expected != account => {
                Err(Failure::account_changed(name, expected, &account))
            }
            Some(_) | None => Ok(account),
        }
    }

    /// Returns a connection for the requests of one call.
    pub(super) async fn connect(&self) -> Result<PooledConnection, Failure> {
        self.check_account()?;
        self.pool.acquire().await
    }

    /// Reads the credential again, or has it refreshed. If it has changed, no connection of the old
    /// one is used again.
    pub(super) async fn refresh(&self) -> Result<CredentialChange, Failure> {
        let change = self.credential.refresh().await?;
        self.on_credential_read(change);
        Ok(change)
    }

    /// Reads the credential again where it is stored, as [`Self::refresh`] does.
    pub(super) async fn reload(&self) -> Result<CredentialChange, Failure> {
        let change = self.credential.reload().await?;
        self.on_credential_read(change);
        Ok(change)
    }

    fn on_credential_read(&self, change: CredentialChange) {
        if change == CredentialChange::Changed {
            self.is_login_proven.set(false);
            self.pool.reset();
        }
    }
}

impl fmt::Debug for ImapSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImapSource").field("options", &self.options).finish_non_exhaustive()
    }
}
