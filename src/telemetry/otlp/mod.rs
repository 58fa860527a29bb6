//! OTLP, the protocol of OpenTelemetry: JSON over HTTP, as every collector takes it.
//!
//! Written here, in the shape of its specification, and not by the OpenTelemetry libraries: those
//! count and time by themselves, and have no way to take histograms that are counted already.
//! Whether it is right is judged in the tests by OpenTelemetry's own definitions.
//!
//! <https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>

mod metrics;
mod spans;

pub use self::metrics::encode_metrics;
pub use self::spans::encode_spans;

use serde_json::{Value as Json, json};

use crate::engine::Timestamp;
use crate::telemetry::TelemetryResource;

/// Below the address of a collector, where metrics go.
pub const METRICS_PATH: &str = "v1/metrics";

/// Below the address of a collector, where traces go.
pub const TRACES_PATH: &str = "v1/traces";

/// Whose telemetry it is.
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

/// 64 bits are written as text, since many readers of JSON have 53.
fn to_unix_nanos(at: Timestamp) -> String {
    (i128::from(at.0.max(0)) * 1_000_000).to_string()
}
