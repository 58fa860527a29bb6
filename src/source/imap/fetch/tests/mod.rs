//! Fetches from a server on the loopback interface.

mod attempts;
mod bodies;
mod connections;
mod replies;
mod server;
mod sets;
mod time_limits;

use std::rc::Rc;
use std::time::Duration;

use cynosure_engine::{Cause, DocumentId, DocumentLocation, Failure};
use futures_util::future::join_all;
use secrecy::SecretString;
use tokio::task::LocalSet;
use tokio::time::timeout;

use self::server::{FetchServer, ReceivedFetch, UID_VALIDITY};
use super::fetch;
use crate::limiter::{RequestLimiter, Unlimited};
use crate::retry::{BackoffConfig, Jitter, RetryPolicy};
use crate::source::credential::Credential;
use crate::source::http::{ProxyMode, RequestLimits};
use crate::source::imap::options::{
    FolderFilter, ImapNetwork, ImapOptions, LoginMechanism, Security,
};
use crate::source::imap::source::ImapSource;
use crate::source::{DocumentRef, FetchOutcome, MetricsHandle, Sink};

/// Largest document, in bytes.
const DOCUMENT_BYTES_MAX: u64 = 1024 * 1024;

/// Time after which a test has failed: some task waits for another one forever.
const TEST_DURATION_MAX: Duration = Duration::from_secs(30);

/// Settings of a source that differ between tests.
#[derive(Clone, Copy, Debug)]
struct FetchTestSettings {
    connections: u32,
    max_attempts: u32,
}

const ONE_CONNECTION: FetchTestSettings = FetchTestSettings { connections: 1, max_attempts: 1 };

/// Sink that keeps the bytes of a document.
#[derive(Debug, Default)]
struct CollectedBody {
    bytes: Vec<u8>,
    rewinds: u32,
}

impl Sink for CollectedBody {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    async fn rewind(&mut self) -> Result<(), Failure> {
        self.bytes.clear();
        self.rewinds += 1;
        Ok(())
    }
}

/// Runs a test that starts local tasks.
async fn run_test(test: impl Future<Output = ()>) {
    timeout(TEST_DURATION_MAX, LocalSet::new().run_until(test)).await.expect("the test ends");
}

fn source(port: u16, settings: FetchTestSettings) -> Rc<ImapSource> {
    limited_source(port, settings, Rc::new(Unlimited))
}

fn limited_source(
    port: u16,
    settings: FetchTestSettings,
    limiter: Rc<dyn RequestLimiter>,
) -> Rc<ImapSource> {
    let backoff = BackoffConfig {
        max_attempts: settings.max_attempts,
        base_delay: Duration::ZERO,
        jitter: Jitter::None,
        ..BackoffConfig::FAST
    };
    let options = ImapOptions {
        name: "test".to_owned(),
        account: None,
        username: "user".to_owned(),
        host: "127.0.0.1".to_owned(),
        port,
        security: Security::Plain,
        mechanism: LoginMechanism::Password,
        folders: FolderFilter::default(),
        since: None,
        connections: settings.connections,
        limits: RequestLimits {
            retry_policy: RetryPolicy::new("test", backoff),
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(10),
            total_timeout: Duration::from_secs(60),
            min_rate: 0,
            max_response: 1024 * 1024,
            max_document: DOCUMENT_BYTES_MAX,
        },
        network: ImapNetwork { proxy_mode: ProxyMode::Direct, metrics: MetricsHandle::default() },
    };
    let credential = Credential::new(|| Box::pin(async { Ok(SecretString::from("password")) }));
    Rc::new(ImapSource::new(options, credential, limiter))
}

fn location(folder: &str, uid: u32) -> DocumentLocation {
    DocumentLocation { folder: folder.to_owned(), uid_validity: UID_VALIDITY, uid }
}

/// Returns a document that is known only by its place.
fn document(folder: &str, uid: u32) -> DocumentRef {
    let blob = location(folder, uid).to_blob();
    DocumentRef::new(DocumentId::new(blob.as_str()), blob, None)
}

/// Fetches a document and returns its text.
async fn fetch_text(source: &ImapSource, document: &DocumentRef) -> Result<String, Failure> {
    let mut body = CollectedBody::default();
    let outcome = fetch(source, document, &mut body).await?;
    let bytes = body.bytes.len().try_into().unwrap();
    assert_eq!(outcome, FetchOutcome::Complete { bytes, folders: Vec::new() });
    Ok(String::from_utf8(body.bytes).unwrap())
}

/// Fetches messages of the inbox at the same time.
async fn fetch_inbox(
    source: &ImapSource,
    uids: impl IntoIterator<Item = u32>,
) -> Vec<Result<String, Failure>> {
    let fetches = uids
        .into_iter()
        .map(|uid| async move { fetch_text(source, &document("INBOX", uid)).await });
    join_all(fetches).await
}

fn text_of(uid: u32) -> String {
    format!("Subject: {uid}\r\n\r\ntext")
}

fn texts_of(uids: impl IntoIterator<Item = u32>) -> Vec<Result<String, Failure>> {
    uids.into_iter().map(|uid| Ok(text_of(uid))).collect()
}

fn causes(results: Vec<Result<String, Failure>>) -> Vec<Result<String, Cause>> {
    results.into_iter().map(|result| result.map_err(|failure| failure.cause)).collect()
}

/// Returns the response with the body of a message.
fn response(uid: u32, body: &str) -> String {
    format!("* 1 FETCH (UID {uid} BODY[] {{{}}}\r\n{body})\r\n", body.len())
}

/// Returns a response that names the UID after the body.
fn late_uid_response(uid: u32, body: &str) -> String {
    format!("* 1 FETCH (BODY[] {{{}}}\r\n{body} UID {uid})\r\n", body.len())
}

/// Returns the responses to a command, as a server sends them that has all messages.
fn complete_reply(fetch: &ReceivedFetch) -> String {
    let responses: String = fetch.uids.iter().map(|uid| response(*uid, &text_of(*uid))).collect();
    format!("{responses}{} OK done\r\n", fetch.tag)
}
