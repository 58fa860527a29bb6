//! The life of a breaker, fact by fact.

use super::*;
use crate::engine::RequestScope;

pub(super) const NOW: Timestamp = Timestamp(1_000_000_000);
pub(super) const POLICY: BreakerPolicy = BreakerPolicy::DEFAULT;

pub(super) fn breaker() -> Breaker {
    Breaker::new("example", POLICY, NOW)
}

pub(super) fn after(seconds: u64) -> Timestamp {
    NOW.after(Duration::from_secs(seconds))
}

pub(super) fn item(no: u64) -> Subject {
    Subject::Item(format!("work/{no}"))
}

pub(super) fn failure() -> Failure {
    Failure::new(Cause::Server, "503 from example")
}

fn permit(breaker: &mut Breaker, now: Timestamp) -> Permit {
    match breaker.admit(now) {
        (Admission::Go(permit), _) => permit,
        (other, _) => panic!("{other:?}"),
    }
}

pub(super) fn fail(breaker: &mut Breaker, subject: &Subject, now: Timestamp) -> Option<Change> {
    let permit = permit(breaker, now);
    breaker.failed(permit, subject, &failure(), now)
}

pub(super) fn succeed(breaker: &mut Breaker, now: Timestamp) -> Option<Change> {
    let permit = permit(breaker, now);
    breaker.succeeded(permit, now)
}

/// One that five failures have just opened.
pub(super) fn opened() -> Breaker {
    let mut breaker = breaker();
    let changes: Vec<_> = (0..5).filter_map(|no| fail(&mut breaker, &item(no), NOW)).collect();
    assert_eq!(changes.len(), 1, "{changes:?}");
    breaker
}

#[test]
fn five_different_items_in_a_row_open_it() {
    let breaker = opened();

    assert_eq!(breaker.phase(), Phase::Open);
    assert_eq!(breaker.until(), Some(after(60)));
    let change = breaker.last_change().unwrap();
    assert_eq!((change.from, change.to), (Phase::Closed, Phase::Open));
    assert_eq!(change.severity, Severity::Critical);
    assert_eq!(change.why, "5 failures in a row: 503 from example");
}

#[test]
fn one_poison_item_never_opens_it() {
    let mut breaker = breaker();

    let changes = (0..1000).filter_map(|second| fail(&mut breaker, &item(7), after(second)));

    assert_eq!(changes.count(), 0);
    assert_eq!(breaker.failures_in_a_row(), 1);
}

#[test]
fn each_failure_of_the_service_itself_counts() {
    let mut breaker = breaker();

    let changes: Vec<_> =
        (0..5).filter_map(|_| fail(&mut breaker, &Subject::Service, NOW)).collect();

    assert_eq!(changes.len(), 1);
}

#[test]
fn a_success_between_them_breaks_the_row() {
    let mut breaker = breaker();
    for no in 0..4 {
        assert_eq!(fail(&mut breaker, &item(no), NOW), None);
    }
    succeed(&mut breaker, NOW);

    assert!((4..8).all(|no| fail(&mut breaker, &item(no), NOW).is_none()));
}

#[test]
fn a_slow_source_that_fails_every_other_time_opens_it_by_its_share() {
    let mut breaker = breaker();
    let mut opened = None;
    for call in 0..40 {
        let now = after(call * 25);
        if call % 2 == 0 {
            succeed(&mut breaker, now);
        } else if let Some(change) = fail(&mut breaker, &item(call), now) {
            opened = Some((call, change.why));
            break;
        }
    }

    assert_eq!(opened, Some((19, "10 of 20 calls failed: 503 from example".to_owned())));
}

#[test]
fn a_fast_source_is_judged_by_its_last_hundred_calls() {
    let mut breaker = breaker();
    for _ in 0..10_000 {
        succeed(&mut breaker, NOW);
    }

    let opened = (0..400).position(|call| {
        let now = after(1);
        if call % 2 == 0 {
            succeed(&mut breaker, now).is_some()
        } else {
            fail(&mut breaker, &item(call), now).is_some()
        }
    });

    assert_eq!(opened, Some(99));
}

#[test]
fn what_is_older_than_the_window_is_forgotten() {
    let mut breaker = breaker();
    for call in 0..19 {
        if call % 2 == 0 {
            fail(&mut breaker, &item(call), NOW);
        } else {
            succeed(&mut breaker, NOW);
        }
    }
    assert_eq!(breaker.share(after(599)), Share { failed: 10, calls: 19 });

    assert_eq!(fail(&mut breaker, &item(99), after(600)), None);

    assert_eq!(breaker.share(after(600)), Share { failed: 1, calls: 1 });
}

#[test]
fn while_it_is_open_nothing_goes_through_and_then_one_call_does() {
    let mut breaker = opened();
    assert_eq!(breaker.admit(after(59)), (Admission::Shut { until: Some(after(60)) }, None));
    assert_eq!(breaker.statistics().rejected, 1);

    let (first, change) = breaker.admit(after(60));
    let (second, none) = breaker.admit(after(60));

    assert!(matches!(first, Admission::Go(_)), "{first:?}");
    assert_eq!(second, Admission::Busy);
    assert_eq!(none, None);
    let change = change.unwrap();
    assert_eq!((change.from, change.to), (Phase::Open, Phase::HalfOpen));
    assert_eq!(change.severity, Severity::Warning);
}

#[test]
fn three_successes_one_after_the_other_close_it() {
    let mut breaker = opened();
    assert_eq!(succeed(&mut breaker, after(60)), None);
    assert_eq!(succeed(&mut breaker, after(61)), None);

    let change = succeed(&mut breaker, after(62)).unwrap();

    assert_eq!((change.from, change.to), (Phase::HalfOpen, Phase::Closed));
    assert_eq!(change.severity, Severity::Info);
    assert_eq!(change.why, "3 successes in a row");
    assert!((0..4).all(|no| fail(&mut breaker, &item(no), after(63)).is_none()));
}

#[test]
fn a_failure_while_it_is_tried_opens_it_for_twice_as_long_up_to_a_limit() {
    let mut breaker = opened();
    let mut now = after(60);
    let mut waits = Vec::new();
    for _ in 0..6 {
        let change = fail(&mut breaker, &Subject::Service, now).unwrap();
        assert_eq!((change.from, change.to), (Phase::HalfOpen, Phase::Open));
        assert_eq!(change.severity, Severity::Critical);
        let until = breaker.until().unwrap();
        waits.push(until.since(now).as_secs());
        now = until;
    }

    assert_eq!(waits, [120, 240, 480, 600, 600, 600]);
    for _ in 0..3 {
        succeed(&mut breaker, now);
    }
    for no in 0..5 {
        fail(&mut breaker, &item(no), now);
    }
    assert_eq!(breaker.until(), Some(now.after(POLICY.recovery_timeout)), "closed, it begins anew");
}

#[test]
fn items_that_fail_in_any_weather_do_not_open_it_again() {
    let mut breaker = opened();
    succeed(&mut breaker, after(60));

    for no in [0, 1, 2, 3, 4, 99, 99, 0] {
        assert_eq!(fail(&mut breaker, &item(no), after(61)), None, "{no}");
    }
    assert_eq!(succeed(&mut breaker, after(62)), None);
    assert_eq!(fail(&mut breaker, &item(100), after(63)), None, "one new item is its own affair");

    let change = fail(&mut breaker, &item(101), after(64)).unwrap();
    assert_eq!((change.to, &*change.why), (Phase::Open, "still failing: 503 from example"));
    let mut again = Breaker::recall("example", POLICY, &breaker.memory(), after(64));
    for no in [0, 99, 100, 101] {
        assert_eq!(fail(&mut again, &item(no), after(64 + 120)), None, "{no} after a restart");
    }
}

#[test]
fn the_end_of_a_call_from_before_it_opened_neither_closes_nor_opens_it() {
    let mut breaker = breaker();
    let early: Vec<_> = (0..8).map(|_| permit(&mut breaker, NOW)).collect();
    for no in 0..5 {
        fail(&mut breaker, &item(no), NOW);
    }
    assert_eq!(breaker.succeeded(early[0], after(1)), None);
    assert_eq!(breaker.phase(), Phase::Open);
    let probe = permit(&mut breaker, after(60));

    for late in &early[1..5] {
        assert_eq!(breaker.succeeded(*late, after(61)), None);
    }
    assert_eq!(breaker.failed(early[5], &item(9), &failure(), after(61)), None);

    assert_eq!(breaker.phase(), Phase::HalfOpen);
    assert_eq!(breaker.admit(after(61)).0, Admission::Busy, "the probe is still out");
    assert_eq!(breaker.succeeded(probe, after(62)), None);
    assert_eq!(breaker.successes_in_a_row(), 1);
}

#[test]
fn a_probe_that_is_given_up_or_says_nothing_lets_the_next_one_try() {
    let mut breaker = opened();
    let first = permit(&mut breaker, after(60));
    breaker.dropped(first);
    let second = permit(&mut breaker, after(60));
    breaker.said_nothing(second);

    assert!(matches!(breaker.admit(after(60)).0, Admission::Go(_)));
    assert_eq!(breaker.phase(), Phase::HalfOpen);
}

#[test]
fn what_a_person_opens_stays_open_until_a_person_closes_it() {
    let mut breaker = breaker();
    let change = breaker.obey(Order::Open { until: None }, NOW).unwrap();
    assert_eq!((change.to, change.severity), (Phase::Open, Severity::Critical));

    let year = after(365 * 86_400);
    assert_eq!(breaker.admit(year).0, Admission::Shut { until: None });
    assert_eq!(breaker.obey(Order::Try, year), None);
    assert_eq!(breaker.obey(Order::Open { until: None }, year), None, "it is open already");

    assert_eq!(breaker.obey(Order::Close, year).map(|change| change.to), Some(Phase::Closed));
    assert!(matches!(breaker.admit(year).0, Admission::Go(_)));
}

#[test]
fn what_a_person_opens_for_a_while_lets_a_call_try_afterwards() {
    let mut breaker = breaker();
    breaker.obey(Order::Open { until: Some(after(7200)) }, NOW);

    assert_eq!(breaker.admit(after(7199)).0, Admission::Shut { until: Some(after(7200)) });
    assert!(matches!(breaker.admit(after(7200)).0, Admission::Go(_)));
    assert_eq!(breaker.phase(), Phase::HalfOpen);
}

#[test]
fn a_reset_forgets_what_was_counted() {
    let mut breaker = opened();

    let change = breaker.obey(Order::Reset, after(1)).unwrap();

    assert_eq!(change.to, Phase::Closed);
    assert_eq!(breaker.statistics(), Statistics::default());
    assert_eq!(breaker.last_failure(), None);
    assert_eq!(breaker.counted_since(), after(1));
    for no in 0..4 {
        fail(&mut breaker, &item(no), after(1));
    }
    let generation = breaker.generation();
    assert_eq!(breaker.obey(Order::Reset, after(2)), None, "it was closed");
    assert_ne!(breaker.generation(), generation, "others must see it");
    assert_eq!(breaker.failures_in_a_row(), 0);
}

#[test]
fn a_person_who_asks_for_the_work_now_need_not_wait() {
    let mut breaker = opened();

    assert_eq!(breaker.obey(Order::Try, after(1)).map(|change| change.to), Some(Phase::HalfOpen));

    assert!(matches!(breaker.admit(after(1)).0, Admission::Go(_)));
}

#[test]
fn an_open_breaker_stays_open_over_a_restart_until_its_own_time() {
    let mut breaker = Breaker::recall("example", POLICY, &opened().memory(), after(30));

    assert_eq!(breaker.admit(after(59)).0, Admission::Shut { until: Some(after(60)) });
    assert!(matches!(breaker.admit(after(60)).0, Admission::Go(_)));
    assert_eq!(breaker.last_change().map(|change| change.to), Some(Phase::HalfOpen));
}

#[test]
fn a_probe_that_died_with_its_process_is_sent_again() {
    let mut breaker = opened();
    succeed(&mut breaker, after(60));
    let _out = permit(&mut breaker, after(61));

    let mut again = Breaker::recall("example", POLICY, &breaker.memory(), after(62));

    assert_eq!(again.successes_in_a_row(), 1);
    assert!(matches!(again.admit(after(62)).0, Admission::Go(_)));
}

#[test]
fn an_old_count_counts_for_less_after_a_restart() {
    let mut breaker = breaker();
    for no in 0..4 {
        fail(&mut breaker, &item(no), NOW);
    }
    let memory = breaker.memory();

    let counts = [0, 200, 400, 599, 600].map(|seconds| {
        Breaker::recall("example", POLICY, &memory, after(seconds)).failures_in_a_row()
    });

    assert_eq!(counts, [4, 2, 1, 0, 0]);
}

#[test]
fn a_clock_that_was_set_back_a_day_does_not_keep_it_open_for_a_day() {
    let mut breaker = opened();
    let set_back = |seconds: i64| Timestamp(NOW.0 - seconds * 1000);

    assert!(matches!(breaker.admit(set_back(10)).0, Admission::Shut { .. }));
    assert_eq!(breaker.shut(set_back(86_400)), None);
    assert!(matches!(breaker.admit(set_back(86_400)).0, Admission::Go(_)));
}

/// Lets a call fail; returns whether it was said beforehand that this would open the breaker.
fn foreseen(breaker: &mut Breaker, subject: &Subject, now: Timestamp) -> bool {
    let permit = permit(breaker, now);
    let before = breaker.clone();
    let would_open = breaker.would_open(permit, subject, &failure(), now);
    assert_eq!(*breaker, before, "a question changes nothing");
    let change = breaker.failed(permit, subject, &failure(), now);
    assert_eq!(would_open, change.is_some(), "{subject:?}: {change:?}");
    would_open
}

#[test]
fn it_says_beforehand_which_failure_would_open_it() {
    let mut by_its_row = breaker();
    let row = [0, 1, 1, 2, 3, 4].map(|no| foreseen(&mut by_its_row, &item(no), NOW));
    assert_eq!(row, [false, false, false, false, false, true]);

    let mut by_its_share = breaker();
    let foreseen_at = (0..10).position(|no| {
        succeed(&mut by_its_share, NOW);
        foreseen(&mut by_its_share, &item(no), NOW)
    });
    assert_eq!(foreseen_at, Some(9));

    let mut half_open = opened();
    let tried = [item(0), item(8), item(8), item(9)];
    let tried = tried.map(|subject| foreseen(&mut half_open, &subject, after(60)));
    assert_eq!(tried, [false, false, false, true], "two that had not failed before");
    let until = half_open.until().unwrap();
    assert!(foreseen(&mut half_open, &Subject::Service, until));
}

#[test]
fn a_late_failure_would_open_nothing() {
    let mut breaker = breaker();
    let late = permit(&mut breaker, NOW);
    for no in 0..5 {
        fail(&mut breaker, &item(no), NOW);
    }

    assert!(!breaker.would_open(late, &Subject::Service, &failure(), after(1)), "it is open");
    let _probe = permit(&mut breaker, after(60));
    assert!(!breaker.would_open(late, &Subject::Service, &failure(), after(61)));
}

#[test]
fn absolved_a_closed_breaker_forgets_what_failed() {
    let mut breaker = breaker();
    for no in 0..4 {
        fail(&mut breaker, &item(no), NOW);
    }
    let permit = permit(&mut breaker, after(1));

    assert_eq!(breaker.absolved(permit, after(1)), None);

    assert_eq!(breaker.failures_in_a_row(), 0);
    assert_eq!(
        breaker.share(after(1)),
        Share { failed: 0, calls: 1 },
        "only the call that shows it"
    );
    let statistics = breaker.statistics();
    assert_eq!((statistics.calls, statistics.failures, statistics.successes), (5, 4, 1));
    assert!((0..4).all(|no| fail(&mut breaker, &item(no), after(2)).is_none()));
    assert!(fail(&mut breaker, &item(4), after(2)).is_some(), "and it counts on");
}

#[test]
fn absolved_a_half_open_breaker_has_one_more_success() {
    let mut breaker = opened();
    let absolve = |breaker: &mut Breaker, second: u64| {
        let permit = permit(breaker, after(second));
        breaker.absolved(permit, after(second))
    };

    assert_eq!(absolve(&mut breaker, 60), None);
    assert_eq!((breaker.phase(), breaker.successes_in_a_row()), (Phase::HalfOpen, 1));
    assert_eq!(succeed(&mut breaker, after(61)), None);
    let change = absolve(&mut breaker, 62).unwrap();

    assert_eq!((change.to, &*change.why), (Phase::Closed, "3 successes in a row"));
}

#[test]
fn only_what_a_provider_is_to_blame_for_counts_against_it() {
    let ill = |scope| {
        let causes = Cause::ALL.into_iter();
        let ill = causes.filter(|cause| Bearing::on_provider(*cause, scope) == Bearing::Ill);
        ill.map(Cause::name).collect::<Vec<_>>().join(" ")
    };

    assert_eq!(ill(RequestScope::Item), "server connection tls timeout truncated unknown");
    assert_eq!(
        ill(RequestScope::Listing),
        "not_found server connection tls timeout truncated unknown"
    );
    assert_eq!(Bearing::on_provider(Cause::NotFound, RequestScope::Item), Bearing::Well);
    let storage = Cause::ALL.into_iter().filter(|c| Bearing::on_storage(*c) == Bearing::Ill);
    assert_eq!(storage.collect::<Vec<_>>(), [Cause::Storage, Cause::Ledger]);
}

#[test]
fn a_long_opening_is_told_from_its_beginning() {
    let mut breaker = opened();
    let mut now = NOW;
    for _ in 0..40 {
        now = breaker.until().unwrap();
        assert!(fail(&mut breaker, &Subject::Service, now).is_some());
    }

    let openings = breaker.memory().openings();

    assert_eq!(openings.len(), 1);
    assert_eq!((openings[0].at, openings[0].no, openings[0].closing.is_some()), (NOW, 1, false));
    assert_eq!(openings[0].why, "5 failures in a row: 503 from example");
    assert!(breaker.obey(Order::Reset, now).is_some());
    let closing = breaker.memory().openings().remove(0).closing.unwrap();
    assert_eq!((closing.at, is_by_hand(&closing.why)), (now, true));
}

#[test]
fn a_file_of_a_program_that_kept_only_the_last_change_tells_that_one() {
    let memory = opened().memory();
    let older = Memory { changes: Vec::new(), ..memory.clone() };

    assert_eq!(older.openings(), memory.openings());
    let breaker = Breaker::recall("example", POLICY, &older, NOW);
    assert_eq!(breaker.memory().openings(), memory.openings());
    assert_eq!(Memory::default().openings(), []);
}

#[test]
fn what_it_remembers_of_its_changes_is_small_whatever_a_server_says() {
    let (mut breaker, mut now) = (breaker(), NOW);
    let failure = Failure::new(Cause::Server, "\u{1b}".repeat(10_000));
    for _ in 0..20 {
        for _ in 0..5 {
            let permit = permit(&mut breaker, now);
            drop(breaker.failed(permit, &Subject::Service, &failure, now));
        }
        now = breaker.until().unwrap();
        assert_eq!((0..3).filter_map(|_| succeed(&mut breaker, now)).count(), 1);
    }

    let memory = breaker.memory();

    let bytes = serde_json::to_vec_pretty(&memory.changes).unwrap().len();
    assert!((1_000..5_000).contains(&bytes), "{bytes} bytes");
    assert!(memory.last_change.unwrap().why.contains("successes in a row"));
}
