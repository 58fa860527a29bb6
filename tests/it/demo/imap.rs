//! The same mailbox over IMAP, tested with a plain client.

use std::collections::BTreeSet;

use cynosure_lab::demo::{DemoKind, DemoOptions, DemoServer, GeneratedMailbox, start};

use super::imap_client::{CLOSED, ImapTestClient};

/// Login of the default user by AUTHENTICATE PLAIN (RFC 4616).
const PLAIN_RESPONSE: &str = "AGRlbW9AZXhhbXBsZS5jb20AZGVtbw==";

fn serve(items: u32) -> DemoServer {
    start(DemoOptions { kind: DemoKind::Imap, items, ..DemoOptions::default() }).unwrap()
}

/// Returns the values of an attribute in untagged replies.
fn values<'t>(text: &'t str, attribute: &str) -> Vec<&'t str> {
    let attribute = format!("{attribute} ");
    let after = text.split(attribute.as_str()).skip(1);
    after.map(|rest| rest.split([' ', ')', ']']).next().unwrap()).collect()
}

#[tokio::test]
async fn folders_are_listed_with_their_status() {
    let demo = serve(200);
    let mut client = ImapTestClient::log_in(demo.address()).await;

    let items = "MESSAGES UIDNEXT UIDVALIDITY HIGHESTMODSEQ";
    let list = format!("LIST \"\" \"*\" RETURN (SPECIAL-USE STATUS ({items}))");
    let listed = client.succeed(&list).await;
    let counts: Vec<u32> =
        values(&listed, "MESSAGES").into_iter().map(|count| count.parse().unwrap()).collect();

    assert!(listed.contains("* LIST (\\HasNoChildren \\Trash) \"/\" Trash\r\n"), "{listed}");
    assert_eq!(values(&listed, "UIDNEXT"), ["321"; 4]);
    assert_eq!(values(&listed, "UIDVALIDITY").into_iter().collect::<BTreeSet<_>>().len(), 4);
    let copies = counts.iter().sum::<u32>() - 320;
    assert!((1..30).contains(&copies), "some messages are in two folders: {listed}");
    let status = client.succeed("STATUS INBOX (MESSAGES)").await;
    assert_eq!(status, format!("* STATUS INBOX (MESSAGES {})\r\n", counts[0]));
}

#[tokio::test]
async fn every_message_has_its_octets_and_one_id_in_all_folders() {
    let demo = serve(200);
    let generated = GeneratedMailbox::new(DemoOptions::default().seed, 200);
    let blobs: Vec<_> = generated.blobs().collect();
    let mut client = ImapTestClient::log_in(demo.address()).await;
    let mut seen = BTreeSet::new();

    for folder in ["INBOX", "Archive", "Sent", "Trash"] {
        client.succeed(&format!("EXAMINE {folder}")).await;
        let rows =
            client.succeed("UID FETCH 1:* (RFC822.SIZE EMAILID THREADID INTERNALDATE FLAGS)").await;
        let uids: Vec<u32> =
            values(&rows, "UID").into_iter().map(|uid| uid.parse().unwrap()).collect();
        let expected_sizes = uids.iter().map(|uid| blobs[*uid as usize - 1].1.to_string());
        assert_eq!(values(&rows, "RFC822.SIZE"), expected_sizes.collect::<Vec<_>>());
        assert_eq!(values(&rows, "THREADID").len(), uids.len());
        for (uid, id) in uids.iter().zip(values(&rows, "EMAILID")) {
            seen.insert((*uid, id.to_owned()));
        }

        let reply = client.command("UID FETCH 1:40,20:60,320 (UID BODY.PEEK[])").await;
        let bodies = reply.bodies();
        assert_eq!(bodies.len(), uids.iter().filter(|uid| matches!(uid, 1..=60 | 320)).count());
        for (uid, body) in bodies {
            let blob = &blobs[uid as usize - 1].0;
            assert!(generated.message_bytes(blob) == body, "{folder} {uid} differs");
        }
    }

    assert_eq!(seen.len(), 320);
    assert_eq!(seen.iter().map(|(_, id)| id).collect::<BTreeSet<_>>().len(), 320);
}

#[tokio::test]
async fn each_login_works_and_wrong_ones_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let token_file = Some(dir.path().join("token"));
    let options = DemoOptions { kind: DemoKind::Imap, token_file, ..DemoOptions::default() };
    let demo = start(options).unwrap();
    let token = std::fs::read_to_string(dir.path().join("token")).unwrap();
    let connect = async || ImapTestClient::connect(demo.address()).await.0;

    connect().await.succeed(&format!("AUTHENTICATE PLAIN {PLAIN_RESPONSE}")).await;
    connect().await.succeed(&format!("LOGIN demo@example.com {}", token.trim())).await;
    let mut asked = connect().await;
    asked.send("a AUTHENTICATE PLAIN\r\n").await.unwrap();
    assert_eq!(asked.read_line().await, "+");
    asked.send(&format!("{PLAIN_RESPONSE}\r\n")).await.unwrap();
    assert!(asked.read_line().await.starts_with("a OK [CAPABILITY IMAP4rev1 "));
    let mut literal = connect().await;
    literal.send("a LOGIN demo@example.com {4}\r\n").await.unwrap();
    assert_eq!(literal.read_line().await, "+ Send the literal.");
    literal.send("demo\r\n").await.unwrap();
    assert!(literal.read_line().await.starts_with("a OK "));

    let mut wrong = connect().await;
    let refused = wrong.command("LOGIN demo@example.com wrong").await.status;
    assert!(refused.starts_with("NO [AUTHENTICATIONFAILED] "), "{refused}");
    wrong.send("a AUTHENTICATE XOAUTH2 d3Jvbmc=\r\n").await.unwrap();
    assert_eq!(wrong.read_line().await, "+ eyJzdGF0dXMiOiI0MDAiLCJzY2hlbWVzIjoiYmVhcmVyIn0=");
    wrong.send("\r\n").await.unwrap();
    assert!(wrong.read_line().await.starts_with("a NO [AUTHENTICATIONFAILED] "));
    assert_eq!(wrong.command("LIST \"\" *").await.status, "BAD Log in first.");
    assert_eq!(demo.counters().unauthorized, 2);
}

#[tokio::test]
async fn a_ninth_connection_cannot_log_in() {
    let demo = serve(5);
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(ImapTestClient::log_in(demo.address()).await);
    }
    let (mut ninth, _) = ImapTestClient::connect(demo.address()).await;

    let refused = ninth.command("LOGIN demo@example.com demo").await.status;
    assert!(refused.starts_with("NO [LIMIT] "), "{refused}");
    clients[0].succeed("LOGOUT").await;
    assert_eq!(clients[0].command("NOOP").await.status, CLOSED);

    ninth.succeed("LOGIN demo@example.com demo").await;
    assert_eq!(demo.counters().concurrency_limited, 1);
}

#[tokio::test]
async fn bad_commands_are_answered_and_long_ones_end_the_connection() {
    let demo = serve(5);
    let mut client = ImapTestClient::log_in(demo.address()).await;

    assert_eq!(client.command("UID SEARCH ALL").await.status, "BAD Unknown command.");
    assert_eq!(client.command("UID FETCH 1 (UID)").await.status, "BAD No folder is open.");
    let missing = client.command("EXAMINE Drafts").await.status;
    assert!(missing.starts_with("NO [NONEXISTENT] "), "{missing}");
    client.succeed("SELECT INBOX").await;
    for arguments in ["x (UID)", "1 (ENVELOPE)", "1", "0 UID"] {
        let status = client.command(&format!("UID FETCH {arguments}")).await.status;
        assert_eq!(status, "BAD Invalid arguments.", "{arguments}");
    }
    client.send("a (\r\n\r\nb NOOP\r\n").await.unwrap();
    assert_eq!(client.read_line().await, "a BAD Malformed command.");
    assert_eq!(client.read_line().await, "* BAD Malformed command.");
    assert_eq!(client.read_line().await, "b OK Completed.");

    let long = client.command(&"x".repeat(70_000)).await;
    assert_eq!(long.text(), "* BYE Command too long.\r\n");
    assert_eq!(long.status, CLOSED);
}

#[tokio::test]
async fn a_server_without_object_ids_refuses_to_send_them() {
    let options = DemoOptions { kind: DemoKind::PlainImap, items: 5, ..DemoOptions::default() };
    let demo = start(options).unwrap();
    let mut client = ImapTestClient::log_in(demo.address()).await;

    assert!(!client.succeed("CAPABILITY").await.contains("OBJECTID"));
    client.succeed("EXAMINE INBOX").await;
    assert_eq!(client.command("UID FETCH 1:* (EMAILID)").await.status, "BAD Invalid arguments.");
}

#[tokio::test]
async fn control_commands_change_the_mailbox_and_inject_failures() {
    let demo = serve(50);
    let mut client = ImapTestClient::log_in(demo.address()).await;
    let opened = client.succeed("EXAMINE INBOX").await;
    assert_eq!(client.succeed("NOOP").await, "");

    let changes = client.succeed("XDEMO destroy 40").await;
    let removed = changes.matches(" EXPUNGE\r\n").count();
    let added = client.succeed("XDEMO deliver 40").await;

    let exists = |text: &str| {
        text.split("* ").find_map(|line| line.strip_suffix(" EXISTS\r\n")?.parse::<usize>().ok())
    };
    assert!(0 < removed && exists(&opened).unwrap() - removed == exists(&changes).unwrap());
    assert!(exists(&changes) < exists(&added));
    client.succeed("XDEMO fail 2").await;
    for _ in 0..2 {
        let refused = client.command("STATUS INBOX (MESSAGES)").await.status;
        assert!(refused.starts_with("NO [UNAVAILABLE] "), "{refused}");
    }
    client.succeed("STATUS INBOX (MESSAGES)").await;
}
