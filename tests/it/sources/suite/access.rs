//! Refused credentials and rate limits.

use std::pin::pin;
use std::time::Duration;

use cynosure::source::{CredentialChange, Source as _};
use cynosure_engine::{Cause, ErrorAction, RequestScope};

use super::extraction::{assert_same_contents, assert_verdict, fetch, fetch_all, list_everything};
use super::fault::Fault;
use super::limiter::BLOCKED_UNTIL;
use super::options::SourceOptions;
use super::rig::{Rig, Unsupported};

const DOCUMENTS: usize = 5;

const RETRY_AFTER: Duration = Duration::from_secs(3600);

pub(crate) async fn a_refused_credential_is_renewed<R: Rig>() -> Result<(), Unsupported> {
    let rig = R::start(DOCUMENTS).await?;
    let options = SourceOptions::new(R::REFUSED_SECRET);
    let source = rig.source(&options);

    let failure = source.current_cursor().await.expect_err("the server refuses the credential");

    let (scope, action) = (RequestScope::Session, ErrorAction::RefreshCredential);
    assert_verdict(&failure, Cause::Unauthorized, scope, action);
    assert_eq!(failure.request_count, 1, "a refused credential is not sent again at once");
    assert_eq!(source.refresh_credential().await, Ok(CredentialChange::Unchanged));

    options.replace_secret(R::SECRET);
    assert_eq!(source.refresh_credential().await, Ok(CredentialChange::Changed));
    let documents = list_everything(&source).await.documents();
    assert_same_contents(&fetch_all(&source, &documents).await, &rig.contents());
    Ok(())
}

pub(crate) async fn a_rate_limit_with_a_wait_blocks_requests<R: Rig>() -> Result<(), Unsupported> {
    assert_rate_limit_blocks::<R>(Some(RETRY_AFTER)).await
}

pub(crate) async fn a_rate_limit_without_a_wait_blocks_requests<R: Rig>() -> Result<(), Unsupported>
{
    assert_rate_limit_blocks::<R>(None).await
}

/// Asserts that a throttled request is not repeated, and that the next one is not sent before the
/// limiter admits it.
async fn assert_rate_limit_blocks<R: Rig>(
    retry_after: Option<Duration>,
) -> Result<(), Unsupported> {
    let rig = R::start(DOCUMENTS).await?;
    let options = SourceOptions::new(R::SECRET);
    let source = rig.source(&options);
    let documents = list_everything(&source).await.documents();
    rig.inject(Fault::RateLimited { retry_after })?;

    let failure = fetch(&source, &documents[0]).await.expect_err("the server throttles the fetch");

    let (scope, action) = (RequestScope::Item, ErrorAction::WaitForRateLimit);
    assert_verdict(&failure, Cause::RateLimit, scope, action);
    assert_eq!(failure.retry_after, retry_after);
    assert_eq!(failure.blocked_until, Some(BLOCKED_UNTIL));
    assert_eq!(failure.request_count, 1, "a throttled request is not repeated at once");

    let requests = rig.request_count();
    let mut blocked = pin!(fetch_all(&source, &documents));
    tokio::select! {
        biased;
        _ = &mut blocked => unreachable!("the source asks the limiter before it sends a request"),
        () = options.limiter.wait_for_blocked_request() => {}
    }
    assert_eq!(rig.request_count(), requests, "a request was sent while the limiter was blocked");
    assert_eq!(source.blocked_until(), Some(BLOCKED_UNTIL));

    options.limiter.unblock();
    assert_same_contents(&blocked.await, &rig.contents());
    assert_eq!(source.blocked_until(), None);
    Ok(())
}
