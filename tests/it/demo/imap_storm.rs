//! Fault level `storm` over IMAP, with a client that fetches in sets and retries everything.

use std::path::PathBuf;
use std::time::Duration;

use cynosure_lab::demo::{DemoCounters, DemoKind, DemoOptions, DemoServer, FaultLevel, start};

use super::imap_client::{CLOSED, ImapTestClient, ImapTestReply, TRUNCATED};

/// Messages of one set.
const SET_MESSAGES: usize = 16;

/// Results and faults that a simple client counted during a storm.
#[derive(Debug, Default)]
struct StormCounts {
    listed: usize,
    stored: usize,
    /// Not answered under OK.
    absent: usize,
    /// Answered with NIL.
    expunged: usize,
    always_failing: usize,
    unauthorized: usize,
    backoff_millis: Vec<u64>,
    throttled: usize,
    unavailable: usize,
    byes: usize,
    closed: usize,
    truncated: usize,
    login_pages: usize,
}

struct StormClient {
    demo: DemoServer,
    token_file: PathBuf,
    /// Connection that is logged in, and the name of its open folder.
    connection: Option<(ImapTestClient, String)>,
    counts: StormCounts,
}

impl StormClient {
    /// Runs a command in a folder until it is answered by OK or by a refusal of a single message.
    async fn run(&mut self, folder: &str, command: &str) -> ImapTestReply {
        loop {
            if let Some(reply) = self.try_run(folder, command).await
                && !self.is_fault(&reply).await
            {
                return reply;
            }
        }
    }

    /// Logs in, opens the folder and runs the command. Returns `None` if one of the first two meets
    /// a fault.
    async fn try_run(&mut self, folder: &str, command: &str) -> Option<ImapTestReply> {
        let (mut client, open_folder) = match self.connection.take() {
            Some(connection) => connection,
            None => (self.log_in().await?, String::new()),
        };
        if open_folder != folder {
            let opened = client.command(&format!("EXAMINE {folder}")).await;
            if self.is_fault(&opened).await {
                return None;
            }
        }
        let reply = client.command(command).await;
        if reply.status.starts_with("OK ") || reply.status.starts_with("NO ") {
            self.connection = Some((client, folder.to_owned()));
        }
        Some(reply)
    }

    async fn log_in(&mut self) -> Option<ImapTestClient> {
        let (mut client, greeting) = ImapTestClient::connect(self.demo.address()).await;
        if greeting.starts_with("HTTP/1.1 302 ") {
            self.counts.login_pages += 1;
            return None;
        }
        let token = std::fs::read_to_string(&self.token_file).unwrap();
        let reply = client.command(&format!("LOGIN demo@example.com {}", token.trim())).await;
        let is_fault = self.is_fault(&reply).await;
        (!is_fault).then_some(client)
    }

    /// Counts the fault of a reply, and waits as long as it says. Returns false if there is none.
    async fn is_fault(&mut self, reply: &ImapTestReply) -> bool {
        let counts = &mut self.counts;
        let mut pause = Duration::from_millis(20);
        let status = reply.status.as_str();
        if let Some((_, rest)) = status.split_once("Suggested Backoff Time: ") {
            let millis = rest.split(' ').next().unwrap().parse().unwrap();
            counts.backoff_millis.push(millis);
            pause = Duration::from_millis(millis);
        } else if status.starts_with("NO [THROTTLED] ") {
            counts.throttled += 1;
        } else if status.starts_with("NO [UNAVAILABLE] ") {
            counts.unavailable += 1;
        } else if status.starts_with("NO [AUTHENTICATIONFAILED] ") {
            counts.unauthorized += 1;
        } else if status == TRUNCATED {
            counts.truncated += 1;
        } else if status == CLOSED && reply.has_bye() {
            counts.byes += 1;
        } else if status == CLOSED {
            counts.closed += 1;
        } else {
            let is_known = status.starts_with("OK ") || status.starts_with("NO [SERVERBUG] ");
            assert!(is_known, "unexpected reply {reply:?}");
            return false;
        }
        tokio::time::sleep(pause).await;
        true
    }

    /// Downloads the messages of a folder in sets, and those of a refused set one by one.
    async fn download_folder(&mut self, folder: &str) {
        let listed = self.run(folder, "UID FETCH 1:* (UID)").await;
        let mut open: Vec<u32> = listed.bodies().into_keys().collect();
        self.counts.listed += open.len();
        while !open.is_empty() {
            let count = open.len().min(SET_MESSAGES);
            let set: Vec<u32> = open.drain(..count).collect();
            for uid in self.download(folder, &set).await {
                let unanswered = self.download(folder, &[uid]).await;
                self.counts.always_failing += unanswered.len();
            }
        }
    }

    /// Downloads a set until it is answered. Returns the messages that the server refuses.
    async fn download(&mut self, folder: &str, set: &[u32]) -> Vec<u32> {
        let mut open = set.to_vec();
        loop {
            let uids: Vec<String> = open.iter().map(u32::to_string).collect();
            let command = format!("UID FETCH {} (UID BODY.PEEK[])", uids.join(","));
            let Some(reply) = self.try_run(folder, &command).await else { continue };
            for (uid, body) in reply.bodies() {
                open.retain(|other| *other != uid);
                match body {
                    Some(_) => self.counts.stored += 1,
                    None => self.counts.expunged += 1,
                }
            }
            if self.is_fault(&reply).await && !open.is_empty() {
                continue;
            }
            if reply.status.starts_with("NO [SERVERBUG] ") {
                return open;
            }
            self.counts.absent += open.len();
            return Vec::new();
        }
    }
}

/// Downloads all messages of a mailbox, folder by folder.
async fn download_through_storm(items: u32) -> (StormCounts, DemoCounters) {
    let dir = tempfile::tempdir().unwrap();
    let token_file = dir.path().join("token");
    let options = DemoOptions {
        kind: DemoKind::PlainImap,
        items,
        faults: FaultLevel::Storm,
        token_file: Some(token_file.clone()),
        ..DemoOptions::default()
    };
    let demo = start(options).unwrap();
    let counts = StormCounts::default();
    let mut client = StormClient { demo, token_file, connection: None, counts };
    for folder in ["INBOX", "Archive", "Sent", "Trash"] {
        client.download_folder(folder).await;
    }
    (client.counts, client.demo.counters())
}

fn assert_every_fault_occurred(counts: &StormCounts, counters: &DemoCounters) {
    let gone = counts.absent + counts.expunged;
    assert_eq!(counts.stored + gone + counts.always_failing, counts.listed, "{counts:?}");
    assert_eq!(gone, 3, "{counts:?}");
    assert!((1..=2).contains(&counts.always_failing), "it may be in two folders: {counts:?}");
    assert_eq!(counts.login_pages, 2);
    assert_eq!(counts.backoff_millis, [2_001, 6_001]);
    assert!(10 < counts.unauthorized, "the new token is written three seconds late: {counts:?}");
    assert!(0 < counts.throttled && 8 <= counts.unavailable, "{counts:?}");
    assert!(0 < counts.byes && 0 < counts.closed && 0 < counts.truncated, "{counts:?}");
    assert_eq!((counters.token_expiries, counters.token_renewals), (1, 1));
    assert!(0 < counters.slow_responses);
}

#[tokio::test]
async fn a_storm_over_imap_injects_every_fault_into_200_items() {
    let (counts, counters) = download_through_storm(200).await;

    assert_every_fault_occurred(&counts, &counters);
}
