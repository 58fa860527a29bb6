//! Transfers of a document that are cut, stall or have the wrong length.

use std::time::Duration;

use cynosure::source::DocumentRef;
use cynosure_engine::{Cause, ErrorAction, Failure, RequestScope};

use super::extraction::{assert_same_contents, assert_verdict, fetch, fetch_all, list_everything};
use super::fault::Fault;
use super::options::SourceOptions;
use super::rig::{Rig, Unsupported};

const DOCUMENTS: usize = 5;

/// Size of a document whose listing has no size.
const UNKNOWN_SIZE: u64 = 1000;

pub(crate) async fn a_cut_transfer_is_repeated_from_its_start<R: Rig>() -> Result<(), Unsupported> {
    let rig = R::start(DOCUMENTS).await?;
    let source = rig.source(&SourceOptions::new(R::SECRET));
    let documents = list_everything(&source).await.documents();
    rig.inject(Fault::CutBody { size: size(&documents[0]) })?;
    let requests = rig.request_count();

    let contents = fetch_all(&source, &documents).await;

    assert_eq!(rig.request_count() - requests, documents.len() + 1, "one request is repeated");
    assert_same_contents(&contents, &rig.contents());
    Ok(())
}

pub(crate) async fn a_cut_document_is_never_complete<R: Rig>() -> Result<(), Unsupported> {
    let cut_body = |document: &DocumentRef| Fault::CutBody { size: size(document) };
    let failure = failure_of_transfer::<R>(SourceOptions::new(R::SECRET), cut_body).await?;
    assert_retried(&failure, Cause::Truncated);
    Ok(())
}

pub(crate) async fn a_stalled_transfer_times_out<R: Rig>() -> Result<(), Unsupported> {
    let idle_timeout = Duration::from_secs(1);
    let options = SourceOptions { idle_timeout, ..SourceOptions::new(R::SECRET) };
    let stalled_body = |document: &DocumentRef| Fault::StalledBody { size: size(document) };
    let failure = failure_of_transfer::<R>(options, stalled_body).await?;
    assert_retried(&failure, Cause::Timeout);
    Ok(())
}

pub(crate) async fn a_document_of_the_wrong_length_is_never_complete<R: Rig>()
-> Result<(), Unsupported> {
    let wrong_length = |document: &DocumentRef| Fault::WrongLength { size: size(document) + 1 };
    let failure = failure_of_transfer::<R>(SourceOptions::new(R::SECRET), wrong_length).await?;
    assert_retried(&failure, Cause::Truncated);
    Ok(())
}

/// Returns the failure of a transfer with a fault and without quick retries, after it has asserted
/// that the same source then fetches every document.
async fn failure_of_transfer<R: Rig>(
    options: SourceOptions,
    fault: impl FnOnce(&DocumentRef) -> Fault,
) -> Result<Failure, Unsupported> {
    let rig = R::start(DOCUMENTS).await?;
    let source = rig.source(&SourceOptions { attempts: 1, ..options });
    let documents = list_everything(&source).await.documents();
    rig.inject(fault(&documents[0]))?;

    let failure = fetch(&source, &documents[0]).await.expect_err("the transfer fails");

    assert_same_contents(&fetch_all(&source, &documents).await, &rig.contents());
    Ok(failure)
}

fn assert_retried(failure: &Failure, cause: Cause) {
    assert_verdict(failure, cause, RequestScope::Item, ErrorAction::Retry);
}

fn size(document: &DocumentRef) -> u64 {
    document.size.unwrap_or(UNKNOWN_SIZE)
}
