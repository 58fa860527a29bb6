//! Documents over any paginated HTTP API that a profile declares.
//!
//! A profile says which requests list the documents and fetch them, where ids, tokens and cursors
//! stand in the responses, and what errors mean (`cynosure_engine::rest`). A response that does not
//! agree with it is an error that quotes the rule; nothing is guessed.
//!
//! `call` sends a request whose response is JSON, `fetch` one for a document. `listing` reads the
//! pages of a full listing, `changes` those since a cursor. `name_folders` replaces the ids of the
//! folders of documents by names.

mod account;
mod again;
mod auth;
mod base64_text;
mod blob;
mod call;
mod changes;
mod cursor;
mod document_sink;
mod fetch;
mod folder_names;
mod json_scanner;
mod json_text;
mod listing;
mod name_folders;
mod not_found;
mod options;
mod parts;
mod request;
mod source;
#[cfg(test)]
mod test_server;
mod text_decoder;

pub use self::options::{RestAuth, RestOptions};
pub use self::source::RestSource;
use cynosure_engine::{AccountId, Cursor, Failure, FolderCount, PageToken, Timestamp};

use crate::source::{
    CredentialChange, DocumentRef, FetchOutcome, Listing, Page, PollResult, Sink, Source,
};

impl Source for RestSource {
    async fn account(&self) -> Result<AccountId, Failure> {
        self.account_id().await
    }

    async fn folders(&self) -> Result<Vec<FolderCount>, Failure> {
        parts::folders(self).await
    }

    async fn poll_changes(&self, cursor: &Cursor) -> Result<PollResult, Failure> {
        changes::poll_changes(self, cursor).await
    }

    async fn current_cursor(&self) -> Result<Cursor, Failure> {
        cursor::current_cursor(self).await
    }

    async fn list_page(
        &self,
        listing: &Listing,
        page_token: Option<&PageToken>,
    ) -> Result<Page, Failure> {
        listing::list_page(self, listing, page_token).await
    }

    async fn fetch(
        &self,
        document: &DocumentRef,
        sink: &mut impl Sink,
    ) -> Result<FetchOutcome, Failure> {
        fetch::fetch(self, document, sink).await
    }

    async fn refresh_credential(&self) -> Result<CredentialChange, Failure> {
        self.refresh().await
    }

    async fn reload_credential(&self) -> Result<CredentialChange, Failure> {
        self.reload().await
    }

    fn blocked_until(&self) -> Option<Timestamp> {
        self.client.blocked_until()
    }
}
