//! What is sent to collectors, judged by the definitions of those who made them, and what happens when nobody takes it.

mod azure;
mod delivery;
mod otlp;
mod program;

use std::path::Path;

use cynosure::engine::{SessionId, Status, Timestamp};
use cynosure::telemetry::{Span, SpanId, TelemetryResource, TraceId};

use crate::metrics::NOW;

fn resource() -> TelemetryResource {
    TelemetryResource::new("1.2.3", "host", Path::new("/var/lib/cynosure"))
}

/// A request within a stage within a session, the innermost first.
fn spans() -> Vec<Span> {
    let trace = TraceId::of_session("work", &SessionId::new("session_1772874000"));
    let (session, began) = (SpanId::of_session(trace), Timestamp(1_772_874_000_000));
    let stage = SpanId::of_stage(trace, Status::Downloading, began);
    let span = |id, parent, name, failure: Option<&str>| Span {
        trace_id: trace,
        id,
        parent,
        name,
        is_request: failure.is_some(),
        started_at: began,
        ended_at: NOW,
        attributes: vec![("source", "work".to_owned())],
        failure: failure.map(str::to_owned),
    };
    let request = SpanId::of_request(stage, "T1", began);
    vec![
        span(request, Some(stage), "fetch", Some("server")),
        span(stage, Some(session), "downloading", None),
        span(session, None, "session", None),
    ]
}
