//! Contents of the documents, and documents that are refused or destroyed.

use cynosure_engine::{Cause, ErrorAction, RequestScope};

use super::extraction::{
    assert_same_contents, assert_verdict, fetch, fetch_all, fetch_remaining, list_everything,
};
use super::fault::Fault;
use super::options::SourceOptions;
use super::rig::{Rig, Unsupported};

const DOCUMENTS: usize = 12;

/// Number of documents that a case destroys.
const DESTROYED: usize = 3;

const LARGE_BYTES: usize = 50_000_000;

/// Length of a line over the 998 octets that RFC 5322 §2.1.1 allows.
const LONG_LINE_BYTES: usize = 200_000;

/// Messages whose line ends and octets a careless client or server changes.
pub(crate) async fn every_byte_of_unusual_documents_is_fetched<R: Rig>() -> Result<(), Unsupported>
{
    assert_delivered_contents_are_fetched::<R>(vec![
        message("bare LF", b"one\ntwo\n\nthree\r\n"),
        message("bare CR", b"one\rtwo\r\rthree\r\n"),
        message("no final newline", b"the end"),
        message("no body", b""),
        message("dots", b".\r\n..\r\n.\r\nFrom here\r\n"),
        message("8 bits \u{e9} \u{1f4ec}", b"\xa0\xfe\xff\r\n"),
        message("a long line", &[b"x".repeat(LONG_LINE_BYTES), b"\r\n".to_vec()].concat()),
    ])
    .await
}

pub(crate) async fn an_empty_document_is_fetched<R: Rig>() -> Result<(), Unsupported> {
    assert_delivered_contents_are_fetched::<R>(vec![Vec::new()]).await
}

pub(crate) async fn a_document_of_50_megabytes_is_fetched<R: Rig>() -> Result<(), Unsupported> {
    let lines = (0..LARGE_BYTES / 64).flat_map(|number| format!("{number:062}\r\n").into_bytes());
    let body: Vec<u8> = lines.collect();
    assert_delivered_contents_are_fetched::<R>(vec![message("large", &body)]).await
}

pub(crate) async fn a_destroyed_document_is_gone<R: Rig>() -> Result<(), Unsupported> {
    let rig = R::start(DOCUMENTS).await?;
    let source = rig.source(&SourceOptions::new(R::SECRET));
    let documents = list_everything(&source).await.documents();
    rig.destroy(DESTROYED)?;

    let stored = fetch_remaining(&source, &documents).await;

    assert_eq!(documents.len() - stored.len(), DESTROYED);
    assert_same_contents(&stored, &rig.contents());
    Ok(())
}

pub(crate) async fn a_forbidden_document_spares_the_others<R: Rig>() -> Result<(), Unsupported> {
    let rig = R::start(DOCUMENTS).await?;
    let source = rig.source(&SourceOptions::new(R::SECRET));
    let documents = list_everything(&source).await.documents();
    rig.inject(Fault::Forbidden)?;

    let failure = fetch(&source, &documents[0]).await.expect_err("the server refuses the document");

    let (scope, action) = (RequestScope::Item, ErrorAction::Quarantine);
    assert_verdict(&failure, Cause::Forbidden, scope, action);
    assert_eq!(failure.request_count, 1, "it is not requested again at once");
    assert_same_contents(&fetch_all(&source, &documents).await, &rig.contents());
    Ok(())
}

async fn assert_delivered_contents_are_fetched<R: Rig>(
    contents: Vec<Vec<u8>>,
) -> Result<(), Unsupported> {
    let rig = R::start(0).await?;
    rig.deliver_contents(contents)?;
    let source = rig.source(&SourceOptions::new(R::SECRET));

    let documents = list_everything(&source).await.documents();

    assert_same_contents(&fetch_all(&source, &documents).await, &rig.contents());
    Ok(())
}

fn message(subject: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("From: a@example.com\r\nTo: b@example.com\r\nSubject: {subject}\r\n\r\n");
    [head.as_bytes(), body].concat()
}
