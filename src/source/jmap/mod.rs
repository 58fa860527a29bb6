//! Email over JMAP: RFC 8620 for the protocol, RFC 8621 for email.
//!
//! Threads are the items, emails their documents. A listing returns emails and not collapsed
//! threads, so that it shows exactly which bytes are new before any is downloaded. Every request
//! contains one method call, because servers differ most in the effect of one failed call on the
//! others of its batch.

mod api;
mod changes;
mod completeness;
mod download;
mod email;
mod email_folders;
mod email_get;
mod filter;
mod full_list;
mod mailbox_paths;
mod mailboxes;
mod missing;
mod options;
mod session;
mod source;

pub use self::options::{AuthScheme, JmapOptions};
pub use self::source::JmapSource;
use cynosure_engine::{AccountId, Cursor, Failure, FolderCount, PageToken, Timestamp};

use crate::source::{
    CredentialChange, DocumentRef, FetchOutcome, Listing, Page, PollResult, Sink, Source,
};

impl Source for JmapSource {
    async fn account(&self) -> Result<AccountId, Failure> {
        Ok(self.session().await?.account.clone())
    }

    async fn folders(&self) -> Result<Vec<FolderCount>, Failure> {
        mailboxes::count_mailboxes(self).await
    }

    async fn poll_changes(&self, cursor: &Cursor) -> Result<PollResult, Failure> {
        changes::poll_changes(self, cursor).await
    }

    async fn current_cursor(&self) -> Result<Cursor, Failure> {
        let session = self.session().await?;
        email_get::fetch_state(self, &session).await
    }

    async fn list_page(
        &self,
        listing: &Listing,
        page_token: Option<&PageToken>,
    ) -> Result<Page, Failure> {
        match listing {
            Listing::Full => full_list::list_page(self, page_token).await,
            Listing::Since(cursor) => changes::list_page(self, cursor, page_token).await,
        }
    }

    async fn fetch(
        &self,
        document: &DocumentRef,
        sink: &mut impl Sink,
    ) -> Result<FetchOutcome, Failure> {
        download::fetch(self, document, sink).await
    }

    async fn refresh_credential(&self) -> Result<CredentialChange, Failure> {
        let change = self.credential.refresh().await?;
        if change == CredentialChange::Changed {
            // A different credential may belong to a different account.
            self.clear_session().await;
        }
        Ok(change)
    }

    async fn reload_credential(&self) -> Result<CredentialChange, Failure> {
        let change = self.credential.reload().await?;
        if change == CredentialChange::Changed {
            self.clear_session().await;
        }
        Ok(change)
    }

    fn blocked_until(&self) -> Option<Timestamp> {
        self.client.blocked_until()
    }
}
