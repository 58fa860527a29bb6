//! What following a quota must achieve against each kind of server: four hours each, measured.
//!
//! `cargo nextest run -E 'test(simulate::bar)' --no-capture` prints the table.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::engine::rate_limit::{Rate, RateLimitPolicy, ResetMeaning};
use crate::simulate::{
    Latency, Neighbour, Outage, Outcome, Renewal, Restart, Server, Shape, Speech, Strategy, Trial,
    run,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const TEN_SECONDS: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(3600);
const SEEDS: [u64; 2] = [1, 2];
const SILENT: [Speech; 2] = [Speech::Nothing, Speech::RetryAfter];

const PER_MINUTE: Shape = Shape::FixedWindow { quota: 600, window: MINUTE, phase: Duration::ZERO };
const PER_HOUR: Shape = Shape::FixedWindow { quota: 5000, window: HOUR, phase: Duration::ZERO };
const FEW: Shape = Shape::FixedWindow { quota: 100, window: HOUR, phase: Duration::ZERO };
const LOCK_OUT: Shape = Shape::LockOut {
    quota: 19,
    window: MINUTE,
    lock: Duration::from_secs(300),
    restart: Restart::ByAnyRequest,
};

fn bucket() -> Shape {
    Shape::TokenBucket { rate: Rate::per_second(10.0), burst: 20 }
}

/// The least share, and the most requests that may be throttled.
struct Bar {
    share: f64,
    throttled: u64,
}

fn trial(shape: &Shape, speech: Speech, seed: u64) -> Trial {
    let latency = Latency { base: Duration::from_millis(60), spread: Duration::from_millis(40) };
    let shape = shape.clone();
    Trial {
        server: Server {
            shape,
            speech,
            renewal: Renewal::All,
            latency,
            neighbour: None,
            outages: Vec::new(),
        },
        strategy: Strategy::Quota(RateLimitPolicy::default()),
        workers: 8,
        weight: 1,
        lasts: 4 * HOUR,
        work: None,
        seed,
        sample: 10 * MINUTE,
    }
}

fn measure(name: &str, trial: &Trial, bar: &Bar) -> Outcome {
    let outcome = run(trial);
    let percent = outcome.share * 100.0;
    let (speech, seed) = (trial.server.speech, trial.seed);
    println!("{name:20} {speech:?} seed {seed}: {percent:.1} %, {} throttled", outcome.throttled);
    assert!(outcome.share >= bar.share, "{name} {speech:?} seed {seed}: {percent:.1} %");
    assert!(outcome.throttled <= bar.throttled, "{name} {speech:?}: {}", outcome.throttled);
    outcome
}

fn all_seeds(name: &str, shape: &Shape, speech: Speech, bar: &Bar) {
    for seed in SEEDS {
        measure(name, &trial(shape, speech, seed), bar);
    }
}

#[test]
fn a_fixed_window_is_used_up_without_a_refusal_where_headers_tell_it() {
    all_seeds("600 per min", &PER_MINUTE, Speech::RateLimit, &Bar { share: 0.99, throttled: 0 });
    all_seeds("5000 per h", &PER_HOUR, Speech::RateLimit, &Bar { share: 0.99, throttled: 0 });
    all_seeds("100 per h", &FEW, Speech::RateLimit, &Bar { share: 0.99, throttled: 0 });
}

#[test]
fn a_bucket_is_used_up_without_a_refusal_where_headers_tell_it() {
    all_seeds("bucket 10/s", &bucket(), Speech::RateLimit, &Bar { share: 0.99, throttled: 0 });
}

#[test]
fn a_sliding_log_is_used_up_without_a_refusal_where_headers_tell_it() {
    let bar = Bar { share: 0.975, throttled: 0 };
    for (quota, window) in [(200, TEN_SECONDS), (600, MINUTE)] {
        for (renewal, seed) in [(Renewal::All, 1), (Renewal::Next, 2)] {
            let shape = Shape::SlidingLog { quota, window };
            let mut trial = trial(&shape, Speech::RateLimit, seed);
            trial.server.renewal = renewal;
            measure(&format!("sliding log, {renewal:?}"), &trial, &bar);
        }
    }
}

#[test]
fn a_window_of_seconds_is_used_up_without_a_refusal_where_headers_tell_it() {
    let bar = Bar { share: 0.97, throttled: 0 };
    for seconds in [1, 2, 3, 5, 7] {
        let (quota, window) = (20, Duration::from_secs(seconds));
        for shape in [
            Shape::FixedWindow { quota, window, phase: Duration::ZERO },
            Shape::SlidingLog { quota, window },
            Shape::TokenBucket { rate: Rate::from_units(f64::from(quota), window), burst: quota },
            Shape::LockOut { quota, window, lock: MINUTE, restart: Restart::ByAnyRequest },
        ] {
            let mut trial = Trial { lasts: 10 * MINUTE, ..trial(&shape, Speech::RateLimit, 1) };
            let milliseconds = Duration::from_millis(3);
            trial.server.latency = Latency { base: milliseconds, spread: milliseconds };
            measure(&format!("20 per {seconds} s"), &trial, &bar);
        }
    }
}

#[test]
fn a_sliding_log_that_another_client_uses_too_is_not_given_up() {
    let neighbour = Neighbour { rate: Rate::per_second(6.0), works: 2 * MINUTE, rests: MINUTE };
    for renewal in [Renewal::All, Renewal::Next] {
        let shape = Shape::SlidingLog { quota: 200, window: TEN_SECONDS };
        let mut trial = Trial { lasts: HOUR, ..trial(&shape, Speech::RateLimit, 1) };
        trial.server.renewal = renewal;
        trial.server.neighbour = Some(neighbour);
        measure("sliding log, shared", &trial, &Bar { share: 0.85, throttled: 360 });
    }
}

#[test]
fn a_window_that_is_not_told_is_found_out_where_the_reset_is_always_as_far_ahead() {
    let shape = Shape::SlidingLog { quota: 200, window: TEN_SECONDS };
    for meaning in [ResetMeaning::DeltaSeconds, ResetMeaning::EpochSeconds] {
        let trial = Trial { lasts: HOUR, ..trial(&shape, Speech::XRateLimit(meaning), 1) };
        measure("sliding log", &trial, &Bar { share: 0.94, throttled: 0 });
    }
}

#[test]
fn a_lock_out_is_never_met_where_headers_tell_the_limit() {
    let bar = Bar { share: 0.96, throttled: 0 };
    all_seeds("19 per min, lock-out", &LOCK_OUT, Speech::RateLimit, &bar);
}

#[test]
fn a_fixed_window_is_learned_without_headers() {
    let bar = Bar { share: 0.98, throttled: 60 };
    all_seeds("600 per min", &PER_MINUTE, Speech::Nothing, &bar);
    all_seeds("600 per min", &PER_MINUTE, Speech::RetryAfter, &bar);
}

#[test]
fn a_bucket_is_learned_without_headers() {
    let bar = Bar { share: 0.97, throttled: 120 };
    all_seeds("bucket 10/s", &bucket(), Speech::Nothing, &bar);
    all_seeds("bucket 10/s", &bucket(), Speech::RetryAfter, &bar);
}

#[test]
fn a_sliding_log_is_learned_without_headers() {
    let shape = Shape::SlidingLog { quota: 200, window: TEN_SECONDS };
    let bar = Bar { share: 0.97, throttled: 120 };
    all_seeds("sliding log", &shape, Speech::Nothing, &bar);
    all_seeds("sliding log", &shape, Speech::RetryAfter, &bar);
}

#[test]
fn a_window_of_an_hour_is_learned_without_headers() {
    let bar = Bar { share: 0.96, throttled: 45 };
    all_seeds("5000 per h", &PER_HOUR, Speech::Nothing, &bar);
    all_seeds("100 per h", &FEW, Speech::Nothing, &bar);
    let bar = Bar { share: 0.98, throttled: 12 };
    all_seeds("5000 per h", &PER_HOUR, Speech::RetryAfter, &bar);
    all_seeds("100 per h", &FEW, Speech::RetryAfter, &bar);
}

/// A server that locks out, whose replies come at once, steadily, and anyhow.
fn locked_out(name: &str, shape: &Shape, seeds: RangeInclusive<u64>, bars: [(Speech, Bar); 2]) {
    for (speech, bar) in bars {
        for seed in seeds.clone() {
            for (base, spread) in [(3, 3), (60, 40), (20, 160)] {
                let mut trial = trial(shape, speech, seed);
                let [base, spread] = [base, spread].map(Duration::from_millis);
                trial.server.latency = Latency { base, spread };
                measure(&format!("{name}, {base:?}+{spread:?}"), &trial, &bar);
            }
        }
    }
}

/// Many tries draw it out to more than an hour, which is paid once.
#[test]
fn a_lock_out_of_a_quarter_of_an_hour_costs_one_morning() {
    let lock = 15 * MINUTE;
    for quota in [19, 600] {
        let restart = Restart::ByAnyRequest;
        let shape = Shape::LockOut { quota, window: MINUTE, lock, restart };
        let trial = Trial { lasts: 24 * HOUR, ..trial(&shape, Speech::Nothing, 1) };
        let bar = Bar { share: 0.91, throttled: 45 };
        measure(&format!("{quota} per min, lock-out"), &trial, &bar);
    }
}

#[test]
fn a_lock_out_of_seconds_is_met_as_often_as_a_limit_is_looked_for() {
    let lock = 3 * TEN_SECONDS;
    let shape = Shape::LockOut { quota: 60, window: TEN_SECONDS, lock, restart: Restart::Never };
    let bars = SILENT.map(|speech| (speech, Bar { share: 0.95, throttled: 30 }));
    locked_out("60 in 10 s, else 30 s", &shape, 5..=6, bars);
}

#[test]
fn a_lock_out_of_minutes_is_met_twice() {
    let lock = 2 * MINUTE;
    let shape = Shape::LockOut { quota: 100, window: MINUTE, lock, restart: Restart::Never };
    let bars = SILENT.map(|speech| (speech, Bar { share: 0.965, throttled: 25 }));
    locked_out("100 per min, else 2 min", &shape, 6..=8, bars);
}

#[test]
fn a_lock_out_that_any_request_restarts_is_waited_out_and_not_met_a_third_time() {
    let silent = (Speech::Nothing, Bar { share: 0.93, throttled: 20 });
    let told = (Speech::RetryAfter, Bar { share: 0.95, throttled: 12 });
    locked_out("19 per min, else 5 min", &LOCK_OUT, 1..=20, [silent, told]);
}

#[test]
fn ten_minutes_are_enough_for_most_of_a_quota() {
    let (quota, window, lock) = (200, TEN_SECONDS, 3 * TEN_SECONDS);
    let shapes = |seed: u64| {
        let phase = Duration::from_millis(seed * 2_713 % 10_000);
        [
            ("fixed window", Shape::FixedWindow { quota, window, phase }, [0.95, 0.94, 0.98]),
            ("sliding log", Shape::SlidingLog { quota, window }, [0.965, 0.955, 0.98]),
            (
                "bucket",
                Shape::TokenBucket { rate: Rate::per_second(20.0), burst: 40 },
                [0.97, 0.97, 0.99],
            ),
            (
                "lock-out",
                Shape::LockOut { quota: 60, window, lock, restart: Restart::Never },
                [0.95, 0.95, 0.98],
            ),
        ]
    };
    let latency = Latency { base: Duration::from_millis(3), spread: Duration::from_millis(3) };
    for seed in 1..=8 {
        for (name, shape, shares) in shapes(seed) {
            let speeches = [Speech::Nothing, Speech::RetryAfter, Speech::RateLimit];
            for (speech, share) in speeches.into_iter().zip(shares) {
                let throttled = if speech == Speech::RateLimit { 0 } else { 30 };
                let mut trial = Trial { lasts: 10 * MINUTE, ..trial(&shape, speech, seed) };
                trial.server.latency = latency;
                measure(&format!("{name}, 10 min"), &trial, &Bar { share, throttled });
            }
        }
    }
}

#[test]
fn a_reset_is_understood_in_each_of_its_meanings() {
    for meaning in [
        ResetMeaning::DeltaSeconds,
        ResetMeaning::DeltaMillis,
        ResetMeaning::EpochSeconds,
        ResetMeaning::EpochMillis,
        ResetMeaning::Date,
    ] {
        let bar = Bar { share: 0.98, throttled: 0 };
        measure("5000 per h", &trial(&PER_HOUR, Speech::XRateLimit(meaning), 1), &bar);
        let trial = Trial { lasts: HOUR / 2, ..trial(&PER_MINUTE, Speech::XRateLimit(meaning), 1) };
        measure("600 per min", &trial, &bar);
    }
}

#[test]
fn a_window_that_begins_between_two_minutes_makes_no_difference() {
    let shape = Shape::FixedWindow { quota: 600, window: MINUTE, phase: 23 * SECOND };
    for (speech, throttled) in [(Speech::Nothing, 40), (Speech::RateLimit, 0)] {
        let trial = Trial { lasts: HOUR, ..trial(&shape, speech, 1) };
        measure("600 per min, shifted", &trial, &Bar { share: 0.95, throttled });
    }
}

#[test]
fn what_another_client_leaves_is_used() {
    let neighbour = Neighbour { rate: Rate::per_second(5.0), works: HOUR, rests: Duration::ZERO };
    for (speech, share, throttled) in [(Speech::Nothing, 0.85, 200), (Speech::RateLimit, 0.97, 300)]
    {
        let mut trial = trial(&PER_MINUTE, speech, 1);
        trial.server.neighbour = Some(neighbour);
        measure("600 per min, shared", &trial, &Bar { share, throttled });
    }
}

#[test]
fn an_outage_teaches_nothing() {
    let mut trial = trial(&PER_MINUTE, Speech::RateLimit, 1);
    trial.lasts = HOUR;
    trial.server.outages = vec![Outage { from: 20 * MINUTE, lasts: 10 * MINUTE }];
    let outcome = measure("600 per min, outage", &trial, &Bar { share: 0.8, throttled: 0 });
    assert!(outcome.during_outage < 200, "{}", outcome.during_outage);
}

#[test]
fn growing_delays_alone_are_refused_far_more_often() {
    let strategy = Strategy::Backoff { first: SECOND, longest: MINUTE };
    let outcome = run(&Trial { strategy, ..trial(&PER_MINUTE, Speech::Nothing, 1) });
    assert!(outcome.throttled > 5_000, "{}", outcome.throttled);
}

mod laws {
    use super::*;
    use proptest::prelude::*;

    // The strategy of a trial goes by the same name.
    use proptest::strategy::Strategy;

    fn honest() -> impl Strategy<Value = Speech> {
        prop::sample::select(vec![Speech::RateLimit, Speech::RateLimitOld])
    }

    fn renewal() -> impl Strategy<Value = Renewal> {
        prop::sample::select(vec![Renewal::All, Renewal::Next])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn no_window_of_an_honest_server_is_exceeded(
            quota in 5..200_u32, window in 1..900_u64, phase in 0..900_u64, workers in 1..12_u32,
            speech in honest(), renewal in renewal(), seed: u64, kind in 0..4, latency in 1..300_u64
        ) {
            let window = Duration::from_secs(window);
            let phase = Duration::from_secs(phase);
            let shape = match kind {
                0 => Shape::FixedWindow { quota, window, phase },
                1 => Shape::SlidingLog { quota, window },
                2 => Shape::LockOut { quota, window, lock: MINUTE, restart: Restart::ByAnyRequest },
                _ => Shape::TokenBucket { rate: Rate::from_units(f64::from(quota), window), burst: quota },
            };
            let mut trial = Trial { workers, lasts: HOUR / 4, ..trial(&shape, speech, seed) };
            trial.server.renewal = renewal;
            let latency = Duration::from_millis(latency);
            trial.server.latency = Latency { base: latency, spread: latency };
            let outcome = run(&trial);
            prop_assert_eq!(outcome.throttled, 0);
        }

        #[test]
        fn a_trial_ends_the_same_way_every_time(quota in 1..400_u32, seed: u64) {
            let shape = Shape::SlidingLog { quota, window: MINUTE };
            let trial = Trial { lasts: HOUR / 4, ..trial(&shape, Speech::Nothing, seed) };
            prop_assert_eq!(run(&trial), run(&trial));
        }
    }
}
