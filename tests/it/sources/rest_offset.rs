//! REST source with tables of its own, on a made-up API whose list is read by offsets.

use std::sync::{Arc, Mutex, MutexGuard};

use cynosure::source::DynSource;
use serde_json::{Value, json};
use url::form_urlencoded;

use super::gmail::json_response;
use super::suite::fault::{FaultQueue, HttpForm};
use super::suite::options::rest_source;
use super::suite::{Fault, Rig, SourceOptions, Unsupported, source_tests};
use crate::hostile_server::{ConnectionAction, HostileServer, ReceivedRequest, plain_response};

const NO_FOLDERS: Unsupported = Unsupported("the API has no folders");

/// Table of the source. A page has ten rows, of which two are those of the page before.
const TABLE: &str = r#"kind = "rest"
auth = { type = "header", name = "X-Api-Key", value = { file = "key" } }

[source.work.list]
get = "/messages"
query = { limit = 10 }
items = "/messages"
id = "/id"
size = "/size"
total = "/total"
page = { kind = "offset", size = 10, overlap = 2, until = "two_passes_agree", to = "query.offset" }

[source.work.fetch]
get = "/messages/{document.id}/raw"

[[source.work.error]]
when = { on = "fetch", status = 404 }
then = "gone"
"#;

/// API with exact sizes, whose newest messages come first.
struct OffsetApi {
    server: HostileServer,
    mailbox: Arc<Mutex<NumberedMailbox>>,
    faults: FaultQueue,
}

/// Messages with their ids, oldest first.
#[derive(Default)]
struct NumberedMailbox {
    messages: Vec<(usize, Vec<u8>)>,
    /// Number of messages ever delivered.
    delivered: usize,
}

impl Rig for OffsetApi {
    type Source = DynSource;

    const NAME: &'static str = "rest, offsets";
    const SECRET: &'static str = "k3y-1";
    const LISTED_MAX: usize = 4;
    const LISTS_PAGES_AGAIN: bool = true;

    async fn start(documents: usize) -> Result<Self, Unsupported> {
        let mailbox = Arc::<Mutex<NumberedMailbox>>::default();
        let (faults, shared) = (FaultQueue::default(), Arc::clone(&mailbox));
        let queue = faults.clone();
        let server = HostileServer::start(move |_, request| {
            let fault =
                if is_fetch(request) { queue.next_actions(&HttpForm::OCTETS) } else { None };
            fault.unwrap_or_else(|| {
                vec![ConnectionAction::Send(shared.lock().unwrap().respond(request))]
            })
        })
        .await;
        let rig = Self { server, mailbox, faults };
        rig.deliver(documents)?;
        Ok(rig)
    }

    fn source(&self, options: &SourceOptions) -> DynSource {
        rest_source(options, TABLE, &self.server.url)
    }

    fn contents(&self) -> Vec<Vec<u8>> {
        self.mailbox().messages.iter().map(|(_, content)| content.clone()).collect()
    }

    fn deliver(&self, count: usize) -> Result<(), Unsupported> {
        let first = self.mailbox().delivered;
        let content =
            |number| format!("Subject: {number}\r\n\r\nMessage {number}\r\n").into_bytes();
        self.deliver_contents((first..first + count).map(content).collect())
    }

    fn deliver_contents(&self, contents: Vec<Vec<u8>>) -> Result<(), Unsupported> {
        let mut mailbox = self.mailbox();
        for content in contents {
            let id = mailbox.delivered;
            mailbox.messages.push((id, content));
            mailbox.delivered += 1;
        }
        Ok(())
    }

    fn destroy(&self, count: usize) -> Result<(), Unsupported> {
        self.mailbox().messages.drain(..count);
        Ok(())
    }

    fn move_to_other_folder(&self, _count: usize) -> Result<(), Unsupported> {
        Err(NO_FOLDERS)
    }

    fn copy_to_other_folder(&self, _count: usize) -> Result<(), Unsupported> {
        Err(NO_FOLDERS)
    }

    fn expire_cursors(&self) -> Result<(), Unsupported> {
        Err(Unsupported("a cursor never expires: it is a hash of all rows"))
    }

    fn inject(&self, fault: Fault) -> Result<(), Unsupported> {
        self.faults.push(fault);
        Ok(())
    }

    fn request_count(&self) -> usize {
        self.server.requests().iter().filter(|request| is_fetch(request)).count()
    }
}

impl OffsetApi {
    fn mailbox(&self) -> MutexGuard<'_, NumberedMailbox> {
        self.mailbox.lock().unwrap()
    }
}

impl NumberedMailbox {
    fn respond(&self, request: &ReceivedRequest) -> Vec<u8> {
        let key = format!("x-api-key: {}", OffsetApi::SECRET);
        if !request.head.lines().any(|line| line.eq_ignore_ascii_case(&key)) {
            return plain_response("401 Unauthorized", "", "");
        }
        let path = request.path().strip_prefix("/messages").unwrap_or_default();
        match path.strip_prefix('?') {
            Some(query) => json_response("200 OK", &self.page(query)),
            None => self.raw_message(path),
        }
    }

    fn page(&self, query: &str) -> Value {
        let number = |name: &str| -> usize {
            let mut parameters = form_urlencoded::parse(query.as_bytes());
            let found = parameters.find(|(parameter, _)| parameter == name);
            found.map_or(0, |(_, value)| value.parse().unwrap())
        };
        let row = |(id, content): &(usize, Vec<u8>)| json!({ "id": id, "size": content.len() });
        let page = self.messages.iter().rev().skip(number("offset")).take(number("limit"));
        json!({ "total": self.messages.len(), "messages": page.map(row).collect::<Vec<_>>() })
    }

    /// Returns the response for `/ID/raw`.
    fn raw_message(&self, path: &str) -> Vec<u8> {
        let id = path.trim_start_matches('/').strip_suffix("/raw");
        let id: Option<usize> = id.and_then(|id| id.parse().ok());
        let found = self.messages.iter().find(|(known, _)| Some(*known) == id);
        match found {
            Some((_, content)) => (HttpForm::OCTETS.document)(content),
            None => plain_response("404 Not Found", "", ""),
        }
    }
}

fn is_fetch(request: &ReceivedRequest) -> bool {
    request.path().starts_with("/messages/")
}

source_tests!(OffsetApi);
