//! Source of any kind, behind one type.
//!
//! The event loop is generic over [`Source`]. The program runs it with this one type, so it is
//! compiled once and names no kind. Each call of a source allocates its future, and so does each
//! chunk of a document: little beside a request, and beside the hash of a chunk.

use std::fmt;

use cynosure_engine::{AccountId, Cursor, Failure, FolderCount, PageToken, Timestamp};
use futures_util::future::LocalBoxFuture;

use crate::source::{
    CredentialChange, DocumentRef, FetchOutcome, Listing, Page, PollResult, Sink, Source,
};

/// Source of any kind.
pub struct DynSource(Box<dyn ObjectSafeSource>);

impl DynSource {
    #[must_use]
    pub fn new(source: impl Source + 'static) -> Self {
        Self(Box::new(source))
    }
}

impl fmt::Debug for DynSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DynSource").finish_non_exhaustive()
    }
}

impl Source for DynSource {
    async fn account(&self) -> Result<AccountId, Failure> {
        self.0.boxed_account().await
    }

    async fn folders(&self) -> Result<Vec<FolderCount>, Failure> {
        self.0.boxed_folders().await
    }

    async fn poll_changes(&self, cursor: &Cursor) -> Result<PollResult, Failure> {
        self.0.boxed_poll_changes(cursor).await
    }

    async fn current_cursor(&self) -> Result<Cursor, Failure> {
        self.0.boxed_current_cursor().await
    }

    async fn list_page(
        &self,
        listing: &Listing,
        page_token: Option<&PageToken>,
    ) -> Result<Page, Failure> {
        self.0.boxed_list_page(listing, page_token).await
    }

    async fn fetch(
        &self,
        document: &DocumentRef,
        sink: &mut impl Sink,
    ) -> Result<FetchOutcome, Failure> {
        self.0.boxed_fetch(document, DynSink(sink)).await
    }

    async fn refresh_credential(&self) -> Result<CredentialChange, Failure> {
        self.0.boxed_refresh_credential().await
    }

    async fn reload_credential(&self) -> Result<CredentialChange, Failure> {
        self.0.boxed_reload_credential().await
    }

    fn blocked_until(&self) -> Option<Timestamp> {
        self.0.current_block()
    }
}

/// Sink of any type.
struct DynSink<'a>(&'a mut dyn ObjectSafeSink);

impl Sink for DynSink<'_> {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.0.boxed_write(bytes).await
    }

    async fn rewind(&mut self) -> Result<(), Failure> {
        self.0.boxed_rewind().await
    }
}

/// The methods of [`Source`] with futures of one type, as a trait object requires.
trait ObjectSafeSource {
    fn boxed_account(&self) -> LocalBoxFuture<'_, Result<AccountId, Failure>>;

    fn boxed_folders(&self) -> LocalBoxFuture<'_, Result<Vec<FolderCount>, Failure>>;

    fn boxed_poll_changes<'a>(
        &'a self,
        cursor: &'a Cursor,
    ) -> LocalBoxFuture<'a, Result<PollResult, Failure>>;

    fn boxed_current_cursor(&self) -> LocalBoxFuture<'_, Result<Cursor, Failure>>;

    fn boxed_list_page<'a>(
        &'a self,
        listing: &'a Listing,
        page_token: Option<&'a PageToken>,
    ) -> LocalBoxFuture<'a, Result<Page, Failure>>;

    fn boxed_fetch<'a>(
        &'a self,
        document: &'a DocumentRef,
        sink: DynSink<'a>,
    ) -> LocalBoxFuture<'a, Result<FetchOutcome, Failure>>;

    fn boxed_refresh_credential(&self) -> LocalBoxFuture<'_, Result<CredentialChange, Failure>>;

    fn boxed_reload_credential(&self) -> LocalBoxFuture<'_, Result<CredentialChange, Failure>>;

    fn current_block(&self) -> Option<Timestamp>;
}

impl<S: Source> ObjectSafeSource for S {
    fn boxed_account(&self) -> LocalBoxFuture<'_, Result<AccountId, Failure>> {
        Box::pin(self.account())
    }

    fn boxed_folders(&self) -> LocalBoxFuture<'_, Result<Vec<FolderCount>, Failure>> {
        Box::pin(self.folders())
    }

    fn boxed_poll_changes<'a>(
        &'a self,
        cursor: &'a Cursor,
    ) -> LocalBoxFuture<'a, Result<PollResult, Failure>> {
        Box::pin(self.poll_changes(cursor))
    }

    fn boxed_current_cursor(&self) -> LocalBoxFuture<'_, Result<Cursor, Failure>> {
        Box::pin(self.current_cursor())
    }

    fn boxed_list_page<'a>(
        &'a self,
        listing: &'a Listing,
        page_token: Option<&'a PageToken>,
    ) -> LocalBoxFuture<'a, Result<Page, Failure>> {
        Box::pin(self.list_page(listing, page_token))
    }

    fn boxed_fetch<'a>(
        &'a self,
        document: &'a DocumentRef,
        mut sink: DynSink<'a>,
    ) -> LocalBoxFuture<'a, Result<FetchOutcome, Failure>> {
        Box::pin(async move { self.fetch(document, &mut sink).await })
    }

    fn boxed_refresh_credential(&self) -> LocalBoxFuture<'_, Result<CredentialChange, Failure>> {
        Box::pin(self.refresh_credential())
    }

    fn boxed_reload_credential(&self) -> LocalBoxFuture<'_, Result<CredentialChange, Failure>> {
        Box::pin(self.reload_credential())
    }

    fn current_block(&self) -> Option<Timestamp> {
        self.blocked_until()
    }
}

/// The methods of [`Sink`] with futures of one type, as a trait object requires.
trait ObjectSafeSink {
    fn boxed_write<'a>(&'a mut self, bytes: &'a [u8]) -> LocalBoxFuture<'a, Result<(), Failure>>;

    fn boxed_rewind(&mut self) -> LocalBoxFuture<'_, Result<(), Failure>>;
}

impl<T: Sink> ObjectSafeSink for T {
    fn boxed_write<'a>(&'a mut self, bytes: &'a [u8]) -> LocalBoxFuture<'a, Result<(), Failure>> {
        Box::pin(self.write(bytes))
    }

    fn boxed_rewind(&mut self) -> LocalBoxFuture<'_, Result<(), Failure>> {
        Box::pin(self.rewind())
    }
}
