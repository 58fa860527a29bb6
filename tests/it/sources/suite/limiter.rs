//! Rate limiter that blocks all requests after the server has throttled one.

use std::rc::Rc;
use std::time::Duration;

use cynosure::limiter::{Permit, PermitRequest, QuotaScope, RequestLimiter};
use cynosure_engine::rate_limit::{ReportedLimits, ResponseOutcome};
use cynosure_engine::{Failure, Timestamp};
use futures_util::future::LocalBoxFuture;
use tokio::sync::{Notify, watch};

/// End of the block that the limiter reports. The test ends it by hand, whatever the time is.
pub(crate) const BLOCKED_UNTIL: Timestamp = Timestamp(1_800_000_000_000);

/// Limiter without a clock: a throttled response blocks it until the test unblocks it.
#[derive(Debug, Default)]
pub(crate) struct BlockingLimiter(Rc<BlockState>);

#[derive(Debug, Default)]
struct BlockState {
    is_blocked: watch::Sender<bool>,
    /// Notified when a request begins to wait.
    request_waits: Notify,
}

#[derive(Debug)]
struct BlockingPermit(Rc<BlockState>);

impl BlockingLimiter {
    /// Waits until a request waits for the end of the block.
    pub(crate) async fn wait_for_blocked_request(&self) {
        self.0.request_waits.notified().await;
    }

    pub(crate) fn unblock(&self) {
        self.0.is_blocked.send_replace(false);
    }
}

impl BlockState {
    fn blocked_until(&self) -> Option<Timestamp> {
        self.is_blocked.borrow().then_some(BLOCKED_UNTIL)
    }
}

impl RequestLimiter for BlockingLimiter {
    fn acquire<'a>(
        &'a self,
        _request: PermitRequest<'a>,
    ) -> LocalBoxFuture<'a, Result<Box<dyn Permit>, Failure>> {
        Box::pin(async move {
            let state = &self.0;
            if state.blocked_until().is_some() {
                state.request_waits.notify_one();
            }
            let mut receiver = state.is_blocked.subscribe();
            receiver.wait_for(|is_blocked| !is_blocked).await.expect("the limiter has the sender");
            Ok(Box::new(BlockingPermit(Rc::clone(state))) as Box<dyn Permit>)
        })
    }

    fn blocked_until(&self) -> Option<Timestamp> {
        self.0.blocked_until()
    }

    fn try_take_retry(&self, _scope: QuotaScope<'_>) -> bool {
        true
    }

    fn now(&self) -> Timestamp {
        Timestamp::default()
    }
}

impl Permit for BlockingPermit {
    fn record_response_start(&mut self, _limits: ReportedLimits, _latency: Duration) {}

    fn record_retry_after(&mut self, _retry_after: Duration) {}

    fn record_outcome(&mut self, outcome: ResponseOutcome) -> Option<Timestamp> {
        if outcome == ResponseOutcome::Throttled {
            self.0.is_blocked.send_replace(true);
        }
        self.0.blocked_until()
    }
}
