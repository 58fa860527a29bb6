//! Exports the trace of a session to a collector: its states, and a sample of its requests.

use std::rc::Rc;

use cynosure_engine::{Session, State, StateMachine, Status, Timestamp, sanitize_line};

use crate::telemetry::{ExportQueue, Span, SpanId, TraceId, is_sampled};
use crate::worker::request_result::{RequestKind, RequestResult};

/// Exports the spans of one source. Exports nothing by default.
#[derive(Clone, Debug, Default)]
pub struct Tracer {
    exporter: Option<ExportQueue>,
    source: Rc<str>,
    /// Share of the items whose requests are traced, in `0.0..=1.0`.
    sample_share: f64,
}

impl Tracer {
    /// Exports the requests of a `share` of the items, in `0.0..=1.0`, and all other spans.
    #[must_use]
    pub fn new(exporter: ExportQueue, source: &str, share: f64) -> Self {
        Self { exporter: Some(exporter), source: Rc::from(source), sample_share: share }
    }

    /// Exports the span of the state that the source has left; with the session's end, also the
    /// span of the session.
    pub(super) fn on_transition(
        &self,
        before: &StateMachine,
        after: &StateMachine,
        now: Timestamp,
    ) {
        let (Some(exporter), Some(session)) = (&self.exporter, open_session(before)) else {
            return;
        };
        if before.status() == after.status() {
            return;
        }
        let trace_id = TraceId::of_session(&self.source, &session.id);
        exporter.send_span(self.state_span(trace_id, before, now));
        if after.status() == Status::Completed {
            exporter.send_span(self.session_span(trace_id, session, now));
        }
    }

    /// Exports the span of a request to the source that has ended. A use of the ledger or the
    /// archive is not traced.
    pub(super) fn record_request(
        &self,
        machine: &StateMachine,
        result: RequestResult<'_>,
        now: Timestamp,
    ) {
        let (Some(exporter), Some(session)) = (&self.exporter, open_session(machine)) else {
            return;
        };
        let (name, task) = match result.kind {
            RequestKind::Poll | RequestKind::PollWithChanges => ("poll", None),
            RequestKind::Page => ("page", None),
            RequestKind::Probe => ("probe", None),
            RequestKind::Fetch(task) => ("fetch", Some(task)),
            RequestKind::Credential | RequestKind::Commit | RequestKind::Ledger => return,
        };
        let item = task.map(|task| task.item_id.as_str());
        if item.is_some_and(|item| !is_sampled(item, self.sample_share)) {
            return;
        }
        let trace_id = TraceId::of_session(&self.source, &session.id);
        let parent = SpanId::of_state(trace_id, machine.status(), machine.state_since);
        // Several documents of one item may be requested in the same millisecond.
        let subject = task.map_or(name, |task| task.document_ref.document.as_str());
        let item = item.map(|item| ("item", sanitize_line(item)));
        exporter.send_span(Span {
            trace_id,
            id: SpanId::of_request(parent, subject, result.started_at),
            parent: Some(parent),
            name,
            is_request: true,
            started_at: result.started_at,
            ended_at: now,
            attributes: [self.source_attribute()].into_iter().chain(item).collect(),
            failure: result.failure.map(|failure| failure.cause.name().to_owned()),
        });
    }

    fn session_span(&self, trace_id: TraceId, session: &Session, now: Timestamp) -> Span {
        Span {
            trace_id,
            id: SpanId::of_session(trace_id),
            parent: None,
            name: "session",
            is_request: false,
            started_at: session.started_at,
            ended_at: now,
            attributes: vec![self.source_attribute(), ("session", session.id.to_string())],
            failure: None,
        }
    }

    fn state_span(&self, trace_id: TraceId, machine: &StateMachine, now: Timestamp) -> Span {
        let status = machine.status();
        let cause = match machine.state {
            State::Error { .. } | State::AuthFailed { .. } => {
                machine.errors.last.as_ref().map(|error| error.cause.name().to_owned())
            }
            State::Idle { .. }
            | State::Working(_)
            | State::Completed
            | State::RateLimited { .. } => None,
        };
        Span {
            trace_id,
            id: SpanId::of_state(trace_id, status, machine.state_since),
            parent: Some(SpanId::of_session(trace_id)),
            name: status.name(),
            is_request: false,
            started_at: machine.state_since,
            ended_at: now,
            attributes: vec![self.source_attribute(), ("reason", machine.reason.clone())],
            failure: cause,
        }
    }

    fn source_attribute(&self) -> (&'static str, String) {
        ("source", self.source.to_string())
    }
}

/// Returns the session that is open now. A completed one is still stored in the machine, but over.
fn open_session(machine: &StateMachine) -> Option<&Session> {
    machine.session.as_ref().filter(|session| session.completed_at.is_none())
}
