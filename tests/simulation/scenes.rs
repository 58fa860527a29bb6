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

use crate::ears::Ears;
use crate::life::{Stage, play};
use crate::server::{Mood, Server};
use crate::truth;
use crate::world::Fuse;

#[test]
fn asked_for_one_session_it_tries_again_whatever_it_gave_up_on_before() {
    for mood in [Mood::Walled, Mood::Down, Mood::Unreachable] {
        play(async |stage| {
            stage.server.borrow_mut().mood = mood;
            let ended = stage.live(RunMode::Once).await.unwrap();
            assert_eq!(ended.exit, LoopExit::GaveUp, "{mood:?}");

            stage.server.borrow_mut().mood = Mood::Well;
            let ended = stage.live(RunMode::Once).await.unwrap();
            assert_eq!(ended.exit, LoopExit::Completed, "{mood:?}: {ended:?}");
        });
    }
}

#[test]
fn asked_for_one_session_it_tries_a_credential_that_was_refused_before() {
    play(async |stage| {
        stage.server.borrow_mut().credential = 2;
        let ended = stage.live(RunMode::Once).await.unwrap();
        assert_eq!(ended.exit, LoopExit::GaveUp);

        stage.server.borrow_mut().credential_file = 2;
        let ended = stage.live(RunMode::Once).await.unwrap();
        assert_eq!(ended.exit, LoopExit::Completed, "{ended:?}");
    });
}

#[test]
fn whatever_is_lost_of_what_it_remembers_the_session_comes_to_its_end() {
    after_losing("the ledger", Stage::lose_ledger);
    after_losing("the state file", Stage::lose_state_file);
    after_losing("both", |stage| {
        stage.lose_ledger();
        stage.lose_state_file();
    });
    after_losing("the state file and its copy", |stage| {
        stage.lose_state_file();
        stage.lose_snapshot();
    });
}

/// Loses something at many moments of a session, and goes on.
fn after_losing(what: &str, lose: fn(&mut Stage)) {
    for step in (10..400).step_by(13) {
        play(async |stage| {
            stage.world.revive(Some(Fuse::Step(step)));
            stage.live(RunMode::Once).await;
            stage.world.revive(None);
            lose(stage);

            let ended = stage.live(RunMode::Once).await.unwrap();

            assert!(
                matches!(ended.exit, LoopExit::Completed | LoopExit::NothingToDo),
                "without {what}, after {step} steps: {ended:?}"
            );
            stage.check();
        });
    }
}

#[test]
fn a_restart_that_cannot_be_written_down_is_not_made() {
    for calls in 0..40 {
        play(async |stage| {
            stage.live(RunMode::UntilComplete).await;
            let at = stage.disk.operation_count() + calls;
            stage.disk.set_fault(DiskFault {
                at_operation: at,
                duration: FaultDuration::Permanent,
                errno: Errno::NOSPC,
            });
            stage.server.borrow_mut().disk_faults += 1;

            // It either could write it down, or works on; `live` sees to that.
            timeout(Duration::from_secs(3600), stage.live(RunMode::Continuous)).await.ok();
        });
    }
}

#[test]
fn nothing_is_asked_while_the_credential_is_read_again() {
    play(async |stage| {
        let server = Rc::clone(&stage.server);
        server.borrow_mut().deliver(1000, &stage.world);
        server.borrow_mut().renewal_takes = Duration::from_secs(30);
        let expiry = async {
            Server::until_served(&server, 100).await;
            let mut server = server.borrow_mut();
            (server.credential, server.credential_file) = (2, 2);
        };

        let (ended, ()) = tokio::join!(stage.live(RunMode::Once), expiry);

        assert_eq!(ended.map(|ended| ended.exit), Some(LoopExit::Completed));
        let unauthorized = stage.server.borrow().unauthorized;
        assert!((1..=8).contains(&unauthorized), "{unauthorized} requests were refused");
    });
}

#[test]
fn a_quota_of_a_quarter_of_a_day_is_waited_for_and_never_called_stuck() {
    play(async |stage| {
        let server = Rc::clone(&stage.server);
        server.borrow_mut().mood = Mood::Throttling { requests: 50, window: 6 * 3600 };

        let ended = stage.live(RunMode::Once).await.unwrap();

        assert_eq!(ended.exit, LoopExit::Completed);
        assert_eq!(ended.machine.restart_count, 0);
        let server = server.borrow();
        assert!(server.throttled > 0, "the quota was never used up");
        assert_eq!(server.requests_while_closed, 0);
    });
}

/// Sets the clock while the worker waits six hours for a quota, and after that while it works.
fn waits_for_a_quota_though_the_clock_is_set(seconds: i64) {
    play(async |stage| {
        let (server, world) = (Rc::clone(&stage.server), stage.world.clone());
        server.borrow_mut().mood = Mood::Throttling { requests: 50, window: 6 * 3600 };
        let setting = async {
            Server::until_served(&server, 20).await;
            sleep(Duration::from_secs(1800)).await;
            world.step_clock(seconds);
            sleep(Duration::from_secs(3600)).await;
            world.step_clock(-seconds);
        };
        let began = stage.world.true_now();

        let (ended, ()) = tokio::join!(stage.live(RunMode::Once), setting);

        let ended = ended.unwrap();
        assert_eq!(
            (ended.exit, ended.machine.restart_count),
            (LoopExit::Completed, 0),
            "{seconds}"
        );
        assert_eq!(stage.server.borrow().requests_while_closed, 0, "{seconds}");
        let took = stage.world.true_now().since(began);
        assert!(took < Duration::from_secs(16 * 3600), "{seconds}: it took {took:?}");
        stage.check();
    });
}

#[test]
fn a_wait_that_the_clock_is_set_in_is_as_long_as_the_server_said() {
    for days in [-20_000, -400, -1, 1, 400] {
        waits_for_a_quota_though_the_clock_is_set(days * 86_400);
    }
}

#[test]
fn items_that_wait_for_a_retry_wait_no_day_longer_for_a_clock_that_is_set_back() {
    play(async |stage| {
        let (server, world) = (Rc::clone(&stage.server), stage.world.clone());
        server.borrow_mut().mood = Mood::Flaky;
        let setting = async {
            for back in [3600, 86_400, 2 * 86_400] {
                sleep(Duration::from_secs(5)).await;
                world.step_clock(-back);
            }
            server.borrow_mut().heal();
        };
        let began = stage.world.true_now();

        let (ended, ()) = tokio::join!(stage.live(RunMode::UntilComplete), setting);

        assert_eq!(ended.map(|ended| ended.exit), Some(LoopExit::Completed));
        let took = stage.world.true_now().since(began);
        assert!(took < Duration::from_secs(7200), "it took {took:?}");
    });
}

#[test]
fn a_clock_that_was_set_back_between_two_lives_makes_no_wait_much_longer() {
    play(async |stage| {
        let server = Rc::clone(&stage.server);
        server.borrow_mut().mood = Mood::Throttling { requests: 50, window: 3600 };
        let waiting = timeout(Duration::from_secs(600), stage.live(RunMode::Continuous)).await;
        assert!(waiting.is_err(), "it waits");
        stage.world.step_clock(-30 * 86_400);
        let began = stage.world.true_now();

        let ended = stage.live(RunMode::UntilComplete).await.unwrap();

        assert_eq!(ended.exit, LoopExit::Completed);
        assert_eq!(stage.server.borrow().requests_while_closed, 0);
        let took = stage.world.true_now().since(began);
        assert!(took < Duration::from_secs(6 * 3600), "it took {took:?}");
    });
}

#[test]
fn a_turn_in_the_quota_that_comes_late_is_waited_for_and_never_called_stuck() {
    let ears = Ears::default();
    tracing::subscriber::with_default(ears.clone(), || {
        play(async |stage| {
            stage.rules.stuck_threshold = Duration::from_secs(10);
            stage.gate_rules.policy.cap = Some(Rate::from_units(1.0, Duration::from_secs(40)));

            let ended = stage.live(RunMode::Once).await.unwrap();

            assert_eq!(ended.exit, LoopExit::Completed);
            assert_eq!(ended.machine.restart_count, 0);
        });
    });

    assert_eq!(ears.rebuilds(), 0);
}

#[test]
fn a_look_that_takes_long_has_a_deadline_that_others_see() {
    play(async |stage| {
        let ended = stage.live(RunMode::Continuous).await.unwrap();
        assert_eq!(ended.exit, LoopExit::Restart(RestartCause::Completed));
        stage.server.borrow_mut().slowness = Duration::from_secs(600);
        let last_look = stage.saved().and_then(|state| state.last_poll).unwrap();

        // A minute into the next look.
        let next_look = last_look.after(stage.rules.poll_interval);
        let until = next_look.after(Duration::from_secs(60)).since(stage.world.now());
        timeout(until, stage.live(RunMode::Continuous)).await.unwrap_err();

        let state = stage.saved().unwrap();
        assert_eq!(state.status, Status::Idle);
        assert!(state.state_until > Some(stage.world.now()), "{state:?}");
    });
}

#[test]
fn a_source_that_never_answers_climbs_each_rung_once_and_then_goes_on() {
    let ears = Ears::default();
    tracing::subscriber::with_default(ears.clone(), || {
        play(async |stage| {
            stage.server.borrow_mut().slowness = Duration::from_secs(30 * 86_400);
            let ended = stage.live(RunMode::Continuous).await.unwrap();
            assert_eq!(ended.exit, LoopExit::Restart(RestartCause::Stuck));

            stage.server.borrow_mut().slowness = Duration::ZERO;
            let ended = stage.live(RunMode::UntilComplete).await.unwrap();
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
    assert_eq!(ears.rebuilds(), 2);
    assert_eq!(ears.errors().len(), 1, "{:?}", ears.errors());
}

#[test]
fn a_disk_that_fills_up_in_a_download_is_waited_for_without_fetching_on() {
    play(async |stage| {
        let server = Rc::clone(&stage.server);
        server.borrow_mut().deliver(1000, &stage.world);
        // A long one would meet the disk on its way, and not only with its group.
        server.borrow_mut().mail.values_mut().for_each(|mail| mail.bytes.truncate(1000));
        let (disk, filling) = (stage.disk.clone(), Rc::clone(&server));
        let full = async move {
            Server::until_served(&filling, 100).await;
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

        let (ended, ()) = tokio::join!(stage.live(RunMode::UntilComplete), full);

        assert_eq!(ended.map(|ended| ended.exit), Some(LoopExit::Completed));
        stage.check();
    });
}

#[test]
fn asked_to_stop_it_keeps_what_was_in_flight_and_goes_on_from_there() {
    for millis in (0..6000).step_by(150) {
        play(async |stage| {
            let (stop, stopping) = watch::channel(StopSignal::Running);
            let asked = async {
                sleep(Duration::from_millis(millis)).await;
                stop.send_replace(StopSignal::Requested);
                stage.world.now()
            };

            let (ended, asked) =
                tokio::join!(stage.live_until(RunMode::UntilComplete, stopping), asked);

            let took = stage.world.now().since(asked);
            assert!(took < Duration::from_secs(2), "it took {took:?} to stop");
            let ended = ended.unwrap();
            assert!(matches!(ended.exit, LoopExit::Stopped | LoopExit::Completed), "{ended:?}");
            let ended = stage.live(RunMode::Once).await.unwrap();
            assert!(matches!(ended.exit, LoopExit::Completed | LoopExit::NothingToDo), "{ended:?}");
            stage.check();
            let twice = stage.server.borrow().mail.values().filter(|mail| mail.asked > 1).count();
            assert_eq!(twice, 0, "stopped after {millis} ms, it asked again for what it had");
        });
    }
}

#[test]
fn a_new_credential_is_noticed_at_once_while_the_old_one_is_refused() {
    play(async |stage| {
        let server = Rc::clone(&stage.server);
        server.borrow_mut().credential = 2;
        let began = stage.world.now();
        let repair = async {
            sleep(Duration::from_secs(60)).await;
            server.borrow_mut().credential_file = 2;
        };

        let (ended, ()) = tokio::join!(stage.live(RunMode::Continuous), repair);

        assert_eq!(
            ended.map(|ended| ended.exit),
            Some(LoopExit::Restart(RestartCause::Authentication))
        );
        let took = stage.world.now().since(began);
        assert!(took < Duration::from_secs(66), "noticed after {took:?}");
        assert!(server.borrow().unauthorized <= 2, "a refused credential is not tried on and on");
        assert_eq!(
            stage.live(RunMode::Once).await.map(|ended| ended.exit),
            Some(LoopExit::Completed)
        );
    });
}

/// FAULTS 33, and a little more: one request in three fails, in all the ways there are.
#[test]
fn random_errors_cost_few_requests_and_leave_nothing_out() {
    const ITEMS: u64 = 2000;
    play(async |stage| {
        stage.request = BackoffConfig::FAST;
        let server = Rc::clone(&stage.server);
        server.borrow_mut().mail.clear();
        server.borrow_mut().deliver(ITEMS, &stage.world);
        for (no, mail) in &mut server.borrow_mut().mail {
            (mail.item, mail.poison) = (format!("T{no}"), false);
        }
        server.borrow_mut().mood = Mood::Flaky;
        let living = async {
            loop {
                stage.live(RunMode::Continuous).await;
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

        assert!(waited.is_ok(), "not all is stored: {:?}", stage.saved());
        let server = server.borrow();
        truth::nothing_stored_is_missing(&stage.disk, &stage.reader(), &server);
        // Not counting pages, on which the made-up service puts few.
        let asked: u64 = server.mail.values().map(|mail| u64::from(mail.asked)).sum();
        assert!(asked * 10 <= ITEMS * 16, "{asked} requests for {ITEMS} items");
    });
}
