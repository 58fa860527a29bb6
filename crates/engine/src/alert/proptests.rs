//! Property tests of the alert store, with clock steps.

use proptest::prelude::*;

use super::tests::level_of;
use super::*;
use crate::health::{CheckKind, Finding};

const START: i64 = 1_772_874_303_000;
const HOUR: i64 = 3_600_000;

fn observe(severity: Option<Severity>) -> Observation {
    let finding = |severity| {
        Finding::new(CheckKind::Execution, "failing", level_of(severity), "503")
            .with_subject("work")
    };
    Observation {
        findings: severity.map(finding).into_iter().collect(),
        known_subjects: ["work".to_owned()].into(),
        ..Observation::default()
    }
}

/// Observations, up to half an hour apart.
fn any_observations() -> impl Strategy<Value = Vec<(i64, Option<Severity>)>> {
    let severity = prop::option::of(prop::sample::select(Severity::ALL.to_vec()));
    prop::collection::vec((1..HOUR / 2, severity), 1..200)
}

proptest! {
    #[test]
    fn at_most_one_notification_per_severity_and_hour(observations in any_observations()) {
        let (mut alerts, mut now) = (AlertStore::default(), START);
        let mut notified_at: Vec<i64> = Vec::new();
        for (step, severity) in observations {
            now += step;
            for notification in alerts.evaluate(&observe(severity), Timestamp(now)) {
                if notification.kind != NotificationKind::Resolved {
                    notified_at.push(now);
                }
            }
        }
        for (index, first) in notified_at.iter().enumerate() {
            let within = notified_at[index..].iter().filter(|later| *later - first < HOUR).count();
            prop_assert!(within <= Severity::ALL.len(), "{notified_at:?}");
        }
    }

    #[test]
    fn a_state_held_for_an_hour_matches_the_last_notification(observations in any_observations(), steps in prop::collection::vec(-86_400_000..86_400_000_i64, 0..4)) {
        let (mut alerts, mut now) = (AlertStore::default(), START);
        let mut is_reported_firing = false;
        let mut steps = steps.into_iter();
        // Time for which the condition has been in its state, and whether it is firing.
        let mut held: (i64, bool) = (0, false);
        for (index, (step, severity)) in observations.into_iter().enumerate() {
            // Every 50th time the clock steps by up to a day; the elapsed time is still `step`.
            now += if index % 50 == 49 { step + steps.next().unwrap_or(0) } else { step };
            for notification in alerts.evaluate(&observe(severity), Timestamp(now)) {
                is_reported_firing = notification.kind != NotificationKind::Resolved;
            }
            held = if held.1 == severity.is_some() && index % 50 != 49 {
                (held.0 + step, held.1)
            } else {
                (0, severity.is_some())
            };
            if held.0 >= HOUR || !held.1 {
                prop_assert_eq!(is_reported_firing, held.1);
            }
        }
    }

    #[test]
    fn firing_and_resolved_notifications_alternate(observations in any_observations()) {
        let (mut alerts, mut now, mut is_firing) = (AlertStore::default(), START, false);
        for (step, severity) in observations {
            now += step;
            for notification in alerts.evaluate(&observe(severity), Timestamp(now)) {
                match notification.kind {
                    NotificationKind::Firing | NotificationKind::ResolvedUnnotified => prop_assert!(!is_firing),
                    NotificationKind::Escalated | NotificationKind::Resolved => prop_assert!(is_firing),
                }
                is_firing = notification.kind != NotificationKind::Resolved;
            }
            prop_assert!(alerts.all().len() <= RESOLVED_ALERTS_MAX);
        }
    }
}
