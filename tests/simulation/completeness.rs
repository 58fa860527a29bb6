//! Scenes in which a server lists less than there is, or something else than before.

use std::rc::Rc;
use std::time::Duration;

use cynosure::engine::{Cause, RestartCause, Status};
use cynosure::ledger::SessionCounts;
use cynosure::worker::{LoopExit, RunMode};
use tokio::time::sleep;

use crate::driver::run_scenario;
use crate::log_capture::LogCapture;
use crate::server::SimServer;
use crate::virtual_env::KillPoint;

/// FAULTS 45.
#[test]
fn account_changed_between_two_runs_stops_the_source() {
    run_scenario(async |stage| {
        stage.run_process(RunMode::Once).await.unwrap();
        stage.server.borrow_mut().account = "bob";
        stage.server.borrow_mut().deliver(10, &stage.env);

        for _ in 0..2 {
            let ended = stage.run_process(RunMode::Once).await.unwrap();

            assert_eq!(ended.exit, LoopExit::GaveUp);
            let machine = &ended.machine;
            assert_eq!(machine.status(), Status::AuthFailed);
            assert_eq!(machine.last_error.as_ref().unwrap().cause, Cause::AccountChanged);
            assert_eq!(
                machine.reason,
                "the account behind this source was \"alice\" and is \"bob\" now: give \"bob\" a \
                 source name of its own, or forget \"alice\" with `cynosure reset sim`"
            );
            assert_eq!(stage.server.borrow().identifying_requests.get("bob"), None);
        }
        stage.server.borrow_mut().account = "alice";
        assert_eq!(stage.run_process(RunMode::Once).await.unwrap().exit, LoopExit::Completed);
        stage.check_all_stored();
    });
}

/// FAULTS 45.
#[test]
fn account_changed_in_mid_run_stops_it_until_the_credential_does() {
    let ears = LogCapture::default();
    tracing::subscriber::with_default(ears.clone(), || {
        run_scenario(async |stage| {
            let server = Rc::clone(&stage.server);
            server.borrow_mut().deliver(300, &stage.env);
            let change = async {
                SimServer::wait_until_served(&server, 20).await;
                server.borrow_mut().account = "bob";
                sleep(Duration::from_secs(60)).await;
                assert_eq!(server.borrow().identifying_requests.get("bob"), None);
                let mut server = server.borrow_mut();
                server.account = "alice";
                (server.credential, server.credential_file) = (2, 2);
            };

            let (ended, ()) = tokio::join!(stage.run_process(RunMode::Continuous), change);

            assert_eq!(ended.unwrap().exit, LoopExit::Restart(RestartCause::Authentication));
            let ended = stage.run_process(RunMode::UntilComplete).await.unwrap();
            assert_eq!(ended.exit, LoopExit::Completed);
            stage.check_all_stored();
        });
    });
    assert_eq!(ears.errors().len(), 1, "one alert: {:?}", ears.errors());
}

/// FAULTS 45: an existing ledger is given the first account that it finds.
#[test]
fn a_ledger_of_no_account_takes_the_first() {
    run_scenario(async |stage| {
        stage.run_process(RunMode::Once).await.unwrap();
        stage.clear_account();
        stage.server.borrow_mut().deliver(5, &stage.env);

        assert_eq!(stage.run_process(RunMode::Once).await.unwrap().exit, LoopExit::Completed);

        stage.server.borrow_mut().account = "bob";
        assert_eq!(stage.run_process(RunMode::Once).await.unwrap().exit, LoopExit::GaveUp);
    });
}

/// FAULTS 46.
#[test]
fn an_empty_page_is_asked_for_again_and_nothing_is_lost() {
    for (empty_pages, failures) in [(1, 0), (2, 1), (3, 1), (4, 2)] {
        run_scenario(async |stage| {
            stage.server.borrow_mut().empty_pages = empty_pages;
            let ended = stage.run_process(RunMode::UntilComplete).await.unwrap();

            assert_eq!(ended.exit, LoopExit::Completed);
            assert_eq!(ended.machine.error_count, failures, "{empty_pages} empty pages");
            assert_eq!(ended.machine.incomplete_listings, 0);
            stage.check_all_stored();
        });
    }
}

/// FAULTS 46.
#[test]
fn a_listing_that_always_ends_early_is_reported() {
    let ears = LogCapture::default();
    tracing::subscriber::with_default(ears.clone(), || {
        run_scenario(async |stage| {
            let server = Rc::clone(&stage.server);
            server.borrow_mut().empty_pages = u32::MAX;
            let ended = stage.run_process(RunMode::Continuous).await.unwrap();

            // The retries are used up, as for any other failure of the session.
            assert_eq!(ended.exit, LoopExit::Restart(RestartCause::Errors));
            let machine = &ended.machine;
            assert_eq!(machine.last_error.as_ref().unwrap().cause, Cause::ListingIncomplete);
            assert!(machine.session.as_ref().unwrap().completed_at.is_none());
            assert_eq!(machine.incomplete_listings, stage.machine_config.max_retries + 1);

            server.borrow_mut().empty_pages = 0;
            assert_eq!(
                stage.run_process(RunMode::UntilComplete).await.unwrap().exit,
                LoopExit::Completed
            );
            stage.check_all_stored();
        });
    });
    let told = ears.errors();
    assert_eq!(told.len(), 2, "from the third on: {told:?}");
}

/// FAULTS 47.
#[test]
fn vanishing_ids_are_recorded_as_gone() {
    run_scenario(async |stage| {
        for no in [3, 17, 18, 59] {
            stage
                .server
                .borrow_mut()
                .messages
                .entry(no)
                .and_modify(|mail| mail.is_never_found = true);
        }

        let ended = stage.run_process(RunMode::Once).await.unwrap();

        assert_eq!(ended.exit, LoopExit::Completed);
        assert_eq!(ended.counts.gone, 4);
        let SessionCounts { listed, stored, gone, quarantined, .. } = ended.counts;
        assert_eq!(listed, stored + gone + quarantined);
        stage.check_all_stored();
    });
}

/// FAULTS 47: killed at every step, and asked again.
#[test]
fn vanishing_ids_count_once_however_often_it_crashes() {
    for step in (20..220).step_by(3) {
        run_scenario(async |stage| {
            stage
                .server
                .borrow_mut()
                .messages
                .entry(59)
                .and_modify(|mail| mail.is_never_found = true);
            stage.env.start_process(Some(KillPoint::Step(step)));
            stage.run_process(RunMode::Once).await;
            stage.env.start_process(None);

            let ended = stage.run_process(RunMode::Once).await.unwrap();

            assert!(
                matches!(ended.exit, LoopExit::Completed | LoopExit::NothingToDo),
                "{step} steps"
            );
            assert_eq!(ended.counts.gone, 1, "after {step} steps");
            stage.check_all_stored();
        });
    }
}

const MONTH: Duration = Duration::from_secs(30 * 86_400);
const ALMOST_A_MONTH: Duration = Duration::from_secs(30 * 86_400 - 3600);

#[test]
fn a_reconcile_without_findings_changes_nothing() {
    run_scenario(async |stage| {
        stage.reconcile_interval = Some(MONTH);
        stage.run_process(RunMode::Once).await.unwrap();
        let before = stage.stored_state().unwrap();
        let folders = "SELECT count(folder) FROM sessions";
        let fetched = |server: &SimServer| {
            server.messages.values().map(|mail| mail.request_count).sum::<u32>()
        };
        let (had, asked) =
            (stage.session_and_reconcile_times::<i64>(folders), fetched(&stage.server.borrow()));

        sleep(ALMOST_A_MONTH).await;
        assert_eq!(stage.run_process(RunMode::Once).await.unwrap().exit, LoopExit::NothingToDo);
        sleep(Duration::from_secs(3600)).await;
        let ended = stage.run_process(RunMode::Once).await.unwrap();

        assert_eq!(ended.exit, LoopExit::Completed, "everything was listed once more");
        assert_eq!(
            stage.session_and_reconcile_times::<i64>("SELECT kind FROM sessions ORDER BY no DESC"),
            3
        );
        assert_eq!(stage.session_and_reconcile_times::<i64>(folders), had, "no folder");
        assert_eq!(fetched(&stage.server.borrow()), asked, "nothing is fetched twice");
        let after = stage.stored_state().unwrap();
        assert_eq!(after.total_threads, before.total_threads);
        assert_eq!(after.downloaded_threads, before.downloaded_threads);
        assert_eq!(
            stage.run_process(RunMode::Once).await.unwrap().exit,
            LoopExit::NothingToDo,
            "once a month"
        );
        stage.check_all_stored();
    });
}

#[test]
fn a_reconcile_finds_what_the_changes_omitted() {
    for step in [None, Some(60), Some(75), Some(90)] {
        run_scenario(async |stage| {
            stage.reconcile_interval = Some(MONTH);
            for no in [3, 40] {
                stage
                    .server
                    .borrow_mut()
                    .messages
                    .entry(no)
                    .and_modify(|mail| mail.is_deleted = true);
            }
            stage.run_process(RunMode::Once).await.unwrap();
            for no in [3, 40] {
                stage
                    .server
                    .borrow_mut()
                    .messages
                    .entry(no)
                    .and_modify(|mail| mail.is_deleted = false);
            }
            assert_eq!(stage.run_process(RunMode::Once).await.unwrap().exit, LoopExit::NothingToDo);
            sleep(MONTH).await;

            if let Some(step) = step {
                stage.env.start_process(Some(KillPoint::Step(step)));
                stage.run_process(RunMode::Once).await;
                stage.env.start_process(None);
            }
            let ended = stage.run_process(RunMode::Once).await.unwrap();

            assert!(matches!(ended.exit, LoopExit::Completed | LoopExit::NothingToDo), "{step:?}");
            assert_eq!((ended.counts.listed, ended.counts.stored), (2, 2), "{step:?}");
            stage.check_all_stored();
        });
    }
}

#[test]
fn a_ledger_of_an_earlier_version_is_reconciled_a_month_from_now() {
    run_scenario(async |stage| {
        stage.run_process(RunMode::Once).await.unwrap();
        stage.clear_account();
        stage.reconcile_interval = Some(MONTH);

        sleep(MONTH).await;
        assert_eq!(stage.run_process(RunMode::Once).await.unwrap().exit, LoopExit::NothingToDo);
        sleep(MONTH).await;
        assert_eq!(stage.run_process(RunMode::Once).await.unwrap().exit, LoopExit::Completed);
    });
}
