//! UIDs at their limits, with gaps, and renumbered.

use cynosure::source::{Listing, PollResult, Source as _};
use cynosure_engine::Cause;

use super::server::{Answer, INBOX, ScriptedServer, ServedFolder, UID_VALIDITY, message_bytes};
use super::{extract, fetch, list, list_everything, listed_message, run_locally, source};

/// UIDVALIDITY of the inbox after it was made again.
const NEXT_UID_VALIDITY: u32 = UID_VALIDITY + 1;

/// Mailboxes with gaps in their UIDs: messages, highest UID, and commands that a listing may take.
/// The first is one of mail.ru.
const SPARSE_MAILBOXES: [(u64, u64, usize); 2] = [(2_000, 153_422, 2), (6_000, 3_000_000, 16)];

/// Makes the inbox again, with another message under a UID that was in use.
fn remake_inbox(server: &ScriptedServer) {
    server.change_folder(INBOX, |inbox| {
        inbox.uid_validity = NEXT_UID_VALIDITY;
        inbox.messages = [(1, b"another message".to_vec())].into();
        inbox.uid_next = 2;
    });
}

#[tokio::test]
async fn a_message_of_an_earlier_numbering_is_not_fetched() {
    run_locally(async {
        let server = ScriptedServer::start([ServedFolder::inbox(1..=3)]).await;
        let documents = list_everything(&source(&server)).await.unwrap();
        remake_inbox(&server);

        let result = fetch(&source(&server), &listed_message(&documents[0])).await;

        let failure = result.unwrap_err();
        assert_eq!(failure.cause, Cause::NotFound);
        assert!(failure.message.contains("\"INBOX\" was made again"), "{failure}");
    })
    .await;
}

#[tokio::test]
async fn a_folder_that_was_made_again_is_listed_anew() {
    run_locally(async {
        let server = ScriptedServer::start([ServedFolder::inbox(1..=3)]).await;
        let source = source(&server);
        let cursor = source.current_cursor().await.unwrap();
        assert_eq!(source.poll_changes(&cursor).await, Ok(PollResult::Unchanged));
        remake_inbox(&server);
        assert_eq!(source.poll_changes(&cursor).await, Ok(PollResult::Changed));

        let (documents, cursor) = list(&source, &Listing::Since(cursor)).await.unwrap();

        let [document] = documents.as_slice() else { panic!("{documents:?}") };
        assert_eq!(document.document.as_str(), format!("INBOX;{NEXT_UID_VALIDITY};1"));
        let bytes = fetch(&source, &listed_message(document)).await;
        assert_eq!(bytes, Ok(b"another message".to_vec()));
        let cursor = cursor.expect("a listing of changes has a cursor");
        assert_eq!(source.poll_changes(&cursor).await, Ok(PollResult::Unchanged));
    })
    .await;
}

#[tokio::test]
async fn a_numbering_that_changes_during_a_listing_is_noticed() {
    run_locally(async {
        let server = ScriptedServer::start([ServedFolder::inbox(1..=3)]).await;
        let outdated = Answer::new()
            .line("* LIST () \"/\" INBOX")
            .line("* STATUS INBOX (MESSAGES 9 UIDNEXT 99 UIDVALIDITY 6)")
            .tagged("OK done");
        server.answer_once("LIST", outdated);

        let documents = list_everything(&source(&server)).await.unwrap();

        let ids: Vec<_> = documents.iter().map(|document| document.document.as_str()).collect();
        assert_eq!(ids, ["INBOX;7;1", "INBOX;7;2", "INBOX;7;3"]);
    })
    .await;
}

#[tokio::test]
async fn the_largest_uids_are_listed_and_fetched() {
    run_locally(async {
        let uids = [1, 4_294_900_000, 4_294_967_290, 4_294_967_294];
        let server = ScriptedServer::start([ServedFolder::inbox(uids)]).await;

        let messages = extract(&source(&server)).await.unwrap();

        assert_eq!(messages, uids.map(|uid| message_bytes(INBOX, uid)));
    })
    .await;
}

#[tokio::test]
async fn sparse_uids_are_listed_by_few_commands() {
    run_locally(async {
        for (messages, uid_max, commands_max) in SPARSE_MAILBOXES {
            let uids = (1..=messages).map(|n| u32::try_from(n * uid_max / messages).unwrap());
            let server = ScriptedServer::start([ServedFolder::inbox(uids)]).await;

            let documents = list_everything(&source(&server)).await.unwrap();

            assert_eq!(u64::try_from(documents.len()), Ok(messages));
            let last = documents.last().unwrap().document.as_str();
            assert_eq!(last, format!("INBOX;{UID_VALIDITY};{uid_max}"));
            let commands = server.count("UID FETCH");
            assert!(commands <= commands_max, "{commands} commands for {uid_max} UIDs");
        }
    })
    .await;
}

#[tokio::test]
async fn new_messages_are_listed_once_and_alone() {
    run_locally(async {
        let server = ScriptedServer::start([ServedFolder::inbox(1..=3)]).await;
        let source = source(&server);
        let cursor = source.current_cursor().await.unwrap();
        server.change_folder(INBOX, |inbox| {
            inbox.messages.remove(&2);
            inbox.messages.insert(9, message_bytes(INBOX, 9));
            inbox.uid_next = 12;
        });

        let (documents, cursor) = list(&source, &Listing::Since(cursor)).await.unwrap();
        let (again, _) = list(&source, &Listing::Since(cursor.unwrap())).await.unwrap();

        let ids: Vec<_> = documents.iter().map(|document| document.document.as_str()).collect();
        assert_eq!(ids, ["INBOX;7;9"]);
        assert!(again.is_empty(), "{again:?}");
    })
    .await;
}

#[tokio::test]
async fn rows_that_were_not_asked_for_are_no_documents() {
    run_locally(async {
        let server = ScriptedServer::start([ServedFolder::inbox(1..=2)]).await;
        let rows = Answer::new()
            .line("* 1 FETCH (UID 1)")
            .line("* 1 FETCH (FLAGS (\\Seen) UID 1)")
            .line("* 2 FETCH (FLAGS (\\Seen))")
            .line("* 3 FETCH (UID 77)")
            .line("* 4 FETCH (UID 4294967296)")
            .line("* 5 FETCH (UID x)")
            .line("* 2 FETCH (X-NEW (a b) UID 2 RFC822.SIZE 9.3736e+06)")
            .line("* 1 EXPUNGE")
            .tagged("OK done");
        server.answer_always("UID FETCH", rows);

        let documents = list_everything(&source(&server)).await.unwrap();

        let ids: Vec<_> = documents.iter().map(|document| document.document.as_str()).collect();
        assert_eq!(ids, ["INBOX;7;1", "INBOX;7;2"]);
    })
    .await;
}
