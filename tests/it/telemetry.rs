//! Metrics in the exported formats: Prometheus text and JSON.

use std::collections::BTreeSet;

use cynosure::telemetry::{MetricFamily, MetricKind, families, to_json, to_prometheus};

use crate::json_shape::assert_matches_snapshot;
use crate::metrics::{metrics_input, source_metrics};

/// Returns the lines of one metric.
fn lines<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let is_of_metric =
        |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    text.lines().filter(is_of_metric).collect()
}

#[test]
fn only_the_current_state_is_one() {
    let text = to_prometheus(&metrics_input(1));

    let states = lines(&text, "cynosure_source_state");
    assert_eq!(states.len(), 8, "{states:?}");
    let ones: Vec<&str> = states.iter().filter(|line| line.ends_with(" 1")).copied().collect();
    assert_eq!(ones, [r#"cynosure_source_state{source="source0",state="rate_limited"} 1"#]);
    let deadline = lines(&text, "cynosure_source_deadline_timestamp_seconds");
    let expected = r#"cynosure_source_deadline_timestamp_seconds{source="source0"} 1772874603.456"#;
    assert_eq!(deadline, [expected]);
}

#[test]
fn histogram_buckets_are_cumulative() {
    let text = to_prometheus(&metrics_input(1));

    let buckets = lines(&text, "cynosure_request_duration_seconds_bucket");
    let bucket_count = |bound: &str| {
        let label = format!("le=\"{bound}\"");
        let line = buckets.iter().find(|line| line.contains(&label));
        line.and_then(|line| line.rsplit(' ').next()).unwrap_or_default().to_owned()
    };
    assert_eq!(buckets.len(), 15);
    assert_eq!(
        ["0.005", "0.01", "0.05", "1", "300", "+Inf"].map(bucket_count),
        ["1", "2", "4", "5", "5", "6"]
    );
    let sum = lines(&text, "cynosure_request_duration_seconds_sum");
    assert_eq!(sum, [r#"cynosure_request_duration_seconds_sum{source="source0"} 400.791"#]);
    let count = lines(&text, "cynosure_request_duration_seconds_count");
    assert_eq!(count, [r#"cynosure_request_duration_seconds_count{source="source0"} 6"#]);
}

#[test]
fn label_values_are_escaped() {
    let text = to_prometheus(&metrics_input(1));

    let blocked = lines(&text, "cynosure_gate_closed");
    assert_eq!(blocked, [r#"cynosure_gate_closed{scope="example.com me\"@\\home\nline"} 1"#]);
    assert!(!text.contains("burst"), "a limit name chosen by the server is not a label");
}

#[test]
fn names_follow_the_conventions() {
    let families = families(&metrics_input(2));

    let names: BTreeSet<_> = families.iter().map(|family| family.name).collect();
    assert_eq!(names.len(), families.len(), "each name occurs once");
    for family in families {
        let name = family.name;
        assert!(name.starts_with("cynosure_"), "{name}");
        assert_eq!(family.kind == MetricKind::Counter, name.ends_with("_total"), "{name}");
        assert!(family.help.ends_with('.') && !family.help.contains('\n'), "{name}");
        let labels: BTreeSet<_> = family.series[0].labels.iter().map(|(name, _)| name).collect();
        for series in &family.series {
            let series_labels: BTreeSet<_> = series.labels.iter().map(|(name, _)| name).collect();
            assert_eq!(series_labels, labels, "{name}");
        }
    }
}

#[test]
fn unknown_values_have_no_series() {
    let mut input = metrics_input(1);
    input.sources[0].state = None;
    input.sources[0].metrics = None;
    (input.report, input.system, input.units) = (None, None, Vec::new());

    let text = to_prometheus(&input);

    let unknown = r#"cynosure_source_state{source="source0",state="unknown"} 1"#;
    assert!(text.lines().any(|line| line == unknown), "{text}");
    for absent in ["items_stored", "deadline", "health_level", "disk", "unit", "duration"] {
        assert!(!text.contains(&format!("cynosure_{absent}")), "{absent}");
        assert!(!text.contains(&format!("_{absent}_")), "{absent}");
    }
}

#[test]
fn two_hundred_sources_stay_within_the_size_limit() {
    let text = to_prometheus(&metrics_input(200));

    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series < 200 * 120, "{series} series");
    assert!(text.len() < 3_000_000, "{} bytes", text.len());
}

#[test]
fn json_has_the_same_values() {
    let json = to_json(&metrics_input(1));

    let metrics = json["metrics"].as_object().unwrap();
    let names: Vec<_> = families(&metrics_input(1)).iter().map(|family| family.name).collect();
    assert_eq!(metrics.len(), names.len());
    assert!(names.iter().all(|name| metrics.contains_key(*name)));
    let stored = &json["metrics"]["cynosure_items_stored_total"];
    assert_eq!(stored["type"], "counter");
    assert_eq!(stored["series"][0]["labels"]["source"], "source0");
    assert_eq!(stored["series"][0]["value"], 812.0);
    let duration = &json["metrics"]["cynosure_request_duration_seconds"]["series"][0];
    assert_eq!(duration["count"], source_metrics().requests.latency.count());
    assert_eq!(duration["beyond"], 1);
}

#[test]
fn metric_names_and_labels_are_stable() {
    let families = families(&metrics_input(3));

    let line = |family: &MetricFamily| {
        let labels = family.series.iter().flat_map(|series| &series.labels);
        let names: BTreeSet<&str> = labels.map(|(name, _)| &**name).collect();
        let names: Vec<&str> = names.into_iter().collect();
        format!("{} {:?} {{{}}}\n", family.name, family.kind, names.join(","))
    };
    assert_matches_snapshot("metrics", &families.iter().map(line).collect::<String>());
}
