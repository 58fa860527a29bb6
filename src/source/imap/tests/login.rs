//! The account of the source, and its credential.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::source::CredentialChange;

#[tokio::test]
async fn a_login_proves_the_account_once() {
    run_test(async {
        let server = ListingServer::start(LIST_STATUS, [ServerFolder::new("INBOX", [])]).await;
        let source = source(&server);

        for _ in 0..2 {
            let account = source.account().await;
            assert_eq!(account, Ok(AccountId::new("user@example.org at 127.0.0.1")));
        }

        assert_eq!((server.logins(), server.take_commands()), (1, Vec::new()));
    })
    .await;
}

#[tokio::test]
async fn another_account_than_the_ledgers_is_never_accessed() {
    run_test(async {
        let server = ListingServer::start(LIST_STATUS, [ServerFolder::new("INBOX", [])]).await;
        let account = Some(AccountId::new("other@example.org at 127.0.0.1"));
        let source = source_with(ImapOptions { account, ..options(&server) });

        let failures = [
            source.account().await.unwrap_err(),
            source.current_cursor().await.unwrap_err(),
            source.list_page(&Listing::Full, None).await.unwrap_err(),
        ];

        assert_eq!(failures.map(|failure| failure.cause), [Cause::AccountChanged; 3]);
        assert_eq!(server.logins(), 0);
    })
    .await;
}

#[tokio::test]
async fn a_changed_credential_needs_another_login() {
    run_test(async {
        let server = ListingServer::start(LIST_STATUS, [ServerFolder::new("INBOX", [])]).await;
        let reads = Arc::new(AtomicUsize::new(0));
        let credential = Credential::new(move || {
            // The third read returns another secret.
            let secret = if reads.fetch_add(1, Ordering::Relaxed) < 2 { "old" } else { "new" };
            Box::pin(async move { Ok(SecretString::from(secret)) })
        });
        let limiter = std::rc::Rc::new(Unlimited);
        let source = ImapSource::new(options(&server), credential, limiter);
        source.account().await.unwrap();

        assert_eq!(source.refresh_credential().await, Ok(CredentialChange::Unchanged));
        source.current_cursor().await.unwrap();
        assert_eq!(server.logins(), 1);
        assert_eq!(source.refresh_credential().await, Ok(CredentialChange::Changed));
        source.account().await.unwrap();

        assert_eq!(server.logins(), 2);
    })
    .await;
}
