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
mod family;
mod input;
mod json;
mod machine;
pub mod otlp;
mod post;
mod providers;
mod resource;
mod sources;
mod span;
mod text;

pub use self::azure::{Azure, Connection};
pub use self::family::{Family, Kind, Series, Value};
pub use self::input::{AlertCount, Breaker, Input, Quota, Source, Standing, Unit};
pub use self::json::json;
pub use self::post::{Collector, Delivery, Exporter, Headers, Outbox, Receipt};
pub use self::resource::Resource;
pub use self::span::{Span, SpanId, TraceId, is_sampled};
pub use self::text::{CONTENT_TYPE, text};

/// All metrics there are, in the order in which they are shown. What is not known has no series,
/// and a metric without series is left out.
#[must_use]
pub fn families(input: &Input) -> Vec<Family> {
    let mut families = sources::families(input);
    families.extend(providers::families(input));
    families.extend(machine::families(input));
    families.retain(|family| !family.series.is_empty());
    families
}
