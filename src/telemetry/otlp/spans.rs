//! Traces for a collector.

use serde_json::{Value as Json, json};

use crate::telemetry::otlp::{attribute, nanoseconds, scope, whose};
use crate::telemetry::{Resource, Span};

/// What a span is: work of our own, or a question to someone else.
const INTERNAL: u8 = 1;
const CLIENT: u8 = 3;

/// How a span ended that failed.
const ERROR: u8 = 2;

/// Writes an `ExportTraceServiceRequest` with these spans.
#[must_use]
pub fn spans(spans: &[Span], resource: &Resource) -> Json {
    let spans: Vec<Json> = spans.iter().map(span).collect();
    json!({ "resourceSpans": [{
        "resource": whose(resource),
        "scopeSpans": [{ "scope": scope(resource.version), "spans": spans }],
    }] })
}

fn span(span: &Span) -> Json {
    let attributes: Vec<Json> =
        span.attributes.iter().map(|(key, value)| attribute(key, value)).collect();
    let status = match &span.failure {
        Some(failure) => json!({ "code": ERROR, "message": failure }),
        None => json!({}),
    };
    json!({
        "traceId": span.trace.to_string(),
        "spanId": span.id.to_string(),
        "parentSpanId": span.parent.map(|parent| parent.to_string()).unwrap_or_default(),
        "name": span.name,
        "kind": if span.is_request { CLIENT } else { INTERNAL },
        "startTimeUnixNano": nanoseconds(span.from),
        "endTimeUnixNano": nanoseconds(span.to.max(span.from)),
        "attributes": attributes,
        "status": status,
    })
}
