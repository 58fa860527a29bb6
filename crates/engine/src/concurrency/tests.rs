//! Tests with single servers, each with a different fault.

use super::*;

const LIMIT: u32 = 8;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Requests `requests` documents, as many at once as allowed; returns the time at the end.
fn run_requests(
    limiter: &mut ConcurrencyLimiter,
    start: Timestamp,
    requests: u32,
    latency: impl Fn(u32, u32) -> Duration,
) -> Timestamp {
    let mut now = start;
    for number in 0..requests {
        let in_flight = limiter.limit(None);
        let elapsed = latency(number, in_flight);
        let end = now.after(elapsed);
        limiter.record_result(now, completed(elapsed, in_flight), end);
        // The other requests end meanwhile.
        now = now.after(elapsed / in_flight).max(Timestamp(now.0 + 1));
    }
    now
}

fn completed(latency: Duration, in_flight: u32) -> LoadSignal {
    LoadSignal::Completed(LatencySample { time_to_first_byte: latency, total: latency, in_flight })
}

/// Returns a deterministic spread of 1 to 20.
fn jitter(number: u32) -> u32 {
    1 + number.wrapping_mul(2_654_435_761) % 20
}

#[test]
fn jitter_of_a_fast_server_does_not_lower_the_limit() {
    let mut limiter = ConcurrencyLimiter::new(LIMIT);
    for number in 0..10_000 {
        let latency = Duration::from_micros(50) * jitter(number);
        limiter.record_result(
            Timestamp(number.into()),
            completed(latency, LIMIT),
            Timestamp(number.into()),
        );

        assert_eq!(limiter.limit(None), LIMIT);
    }
}

#[test]
fn a_single_worker_server_gets_the_full_limit() {
    let mut limiter = ConcurrencyLimiter::new(LIMIT);
    let mut now = Timestamp(0);
    for round in 0..400 {
        // The listing sends one request at a time, the downloads all at once.
        let in_flight = if round % 20 < 10 { 1 } else { LIMIT };
        now = now.after(millis(100 * u64::from(in_flight)));
        limiter.record_result(
            Timestamp(now.0 - 100),
            completed(millis(100) * in_flight, in_flight),
            now,
        );
        assert_eq!(limiter.limit(None), LIMIT, "round {round}");
    }
}

#[test]
fn a_server_that_slows_under_load_gets_a_lower_limit() {
    let mut limiter = ConcurrencyLimiter::new(LIMIT);
    let now = run_requests(&mut limiter, Timestamp(0), 100, |_, _| millis(100));

    run_requests(&mut limiter, now, 100, |_, in_flight| millis(100) * in_flight * in_flight);

    assert!(limiter.limit(None) <= 3, "{limiter:?}");
}

#[test]
fn the_limit_recovers_with_the_server() {
    let mut limiter = ConcurrencyLimiter::new(LIMIT);
    let now = run_requests(&mut limiter, Timestamp(0), 100, |_, _| millis(100));
    let now = run_requests(&mut limiter, now, 100, |_, _| millis(3000));
    assert!(limiter.limit(None) < LIMIT);

    run_requests(&mut limiter, now, 200, |_, _| millis(100));

    assert_eq!(limiter.limit(None), LIMIT);
}

#[test]
fn a_permanently_slower_server_becomes_the_baseline() {
    let mut limiter = ConcurrencyLimiter::new(LIMIT);
    let now = run_requests(&mut limiter, Timestamp(0), 100, |_, _| millis(100));

    run_requests(&mut limiter, now, 1000, |_, _| millis(3000));

    assert_eq!(limiter.limit(None), LIMIT);
}

#[test]
fn failures_in_one_round_decrease_the_limit_once() {
    let mut limiter = ConcurrencyLimiter::new(LIMIT);
    let mut limits = Vec::new();
    for round in 0..6 {
        let (sent, now) = (Timestamp(1000 * round + 1), Timestamp(1000 * round + 1000));
        for _ in 0..LIMIT {
            limiter.record_result(sent, LoadSignal::Overloaded, now);
        }
        limits.push(limiter.limit(None));
    }
    assert_eq!(limits, [5, 3, 2, 1, 1, 1]);
}

/// Returns the lowest limit over 500 requests, of which one in ten fails, `bad` being the first.
fn lowest_limit_with_one_bad_document_in_ten(limiter: &mut ConcurrencyLimiter, bad: u32) -> u32 {
    let (mut now, mut number, mut lowest) = (Timestamp(1_000_000), 0, LIMIT);
    while number < 500 {
        let in_flight = limiter.limit(None);
        let sent = now;
        now = now.after(millis(100));
        for number in number..number + in_flight {
            let is_bad = number % 10 == bad;
            let signal =
                if is_bad { LoadSignal::Overloaded } else { completed(millis(100), in_flight) };
            limiter.record_result(sent, signal, now);
        }
        number += in_flight;
        lowest = lowest.min(limiter.limit(None));
    }
    lowest
}

#[test]
fn one_bad_document_in_ten_hardly_lowers_the_limit() {
    for bad in 0..10 {
        let mut limiter = ConcurrencyLimiter::new(LIMIT);
        run_requests(&mut limiter, Timestamp(0), 20, |_, _| millis(100));
        let lowest = lowest_limit_with_one_bad_document_in_ten(&mut limiter, bad);
        // Failures of a tenth of the requests cost three hundredths of the limit each time, and ten
        // good requests restore a whole slot.
        assert!(lowest >= 7, "limit {lowest}, first bad document {bad}");

        // One of the first few is a large share of the known outcomes: at worst an overload.
        let lowest =
            lowest_limit_with_one_bad_document_in_ten(&mut ConcurrencyLimiter::new(LIMIT), bad);
        assert!(lowest >= 5, "limit {lowest}, first bad document {bad}, without a history");
    }
}

#[test]
fn an_item_specific_failure_restores_the_limit() {
    let mut limiter = ConcurrencyLimiter::new(LIMIT);
    let mut limit_after = |sent: i64, signal: LoadSignal| {
        limiter.record_result(Timestamp(1000 * sent), signal, Timestamp(1000 * sent + 999));
        limiter.limit(None)
    };

    let decreased = [1, 2, 3].map(|sent| limit_after(sent, LoadSignal::Overloaded));
    let restored = [4, 5, 6, 7, 8].map(|sent| limit_after(sent, LoadSignal::ItemSpecificFailure));

    assert_eq!(decreased, [5, 3, 2]);
    assert_eq!(restored, [3, 5, 8, 8, 8]);
    assert_eq!(limit_after(9, LoadSignal::Overloaded), 5, "not above the configured limit");
}

#[test]
fn a_429_or_a_404_does_not_change_the_limit() {
    let mut limiter = ConcurrencyLimiter::new(LIMIT);
    limiter.record_result(Timestamp(0), LoadSignal::Overloaded, Timestamp(1));
    let before = limiter.clone();

    for number in 1..1000 {
        limiter.record_result(Timestamp(number), LoadSignal::Neutral, Timestamp(number + 1));
    }

    assert_eq!(limiter, before);
}

#[test]
fn no_more_slots_than_the_rate_can_use() {
    let mut limiter = ConcurrencyLimiter::new(LIMIT);
    assert_eq!(limiter.limit(Some(0.1)), LIMIT, "nothing is known of the latency");
    run_requests(&mut limiter, Timestamp(0), 100, |_, _| millis(200));

    let allowed =
        [0.0, 0.1, 10.0, 15.0, 1e9, f64::INFINITY, f64::NAN].map(|rate| limiter.limit(Some(rate)));

    assert_eq!(allowed, [2, 3, 4, 5, 8, 8, 8]);
}

#[test]
fn a_long_body_transfer_is_no_sign_of_load() {
    let mut limiter = ConcurrencyLimiter::new(LIMIT);
    for number in 0..1000_i64 {
        let total = if number < 500 { millis(100) } else { millis(30_000) };
        let sample = LatencySample { time_to_first_byte: millis(80), total, in_flight: LIMIT };
        limiter.record_result(
            Timestamp(number),
            LoadSignal::Completed(sample),
            Timestamp(number + 1),
        );
    }

    assert_eq!(limiter.limit(None), LIMIT);
    assert_eq!(limiter.limit(Some(0.1)), 5, "0.1/s × 30 s and two to spare");
}

#[test]
fn a_restart_restores_the_limit_for_an_hour() {
    let mut limiter = ConcurrencyLimiter::new(LIMIT);
    limiter.record_result(Timestamp(1), LoadSignal::Overloaded, Timestamp(2));
    let state = limiter.to_state(Timestamp(2));
    let at = |now| ConcurrencyLimiter::restore(LIMIT, &state, Timestamp(now)).limit(None);

    assert_eq!([at(2), at(3_600_002), at(3_600_003)], [5, 5, 8]);
    assert_eq!(
        ConcurrencyLimiter::restore(3, &state, Timestamp(2)).limit(None),
        3,
        "the configured limit was lowered"
    );
    let empty: ConcurrencyState = serde_json::from_str("{}").unwrap();
    assert_eq!(ConcurrencyLimiter::restore(LIMIT, &empty, Timestamp(0)).limit(None), LIMIT);
}
