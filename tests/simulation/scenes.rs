//! Scenes in which one thing goes wrong, at a moment that chance would seldom find.

use cynosure::worker::{Exit, Mode};

use crate::life::play;
use crate::server::Mood;

#[test]
fn asked_for_one_session_it_tries_again_whatever_it_gave_up_on_before() {
    for mood in [Mood::Walled, Mood::Down, Mood::Unreachable] {
        play(async |stage| {
            stage.server.borrow_mut().mood = mood;
            let ended = stage.live(Mode::Once).await.unwrap();
            assert_eq!(ended.exit, Exit::GaveUp, "{mood:?}");

            stage.server.borrow_mut().mood = Mood::Well;
            let ended = stage.live(Mode::Once).await.unwrap();
            assert_eq!(ended.exit, Exit::Completed, "{mood:?}: {ended:?}");
        });
    }
}

#[test]
fn asked_for_one_session_it_tries_a_credential_that_was_refused_before() {
    play(async |stage| {
        stage.server.borrow_mut().credential = 2;
        let ended = stage.live(Mode::Once).await.unwrap();
        assert_eq!(ended.exit, Exit::GaveUp);

        stage.server.borrow_mut().credential_file = 2;
        let ended = stage.live(Mode::Once).await.unwrap();
        assert_eq!(ended.exit, Exit::Completed, "{ended:?}");
    });
}
