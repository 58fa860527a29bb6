//! Retries of one request: the retry budget, and the count and duration in the failure.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use cynosure::limiter::{
    AttemptKind, Permit, PermitRequest, QuotaScope, RequestLimiter, Unlimited,
};
use cynosure::source::http::{ExpectedContent, HttpClient, HttpRequest, RequestLimits};
use cynosure_engine::{Cause, Failure, ThrottleStrikes, Timestamp};
use futures_util::future::LocalBoxFuture;

use super::{
    MemorySink, assert_no_url_leaked, authorization, http_options, limits, request_retries,
};
use crate::hostile_server::{ConnectionAction, HostileServer, plain_response};

/// Limiter that admits every request and allows a fixed number of retries.
#[derive(Debug)]
struct FixedRetryLimiter(Cell<u32>);

impl RequestLimiter for FixedRetryLimiter {
    fn acquire<'a>(
        &'a self,
        request: PermitRequest<'a>,
    ) -> LocalBoxFuture<'a, Result<Box<dyn Permit>, Failure>> {
        Unlimited.acquire(request)
    }

    fn try_take_retry(&self, _scope: QuotaScope<'_>) -> bool {
        let remaining = self.0.get().checked_sub(1);
        self.0.set(remaining.unwrap_or_default());
        remaining.is_some()
    }

    fn now(&self) -> Timestamp {
        Unlimited.now()
    }
}

/// Requests a document with this retry budget, and returns the failure.
async fn fetch_failure(server: &HostileServer, limits: RequestLimits, retries: u32) -> Failure {
    let limiter = Rc::new(FixedRetryLimiter(Cell::new(retries)));
    let client = HttpClient::new(http_options(limits, [&server.url]), limiter).unwrap();
    let authorization = authorization();
    let request = HttpRequest::get(&server.url, ExpectedContent::Document, &authorization);
    let mut sink = MemorySink::default();
    let fetch = client.fetch_streaming(
        &request,
        None,
        ThrottleStrikes::default(),
        AttemptKind::First,
        &mut sink,
    );
    assert_no_url_leaked(fetch.await.unwrap_err())
}

/// Starts a server that performs `action` on each request and then closes the connection. The
/// argument of `action` is the number of earlier requests.
async fn failing_server(
    action: impl Fn(usize) -> ConnectionAction + Send + Sync + 'static,
) -> HostileServer {
    HostileServer::start(move |before, _| vec![action(before), ConnectionAction::Close]).await
}

fn error_response(status: &str) -> ConnectionAction {
    ConnectionAction::Send(plain_response(status, "", ""))
}

#[tokio::test]
async fn a_failure_counts_all_its_requests() {
    let server = failing_server(|before| {
        [error_response("500 Oops"), ConnectionAction::Reset, error_response("503 Busy")][before]
            .clone()
    })
    .await;
    let limits = RequestLimits { retry_policy: request_retries(3), ..limits() };

    let failure = fetch_failure(&server, limits, 100).await;

    assert!(failure.message.starts_with("503"), "the last failure is returned: {failure}");
    assert_eq!((failure.request_count, server.requests().len()), (3, 3));
    assert!(!failure.is_retry_budget_exhausted, "all attempts were made");
}

#[tokio::test]
async fn an_exhausted_budget_defers_the_retry() {
    for (attempts_max, budget, requests, is_deferred) in
        [(3, 0, 1, true), (3, 1, 2, true), (3, 2, 3, false), (1, 0, 1, false)]
    {
        let server = failing_server(|_| error_response("500 Oops")).await;
        let limits = RequestLimits { retry_policy: request_retries(attempts_max), ..limits() };

        let failure = fetch_failure(&server, limits, budget).await;

        let found = (failure.request_count, failure.is_retry_budget_exhausted);
        assert_eq!(found, (requests, is_deferred), "{attempts_max} attempts, {budget} retries");
        assert_eq!(server.requests().len(), requests as usize);
    }
}

#[tokio::test]
async fn permanent_failures_are_not_deferred() {
    for (status, cause) in [("404 Gone", Cause::NotFound), ("429 Slow", Cause::RateLimit)] {
        let server = failing_server(|_| error_response(status)).await;

        let failure = fetch_failure(
            &server,
            RequestLimits { retry_policy: request_retries(3), ..limits() },
            0,
        )
        .await;

        assert_eq!(failure.cause, cause);
        assert_eq!(
            (failure.request_count, failure.is_retry_budget_exhausted),
            (1, false),
            "{status}"
        );
    }
}

#[tokio::test]
async fn a_failure_carries_its_duration() {
    const IDLE_TIMEOUT: Duration = Duration::from_millis(200);
    // One of the two requests gets an error response, the other none.
    for responding in [0, 1] {
        let server = failing_server(move |before| {
            if before == responding {
                error_response("500 Oops")
            } else {
                ConnectionAction::StopResponding
            }
        })
        .await;
        let limits = RequestLimits {
            idle_timeout: IDLE_TIMEOUT,
            retry_policy: request_retries(2),
            ..limits()
        };

        let failure = fetch_failure(&server, limits, 1).await;

        assert_eq!(failure.request_count, 2, "{failure}");
        assert!(
            failure.failing_duration() >= IDLE_TIMEOUT,
            "{responding}: {:?}",
            failure.failing_duration()
        );
    }
}
