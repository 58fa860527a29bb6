//! IMAP source against servers that break the protocol, refuse, or say something unexpected.

mod bad_input;
mod connections;
mod folders;
mod greetings;
mod logins;
mod misdeeds;
mod numbering;
mod replies;
pub(crate) mod server;

use std::rc::Rc;
use std::time::Duration;

use cynosure::limiter::Unlimited;
use cynosure::source::credential::Credential;
use cynosure::source::http::{ProxyMode, RequestLimits};
use cynosure::source::imap::{
    FolderFilter, ImapNetwork, ImapOptions, ImapSource, LoginMechanism, Security,
};
use cynosure::source::{DocumentRef, FetchOutcome, Listing, MetricsHandle, Source as _};
use cynosure_engine::{
    Cause, Cursor, DocumentId, DocumentLocation, Failure, ListedDocument, NextPage,
};
use futures_util::future::join_all;
use tokio::task::LocalSet;
use tokio::time::timeout;

use self::server::{INBOX, ScriptedServer, UID_VALIDITY};
use crate::http::{MemorySink, limits};

/// More pages than any listing of these tests has.
const PAGES_MAX: usize = 10_000;

/// Time after which a test has failed: some task waits for another one forever.
const TEST_DURATION_MAX: Duration = Duration::from_secs(60);

/// Runs a test as the worker runs a source: all tasks stay on its thread.
async fn run_locally(test: impl Future<Output = ()>) {
    let tasks = LocalSet::new();
    let running = Box::pin(tasks.run_until(test));
    timeout(TEST_DURATION_MAX, running).await.expect("the test ends");
}

fn options(server: &ScriptedServer) -> ImapOptions {
    ImapOptions {
        name: "scripted".to_owned(),
        account: None,
        username: "alice@example.com".to_owned(),
        host: "127.0.0.1".to_owned(),
        port: server.port,
        security: Security::Plain,
        mechanism: LoginMechanism::Password,
        folders: FolderFilter::default(),
        since: None,
        connections: 1,
        limits: RequestLimits {
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(10),
            ..limits()
        },
        network: ImapNetwork { proxy_mode: ProxyMode::Direct, metrics: MetricsHandle::default() },
    }
}

fn source_with(options: ImapOptions) -> ImapSource {
    let credential = Credential::new(|| Box::pin(async { Ok("s3cret".into()) }));
    ImapSource::new(options, credential, Rc::new(Unlimited))
}

/// Returns a source that makes one attempt for each message.
fn source(server: &ScriptedServer) -> ImapSource {
    source_with(options(server))
}

/// Returns the reference to a message that only its place identifies.
fn document_at(location: DocumentLocation) -> DocumentRef {
    let blob = location.to_blob();
    DocumentRef::new(DocumentId::new(blob.as_str()), blob, None).with_locations(vec![location])
}

fn inbox_message(uid: u32) -> DocumentRef {
    let folder = String::from_utf8_lossy(INBOX).into_owned();
    document_at(DocumentLocation { folder, uid_validity: UID_VALIDITY, uid })
}

fn listed_message(listed: &ListedDocument) -> DocumentRef {
    let ListedDocument { document, blob, size, location, .. } = listed.clone();
    DocumentRef::new(document, blob, size).with_locations(location.into_iter().collect())
}

async fn fetch(source: &ImapSource, document: &DocumentRef) -> Result<Vec<u8>, Failure> {
    let mut sink = MemorySink::default();
    let outcome = source.fetch(document, &mut sink).await?;
    let bytes = sink.bytes.len().try_into().unwrap();
    assert_eq!(outcome, FetchOutcome::Complete { bytes, folders: Vec::new() });
    Ok(sink.bytes)
}

/// Fetches documents at the same time.
async fn fetch_all(
    source: &ImapSource,
    documents: impl IntoIterator<Item = DocumentRef>,
) -> Vec<Result<Vec<u8>, Failure>> {
    let fetches =
        documents.into_iter().map(|document| async move { fetch(source, &document).await });
    join_all(fetches).await
}

/// Lists to the end. Resumes once from an unverified end, as the worker does.
async fn list(
    source: &ImapSource,
    listing: &Listing,
) -> Result<(Vec<ListedDocument>, Option<Cursor>), Failure> {
    let (mut documents, mut page_token, mut has_resumed) = (Vec::new(), None, false);
    for _ in 0..PAGES_MAX {
        let page = source.list_page(listing, page_token.as_ref()).await?;
        documents.extend(page.entries);
        (page_token, has_resumed) = match page.next {
            Ok(NextPage::Done(cursor)) => return Ok((documents, cursor)),
            Ok(NextPage::More(next)) => (Some(next), false),
            Err(end) if has_resumed => {
                return Err(Failure::new(Cause::ListingIncomplete, end.reason));
            }
            Err(end) => (Some(end.resume_from), true),
        };
    }
    panic!("the listing does not end");
}

async fn list_everything(source: &ImapSource) -> Result<Vec<ListedDocument>, Failure> {
    Ok(list(source, &Listing::Full).await?.0)
}

/// Lists everything and fetches it. Returns the messages in the order of the listing.
async fn extract(source: &ImapSource) -> Result<Vec<Vec<u8>>, Failure> {
    let documents = list_everything(source).await?;
    fetch_all(source, documents.iter().map(listed_message)).await.into_iter().collect()
}

/// Returns the cause of each failure; `None` for a message that arrived.
fn causes(results: &[Result<Vec<u8>, Failure>]) -> Vec<Option<Cause>> {
    results.iter().map(|result| result.as_ref().err().map(|failure| failure.cause)).collect()
}
