//! Simulation of the real engine and worker in virtual time.
//!
//! Server, disk and credential are simulated, the process is killed again and again, and disk and
//! ledger are compared with a reference model. A failing case prints its seed; add it to
//! `REGRESSION_SEEDS`, so that every run tests it again.
#![expect(clippy::panic, clippy::unwrap_used, reason = "test helpers panic on failure")]
#![expect(clippy::print_stdout, reason = "the report of each case is printed")]

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

use cynosure_engine::Status;
use driver::{KillMode, SimulationCase};
use rustix::io::Errno;

/// Seeds that failed once, or that reach a rare state.
const REGRESSION_SEEDS: &[u64] = &[];

/// Days of random faults in one case.
const DAYS_PER_CASE: u64 = 10;

/// Cases in one run. Each has [`DAYS_PER_CASE`] days of faults and a recovery, so that one run
/// simulates more than 300 days.
const CASES_DEFAULT: u64 = 30;

/// Environment variable with the number of cases; `make test` and `make soak` set it.
const CASES_VARIABLE: &str = "SIMULATION_CASES";

#[expect(clippy::disallowed_methods, reason = "the number of cases is configurable")]
fn case_count() -> u64 {
    let value = std::env::var(CASES_VARIABLE);
    value.map_or(CASES_DEFAULT, |count| count.parse().expect("a number of cases"))
}

/// Runs one of `parts` parts of the cases, so that several tests run them in parallel.
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
    let missing = Status::ALL.iter().find(|status| !statuses.contains(status.name()));
    assert_eq!(missing, None, "the random faults never led to this status");
    assert!(page_retries > 0, "no page was ever requested again");
    println!("{days} days simulated");
}

#[test]
fn random_faults_and_crashes_lose_nothing_part_1() {
    run_cases(0, 2);
}

#[test]
fn random_faults_and_crashes_lose_nothing_part_2() {
    run_cases(1, 2);
}

/// Kills the process at every step of a small extraction: once by SIGKILL, once by a power cut.
#[test]
fn a_crash_at_every_effect_loses_nothing_and_repeats_little() {
    let steps = SimulationCase::without_faults(1).run().steps;
    assert!(steps > 50, "{steps} steps are too few for a meaningful test");
    for step in 0..steps {
        SimulationCase::without_faults(1).killed_at_step(step, KillMode::Sigkill).run();
        SimulationCase::without_faults(1).killed_at_step(step, KillMode::PowerCut).run();
    }
}

#[test]
fn a_crash_at_every_call_to_the_disk_loses_nothing() {
    let calls = SimulationCase::without_faults(2).run().disk_calls;
    assert!(calls > 100, "{calls} calls are too few for a meaningful test");
    for call in 0..calls {
        SimulationCase::without_faults(2).killed_at_disk_call(call, KillMode::PowerCut).run();
    }
}

/// Cuts the power at every step and every disk call of an extraction in which one batch is written
/// while another one is published and recorded.
#[test]
fn a_crash_with_two_batches_in_flight_loses_nothing() {
    let slow_case = || SimulationCase::without_faults(4).with_slow_disk();
    let report = slow_case().run();
    let steps = (0..report.steps).map(|step| slow_case().killed_at_step(step, KillMode::PowerCut));
    let calls = (0..report.disk_calls)
        .map(|call| slow_case().killed_at_disk_call(call, KillMode::PowerCut));

    let batches = steps.chain(calls).map(|case| case.run().batches_at_crash).max();

    assert_eq!(batches, Some(2), "at most two batches may be in flight");
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

    // The other calls are syncs, appends and removals, which are not retried.
    assert!(calls / 4 < retries && retries < calls, "{retries} retries of {calls} calls");
}

#[test]
fn an_outage_of_a_day_costs_few_requests_and_blames_no_item() {
    let report = SimulationCase::with_outage(3, Duration::from_secs(86_400)).run();

    assert!(report.requests_in_outage <= 200, "{} requests in a day", report.requests_in_outage);
}

#[test]
fn a_retry_after_survives_a_crash() {
    let report = SimulationCase::throttled_and_killed(4).run();

    assert_eq!(report.requests_while_blocked, 0);
    assert!(report.throttled > 0, "the server never throttled");
}
