//! What following a quota must achieve against each kind of server: four hours each, measured.
//!
//! `cargo nextest run -E 'test(simulate::bar)' --no-capture` prints the table.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::engine::rate_limit::{Rate, RateLimitPolicy, ResetMeaning};
use crate::simulate::{
    CompetingClient, HeaderMode, LatencyModel, LimitAlgorithm, LockoutExtension, ResetSemantics,
    SendStrategy, SimulatedOutage, SimulatedServer, Simulation, SimulationResult, run,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const TEN_SECONDS: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(3600);
const SEEDS: [u64; 2] = [1, 2];
const SILENT_MODES: [HeaderMode; 2] = [HeaderMode::None, HeaderMode::RetryAfter];

const LIMIT_PER_MINUTE: LimitAlgorithm =
    LimitAlgorithm::FixedWindow { quota: 600, window: MINUTE, phase: Duration::ZERO };
const LIMIT_PER_HOUR: LimitAlgorithm =
    LimitAlgorithm::FixedWindow { quota: 5000, window: HOUR, phase: Duration::ZERO };
const SMALL_LIMIT: LimitAlgorithm =
    LimitAlgorithm::FixedWindow { quota: 100, window: HOUR, phase: Duration::ZERO };
const LOCKOUT_LIMIT: LimitAlgorithm = LimitAlgorithm::Lockout {
    quota: 19,
    window: MINUTE,
    lockout: Duration::from_secs(300),
    extension: LockoutExtension::ByAnyRequest,
};

fn token_bucket() -> LimitAlgorithm {
    LimitAlgorithm::TokenBucket { rate: Rate::per_second(10.0), burst: 20 }
}

/// The least share, and the most requests that may be throttled.
struct AcceptanceThreshold {
    min_utilization: f64,
    max_throttled: u64,
}

fn simulation(shape: &LimitAlgorithm, speech: HeaderMode, seed: u64) -> Simulation {
    let latency =
        LatencyModel { base: Duration::from_millis(60), mean_tail: Duration::from_millis(40) };
    let shape = shape.clone();
    Simulation {
        server: SimulatedServer {
            algorithm: shape,
            header_mode: speech,
            reset_semantics: ResetSemantics::FullQuota,
            latency,
            competing_client: None,
            outages: Vec::new(),
        },
        strategy: SendStrategy::RateLimiter(RateLimitPolicy::default()),
        workers: 8,
        weight: 1,
        duration: 4 * HOUR,
        request_goal: None,
        seed,
        sample_interval: 10 * MINUTE,
    }
}

fn run_and_check(name: &str, trial: &Simulation, bar: &AcceptanceThreshold) -> SimulationResult {
    let outcome = run(trial);
    let percent = outcome.utilization * 100.0;
    let (speech, seed) = (trial.server.header_mode, trial.seed);
    println!("{name:20} {speech:?} seed {seed}: {percent:.1} %, {} throttled", outcome.throttled);
    assert!(
        outcome.utilization >= bar.min_utilization,
        "{name} {speech:?} seed {seed}: {percent:.1} %"
    );
    assert!(outcome.throttled <= bar.max_throttled, "{name} {speech:?}: {}", outcome.throttled);
    outcome
}

fn check_all_seeds(
    name: &str,
    shape: &LimitAlgorithm,
    speech: HeaderMode,
    bar: &AcceptanceThreshold,
) {
    for seed in SEEDS {
        run_and_check(name, &simulation(shape, speech, seed), bar);
    }
}

#[test]
fn fixed_window_with_headers_is_used_fully_without_429s() {
    check_all_seeds(
        "600 per min",
        &LIMIT_PER_MINUTE,
        HeaderMode::RateLimit,
        &AcceptanceThreshold { min_utilization: 0.99, max_throttled: 0 },
    );
    check_all_seeds(
        "5000 per h",
        &LIMIT_PER_HOUR,
        HeaderMode::RateLimit,
        &AcceptanceThreshold { min_utilization: 0.99, max_throttled: 0 },
    );
    check_all_seeds(
        "100 per h",
        &SMALL_LIMIT,
        HeaderMode::RateLimit,
        &AcceptanceThreshold { min_utilization: 0.99, max_throttled: 0 },
    );
}

#[test]
fn token_bucket_with_headers_is_used_fully_without_429s() {
    check_all_seeds(
        "bucket 10/s",
        &token_bucket(),
        HeaderMode::RateLimit,
        &AcceptanceThreshold { min_utilization: 0.99, max_throttled: 0 },
    );
}

#[test]
fn sliding_log_with_headers_is_used_fully_without_429s() {
    let bar = AcceptanceThreshold { min_utilization: 0.975, max_throttled: 0 };
    for (quota, window) in [(200, TEN_SECONDS), (600, MINUTE)] {
        for (renewal, seed) in [(ResetSemantics::FullQuota, 1), (ResetSemantics::NextUnit, 2)] {
            let shape = LimitAlgorithm::SlidingLog { quota, window };
            let mut trial = simulation(&shape, HeaderMode::RateLimit, seed);
            trial.server.reset_semantics = renewal;
            run_and_check(&format!("sliding log, {renewal:?}"), &trial, &bar);
        }
    }
}

#[test]
fn short_window_with_headers_is_used_fully_without_429s() {
    let bar = AcceptanceThreshold { min_utilization: 0.97, max_throttled: 0 };
    for seconds in [1, 2, 3, 5, 7] {
        let (quota, window) = (20, Duration::from_secs(seconds));
        for shape in [
            LimitAlgorithm::FixedWindow { quota, window, phase: Duration::ZERO },
            LimitAlgorithm::SlidingLog { quota, window },
            LimitAlgorithm::TokenBucket {
                rate: Rate::from_units(f64::from(quota), window),
                burst: quota,
            },
            LimitAlgorithm::Lockout {
                quota,
                window,
                lockout: MINUTE,
                extension: LockoutExtension::ByAnyRequest,
            },
        ] {
            let mut trial = Simulation {
                duration: 10 * MINUTE,
                ..simulation(&shape, HeaderMode::RateLimit, 1)
            };
            let milliseconds = Duration::from_millis(3);
            trial.server.latency = LatencyModel { base: milliseconds, mean_tail: milliseconds };
            run_and_check(&format!("20 per {seconds} s"), &trial, &bar);
        }
    }
}

#[test]
fn a_shared_sliding_log_keeps_its_throughput() {
    let neighbour =
        CompetingClient { rate: Rate::per_second(6.0), active_for: 2 * MINUTE, idle_for: MINUTE };
    for renewal in [ResetSemantics::FullQuota, ResetSemantics::NextUnit] {
        let shape = LimitAlgorithm::SlidingLog { quota: 200, window: TEN_SECONDS };
        let mut trial =
            Simulation { duration: HOUR, ..simulation(&shape, HeaderMode::RateLimit, 1) };
        trial.server.reset_semantics = renewal;
        trial.server.competing_client = Some(neighbour);
        run_and_check(
            "sliding log, shared",
            &trial,
            &AcceptanceThreshold { min_utilization: 0.85, max_throttled: 360 },
        );
    }
}

#[test]
fn a_window_is_inferred_from_a_constant_reset_delta() {
    let shape = LimitAlgorithm::SlidingLog { quota: 200, window: TEN_SECONDS };
    for meaning in [ResetMeaning::DeltaSeconds, ResetMeaning::EpochSeconds] {
        let trial =
            Simulation { duration: HOUR, ..simulation(&shape, HeaderMode::XRateLimit(meaning), 1) };
        run_and_check(
            "sliding log",
            &trial,
            &AcceptanceThreshold { min_utilization: 0.94, max_throttled: 0 },
        );
    }
}

#[test]
fn a_lockout_is_never_triggered_with_limit_headers() {
    let bar = AcceptanceThreshold { min_utilization: 0.96, max_throttled: 0 };
    check_all_seeds("19 per min, lock-out", &LOCKOUT_LIMIT, HeaderMode::RateLimit, &bar);
}

#[test]
fn a_fixed_window_is_learned_without_headers() {
    let bar = AcceptanceThreshold { min_utilization: 0.98, max_throttled: 60 };
    check_all_seeds("600 per min", &LIMIT_PER_MINUTE, HeaderMode::None, &bar);
    check_all_seeds("600 per min", &LIMIT_PER_MINUTE, HeaderMode::RetryAfter, &bar);
}

#[test]
fn a_bucket_is_learned_without_headers() {
    let bar = AcceptanceThreshold { min_utilization: 0.97, max_throttled: 120 };
    check_all_seeds("bucket 10/s", &token_bucket(), HeaderMode::None, &bar);
    check_all_seeds("bucket 10/s", &token_bucket(), HeaderMode::RetryAfter, &bar);
}

#[test]
fn a_sliding_log_is_learned_without_headers() {
    let shape = LimitAlgorithm::SlidingLog { quota: 200, window: TEN_SECONDS };
    let bar = AcceptanceThreshold { min_utilization: 0.97, max_throttled: 120 };
    check_all_seeds("sliding log", &shape, HeaderMode::None, &bar);
    check_all_seeds("sliding log", &shape, HeaderMode::RetryAfter, &bar);
}

#[test]
fn a_window_of_an_hour_is_learned_without_headers() {
    let bar = AcceptanceThreshold { min_utilization: 0.96, max_throttled: 45 };
    check_all_seeds("5000 per h", &LIMIT_PER_HOUR, HeaderMode::None, &bar);
    check_all_seeds("100 per h", &SMALL_LIMIT, HeaderMode::None, &bar);
    let bar = AcceptanceThreshold { min_utilization: 0.98, max_throttled: 12 };
    check_all_seeds("5000 per h", &LIMIT_PER_HOUR, HeaderMode::RetryAfter, &bar);
    check_all_seeds("100 per h", &SMALL_LIMIT, HeaderMode::RetryAfter, &bar);
}

/// A server that locks out, whose replies come at once, steadily, and anyhow.
fn run_lockout(
    name: &str,
    shape: &LimitAlgorithm,
    seeds: RangeInclusive<u64>,
    bars: [(HeaderMode, AcceptanceThreshold); 2],
) {
    for (speech, bar) in bars {
        for seed in seeds.clone() {
            for (base, spread) in [(3, 3), (60, 40), (20, 160)] {
                let mut trial = simulation(shape, speech, seed);
                let [base, spread] = [base, spread].map(Duration::from_millis);
                trial.server.latency = LatencyModel { base, mean_tail: spread };
                run_and_check(&format!("{name}, {base:?}+{spread:?}"), &trial, &bar);
            }
        }
    }
}

/// Many tries draw it out to more than an hour, which is paid once.
#[test]
fn a_15_minute_lockout_costs_one_morning() {
    let lock = 15 * MINUTE;
    for quota in [19, 600] {
        let restart = LockoutExtension::ByAnyRequest;
        let shape =
            LimitAlgorithm::Lockout { quota, window: MINUTE, lockout: lock, extension: restart };
        let trial = Simulation { duration: 24 * HOUR, ..simulation(&shape, HeaderMode::None, 1) };
        let bar = AcceptanceThreshold { min_utilization: 0.91, max_throttled: 45 };
        run_and_check(&format!("{quota} per min, lock-out"), &trial, &bar);
    }
}

#[test]
fn a_lockout_of_seconds_is_met_once_per_rate_probe() {
    let lock = 3 * TEN_SECONDS;
    let shape = LimitAlgorithm::Lockout {
        quota: 60,
        window: TEN_SECONDS,
        lockout: lock,
        extension: LockoutExtension::Never,
    };
    let bars = SILENT_MODES
        .map(|speech| (speech, AcceptanceThreshold { min_utilization: 0.95, max_throttled: 30 }));
    run_lockout("60 in 10 s, else 30 s", &shape, 5..=6, bars);
}

#[test]
fn a_lockout_of_minutes_is_met_twice() {
    let lock = 2 * MINUTE;
    let shape = LimitAlgorithm::Lockout {
        quota: 100,
        window: MINUTE,
        lockout: lock,
        extension: LockoutExtension::Never,
    };
    let bars = SILENT_MODES
        .map(|speech| (speech, AcceptanceThreshold { min_utilization: 0.965, max_throttled: 25 }));
    run_lockout("100 per min, else 2 min", &shape, 6..=8, bars);
}

#[test]
fn an_extending_lockout_is_not_met_a_third_time() {
    let silent =
        (HeaderMode::None, AcceptanceThreshold { min_utilization: 0.93, max_throttled: 20 });
    let told =
        (HeaderMode::RetryAfter, AcceptanceThreshold { min_utilization: 0.95, max_throttled: 12 });
    run_lockout("19 per min, else 5 min", &LOCKOUT_LIMIT, 1..=20, [silent, told]);
}

#[test]
fn ten_minutes_suffice_to_use_most_of_the_quota() {
    let (quota, window, lock) = (200, TEN_SECONDS, 3 * TEN_SECONDS);
    let shapes = |seed: u64| {
        let phase = Duration::from_millis(seed * 2_713 % 10_000);
        [
            (
                "fixed window",
                LimitAlgorithm::FixedWindow { quota, window, phase },
                [0.95, 0.94, 0.98],
            ),
            ("sliding log", LimitAlgorithm::SlidingLog { quota, window }, [0.965, 0.955, 0.98]),
            (
                "bucket",
                LimitAlgorithm::TokenBucket { rate: Rate::per_second(20.0), burst: 40 },
                [0.97, 0.97, 0.99],
            ),
            (
                "lock-out",
                LimitAlgorithm::Lockout {
                    quota: 60,
                    window,
                    lockout: lock,
                    extension: LockoutExtension::Never,
                },
                [0.95, 0.95, 0.98],
            ),
        ]
    };
    let latency =
        LatencyModel { base: Duration::from_millis(3), mean_tail: Duration::from_millis(3) };
    for seed in 1..=8 {
        for (name, shape, shares) in shapes(seed) {
            let speeches = [HeaderMode::None, HeaderMode::RetryAfter, HeaderMode::RateLimit];
            for (speech, share) in speeches.into_iter().zip(shares) {
                let throttled = if speech == HeaderMode::RateLimit { 0 } else { 30 };
                let mut trial =
                    Simulation { duration: 10 * MINUTE, ..simulation(&shape, speech, seed) };
                trial.server.latency = latency;
                run_and_check(
                    &format!("{name}, 10 min"),
                    &trial,
                    &AcceptanceThreshold { min_utilization: share, max_throttled: throttled },
                );
            }
        }
    }
}

#[test]
fn a_reset_is_parsed_in_every_unit() {
    for meaning in [
        ResetMeaning::DeltaSeconds,
        ResetMeaning::DeltaMillis,
        ResetMeaning::EpochSeconds,
        ResetMeaning::EpochMillis,
        ResetMeaning::Date,
    ] {
        let bar = AcceptanceThreshold { min_utilization: 0.98, max_throttled: 0 };
        run_and_check(
            "5000 per h",
            &simulation(&LIMIT_PER_HOUR, HeaderMode::XRateLimit(meaning), 1),
            &bar,
        );
        let trial = Simulation {
            duration: HOUR / 2,
            ..simulation(&LIMIT_PER_MINUTE, HeaderMode::XRateLimit(meaning), 1)
        };
        run_and_check("600 per min", &trial, &bar);
    }
}

#[test]
fn the_phase_of_a_window_makes_no_difference() {
    let shape = LimitAlgorithm::FixedWindow { quota: 600, window: MINUTE, phase: 23 * SECOND };
    for (speech, throttled) in [(HeaderMode::None, 40), (HeaderMode::RateLimit, 0)] {
        let trial = Simulation { duration: HOUR, ..simulation(&shape, speech, 1) };
        run_and_check(
            "600 per min, shifted",
            &trial,
            &AcceptanceThreshold { min_utilization: 0.95, max_throttled: throttled },
        );
    }
}

#[test]
fn quota_left_by_a_competing_client_is_used() {
    let neighbour =
        CompetingClient { rate: Rate::per_second(5.0), active_for: HOUR, idle_for: Duration::ZERO };
    for (speech, share, throttled) in
        [(HeaderMode::None, 0.85, 200), (HeaderMode::RateLimit, 0.97, 300)]
    {
        let mut trial = simulation(&LIMIT_PER_MINUTE, speech, 1);
        trial.server.competing_client = Some(neighbour);
        run_and_check(
            "600 per min, shared",
            &trial,
            &AcceptanceThreshold { min_utilization: share, max_throttled: throttled },
        );
    }
}

#[test]
fn an_outage_does_not_lower_the_learned_rate() {
    let mut trial = simulation(&LIMIT_PER_MINUTE, HeaderMode::RateLimit, 1);
    trial.duration = HOUR;
    trial.server.outages = vec![SimulatedOutage { start: 20 * MINUTE, duration: 10 * MINUTE }];
    let outcome = run_and_check(
        "600 per min, outage",
        &trial,
        &AcceptanceThreshold { min_utilization: 0.8, max_throttled: 0 },
    );
    assert!(outcome.requests_during_outage < 200, "{}", outcome.requests_during_outage);
}

#[test]
fn plain_backoff_gets_far_more_429s() {
    let strategy = SendStrategy::Backoff { initial_delay: SECOND, max_delay: MINUTE };
    let outcome =
        run(&Simulation { strategy, ..simulation(&LIMIT_PER_MINUTE, HeaderMode::None, 1) });
    assert!(outcome.throttled > 5_000, "{}", outcome.throttled);
}

mod proptests {
    use super::*;
    use proptest::prelude::*;

    fn advertised_header_modes() -> impl Strategy<Value = HeaderMode> {
        prop::sample::select(vec![HeaderMode::RateLimit, HeaderMode::RateLimitOld])
    }

    fn reset_semantics() -> impl Strategy<Value = ResetSemantics> {
        prop::sample::select(vec![ResetSemantics::FullQuota, ResetSemantics::NextUnit])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn no_advertised_window_is_exceeded(
            quota in 5..200_u32, window in 1..900_u64, phase in 0..900_u64, workers in 1..12_u32,
            speech in advertised_header_modes(), renewal in reset_semantics(), seed: u64, kind in 0..4, latency in 1..300_u64
        ) {
            let window = Duration::from_secs(window);
            let phase = Duration::from_secs(phase);
            let shape = match kind {
                0 => LimitAlgorithm::FixedWindow { quota, window, phase },
                1 => LimitAlgorithm::SlidingLog { quota, window },
                2 => LimitAlgorithm::Lockout { quota, window, lockout: MINUTE, extension: LockoutExtension::ByAnyRequest },
                _ => LimitAlgorithm::TokenBucket { rate: Rate::from_units(f64::from(quota), window), burst: quota },
            };
            let mut trial = Simulation { workers, duration: HOUR / 4, ..simulation(&shape, speech, seed) };
            trial.server.reset_semantics = renewal;
            let latency = Duration::from_millis(latency);
            trial.server.latency = LatencyModel { base: latency, mean_tail: latency };
            let outcome = run(&trial);
            prop_assert_eq!(outcome.throttled, 0);
        }

        #[test]
        fn a_simulation_is_deterministic(quota in 1..400_u32, seed: u64) {
            let shape = LimitAlgorithm::SlidingLog { quota, window: MINUTE };
            let trial = Simulation { duration: HOUR / 4, ..simulation(&shape, HeaderMode::None, seed) };
            prop_assert_eq!(run(&trial), run(&trial));
        }
    }
}
