//! Telemetry: turns the state of sources, providers and the host into metrics, and exports them.
//!
//! ```text
//! MetricsSnapshot ──▶ MetricFamily … ──▶ prometheus, json, otlp ─┐
//!   └─────────────────────────────────────────────────▶ azure ───┼──▶ Exporter ──▶ collector
//! Span … ─────────────────────────────────────────────▶ otlp ────┘
//! ```
//!
//! The handler of `/metrics` collects a [`MetricsSnapshot`] and responds with [`to_prometheus`], of
//! the type [`CONTENT_TYPE`], or with [`to_json`].
//!
//! No metrics library writes the text, because those libraries keep the counts themselves. Our
//! counts are kept in files that outlive the process that serves them.

mod azure;
mod exporter;
mod family;
mod host;
mod json;
pub mod otlp;
mod prometheus;
mod providers;
mod resource;
mod snapshot;
mod sources;
mod span;

pub use self::azure::{AzureConnection, AzureExporter};
pub use self::exporter::{
    Collector, DeliveryHandle, DeliveryStatus, ExportHeaders, ExportQueue, Exporter,
};
pub use self::family::{MetricFamily, MetricKind, MetricSeries, MetricValue};
pub use self::json::to_json;
pub use self::prometheus::{CONTENT_TYPE, to_prometheus};
pub use self::resource::TelemetryResource;
pub use self::snapshot::{
    AlertCount, BreakerSnapshot, MetricsSnapshot, RateLimitSnapshot, SourceSnapshot,
    SourceStateSnapshot, UnitSnapshot,
};
pub use self::span::{Span, SpanId, TraceId, is_sampled};

/// Returns all metrics, in the order in which they are shown. Unknown values have no series, and a
/// metric without series is left out.
#[must_use]
pub fn families(input: &MetricsSnapshot) -> Vec<MetricFamily> {
    let mut families = sources::families(input);
    families.extend(providers::families(input));
    families.extend(host::families(input));
    families.retain(|family| !family.series.is_empty());
    families
}
