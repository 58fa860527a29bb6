//! Attempts and throttles of messages, as the rate limiter sees them.

use std::cell::RefCell;

use cynosure_engine::rate_limit::{ReportedLimits, ResponseOutcome};
use cynosure_engine::{ThrottleStrikes, Timestamp};
use futures_util::future::{LocalBoxFuture, join};

use super::server::FetchReply;
use super::*;
use crate::limiter::{AttemptKind, Permit, PermitRequest, QuotaScope};

/// Limiter that admits every request. It logs those for one message: the kind of the attempt, and
/// the number of strikes.
#[derive(Clone, Debug, Default)]
struct AttemptLogLimiter(Rc<RefCell<Vec<(AttemptKind, u32)>>>);

#[derive(Debug)]
struct AttemptLogPermit {
    strikes: Option<ThrottleStrikes>,
    is_throttled: bool,
}

impl RequestLimiter for AttemptLogLimiter {
    fn acquire<'a>(
        &'a self,
        request: PermitRequest<'a>,
    ) -> LocalBoxFuture<'a, Result<Box<dyn Permit>, Failure>> {
        let PermitRequest { attempt, strikes, .. } = request;
        self.0.borrow_mut().extend(strikes.map(|strikes| (attempt, strikes.count())));
        Box::pin(async move {
            Ok(Box::new(AttemptLogPermit { strikes, is_throttled: false }) as Box<dyn Permit>)
        })
    }

    fn try_take_retry(&self, _scope: QuotaScope<'_>) -> bool {
        true
    }

    fn now(&self) -> Timestamp {
        Timestamp::default()
    }
}

impl Permit for AttemptLogPermit {
    fn record_response_start(&mut self, _limits: ReportedLimits, _latency: Duration) {}

    fn record_retry_after(&mut self, _retry_after: Duration) {}

    fn record_outcome(&mut self, outcome: ResponseOutcome) -> Option<Timestamp> {
        self.is_throttled = outcome == ResponseOutcome::Throttled;
        None
    }

    fn strikes(&self) -> Option<ThrottleStrikes> {
        // The request before this one has succeeded.
        let strikes = self.strikes.filter(|_| self.is_throttled);
        strikes.map(|strikes| strikes.with_throttle(2, Some(1)))
    }
}

#[tokio::test]
async fn a_message_alone_is_attempted_as_what_it_is() {
    run_test(async {
        let mut has_failed = false;
        let server = FetchServer::start(move |fetch| {
            let is_failure = fetch.uids == [1] && !has_failed;
            has_failed |= is_failure;
            let refusal = format!("{} NO this one cannot be read\r\n", fetch.tag);
            let reply = if is_failure { refusal } else { complete_reply(&fetch) };
            FetchReply::Send(reply.into_bytes())
        })
        .await;
        let limiter = AttemptLogLimiter::default();
        let settings = FetchTestSettings { max_attempts: 2, ..ONE_CONNECTION };
        let source = limited_source(server.port, settings, Rc::new(limiter.clone()));
        let documents =
            [2, 1, 3].map(|uid| DocumentRef { is_suspect: uid == 1, ..document("INBOX", uid) });

        let results =
            join_all(documents.iter().map(|document| fetch_text(&source, document))).await;

        assert_eq!(results, texts_of([2, 1, 3]));
        assert_eq!(*limiter.0.borrow(), [(AttemptKind::Suspect, 0), (AttemptKind::Retry, 0)]);
    })
    .await;
}

#[tokio::test]
async fn a_throttle_of_a_message_alone_is_its_own() {
    run_test(async {
        let server = FetchServer::start(|fetch| {
            FetchReply::Send(format!("{} NO [THROTTLED] not now\r\n", fetch.tag).into_bytes())
        })
        .await;
        let limiter = AttemptLogLimiter::default();
        let source = limited_source(server.port, ONE_CONNECTION, Rc::new(limiter.clone()));
        let throttled_before =
            DocumentRef { strikes: ThrottleStrikes::restore(1), ..document("INBOX", 1) };

        let (alone, set) =
            join(fetch_text(&source, &throttled_before), fetch_inbox(&source, [2, 3])).await;

        let failure = alone.unwrap_err();
        assert_eq!(failure.strikes.map(ThrottleStrikes::count), Some(2));
        assert!(failure.is_item_specific_throttle(), "{failure}");
        assert_eq!(*limiter.0.borrow(), [(AttemptKind::First, 1)]);
        for result in set {
            let failure = result.unwrap_err();
            assert_eq!((failure.cause, failure.strikes), (Cause::RateLimit, None));
        }
    })
    .await;
}
