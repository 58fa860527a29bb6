//! What holds for whatever comes and goes, on whatever clock.

use proptest::prelude::*;

use super::*;

const START: i64 = 1_772_874_303_000;
const HOUR: i64 = 3_600_000;

fn look(seen: Option<Severity>) -> Looked {
    let concern = |severity| Concern {
        cause: Cause::new("execution", "failing"),
        about: "work".to_owned(),
        severity,
        message: "503".to_owned(),
        advice: None,
    };
    Looked {
        concerns: seen.map(concern).into_iter().collect(),
        subjects: ["work".to_owned()].into(),
        ..Looked::default()
    }
}

/// Looks, up to half an hour apart.
fn looks() -> impl Strategy<Value = Vec<(i64, Option<Severity>)>> {
    let seen = prop::option::of(prop::sample::select(Severity::ALL.to_vec()));
    prop::collection::vec((1..HOUR / 2, seen), 1..200)
}

proptest! {
    #[test]
    fn no_hour_holds_more_than_one_notice_per_severity(looks in looks()) {
        let (mut alerts, mut now) = (Alerts::default(), START);
        let mut told: Vec<i64> = Vec::new();
        for (step, seen) in looks {
            now += step;
            for notice in alerts.note(&look(seen), Timestamp(now)) {
                if notice.news != News::Ended {
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
    fn what_stands_for_an_hour_is_what_was_told_last(looks in looks(), steps in prop::collection::vec(-86_400_000..86_400_000_i64, 0..4)) {
        let (mut alerts, mut now) = (Alerts::default(), START);
        let mut is_known_to_be_there = false;
        let mut steps = steps.into_iter();
        let mut stands: (i64, bool) = (0, false);
        for (at, (step, seen)) in looks.into_iter().enumerate() {
            // Now and then the clock is set, by up to a day; what has passed is still `step`.
            now += if at % 50 == 49 { step + steps.next().unwrap_or(0) } else { step };
            for notice in alerts.note(&look(seen), Timestamp(now)) {
                is_known_to_be_there = notice.news != News::Ended;
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
    fn ends_follow_beginnings_and_nothing_is_told_twice_in_a_row(looks in looks()) {
        let (mut alerts, mut now, mut there) = (Alerts::default(), START, false);
        for (step, seen) in looks {
            now += step;
            for notice in alerts.note(&look(seen), Timestamp(now)) {
                match notice.news {
                    News::Raised | News::Passed => prop_assert!(!there),
                    News::Worse | News::Ended => prop_assert!(there),
                }
                there = notice.news != News::Ended;
            }
            prop_assert!(alerts.all().len() <= ALERTS_KEPT);
        }
    }
}
