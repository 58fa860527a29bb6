//! Email over IMAP (RFC 3501, RFC 9051).
//!
//! Messages are the documents. Threads are the items where the server names them; elsewhere each
//! message is one. A message is identified by the id of its content where the server has one, and
//! otherwise by its folder and UID. Folders are only opened for reading, and no message is marked
//! as read. The same message in several folders is listed once for each.

mod changes;
mod connect;
mod connection;
mod cursor;
mod fetch;
mod folders;
mod listing;
mod login;
mod options;
mod pool;
mod proxy_tunnel;
mod sasl;
mod source;
#[cfg(test)]
mod tests;
mod wire;

pub use self::options::{FolderFilter, ImapNetwork, ImapOptions, LoginMechanism, Security};
pub use self::source::ImapSource;
use cynosure_engine::{AccountId, Cursor, Failure, FolderCount, PageToken, Timestamp};

use crate::source::{
    CredentialChange, DocumentRef, FetchOutcome, Listing, Page, PollResult, Sink, Source,
};

impl Source for ImapSource {
    async fn account(&self) -> Result<AccountId, Failure> {
        self.proven_account().await
    }

    async fn folders(&self) -> Result<Vec<FolderCount>, Failure> {
        folders::count_folders(self).await
    }

    async fn poll_changes(&self, cursor: &Cursor) -> Result<PollResult, Failure> {
        changes::poll_changes(self, cursor).await
    }

    async fn current_cursor(&self) -> Result<Cursor, Failure> {
        changes::current_cursor(self).await
    }

    async fn list_page(
        &self,
        listing: &Listing,
        page_token: Option<&PageToken>,
    ) -> Result<Page, Failure> {
        match listing {
            Listing::Full => listing::list_page(self, page_token).await,
            Listing::Since(cursor) => changes::list_page(self, cursor, page_token).await,
        }
    }

    async fn fetch(
        &self,
        document: &DocumentRef,
        sink: &mut impl Sink,
    ) -> Result<FetchOutcome, Failure> {
        self.check_account()?;
        fetch::fetch(self, document, sink).await
    }

    async fn refresh_credential(&self) -> Result<CredentialChange, Failure> {
        self.refresh().await
    }

    async fn reload_credential(&self) -> Result<CredentialChange, Failure> {
        self.reload().await
    }

    fn blocked_until(&self) -> Option<Timestamp> {
        self.limiter.blocked_until()
    }
}
