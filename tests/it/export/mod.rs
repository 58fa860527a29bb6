//! Export of telemetry: the sent data, read by the receivers' own definitions, and its delivery.

mod azure;
mod delivery;
mod otlp;
mod program;

use std::path::Path;

use cynosure::telemetry::{Span, SpanId, TelemetryResource, TraceId};
use cynosure_engine::{SessionId, Status, Timestamp};

use crate::metrics::NOW;

fn resource() -> TelemetryResource {
    TelemetryResource::new("1.2.3", "host", Path::new("/var/lib/cynosure"))
}

/// Returns the spans of a request, its stage and its session, in this order.
fn spans() -> Vec<Span> {
    let trace = TraceId::of_session("work", &SessionId::new("session_1772874000"));
    let (session, started_at) = (SpanId::of_session(trace), Timestamp(1_772_874_000_000));
    let stage = SpanId::of_state(trace, Status::Downloading, started_at);
    let span = |id, parent, name, failure: Option<&str>| Span {
        trace_id: trace,
        id,
        parent,
        name,
        is_request: failure.is_some(),
        started_at,
        ended_at: NOW,
        attributes: vec![("source", "work".to_owned())],
        failure: failure.map(str::to_owned),
    };
    let request = SpanId::of_request(stage, "T1", started_at);
    vec![
        span(request, Some(stage), "fetch", Some("server")),
        span(stage, Some(session), "downloading", None),
        span(session, None, "session", None),
    ]
}
