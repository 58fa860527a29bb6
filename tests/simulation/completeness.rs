//! Scenarios in which a listing is incomplete, or shows another account.

use std::rc::Rc;
use std::time::Duration;

use cynosure::ledger::SessionCounts;
use cynosure::worker::{LoopExit, RunMode};
use cynosure_engine::{Cause, RestartCause, Status};
use tokio::time::sleep;

use crate::driver::run_scenario;
use crate::log_capture::LogCapture;
use crate::server::SimServer;
use crate::virtual_env::KillPoint;

/// FAULTS 45: the server reports another account between two runs.
#[test]
fn an_account_change_between_two_runs_stops_the_source() {
    run_scenario(async |harness| {
        harness.run_process(RunMode::Once).await.unwrap();
        harness.server.borrow_mut().account = "bob";
        harness.server.borrow_mut().deliver(10, &harness.env);

        for _ in 0..2 {
            let result = harness.run_process(RunMode::Once).await.unwrap();

            assert_eq!(result.exit, LoopExit::GaveUp);
            let machine = &result.machine;
            assert_eq!(machine.status(), Status::AuthFailed);
            assert_eq!(machine.errors.last.as_ref().unwrap().cause, Cause::AccountChanged);
            assert_eq!(
                machine.reason,
                "the account changed from \"alice\" to \"bob\": give \"bob\" another source name, \
                 or delete the progress of \"alice\" with `cynosure reset sim`"
            );
            assert_eq!(harness.server.borrow().identifying_requests.get("bob"), None);
        }
        harness.server.borrow_mut().account = "alice";
        assert_eq!(harness.run_process(RunMode::Once).await.unwrap().exit, LoopExit::Completed);
        harness.check_all_stored();
    });
}

/// FAULTS 45: the server reports another account during a run.
#[test]
fn an_account_change_stops_a_run_until_a_new_credential() {
    let log = LogCapture::default();
    tracing::subscriber::with_default(log.clone(), || {
        run_scenario(async |harness| {
            let server = Rc::clone(&harness.server);
            server.borrow_mut().deliver(300, &harness.env);
            let change = async {
                SimServer::wait_until_served(&server, 20).await;
                server.borrow_mut().account = "bob";
                sleep(Duration::from_secs(60)).await;
                assert_eq!(server.borrow().identifying_requests.get("bob"), None);
                let mut server = server.borrow_mut();
                server.account = "alice";
                (server.credential, server.credential_file) = (2, 2);
            };

            let (result, ()) = tokio::join!(harness.run_process(RunMode::Continuous), change);

            assert_eq!(result.unwrap().exit, LoopExit::Restart(RestartCause::Authentication));
            let result = harness.run_process(RunMode::UntilComplete).await.unwrap();
            assert_eq!(result.exit, LoopExit::Completed);
            harness.check_all_stored();
        });
    });
    assert_eq!(log.errors().len(), 1, "one alert: {:?}", log.errors());
}

/// FAULTS 45: the ledger of an earlier version records no account.
#[test]
fn a_ledger_without_an_account_records_the_first() {
    run_scenario(async |harness| {
        harness.run_process(RunMode::Once).await.unwrap();
        harness.clear_account();
        harness.server.borrow_mut().deliver(5, &harness.env);

        assert_eq!(harness.run_process(RunMode::Once).await.unwrap().exit, LoopExit::Completed);

        harness.server.borrow_mut().account = "bob";
        assert_eq!(harness.run_process(RunMode::Once).await.unwrap().exit, LoopExit::GaveUp);
    });
}

/// FAULTS 46: pages of the listing are empty.
#[test]
fn an_empty_page_is_requested_again_and_nothing_is_lost() {
    for (empty_pages, failures) in [(1, 0), (2, 1), (3, 1), (4, 2)] {
        run_scenario(async |harness| {
            harness.server.borrow_mut().empty_pages = empty_pages;
            let result = harness.run_process(RunMode::UntilComplete).await.unwrap();

            assert_eq!(result.exit, LoopExit::Completed);
            assert_eq!(result.machine.errors.total, failures, "{empty_pages} empty pages");
            assert_eq!(result.machine.listing.consecutive_incomplete, 0);
            harness.check_all_stored();
        });
    }
}

/// FAULTS 46: the listing ends early at every request.
#[test]
fn a_listing_that_always_ends_early_is_reported() {
    let log = LogCapture::default();
    tracing::subscriber::with_default(log.clone(), || {
        run_scenario(async |harness| {
            let server = Rc::clone(&harness.server);
            server.borrow_mut().empty_pages = u32::MAX;
            let result = harness.run_process(RunMode::Continuous).await.unwrap();

            // All retries are used, as after any other failure of the session.
            assert_eq!(result.exit, LoopExit::Restart(RestartCause::Errors));
            let machine = &result.machine;
            assert_eq!(machine.errors.last.as_ref().unwrap().cause, Cause::ListingIncomplete);
            assert!(machine.session.as_ref().unwrap().completed_at.is_none());
            assert_eq!(
                machine.listing.consecutive_incomplete,
                harness.machine_config.max_retries + 1
            );

            server.borrow_mut().empty_pages = 0;
            assert_eq!(
                harness.run_process(RunMode::UntilComplete).await.unwrap().exit,
                LoopExit::Completed
            );
            harness.check_all_stored();
        });
    });
    let errors = log.errors();
    assert_eq!(errors.len(), 2, "alerts from the third failure on: {errors:?}");
}

/// FAULTS 47: ids that the server lists and never finds.
#[test]
fn ids_that_are_never_found_are_recorded_as_gone() {
    run_scenario(async |harness| {
        for id in [3, 17, 18, 59] {
            harness
                .server
                .borrow_mut()
                .messages
                .entry(id)
                .and_modify(|message| message.is_never_found = true);
        }

        let result = harness.run_process(RunMode::Once).await.unwrap();

        assert_eq!(result.exit, LoopExit::Completed);
        assert_eq!(result.counts.gone, 4);
        let SessionCounts { listed, stored, gone, quarantined, .. } = result.counts;
        assert_eq!(listed, stored + gone + quarantined);
        harness.check_all_stored();
    });
}

/// FAULTS 47: the process is killed at a step, and the listing is repeated.
#[test]
fn ids_that_are_never_found_count_once_despite_a_crash() {
    for step in (20..220).step_by(3) {
        run_scenario(async |harness| {
            harness
                .server
                .borrow_mut()
                .messages
                .entry(59)
                .and_modify(|message| message.is_never_found = true);
            harness.env.start_process(Some(KillPoint::Step(step)));
            harness.run_process(RunMode::Once).await;
            harness.env.start_process(None);

            let result = harness.run_process(RunMode::Once).await.unwrap();

            assert!(
                matches!(result.exit, LoopExit::Completed | LoopExit::NothingToDo),
                "after {step} steps"
            );
            assert_eq!(result.counts.gone, 1, "after {step} steps");
            harness.check_all_stored();
        });
    }
}

const MONTH: Duration = Duration::from_secs(30 * 86_400);
const ALMOST_A_MONTH: Duration = Duration::from_secs(30 * 86_400 - 3600);

#[test]
fn a_reconciliation_without_differences_changes_nothing() {
    run_scenario(async |harness| {
        harness.reconcile_interval = Some(MONTH);
        harness.run_process(RunMode::Once).await.unwrap();
        let before = harness.stored_state().unwrap();
        let folders_sql = "SELECT count(folder) FROM sessions";
        let request_count = |server: &SimServer| {
            server.messages.values().map(|message| message.request_count).sum::<u32>()
        };
        let (folders_before, requests_before) =
            (harness.query_value::<i64>(folders_sql), request_count(&harness.server.borrow()));

        sleep(ALMOST_A_MONTH).await;
        assert_eq!(harness.run_process(RunMode::Once).await.unwrap().exit, LoopExit::NothingToDo);
        sleep(Duration::from_secs(3600)).await;
        let result = harness.run_process(RunMode::Once).await.unwrap();

        assert_eq!(result.exit, LoopExit::Completed, "everything was listed again");
        assert_eq!(harness.query_value::<i64>("SELECT kind FROM sessions ORDER BY no DESC"), 3);
        assert_eq!(harness.query_value::<i64>(folders_sql), folders_before, "no new folder");
        assert_eq!(
            request_count(&harness.server.borrow()),
            requests_before,
            "nothing is fetched twice"
        );
        let after = harness.stored_state().unwrap();
        assert_eq!(after.total_threads, before.total_threads);
        assert_eq!(after.downloaded_threads, before.downloaded_threads);
        assert_eq!(
            harness.run_process(RunMode::Once).await.unwrap().exit,
            LoopExit::NothingToDo,
            "once a month"
        );
        harness.check_all_stored();
    });
}

#[test]
fn a_reconciliation_finds_messages_that_changes_omitted() {
    for step in [None, Some(60), Some(75), Some(90)] {
        run_scenario(async |harness| {
            harness.reconcile_interval = Some(MONTH);
            for id in [3, 40] {
                harness
                    .server
                    .borrow_mut()
                    .messages
                    .entry(id)
                    .and_modify(|message| message.is_deleted = true);
            }
            harness.run_process(RunMode::Once).await.unwrap();
            for id in [3, 40] {
                harness
                    .server
                    .borrow_mut()
                    .messages
                    .entry(id)
                    .and_modify(|message| message.is_deleted = false);
            }
            assert_eq!(
                harness.run_process(RunMode::Once).await.unwrap().exit,
                LoopExit::NothingToDo
            );
            sleep(MONTH).await;

            if let Some(step) = step {
                harness.env.start_process(Some(KillPoint::Step(step)));
                harness.run_process(RunMode::Once).await;
                harness.env.start_process(None);
            }
            let result = harness.run_process(RunMode::Once).await.unwrap();

            assert!(matches!(result.exit, LoopExit::Completed | LoopExit::NothingToDo), "{step:?}");
            assert_eq!((result.counts.listed, result.counts.stored), (2, 2), "{step:?}");
            harness.check_all_stored();
        });
    }
}

#[test]
fn an_older_ledger_is_reconciled_a_month_after_the_upgrade() {
    run_scenario(async |harness| {
        harness.run_process(RunMode::Once).await.unwrap();
        harness.clear_account();
        harness.reconcile_interval = Some(MONTH);

        sleep(MONTH).await;
        assert_eq!(harness.run_process(RunMode::Once).await.unwrap().exit, LoopExit::NothingToDo);
        sleep(MONTH).await;
        assert_eq!(harness.run_process(RunMode::Once).await.unwrap().exit, LoopExit::Completed);
    });
}
