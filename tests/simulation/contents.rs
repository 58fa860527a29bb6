//! Scenes in which a server has another content under an id that is known.

use std::rc::Rc;

use cynosure::worker::{LoopExit, RunMode};

use crate::life::{Stage, play};
use crate::server::Server;
use crate::truth::all_stored;

/// Lists everything once, until all of it is settled.
async fn complete(stage: &Stage) {
    let ended = stage.live(RunMode::Once).await.unwrap();
    assert_eq!(ended.exit, LoopExit::Completed, "{ended:?}");
    stage.check();
}

/// Every file that the ledger knows, by its bytes.
fn contents(stage: &Stage) -> usize {
    all_stored(&stage.reader()).len()
}

/// How often bytes were given out.
fn served(stage: &Stage) -> u32 {
    stage.server.borrow().mail.values().map(|mail| mail.served).sum()
}

/// FAULTS 44.
#[test]
fn a_restored_server_has_old_and_new_contents_stored() {
    play(async |stage| {
        stage.server.borrow_mut().mail.values_mut().for_each(|mail| mail.poison = false);
        complete(stage).await;
        let old = contents(stage);

        stage.server.borrow_mut().restore(&stage.world);
        complete(stage).await;

        assert_eq!(contents(stage), 2 * old + 1);
        let tally = stage.reader().session_counts().unwrap();
        assert_eq!((tally.versions, tally.stored), (old as u64, tally.listed));
        let served = served(stage);

        // Once more, and nothing of it is fetched twice.
        stage.server.borrow_mut().deliver(1, &stage.world);
        stage.server.borrow_mut().forget_places();
        complete(stage).await;
        assert_eq!(self::served(stage), served + 1);
    });
}

/// FAULTS 44: also where the cursor is lost in the midst of a session.
#[test]
fn a_server_restored_in_mid_download_loses_no_content() {
    play(async |stage| {
        let server = Rc::clone(&stage.server);
        server.borrow_mut().mail.values_mut().for_each(|mail| mail.poison = false);
        let world = stage.world.clone();
        let restoring = async {
            Server::until_served(&server, 20).await;
            server.borrow_mut().restore(&world);
        };
        let (ended, ()) = tokio::join!(stage.live(RunMode::Once), restoring);
        assert_eq!(ended.map(|ended| ended.exit), Some(LoopExit::Completed));

        complete(stage).await;

        let tally = stage.reader().session_counts().unwrap();
        assert!(tally.versions > 0, "what was stored before is kept: {tally:?}");
    });
}

/// FAULTS 48.
#[test]
fn a_blob_that_changes_before_its_download_is_followed() {
    play(async |stage| {
        let server = Rc::clone(&stage.server);
        server.borrow_mut().mail.values_mut().for_each(|mail| mail.poison = false);
        let changing = async {
            Server::until_served(&server, 5).await;
            let mut server = server.borrow_mut();
            for mail in server.mail.values_mut().filter(|mail| mail.served == 0) {
                let bytes = mail.bytes.iter().rev().copied().chain([1]).collect();
                mail.replace(bytes);
            }
        };

        let (ended, ()) = tokio::join!(stage.live(RunMode::Once), changing);

        assert_eq!(ended.map(|ended| ended.exit), Some(LoopExit::Completed));
        stage.check();
        let tally = stage.reader().session_counts().unwrap();
        assert_eq!((tally.stored, tally.versions), (tally.listed, 0));
    });
}
