//! Metrics and traces, read back as OpenTelemetry's own project reads them.

use std::collections::BTreeMap;

use cynosure::telemetry::{Kind, families, otlp};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, number_data_point};

use super::{resource, spans};
use crate::metrics::{NOW, figures, input};

/// The same moment as collectors write it.
const NOW_NANOS: u64 = 1_772_874_303_456_000_000;

#[test]
fn every_metric_arrives_as_what_it_is() {
    let json = otlp::metrics(&input(2), &resource()).to_string();

    let request: ExportMetricsServiceRequest = serde_json::from_str(&json).unwrap();

    let of = &request.resource_metrics[0];
    let attributes = &of.resource.as_ref().unwrap().attributes;
    let keys: Vec<&str> = attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    assert_eq!(keys, ["service.name", "service.version", "service.instance.id", "host.name"]);
    let metrics = &of.scope_metrics[0].metrics;
    let data: BTreeMap<_, _> = metrics
        .iter()
        .map(|metric| (metric.name.as_str(), metric.data.as_ref().unwrap()))
        .collect();
    let families = families(&input(2));
    assert_eq!(data.len(), families.len());
    for family in &families {
        let count = match (family.kind, data[family.name]) {
            (Kind::Gauge, Data::Gauge(gauge)) => gauge.data_points.len(),
            (Kind::Counter, Data::Sum(sum)) => {
                assert!(sum.is_monotonic);
                assert_eq!(sum.aggregation_temporality(), AggregationTemporality::Cumulative);
                sum.data_points.len()
            }
            (Kind::Histogram, Data::Histogram(histogram)) => histogram.data_points.len(),
            (kind, data) => panic!("{}: {kind:?} came as {data:?}", family.name),
        };
        assert_eq!(count, family.series.len(), "{}", family.name);
    }
    let Data::Sum(stored) = data["cynosure_items_stored_total"] else { panic!("it is a sum") };
    assert_eq!(stored.data_points[1].value, Some(number_data_point::Value::AsDouble(812.0)));
    assert_eq!(stored.data_points[1].time_unix_nano, NOW_NANOS);
    assert_eq!(stored.data_points[1].attributes[0].key, "source");
    let Data::Histogram(duration) = data["cynosure_request_duration_seconds"] else {
        panic!("it is a histogram")
    };
    let (point, known) = (&duration.data_points[0], figures().requests.duration);
    assert_eq!(point.count, known.count());
    assert_eq!(point.bucket_counts, known.buckets);
    assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
    assert_eq!(point.sum, Some(400.791));
}

#[test]
fn spans_arrive_with_their_place_in_the_session() {
    let json = otlp::spans(&spans(), &resource()).to_string();

    let request: ExportTraceServiceRequest = serde_json::from_str(&json).unwrap();

    let spans = &request.resource_spans[0].scope_spans[0].spans;
    let [request, stage, session] = spans.as_slice() else { panic!("{spans:?}") };
    assert!(spans.iter().all(|span| span.trace_id == session.trace_id));
    assert_eq!((session.trace_id.len(), session.span_id.len()), (16, 8));
    assert!(session.parent_span_id.is_empty());
    assert_eq!(stage.parent_span_id, session.span_id);
    assert_eq!(request.parent_span_id, stage.span_id);
    assert_eq!((request.kind, stage.kind), (3, 1), "a client, and work of our own");
    assert_eq!(session.start_time_unix_nano, 1_772_874_000_000_000_000);
    assert_eq!(session.end_time_unix_nano, NOW_NANOS);
    let failed = request.status.as_ref().unwrap();
    assert_eq!((failed.code, failed.message.as_str()), (2, "server"));
    assert_eq!(session.status.as_ref().unwrap().code, 0);
}

#[test]
fn a_time_before_the_epoch_is_no_reason_to_send_nothing() {
    let early = cynosure::telemetry::Input { at: cynosure::engine::Moment(-NOW.0), ..input(1) };
    let json = otlp::metrics(&early, &resource()).to_string();
    serde_json::from_str::<ExportMetricsServiceRequest>(&json).unwrap();
}
