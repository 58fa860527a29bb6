//! OTLP, the protocol of OpenTelemetry: JSON over HTTP, which every collector accepts.
//!
//! Implemented here after its specification, and not with the OpenTelemetry libraries: those count
//! and measure time themselves, and cannot accept histograms that are already counted. The tests
//! check the result against OpenTelemetry's own definitions.
//!
//! <https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>

mod metrics;
mod spans;

pub use self::metrics::encode_metrics;
pub use self::spans::encode_spans;

use cynosure_engine::Timestamp;
use serde_json::{Value as Json, json};

use crate::telemetry::TelemetryResource;

/// Path of metrics below the URL of a collector.
pub const METRICS_PATH: &str = "v1/metrics";

/// Path of traces below the URL of a collector.
pub const TRACES_PATH: &str = "v1/traces";

/// Encodes the resource that the telemetry belongs to.
fn encode_resource(resource: &TelemetryResource) -> Json {
    json!({ "attributes": [
        encode_attribute("service.name", "cynosure"),
        encode_attribute("service.version", resource.version),
        encode_attribute("service.instance.id", &resource.instance_id),
        encode_attribute("host.name", &resource.host),
    ] })
}

fn encode_scope(version: &str) -> Json {
    json!({ "name": "cynosure", "version": version })
}

fn encode_attribute(key: &str, value: &str) -> Json {
    json!({ "key": key, "value": { "stringValue": value } })
}

/// Converts to nanoseconds since the epoch, as text, because many JSON parsers keep only 53 bits of
/// a number.
fn to_unix_nanos(at: Timestamp) -> String {
    (i128::from(at.0.max(0)) * 1_000_000).to_string()
}
