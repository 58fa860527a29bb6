//! Tests with single servers, each with a different fault.

use super::*;

const LIMIT: u32 = 8;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Requests `requests` documents, as many at once as allowed; returns the time at the end.
fn run_requests(
    controller: &mut ConcurrencyLimiter,
    start: Timestamp,
    requests: u32,
    latency: impl Fn(u32, u32) -> Duration,
) -> Timestamp {
    let mut now = start;
    for number in 0..requests {
        let in_flight = controller.limit(None);
        let taken = latency(number, in_flight);
        let end = now.after(taken);
        controller.record_result(now, completed(taken, in_flight), end);
        // The other requests end meanwhile.
        now = now.after(taken / in_flight).max(Timestamp(now.0 + 1));
    }
    now
}

fn completed(taken: Duration, in_flight: u32) -> LoadSignal {
    LoadSignal::Completed(LatencySample { time_to_first_byte: taken, total: taken, in_flight })
}

/// Returns a deterministic spread of 1 to 20.
fn jitter(number: u32) -> u32 {
    1 + number.wrapping_mul(2_654_435_761) % 20
}

#[test]
fn jitter_of_a_fast_server_does_not_lower_the_limit() {
    let mut controller = ConcurrencyLimiter::new(LIMIT);
    for number in 0..10_000 {
        let taken = Duration::from_micros(50) * jitter(number);
        controller.record_result(
            Timestamp(number.into()),
            completed(taken, LIMIT),
            Timestamp(number.into()),
        );

        assert_eq!(controller.limit(None), LIMIT);
    }
}

#[test]
fn a_single_worker_server_gets_the_full_limit() {
    let mut controller = ConcurrencyLimiter::new(LIMIT);
    let mut now = Timestamp(0);
    for round in 0..400 {
        // The listing sends one request at a time, the downloads all at once.
        let in_flight = if round % 20 < 10 { 1 } else { LIMIT };
        now = now.after(millis(100 * u64::from(in_flight)));
        controller.record_result(
            Timestamp(now.0 - 100),
            completed(millis(100) * in_flight, in_flight),
            now,
        );
        assert_eq!(controller.limit(None), LIMIT, "round {round}");
    }
}

#[test]
fn a_server_that_slows_under_load_gets_a_lower_limit() {
    let mut controller = ConcurrencyLimiter::new(LIMIT);
    let now = run_requests(&mut controller, Timestamp(0), 100, |_, _| millis(100));

    run_requests(&mut controller, now, 100, |_, in_flight| millis(100) * in_flight * in_flight);

    assert!(controller.limit(None) <= 3, "{controller:?}");
}

#[test]
fn the_limit_recovers_with_the_server() {
    let mut controller = ConcurrencyLimiter::new(LIMIT);
    let now = run_requests(&mut controller, Timestamp(0), 100, |_, _| millis(100));
    let now = run_requests(&mut controller, now, 100, |_, _| millis(3000));
    assert!(controller.limit(None) < LIMIT);

    run_requests(&mut controller, now, 200, |_, _| millis(100));

    assert_eq!(controller.limit(None), LIMIT);
}

#[test]
fn a_permanently_slower_server_becomes_the_baseline() {
    let mut controller = ConcurrencyLimiter::new(LIMIT);
    let now = run_requests(&mut controller, Timestamp(0), 100, |_, _| millis(100));

    run_requests(&mut controller, now, 1000, |_, _| millis(3000));

    assert_eq!(controller.limit(None), LIMIT);
}

#[test]
fn failures_in_one_round_decrease_the_limit_once() {
    let mut controller = ConcurrencyLimiter::new(LIMIT);
    let mut after = Vec::new();
    for round in 0..6 {
        let (sent, now) = (Timestamp(1000 * round + 1), Timestamp(1000 * round + 1000));
        for _ in 0..LIMIT {
            controller.record_result(sent, LoadSignal::Overloaded, now);
        }
        after.push(controller.limit(None));
    }
    assert_eq!(after, [5, 3, 2, 1, 1, 1]);
}

/// Returns the lowest limit over 500 requests, of which one in ten fails, `bad` being the first.
fn fewest_slots_with_one_bad_document_in_ten(controller: &mut ConcurrencyLimiter, bad: u32) -> u32 {
    let (mut now, mut number, mut least) = (Timestamp(1_000_000), 0, LIMIT);
    while number < 500 {
        let in_flight = controller.limit(None);
        let sent = now;
        now = now.after(millis(100));
        for number in number..number + in_flight {
            let is_bad = number % 10 == bad;
            let health =
                if is_bad { LoadSignal::Overloaded } else { completed(millis(100), in_flight) };
            controller.record_result(sent, health, now);
        }
        number += in_flight;
        least = least.min(controller.limit(None));
    }
    least
}

#[test]
fn one_bad_document_in_ten_hardly_lowers_the_limit() {
    for bad in 0..10 {
        let mut controller = ConcurrencyLimiter::new(LIMIT);
        run_requests(&mut controller, Timestamp(0), 20, |_, _| millis(100));
        let least = fewest_slots_with_one_bad_document_in_ten(&mut controller, bad);
        // Failures of a tenth of the requests cost three hundredths of the limit each time, and ten
        // good requests restore a whole slot.
        assert!(least >= 7, "{least} places, {bad}");

        // One of the first few is a large share of the known outcomes: at worst an overload.
        let least =
            fewest_slots_with_one_bad_document_in_ten(&mut ConcurrencyLimiter::new(LIMIT), bad);
        assert!(least >= 5, "{least} places, {bad} from the start");
    }
}

#[test]
fn an_item_specific_failure_restores_the_limit() {
    let mut controller = ConcurrencyLimiter::new(LIMIT);
    let mut places = |sent: i64, health: LoadSignal| {
        controller.record_result(Timestamp(1000 * sent), health, Timestamp(1000 * sent + 999));
        controller.limit(None)
    };

    let taken = [1, 2, 3].map(|sent| places(sent, LoadSignal::Overloaded));
    let given_back = [4, 5, 6, 7, 8].map(|sent| places(sent, LoadSignal::ItemSpecificFailure));

    assert_eq!(taken, [5, 3, 2]);
    assert_eq!(given_back, [3, 5, 8, 8, 8]);
    assert_eq!(places(9, LoadSignal::Overloaded), 5, "no more than the limit was given back");
}

#[test]
fn a_429_or_a_404_does_not_change_the_limit() {
    let mut controller = ConcurrencyLimiter::new(LIMIT);
    controller.record_result(Timestamp(0), LoadSignal::Overloaded, Timestamp(1));
    let before = controller.clone();

    for number in 1..1000 {
        controller.record_result(Timestamp(number), LoadSignal::Neutral, Timestamp(number + 1));
    }

    assert_eq!(controller, before);
}

#[test]
fn no_more_slots_than_the_rate_can_use() {
    let mut controller = ConcurrencyLimiter::new(LIMIT);
    assert_eq!(controller.limit(Some(0.1)), LIMIT, "nothing is known of the latency");
    run_requests(&mut controller, Timestamp(0), 100, |_, _| millis(200));

    let allowed = [0.0, 0.1, 10.0, 15.0, 1e9, f64::INFINITY, f64::NAN]
        .map(|rate| controller.limit(Some(rate)));

    assert_eq!(allowed, [2, 3, 4, 5, 8, 8, 8]);
}

#[test]
fn a_long_body_transfer_is_no_sign_of_load() {
    let mut controller = ConcurrencyLimiter::new(LIMIT);
    for number in 0..1000_i64 {
        let whole = if number < 500 { millis(100) } else { millis(30_000) };
        let taken =
            LatencySample { time_to_first_byte: millis(80), total: whole, in_flight: LIMIT };
        controller.record_result(
            Timestamp(number),
            LoadSignal::Completed(taken),
            Timestamp(number + 1),
        );
    }

    assert_eq!(controller.limit(None), LIMIT);
    assert_eq!(controller.limit(Some(0.1)), 5, "0.1/s × 30 s and two to spare");
}

#[test]
fn a_restart_restores_the_limit_for_an_hour() {
    let mut controller = ConcurrencyLimiter::new(LIMIT);
    controller.record_result(Timestamp(1), LoadSignal::Overloaded, Timestamp(2));
    let memory = controller.to_state(Timestamp(2));
    let at = |now| ConcurrencyLimiter::restore(LIMIT, &memory, Timestamp(now)).limit(None);

    assert_eq!([at(2), at(3_600_002), at(3_600_003)], [5, 5, 8]);
    assert_eq!(
        ConcurrencyLimiter::restore(3, &memory, Timestamp(2)).limit(None),
        3,
        "the limit was lowered"
    );
    let empty: ConcurrencyState = serde_json::from_str("{}").unwrap();
    assert_eq!(ConcurrencyLimiter::restore(LIMIT, &empty, Timestamp(0)).limit(None), LIMIT);
}
