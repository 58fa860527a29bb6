//! Property tests for any server.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
struct Completion {
    signal: LoadSignal,
    after_millis: i64,
}

fn completion() -> impl Strategy<Value = Completion> {
    let taken = (0..10_u64.pow(12), 0..10_u64.pow(12), any::<u32>()).prop_map(
        |(first_byte, body, in_flight)| {
            let first_byte = Duration::from_nanos(first_byte);
            LoadSignal::Completed(LatencySample {
                time_to_first_byte: first_byte,
                total: first_byte + Duration::from_nanos(body),
                in_flight,
            })
        },
    );
    let health = prop_oneof![4 => taken, 1 => Just(LoadSignal::Overloaded), 1 => Just(LoadSignal::Neutral), 1 => Just(LoadSignal::ItemSpecificFailure)];
    (health, -10_000..100_000_i64)
        .prop_map(|(health, after)| Completion { signal: health, after_millis: after })
}

/// Returns the limiter after a history, and the time at its end.
fn replay(limit: u32, history: &[Completion]) -> (ConcurrencyLimiter, Timestamp) {
    let (mut controller, mut now) = (ConcurrencyLimiter::new(limit), Timestamp(0));
    for Completion { signal: health, after_millis: after } in history {
        let sent = now;
        now = Timestamp(now.0 + after);
        controller.record_result(sent, *health, now);
    }
    (controller, now)
}

proptest! {
    #[test]
    fn the_limit_stays_between_one_and_the_configured_one(
        limit in 0..2000_u32,
        history in prop::collection::vec(completion(), 0..200),
        rate in prop::option::of(any::<f64>()),
    ) {
        let (controller, now) = replay(limit, &history);
        let in_force = controller.limit(rate);
        prop_assert!((1..=limit.max(1)).contains(&in_force), "{in_force}");
        let recalled = ConcurrencyLimiter::restore(limit, &controller.to_state(now), now);
        prop_assert_eq!(recalled.limit(None), controller.limit(None));
    }

    #[test]
    fn the_limit_recovers_from_any_history(
        limit in 1..32_u32, history in prop::collection::vec(completion(), 0..200),
    ) {
        let (mut controller, mut now) = replay(limit, &history);
        // Later than anything in the history.
        now = now.after(Duration::from_secs(1_000_000));
        for _ in 0..10 * 3 * limit {
            let (sent, in_flight) = (now, controller.limit(None));
            now = now.after(Duration::from_millis(200));
            let taken = Duration::from_millis(200);
            let health = LoadSignal::Completed(LatencySample { time_to_first_byte: taken, total: taken, in_flight });
            controller.record_result(sent, health, now);
        }
        prop_assert_eq!(controller.limit(None), limit);
    }

    /// Latency that is constant, in proportion to the load or in between, with a third of jitter
    /// both ways.
    #[test]
    fn a_proportionally_slower_server_is_never_limited(
        limit in 1..64_u32,
        alone in 1..5_000_000_u64,
        workers in 1..64_u32,
        requests in prop::collection::vec((1..64_u32, 0.67..1.33_f64), 1..600),
    ) {
        let (mut controller, mut now) = (ConcurrencyLimiter::new(limit), Timestamp(0));
        for (in_flight, unrest) in requests {
            let in_flight = in_flight.min(limit);
            let queued = (f64::from(in_flight) / f64::from(workers)).max(1.0);
            let taken = Duration::from_micros(alone).mul_f64(queued * unrest);
            let sent = now;
            now = now.after(Duration::from_millis(10)).max(sent.after(taken / in_flight));
            let health = LoadSignal::Completed(LatencySample { time_to_first_byte: taken, total: taken, in_flight });
            controller.record_result(sent, health, now);
            prop_assert_eq!(controller.limit(None), limit);
        }
    }

    #[test]
    fn a_failure_never_raises_the_limit(limit in 1..64_u32, history in prop::collection::vec(completion(), 0..200)) {
        let (mut controller, now) = replay(limit, &history);
        let before = controller.limit(None);
        controller.record_result(Timestamp(now.0 - 1), LoadSignal::Overloaded, now);
        prop_assert!(controller.limit(None) <= before);
    }
}
