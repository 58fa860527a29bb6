//! Scenes in which one thing goes wrong, at a moment that chance would seldom find.

use std::rc::Rc;
use std::time::Duration;

use cynosure::disk::{DiskFault, FaultDuration};
use cynosure::engine::rate_limit::Rate;
use cynosure::engine::{RestartCause, Status};
use cynosure::retry::BackoffConfig;
use cynosure::worker::{Env, LoopExit, RunMode, StopSignal};
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
    for mood in [ServerCondition::LoginPage, ServerCondition::Down, ServerCondition::Unreachable] {
        run_scenario(async |stage| {
            stage.server.borrow_mut().condition = mood;
            let ended = stage.run_process(RunMode::Once).await.unwrap();
            assert_eq!(ended.exit, LoopExit::GaveUp, "{mood:?}");

            stage.server.borrow_mut().condition = ServerCondition::Healthy;
            let ended = stage.run_process(RunMode::Once).await.unwrap();
            assert_eq!(ended.exit, LoopExit::Completed, "{mood:?}: {ended:?}");
        });
    }
}

#[test]
fn once_mode_retries_a_rejected_credential() {
    run_scenario(async |stage| {
        stage.server.borrow_mut().credential = 2;
        let ended = stage.run_process(RunMode::Once).await.unwrap();
        assert_eq!(ended.exit, LoopExit::GaveUp);

        stage.server.borrow_mut().credential_file = 2;
        let ended = stage.run_process(RunMode::Once).await.unwrap();
        assert_eq!(ended.exit, LoopExit::Completed, "{ended:?}");
    });
}

#[test]
fn a_session_completes_after_losing_any_saved_state() {
    run_after_losing("the ledger", Harness::delete_ledger);
    run_after_losing("the state file", Harness::delete_state_file);
    run_after_losing("both", |stage| {
        stage.delete_ledger();
        stage.delete_state_file();
    });
    run_after_losing("the state file and its copy", |stage| {
        stage.delete_state_file();
        stage.delete_snapshot();
    });
}

/// Loses something at many moments of a session, and goes on.
fn run_after_losing(what: &str, lose: fn(&mut Harness)) {
    for step in (10..400).step_by(13) {
        run_scenario(async |stage| {
            stage.env.start_process(Some(KillPoint::Step(step)));
            stage.run_process(RunMode::Once).await;
            stage.env.start_process(None);
            lose(stage);

            let ended = stage.run_process(RunMode::Once).await.unwrap();

            assert!(
                matches!(ended.exit, LoopExit::Completed | LoopExit::NothingToDo),
                "without {what}, after {step} steps: {ended:?}"
            );
            stage.check_all_stored();
        });
    }
}

#[test]
fn a_restart_that_cannot_be_recorded_is_not_made() {
    for calls in 0..40 {
        run_scenario(async |stage| {
            stage.run_process(RunMode::UntilComplete).await;
            let at = stage.disk.operation_count() + calls;
            stage.disk.set_fault(DiskFault {
                at_operation: at,
                duration: FaultDuration::Permanent,
                errno: Errno::NOSPC,
            });
            stage.server.borrow_mut().disk_faults += 1;

            // It either could write it down, or works on; `live` sees to that.
            timeout(Duration::from_secs(3600), stage.run_process(RunMode::Continuous)).await.ok();
        });
    }
}

#[test]
fn no_request_is_sent_while_the_credential_is_refreshed() {
    run_scenario(async |stage| {
        let server = Rc::clone(&stage.server);
        server.borrow_mut().deliver(1000, &stage.env);
        server.borrow_mut().credential_read_duration = Duration::from_secs(30);
        let expiry = async {
            SimServer::wait_until_served(&server, 100).await;
            let mut server = server.borrow_mut();
            (server.credential, server.credential_file) = (2, 2);
        };

        let (ended, ()) = tokio::join!(stage.run_process(RunMode::Once), expiry);

        assert_eq!(ended.map(|ended| ended.exit), Some(LoopExit::Completed));
        let unauthorized = stage.server.borrow().unauthorized_requests;
        assert!((1..=8).contains(&unauthorized), "{unauthorized} requests were refused");
    });
}

#[test]
fn a_six_hour_rate_limit_is_never_called_stuck() {
    run_scenario(async |stage| {
        let server = Rc::clone(&stage.server);
        server.borrow_mut().condition =
            ServerCondition::RateLimited { requests: 50, window: 6 * 3600 };

        let ended = stage.run_process(RunMode::Once).await.unwrap();

        assert_eq!(ended.exit, LoopExit::Completed);
        assert_eq!(ended.machine.restart_count, 0);
        let server = server.borrow();
        assert!(server.rate_limited_requests > 0, "the quota was never used up");
        assert_eq!(server.requests_while_blocked, 0);
    });
}

/// Sets the clock while the worker waits six hours for a quota, and after that while it works.
fn run_six_hour_wait_with_clock_steps(seconds: i64) {
    run_scenario(async |stage| {
        let (server, world) = (Rc::clone(&stage.server), stage.env.clone());
        server.borrow_mut().condition =
            ServerCondition::RateLimited { requests: 50, window: 6 * 3600 };
        let setting = async {
            SimServer::wait_until_served(&server, 20).await;
            sleep(Duration::from_secs(1800)).await;
            world.step_clock(seconds);
            sleep(Duration::from_secs(3600)).await;
            world.step_clock(-seconds);
        };
        let began = stage.env.server_now();

        let (ended, ()) = tokio::join!(stage.run_process(RunMode::Once), setting);

        let ended = ended.unwrap();
        assert_eq!(
            (ended.exit, ended.machine.restart_count),
            (LoopExit::Completed, 0),
            "{seconds}"
        );
        assert_eq!(stage.server.borrow().requests_while_blocked, 0, "{seconds}");
        let took = stage.env.server_now().since(began);
        assert!(took < Duration::from_secs(16 * 3600), "{seconds}: it took {took:?}");
        stage.check_all_stored();
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
    run_scenario(async |stage| {
        let (server, world) = (Rc::clone(&stage.server), stage.env.clone());
        server.borrow_mut().condition = ServerCondition::Flaky;
        let setting = async {
            for back in [3600, 86_400, 2 * 86_400] {
                sleep(Duration::from_secs(5)).await;
                world.step_clock(-back);
            }
            server.borrow_mut().repair_all();
        };
        let began = stage.env.server_now();

        let (ended, ()) = tokio::join!(stage.run_process(RunMode::UntilComplete), setting);

        assert_eq!(ended.map(|ended| ended.exit), Some(LoopExit::Completed));
        let took = stage.env.server_now().since(began);
        assert!(took < Duration::from_secs(7200), "it took {took:?}");
    });
}

#[test]
fn a_backward_step_between_runs_extends_no_wait_much() {
    run_scenario(async |stage| {
        let server = Rc::clone(&stage.server);
        server.borrow_mut().condition = ServerCondition::RateLimited { requests: 50, window: 3600 };
        let waiting =
            timeout(Duration::from_secs(600), stage.run_process(RunMode::Continuous)).await;
        assert!(waiting.is_err(), "it waits");
        stage.env.step_clock(-30 * 86_400);
        let began = stage.env.server_now();

        let ended = stage.run_process(RunMode::UntilComplete).await.unwrap();

        assert_eq!(ended.exit, LoopExit::Completed);
        assert_eq!(stage.server.borrow().requests_while_blocked, 0);
        let took = stage.env.server_now().since(began);
        assert!(took < Duration::from_secs(6 * 3600), "it took {took:?}");
    });
}

#[test]
fn a_long_pacing_delay_is_never_called_stuck() {
    let ears = LogCapture::default();
    tracing::subscriber::with_default(ears.clone(), || {
        run_scenario(async |stage| {
            stage.machine_config.stuck_threshold = Duration::from_secs(10);
            stage.rate_limit_config.policy.cap =
                Some(Rate::from_units(1.0, Duration::from_secs(40)));

            let ended = stage.run_process(RunMode::Once).await.unwrap();

            assert_eq!(ended.exit, LoopExit::Completed);
            assert_eq!(ended.machine.restart_count, 0);
        });
    });

    assert_eq!(ears.no_progress_count(), 0);
}

#[test]
fn a_long_poll_publishes_its_deadline() {
    run_scenario(async |stage| {
        let ended = stage.run_process(RunMode::Continuous).await.unwrap();
        assert_eq!(ended.exit, LoopExit::Restart(RestartCause::Completed));
        stage.server.borrow_mut().extra_latency = Duration::from_secs(600);
        let last_look = stage.stored_state().and_then(|state| state.last_poll).unwrap();

        // A minute into the next look.
        let next_look = last_look.after(stage.machine_config.poll_interval);
        let until = next_look.after(Duration::from_secs(60)).since(stage.env.now());
        timeout(until, stage.run_process(RunMode::Continuous)).await.unwrap_err();

        let state = stage.stored_state().unwrap();
        assert_eq!(state.status, Status::Idle);
        assert!(state.state_until > Some(stage.env.now()), "{state:?}");
    });
}

#[test]
fn a_silent_source_escalates_step_by_step_then_recovers() {
    let ears = LogCapture::default();
    tracing::subscriber::with_default(ears.clone(), || {
        run_scenario(async |stage| {
            stage.server.borrow_mut().extra_latency = Duration::from_secs(30 * 86_400);
            let ended = stage.run_process(RunMode::Continuous).await.unwrap();
            assert_eq!(ended.exit, LoopExit::Restart(RestartCause::Stuck));

            stage.server.borrow_mut().extra_latency = Duration::ZERO;
            let ended = stage.run_process(RunMode::UntilComplete).await.unwrap();
            assert_eq!(ended.exit, LoopExit::Completed, "{ended:?}");
            let restart = ended.machine.last_restart.map(|restart| restart.cause);
            assert_eq!(
                (ended.machine.restart_count, restart),
                (1, Some(RestartCause::Stuck)),
                "the reason outlives the restart"
            );
        });
    });

    // The stage was begun anew once, and the restart was told a person once.
    assert_eq!(ears.no_progress_count(), 2);
    assert_eq!(ears.errors().len(), 1, "{:?}", ears.errors());
}

#[test]
fn a_full_disk_pauses_downloads_until_there_is_room() {
    run_scenario(async |stage| {
        let server = Rc::clone(&stage.server);
        server.borrow_mut().deliver(1000, &stage.env);
        // A long one would meet the disk on its way, and not only with its group.
        server.borrow_mut().messages.values_mut().for_each(|mail| mail.bytes.truncate(1000));
        let (disk, filling) = (stage.disk.clone(), Rc::clone(&server));
        let full = async move {
            SimServer::wait_until_served(&filling, 100).await;
            let at = disk.operation_count();
            disk.set_fault(DiskFault {
                at_operation: at,
                duration: FaultDuration::Permanent,
                errno: Errno::NOSPC,
            });
            filling.borrow_mut().disk_faults += 1;
            sleep(Duration::from_secs(6 * 3600)).await;
            disk.clear_fault();
        };

        let (ended, ()) = tokio::join!(stage.run_process(RunMode::UntilComplete), full);

        assert_eq!(ended.map(|ended| ended.exit), Some(LoopExit::Completed));
        stage.check_all_stored();
    });
}

#[test]
fn shutdown_keeps_in_flight_work_and_resumes() {
    for millis in (0..6000).step_by(150) {
        run_scenario(async |stage| {
            let (stop, stopping) = watch::channel(StopSignal::Running);
            let asked = async {
                sleep(Duration::from_millis(millis)).await;
                stop.send_replace(StopSignal::Requested);
                stage.env.now()
            };

            let (ended, asked) =
                tokio::join!(stage.run_process_until(RunMode::UntilComplete, stopping), asked);

            let took = stage.env.now().since(asked);
            assert!(took < Duration::from_secs(2), "it took {took:?} to stop");
            let ended = ended.unwrap();
            assert!(matches!(ended.exit, LoopExit::Stopped | LoopExit::Completed), "{ended:?}");
            let ended = stage.run_process(RunMode::Once).await.unwrap();
            assert!(matches!(ended.exit, LoopExit::Completed | LoopExit::NothingToDo), "{ended:?}");
            stage.check_all_stored();
            let twice = stage
                .server
                .borrow()
                .messages
                .values()
                .filter(|mail| mail.request_count > 1)
                .count();
            assert_eq!(twice, 0, "stopped after {millis} ms, it asked again for what it had");
        });
    }
}

#[test]
fn a_new_credential_ends_auth_failed_at_once() {
    run_scenario(async |stage| {
        let server = Rc::clone(&stage.server);
        server.borrow_mut().credential = 2;
        let began = stage.env.now();
        let repair = async {
            sleep(Duration::from_secs(60)).await;
            server.borrow_mut().credential_file = 2;
        };

        let (ended, ()) = tokio::join!(stage.run_process(RunMode::Continuous), repair);

        assert_eq!(
            ended.map(|ended| ended.exit),
            Some(LoopExit::Restart(RestartCause::Authentication))
        );
        let took = stage.env.now().since(began);
        assert!(took < Duration::from_secs(66), "noticed after {took:?}");
        assert!(
            server.borrow().unauthorized_requests <= 2,
            "a refused credential is not tried on and on"
        );
        assert_eq!(
            stage.run_process(RunMode::Once).await.map(|ended| ended.exit),
            Some(LoopExit::Completed)
        );
    });
}

/// FAULTS 33, and a little more: one request in three fails, in all the ways there are.
#[test]
fn random_errors_cost_few_requests_and_lose_nothing() {
    const ITEMS: u64 = 2000;
    run_scenario(async |stage| {
        stage.request_retry = BackoffConfig::FAST;
        let server = Rc::clone(&stage.server);
        server.borrow_mut().messages.clear();
        server.borrow_mut().deliver(ITEMS, &stage.env);
        for (no, mail) in &mut server.borrow_mut().messages {
            (mail.item, mail.always_fails) = (format!("T{no}"), false);
        }
        server.borrow_mut().condition = ServerCondition::Flaky;
        let living = async {
            loop {
                stage.run_process(RunMode::Continuous).await;
                sleep(Duration::from_secs(10)).await;
            }
        };
        let storing = async {
            while stage.count("SELECT count(*) FROM items WHERE status = 1") < ITEMS {
                sleep(Duration::from_secs(60)).await;
            }
        };

        // One that fails again and again is looked at a day later.
        let waited = tokio::select! {
            () = living => unreachable!("it lives for ever"),
            waited = timeout(Duration::from_secs(3 * 86_400), storing) => waited,
        };

        assert!(waited.is_ok(), "not all is stored: {:?}", stage.stored_state());
        let server = server.borrow();
        reference_model::check_stored_contents_exist(&stage.disk, &stage.reader(), &server);
        // Not counting pages, on which the made-up service puts few.
        let asked: u64 = server.messages.values().map(|mail| u64::from(mail.request_count)).sum();
        assert!(asked * 10 <= ITEMS * 16, "{asked} requests for {ITEMS} items");
    });
}
