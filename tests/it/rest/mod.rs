//! REST source with the built-in profiles, where their APIs differ from all others, and against
//! APIs that break the rules.

mod gmail;
mod graph;
mod guards;
mod mailru;
mod secrets;

use std::marker::PhantomData;
use std::sync::Arc;

use cynosure::source::{DynSource, Listing, Source as _};
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

/// Asserts the cause of a failure, and that its message contains these words.
fn assert_failure(failure: &Failure, cause: Cause, words: &str) {
    assert_eq!(failure.cause, cause, "{failure}");
    assert!(failure.message.contains(words), "{words:?} is not in {failure}");
}
