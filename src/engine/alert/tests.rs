//! What is told, by example.

use super::*;

const NOW: Timestamp = Timestamp(1_772_874_303_000);
const HOUR: i64 = 3_600_000;

fn concern(severity: Severity) -> Concern {
    Concern {
        cause: Cause::new("system", "disk_full"),
        about: "downloads".to_owned(),
        severity,
        message: "it is nearly full".to_owned(),
        advice: None,
    }
}

/// What is told when this is seen: `raised warning`, and so on.
fn told(alerts: &mut Alerts, seen: Option<Severity>, now: Timestamp) -> Vec<String> {
    let concerns = seen.map(concern).into_iter().collect();
    let subjects = ["downloads".to_owned()].into();
    let looked = Looked { concerns, subjects, ..Looked::default() };
    words(&alerts.note(&looked, now))
}

fn words(notices: &[Notice]) -> Vec<String> {
    let word = |notice: &Notice| format!("{} {}", notice.news.name(), notice.alert.severity.name());
    notices.iter().map(word).collect()
}

#[test]
fn a_cause_that_lasts_is_told_once_when_it_gets_worse_and_when_it_ends() {
    let (mut alerts, mut all) = (Alerts::default(), Vec::new());
    let warning = std::iter::repeat_n(Some(Severity::Warning), 500);
    let critical = std::iter::repeat_n(Some(Severity::Critical), 499);

    for (minute, seen) in warning.chain(critical).chain([None, None]).enumerate() {
        let now = Timestamp(NOW.0 + i64::try_from(minute).unwrap() * 60_000);
        all.extend(told(&mut alerts, seen, now));
    }

    assert_eq!(all, ["raised warning", "worse critical", "ended critical"]);
    assert_eq!(alerts.all().len(), 1);
}

#[test]
fn what_comes_and_goes_is_told_once_an_hour_and_what_stands_then() {
    let mut alerts = Alerts::default();
    let mut at = |ms: i64, seen| told(&mut alerts, seen, Timestamp(NOW.0 + ms));
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
    assert_eq!(alerts.all()[0].times, 3);
}

#[test]
fn up_and_down_within_the_hour_is_told_once_and_after_it_again() {
    let mut alerts = Alerts::default();
    let mut at = |ms: i64, seen| told(&mut alerts, Some(seen), Timestamp(NOW.0 + ms));
    let (warning, critical) = (Severity::Warning, Severity::Critical);

    assert_eq!(at(0, warning), ["raised warning"]);
    assert_eq!(at(1, critical), ["worse critical"]);
    assert_eq!(at(2, warning), [""; 0]);
    assert_eq!(at(3, critical), [""; 0]);
    assert_eq!(at(HOUR + 1, warning), [""; 0]);
    assert_eq!(at(HOUR + 2, critical), ["worse critical"]);
}

#[test]
fn a_clock_that_steps_a_day_makes_neither_a_storm_nor_silence() {
    const DAY: i64 = 24 * HOUR;
    let mut alerts = Alerts::default();
    let mut at = |ms: i64, seen| told(&mut alerts, seen, Timestamp(NOW.0 + ms));
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
fn what_cannot_be_looked_at_neither_ends_nor_begins() {
    let mut alerts = Alerts::default();
    assert_eq!(told(&mut alerts, Some(Severity::Critical), NOW), ["raised critical"]);
    let subjects = ["downloads".to_owned()].into();

    for by in ["system", "system.disk_full"] {
        for about in ["downloads", ""] {
            let blind = [(by.to_owned(), about.to_owned())].into();
            let looked = Looked {
                blind,
                subjects: std::collections::BTreeSet::clone(&subjects),
                ..Looked::default()
            };
            assert_eq!(alerts.clone().note(&looked, NOW), []);
        }
    }
    let blind = [("system.memory_low".to_owned(), String::new())].into();
    let looked = Looked { blind, subjects, ..Looked::default() };
    assert_eq!(words(&alerts.note(&looked, NOW)), ["ended critical"], "another cause was not seen");
}

#[test]
fn a_look_that_fails_does_not_take_anything_out_of_the_configuration() {
    let mut alerts = Alerts::default();
    assert_eq!(told(&mut alerts, Some(Severity::Critical), NOW), ["raised critical"]);
    let blind = [("system".to_owned(), String::new())].into();

    assert_eq!(alerts.note(&Looked { blind, ..Looked::default() }, NOW), []);
}

#[test]
fn what_is_taken_out_of_the_configuration_ends_and_says_so() {
    let mut alerts = Alerts::default();
    assert_eq!(told(&mut alerts, Some(Severity::Critical), NOW), ["raised critical"]);
    let blind = [("system".to_owned(), "downloads".to_owned())].into();

    let notices = alerts.note(&Looked { blind, ..Looked::default() }, NOW);

    assert_eq!(words(&notices), ["ended critical"]);
    let why = notices[0].alert.ended_since.as_deref();
    assert_eq!(why, Some("it is no longer in the configuration"));
}

#[test]
fn a_hundred_that_are_over_are_kept_beside_all_that_are_there() {
    let many = |of: usize| -> Vec<Concern> {
        let about = |no: usize| Concern { about: no.to_string(), ..concern(Severity::Warning) };
        (0..of).map(about).collect()
    };
    let subjects: std::collections::BTreeSet<_> = (0..300).map(|no| no.to_string()).collect();
    let looked =
        |of| Looked { concerns: many(of), subjects: subjects.clone(), ..Looked::default() };
    let mut alerts = Alerts::default();

    assert_eq!(alerts.note(&looked(250), NOW).len(), 250);
    assert_eq!(alerts.note(&looked(150), Timestamp(NOW.0 + HOUR)).len(), 100);
    assert_eq!(alerts.all().len(), 250);
    assert_eq!(alerts.note(&looked(0), Timestamp(NOW.0 + HOUR)).len(), 150);
    assert_eq!(alerts.all().len(), ALERTS_KEPT);
}

#[test]
fn the_book_is_read_back_as_it_was() {
    let mut alerts = Alerts::default();
    assert_eq!(told(&mut alerts, Some(Severity::Critical), NOW), ["raised critical"]);

    let json = serde_json::to_value(&alerts).unwrap();

    assert_eq!(json["alerts"][0]["cause"], "system.disk_full");
    assert_eq!(json["alerts"][0]["severity"], "critical");
    assert_eq!(json["alerts"][0]["raised_at"], "2026-03-07T09:05:03.000Z");
    assert_eq!(serde_json::from_value::<Alerts>(json).unwrap(), alerts);
}
