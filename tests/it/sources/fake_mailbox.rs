//! JMAP source on the fake mailbox, which also stores content that no real server accepts.

use cynosure::source::jmap::{AuthScheme, JmapSource};
use serde_json::json;

use super::suite::fault::{FaultQueue, HttpForm};
use super::suite::{Fault, Rig, SourceOptions, Unsupported, jmap_source, source_tests};
use crate::fake_mailbox::{FakeMailbox, ServedMailbox};

/// Path prefix of all downloads.
const DOWNLOAD_PREFIX: &str = "/get/";

/// Fake mailbox, whose pages have four messages.
struct ServedFake {
    served: ServedMailbox,
    faults: FaultQueue,
}

impl Rig for ServedFake {
    type Source = JmapSource;

    const NAME: &'static str = "jmap, fake mailbox";
    const SECRET: &'static str = "secret";

    async fn start(documents: usize) -> Result<Self, Unsupported> {
        let faults = FaultQueue::default();
        let queue = faults.clone();
        let mailbox = FakeMailbox::with_emails(documents);
        let served = mailbox
            .serve_with(move |request| {
                if request.path().starts_with(DOWNLOAD_PREFIX) {
                    queue.next_actions(&HttpForm::OCTETS)
                } else {
                    None
                }
            })
            .await;
        Ok(Self { served, faults })
    }

    fn source(&self, options: &SourceOptions) -> JmapSource {
        jmap_source(options, &self.served.server.url, AuthScheme::Bearer)
    }

    fn contents(&self) -> Vec<Vec<u8>> {
        let mailbox = self.served.mailbox.lock().unwrap();
        mailbox.emails.iter().map(|id| mailbox.content(id).1).collect()
    }

    fn deliver(&self, count: usize) -> Result<(), Unsupported> {
        self.served.with_mailbox(|mailbox| {
            for _ in 0..count {
                let id = unused_id(mailbox);
                mailbox.deliver(&id);
            }
        });
        Ok(())
    }

    fn deliver_contents(&self, contents: Vec<Vec<u8>>) -> Result<(), Unsupported> {
        self.served.with_mailbox(|mailbox| {
            for bytes in contents {
                let id = unused_id(mailbox);
                mailbox.replace(&id, &format!("B{id}"), bytes);
                mailbox.deliver(&id);
            }
        });
        Ok(())
    }

    fn destroy(&self, count: usize) -> Result<(), Unsupported> {
        self.served.with_mailbox(|mailbox| {
            let ids = oldest_ids(mailbox, count);
            mailbox.destroy(|id| ids.iter().any(|destroyed| destroyed == id));
        });
        Ok(())
    }

    fn move_to_other_folder(&self, count: usize) -> Result<(), Unsupported> {
        self.served.with_mailbox(|mailbox| {
            for id in oldest_ids(mailbox, count) {
                mailbox.move_to_other_folder(&id);
            }
        });
        Ok(())
    }

    fn copy_to_other_folder(&self, _count: usize) -> Result<(), Unsupported> {
        Err(Unsupported("each of its messages is in one folder"))
    }

    fn expire_cursors(&self) -> Result<(), Unsupported> {
        self.deliver(1)?;
        self.served.with_mailbox(|mailbox| {
            let oldest_state = mailbox.change_log.len();
            mailbox.override_method("Email/changes", move |arguments| {
                let since: usize = arguments["sinceState"].as_str()?.parse().ok()?;
                (since < oldest_state).then(|| json!({"type": "cannotCalculateChanges"}))
            });
        });
        Ok(())
    }

    fn inject(&self, fault: Fault) -> Result<(), Unsupported> {
        self.faults.push(fault);
        Ok(())
    }

    fn request_count(&self) -> usize {
        let requests = self.served.server.requests();
        requests.iter().filter(|request| request.path().starts_with(DOWNLOAD_PREFIX)).count()
    }
}

/// Returns an id that no message has had. Each delivery changes it, because it is logged.
fn unused_id(mailbox: &FakeMailbox) -> String {
    format!("D{}", mailbox.change_log.len())
}

fn oldest_ids(mailbox: &FakeMailbox, count: usize) -> Vec<String> {
    mailbox.emails.iter().take(count).cloned().collect()
}

source_tests!(ServedFake);
