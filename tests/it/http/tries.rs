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

use super::{Kept, attempts, discreet, limits, pass};
use crate::hostile::{Act, Hostile, plain};

/// An open gate that allows so many retries.
#[derive(Debug)]
struct Budget(Cell<u32>);

impl RequestLimiter for Budget {
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
async fn failure(server: &Hostile, limits: RequestLimits, retries: u32) -> Failure {
    let (trusted, gate) = (vec![server.url.origin()], Rc::new(Budget(Cell::new(retries))));
    let client =
        HttpClient::new(limits, trusted, &ProxyMode::Direct, gate, MetricsHandle::default())
            .unwrap();
    let ask = HttpRequest {
        url: &server.url,
        json_body: None,
        expected: ExpectedContent::Document,
        authorization: &pass(),
    };
    let mut sink = Kept::default();
    let fetched = client.fetch_streaming(
        &ask,
        None,
        ThrottleStrikes::default(),
        AttemptKind::First,
        &mut sink,
    );
    discreet(fetched.await.unwrap_err())
}

/// Fails as `how` says, given how many requests came before.
async fn failing(how: impl Fn(usize) -> Act + Send + Sync + 'static) -> Hostile {
    Hostile::start(move |before, _| vec![how(before), Act::Close]).await
}

fn refusing(status: &str) -> Act {
    Act::Send(plain(status, "", ""))
}

#[tokio::test]
async fn a_failure_counts_all_requests_that_it_took() {
    let server =
        failing(|before| [refusing("500 Ill"), Act::Reset, refusing("503 Busy")][before].clone())
            .await;
    let limits = RequestLimits { retry_policy: attempts(3), ..limits() };

    let failure = failure(&server, limits, 100).await;

    assert!(failure.message.starts_with("503"), "it is the last one: {failure}");
    assert_eq!((failure.request_count, server.asked().len()), (3, 3));
    assert!(!failure.is_retry_budget_exhausted, "it was tried to the end");
}

#[tokio::test]
async fn what_the_budget_cuts_short_is_deferred() {
    for (attempts_max, budget, requests, is_deferred) in
        [(3, 0, 1, true), (3, 1, 2, true), (3, 2, 3, false), (1, 0, 1, false)]
    {
        let server = failing(|_| refusing("500 Ill")).await;
        let limits = RequestLimits { retry_policy: attempts(attempts_max), ..limits() };

        let failure = failure(&server, limits, budget).await;

        let found = (failure.request_count, failure.is_retry_budget_exhausted);
        assert_eq!(found, (requests, is_deferred), "{attempts_max} attempts, {budget} retries");
        assert_eq!(server.asked().len(), requests as usize);
    }
}

#[tokio::test]
async fn what_is_not_tried_again_anyway_is_not_deferred() {
    for (status, cause) in [("404 Gone", Cause::NotFound), ("429 Slow", Cause::RateLimit)] {
        let server = failing(|_| refusing(status)).await;

        let failure =
            failure(&server, RequestLimits { retry_policy: attempts(3), ..limits() }, 0).await;

        assert_eq!(failure.cause, cause);
        assert_eq!(
            (failure.request_count, failure.is_retry_budget_exhausted),
            (1, false),
            "{status}"
        );
    }
}

#[tokio::test]
async fn a_failure_says_for_how_long_it_failed() {
    const SILENCE: Duration = Duration::from_millis(200);
    // One of two requests is answered, with a failure.
    for answered in [0, 1] {
        let server =
            failing(move |before| if before == answered { refusing("500 Ill") } else { Act::Hang })
                .await;
        let limits = RequestLimits { idle_timeout: SILENCE, retry_policy: attempts(2), ..limits() };

        let failure = failure(&server, limits, 1).await;

        assert_eq!(failure.request_count, 2, "{failure}");
        assert!(
            failure.failing_duration() >= SILENCE,
            "{answered}: {:?}",
            failure.failing_duration()
        );
    }
}
