//! Servers that return another content under a known id or blob id.

use std::sync::Arc;

use serde_json::json;

use crate::commands::test_home::{ProgramOutput, TestHome};
use crate::fake_mailbox::{FakeMailbox, ServedMailbox};
use crate::hostile_server::plain_response;

/// Fake mailbox, and the home of a program that extracts it.
struct MailboxScenario {
    mailbox: ServedMailbox,
    home: Arc<TestHome>,
}

impl MailboxScenario {
    async fn new(mailbox: FakeMailbox) -> Self {
        let mailbox = mailbox.serve().await;
        let home = Arc::new(TestHome::with_source_at(mailbox.server.url.as_str()));
        home.configure("attempts = 1\n", "attempts = 1\n[item]\nmax_attempts = 1\n");
        Self { mailbox, home }
    }

    /// Runs the program to its end, while the server of the test keeps serving.
    async fn cynosure(&self, args: &'static [&'static str]) -> ProgramOutput {
        let home = Arc::clone(&self.home);
        tokio::task::spawn_blocking(move || home.cynosure(args)).await.unwrap()
    }

    /// Runs one session, which must end with this exit code, and returns its summary.
    async fn summary_line(&self, code: i32) -> String {
        let output = self.cynosure(&["run", "--once"]).await;
        assert_eq!(output.code, Some(code), "{output:?}");
        let lines = format!("{}{}", output.stdout, output.stderr);
        let summary = lines.lines().rfind(|line| line.contains("listed ") && line.contains(" = "));
        let summary = summary.unwrap_or_else(|| panic!("no summary in {lines}"));
        summary[summary.find("listed ").unwrap()..].to_owned()
    }

    /// Returns file name and content of each stored message, in the order of the paths.
    fn stored_files(&self) -> Vec<(String, String)> {
        let files = self.home.messages().into_iter();
        let read = |path: std::path::PathBuf| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs_err::read_to_string(path).unwrap())
        };
        files.map(read).collect()
    }
}

fn names_and_contents(files: &[(&str, &str)]) -> Vec<(String, String)> {
    files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

/// Mailbox of three mails whose arrivals are in its change log, so that a cursor can expire.
fn mailbox() -> FakeMailbox {
    let mut mailbox = FakeMailbox::with_emails(0);
    ["M0", "M1", "M2"].iter().for_each(|id| mailbox.deliver(id));
    mailbox
}

/// FAULTS 44: same ids and threads, other blobs and sizes, expired cursor.
#[tokio::test]
async fn mail_of_a_restored_server_is_stored_beside_the_old() {
    let scenario = MailboxScenario::new(mailbox()).await;
    let summary = scenario.summary_line(0).await;
    assert_eq!(summary, "listed 3 = stored 3 + gone 0 + quarantined 0");

    scenario.mailbox.with_mailbox(|mailbox| {
        mailbox.replace("M0", "R0", "restored 0");
        mailbox.replace("M2", "R2", "restored 2");
        mailbox.change_log.clear();
    });
    let summary = scenario.summary_line(0).await;

    assert_eq!(summary, "listed 2 = stored 2 + gone 0 + quarantined 0; 2 new versions, 0 copies");
    let (old, new) = (
        [("+m0.eml", "M0"), ("+m1.eml", "M1"), ("+m2.eml", "M2")],
        [("+m0.2.eml", "restored 0"), ("+m2.2.eml", "restored 2")],
    );
    assert_eq!(
        scenario.stored_files(),
        [names_and_contents(&old), names_and_contents(&new)].concat()
    );
    let verified = scenario.cynosure(&["verify"]).await;
    assert_eq!(verified.code, Some(0), "{verified:?}");
    assert!(verified.stdout.contains("5 documents of 3 items verified"), "{verified:?}");
}

/// FAULTS 44: the blob id of a deleted mail now belongs to another content.
#[tokio::test]
async fn a_new_mail_under_a_used_blob_of_another_size_is_fetched() {
    let scenario = MailboxScenario::new(mailbox()).await;
    scenario.summary_line(0).await;

    scenario.mailbox.with_mailbox(|mailbox| {
        mailbox.destroy(|id| id == "M0");
        mailbox.deliver("M3");
        mailbox.replace("M3", "BM0", "not what M0 was");
        mailbox.deliver("M4");
        mailbox.replace("M4", "BM1", "M1");
    });
    let summary = scenario.summary_line(0).await;

    assert_eq!(summary, "listed 2 = stored 2 + gone 0 + quarantined 0; 0 new versions, 1 copy");
    let stored = scenario.stored_files();
    assert_eq!(stored.len(), 4, "{stored:?}");
    assert_eq!(stored.last(), names_and_contents(&[("+m3.eml", "not what M0 was")]).last());
    let verified = scenario.cynosure(&["verify"]).await;
    assert!(verified.stdout.contains("5 documents of 5 items verified"), "{verified:?}");
    assert!(verified.stdout.ends_with(": OK; 1 copy, stored once\n"), "{verified:?}");
}

#[tokio::test]
async fn each_document_of_a_damaged_file_is_named_and_requeued() {
    let scenario = MailboxScenario::new(mailbox()).await;
    scenario.summary_line(0).await;
    scenario.mailbox.with_mailbox(|mailbox| {
        mailbox.deliver("M3");
        mailbox.replace("M3", "BM1", "M1");
    });
    scenario.summary_line(0).await;
    let messages = scenario.home.messages();
    let shared = messages.iter().find(|path| path.ends_with("+m1.eml")).unwrap();
    fs_err::remove_file(shared).unwrap();

    let verified = scenario.cynosure(&["verify"]).await;
    let requeued = scenario.cynosure(&["requeue", "--damaged", "--source", "work"]).await;
    let summary = scenario.summary_line(0).await;

    assert_eq!(verified.code, Some(74), "{verified:?}");
    assert_eq!(verified.stdout.matches("+m1.eml: missing\n").count(), 2, "{verified:?}");
    assert!(requeued.stdout.contains("2 documents of work: "), "{requeued:?}");
    assert_eq!(summary, "listed 2 = stored 2 + gone 0 + quarantined 0");
}

/// FAULTS 48: the listing contains a blob that no longer exists.
#[tokio::test]
async fn a_blob_changed_before_its_download_is_refetched() {
    let mut mailbox = mailbox();
    mailbox.override_method("Email/get", |arguments| {
        let ids = arguments["ids"].as_array().filter(|ids| ids.len() == 3)?;
        let list = ids.iter().map(|id| {
            json!({"id": id, "blobId": "gone", "threadId": id, "size": 99, "mailboxIds": {"in": true}})
        });
        Some(json!({"state": "3", "list": list.collect::<Vec<_>>(), "notFound": []}))
    });
    let scenario = MailboxScenario::new(mailbox).await;

    let summary = scenario.summary_line(0).await;

    assert_eq!(summary, "listed 3 = stored 3 + gone 0 + quarantined 0");
    assert_eq!(
        scenario.stored_files(),
        names_and_contents(&[("+m0.eml", "M0"), ("+m1.eml", "M1"), ("+m2.eml", "M2")])
    );
}

/// FAULTS 48: a mail that was quarantined with its old blob.
#[tokio::test]
async fn a_requeued_mail_is_fetched_under_its_new_blob() {
    let mut mailbox = mailbox();
    mailbox.request_override = Some(("/get/alice/BM1/", plain_response("404 None", "", "")));
    let scenario = MailboxScenario::new(mailbox).await;
    let summary = scenario.summary_line(3).await;
    assert!(summary.starts_with("listed 3 = stored 2 + gone 0 + quarantined 1"), "{summary}");

    scenario.mailbox.with_mailbox(|mailbox| {
        mailbox.request_override = None;
        mailbox.replace("M1", "new", "another content");
    });
    scenario.cynosure(&["requeue", "--source", "work"]).await;
    let summary = scenario.summary_line(0).await;

    assert_eq!(summary, "listed 1 = stored 1 + gone 0 + quarantined 0");
    assert_eq!(
        scenario.stored_files().last(),
        names_and_contents(&[("+m1.eml", "another content")]).last()
    );
}

/// FAULTS 48: the same, with the new blob from a full listing.
#[tokio::test]
async fn a_quarantined_mail_listed_with_a_new_blob_is_fetched() {
    let mut mailbox = mailbox();
    mailbox.request_override = Some(("/get/alice/BM1/", plain_response("404 None", "", "")));
    let scenario = MailboxScenario::new(mailbox).await;
    scenario.summary_line(3).await;

    scenario.mailbox.with_mailbox(|mailbox| {
        mailbox.request_override = None;
        mailbox.replace("M1", "new", "another content");
        mailbox.change_log.clear();
    });
    let summary = scenario.summary_line(0).await;

    assert_eq!(summary, "listed 1 = stored 1 + gone 0 + quarantined 0");
    assert_eq!(
        scenario.stored_files().last(),
        names_and_contents(&[("+m1.eml", "another content")]).last()
    );
}
