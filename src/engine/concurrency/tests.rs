//! Single servers, each with its own trouble.

use super::*;

const LIMIT: u32 = 8;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Asks a server for `requests` documents, as many at once as is allowed; returns the time at the end.
fn work(
    controller: &mut Concurrency,
    start: Timestamp,
    requests: u32,
    latency: impl Fn(u32, u32) -> Duration,
) -> Timestamp {
    let mut now = start;
    for number in 0..requests {
        let in_flight = controller.limit(None);
        let taken = latency(number, in_flight);
        let end = now.after(taken);
        controller.answered(now, good(taken, in_flight), end);
        // The others end meanwhile.
        now = now.after(taken / in_flight).max(Timestamp(now.0 + 1));
    }
    now
}

fn good(taken: Duration, in_flight: u32) -> Health {
    Health::Good(Taken { first_byte: taken, whole: taken, in_flight })
}

/// A spread of 1 to 20 without chance.
fn unrest(number: u32) -> u32 {
    1 + number.wrapping_mul(2_654_435_761) % 20
}

#[test]
fn the_unrest_of_a_quick_server_throttles_nothing() {
    let mut controller = Concurrency::new(LIMIT);
    for number in 0..10_000 {
        let taken = Duration::from_micros(50) * unrest(number);
        controller.answered(Timestamp(number.into()), good(taken, LIMIT), Timestamp(number.into()));

        assert_eq!(controller.limit(None), LIMIT);
    }
}

#[test]
fn a_server_that_shares_its_time_evenly_is_given_the_limit() {
    let mut controller = Concurrency::new(LIMIT);
    let mut now = Timestamp(0);
    for round in 0..400 {
        // The listing asks one by one, the downloads all at once.
        let in_flight = if round % 20 < 10 { 1 } else { LIMIT };
        now = now.after(millis(100 * u64::from(in_flight)));
        controller.answered(Timestamp(now.0 - 100), good(millis(100) * in_flight, in_flight), now);
        assert_eq!(controller.limit(None), LIMIT, "round {round}");
    }
}

#[test]
fn a_server_that_breaks_down_under_load_is_given_less() {
    let mut controller = Concurrency::new(LIMIT);
    let now = work(&mut controller, Timestamp(0), 100, |_, _| millis(100));

    work(&mut controller, now, 100, |_, in_flight| millis(100) * in_flight * in_flight);

    assert!(controller.limit(None) <= 3, "{controller:?}");
}

#[test]
fn it_recovers_with_the_server() {
    let mut controller = Concurrency::new(LIMIT);
    let now = work(&mut controller, Timestamp(0), 100, |_, _| millis(100));
    let now = work(&mut controller, now, 100, |_, _| millis(3000));
    assert!(controller.limit(None) < LIMIT);

    work(&mut controller, now, 200, |_, _| millis(100));

    assert_eq!(controller.limit(None), LIMIT);
}

#[test]
fn a_server_that_is_slow_for_good_is_the_new_measure() {
    let mut controller = Concurrency::new(LIMIT);
    let now = work(&mut controller, Timestamp(0), 100, |_, _| millis(100));

    work(&mut controller, now, 1000, |_, _| millis(3000));

    assert_eq!(controller.limit(None), LIMIT);
}

#[test]
fn failures_of_one_moment_count_once_and_of_each_round_again() {
    let mut controller = Concurrency::new(LIMIT);
    let mut after = Vec::new();
    for round in 0..6 {
        let (sent, now) = (Timestamp(1000 * round + 1), Timestamp(1000 * round + 1000));
        for _ in 0..LIMIT {
            controller.answered(sent, Health::Overloaded, now);
        }
        after.push(controller.limit(None));
    }
    assert_eq!(after, [5, 3, 2, 1, 1, 1]);
}

/// The fewest places while one document in ten fails, of which `bad` is the first, for 500 requests.
fn places_beside_a_bad_document_in_ten(controller: &mut Concurrency, bad: u32) -> u32 {
    let (mut now, mut number, mut least) = (Timestamp(1_000_000), 0, LIMIT);
    while number < 500 {
        let in_flight = controller.limit(None);
        let sent = now;
        now = now.after(millis(100));
        for number in number..number + in_flight {
            let is_bad = number % 10 == bad;
            let health = if is_bad { Health::Overloaded } else { good(millis(100), in_flight) };
            controller.answered(sent, health, now);
        }
        number += in_flight;
        least = least.min(controller.limit(None));
    }
    least
}

#[test]
fn one_bad_document_in_ten_costs_hardly_a_place() {
    for bad in 0..10 {
        let mut controller = Concurrency::new(LIMIT);
        work(&mut controller, Timestamp(0), 20, |_, _| millis(100));
        let least = places_beside_a_bad_document_in_ten(&mut controller, bad);
        // A tenth of the requests costs three hundredths of the places each time, and ten good ones
        // give back a whole one.
        assert!(least >= 7, "{least} places, {bad}");

        // One of the first few is a large share of what is known yet: at worst an overload.
        let least = places_beside_a_bad_document_in_ten(&mut Concurrency::new(LIMIT), bad);
        assert!(least >= 5, "{least} places, {bad} from the start");
    }
}

#[test]
fn what_a_failure_took_is_given_back_once_it_is_its_items_own() {
    let mut controller = Concurrency::new(LIMIT);
    let mut places = |sent: i64, health: Health| {
        controller.answered(Timestamp(1000 * sent), health, Timestamp(1000 * sent + 999));
        controller.limit(None)
    };

    let taken = [1, 2, 3].map(|sent| places(sent, Health::Overloaded));
    let given_back = [4, 5, 6, 7, 8].map(|sent| places(sent, Health::Borne));

    assert_eq!(taken, [5, 3, 2]);
    assert_eq!(given_back, [3, 5, 8, 8, 8]);
    assert_eq!(places(9, Health::Overloaded), 5, "no more than the limit was given back");
}

#[test]
fn a_429_or_a_404_moves_nothing() {
    let mut controller = Concurrency::new(LIMIT);
    controller.answered(Timestamp(0), Health::Overloaded, Timestamp(1));
    let before = controller.clone();

    for number in 1..1000 {
        controller.answered(Timestamp(number), Health::Silent, Timestamp(number + 1));
    }

    assert_eq!(controller, before);
}

#[test]
fn no_more_places_than_the_rate_can_use() {
    let mut controller = Concurrency::new(LIMIT);
    assert_eq!(controller.limit(Some(0.1)), LIMIT, "nothing is known of the latency");
    work(&mut controller, Timestamp(0), 100, |_, _| millis(200));

    let allowed = [0.0, 0.1, 10.0, 15.0, 1e9, f64::INFINITY, f64::NAN]
        .map(|rate| controller.limit(Some(rate)));

    assert_eq!(allowed, [2, 3, 4, 5, 8, 8, 8]);
}

#[test]
fn a_body_that_takes_long_keeps_its_place_and_tells_nothing_of_the_load() {
    let mut controller = Concurrency::new(LIMIT);
    for number in 0..1000_i64 {
        let whole = if number < 500 { millis(100) } else { millis(30_000) };
        let taken = Taken { first_byte: millis(80), whole, in_flight: LIMIT };
        controller.answered(Timestamp(number), Health::Good(taken), Timestamp(number + 1));
    }

    assert_eq!(controller.limit(None), LIMIT);
    assert_eq!(controller.limit(Some(0.1)), 5, "0.1/s × 30 s and two to spare");
}

#[test]
fn a_restart_goes_on_from_there_for_an_hour() {
    let mut controller = Concurrency::new(LIMIT);
    controller.answered(Timestamp(1), Health::Overloaded, Timestamp(2));
    let memory = controller.memory(Timestamp(2));
    let at = |now| Concurrency::recall(LIMIT, &memory, Timestamp(now)).limit(None);

    assert_eq!([at(2), at(3_600_002), at(3_600_003)], [5, 5, 8]);
    assert_eq!(
        Concurrency::recall(3, &memory, Timestamp(2)).limit(None),
        3,
        "the limit was lowered"
    );
    let empty: ConcurrencyMemory = serde_json::from_str("{}").unwrap();
    assert_eq!(Concurrency::recall(LIMIT, &empty, Timestamp(0)).limit(None), LIMIT);
}
