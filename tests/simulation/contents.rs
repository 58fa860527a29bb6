//! Scenarios in which the content of a known message id changes on the server.

use std::rc::Rc;

use cynosure::ledger::LedgerReader;
use cynosure::worker::{LoopExit, RunMode};

use crate::driver::{Harness, run_scenario};
use crate::reference_model::all_stored_files;
use crate::server::SimServer;

/// Runs one session to its end and asserts that everything is stored.
async fn run_to_completion(harness: &Harness) {
    let result = harness.run_process(RunMode::Once).await.unwrap();
    assert_eq!(result.exit, LoopExit::Completed, "{result:?}");
    harness.check_all_stored();
}

/// Returns the number of stored contents in the ledger.
fn stored_content_count(harness: &Harness) -> usize {
    all_stored_files(&harness.reader()).len()
}

/// Returns the total number of times that the bytes of a message were sent.
fn times_served(harness: &Harness) -> u32 {
    harness.server.borrow().messages.values().map(|message| message.served_count).sum()
}

/// FAULTS 44: the server is restored from a backup.
#[test]
fn a_restored_server_has_old_and_new_contents_stored() {
    run_scenario(async |harness| {
        harness
            .server
            .borrow_mut()
            .messages
            .values_mut()
            .for_each(|message| message.always_fails = false);
        run_to_completion(harness).await;
        let old_contents = stored_content_count(harness);

        harness.server.borrow_mut().restore_from_backup(&harness.env);
        run_to_completion(harness).await;

        assert_eq!(stored_content_count(harness), 2 * old_contents + 1);
        let counts = harness.reader().session_counts().unwrap();
        assert_eq!((counts.versions, counts.stored), (old_contents as u64, counts.listed));
        let served_before = times_served(harness);

        // A further full listing fetches nothing twice.
        harness.server.borrow_mut().deliver(1, &harness.env);
        harness.server.borrow_mut().expire_cursors();
        run_to_completion(harness).await;
        assert_eq!(times_served(harness), served_before + 1);
    });
}

/// FAULTS 44: the cursor expires during a session.
#[test]
fn a_server_restored_in_mid_download_loses_no_content() {
    run_scenario(async |harness| {
        let server = Rc::clone(&harness.server);
        server.borrow_mut().messages.values_mut().for_each(|message| message.always_fails = false);
        let env = harness.env.clone();
        let restore = async {
            SimServer::wait_until_served(&server, 20).await;
            server.borrow_mut().restore_from_backup(&env);
        };
        let (result, ()) = tokio::join!(harness.run_process(RunMode::Once), restore);
        assert_eq!(result.map(|result| result.exit), Some(LoopExit::Completed));

        run_to_completion(harness).await;

        let counts = harness.reader().session_counts().unwrap();
        assert!(counts.versions > 0, "the earlier contents are kept: {counts:?}");
    });
}

/// FAULTS 48: the blobs of listed mails change before their download.
#[test]
fn a_blob_changed_before_its_download_is_refetched() {
    run_scenario(async |harness| {
        let server = Rc::clone(&harness.server);
        server.borrow_mut().messages.values_mut().for_each(|message| message.always_fails = false);
        let change = async {
            SimServer::wait_until_served(&server, 5).await;
            let mut server = server.borrow_mut();
            for message in server.messages.values_mut().filter(|message| message.served_count == 0)
            {
                let bytes = message.bytes.iter().rev().copied().chain([1]).collect();
                message.replace(bytes);
            }
        };

        let (result, ()) = tokio::join!(harness.run_process(RunMode::Once), change);

        assert_eq!(result.map(|result| result.exit), Some(LoopExit::Completed));
        harness.check_all_stored();
        let counts = harness.reader().session_counts().unwrap();
        assert_eq!((counts.stored, counts.versions), (counts.listed, 0));
    });
}
