//! Property tests of the alert store, with clock steps.

use proptest::prelude::*;

use super::*;

const START: i64 = 1_772_874_303_000;
const HOUR: i64 = 3_600_000;

fn observe(seen: Option<Severity>) -> Observation {
    let concern = |severity| AlertCondition {
        key: AlertKey::new("execution", "failing"),
        subject: "work".to_owned(),
        severity,
        message: "503".to_owned(),
        advice: None,
    };
    Observation {
        conditions: seen.map(concern).into_iter().collect(),
        known_subjects: ["work".to_owned()].into(),
        ..Observation::default()
    }
}

/// Observations, up to half an hour apart.
fn any_observations() -> impl Strategy<Value = Vec<(i64, Option<Severity>)>> {
    let seen = prop::option::of(prop::sample::select(Severity::ALL.to_vec()));
    prop::collection::vec((1..HOUR / 2, seen), 1..200)
}

proptest! {
    #[test]
    fn at_most_one_notification_per_severity_and_hour(looks in any_observations()) {
        let (mut alerts, mut now) = (AlertStore::default(), START);
        let mut told: Vec<i64> = Vec::new();
        for (step, seen) in looks {
            now += step;
            for notice in alerts.evaluate(&observe(seen), Timestamp(now)) {
                if notice.kind != NotificationKind::Resolved {
                    told.push(now);
                }
            }
        }
        for (at, first) in told.iter().enumerate() {
            let within = told[at..].iter().filter(|later| *later - first < HOUR).count();
            prop_assert!(within <= Severity::ALL.len(), "{told:?}");
        }
    }

    #[test]
    fn a_state_held_for_an_hour_matches_the_last_notification(looks in any_observations(), steps in prop::collection::vec(-86_400_000..86_400_000_i64, 0..4)) {
        let (mut alerts, mut now) = (AlertStore::default(), START);
        let mut is_known_to_be_there = false;
        let mut steps = steps.into_iter();
        let mut stands: (i64, bool) = (0, false);
        for (at, (step, seen)) in looks.into_iter().enumerate() {
            // Every 50th time the clock steps by up to a day; the elapsed time is still `step`.
            now += if at % 50 == 49 { step + steps.next().unwrap_or(0) } else { step };
            for notice in alerts.evaluate(&observe(seen), Timestamp(now)) {
                is_known_to_be_there = notice.kind != NotificationKind::Resolved;
            }
            stands = if stands.1 == seen.is_some() && at % 50 != 49 {
                (stands.0 + step, stands.1)
            } else {
                (0, seen.is_some())
            };
            if stands.0 >= HOUR || !stands.1 {
                prop_assert_eq!(is_known_to_be_there, stands.1);
            }
        }
    }

    #[test]
    fn firing_and_resolved_notifications_alternate(looks in any_observations()) {
        let (mut alerts, mut now, mut there) = (AlertStore::default(), START, false);
        for (step, seen) in looks {
            now += step;
            for notice in alerts.evaluate(&observe(seen), Timestamp(now)) {
                match notice.kind {
                    NotificationKind::Firing | NotificationKind::ResolvedUnnotified => prop_assert!(!there),
                    NotificationKind::Escalated | NotificationKind::Resolved => prop_assert!(there),
                }
                there = notice.kind != NotificationKind::Resolved;
            }
            prop_assert!(alerts.all().len() <= RESOLVED_ALERTS_MAX);
        }
    }
}
