//! OTLP traces for a collector.

use serde_json::{Value as Json, json};

use crate::telemetry::otlp::{encode_attribute, encode_resource, encode_scope, to_unix_nanos};
use crate::telemetry::{Span, TelemetryResource};

/// Kinds of spans: internal work, and a request to another system.
const SPAN_KIND_INTERNAL: u8 = 1;
const SPAN_KIND_CLIENT: u8 = 3;

/// Status code of a span that failed.
const STATUS_CODE_ERROR: u8 = 2;

/// Encodes these spans in an `ExportTraceServiceRequest`.
#[must_use]
pub fn encode_spans(spans: &[Span], resource: &TelemetryResource) -> Json {
    let spans: Vec<Json> = spans.iter().map(encode_span).collect();
    json!({ "resourceSpans": [{
        "resource": encode_resource(resource),
        "scopeSpans": [{ "scope": encode_scope(resource.version), "spans": spans }],
    }] })
}

fn encode_span(span: &Span) -> Json {
    let attributes: Vec<Json> =
        span.attributes.iter().map(|(key, value)| encode_attribute(key, value)).collect();
    let status = match &span.failure {
        Some(failure) => json!({ "code": STATUS_CODE_ERROR, "message": failure }),
        None => json!({}),
    };
    json!({
        "traceId": span.trace_id.to_string(),
        "spanId": span.id.to_string(),
        "parentSpanId": span.parent.map(|parent| parent.to_string()).unwrap_or_default(),
        "name": span.name,
        "kind": if span.is_request { SPAN_KIND_CLIENT } else { SPAN_KIND_INTERNAL },
        "startTimeUnixNano": to_unix_nanos(span.started_at),
        "endTimeUnixNano": to_unix_nanos(span.ended_at.max(span.started_at)),
        "attributes": attributes,
        "status": status,
    })
}
