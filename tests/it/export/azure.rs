//! Health metrics and events for Azure Monitor.

use std::collections::BTreeMap;

use cynosure::telemetry::{
    AzureConnection, AzureExporter, DeliveryStatus, MetricsSnapshot, UnitSnapshot,
};
use cynosure_engine::health::{CheckKind, Finding, HealthCheckReport, HealthLevel};
use serde_json::Value;

use crate::metrics::{NOW, metrics_input};

const KEY: &str = "00000000-1111-2222-3333-444444444444";

fn connection() -> AzureConnection {
    let text = format!("InstrumentationKey={KEY};IngestionEndpoint=https://in.example.com/");
    AzureConnection::parse(&text).unwrap()
}

fn snapshot_with_level(level: HealthLevel) -> MetricsSnapshot {
    let findings = vec![
        Finding::new(CheckKind::Heartbeat, "silent", level, "has not written its state")
            .with_subject("work"),
        Finding::new(CheckKind::Service, "active", HealthLevel::Healthy, "runs"),
    ];
    MetricsSnapshot { report: Some(HealthCheckReport::new(findings, NOW)), ..metrics_input(2) }
}

fn envelopes_of_type<'a>(envelopes: &'a [Value], base_type: &str) -> Vec<&'a Value> {
    envelopes.iter().filter(|envelope| envelope["data"]["baseType"] == base_type).collect()
}

#[test]
fn the_documented_health_metrics_are_sent() {
    let envelopes = AzureExporter::default().build_envelopes(&metrics_input(2), &connection());

    let metrics: BTreeMap<_, _> = envelopes_of_type(&envelopes, "MetricData")
        .iter()
        .map(|envelope| {
            assert_eq!(envelope["name"], "Microsoft.ApplicationInsights.Metric");
            assert_eq!((&envelope["ver"], &envelope["iKey"]), (&Value::from(1), &Value::from(KEY)));
            assert_eq!(envelope["time"], "2026-03-07T09:05:03.456Z");
            assert_eq!(envelope["tags"]["ai.cloud.role"], "cynosure");
            let data = &envelope["data"]["baseData"];
            assert_eq!(
                (&data["ver"], data["metrics"].as_array().unwrap().len()),
                (&Value::from(2), 1)
            );
            let metric = &data["metrics"][0];
            (metric["name"].as_str().unwrap(), metric["value"].as_f64().unwrap())
        })
        .collect();
    let expected = [
        ("health.crash_count", 3.0),
        ("health.disk_usage", 85.0),
        ("health.heartbeat_age", 0.0),
        ("health.memory_usage", 40.0),
        ("health.service_active", 1.0),
    ];
    assert_eq!(metrics, BTreeMap::from(expected));
}

#[test]
fn the_unit_that_is_down_is_reported() {
    let mut input = metrics_input(1);
    let down = UnitSnapshot { is_active: false, restarts: Some(2), ..input.units[0].clone() };
    input.units.push(down);

    let envelopes = AzureExporter::default().build_envelopes(&input, &connection());

    let metrics = envelopes_of_type(&envelopes, "MetricData").into_iter();
    let metrics: Vec<_> =
        metrics.map(|envelope| &envelope["data"]["baseData"]["metrics"][0]).collect();
    let value = |name: &str| {
        metrics.iter().find(|metric| metric["name"] == name).unwrap()["value"].as_f64()
    };
    assert_eq!(value("health.service_active"), Some(0.0));
    assert_eq!(value("health.crash_count"), Some(5.0));
}

#[test]
fn each_worsening_is_one_event() {
    let (mut azure, connection) = (AzureExporter::default(), connection());
    let mut events = |level| -> Vec<String> {
        let envelopes = azure.build_envelopes(&snapshot_with_level(level), &connection);
        azure.acknowledge(DeliveryStatus::Delivered);
        let events = envelopes_of_type(&envelopes, "EventData").into_iter();
        events.map(|event| event["data"]["baseData"]["name"].as_str().unwrap().to_owned()).collect()
    };

    assert_eq!(events(HealthLevel::Healthy), [""; 0]);
    assert_eq!(events(HealthLevel::Warning), ["health_warning"]);
    assert_eq!(events(HealthLevel::Warning), [""; 0]);
    assert_eq!(events(HealthLevel::Critical), ["health_critical"]);
    assert_eq!(events(HealthLevel::Critical), [""; 0]);
    assert_eq!(events(HealthLevel::Unknown), [""; 0]);
    assert_eq!(events(HealthLevel::Warning), ["health_warning"]);

    let envelopes = AzureExporter::default()
        .build_envelopes(&snapshot_with_level(HealthLevel::Critical), &connection);
    let properties =
        &envelopes_of_type(&envelopes, "EventData")[0]["data"]["baseData"]["properties"];
    let properties = properties.as_object().unwrap();
    assert_eq!(properties.len(), 1, "healthy checks are not sent");
    assert_eq!(properties["heartbeat work"], "has not written its state");
}

#[test]
fn an_event_is_sent_until_acknowledged() {
    let (mut azure, connection) = (AzureExporter::default(), connection());
    let mut events = |level, delivery| -> Vec<String> {
        azure.acknowledge(delivery);
        let envelopes = azure.build_envelopes(&snapshot_with_level(level), &connection);
        let events = envelopes_of_type(&envelopes, "EventData").into_iter();
        events.map(|event| event["data"]["baseData"]["name"].as_str().unwrap().to_owned()).collect()
    };

    let names = ["health_critical", "health_warning"];
    assert_eq!(events(HealthLevel::Critical, DeliveryStatus::Delivered), names[..1]);
    assert_eq!(
        events(HealthLevel::Critical, DeliveryStatus::Pending),
        [""; 0],
        "an event in delivery is not sent again"
    );
    assert_eq!(events(HealthLevel::Critical, DeliveryStatus::Dropped), names[..1]);
    assert_eq!(events(HealthLevel::Warning, DeliveryStatus::Dropped), names);
    assert_eq!(events(HealthLevel::Healthy, DeliveryStatus::Delivered), [""; 0]);
}

#[test]
fn only_the_newest_undelivered_events_are_kept() {
    let (mut azure, connection) = (AzureExporter::default(), connection());
    let mut last = Vec::new();
    for level in [HealthLevel::Critical, HealthLevel::Warning].into_iter().cycle().take(100) {
        azure.acknowledge(DeliveryStatus::Dropped);
        last = azure.build_envelopes(&snapshot_with_level(level), &connection);
    }
    let events = envelopes_of_type(&last, "EventData");
    assert_eq!(events.len(), 32);
    assert_eq!(events[31]["data"]["baseData"]["name"], "health_warning");
}

#[test]
fn unknown_values_are_not_sent() {
    let bare = MetricsSnapshot {
        system: None,
        units: Vec::new(),
        report: None,
        sources: Vec::new(),
        ..metrics_input(0)
    };
    assert_eq!(AzureExporter::default().build_envelopes(&bare, &connection()), [Value::Null; 0]);
}
