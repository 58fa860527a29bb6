//! Property tests for any server.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
struct Completion {
    signal: LoadSignal,
    after_millis: i64,
}

fn completion() -> impl Strategy<Value = Completion> {
    let completed = (0..10_u64.pow(12), 0..10_u64.pow(12), any::<u32>()).prop_map(
        |(first_byte, body, in_flight)| {
            let first_byte = Duration::from_nanos(first_byte);
            LoadSignal::Completed(LatencySample {
                time_to_first_byte: first_byte,
                total: first_byte + Duration::from_nanos(body),
                in_flight,
            })
        },
    );
    let signal = prop_oneof![
        4 => completed,
        1 => Just(LoadSignal::Overloaded),
        1 => Just(LoadSignal::Neutral),
        1 => Just(LoadSignal::ItemSpecificFailure),
    ];
    (signal, -10_000..100_000_i64)
        .prop_map(|(signal, after_millis)| Completion { signal, after_millis })
}

/// Returns the limiter after a history, and the time at its end.
fn replay(limit: u32, history: &[Completion]) -> (ConcurrencyLimiter, Timestamp) {
    let (mut limiter, mut now) = (ConcurrencyLimiter::new(limit), Timestamp(0));
    for Completion { signal, after_millis } in history {
        let sent = now;
        now = Timestamp(now.0 + after_millis);
        limiter.record_result(sent, *signal, now);
    }
    (limiter, now)
}

proptest! {
    #[test]
    fn the_limit_stays_between_one_and_the_configured_one(
        limit in 0..2000_u32,
        history in prop::collection::vec(completion(), 0..200),
        rate in prop::option::of(any::<f64>()),
    ) {
        let (limiter, now) = replay(limit, &history);
        let current_limit = limiter.limit(rate);
        prop_assert!((1..=limit.max(1)).contains(&current_limit), "{current_limit}");
        let restored = ConcurrencyLimiter::restore(limit, &limiter.to_state(now), now);
        prop_assert_eq!(restored.limit(None), limiter.limit(None));
    }

    #[test]
    fn the_limit_recovers_from_any_history(
        limit in 1..32_u32, history in prop::collection::vec(completion(), 0..200),
    ) {
        let (mut limiter, mut now) = replay(limit, &history);
        // Later than anything in the history.
        now = now.after(Duration::from_secs(1_000_000));
        for _ in 0..10 * 3 * limit {
            let (sent, in_flight) = (now, limiter.limit(None));
            now = now.after(Duration::from_millis(200));
            let latency = Duration::from_millis(200);
            let signal = LoadSignal::Completed(LatencySample {
                time_to_first_byte: latency,
                total: latency,
                in_flight,
            });
            limiter.record_result(sent, signal, now);
        }
        prop_assert_eq!(limiter.limit(None), limit);
    }

    /// Latency that is constant, in proportion to the load or in between, with a third of jitter
    /// both ways.
    #[test]
    fn a_proportionally_slower_server_is_never_limited(
        limit in 1..64_u32,
        base_micros in 1..5_000_000_u64,
        workers in 1..64_u32,
        requests in prop::collection::vec((1..64_u32, 0.67..1.33_f64), 1..600),
    ) {
        let (mut limiter, mut now) = (ConcurrencyLimiter::new(limit), Timestamp(0));
        for (in_flight, jitter) in requests {
            let in_flight = in_flight.min(limit);
            let slowdown = (f64::from(in_flight) / f64::from(workers)).max(1.0);
            let latency = Duration::from_micros(base_micros).mul_f64(slowdown * jitter);
            let sent = now;
            now = now.after(Duration::from_millis(10)).max(sent.after(latency / in_flight));
            let signal = LoadSignal::Completed(LatencySample {
                time_to_first_byte: latency,
                total: latency,
                in_flight,
            });
            limiter.record_result(sent, signal, now);
            prop_assert_eq!(limiter.limit(None), limit);
        }
    }

    #[test]
    fn a_failure_never_raises_the_limit(limit in 1..64_u32, history in prop::collection::vec(completion(), 0..200)) {
        let (mut limiter, now) = replay(limit, &history);
        let before = limiter.limit(None);
        limiter.record_result(Timestamp(now.0 - 1), LoadSignal::Overloaded, now);
        prop_assert!(limiter.limit(None) <= before);
    }
}
