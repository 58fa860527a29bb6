//! What is told of spells that nobody saw, by example.

use super::*;

const NOW: Timestamp = Timestamp(1_772_874_303_000);
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const CRITICAL: Severity = Severity::Critical;

fn concern() -> Concern {
    Concern {
        cause: Cause::new("provider", "unwell"),
        about: "example".to_owned(),
        severity: CRITICAL,
        message: "left alone".to_owned(),
        advice: None,
    }
}

/// One that ended a minute after it began; `began` counts from NOW.
fn spell(no: u64, began: i64) -> Spell {
    let began = Timestamp(NOW.0 + began);
    let ending = Ending { at: Timestamp(began.0 + MINUTE), severity: Severity::Info, since: None };
    Spell { concern: concern(), no, began, ended: Some(ending), follows: false }
}

fn lasting(no: u64, began: i64) -> Spell {
    Spell { ended: None, ..spell(no, began) }
}

/// Looks at these spells; the thing is amiss as long as the last of them lasts.
fn look(alerts: &mut Alerts, spells: &[Spell], ms: i64) -> Vec<Notice> {
    let lasts = spells.last().is_some_and(|last| last.ended.is_none());
    look_beside(alerts, lasts.then(concern), spells, ms)
}

fn look_beside(
    alerts: &mut Alerts,
    seen: Option<Concern>,
    spells: &[Spell],
    ms: i64,
) -> Vec<Notice> {
    let concerns = seen.into_iter().collect();
    let subjects = ["example".to_owned()].into();
    let looked = Looked { concerns, spells: spells.to_vec(), subjects, ..Looked::default() };
    alerts.note(&looked, Timestamp(NOW.0 + ms))
}

/// The same in words: `passed info`, and so on.
fn told(alerts: &mut Alerts, spells: &[Spell], ms: i64) -> Vec<String> {
    words(&look(alerts, spells, ms))
}

fn words(notices: &[Notice]) -> Vec<String> {
    let word = |notice: &Notice| format!("{} {}", notice.news.name(), notice.severity().name());
    notices.iter().map(word).collect()
}

/// A book that has listened since NOW.
fn listening() -> Alerts {
    let mut alerts = Alerts::default();
    assert_eq!(told(&mut alerts, &[], 0), [""; 0]);
    alerts
}

/// What a restart leaves of it.
fn restarted(alerts: &Alerts) -> Alerts {
    serde_json::from_value(serde_json::to_value(alerts).unwrap()).unwrap()
}

#[test]
fn one_that_nobody_saw_is_told_once_with_its_times_and_how_bad_it_was() {
    let mut alerts = listening();

    let notices = look(&mut alerts, &[spell(1, MINUTE)], 5 * MINUTE);

    assert_eq!((notices.len(), notices[0].news), (1, News::Passed));
    let alert = &notices[0].alert;
    assert_eq!((alert.severity, alert.worst), (Severity::Info, CRITICAL));
    assert_eq!(alert.raised_at, Timestamp(NOW.0 + MINUTE));
    assert_eq!(alert.ended_at, Some(Timestamp(NOW.0 + 2 * MINUTE)));
    assert_eq!(alerts.all(), std::slice::from_ref(alert));
    for ms in [6 * MINUTE, 2 * HOUR] {
        alerts = restarted(&alerts);
        assert_eq!(told(&mut alerts, &[spell(1, MINUTE)], ms), [""; 0]);
    }
}

#[test]
fn all_since_the_last_look_are_one_notice() {
    let mut alerts = listening();
    let spells = [spell(1, MINUTE), spell(4, 10 * MINUTE), spell(7, 3 * HOUR)];

    let notices = look(&mut alerts, &spells, 4 * HOUR);

    assert_eq!((notices.len(), notices[0].alert.times), (1, 3));
    assert_eq!(notices[0].alert.raised_at, spells[0].began);
    assert_eq!(notices[0].alert.ended_at, Some(spells[2].ended.as_ref().unwrap().at));
}

#[test]
fn those_that_come_and_go_are_told_once_an_hour() {
    let mut alerts = listening();
    let (mut spells, mut all) = (Vec::new(), Vec::new());
    for no in 0..144 {
        let began = i64::try_from(no).unwrap() * 10 * MINUTE + MINUTE;
        spells.push(spell(no * 3 + 1, began));
        all.extend(told(&mut alerts, &spells, began + 5 * MINUTE));
    }

    assert_eq!(all, ["passed info"; 24]);
    assert_eq!((alerts.all().len(), alerts.all()[0].times), (24, 6));
}

#[test]
fn one_that_lasts_is_told_at_once_though_another_was_told_within_the_hour() {
    let mut alerts = listening();
    let mut at = |spells: &[Spell], minutes| told(&mut alerts, spells, minutes * MINUTE);
    let (first, second) = (spell(1, MINUTE), spell(4, 6 * MINUTE));

    assert_eq!(at(std::slice::from_ref(&first), 5), ["passed info"]);
    assert_eq!(at(&[first.clone(), lasting(4, 6 * MINUTE)], 7), ["raised critical"]);
    assert_eq!(at(&[first.clone(), second.clone()], 8), ["ended info"]);
    assert_eq!(at(&[first, second, spell(7, 9 * MINUTE)], 12), [""; 0]);
    assert_eq!((alerts.all().len(), alerts.all()[0].times), (1, 3));
    assert_eq!((alerts.all()[0].severity, alerts.all()[0].worst), (CRITICAL, CRITICAL));
}

#[test]
fn what_was_told_while_it_lasted_ends_and_is_not_told_as_passed() {
    let mut alerts = listening();
    let mut at = |spells: &[Spell], ms| told(&mut alerts, spells, ms);
    let over = [spell(1, MINUTE), spell(4, 5 * HOUR)];

    assert_eq!(at(&[lasting(1, MINUTE)], 2 * MINUTE), ["raised critical"]);
    // Another began and ended before it was looked again.
    assert_eq!(at(&over, 6 * HOUR), ["ended info"]);
    assert_eq!(at(&over, 8 * HOUR), [""; 0]);
}

#[test]
fn one_that_was_worse_than_what_is_told_of_it_is_told_beside_that() {
    let warning = || Some(Concern { severity: Severity::Warning, ..concern() });
    let mut alerts = listening();
    let mut at = |seen, spells: &[Spell], minutes: i64| {
        look_beside(&mut alerts, seen, spells, minutes * MINUTE)
    };
    let spells = [1, 31, 91].map(|minutes: u64| spell(minutes, minutes.cast_signed() * MINUTE));

    assert_eq!(words(&at(warning(), &spells[..1], 5)), ["raised warning", "passed info"]);
    let beside = at(warning(), &spells[..2], 35);
    assert_eq!(beside, [], "the hour is not over");
    let passed = at(warning(), &spells, 95).remove(0);
    assert_eq!((passed.news, passed.alert.raised_at), (News::Passed, spells[2].began));
    assert_eq!(words(&at(Some(concern()), &spells, 100)), ["worse critical"]);
    let ended = at(None, &spells, 105).remove(0);
    assert_eq!((ended.news, ended.alert.times, ended.alert.worst), (News::Ended, 4, CRITICAL));
    assert_eq!(at(warning(), &spells, 110), []);
    assert_eq!(alerts.all().len(), 1);
}

#[test]
fn after_an_hour_of_silence_it_is_told_also_where_one_stood_untold_before_it() {
    let mut alerts = listening();
    let mut at = |spells: &[Spell], minutes| told(&mut alerts, spells, minutes * MINUTE);
    let spells = [1, 30, 63].map(|minutes: u64| spell(minutes, minutes.cast_signed() * MINUTE));

    assert_eq!(at(&[lasting(1, MINUTE)], 1), ["raised critical"]);
    assert_eq!(at(&spells[..1], 5), ["ended info"]);
    assert_eq!(at(&[spells[0].clone(), lasting(30, 30 * MINUTE)], 30), [""; 0]);
    assert_eq!(at(&spells, 65), ["passed info"]);
    assert_eq!(at(&[&spells[..], &[lasting(70, 70 * MINUTE)]].concat(), 70), ["raised critical"]);
}

#[test]
fn one_that_a_person_ended_says_so_whether_it_was_seen_or_not() {
    let by_hand = |no, began| {
        let mut spell = spell(no, began);
        spell.ended.as_mut().unwrap().since = Some("a person closed it".to_owned());
        spell
    };
    let mut alerts = listening();

    let passed = look(&mut alerts, &[by_hand(1, MINUTE)], 5 * MINUTE);
    let raised = look(&mut alerts, &[by_hand(1, MINUTE), lasting(4, 3 * HOUR)], 3 * HOUR + 1);
    let ended = look(&mut alerts, &[by_hand(1, MINUTE), by_hand(4, 3 * HOUR)], 4 * HOUR);

    let since = |notices: &[Notice]| notices[0].alert.ended_since.clone();
    assert_eq!(since(&passed).as_deref(), Some("a person closed it"));
    assert_eq!((raised[0].news, since(&raised)), (News::Raised, None));
    assert_eq!(since(&ended).as_deref(), Some("a person closed it"));
}

#[test]
fn what_was_over_before_anybody_listened_is_history() {
    let mut alerts = Alerts::default();
    let history = [spell(1, -48 * HOUR), spell(4, -5 * MINUTE)];
    assert_eq!(told(&mut alerts, &history, 0), [""; 0]);
    assert_eq!(told(&mut alerts, &history, 2 * HOUR), [""; 0]);

    // Its file could not be read until now.
    let mut late = listening();
    assert_eq!(told(&mut late, &[spell(4, -5 * MINUTE)], HOUR), [""; 0]);

    let with_news = [&history[..], &[spell(7, 3 * HOUR)]].concat();
    assert_eq!(told(&mut alerts, &with_news, 4 * HOUR), ["passed info"]);
    assert_eq!(alerts.all()[0].raised_at, Timestamp(NOW.0 + 3 * HOUR));
}

#[test]
fn however_long_the_monitor_was_away_it_is_told_what_it_missed() {
    let alerts = listening();

    let told = told(&mut restarted(&alerts), &[spell(1, HOUR)], 72 * HOUR);

    assert_eq!(told, ["passed info"]);
}

#[test]
fn a_file_that_is_begun_anew_or_comes_back_is_taken_as_it_is() {
    let mut alerts = listening();
    let old = [spell(1, MINUTE), spell(40, 10 * MINUTE)];
    assert_eq!(told(&mut alerts, &old, HOUR), ["passed info"]);

    assert_eq!(told(&mut alerts, &[], 2 * HOUR), [""; 0]);
    assert_eq!(told(&mut alerts, &[spell(1, 3 * HOUR)], 4 * HOUR), ["passed info"]);
    // Somebody has put the old one back.
    assert_eq!(told(&mut alerts, &old, 8 * HOUR), [""; 0]);
    assert_eq!(told(&mut alerts, &[spell(41, 9 * HOUR)], 10 * HOUR), ["passed info"]);
}

#[test]
fn a_clock_that_is_set_back_neither_repeats_nor_hides() {
    const DAY: i64 = 24 * HOUR;
    let mut alerts = listening();
    let first = spell(1, DAY);
    assert_eq!(told(&mut alerts, std::slice::from_ref(&first), DAY + HOUR), ["passed info"]);

    assert_eq!(told(&mut alerts, std::slice::from_ref(&first), 0), [""; 0]);
    let both = [first, spell(4, 2 * HOUR)];
    assert_eq!(told(&mut alerts, &both, 3 * HOUR), ["passed info"]);
    for hours in [4, 20, 25, 30] {
        assert_eq!(told(&mut alerts, &both, hours * HOUR), [""; 0]);
    }
}

#[test]
fn who_began_to_listen_on_a_clock_that_was_ahead_hears_what_comes_after_it_was_set() {
    let mut alerts = Alerts::default();
    for hours in [24, 0] {
        assert_eq!(told(&mut alerts, &[], hours * HOUR), [""; 0]);
    }

    assert_eq!(told(&mut alerts, &[spell(1, HOUR)], 2 * HOUR), ["passed info"]);
}

#[test]
fn what_follows_from_what_is_told_is_never_told() {
    let mut alerts = listening();
    let follows = Spell { follows: true, ..spell(1, MINUTE) };

    assert_eq!(told(&mut alerts, &[follows], 5 * MINUTE), [""; 0]);
    assert_eq!(told(&mut alerts, &[spell(1, MINUTE)], 6 * MINUTE), [""; 0]);
    assert_eq!(alerts.all(), []);
}

#[test]
fn a_book_of_a_program_that_heard_nothing_begins_to_listen() {
    let mut older = serde_json::to_value(listening()).unwrap();
    older.as_object_mut().unwrap().remove("heard");

    let mut alerts: Alerts = serde_json::from_value(older).unwrap();

    assert_eq!(told(&mut alerts, &[spell(1, MINUTE)], HOUR), [""; 0]);
    assert_eq!(told(&mut alerts, &[spell(4, 2 * HOUR)], 3 * HOUR), ["passed info"]);
}
