//! URL or credential that belongs to another account than before.

use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cynosure::limiter::Unlimited;
use cynosure::source::credential::Credential;
use cynosure::source::jmap::{JmapOptions, JmapSource};
use cynosure::source::{Listing, Source as _};
use cynosure_engine::{AccountId, Cause, Cursor, Failure};

use super::{fetch, page_ids};
use crate::fake_mailbox::{FakeMailbox, ServedMailbox};

/// Asserts that the failure reports a changed account, and that no method call after the first
/// `calls_before` was for the new account.
fn assert_account_changed(served: &ServedMailbox, calls_before: usize, failure: &Failure) {
    assert_eq!(failure.cause, Cause::AccountChanged, "{failure}");
    assert!(failure.message.contains("changed from \"alice\" to \"bob\""), "{failure}");
    assert!(failure.message.ends_with("with `cynosure reset work`"), "{failure}");
    let calls = &served.mailbox.lock().unwrap().calls[calls_before..];
    assert!(calls.iter().all(|(_, arguments)| arguments["accountId"] == "alice"), "{calls:?}");
}

/// FAULTS 45: the server reports another account than the one in the ledger.
#[tokio::test]
async fn another_account_than_the_ledgers_is_refused() {
    let mut mailbox = FakeMailbox::with_emails(3);
    mailbox.switch_account("bob");
    let served = mailbox.serve().await;
    let account = Some(AccountId::new("alice"));
    let source = served.source_with(JmapOptions { account, ..served.options() });

    let cursor = Cursor::new("0");
    assert_account_changed(&served, 0, &source.account().await.unwrap_err());
    assert_account_changed(&served, 0, &source.poll_changes(&cursor).await.unwrap_err());
    assert_account_changed(&served, 0, &source.current_cursor().await.unwrap_err());
    let since = Listing::Since(cursor);
    assert_account_changed(&served, 0, &source.list_page(&since, None).await.unwrap_err());
    assert_account_changed(&served, 0, &fetch(&source, "M1").await.unwrap_err());
    let downloads = served
        .server
        .requests()
        .iter()
        .filter(|request| request.path().starts_with("/get/"))
        .count();
    assert_eq!((served.calls("Email/get").len(), downloads), (0, 0));
}

/// FAULTS 45: the account changes during a run, and the session is requested again.
#[tokio::test]
async fn an_account_that_changes_in_mid_run_is_refused() {
    let served = FakeMailbox::with_emails(9).serve().await;
    let source = served.source();
    assert_eq!(source.account().await.unwrap().as_str(), "alice");
    page_ids(&source, &Listing::Full, None).await.unwrap();

    served.with_mailbox(|mailbox| mailbox.switch_account("bob"));
    let calls_before = served.mailbox.lock().unwrap().calls.len();
    // The server no longer knows the id of the old account.
    assert_eq!(source.current_cursor().await.unwrap_err().cause, Cause::NotFound);
    assert_account_changed(&served, calls_before, &source.current_cursor().await.unwrap_err());
    assert_account_changed(&served, calls_before, &fetch(&source, "M1").await.unwrap_err());

    served.with_mailbox(|mailbox| mailbox.switch_account("alice"));
    assert!(source.current_cursor().await.is_ok());
}

/// FAULTS 45: the new token is that of another account.
#[tokio::test]
async fn a_credential_of_another_account_is_refused() {
    let served = FakeMailbox::with_emails(3).serve().await;
    let reads = AtomicUsize::new(0);
    let credential = Credential::new(move || {
        let token = if reads.fetch_add(1, Ordering::Relaxed) < 1 { "secret" } else { "other" };
        Box::pin(async move { Ok(token.into()) })
    });
    let source = JmapSource::new(served.options(), credential, Rc::new(Unlimited)).unwrap();
    source.current_cursor().await.unwrap();

    served.with_mailbox(|mailbox| {
        mailbox.token = "other";
        mailbox.switch_account("bob");
    });
    source.refresh_credential().await.unwrap();

    let calls_before = served.mailbox.lock().unwrap().calls.len();
    assert_account_changed(&served, calls_before, &source.current_cursor().await.unwrap_err());
}
