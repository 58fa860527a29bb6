//! Scenarios with one fault each, at a moment that random faults would rarely hit.

use std::rc::Rc;
use std::time::Duration;

use cynosure::disk::{DiskFault, FaultDuration};
use cynosure::env::Env;
use cynosure::retry::BackoffConfig;
use cynosure::worker::{LoopExit, RunMode, StopSignal};
use cynosure_engine::rate_limit::Rate;
use cynosure_engine::{RestartCause, Status};
use rustix::io::Errno;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::driver::{Harness, run_scenario};
use crate::log_capture::LogCapture;
use crate::reference_model;
use crate::server::{ServerCondition, SimServer};
use crate::virtual_env::KillPoint;

#[test]
fn once_mode_retries_earlier_failures() {
    for condition in
        [ServerCondition::LoginPage, ServerCondition::Down, ServerCondition::Unreachable]
    {
        run_scenario(async |harness| {
            harness.server.borrow_mut().condition = condition;
            let result = harness.run_process(RunMode::Once).await.unwrap();
            assert_eq!(result.exit, LoopExit::GaveUp, "{condition:?}");

            harness.server.borrow_mut().condition = ServerCondition::Healthy;
            let result = harness.run_process(RunMode::Once).await.unwrap();
            assert_eq!(result.exit, LoopExit::Completed, "{condition:?}: {result:?}");
        });
    }
}

#[test]
fn once_mode_retries_a_rejected_credential() {
    run_scenario(async |harness| {
        harness.server.borrow_mut().credential = 2;
        let result = harness.run_process(RunMode::Once).await.unwrap();
        assert_eq!(result.exit, LoopExit::GaveUp);

        harness.server.borrow_mut().credential_file = 2;
        let result = harness.run_process(RunMode::Once).await.unwrap();
        assert_eq!(result.exit, LoopExit::Completed, "{result:?}");
    });
}

#[test]
fn a_session_completes_after_losing_any_saved_state() {
    run_after_losing("the ledger", Harness::delete_ledger);
    run_after_losing("the state file", Harness::delete_state_file);
    run_after_losing("both", |harness| {
        harness.delete_ledger();
        harness.delete_state_file();
    });
    run_after_losing("the state file and its copy", |harness| {
        harness.delete_state_file();
        harness.corrupt_snapshot();
    });
}

/// Kills the process at many steps of a session, deletes saved state, and asserts that the session
/// then completes.
fn run_after_losing(lost: &str, delete: fn(&mut Harness)) {
    for step in (10..400).step_by(13) {
        run_scenario(async |harness| {
            harness.env.start_process(Some(KillPoint::Step(step)));
            harness.run_process(RunMode::Once).await;
            harness.env.start_process(None);
            delete(harness);

            let result = harness.run_process(RunMode::Once).await.unwrap();

            assert!(
                matches!(result.exit, LoopExit::Completed | LoopExit::NothingToDo),
                "without {lost}, after {step} steps: {result:?}"
            );
            harness.check_all_stored();
        });
    }
}

#[test]
fn no_restart_happens_that_cannot_be_recorded() {
    for calls in 0..40 {
        run_scenario(async |harness| {
            harness.run_process(RunMode::UntilComplete).await;
            let at = harness.disk.operation_count() + calls;
            harness.disk.set_fault(DiskFault {
                at_operation: at,
                duration: FaultDuration::Permanent,
                errno: Errno::NOSPC,
            });
            harness.server.borrow_mut().disk_faults += 1;

            // The worker records the restart or keeps running; `run_process` asserts that.
            timeout(Duration::from_secs(3600), harness.run_process(RunMode::Continuous)).await.ok();
        });
    }
}

#[test]
fn no_request_is_sent_while_the_credential_is_refreshed() {
    run_scenario(async |harness| {
        let server = Rc::clone(&harness.server);
        server.borrow_mut().deliver(1000, &harness.env);
        server.borrow_mut().credential_read_duration = Duration::from_secs(30);
        let expiry = async {
            SimServer::wait_until_served(&server, 100).await;
            let mut server = server.borrow_mut();
            (server.credential, server.credential_file) = (2, 2);
        };

        let (result, ()) = tokio::join!(harness.run_process(RunMode::Once), expiry);

        assert_eq!(result.map(|result| result.exit), Some(LoopExit::Completed));
        let unauthorized = harness.server.borrow().unauthorized_requests;
        assert!((1..=8).contains(&unauthorized), "{unauthorized} unauthorized requests");
    });
}

#[test]
fn a_six_hour_rate_limit_is_never_reported_as_stuck() {
    run_scenario(async |harness| {
        let server = Rc::clone(&harness.server);
        server.borrow_mut().condition =
            ServerCondition::RateLimited { requests: 50, window_seconds: 6 * 3600 };

        let result = harness.run_process(RunMode::Once).await.unwrap();

        assert_eq!(result.exit, LoopExit::Completed);
        assert_eq!(result.machine.restarts.count, 0);
        let server = server.borrow();
        assert!(server.rate_limited_requests > 0, "the rate limit was never reached");
        assert_eq!(server.requests_while_blocked, 0);
    });
}

/// Steps the clock while the worker waits for a six-hour rate limit, and back an hour later.
fn run_six_hour_wait_with_clock_steps(seconds: i64) {
    run_scenario(async |harness| {
        let (server, env) = (Rc::clone(&harness.server), harness.env.clone());
        server.borrow_mut().condition =
            ServerCondition::RateLimited { requests: 50, window_seconds: 6 * 3600 };
        let clock_steps = async {
            SimServer::wait_until_served(&server, 20).await;
            sleep(Duration::from_secs(1800)).await;
            env.step_clock(seconds);
            sleep(Duration::from_secs(3600)).await;
            env.step_clock(-seconds);
        };
        let started_at = harness.env.server_now();

        let (result, ()) = tokio::join!(harness.run_process(RunMode::Once), clock_steps);

        let result = result.unwrap();
        assert_eq!(
            (result.exit, result.machine.restarts.count),
            (LoopExit::Completed, 0),
            "{seconds}"
        );
        assert_eq!(harness.server.borrow().requests_while_blocked, 0, "{seconds}");
        let elapsed = harness.env.server_now().since(started_at);
        assert!(elapsed < Duration::from_secs(16 * 3600), "{seconds}: {elapsed:?}");
        harness.check_all_stored();
    });
}

#[test]
fn a_clock_step_does_not_change_a_server_given_wait() {
    for days in [-20_000, -400, -1, 1, 400] {
        run_six_hour_wait_with_clock_steps(days * 86_400);
    }
}

#[test]
fn a_backward_clock_step_does_not_delay_item_retries() {
    run_scenario(async |harness| {
        let (server, env) = (Rc::clone(&harness.server), harness.env.clone());
        server.borrow_mut().condition = ServerCondition::Flaky;
        let clock_steps = async {
            for seconds in [3600, 86_400, 2 * 86_400] {
                sleep(Duration::from_secs(5)).await;
                env.step_clock(-seconds);
            }
            server.borrow_mut().repair_all();
        };
        let started_at = harness.env.server_now();

        let (result, ()) = tokio::join!(harness.run_process(RunMode::UntilComplete), clock_steps);

        assert_eq!(result.map(|result| result.exit), Some(LoopExit::Completed));
        let elapsed = harness.env.server_now().since(started_at);
        assert!(elapsed < Duration::from_secs(7200), "{elapsed:?}");
    });
}

/// At some of the moments, failures wait for a known-good request.
#[test]
fn a_backward_clock_step_at_any_moment_delays_no_item_retry() {
    for millis in (0..6000).step_by(75) {
        run_scenario(async |harness| {
            let (server, env) = (Rc::clone(&harness.server), harness.env.clone());
            let fault = async {
                SimServer::wait_until_served(&server, 8).await;
                server.borrow_mut().condition = ServerCondition::MostDocumentsFail;
                sleep(Duration::from_millis(millis)).await;
                env.step_clock(-86_400);
                server.borrow_mut().repair_all();
            };
            let started_at = harness.env.server_now();

            let (result, ()) = tokio::join!(harness.run_process(RunMode::UntilComplete), fault);

            assert_eq!(result.map(|result| result.exit), Some(LoopExit::Completed), "{millis} ms");
            let elapsed = harness.env.server_now().since(started_at);
            assert!(elapsed < Duration::from_secs(3600), "{millis} ms: {elapsed:?}");
        });
    }
}

/// Successes from before the step must not look later than the failures of the outage.
#[test]
fn an_outage_after_a_backward_clock_step_blames_no_item() {
    run_scenario(async |harness| {
        let (server, env) = (Rc::clone(&harness.server), harness.env.clone());
        let outage = async {
            SimServer::wait_until_served(&server, 10).await;
            env.step_clock(-86_400);
            server.borrow_mut().condition = ServerCondition::Down;
            sleep(Duration::from_secs(600)).await;
            let failed_attempts: u32 = harness.query_value("SELECT max(attempts) FROM items");
            assert!(failed_attempts <= 1, "an item failed {failed_attempts} times");
        };

        tokio::select! {
            _ = harness.run_process(RunMode::UntilComplete) => panic!("the run ended"),
            () = outage => {}
        }
    });
}

#[test]
fn a_backward_step_between_runs_extends_no_wait_much() {
    run_scenario(async |harness| {
        let server = Rc::clone(&harness.server);
        server.borrow_mut().condition =
            ServerCondition::RateLimited { requests: 50, window_seconds: 3600 };
        let waiting =
            timeout(Duration::from_secs(600), harness.run_process(RunMode::Continuous)).await;
        assert!(waiting.is_err(), "the worker does not wait");
        harness.env.step_clock(-30 * 86_400);
        let started_at = harness.env.server_now();

        let result = harness.run_process(RunMode::UntilComplete).await.unwrap();

        assert_eq!(result.exit, LoopExit::Completed);
        assert_eq!(harness.server.borrow().requests_while_blocked, 0);
        let elapsed = harness.env.server_now().since(started_at);
        assert!(elapsed < Duration::from_secs(6 * 3600), "{elapsed:?}");
    });
}

#[test]
fn a_long_pacing_delay_is_never_reported_as_stuck() {
    let log = LogCapture::default();
    tracing::subscriber::with_default(log.clone(), || {
        run_scenario(async |harness| {
            harness.machine_config.stuck_threshold = Duration::from_secs(10);
            harness.limiter_config.policy.cap =
                Some(Rate::from_units(1.0, Duration::from_secs(40)));

            let result = harness.run_process(RunMode::Once).await.unwrap();

            assert_eq!(result.exit, LoopExit::Completed);
            assert_eq!(result.machine.restarts.count, 0);
        });
    });

    assert_eq!(log.no_progress_count(), 0);
}

#[test]
fn a_long_poll_publishes_its_deadline() {
    run_scenario(async |harness| {
        let result = harness.run_process(RunMode::Continuous).await.unwrap();
        assert_eq!(result.exit, LoopExit::Restart(RestartCause::Completed));
        harness.server.borrow_mut().extra_latency = Duration::from_secs(600);
        let last_poll = harness.stored_state().and_then(|state| state.last_poll).unwrap();

        // A minute into the next poll.
        let next_poll = last_poll.after(harness.machine_config.poll_interval);
        let until = next_poll.after(Duration::from_secs(60)).since(harness.env.now());
        timeout(until, harness.run_process(RunMode::Continuous)).await.unwrap_err();

        let state = harness.stored_state().unwrap();
        assert_eq!(state.status, Status::Idle);
        assert!(state.state_until > Some(harness.env.now()), "{state:?}");
    });
}

#[test]
fn a_silent_source_escalates_step_by_step_then_recovers() {
    let log = LogCapture::default();
    tracing::subscriber::with_default(log.clone(), || {
        run_scenario(async |harness| {
            harness.server.borrow_mut().extra_latency = Duration::from_secs(30 * 86_400);
            let result = harness.run_process(RunMode::Continuous).await.unwrap();
            assert_eq!(result.exit, LoopExit::Restart(RestartCause::Stuck));

            harness.server.borrow_mut().extra_latency = Duration::ZERO;
            let result = harness.run_process(RunMode::UntilComplete).await.unwrap();
            assert_eq!(result.exit, LoopExit::Completed, "{result:?}");
            let restart = result.machine.restarts.last.map(|restart| restart.cause);
            assert_eq!(
                (result.machine.restarts.count, restart),
                (1, Some(RestartCause::Stuck)),
                "the cause is kept across the restart"
            );
        });
    });

    // The phase was restarted once, and one alert reported the restart of the worker.
    assert_eq!(log.no_progress_count(), 2);
    assert_eq!(log.errors().len(), 1, "{:?}", log.errors());
}

#[test]
fn a_full_disk_pauses_downloads_until_there_is_room() {
    run_scenario(async |harness| {
        let server = Rc::clone(&harness.server);
        server.borrow_mut().deliver(1000, &harness.env);
        // The messages are short, because a long one is written to the disk before its batch.
        server.borrow_mut().messages.values_mut().for_each(|message| message.bytes.truncate(1000));
        let (disk, filling_server) = (harness.disk.clone(), Rc::clone(&server));
        let full_disk = async move {
            SimServer::wait_until_served(&filling_server, 100).await;
            let at = disk.operation_count();
            disk.set_fault(DiskFault {
                at_operation: at,
                duration: FaultDuration::Permanent,
                errno: Errno::NOSPC,
            });
            filling_server.borrow_mut().disk_faults += 1;
            sleep(Duration::from_secs(6 * 3600)).await;
            disk.clear_fault();
        };

        let (result, ()) = tokio::join!(harness.run_process(RunMode::UntilComplete), full_disk);

        assert_eq!(result.map(|result| result.exit), Some(LoopExit::Completed));
        harness.check_all_stored();
    });
}

#[test]
fn shutdown_keeps_in_flight_work_and_resumes() {
    for millis in (0..6000).step_by(150) {
        run_scenario(async |harness| {
            let (stop, stopping) = watch::channel(StopSignal::Running);
            let stop_request = async {
                sleep(Duration::from_millis(millis)).await;
                stop.send_replace(StopSignal::Requested);
                harness.env.now()
            };

            let (result, requested_at) = tokio::join!(
                harness.run_process_until(RunMode::UntilComplete, stopping),
                stop_request
            );

            let elapsed = harness.env.now().since(requested_at);
            assert!(elapsed < Duration::from_secs(2), "stopped after {elapsed:?}");
            let result = result.unwrap();
            assert!(matches!(result.exit, LoopExit::Stopped | LoopExit::Completed), "{result:?}");
            let result = harness.run_process(RunMode::Once).await.unwrap();
            assert!(
                matches!(result.exit, LoopExit::Completed | LoopExit::NothingToDo),
                "{result:?}"
            );
            harness.check_all_stored();
            let repeated = harness
                .server
                .borrow()
                .messages
                .values()
                .filter(|message| message.request_count > 1)
                .count();
            assert_eq!(repeated, 0, "stopped after {millis} ms, it requested messages again");
        });
    }
}

#[test]
fn a_new_credential_ends_auth_failed_at_once() {
    run_scenario(async |harness| {
        let server = Rc::clone(&harness.server);
        server.borrow_mut().credential = 2;
        let started_at = harness.env.now();
        let repair = async {
            sleep(Duration::from_secs(60)).await;
            server.borrow_mut().credential_file = 2;
        };

        let (result, ()) = tokio::join!(harness.run_process(RunMode::Continuous), repair);

        assert_eq!(
            result.map(|result| result.exit),
            Some(LoopExit::Restart(RestartCause::Authentication))
        );
        let elapsed = harness.env.now().since(started_at);
        assert!(elapsed < Duration::from_secs(66), "noticed after {elapsed:?}");
        assert!(
            server.borrow().unauthorized_requests <= 2,
            "a rejected credential is retried too often"
        );
        assert_eq!(
            harness.run_process(RunMode::Once).await.map(|result| result.exit),
            Some(LoopExit::Completed)
        );
    });
}

/// FAULTS 33, and more: one in three requests fails, each with a random cause.
#[test]
fn random_errors_cost_few_requests_and_lose_nothing() {
    const ITEMS: u64 = 2000;
    run_scenario(async |harness| {
        harness.request_retry = BackoffConfig::FAST;
        let server = Rc::clone(&harness.server);
        server.borrow_mut().messages.clear();
        server.borrow_mut().deliver(ITEMS, &harness.env);
        for (id, message) in &mut server.borrow_mut().messages {
            (message.item, message.always_fails) = (format!("T{id}"), false);
        }
        server.borrow_mut().condition = ServerCondition::Flaky;
        let running = async {
            loop {
                harness.run_process(RunMode::Continuous).await;
                sleep(Duration::from_secs(10)).await;
            }
        };
        let storing = async {
            while harness.count("SELECT count(*) FROM items WHERE status = 1") < ITEMS {
                sleep(Duration::from_secs(60)).await;
            }
        };

        // An item that fails repeatedly is quarantined and rechecked a day later.
        let result = tokio::select! {
            () = running => unreachable!("the loop is endless"),
            result = timeout(Duration::from_secs(3 * 86_400), storing) => result,
        };

        assert!(result.is_ok(), "not everything is stored: {:?}", harness.stored_state());
        let server = server.borrow();
        reference_model::check_stored_contents_exist(&harness.disk, &harness.reader(), &server);
        // Requests for pages are not counted, because the simulated pages are short.
        let requests: u64 =
            server.messages.values().map(|message| u64::from(message.request_count)).sum();
        assert!(requests * 10 <= ITEMS * 16, "{requests} requests for {ITEMS} items");
    });
}
