//! Tests of the notifications, by example.

mod missed_episodes;

use super::*;
use crate::health::{CheckKind, Finding, HealthLevel};

const NOW: Timestamp = Timestamp(1_772_874_303_000);
const HOUR: i64 = 3_600_000;

/// Returns the level of a finding that raises an alert of this severity.
pub(super) fn level_of(severity: Severity) -> HealthLevel {
    match severity {
        Severity::Info => HealthLevel::Healthy,
        Severity::Warning => HealthLevel::Warning,
        Severity::Critical => HealthLevel::Critical,
    }
}

fn finding(severity: Severity) -> Finding {
    Finding::new(CheckKind::System, "disk_full", level_of(severity), "it is nearly full")
        .with_subject("downloads")
}

/// Evaluates a finding of this severity, if any; returns lines such as `firing warning`.
fn evaluate_to_lines(
    alerts: &mut AlertStore,
    severity: Option<Severity>,
    now: Timestamp,
) -> Vec<String> {
    let findings = severity.map(finding).into_iter().collect();
    let subjects = ["downloads".to_owned()].into();
    let observation = Observation { findings, known_subjects: subjects, ..Observation::default() };
    to_lines(&alerts.evaluate(&observation, now))
}

fn to_lines(notifications: &[Notification]) -> Vec<String> {
    let line = |notification: &Notification| {
        format!("{} {}", notification.kind.name(), notification.alert.severity.name())
    };
    notifications.iter().map(line).collect()
}

#[test]
fn a_lasting_condition_fires_escalates_and_resolves_once() {
    let (mut alerts, mut all) = (AlertStore::default(), Vec::new());
    let warning = std::iter::repeat_n(Some(Severity::Warning), 500);
    let critical = std::iter::repeat_n(Some(Severity::Critical), 499);

    for (minute, severity) in warning.chain(critical).chain([None, None]).enumerate() {
        let now = Timestamp(NOW.0 + i64::try_from(minute).unwrap() * 60_000);
        all.extend(evaluate_to_lines(&mut alerts, severity, now));
    }

    assert_eq!(all, ["firing warning", "escalated critical", "resolved critical"]);
    assert_eq!(alerts.all().len(), 1);
}

#[test]
fn a_flapping_condition_is_notified_once_an_hour() {
    let mut alerts = AlertStore::default();
    let mut at =
        |ms: i64, severity| evaluate_to_lines(&mut alerts, severity, Timestamp(NOW.0 + ms));
    let firing = Some(Severity::Warning);

    assert_eq!(at(0, firing), ["firing warning"]);
    assert_eq!(at(60_000, None), ["resolved warning"]);
    assert_eq!(at(120_000, firing), [""; 0]);
    assert_eq!(at(180_000, None), [""; 0]);
    assert_eq!(at(240_000, firing), [""; 0]);
    assert_eq!(at(HOUR - 1, firing), [""; 0]);
    assert_eq!(at(HOUR, firing), ["firing warning"]);
    assert_eq!(at(HOUR + 1, None), ["resolved warning"]);
    assert_eq!(alerts.all().len(), 1);
    assert_eq!(alerts.all()[0].occurrences, 3);
}

#[test]
fn severity_changes_are_notified_once_per_hour() {
    let mut alerts = AlertStore::default();
    let mut at =
        |ms: i64, severity| evaluate_to_lines(&mut alerts, Some(severity), Timestamp(NOW.0 + ms));
    let (warning, critical) = (Severity::Warning, Severity::Critical);

    assert_eq!(at(0, warning), ["firing warning"]);
    assert_eq!(at(1, critical), ["escalated critical"]);
    assert_eq!(at(2, warning), [""; 0]);
    assert_eq!(at(3, critical), [""; 0]);
    assert_eq!(at(HOUR + 1, warning), [""; 0]);
    assert_eq!(at(HOUR + 2, critical), ["escalated critical"]);
}

#[test]
fn a_clock_step_causes_neither_alert_storm_nor_silence() {
    const DAY: i64 = 24 * HOUR;
    let mut alerts = AlertStore::default();
    let mut at =
        |ms: i64, severity| evaluate_to_lines(&mut alerts, severity, Timestamp(NOW.0 + ms));
    let firing = Some(Severity::Warning);

    assert_eq!(at(0, firing), ["firing warning"]);
    assert_eq!(at(-DAY, firing), [""; 0]);
    assert_eq!(at(-DAY + 1, None), ["resolved warning"]);
    assert_eq!(at(-DAY + 2, firing), [""; 0]);
    assert_eq!(at(-DAY + HOUR, firing), ["firing warning"]);
    assert_eq!(at(DAY, firing), [""; 0]);
    assert_eq!(at(DAY + 1, None), ["resolved warning"]);
}

#[test]
fn unobserved_conditions_neither_resolve_nor_fire() {
    let mut alerts = AlertStore::default();
    assert_eq!(evaluate_to_lines(&mut alerts, Some(Severity::Critical), NOW), ["firing critical"]);
    let subjects = ["downloads".to_owned()].into();

    for detector in ["system", "system.disk_full"] {
        for subject in ["downloads", ""] {
            let unobserved = [(detector.to_owned(), subject.to_owned())].into();
            let observation = Observation {
                unobserved,
                known_subjects: std::collections::BTreeSet::clone(&subjects),
                ..Observation::default()
            };
            assert_eq!(alerts.clone().evaluate(&observation, NOW), []);
        }
    }
    let unobserved = [("system.memory_low".to_owned(), String::new())].into();
    let observation =
        Observation { unobserved, known_subjects: subjects, ..Observation::default() };
    assert_eq!(
        to_lines(&alerts.evaluate(&observation, NOW)),
        ["resolved critical"],
        "another cause was not observed"
    );
}

#[test]
fn a_failed_observation_does_not_remove_known_subjects() {
    let mut alerts = AlertStore::default();
    assert_eq!(evaluate_to_lines(&mut alerts, Some(Severity::Critical), NOW), ["firing critical"]);
    let unobserved = [("system".to_owned(), String::new())].into();

    assert_eq!(alerts.evaluate(&Observation { unobserved, ..Observation::default() }, NOW), []);
}

#[test]
fn an_alert_of_a_removed_subject_resolves_with_the_reason() {
    let mut alerts = AlertStore::default();
    assert_eq!(evaluate_to_lines(&mut alerts, Some(Severity::Critical), NOW), ["firing critical"]);
    let unobserved = [("system".to_owned(), "downloads".to_owned())].into();

    let notifications = alerts.evaluate(&Observation { unobserved, ..Observation::default() }, NOW);

    assert_eq!(to_lines(&notifications), ["resolved critical"]);
    let reason = notifications[0].alert.resolved_reason.as_deref();
    assert_eq!(reason, Some("it is no longer in the configuration"));
}

#[test]
fn a_hundred_resolved_alerts_are_kept_besides_firing_ones() {
    let many = |count: usize| -> Vec<Finding> {
        let with_number =
            |no: usize| Finding { subject: no.to_string(), ..finding(Severity::Warning) };
        (0..count).map(with_number).collect()
    };
    let subjects: std::collections::BTreeSet<_> = (0..300).map(|no| no.to_string()).collect();
    let observation = |count| Observation {
        findings: many(count),
        known_subjects: subjects.clone(),
        ..Observation::default()
    };
    let mut alerts = AlertStore::default();

    assert_eq!(alerts.evaluate(&observation(250), NOW).len(), 250);
    assert_eq!(alerts.evaluate(&observation(150), Timestamp(NOW.0 + HOUR)).len(), 100);
    assert_eq!(alerts.all().len(), 250);
    assert_eq!(alerts.evaluate(&observation(0), Timestamp(NOW.0 + HOUR)).len(), 150);
    assert_eq!(alerts.all().len(), RESOLVED_ALERTS_MAX);
}

#[test]
fn the_store_survives_a_json_round_trip() {
    let mut alerts = AlertStore::default();
    assert_eq!(evaluate_to_lines(&mut alerts, Some(Severity::Critical), NOW), ["firing critical"]);

    let json = serde_json::to_value(&alerts).unwrap();

    assert_eq!(json["alerts"][0]["key"], "system.disk_full");
    assert_eq!(json["alerts"][0]["severity"], "critical");
    assert_eq!(json["alerts"][0]["started_at"], "2026-03-07T09:05:03.000Z");
    assert_eq!(serde_json::from_value::<AlertStore>(json).unwrap(), alerts);
}
