//! REST source with the built-in profiles, where their APIs differ from all others, and against
//! APIs that break the rules.

mod gmail;
mod graph;
mod guards;
mod mailru;
mod secrets;

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use cynosure::source::{DocumentRef, DynSource, FetchOutcome, Listing, Sink, Source as _};
use cynosure_engine::{Cause, Failure};
use cynosure_lab::demo::{DemoOptions, DemoServer, start};

use crate::hostile_server::{ConnectionAction, HostileServer, ReceivedRequest};
use crate::sources::embedded_service;
use crate::sources::rest_embedded::ProviderApi;
use crate::sources::suite::SourceOptions;
use crate::sources::suite::extraction::{ListingProgress, fetch, list_everything};
use crate::sources::suite::options::rest_source;

/// API of a provider on the embedded service, and a server before it that may answer in its place.
struct InterceptedApi<A> {
    service: Arc<DemoServer>,
    server: HostileServer,
    api: PhantomData<A>,
}

impl<A: ProviderApi> InterceptedApi<A> {
    /// Starts the service with this number of threads. `intercept` may return a response to a
    /// request; the service answers the others.
    async fn start<F>(items: u32, intercept: F) -> Self
    where
        F: Fn(&DemoServer, &ReceivedRequest) -> Option<Vec<u8>> + Send + Sync + 'static,
    {
        let options = DemoOptions { kind: A::KIND, items, ..DemoOptions::default() };
        Self::start_with(options, intercept).await
    }

    async fn start_with<F>(options: DemoOptions, intercept: F) -> Self
    where
        F: Fn(&DemoServer, &ReceivedRequest) -> Option<Vec<u8>> + Send + Sync + 'static,
    {
        let service = Arc::new(start(options).unwrap());
        let shared = Arc::clone(&service);
        let server = HostileServer::start(move |_, request| match intercept(&shared, request) {
            Some(response) => vec![ConnectionAction::Send(response)],
            None => {
                vec![ConnectionAction::Forward(shared.address()), ConnectionAction::Close]
            }
        })
        .await;
        Self { service, server, api: PhantomData }
    }

    fn source(&self, options: &SourceOptions) -> DynSource {
        self.source_of(options, A::TABLE)
    }

    /// Builds a source with another table.
    fn source_of(&self, options: &SourceOptions, table: &str) -> DynSource {
        rest_source(options, table, &self.server.url.join(A::BASE_PATH).unwrap())
    }

    /// Returns the bytes of each message that the mailbox has now.
    fn contents(&self) -> Vec<Vec<u8>> {
        embedded_service::contents(&self.service)
    }

    /// Returns the number of requests whose path contains a text.
    fn count_requests(&self, part: &str) -> usize {
        let requests = self.server.requests();
        requests.iter().filter(|request| request.path().contains(part)).count()
    }
}

/// Lists everything until a page fails.
async fn failure_of_listing(source: &DynSource) -> Failure {
    let mut listing = ListingProgress::default();
    loop {
        let page = source.list_page(&Listing::Full, listing.page_token.as_ref()).await;
        match page {
            Ok(page) => assert!(!listing.record_page(page), "the listing is complete"),
            Err(failure) => return failure,
        }
    }
}

/// Returns the failure of a fetch that gets this response.
async fn failure_of_fetch<A: ProviderApi>(response: Vec<u8>) -> Failure {
    let is_document =
        |request: &ReceivedRequest| request.path().starts_with(A::PROXIED.document_prefix);
    let api = InterceptedApi::<A>::start(1, move |_, request| {
        is_document(request).then(|| response.clone())
    })
    .await;
    let source = api.source(&SourceOptions { attempts: 1, ..SourceOptions::new(A::SECRET) });
    let documents = list_everything(&source).await.documents();
    fetch(&source, &documents[0]).await.unwrap_err()
}

/// Sink that keeps nothing.
struct DiscardingSink;

impl Sink for DiscardingSink {
    async fn write(&mut self, _bytes: &[u8]) -> Result<(), Failure> {
        Ok(())
    }

    async fn rewind(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

/// Fetches a document. Returns the names of its folders.
async fn fetch_folders(source: &DynSource, document: &DocumentRef) -> Vec<String> {
    match source.fetch(document, &mut DiscardingSink).await.unwrap() {
        FetchOutcome::Complete { folders, .. } => folders,
        FetchOutcome::Moved { .. } => panic!("the document is where it was"),
    }
}

/// Lists everything, and asserts that each document is in the folder in which the server counts it.
async fn assert_each_folder_has_its_documents(source: &DynSource) {
    let listing = list_everything(source).await;
    let latest: BTreeMap<_, _> =
        listing.entries.iter().map(|entry| (&entry.document, &entry.folders)).collect();
    let mut counts = BTreeMap::<String, u64>::new();
    for folder in latest.into_values().flatten() {
        *counts.entry(folder.clone()).or_default() += 1;
    }
    let folders = source.folders().await.unwrap().into_iter();
    let expected = folders.map(|folder| (folder.name, folder.messages.unwrap()));
    let expected: BTreeMap<String, u64> = expected.filter(|(_, count)| 0 < *count).collect();
    assert!(1 < expected.len(), "{expected:?}");
    assert_eq!(counts, expected);
}

/// Asserts the cause of a failure, and that its message contains these words.
fn assert_failure(failure: &Failure, cause: Cause, words: &str) {
    assert_eq!(failure.cause, cause, "{failure}");
    assert!(failure.message.contains(words), "{words:?} is not in {failure}");
}
