//! Time that a server may take for messages.

use super::*;
use crate::source::imap::connect::test_server::ScriptStep::{
    Expect, ExpectStart, Say, SayBytes, Sleep, UntilClosed,
};
use crate::source::imap::connect::test_server::{ScriptServer, ScriptStep, run_locally};

/// Messages that take longer together than one of them may.
const SLOW_MESSAGES: u32 = 20;

/// Returns a script up to a `UID FETCH`, and then these messages, one every four seconds.
fn slow_script(uids: impl IntoIterator<Item = u32>) -> Vec<ScriptStep> {
    let mut script = vec![
        Say("* OK [CAPABILITY IMAP4rev1] ready"),
        Expect("A1 LOGIN user password"),
        Say("A1 OK [CAPABILITY IMAP4rev1] logged in"),
        Expect("A2 EXAMINE INBOX"),
        Say("* OK [UIDVALIDITY 7] valid\nA2 OK [READ-ONLY] opened"),
        ExpectStart("A3 UID FETCH "),
    ];
    for uid in uids {
        let message = response(uid, &text_of(uid)).into_bytes();
        script.extend([Sleep(Duration::from_secs(4)), SayBytes(message.leak())]);
    }
    script.extend([Say("A3 OK done"), UntilClosed]);
    script
}

#[tokio::test(start_paused = true)]
async fn each_message_of_a_set_has_its_own_time() {
    run_locally(async {
        let server = ScriptServer::start(vec![slow_script(1..=SLOW_MESSAGES)]).await;
        let source = source(server.port, ONE_CONNECTION);

        let results = fetch_inbox(&source, 1..=SLOW_MESSAGES).await;

        assert_eq!(results, texts_of(1..=SLOW_MESSAGES));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn messages_that_were_not_asked_for_give_no_more_time() {
    run_locally(async {
        let others = (0..SLOW_MESSAGES).map(|_number| 99);
        let server = ScriptServer::start(vec![slow_script(others)]).await;
        let source = source(server.port, ONE_CONNECTION);

        let failure = fetch_text(&source, &document("INBOX", 1)).await.unwrap_err();

        assert_eq!(failure.cause, Cause::Timeout);
        let expected = "did not complete its response within 1 min";
        assert!(failure.message.contains(expected), "{failure}");
    })
    .await;
}
