//! Tests of the notifications, by example.

use super::*;

const NOW: Timestamp = Timestamp(1_772_874_303_000);
const HOUR: i64 = 3_600_000;

fn condition(severity: Severity) -> AlertCondition {
    AlertCondition {
        key: AlertKey::new("system", "disk_full"),
        subject: "downloads".to_owned(),
        severity,
        message: "it is nearly full".to_owned(),
        advice: None,
    }
}

/// Evaluates a condition of this severity, if any; returns lines such as `raised warning`.
fn evaluate_to_lines(
    alerts: &mut AlertStore,
    seen: Option<Severity>,
    now: Timestamp,
) -> Vec<String> {
    let concerns = seen.map(condition).into_iter().collect();
    let subjects = ["downloads".to_owned()].into();
    let looked =
        Observation { conditions: concerns, known_subjects: subjects, ..Observation::default() };
    to_lines(&alerts.evaluate(&looked, now))
}

fn to_lines(notices: &[Notification]) -> Vec<String> {
    let word =
        |notice: &Notification| format!("{} {}", notice.kind.name(), notice.alert.severity.name());
    notices.iter().map(word).collect()
}

#[test]
fn a_lasting_condition_fires_escalates_and_resolves_once() {
    let (mut alerts, mut all) = (AlertStore::default(), Vec::new());
    let warning = std::iter::repeat_n(Some(Severity::Warning), 500);
    let critical = std::iter::repeat_n(Some(Severity::Critical), 499);

    for (minute, seen) in warning.chain(critical).chain([None, None]).enumerate() {
        let now = Timestamp(NOW.0 + i64::try_from(minute).unwrap() * 60_000);
        all.extend(evaluate_to_lines(&mut alerts, seen, now));
    }

    assert_eq!(all, ["raised warning", "worse critical", "ended critical"]);
    assert_eq!(alerts.all().len(), 1);
}

#[test]
fn a_flapping_condition_is_notified_once_an_hour() {
    let mut alerts = AlertStore::default();
    let mut at = |ms: i64, seen| evaluate_to_lines(&mut alerts, seen, Timestamp(NOW.0 + ms));
    let ill = Some(Severity::Warning);

    assert_eq!(at(0, ill), ["raised warning"]);
    assert_eq!(at(60_000, None), ["ended warning"]);
    assert_eq!(at(120_000, ill), [""; 0]);
    assert_eq!(at(180_000, None), [""; 0]);
    assert_eq!(at(240_000, ill), [""; 0]);
    assert_eq!(at(HOUR - 1, ill), [""; 0]);
    assert_eq!(at(HOUR, ill), ["raised warning"]);
    assert_eq!(at(HOUR + 1, None), ["ended warning"]);
    assert_eq!(alerts.all().len(), 1);
    assert_eq!(alerts.all()[0].occurrences, 3);
}

#[test]
fn severity_changes_are_notified_once_per_hour() {
    let mut alerts = AlertStore::default();
    let mut at = |ms: i64, seen| evaluate_to_lines(&mut alerts, Some(seen), Timestamp(NOW.0 + ms));
    let (warning, critical) = (Severity::Warning, Severity::Critical);

    assert_eq!(at(0, warning), ["raised warning"]);
    assert_eq!(at(1, critical), ["worse critical"]);
    assert_eq!(at(2, warning), [""; 0]);
    assert_eq!(at(3, critical), [""; 0]);
    assert_eq!(at(HOUR + 1, warning), [""; 0]);
    assert_eq!(at(HOUR + 2, critical), ["worse critical"]);
}

#[test]
fn a_clock_step_causes_neither_alert_storm_nor_silence() {
    const DAY: i64 = 24 * HOUR;
    let mut alerts = AlertStore::default();
    let mut at = |ms: i64, seen| evaluate_to_lines(&mut alerts, seen, Timestamp(NOW.0 + ms));
    let ill = Some(Severity::Warning);

    assert_eq!(at(0, ill), ["raised warning"]);
    assert_eq!(at(-DAY, ill), [""; 0]);
    assert_eq!(at(-DAY + 1, None), ["ended warning"]);
    assert_eq!(at(-DAY + 2, ill), [""; 0]);
    assert_eq!(at(-DAY + HOUR, ill), ["raised warning"]);
    assert_eq!(at(DAY, ill), [""; 0]);
    assert_eq!(at(DAY + 1, None), ["ended warning"]);
}

#[test]
fn unobserved_conditions_neither_resolve_nor_fire() {
    let mut alerts = AlertStore::default();
    assert_eq!(evaluate_to_lines(&mut alerts, Some(Severity::Critical), NOW), ["raised critical"]);
    let subjects = ["downloads".to_owned()].into();

    for by in ["system", "system.disk_full"] {
        for about in ["downloads", ""] {
            let blind = [(by.to_owned(), about.to_owned())].into();
            let looked = Observation {
                unobserved: blind,
                known_subjects: std::collections::BTreeSet::clone(&subjects),
                ..Observation::default()
            };
            assert_eq!(alerts.clone().evaluate(&looked, NOW), []);
        }
    }
    let blind = [("system.memory_low".to_owned(), String::new())].into();
    let looked =
        Observation { unobserved: blind, known_subjects: subjects, ..Observation::default() };
    assert_eq!(
        to_lines(&alerts.evaluate(&looked, NOW)),
        ["ended critical"],
        "another cause was not seen"
    );
}

#[test]
fn a_failed_observation_does_not_remove_known_subjects() {
    let mut alerts = AlertStore::default();
    assert_eq!(evaluate_to_lines(&mut alerts, Some(Severity::Critical), NOW), ["raised critical"]);
    let blind = [("system".to_owned(), String::new())].into();

    assert_eq!(
        alerts.evaluate(&Observation { unobserved: blind, ..Observation::default() }, NOW),
        []
    );
}

#[test]
fn an_alert_of_a_removed_subject_resolves_with_the_reason() {
    let mut alerts = AlertStore::default();
    assert_eq!(evaluate_to_lines(&mut alerts, Some(Severity::Critical), NOW), ["raised critical"]);
    let blind = [("system".to_owned(), "downloads".to_owned())].into();

    let notices =
        alerts.evaluate(&Observation { unobserved: blind, ..Observation::default() }, NOW);

    assert_eq!(to_lines(&notices), ["ended critical"]);
    let why = notices[0].alert.resolved_reason.as_deref();
    assert_eq!(why, Some("it is no longer in the configuration"));
}

#[test]
fn a_hundred_resolved_alerts_are_kept_besides_firing_ones() {
    let many = |of: usize| -> Vec<AlertCondition> {
        let about =
            |no: usize| AlertCondition { subject: no.to_string(), ..condition(Severity::Warning) };
        (0..of).map(about).collect()
    };
    let subjects: std::collections::BTreeSet<_> = (0..300).map(|no| no.to_string()).collect();
    let looked = |of| Observation {
        conditions: many(of),
        known_subjects: subjects.clone(),
        ..Observation::default()
    };
    let mut alerts = AlertStore::default();

    assert_eq!(alerts.evaluate(&looked(250), NOW).len(), 250);
    assert_eq!(alerts.evaluate(&looked(150), Timestamp(NOW.0 + HOUR)).len(), 100);
    assert_eq!(alerts.all().len(), 250);
    assert_eq!(alerts.evaluate(&looked(0), Timestamp(NOW.0 + HOUR)).len(), 150);
    assert_eq!(alerts.all().len(), RESOLVED_ALERTS_MAX);
}

#[test]
fn the_store_survives_a_json_round_trip() {
    let mut alerts = AlertStore::default();
    assert_eq!(evaluate_to_lines(&mut alerts, Some(Severity::Critical), NOW), ["raised critical"]);

    let json = serde_json::to_value(&alerts).unwrap();

    assert_eq!(json["alerts"][0]["cause"], "system.disk_full");
    assert_eq!(json["alerts"][0]["severity"], "critical");
    assert_eq!(json["alerts"][0]["raised_at"], "2026-03-07T09:05:03.000Z");
    assert_eq!(serde_json::from_value::<AlertStore>(json).unwrap(), alerts);
}
