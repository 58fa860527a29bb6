//! Scenes in which a server lists less than there is, or something else than before.

use std::rc::Rc;
use std::time::Duration;

use cynosure::engine::{Cause, RestartCause, Status};
use cynosure::worker::{Exit, Mode};
use tokio::time::sleep;

use crate::ears::Ears;
use crate::life::play;
use crate::server::Server;

/// FAULTS 45.
#[test]
fn account_changed_between_two_runs_stops_the_source() {
    play(async |stage| {
        stage.live(Mode::Once).await.unwrap();
        stage.server.borrow_mut().account = "bob";
        stage.server.borrow_mut().deliver(10, &stage.world);

        for _ in 0..2 {
            let ended = stage.live(Mode::Once).await.unwrap();

            assert_eq!(ended.exit, Exit::GaveUp);
            let machine = &ended.machine;
            assert_eq!(machine.status(), Status::AuthFailed);
            assert_eq!(machine.last_error.as_ref().unwrap().cause, Cause::AccountChanged);
            assert_eq!(
                machine.reason,
                "the account behind this source was \"alice\" and is \"bob\" now: give \"bob\" a \
                 source name of its own, or forget \"alice\" with `cynosure reset sim`"
            );
            assert_eq!(stage.server.borrow().informed.get("bob"), None);
        }
        stage.server.borrow_mut().account = "alice";
        assert_eq!(stage.live(Mode::Once).await.unwrap().exit, Exit::Completed);
        stage.check();
    });
}

/// FAULTS 45.
#[test]
fn account_changed_in_mid_run_stops_it_until_the_credential_does() {
    let ears = Ears::default();
    tracing::subscriber::with_default(ears.clone(), || {
        play(async |stage| {
            let server = Rc::clone(&stage.server);
            server.borrow_mut().deliver(300, &stage.world);
            let change = async {
                Server::until_served(&server, 20).await;
                server.borrow_mut().account = "bob";
                sleep(Duration::from_secs(60)).await;
                assert_eq!(server.borrow().informed.get("bob"), None);
                let mut server = server.borrow_mut();
                server.account = "alice";
                (server.credential, server.credential_file) = (2, 2);
            };

            let (ended, ()) = tokio::join!(stage.live(Mode::Keep), change);

            assert_eq!(ended.unwrap().exit, Exit::Restart(RestartCause::Authentication));
            let ended = stage.live(Mode::UntilDone).await.unwrap();
            assert_eq!(ended.exit, Exit::Completed);
            stage.check();
        });
    });
    assert_eq!(ears.errors().len(), 1, "one alert: {:?}", ears.errors());
}

/// FAULTS 45: an existing ledger is given the first account that it finds.
#[test]
fn a_ledger_of_no_account_takes_the_first() {
    play(async |stage| {
        stage.live(Mode::Once).await.unwrap();
        stage.forget_account();
        stage.server.borrow_mut().deliver(5, &stage.world);

        assert_eq!(stage.live(Mode::Once).await.unwrap().exit, Exit::Completed);

        stage.server.borrow_mut().account = "bob";
        assert_eq!(stage.live(Mode::Once).await.unwrap().exit, Exit::GaveUp);
    });
}
