//! Mails whose blob id changes after they were listed.

use cynosure::source::{DocumentRef, FetchOutcome, Source as _};
use cynosure_engine::{BlobId, Cause};

use super::document_ref;
use crate::fake_mailbox::FakeMailbox;
use crate::hostile_server::plain_response;
use crate::http::MemorySink;

/// FAULTS 48: the content of a listed mail changes.
#[tokio::test]
async fn a_mail_with_a_changed_blob_is_reported_as_moved() {
    let served = FakeMailbox::with_emails(3).serve().await;
    let source = served.source();
    served.with_mailbox(|mailbox| mailbox.replace("M1", "other", "another content"));
    let mut sink = MemorySink::default();

    let moved = source.fetch(&document_ref("M1"), &mut sink).await.unwrap();

    let (blob, size) = (BlobId::new("other"), Some(15));
    assert_eq!(moved, FetchOutcome::Moved { blob: blob.clone(), size });
    let current = DocumentRef { blob, size, ..document_ref("M1") };
    let complete = FetchOutcome::Complete { bytes: 15, folders: Vec::new() };
    assert_eq!(source.fetch(&current, &mut sink).await.unwrap(), complete);
    assert_eq!(sink.bytes, b"another content");
    let requests = served.server.requests();
    let sessions = requests.iter().filter(|request| request.path() == "/jmap/session").count();
    assert_eq!(sessions, 1, "a changed blob does not reload the session");
}

/// FAULTS 48: a 404 for an unchanged blob is a failure, and no other blob is requested.
#[tokio::test]
async fn a_404_for_an_unchanged_blob_is_a_failure() {
    let served = FakeMailbox::with_emails(3).serve().await;
    served.with_mailbox(|mailbox| {
        mailbox.request_override = Some(("/get/", plain_response("404 None", "", "")));
    });

    let fetched = served.source().fetch(&document_ref("M1"), &mut MemorySink::default()).await;

    assert_eq!(fetched.unwrap_err().cause, Cause::Server);
}
