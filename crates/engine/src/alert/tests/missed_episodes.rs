//! Tests of the notifications of missed episodes, by example.

use super::*;

const NOW: Timestamp = Timestamp(1_772_874_303_000);
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const CRITICAL: Severity = Severity::Critical;

fn finding() -> Finding {
    let (level, message) = (HealthLevel::Critical, "its circuit breaker opened");
    Finding::new(CheckKind::Provider, "degraded", level, message).with_subject("example")
}

/// Returns an episode that lasted one minute; `start_ms` is in milliseconds after [`NOW`].
fn ended_episode(sequence: u64, start_ms: i64) -> Episode {
    let started_at = Timestamp(NOW.0 + start_ms);
    let resolution = Resolution {
        resolved_at: Timestamp(started_at.0 + MINUTE),
        severity: Severity::Info,
        reason: None,
    };
    Episode {
        finding: finding(),
        sequence,
        started_at,
        resolution: Some(resolution),
        is_inhibited: false,
    }
}

fn ongoing_episode(sequence: u64, start_ms: i64) -> Episode {
    Episode { resolution: None, ..ended_episode(sequence, start_ms) }
}

/// Evaluates these episodes; the condition holds if the last of them is ongoing.
fn evaluate(alerts: &mut AlertStore, episodes: &[Episode], ms: i64) -> Vec<Notification> {
    let is_ongoing = episodes.last().is_some_and(|last| last.resolution.is_none());
    evaluate_with_finding(alerts, is_ongoing.then(finding), episodes, ms)
}

fn evaluate_with_finding(
    alerts: &mut AlertStore,
    finding: Option<Finding>,
    episodes: &[Episode],
    ms: i64,
) -> Vec<Notification> {
    let findings = finding.into_iter().collect();
    let subjects = ["example".to_owned()].into();
    let observation = Observation {
        findings,
        episodes: episodes.to_vec(),
        known_subjects: subjects,
        ..Observation::default()
    };
    alerts.evaluate(&observation, Timestamp(NOW.0 + ms))
}

/// Evaluates these episodes; returns lines such as `resolved_unnotified info`.
fn evaluate_to_lines(alerts: &mut AlertStore, episodes: &[Episode], ms: i64) -> Vec<String> {
    to_lines(&evaluate(alerts, episodes, ms))
}

fn to_lines(notifications: &[Notification]) -> Vec<String> {
    let line = |notification: &Notification| {
        format!("{} {}", notification.kind.name(), notification.severity().name())
    };
    notifications.iter().map(line).collect()
}

/// Returns a store whose watermark starts at [`NOW`].
fn store_with_watermark() -> AlertStore {
    let mut alerts = AlertStore::default();
    assert_eq!(evaluate_to_lines(&mut alerts, &[], 0), [""; 0]);
    alerts
}

/// Writes a store to JSON and reads it back, like a restart.
fn reloaded_store(alerts: &AlertStore) -> AlertStore {
    serde_json::from_value(serde_json::to_value(alerts).unwrap()).unwrap()
}

#[test]
fn a_missed_episode_is_notified_once_with_time_and_severity() {
    let mut alerts = store_with_watermark();

    let notifications = evaluate(&mut alerts, &[ended_episode(1, MINUTE)], 5 * MINUTE);

    assert_eq!(
        (notifications.len(), notifications[0].kind),
        (1, NotificationKind::ResolvedUnnotified)
    );
    let alert = &notifications[0].alert;
    assert_eq!((alert.severity, alert.max_severity), (Severity::Info, CRITICAL));
    assert_eq!(alert.started_at, Timestamp(NOW.0 + MINUTE));
    assert_eq!(alert.resolved_at, Some(Timestamp(NOW.0 + 2 * MINUTE)));
    assert_eq!(alerts.all(), std::slice::from_ref(alert));
    for ms in [6 * MINUTE, 2 * HOUR] {
        alerts = reloaded_store(&alerts);
        assert_eq!(evaluate_to_lines(&mut alerts, &[ended_episode(1, MINUTE)], ms), [""; 0]);
    }
}

#[test]
fn all_missed_episodes_share_one_notification() {
    let mut alerts = store_with_watermark();
    let episodes =
        [ended_episode(1, MINUTE), ended_episode(4, 10 * MINUTE), ended_episode(7, 3 * HOUR)];

    let notifications = evaluate(&mut alerts, &episodes, 4 * HOUR);

    assert_eq!((notifications.len(), notifications[0].alert.occurrences), (1, 3));
    assert_eq!(notifications[0].alert.started_at, episodes[0].started_at);
    assert_eq!(
        notifications[0].alert.resolved_at,
        Some(episodes[2].resolution.as_ref().unwrap().resolved_at)
    );
}

#[test]
fn flapping_episodes_are_notified_once_an_hour() {
    let mut alerts = store_with_watermark();
    let (mut episodes, mut all) = (Vec::new(), Vec::new());
    for no in 0..144 {
        let start_ms = i64::try_from(no).unwrap() * 10 * MINUTE + MINUTE;
        episodes.push(ended_episode(no * 3 + 1, start_ms));
        all.extend(evaluate_to_lines(&mut alerts, &episodes, start_ms + 5 * MINUTE));
    }

    assert_eq!(all, ["resolved_unnotified info"; 24]);
    assert_eq!((alerts.all().len(), alerts.all()[0].occurrences), (24, 6));
}

#[test]
fn an_ongoing_episode_ignores_the_repeat_interval() {
    let mut alerts = store_with_watermark();
    let mut at =
        |episodes: &[Episode], minutes| evaluate_to_lines(&mut alerts, episodes, minutes * MINUTE);
    let (first, second) = (ended_episode(1, MINUTE), ended_episode(4, 6 * MINUTE));

    assert_eq!(at(std::slice::from_ref(&first), 5), ["resolved_unnotified info"]);
    assert_eq!(at(&[first.clone(), ongoing_episode(4, 6 * MINUTE)], 7), ["firing critical"]);
    assert_eq!(at(&[first.clone(), second.clone()], 8), ["resolved info"]);
    assert_eq!(at(&[first, second, ended_episode(7, 9 * MINUTE)], 12), [""; 0]);
    assert_eq!((alerts.all().len(), alerts.all()[0].occurrences), (1, 3));
    assert_eq!((alerts.all()[0].severity, alerts.all()[0].max_severity), (CRITICAL, CRITICAL));
}

#[test]
fn a_notified_episode_resolves_and_is_not_reported_as_missed() {
    let mut alerts = store_with_watermark();
    let mut at = |episodes: &[Episode], ms| evaluate_to_lines(&mut alerts, episodes, ms);
    let ended = [ended_episode(1, MINUTE), ended_episode(4, 5 * HOUR)];

    assert_eq!(at(&[ongoing_episode(1, MINUTE)], 2 * MINUTE), ["firing critical"]);
    // Another episode started and ended before the next evaluation.
    assert_eq!(at(&ended, 6 * HOUR), ["resolved info"]);
    assert_eq!(at(&ended, 8 * HOUR), [""; 0]);
}

#[test]
fn a_more_severe_missed_episode_is_notified_separately() {
    let warning = || Some(Finding { level: HealthLevel::Warning, ..finding() });
    let mut alerts = store_with_watermark();
    let mut at = |finding, episodes: &[Episode], minutes: i64| {
        evaluate_with_finding(&mut alerts, finding, episodes, minutes * MINUTE)
    };
    let episodes =
        [1, 31, 91].map(|minutes: u64| ended_episode(minutes, minutes.cast_signed() * MINUTE));

    assert_eq!(
        to_lines(&at(warning(), &episodes[..1], 5)),
        ["firing warning", "resolved_unnotified info"]
    );
    let notifications = at(warning(), &episodes[..2], 35);
    assert_eq!(notifications, [], "the hour is not over");
    let missed = at(warning(), &episodes, 95).remove(0);
    assert_eq!(
        (missed.kind, missed.alert.started_at),
        (NotificationKind::ResolvedUnnotified, episodes[2].started_at)
    );
    assert_eq!(to_lines(&at(Some(finding()), &episodes, 100)), ["escalated critical"]);
    let resolved = at(None, &episodes, 105).remove(0);
    assert_eq!(
        (resolved.kind, resolved.alert.occurrences, resolved.alert.max_severity),
        (NotificationKind::Resolved, 4, CRITICAL)
    );
    assert_eq!(at(warning(), &episodes, 110), []);
    assert_eq!(alerts.all().len(), 1);
}

#[test]
fn a_missed_episode_is_notified_after_a_silent_hour() {
    let mut alerts = store_with_watermark();
    let mut at =
        |episodes: &[Episode], minutes| evaluate_to_lines(&mut alerts, episodes, minutes * MINUTE);
    let episodes =
        [1, 30, 63].map(|minutes: u64| ended_episode(minutes, minutes.cast_signed() * MINUTE));

    assert_eq!(at(&[ongoing_episode(1, MINUTE)], 1), ["firing critical"]);
    assert_eq!(at(&episodes[..1], 5), ["resolved info"]);
    assert_eq!(at(&[episodes[0].clone(), ongoing_episode(30, 30 * MINUTE)], 30), [""; 0]);
    assert_eq!(at(&episodes, 65), ["resolved_unnotified info"]);
    assert_eq!(
        at(&[&episodes[..], &[ongoing_episode(70, 70 * MINUTE)]].concat(), 70),
        ["firing critical"]
    );
}

#[test]
fn a_manual_resolution_is_named_as_the_reason() {
    let manually_closed = |sequence, start_ms| {
        let mut episode = ended_episode(sequence, start_ms);
        episode.resolution.as_mut().unwrap().reason = Some("an operator closed it".to_owned());
        episode
    };
    let mut alerts = store_with_watermark();

    let missed = evaluate(&mut alerts, &[manually_closed(1, MINUTE)], 5 * MINUTE);
    let firing = evaluate(
        &mut alerts,
        &[manually_closed(1, MINUTE), ongoing_episode(4, 3 * HOUR)],
        3 * HOUR + 1,
    );
    let resolved = evaluate(
        &mut alerts,
        &[manually_closed(1, MINUTE), manually_closed(4, 3 * HOUR)],
        4 * HOUR,
    );

    let reason = |notifications: &[Notification]| notifications[0].alert.resolved_reason.clone();
    assert_eq!(reason(&missed).as_deref(), Some("an operator closed it"));
    assert_eq!((firing[0].kind, reason(&firing)), (NotificationKind::Firing, None));
    assert_eq!(reason(&resolved).as_deref(), Some("an operator closed it"));
}

#[test]
fn episodes_before_the_watermark_are_ignored() {
    let mut alerts = AlertStore::default();
    let history = [ended_episode(1, -48 * HOUR), ended_episode(4, -5 * MINUTE)];
    assert_eq!(evaluate_to_lines(&mut alerts, &history, 0), [""; 0]);
    assert_eq!(evaluate_to_lines(&mut alerts, &history, 2 * HOUR), [""; 0]);

    // The breaker's file could not be read until now.
    let mut late_store = store_with_watermark();
    assert_eq!(evaluate_to_lines(&mut late_store, &[ended_episode(4, -5 * MINUTE)], HOUR), [""; 0]);

    let with_new_episode = [&history[..], &[ended_episode(7, 3 * HOUR)]].concat();
    assert_eq!(
        evaluate_to_lines(&mut alerts, &with_new_episode, 4 * HOUR),
        ["resolved_unnotified info"]
    );
    assert_eq!(alerts.all()[0].started_at, Timestamp(NOW.0 + 3 * HOUR));
}

#[test]
fn missed_episodes_are_reported_after_any_downtime() {
    let alerts = store_with_watermark();

    let lines =
        evaluate_to_lines(&mut reloaded_store(&alerts), &[ended_episode(1, HOUR)], 72 * HOUR);

    assert_eq!(lines, ["resolved_unnotified info"]);
}

#[test]
fn a_recreated_or_restored_breaker_file_is_accepted() {
    let mut alerts = store_with_watermark();
    let old = [ended_episode(1, MINUTE), ended_episode(40, 10 * MINUTE)];
    assert_eq!(evaluate_to_lines(&mut alerts, &old, HOUR), ["resolved_unnotified info"]);

    assert_eq!(evaluate_to_lines(&mut alerts, &[], 2 * HOUR), [""; 0]);
    assert_eq!(
        evaluate_to_lines(&mut alerts, &[ended_episode(1, 3 * HOUR)], 4 * HOUR),
        ["resolved_unnotified info"]
    );
    // The old file was restored.
    assert_eq!(evaluate_to_lines(&mut alerts, &old, 8 * HOUR), [""; 0]);
    assert_eq!(
        evaluate_to_lines(&mut alerts, &[ended_episode(41, 9 * HOUR)], 10 * HOUR),
        ["resolved_unnotified info"]
    );
}

#[test]
fn a_clock_set_back_neither_repeats_nor_hides_episodes() {
    const DAY: i64 = 24 * HOUR;
    let mut alerts = store_with_watermark();
    let first = ended_episode(1, DAY);
    assert_eq!(
        evaluate_to_lines(&mut alerts, std::slice::from_ref(&first), DAY + HOUR),
        ["resolved_unnotified info"]
    );

    assert_eq!(evaluate_to_lines(&mut alerts, std::slice::from_ref(&first), 0), [""; 0]);
    let both = [first, ended_episode(4, 2 * HOUR)];
    assert_eq!(evaluate_to_lines(&mut alerts, &both, 3 * HOUR), ["resolved_unnotified info"]);
    for hours in [4, 20, 25, 30] {
        assert_eq!(evaluate_to_lines(&mut alerts, &both, hours * HOUR), [""; 0]);
    }
}

#[test]
fn a_watermark_ahead_of_the_clock_is_clamped() {
    let mut alerts = AlertStore::default();
    for hours in [24, 0] {
        assert_eq!(evaluate_to_lines(&mut alerts, &[], hours * HOUR), [""; 0]);
    }

    assert_eq!(
        evaluate_to_lines(&mut alerts, &[ended_episode(1, HOUR)], 2 * HOUR),
        ["resolved_unnotified info"]
    );
}

#[test]
fn inhibited_episodes_are_never_notified() {
    let mut alerts = store_with_watermark();
    let inhibited = Episode { is_inhibited: true, ..ended_episode(1, MINUTE) };

    assert_eq!(evaluate_to_lines(&mut alerts, &[inhibited], 5 * MINUTE), [""; 0]);
    assert_eq!(evaluate_to_lines(&mut alerts, &[ended_episode(1, MINUTE)], 6 * MINUTE), [""; 0]);
    assert_eq!(alerts.all(), []);
}

#[test]
fn a_store_without_a_watermark_starts_one() {
    let mut older = serde_json::to_value(store_with_watermark()).unwrap();
    older.as_object_mut().unwrap().remove("episode_watermark");

    let mut alerts: AlertStore = serde_json::from_value(older).unwrap();

    assert_eq!(evaluate_to_lines(&mut alerts, &[ended_episode(1, MINUTE)], HOUR), [""; 0]);
    assert_eq!(
        evaluate_to_lines(&mut alerts, &[ended_episode(4, 2 * HOUR)], 3 * HOUR),
        ["resolved_unnotified info"]
    );
}
