//! Traces finished requests, each as a child of the span of the current state.

use super::EventLoop;
use crate::source::Source;
use crate::worker::env::Env;
use crate::worker::tasks::TaskResult;
use crate::worker::tracer::FinishedRequest;

impl<S: Source + 'static, W: Env> EventLoop<S, W> {
    pub(super) fn trace_result(&self, done: &TaskResult) {
        let listing = |name, failure| FinishedRequest {
            name,
            item: None,
            started_at: self.last_request_at,
            failure,
        };
        let asked = match done {
            TaskResult::Polled(end) => listing("look", end.as_ref().err()),
            TaskResult::PageListed(end) => listing("page", end.as_ref().err()),
            TaskResult::Probed(end) => listing("prove", end.as_ref().err()),
            TaskResult::Fetched { task: errand, result: answer, .. } => FinishedRequest {
                name: "fetch",
                item: Some((errand.item_id.as_str(), errand.document_ref.document.as_str())),
                started_at: errand.started_at,
                failure: answer.as_ref().err(),
            },
            TaskResult::KnownGoodFetched(_)
            | TaskResult::DueItemsLoaded(_)
            | TaskResult::Committed { .. }
            | TaskResult::SessionFinished(_)
            | TaskResult::ReconcileDue
            | TaskResult::CredentialRefreshed(_)
            | TaskResult::BreakerOpen(_) => return,
        };
        self.tracer.record_request(&self.machine, asked, self.env.now());
    }
}
