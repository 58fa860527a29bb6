//! Scenes in which a server has another content under an id that is known.

use std::rc::Rc;

use cynosure::worker::{LoopExit, RunMode};

use crate::driver::{Harness, run_scenario};
use crate::reference_model::all_items_stored;
use crate::server::SimServer;

/// Lists everything once, until all of it is settled.
async fn run_to_completion(stage: &Harness) {
    let ended = stage.run_process(RunMode::Once).await.unwrap();
    assert_eq!(ended.exit, LoopExit::Completed, "{ended:?}");
    stage.check_all_stored();
}

/// Every file that the ledger knows, by its bytes.
fn stored_contents(stage: &Harness) -> usize {
    all_items_stored(&stage.reader()).len()
}

/// How often bytes were given out.
fn times_served(stage: &Harness) -> u32 {
    stage.server.borrow().messages.values().map(|mail| mail.served_count).sum()
}

/// FAULTS 44.
#[test]
fn a_restored_server_has_old_and_new_contents_stored() {
    run_scenario(async |stage| {
        stage.server.borrow_mut().messages.values_mut().for_each(|mail| mail.always_fails = false);
        run_to_completion(stage).await;
        let old = stored_contents(stage);

        stage.server.borrow_mut().restore_from_backup(&stage.env);
        run_to_completion(stage).await;

        assert_eq!(stored_contents(stage), 2 * old + 1);
        let tally = stage.reader().session_counts().unwrap();
        assert_eq!((tally.versions, tally.stored), (old as u64, tally.listed));
        let served = times_served(stage);

        // Once more, and nothing of it is fetched twice.
        stage.server.borrow_mut().deliver(1, &stage.env);
        stage.server.borrow_mut().expire_cursors();
        run_to_completion(stage).await;
        assert_eq!(self::times_served(stage), served + 1);
    });
}

/// FAULTS 44: also where the cursor is lost in the midst of a session.
#[test]
fn a_server_restored_in_mid_download_loses_no_content() {
    run_scenario(async |stage| {
        let server = Rc::clone(&stage.server);
        server.borrow_mut().messages.values_mut().for_each(|mail| mail.always_fails = false);
        let world = stage.env.clone();
        let restoring = async {
            SimServer::wait_until_served(&server, 20).await;
            server.borrow_mut().restore_from_backup(&world);
        };
        let (ended, ()) = tokio::join!(stage.run_process(RunMode::Once), restoring);
        assert_eq!(ended.map(|ended| ended.exit), Some(LoopExit::Completed));

        run_to_completion(stage).await;

        let tally = stage.reader().session_counts().unwrap();
        assert!(tally.versions > 0, "what was stored before is kept: {tally:?}");
    });
}

/// FAULTS 48.
#[test]
fn a_blob_changed_before_its_download_is_refetched() {
    run_scenario(async |stage| {
        let server = Rc::clone(&stage.server);
        server.borrow_mut().messages.values_mut().for_each(|mail| mail.always_fails = false);
        let changing = async {
            SimServer::wait_until_served(&server, 5).await;
            let mut server = server.borrow_mut();
            for mail in server.messages.values_mut().filter(|mail| mail.served_count == 0) {
                let bytes = mail.bytes.iter().rev().copied().chain([1]).collect();
                mail.replace(bytes);
            }
        };

        let (ended, ()) = tokio::join!(stage.run_process(RunMode::Once), changing);

        assert_eq!(ended.map(|ended| ended.exit), Some(LoopExit::Completed));
        stage.check_all_stored();
        let tally = stage.reader().session_counts().unwrap();
        assert_eq!((tally.stored, tally.versions), (tally.listed, 0));
    });
}
