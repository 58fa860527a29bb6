//! The real engine and the real worker on virtual time, against a made-up server, disk and
//! credential, killed again and again, beside the truth.
//!
//! A failing case prints its seed; put it into `SEEDS_KEPT` so that it is tried for ever.
#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail as loudly as tests")]
#![expect(clippy::print_stdout, reason = "the report counts the days")]

mod bad_messages;
mod breaker_scenarios;
mod completeness;
mod contents;
mod driver;
mod fault_schedule;
mod log_capture;
mod rate_limit_scenarios;
mod reference_model;
mod scenarios;
mod server;
mod test_config;
mod virtual_env;
mod virtual_timer;

use std::collections::BTreeSet;
use std::time::Duration;

use cynosure::engine::Status;
use rustix::io::Errno;

use driver::{KillMode, SimulationCase};

/// Seeds that failed once, or that lead somewhere rare.
const REGRESSION_SEEDS: &[u64] = &[];

/// Days of weather in one case.
const DAYS_PER_CASE: u64 = 10;

/// Cases in one run: with [`DAYS`] of weather and some of recovery, three hundred days and more.
const CASES_DEFAULT: u64 = 30;

/// The variable that asks for more cases, as `make test` and `make soak` do.
const CASES_VARIABLE: &str = "SIMULATION_CASES";

#[expect(clippy::disallowed_methods, reason = "how long a run is comes from the outside")]
fn case_count() -> u64 {
    let asked = std::env::var(CASES_VARIABLE);
    asked.map_or(CASES_DEFAULT, |count| count.parse().expect("a number of cases"))
}

/// Splits the cases over several tests, so that they run side by side.
fn run_cases(part: u64, parts: u64) {
    let (mut days, mut page_retries) = (0, 0);
    let mut statuses = BTreeSet::new();
    let seeds = (0..case_count()).chain(REGRESSION_SEEDS.iter().copied());
    for seed in seeds.filter(|seed| seed % parts == part) {
        let report = SimulationCase::with_random_faults(seed, DAYS_PER_CASE).run();
        println!("seed {seed}: {report:?}");
        days += report.days;
        page_retries += report.page_retries;
        statuses.extend(report.statuses);
    }
    let missed = Status::ALL.iter().find(|status| !statuses.contains(status.name()));
    assert_eq!(missed, None, "the weather is too mild");
    assert!(page_retries > 0, "no page was ever asked for again");
    println!("{days} days simulated");
}

#[test]
fn weeks_of_weather_and_crashes_lose_nothing_first_part() {
    run_cases(0, 2);
}

#[test]
fn weeks_of_weather_and_crashes_lose_nothing_second_part() {
    run_cases(1, 2);
}

/// Kills the process at every single step of a small extraction, and again while it recovers.
#[test]
fn a_crash_at_every_effect_loses_nothing_and_repeats_little() {
    let steps = SimulationCase::without_faults(1).run().steps;
    assert!(steps > 50, "{steps} steps are too few to mean anything");
    for step in 0..steps {
        SimulationCase::without_faults(1).killed_at_step(step, KillMode::Sigkill).run();
        SimulationCase::without_faults(1).killed_at_step(step, KillMode::PowerCut).run();
    }
}

#[test]
fn a_crash_at_every_call_to_the_disk_loses_nothing() {
    let calls = SimulationCase::without_faults(2).run().disk_calls;
    assert!(calls > 100, "{calls} calls are too few to mean anything");
    for call in 0..calls {
        SimulationCase::without_faults(2).killed_at_disk_call(call, KillMode::PowerCut).run();
    }
}

/// Cuts the power at every step and every call to the disk of an extraction in which one group is
/// written while another is placed and recorded.
#[test]
fn a_crash_with_two_batches_in_flight_loses_nothing() {
    let slow = || SimulationCase::without_faults(11).with_slow_disk();
    let whole = slow().run();
    let steps = (0..whole.steps).map(|step| slow().killed_at_step(step, KillMode::PowerCut));
    let calls =
        (0..whole.disk_calls).map(|call| slow().killed_at_disk_call(call, KillMode::PowerCut));

    let under_way = steps.chain(calls).map(|case| case.run().batches_at_crash).max();

    assert_eq!(under_way, Some(2), "that is how many may be");
}

#[test]
fn a_single_disk_error_costs_only_time() {
    for case in
        [SimulationCase::without_faults(6), SimulationCase::without_faults(11).with_slow_disk()]
    {
        let calls = case.clone().run().disk_calls;
        for call in 0..calls {
            case.clone().disk_fails_once(call, Errno::NOSPC).run();
        }
    }
}

#[test]
fn a_single_emfile_is_mostly_retried_at_once() {
    let calls = SimulationCase::without_faults(6).run().disk_calls;
    let retries = (0..calls).map(|call| {
        let report = SimulationCase::without_faults(6).disk_fails_once(call, Errno::MFILE).run();
        report.storage_retries
    });
    let retries: u64 = retries.sum();

    // Syncs, appends and removals are the others, and are not to be asked again.
    assert!(calls / 4 < retries && retries < calls, "{retries} retries of {calls} calls");
}

#[test]
fn an_outage_of_a_day_costs_few_requests_and_no_item() {
    let report = SimulationCase::with_outage(3, Duration::from_secs(86_400)).run();

    assert!(report.requests_in_outage <= 200, "{} requests in a day", report.requests_in_outage);
}

#[test]
fn a_retry_after_survives_a_crash() {
    let report = SimulationCase::throttled_and_killed(4).run();

    assert_eq!(report.requests_while_blocked, 0);
    assert!(report.throttled > 0, "the server never throttled");
}
