//! The quota of one scope, request by request.

use super::*;
use crate::engine::ClockStep;

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const MIDDLE: RandomSample = RandomSample(u32::MAX / 2);

fn quota() -> Quota {
    Quota::new(QuotaPolicy::default(), NOW)
}

fn later(seconds: f64) -> Timestamp {
    NOW.after(Duration::from_secs_f64(seconds))
}

/// Sends one request at `now`, which must be admitted.
fn send(quota: &mut Quota, now: Timestamp) -> Ticket {
    match quota.admit(1, now) {
        Admission::Go(ticket) => ticket,
        Admission::Wait { until, why } => panic!("waits until {until}: {why:?}"),
    }
}

fn answer(
    quota: &mut Quota,
    ticket: Ticket,
    outcome: Outcome,
    headers: &[(&str, &str)],
    now: Timestamp,
) -> Option<Hold> {
    let signals = read(headers, &HeaderNames::default(), now);
    quota.answered(ticket, &Reply { outcome, signals: &signals }, now, MIDDLE)
}

fn throttled(quota: &mut Quota, headers: &[(&str, &str)], now: Timestamp) -> Option<Hold> {
    let ticket = send(quota, now);
    answer(quota, ticket, Outcome::Throttled, headers, now)
}

#[test]
fn a_word_of_the_server_is_obeyed_late_rather_than_early() {
    let mut quota = quota();
    let hold = throttled(&mut quota, &[("retry-after", "60")], NOW).expect("it closes");

    assert_eq!(hold.to_string(), "the server said: retry after 60 s");
    assert!(hold.until >= later(61.0) && hold.until <= later(62.0), "{}", hold.until);
    let waits = Admission::Wait { until: hold.until, why: Wait::Held };
    assert_eq!(quota.admit(1, later(60.9)), waits);
}

#[test]
fn the_gate_moves_later_but_never_earlier() {
    let mut quota = quota();
    let tickets = [0, 1, 2].map(|nth| send(&mut quota, later(f64::from(nth) * 0.02)));
    let word = |quota: &mut Quota, ticket, word| {
        answer(quota, ticket, Outcome::Throttled, &[("retry-after", word)], later(1.0))
    };
    assert!(word(&mut quota, tickets[0], "60").is_some());
    assert_eq!(word(&mut quota, tickets[1], "10"), None);
    assert!(word(&mut quota, tickets[2], "90").is_some_and(|hold| hold.until > later(90.0)));
}

#[test]
fn a_long_word_is_obeyed_whole_and_flagged() {
    let mut quota = quota();
    let hold = throttled(&mut quota, &[("retry-after", "86400")], NOW).expect("it closes");

    assert!(hold.exceeds_max_wait);
    assert!(hold.until > later(86_400.0));
}

#[test]
fn after_a_hold_one_request_goes_until_one_succeeds() {
    let mut quota = quota();
    let hold = throttled(&mut quota, &[("retry-after", "5")], NOW).expect("it closes");

    let ticket = send(&mut quota, hold.until);
    assert!(matches!(quota.admit(1, hold.until), Admission::Wait { why: Wait::Proving, .. }));

    answer(&mut quota, ticket, Outcome::Failed, &[], hold.until);
    let ticket = send(&mut quota, hold.until.after(Duration::from_secs(60)));
    let now = hold.until.after(Duration::from_secs(61));
    answer(&mut quota, ticket, Outcome::Accepted, &[], now);
    assert_eq!(quota.standing(now).hold, None);
}

#[test]
fn a_try_that_is_dropped_gives_way_to_another() {
    let mut quota = quota();
    let hold = throttled(&mut quota, &[("retry-after", "5")], NOW).expect("it closes");
    let ticket = send(&mut quota, hold.until);
    quota.dropped(ticket, hold.until);

    let _another = send(&mut quota, hold.until.after(Duration::from_secs(60)));
}

#[test]
fn a_late_success_from_before_the_hold_does_not_end_it() {
    let mut quota = quota();
    let early = send(&mut quota, NOW);
    let hold = throttled(&mut quota, &[("retry-after", "60")], later(0.1)).expect("it closes");
    answer(&mut quota, early, Outcome::Accepted, &[], later(1.0));

    assert_eq!(quota.held(later(2.0)), Some(&hold));
}

#[test]
fn holds_without_a_word_grow_while_they_fail() {
    let mut quota = quota();
    let mut now = NOW;
    let mut holds = Vec::new();
    for _ in 0..10 {
        let hold = throttled(&mut quota, &[], now).expect("it closes");
        holds.push(hold.until.since(now).as_secs());
        now = hold.until;
    }
    assert_eq!(holds, [1, 2, 7, 21, 31, 63, 127, 317, 63, 67]);
}

#[test]
fn a_fixed_rate_is_held_evenly_also_above_a_thousand_per_second() {
    for (rate, seconds, admitted) in [(10.0, 10, 100), (4_000.0, 1, 4_000)] {
        let policy = QuotaPolicy {
            mode: QuotaMode::Fixed,
            cap: Some(Rate::per_second(rate)),
            ..QuotaPolicy::default()
        };
        let mut quota = Quota::new(policy, NOW);
        let mut count = 0;
        for ms in 0..seconds * 1000 {
            let now = Timestamp(NOW.0 + ms);
            while let Admission::Go(_) = quota.admit(1, now) {
                count += 1;
            }
        }
        assert_eq!(count, admitted);
    }
}

#[test]
fn a_heavy_request_takes_the_time_of_its_weight() {
    let policy = QuotaPolicy { cap: Some(Rate::per_second(10.0)), ..QuotaPolicy::default() };
    let mut quota = Quota::new(policy, NOW);
    let Admission::Go(_) = quota.admit(20, NOW) else { panic!("the first goes") };

    assert_eq!(quota.admit(1, NOW), Admission::Wait { until: later(2.0), why: Wait::Paced });
}

#[test]
fn what_the_headers_said_is_known_to_who_only_reads_the_memory() {
    let mut quota = quota();
    let headers = [("ratelimit-policy", "\"day\";q=600;w=60"), ("ratelimit", "\"day\";r=400;t=40")];
    let ticket = send(&mut quota, NOW);
    answer(&mut quota, ticket, Outcome::Accepted, &headers, NOW);
    let ours = quota.standing(NOW);

    let theirs = recalled(&quota, NOW).standing(NOW);

    assert_eq!(theirs.basis, Basis::Headers);
    assert_eq!(theirs.rate, ours.rate);
    let limit = theirs.limits.first().expect("it is remembered");
    assert_eq!((limit.quota, limit.remaining), (Some(600.0), Some(400.0)));
    assert_eq!(limit.window, Some(Duration::from_secs(60)));
}

#[test]
fn one_word_at_the_very_start_does_not_slow_down_what_has_no_limit() {
    let mut quota = quota();
    for _ in 0..5 {
        let ticket = send(&mut quota, NOW);
        answer(&mut quota, ticket, Outcome::Accepted, &[], NOW);
        // The pace of slow start.
        quota.pace = Pace::default();
    }
    let hold = throttled(&mut quota, &[("retry-after", "2")], NOW).expect("it closes");

    let mut latest = 0;
    for ms in 0..30_000 {
        let now = hold.until.after(Duration::from_millis(ms));
        latest = 0;
        while let Admission::Go(ticket) = quota.admit(1, now) {
            answer(&mut quota, ticket, Outcome::Accepted, &[], now);
            latest += 1;
            if latest == 10 {
                break;
            }
        }
    }

    assert_eq!(latest, 10, "half a minute later it is at ten thousand per second");
}

#[test]
fn a_fast_server_that_throttles_nobody_is_reached_in_half_a_second() {
    let mut quota = quota();
    let mut latest = 0;
    for ms in 0..500 {
        let now = Timestamp(NOW.0 + ms);
        latest = 0;
        while let Admission::Go(ticket) = quota.admit(1, now) {
            answer(&mut quota, ticket, Outcome::Accepted, &[], now);
            latest += 1;
            if latest == 100 {
                break;
            }
        }
    }
    assert!(latest >= 16, "{latest} per millisecond");
}

#[test]
fn nothing_left_closes_the_gate_until_the_reset_even_after_a_success() {
    let mut quota = quota();
    let ticket = send(&mut quota, NOW);
    let headers = [
        ("x-ratelimit-remaining", "0"),
        ("x-ratelimit-limit", "60"),
        ("x-ratelimit-reset", "1800000040"),
    ];
    let hold = answer(&mut quota, ticket, Outcome::Accepted, &headers, NOW).expect("it closes");

    assert!(hold.until >= later(41.0) && hold.until <= later(42.0));
    assert_eq!(hold.to_string(), "nothing remains until 2027-01-15T08:00:40.000Z (X-RateLimit-*)");
}

#[test]
fn a_reset_in_a_thousand_years_is_waited_for_no_longer_than_the_limit() {
    for reset in ["33356995200", "4102444800", "3000000"] {
        let mut quota = quota();
        let headers = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", reset)];
        let hold = throttled(&mut quota, &headers, NOW).expect("it closes");
        assert!(hold.until <= later(3602.0), "{reset}: {}", hold.until);
    }
}

#[test]
fn a_server_that_always_says_nothing_remains_is_not_believed_for_long() {
    for reset in ["1800000060", "1799990000", "0"] {
        let mut quota = quota();
        let mut now = NOW;
        let mut sent = 0;
        while now < later(600.0) {
            let headers = [
                ("x-ratelimit-limit", "60"),
                ("x-ratelimit-remaining", "0"),
                ("x-ratelimit-reset", reset),
            ];
            match quota.admit(1, now) {
                Admission::Go(ticket) => {
                    sent += 1;
                    now = now.after(Duration::from_millis(50));
                    answer(&mut quota, ticket, Outcome::Accepted, &headers, now);
                }
                Admission::Wait { until, .. } => now = until,
            }
        }
        assert!(sent > 5_000, "{reset}: {sent} in ten minutes");
    }
}

#[test]
fn a_restart_in_mid_hold_goes_on_until_its_own_deadline() {
    let mut before = quota();
    let hold = throttled(&mut before, &[("retry-after", "60")], NOW).expect("it closes");
    let after = Quota::recall(
        QuotaPolicy::default(),
        &through_json(&before.memory(later(20.0))),
        later(30.0),
    );

    assert_eq!(after.held(later(40.0)), Some(&hold));
}

#[test]
fn a_restart_keeps_the_rate_and_a_series_of_throttles() {
    let mut before = quota();
    let ticket = send(&mut before, NOW);
    answer(&mut before, ticket, Outcome::Accepted, &[], NOW);
    let hold = throttled(&mut before, &[], later(1.0)).expect("it closes");
    let mut between = recalled(&before, later(1.5));
    let ticket = send(&mut between, hold.until);
    answer(&mut between, ticket, Outcome::Accepted, &[], hold.until);

    let learned = between.standing(hold.until);
    assert_eq!((learned.basis, learned.cycles), (Basis::SlowStart, 1), "the first is tried again");
    let after = recalled(&between, hold.until).standing(hold.until);
    assert_eq!((after.rate, after.basis), (learned.rate, Basis::SlowStart));
}

#[test]
fn with_age_what_failed_may_be_tried_again_and_at_last_everything_is_forgotten() {
    let mut quota = quota();
    let hold = throttled(&mut quota, &[], NOW).expect("it closes");
    let ticket = send(&mut quota, hold.until);
    answer(&mut quota, ticket, Outcome::Accepted, &[], hold.until);
    let day = 86_400.0;

    let old = recalled(&quota, later(2.0 * day)).standing(later(2.0 * day));
    assert_eq!((old.basis, old.cycles), (Basis::Learned, 0));
    let forgotten = recalled(&quota, later(40.0 * day)).standing(later(40.0 * day));
    assert_eq!(forgotten.basis, Basis::SlowStart);
}

#[test]
fn a_cached_reply_and_one_older_than_the_newest_change_nothing() {
    let mut quota = quota();
    let tickets = [0.0, 0.02, 0.04].map(|at| send(&mut quota, later(at)));
    let newest = [("ratelimit", "\"a\";r=50;t=60"), ("ratelimit-policy", "\"a\";q=100;w=60")];
    answer(&mut quota, tickets[1], Outcome::Accepted, &newest, later(0.2));
    let known = quota.standing(later(1.0)).limits;

    let old = [("ratelimit", "\"a\";r=0;t=60"), ("ratelimit-policy", "\"a\";q=100;w=60")];
    answer(&mut quota, tickets[0], Outcome::Accepted, &old, later(0.3));
    assert_eq!(quota.standing(later(1.0)).limits, known);
    let cached = [old[0], old[1], ("age", "7")];
    assert_eq!(answer(&mut quota, tickets[2], Outcome::Accepted, &cached, later(0.4)), None);
    assert_eq!(quota.standing(later(1.0)).limits, known);
}

#[test]
fn a_throttle_with_something_left_is_a_second_limit_that_is_learned() {
    let mut quota = quota();
    let headers =
        [("ratelimit", "\"a\";r=500;t=3600"), ("ratelimit-policy", "\"a\";q=1000;w=3600")];
    let ticket = send(&mut quota, NOW);
    answer(&mut quota, ticket, Outcome::Accepted, &headers, NOW);
    assert_eq!(quota.standing(NOW).basis, Basis::Headers);

    let now = later(20.0);
    let hold = throttled(&mut quota, &headers, now).expect("it closes");
    let now = hold.until.after(Duration::from_secs(10));
    let ticket = send(&mut quota, now);
    answer(&mut quota, ticket, Outcome::Accepted, &headers, now);
    assert!(quota.standing(now).estimate.is_some());
}

#[test]
fn the_tightest_of_several_policies_counts_and_the_reserve_is_left() {
    let headers = [
        ("ratelimit-policy", "\"minute\";q=600;w=60, \"hour\";q=1200;w=3600"),
        ("ratelimit", "\"minute\";r=600;t=60, \"hour\";r=1200;t=3600"),
    ];
    for (reserve, rate) in [(0.0, 20.0), (0.5, 10.0)] {
        let policy = QuotaPolicy { reserve, ..QuotaPolicy::default() };
        let mut quota = Quota::new(policy, NOW);
        let ticket = send(&mut quota, NOW);
        answer(&mut quota, ticket, Outcome::Accepted, &headers, NOW);
        let per_minute = quota.standing(NOW).rate.expect("it is paced").get() * 60.0;
        assert!((per_minute - rate).abs() < 0.1, "{per_minute}");
    }
}

#[test]
fn without_following_a_word_is_obeyed_and_nothing_is_learned() {
    let policy = QuotaPolicy { mode: QuotaMode::Off, ..QuotaPolicy::default() };
    let mut quota = Quota::new(policy, NOW);
    let hold = throttled(&mut quota, &[], NOW).expect("it closes");
    assert_eq!(hold.until, later(300.0));

    let ticket = send(&mut quota, hold.until);
    answer(&mut quota, ticket, Outcome::Accepted, &[], hold.until);
    let standing = quota.standing(hold.until);
    assert_eq!((standing.rate, standing.cycles), (None, 0));
}

fn recalled(quota: &Quota, now: Timestamp) -> Quota {
    let memory = through_json(&quota.memory(quota_time(quota)));
    Quota::recall(QuotaPolicy::default(), &memory, now)
}

/// The memory is written when something happens, and nothing happens after the last reply.
fn quota_time(quota: &Quota) -> Timestamp {
    quota.gate.hold().map_or(NOW, |hold| hold.until.min(later(1.0)))
}

fn through_json(memory: &Memory) -> Memory {
    let text = serde_json::to_string(memory).expect("it is plain data");
    serde_json::from_str(&text).expect("it reads what it wrote")
}

#[test]
fn two_processes_go_on_from_each_others_word() {
    let (mut ours, mut theirs) = (quota(), quota());
    let early = send(&mut ours, NOW);
    let hold = throttled(&mut theirs, &[("retry-after", "60")], NOW).expect("it closes");
    ours.adopt(&through_json(&theirs.memory(NOW)), NOW);
    assert_eq!(ours.held(NOW), Some(&hold));
    answer(&mut ours, early, Outcome::Accepted, &[], later(1.0));
    assert_eq!(ours.held(later(2.0)), Some(&hold), "it was sent before the hold");

    let ticket = send(&mut ours, hold.until);
    theirs.adopt(&through_json(&ours.memory(hold.until)), hold.until);
    assert!(matches!(theirs.admit(1, hold.until), Admission::Wait { why: Wait::Proving, .. }));
    answer(&mut ours, ticket, Outcome::Accepted, &[], hold.until);
    theirs.adopt(&through_json(&ours.memory(hold.until)), hold.until);
    assert_eq!(theirs.standing(hold.until).hold, None);
    assert_eq!(theirs.standing(hold.until).rate, ours.standing(hold.until).rate);
}

#[test]
fn a_clock_that_is_set_back_makes_no_wait_longer() {
    let day = Duration::from_secs(86_400);
    let mut quota = quota();
    let hold = throttled(&mut quota, &[("retry-after", "60")], NOW).expect("it closes");
    let memory = quota.memory(NOW);

    let before = |moment: Timestamp| moment.before(day);
    let waits = Admission::Wait { until: before(hold.until), why: Wait::Held };
    assert_eq!(quota.admit(1, before(NOW)), waits);
    let mut recalled = Quota::recall(QuotaPolicy::default(), &memory, before(NOW));
    assert_eq!(recalled.admit(1, before(NOW)), waits);

    let _proof = send(&mut quota, before(hold.until));
    assert!(matches!(quota.admit(1, before(hold.until)), Admission::Wait { .. }));
    let two_days_back = before(before(hold.until));
    let admitted = quota.admit(1, two_days_back);
    let is_proving = matches!(admitted, Admission::Wait { why: Wait::Proving, .. });
    assert!(!is_proving, "nobody waits a day for an answer: {admitted:?}");
}

#[test]
fn a_clock_that_is_set_back_leaves_the_next_turn_where_it_was() {
    let cap = Some(Rate::of(1.0, Duration::from_secs(10)));
    let mut quota = Quota::new(QuotaPolicy { cap, ..QuotaPolicy::default() }, NOW);
    let _sent = send(&mut quota, NOW);

    let earlier = NOW.before(Duration::from_secs(86_400));
    let waits = Admission::Wait { until: earlier.after(Duration::from_secs(10)), why: Wait::Paced };
    assert_eq!(quota.admit(1, earlier), waits);
}

#[test]
fn a_wait_is_as_long_by_a_clock_that_was_set_in_the_middle_of_it() {
    let day = Duration::from_secs(86_400);
    for set in [Timestamp::before as fn(Timestamp, Duration) -> Timestamp, Timestamp::after] {
        let mut quota = quota();
        let hold = throttled(&mut quota, &[("retry-after", "60")], NOW).expect("it closes");
        let step = ClockStep::between(NOW, set(NOW, day)).expect("it is one");

        quota.move_by(step);

        let until = set(hold.until, day);
        let just_before = Timestamp(until.0 - 1);
        assert_eq!(quota.admit(1, just_before), Admission::Wait { until, why: Wait::Held });
        assert!(matches!(quota.admit(1, until), Admission::Go(_)));
    }
}
