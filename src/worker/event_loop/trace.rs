//! Traces finished requests, each as a child of the span of the current state.

use super::EventLoop;
use crate::source::Source;
use crate::worker::env::Env;
use crate::worker::tasks::TaskResult;
use crate::worker::tracer::FinishedRequest;

impl<S: Source + 'static, E: Env> EventLoop<S, E> {
    pub(super) fn trace_result(&self, result: &TaskResult) {
        let without_item = |name, failure| FinishedRequest {
            name,
            item: None,
            started_at: self.last_request_at,
            failure,
        };
        let request = match result {
            TaskResult::Polled(outcome) => without_item("poll", outcome.as_ref().err()),
            TaskResult::PageListed(outcome) => without_item("page", outcome.as_ref().err()),
            TaskResult::Probed(outcome) => without_item("probe", outcome.as_ref().err()),
            TaskResult::Fetched { task, result: outcome, .. } => FinishedRequest {
                name: "fetch",
                item: Some((task.item_id.as_str(), task.document_ref.document.as_str())),
                started_at: task.started_at,
                failure: outcome.as_ref().err(),
            },
            TaskResult::KnownGoodFetched(_)
            | TaskResult::DueItemsLoaded(_)
            | TaskResult::Committed { .. }
            | TaskResult::SessionFinished(_)
            | TaskResult::ReconcileDue
            | TaskResult::CredentialRefreshed(_)
            | TaskResult::BreakerOpen(_) => return,
        };
        self.tracer.record_request(&self.machine, request, self.env.now());
    }
}
