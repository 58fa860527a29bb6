//! Metrics and traces, decoded with the types of the OpenTelemetry project.

use std::collections::BTreeMap;
use std::time::Duration;

use cynosure::telemetry::{MetricKind, MetricsSnapshot, families, otlp};
use cynosure_engine::Timestamp;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, number_data_point};

use super::{resource, spans};
use crate::metrics::{NOW, metrics_input, source_metrics};

/// `NOW` in nanoseconds, the unit of OTLP.
const NOW_NANOS: u64 = 1_772_874_303_456_000_000;

#[test]
fn every_metric_has_its_otlp_type() {
    let json = otlp::encode_metrics(&metrics_input(2), &resource()).to_string();

    let request: ExportMetricsServiceRequest = serde_json::from_str(&json).unwrap();

    let resource_metrics = &request.resource_metrics[0];
    let attributes = &resource_metrics.resource.as_ref().unwrap().attributes;
    let keys: Vec<&str> = attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    assert_eq!(keys, ["service.name", "service.version", "service.instance.id", "host.name"]);
    let metrics = &resource_metrics.scope_metrics[0].metrics;
    let data: BTreeMap<_, _> = metrics
        .iter()
        .map(|metric| (metric.name.as_str(), metric.data.as_ref().unwrap()))
        .collect();
    let families = families(&metrics_input(2));
    assert_eq!(data.len(), families.len());
    for family in &families {
        let count = match (family.kind, data[family.name]) {
            (MetricKind::Gauge, Data::Gauge(gauge)) => gauge.data_points.len(),
            (MetricKind::Counter, Data::Sum(sum)) => {
                assert!(sum.is_monotonic);
                assert_eq!(sum.aggregation_temporality(), AggregationTemporality::Cumulative);
                sum.data_points.len()
            }
            (MetricKind::Histogram, Data::Histogram(histogram)) => histogram.data_points.len(),
            (kind, data) => panic!("{}: {kind:?} is encoded as {data:?}", family.name),
        };
        assert_eq!(count, family.series.len(), "{}", family.name);
    }
    let Data::Sum(stored) = data["cynosure_items_stored_total"] else { panic!("not a sum") };
    assert_eq!(stored.data_points[1].value, Some(number_data_point::Value::AsDouble(812.0)));
    assert_eq!(stored.data_points[1].time_unix_nano, NOW_NANOS);
    assert_eq!(stored.data_points[1].attributes[0].key, "source");
    let Data::Histogram(duration) = data["cynosure_request_duration_seconds"] else {
        panic!("not a histogram")
    };
    let (point, latency) = (&duration.data_points[0], source_metrics().requests.latency);
    assert_eq!(point.count, latency.count());
    assert_eq!(point.bucket_counts, latency.buckets);
    assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
    assert_eq!(point.sum, Some(400.791));
}

/// Returns the start time of each counter and histogram by its name; a gauge must have none.
fn start_times(input: &MetricsSnapshot) -> BTreeMap<String, u64> {
    let json = otlp::encode_metrics(input, &resource()).to_string();
    let mut request: ExportMetricsServiceRequest = serde_json::from_str(&json).unwrap();
    let metrics = std::mem::take(&mut request.resource_metrics[0].scope_metrics[0].metrics);
    let start_times = metrics.into_iter().filter_map(|metric| {
        let start_time = match metric.data.unwrap() {
            Data::Sum(sum) => sum.data_points.first()?.start_time_unix_nano,
            Data::Histogram(histogram) => histogram.data_points.first()?.start_time_unix_nano,
            Data::Gauge(gauge) => {
                assert!(gauge.data_points.iter().all(|point| point.start_time_unix_nano == 0));
                return None;
            }
            other @ (Data::ExponentialHistogram(_) | Data::Summary(_)) => panic!("{other:?}"),
        };
        Some((metric.name, start_time))
    });
    start_times.collect()
}

#[test]
fn counters_have_a_start_time_where_known() {
    let mut input = metrics_input(1);
    let mut start_times_since = |since: Option<Timestamp>| {
        let metrics = input.sources[0].metrics.as_mut().unwrap();
        metrics.counting_since = since.map(|since| since.0);
        start_times(&input)
    };
    const HOUR: Duration = Duration::from_secs(3_600);

    let known = start_times_since(Some(NOW.before(HOUR)));
    assert_eq!(known["cynosure_items_stored_total"], NOW_NANOS - 3_600_000_000_000);
    assert_eq!(known["cynosure_waits_total"], NOW_NANOS - 3_600_000_000_000);
    assert_eq!(known["cynosure_request_duration_seconds"], NOW_NANOS - 3_600_000_000_000);
    assert_eq!(known["cynosure_breaker_opened_total"], 0, "it is not known for a breaker");
    let unknown = start_times_since(None);
    assert!(unknown.values().all(|start_time| *start_time == 0), "{unknown:?}");
    let future = start_times_since(Some(NOW.after(HOUR)));
    assert_eq!(future["cynosure_items_stored_total"], NOW_NANOS);
}

#[test]
fn spans_keep_their_parents() {
    let json = otlp::encode_spans(&spans(), &resource()).to_string();

    let request: ExportTraceServiceRequest = serde_json::from_str(&json).unwrap();

    let spans = &request.resource_spans[0].scope_spans[0].spans;
    let [request, stage, session] = spans.as_slice() else { panic!("{spans:?}") };
    assert!(spans.iter().all(|span| span.trace_id == session.trace_id));
    assert_eq!((session.trace_id.len(), session.span_id.len()), (16, 8));
    assert!(session.parent_span_id.is_empty());
    assert_eq!(stage.parent_span_id, session.span_id);
    assert_eq!(request.parent_span_id, stage.span_id);
    assert_eq!((request.kind, stage.kind), (3, 1), "a client span and an internal one");
    assert_eq!(session.start_time_unix_nano, 1_772_874_000_000_000_000);
    assert_eq!(session.end_time_unix_nano, NOW_NANOS);
    let failed = request.status.as_ref().unwrap();
    assert_eq!((failed.code, failed.message.as_str()), (2, "server"));
    assert_eq!(session.status.as_ref().unwrap().code, 0);
}

#[test]
fn a_time_before_the_epoch_is_still_sent() {
    let early = MetricsSnapshot { taken_at: Timestamp(-NOW.0), ..metrics_input(1) };
    let json = otlp::encode_metrics(&early, &resource()).to_string();
    serde_json::from_str::<ExportMetricsServiceRequest>(&json).unwrap();
}
