//! Measures: turns what is known of sources, providers and the machine into metrics, and sends them on.
//!
//! ```text
//! Input ──families──▶ Family … ──▶ text (Prometheus), json, otlp ─┐
//!   └──────────────────────────────────────────────────▶ azure ───┼──▶ Exporter ──▶ collector
//! Span … ──────────────────────────────────────────────▶ otlp ────┘
//! ```
//!
//! Whoever serves `/metrics` gathers an [`Input`] and answers with [`text()`], of the type
//! [`CONTENT_TYPE`], or with [`json()`].
//!
//! The text is written here and not by a metrics library: those keep the counts themselves, and
//! ours are kept in files that outlive the process which shows them.

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

/// All metrics there are, in the order in which they are shown. What is not known has no series,
/// and a metric without series is left out.
#[must_use]
pub fn families(input: &MetricsSnapshot) -> Vec<MetricFamily> {
    let mut families = sources::families(input);
    families.extend(providers::families(input));
    families.extend(host::families(input));
    families.retain(|family| !family.series.is_empty());
    families
}
