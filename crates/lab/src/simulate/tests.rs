//! Acceptance tests of the rate limiter against each kind of server, four simulated hours each.
//!
//! `cargo nextest run -p cynosure-lab -E 'test(simulate::tests)' --no-capture` prints the table.

use std::ops::RangeInclusive;
use std::time::Duration;

use cynosure_engine::rate_limit::{Rate, RateLimitPolicy, ResetMeaning};

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

/// Minimum utilization and maximum number of throttled requests of a simulation.
struct AcceptanceThreshold {
    min_utilization: f64,
    max_throttled: u64,
}

fn simulation(algorithm: &LimitAlgorithm, header_mode: HeaderMode, seed: u64) -> Simulation {
    let latency =
        LatencyModel { base: Duration::from_millis(60), mean_tail: Duration::from_millis(40) };
    Simulation {
        server: SimulatedServer {
            algorithm: algorithm.clone(),
            header_mode,
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

fn run_and_check(
    name: &str,
    simulation: &Simulation,
    threshold: &AcceptanceThreshold,
) -> SimulationResult {
    let result = run(simulation);
    let percent = result.utilization * 100.0;
    let (header_mode, seed) = (simulation.server.header_mode, simulation.seed);
    println!(
        "{name:20} {header_mode:?} seed {seed}: {percent:.1} %, {} throttled",
        result.throttled
    );
    assert!(
        result.utilization >= threshold.min_utilization,
        "{name} {header_mode:?} seed {seed}: {percent:.1} %"
    );
    assert!(
        result.throttled <= threshold.max_throttled,
        "{name} {header_mode:?}: {}",
        result.throttled
    );
    result
}

fn check_all_seeds(
    name: &str,
    algorithm: &LimitAlgorithm,
    header_mode: HeaderMode,
    threshold: &AcceptanceThreshold,
) {
    for seed in SEEDS {
        run_and_check(name, &simulation(algorithm, header_mode, seed), threshold);
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
    let threshold = AcceptanceThreshold { min_utilization: 0.975, max_throttled: 0 };
    for (quota, window) in [(200, TEN_SECONDS), (600, MINUTE)] {
        for (reset_semantics, seed) in
            [(ResetSemantics::FullQuota, 1), (ResetSemantics::NextUnit, 2)]
        {
            let algorithm = LimitAlgorithm::SlidingLog { quota, window };
            let mut case = simulation(&algorithm, HeaderMode::RateLimit, seed);
            case.server.reset_semantics = reset_semantics;
            run_and_check(&format!("sliding log, {reset_semantics:?}"), &case, &threshold);
        }
    }
}

#[test]
fn short_window_with_headers_is_used_fully_without_429s() {
    let threshold = AcceptanceThreshold { min_utilization: 0.97, max_throttled: 0 };
    for seconds in [1, 2, 3, 5, 7] {
        let (quota, window) = (20, Duration::from_secs(seconds));
        for algorithm in [
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
            let mut case = Simulation {
                duration: 10 * MINUTE,
                ..simulation(&algorithm, HeaderMode::RateLimit, 1)
            };
            let latency = Duration::from_millis(3);
            case.server.latency = LatencyModel { base: latency, mean_tail: latency };
            run_and_check(&format!("20 per {seconds} s"), &case, &threshold);
        }
    }
}

#[test]
fn a_shared_sliding_log_keeps_its_throughput() {
    let competing_client =
        CompetingClient { rate: Rate::per_second(6.0), active_for: 2 * MINUTE, idle_for: MINUTE };
    for reset_semantics in [ResetSemantics::FullQuota, ResetSemantics::NextUnit] {
        let algorithm = LimitAlgorithm::SlidingLog { quota: 200, window: TEN_SECONDS };
        let mut case =
            Simulation { duration: HOUR, ..simulation(&algorithm, HeaderMode::RateLimit, 1) };
        case.server.reset_semantics = reset_semantics;
        case.server.competing_client = Some(competing_client);
        run_and_check(
            "sliding log, shared",
            &case,
            &AcceptanceThreshold { min_utilization: 0.85, max_throttled: 360 },
        );
    }
}

#[test]
fn a_window_is_inferred_from_a_constant_reset_delta() {
    let algorithm = LimitAlgorithm::SlidingLog { quota: 200, window: TEN_SECONDS };
    for meaning in [ResetMeaning::DeltaSeconds, ResetMeaning::EpochSeconds] {
        let case = Simulation {
            duration: HOUR,
            ..simulation(&algorithm, HeaderMode::XRateLimit(meaning), 1)
        };
        run_and_check(
            "sliding log",
            &case,
            &AcceptanceThreshold { min_utilization: 0.94, max_throttled: 0 },
        );
    }
}

#[test]
fn a_lockout_is_never_triggered_with_limit_headers() {
    let threshold = AcceptanceThreshold { min_utilization: 0.96, max_throttled: 0 };
    check_all_seeds("19 per min, lock-out", &LOCKOUT_LIMIT, HeaderMode::RateLimit, &threshold);
}

#[test]
fn a_fixed_window_is_learned_without_headers() {
    let threshold = AcceptanceThreshold { min_utilization: 0.98, max_throttled: 60 };
    check_all_seeds("600 per min", &LIMIT_PER_MINUTE, HeaderMode::None, &threshold);
    check_all_seeds("600 per min", &LIMIT_PER_MINUTE, HeaderMode::RetryAfter, &threshold);
}

#[test]
fn a_bucket_is_learned_without_headers() {
    let threshold = AcceptanceThreshold { min_utilization: 0.97, max_throttled: 120 };
    check_all_seeds("bucket 10/s", &token_bucket(), HeaderMode::None, &threshold);
    check_all_seeds("bucket 10/s", &token_bucket(), HeaderMode::RetryAfter, &threshold);
}

#[test]
fn a_sliding_log_is_learned_without_headers() {
    let algorithm = LimitAlgorithm::SlidingLog { quota: 200, window: TEN_SECONDS };
    let threshold = AcceptanceThreshold { min_utilization: 0.97, max_throttled: 120 };
    check_all_seeds("sliding log", &algorithm, HeaderMode::None, &threshold);
    check_all_seeds("sliding log", &algorithm, HeaderMode::RetryAfter, &threshold);
}

#[test]
fn a_window_of_an_hour_is_learned_without_headers() {
    let threshold = AcceptanceThreshold { min_utilization: 0.96, max_throttled: 45 };
    check_all_seeds("5000 per h", &LIMIT_PER_HOUR, HeaderMode::None, &threshold);
    check_all_seeds("100 per h", &SMALL_LIMIT, HeaderMode::None, &threshold);
    let threshold = AcceptanceThreshold { min_utilization: 0.98, max_throttled: 12 };
    check_all_seeds("5000 per h", &LIMIT_PER_HOUR, HeaderMode::RetryAfter, &threshold);
    check_all_seeds("100 per h", &SMALL_LIMIT, HeaderMode::RetryAfter, &threshold);
}

/// Checks a server with a lockout at short, steady and widely varying latencies.
fn run_lockout(
    name: &str,
    algorithm: &LimitAlgorithm,
    seeds: RangeInclusive<u64>,
    thresholds: [(HeaderMode, AcceptanceThreshold); 2],
) {
    for (header_mode, threshold) in thresholds {
        for seed in seeds.clone() {
            for (base, mean_tail) in [(3, 3), (60, 40), (20, 160)] {
                let mut case = simulation(algorithm, header_mode, seed);
                let [base, mean_tail] = [base, mean_tail].map(Duration::from_millis);
                case.server.latency = LatencyModel { base, mean_tail };
                run_and_check(&format!("{name}, {base:?}+{mean_tail:?}"), &case, &threshold);
            }
        }
    }
}

/// Repeated requests extend the lockout to more than an hour, but only once.
#[test]
fn a_15_minute_lockout_costs_under_a_tenth_of_a_day() {
    for quota in [19, 600] {
        let algorithm = LimitAlgorithm::Lockout {
            quota,
            window: MINUTE,
            lockout: 15 * MINUTE,
            extension: LockoutExtension::ByAnyRequest,
        };
        let case =
            Simulation { duration: 24 * HOUR, ..simulation(&algorithm, HeaderMode::None, 1) };
        let threshold = AcceptanceThreshold { min_utilization: 0.91, max_throttled: 45 };
        run_and_check(&format!("{quota} per min, lock-out"), &case, &threshold);
    }
}

#[test]
fn a_short_lockout_is_triggered_once_per_rate_probe() {
    let algorithm = LimitAlgorithm::Lockout {
        quota: 60,
        window: TEN_SECONDS,
        lockout: 3 * TEN_SECONDS,
        extension: LockoutExtension::Never,
    };
    let thresholds = SILENT_MODES.map(|header_mode| {
        (header_mode, AcceptanceThreshold { min_utilization: 0.95, max_throttled: 30 })
    });
    run_lockout("60 in 10 s, else 30 s", &algorithm, 5..=6, thresholds);
}

#[test]
fn a_lockout_of_minutes_is_triggered_twice() {
    let algorithm = LimitAlgorithm::Lockout {
        quota: 100,
        window: MINUTE,
        lockout: 2 * MINUTE,
        extension: LockoutExtension::Never,
    };
    let thresholds = SILENT_MODES.map(|header_mode| {
        (header_mode, AcceptanceThreshold { min_utilization: 0.965, max_throttled: 25 })
    });
    run_lockout("100 per min, else 2 min", &algorithm, 6..=8, thresholds);
}

#[test]
fn an_extending_lockout_is_not_triggered_a_third_time() {
    let no_headers =
        (HeaderMode::None, AcceptanceThreshold { min_utilization: 0.93, max_throttled: 20 });
    let retry_after =
        (HeaderMode::RetryAfter, AcceptanceThreshold { min_utilization: 0.95, max_throttled: 12 });
    run_lockout("19 per min, else 5 min", &LOCKOUT_LIMIT, 1..=20, [no_headers, retry_after]);
}

#[test]
fn ten_minutes_suffice_to_use_most_of_the_quota() {
    let (quota, window, lockout) = (200, TEN_SECONDS, 3 * TEN_SECONDS);
    let algorithms = |seed: u64| {
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
                    lockout,
                    extension: LockoutExtension::Never,
                },
                [0.95, 0.95, 0.98],
            ),
        ]
    };
    let latency =
        LatencyModel { base: Duration::from_millis(3), mean_tail: Duration::from_millis(3) };
    for seed in 1..=8 {
        for (name, algorithm, min_utilizations) in algorithms(seed) {
            let header_modes = [HeaderMode::None, HeaderMode::RetryAfter, HeaderMode::RateLimit];
            for (header_mode, min_utilization) in header_modes.into_iter().zip(min_utilizations) {
                let max_throttled = if header_mode == HeaderMode::RateLimit { 0 } else { 30 };
                let mut case = Simulation {
                    duration: 10 * MINUTE,
                    ..simulation(&algorithm, header_mode, seed)
                };
                case.server.latency = latency;
                run_and_check(
                    &format!("{name}, 10 min"),
                    &case,
                    &AcceptanceThreshold { min_utilization, max_throttled },
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
        let threshold = AcceptanceThreshold { min_utilization: 0.98, max_throttled: 0 };
        run_and_check(
            "5000 per h",
            &simulation(&LIMIT_PER_HOUR, HeaderMode::XRateLimit(meaning), 1),
            &threshold,
        );
        let case = Simulation {
            duration: HOUR / 2,
            ..simulation(&LIMIT_PER_MINUTE, HeaderMode::XRateLimit(meaning), 1)
        };
        run_and_check("600 per min", &case, &threshold);
    }
}

#[test]
fn the_phase_of_a_window_makes_no_difference() {
    let algorithm = LimitAlgorithm::FixedWindow { quota: 600, window: MINUTE, phase: 23 * SECOND };
    for (header_mode, max_throttled) in [(HeaderMode::None, 40), (HeaderMode::RateLimit, 0)] {
        let case = Simulation { duration: HOUR, ..simulation(&algorithm, header_mode, 1) };
        run_and_check(
            "600 per min, shifted",
            &case,
            &AcceptanceThreshold { min_utilization: 0.95, max_throttled },
        );
    }
}

#[test]
fn quota_left_by_a_competing_client_is_used() {
    let competing_client =
        CompetingClient { rate: Rate::per_second(5.0), active_for: HOUR, idle_for: Duration::ZERO };
    for (header_mode, min_utilization, max_throttled) in
        [(HeaderMode::None, 0.85, 200), (HeaderMode::RateLimit, 0.97, 300)]
    {
        let mut case = simulation(&LIMIT_PER_MINUTE, header_mode, 1);
        case.server.competing_client = Some(competing_client);
        run_and_check(
            "600 per min, shared",
            &case,
            &AcceptanceThreshold { min_utilization, max_throttled },
        );
    }
}

#[test]
fn an_outage_does_not_lower_the_learned_rate() {
    let mut case = simulation(&LIMIT_PER_MINUTE, HeaderMode::RateLimit, 1);
    case.duration = HOUR;
    case.server.outages = vec![SimulatedOutage { start: 20 * MINUTE, duration: 10 * MINUTE }];
    let result = run_and_check(
        "600 per min, outage",
        &case,
        &AcceptanceThreshold { min_utilization: 0.8, max_throttled: 0 },
    );
    assert!(result.requests_during_outage < 200, "{}", result.requests_during_outage);
}

#[test]
fn plain_backoff_gets_far_more_429s() {
    let strategy = SendStrategy::Backoff { initial_delay: SECOND, max_delay: MINUTE };
    let result =
        run(&Simulation { strategy, ..simulation(&LIMIT_PER_MINUTE, HeaderMode::None, 1) });
    assert!(result.throttled > 5_000, "{}", result.throttled);
}

mod proptests {
    use super::*;
    use proptest::prelude::*;

    fn advertised_header_modes() -> impl Strategy<Value = HeaderMode> {
        prop::sample::select(vec![HeaderMode::RateLimit, HeaderMode::RateLimitLegacy])
    }

    fn reset_semantics() -> impl Strategy<Value = ResetSemantics> {
        prop::sample::select(vec![ResetSemantics::FullQuota, ResetSemantics::NextUnit])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        #[test]
        fn no_advertised_window_is_exceeded(
            quota in 5..200_u32, window in 1..900_u64, phase in 0..900_u64, workers in 1..12_u32,
            header_mode in advertised_header_modes(), reset_semantics in reset_semantics(), seed: u64, kind in 0..4, latency in 1..300_u64
        ) {
            let window = Duration::from_secs(window);
            let phase = Duration::from_secs(phase);
            let algorithm = match kind {
                0 => LimitAlgorithm::FixedWindow { quota, window, phase },
                1 => LimitAlgorithm::SlidingLog { quota, window },
                2 => LimitAlgorithm::Lockout { quota, window, lockout: MINUTE, extension: LockoutExtension::ByAnyRequest },
                _ => LimitAlgorithm::TokenBucket { rate: Rate::from_units(f64::from(quota), window), burst: quota },
            };
            let mut case = Simulation { workers, duration: HOUR / 4, ..simulation(&algorithm, header_mode, seed) };
            case.server.reset_semantics = reset_semantics;
            let latency = Duration::from_millis(latency);
            case.server.latency = LatencyModel { base: latency, mean_tail: latency };
            let result = run(&case);
            prop_assert_eq!(result.throttled, 0);
        }

        #[test]
        fn a_simulation_is_deterministic(quota in 1..400_u32, seed: u64) {
            let algorithm = LimitAlgorithm::SlidingLog { quota, window: MINUTE };
            let case = Simulation { duration: HOUR / 4, ..simulation(&algorithm, HeaderMode::None, seed) };
            prop_assert_eq!(run(&case), run(&case));
        }
    }
}
