//! Failures, the requests that they took, and the time for which these failed.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use cynosure::engine::rate_limit::RateLimitHeaders;
use cynosure::engine::{Cause, Failure, ThrottleStrikes};
use cynosure::source::MetricsHandle;
use cynosure::source::http::{
    AttemptKind, ExpectedContent, HttpClient, HttpRequest, Permit, ProxyMode, RequestInfo,
    RequestLimiter, RequestLimits, Unlimited,
};
use futures_util::future::LocalBoxFuture;

use super::{MemorySink, assert_no_url_leaked, authorization, limits, request_retries};
use crate::hostile_server::{ConnectionAction, HostileServer, plain_response};

/// An open gate that allows so many retries.
#[derive(Debug)]
struct FixedBudget(Cell<u32>);

impl RequestLimiter for FixedBudget {
    fn acquire<'a>(
        &'a self,
        request: RequestInfo<'a>,
    ) -> LocalBoxFuture<'a, Result<Box<dyn Permit>, Failure>> {
        Unlimited.acquire(request)
    }

    fn try_take_retry(&self, request: RequestInfo<'_>) -> bool {
        assert_eq!(request.attempt, AttemptKind::Retry);
        let left = self.0.get().checked_sub(1);
        self.0.set(left.unwrap_or_default());
        left.is_some()
    }

    fn parse_headers(&self, headers: &[(&str, &str)]) -> RateLimitHeaders {
        Unlimited.parse_headers(headers)
    }
}

/// Asks for a document within a budget of retries, in vain.
async fn fetch_failure(server: &HostileServer, limits: RequestLimits, retries: u32) -> Failure {
    let (trusted, gate) = (vec![server.url.origin()], Rc::new(FixedBudget(Cell::new(retries))));
    let client =
        HttpClient::new(limits, trusted, &ProxyMode::Direct, gate, MetricsHandle::default())
            .unwrap();
    let ask = HttpRequest {
        url: &server.url,
        json_body: None,
        expected: ExpectedContent::Document,
        authorization: &authorization(),
    };
    let mut sink = MemorySink::default();
    let fetched = client.fetch_streaming(
        &ask,
        None,
        ThrottleStrikes::default(),
        AttemptKind::First,
        &mut sink,
    );
    assert_no_url_leaked(fetched.await.unwrap_err())
}

/// Fails as `how` says, given how many requests came before.
async fn failing_server(
    how: impl Fn(usize) -> ConnectionAction + Send + Sync + 'static,
) -> HostileServer {
    HostileServer::start(move |before, _| vec![how(before), ConnectionAction::Close]).await
}

fn retry_refusing_server(status: &str) -> ConnectionAction {
    ConnectionAction::Send(plain_response(status, "", ""))
}

#[tokio::test]
async fn a_failure_counts_all_its_requests() {
    let server = failing_server(|before| {
        [
            retry_refusing_server("500 Ill"),
            ConnectionAction::Reset,
            retry_refusing_server("503 Busy"),
        ][before]
            .clone()
    })
    .await;
    let limits = RequestLimits { retry_policy: request_retries(3), ..limits() };

    let failure = fetch_failure(&server, limits, 100).await;

    assert!(failure.message.starts_with("503"), "it is the last one: {failure}");
    assert_eq!((failure.request_count, server.requests().len()), (3, 3));
    assert!(!failure.is_retry_budget_exhausted, "it was tried to the end");
}

#[tokio::test]
async fn an_exhausted_budget_defers_the_retry() {
    for (attempts_max, budget, requests, is_deferred) in
        [(3, 0, 1, true), (3, 1, 2, true), (3, 2, 3, false), (1, 0, 1, false)]
    {
        let server = failing_server(|_| retry_refusing_server("500 Ill")).await;
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
        let server = failing_server(|_| retry_refusing_server(status)).await;

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
    const SILENCE: Duration = Duration::from_millis(200);
    // One of two requests is answered, with a failure.
    for answered in [0, 1] {
        let server = failing_server(move |before| {
            if before == answered {
                retry_refusing_server("500 Ill")
            } else {
                ConnectionAction::StopResponding
            }
        })
        .await;
        let limits =
            RequestLimits { idle_timeout: SILENCE, retry_policy: request_retries(2), ..limits() };

        let failure = fetch_failure(&server, limits, 1).await;

        assert_eq!(failure.request_count, 2, "{failure}");
        assert!(
            failure.failing_duration() >= SILENCE,
            "{answered}: {:?}",
            failure.failing_duration()
        );
    }
}
