//! The source against a server on the loopback interface.

mod changes;
mod failing_folders;
mod folders;
mod listing;
mod login;
mod scripted_server;
mod vanished;

use std::time::Duration;

use cynosure_engine::{AccountId, Cause, ListedDocument, NextPage, PageToken};
use secrecy::SecretString;
use tokio::task::LocalSet;
use tokio::time::timeout;

use self::scripted_server::{ListingServer, ServerFolder};
use super::{FolderFilter, ImapNetwork, ImapOptions, ImapSource, LoginMechanism, Security};
use crate::limiter::Unlimited;
use crate::retry::{BackoffConfig, RetryPolicy};
use crate::source::credential::Credential;
use crate::source::http::{ProxyMode, RequestLimits};
use crate::source::{Listing, MetricsHandle, Page, Source as _};

/// Time after which a test has failed: some task waits for another one forever.
const TEST_DURATION_MAX: Duration = Duration::from_secs(30);

/// Pages after which a listing has failed: it does not end.
const PAGES_MAX: usize = 100;

/// Capabilities with which one request returns the status of all folders.
const LIST_STATUS: &str = "LIST-EXTENDED LIST-STATUS SPECIAL-USE";

/// Request for all folders and their status.
const LIST_STATUS_COMMAND: &str =
    r#"LIST "" "*" RETURN (SPECIAL-USE STATUS (MESSAGES UIDNEXT UIDVALIDITY))"#;

/// Runs a test that starts local tasks.
async fn run_test(test: impl Future<Output = ()>) {
    timeout(TEST_DURATION_MAX, LocalSet::new().run_until(test)).await.expect("the test ends");
}

fn options(server: &ListingServer) -> ImapOptions {
    ImapOptions {
        name: "test".to_owned(),
        account: None,
        username: "user@example.org".to_owned(),
        host: "127.0.0.1".to_owned(),
        port: server.port,
        security: Security::Plain,
        mechanism: LoginMechanism::Password,
        folders: FolderFilter::default(),
        since: None,
        connections: 1,
        limits: RequestLimits {
            retry_policy: RetryPolicy::new("test", BackoffConfig::FAST),
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(10),
            total_timeout: Duration::from_secs(60),
            min_rate: 0,
            max_response: 1024 * 1024,
            max_document: 1024 * 1024,
        },
        network: ImapNetwork { proxy_mode: ProxyMode::Direct, metrics: MetricsHandle::default() },
    }
}

fn source_with(options: ImapOptions) -> ImapSource {
    let credential = Credential::new(|| Box::pin(async { Ok(SecretString::from("password")) }));
    ImapSource::new(options, credential, std::rc::Rc::new(Unlimited))
}

fn source(server: &ListingServer) -> ImapSource {
    source_with(options(server))
}

/// Lists until the end, and returns all pages.
async fn list_pages(source: &ImapSource, listing: &Listing) -> Vec<Page> {
    let mut pages: Vec<Page> = Vec::new();
    let mut token: Option<PageToken> = None;
    while pages.len() < PAGES_MAX {
        let page = source.list_page(listing, token.as_ref()).await.unwrap();
        token = match &page.next {
            Ok(NextPage::More(token)) => Some(token.clone()),
            Ok(NextPage::Done(_)) | Err(_) => None,
        };
        pages.push(page);
        if token.is_none() {
            return pages;
        }
    }
    panic!("the listing has more than {PAGES_MAX} pages");
}

fn entries(pages: &[Page]) -> Vec<ListedDocument> {
    pages.iter().flat_map(|page| page.entries.clone()).collect()
}

/// Returns the locations of entries.
fn places(entries: &[ListedDocument]) -> Vec<String> {
    let place = |entry: &ListedDocument| entry.location.as_ref().unwrap().to_blob().to_string();
    entries.iter().map(place).collect()
}

/// Lists everything, and returns the locations of the documents.
async fn list_places(source: &ImapSource) -> Vec<String> {
    places(&entries(&list_pages(source, &Listing::Full).await))
}
