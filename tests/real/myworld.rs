//! Private myworld on loopback: an independent server with the API of Gmail, behind an HTTPS proxy
//! that answers for Google's hosts. It fails requests on demand.

use std::ffi::OsStr;
use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE as BASE64_URL;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::free_ports::free_ports;
use crate::http::TestHttpClient;
use crate::prerequisites::{skip, unpacked_root};
use crate::server_process::ServerProcess;

/// User of the mailbox.
pub(crate) const ACCOUNT: &str = "alice@example.com";

/// Requests of Gmail's API, as the server names them.
pub(crate) const GET_MESSAGE: &str = "gmail.users.messages.get";
pub(crate) const LIST_MESSAGES: &str = "gmail.users.messages.list";
pub(crate) const LIST_LABELS: &str = "gmail.users.labels.list";
pub(crate) const LIST_HISTORY: &str = "gmail.users.history.list";

/// Name of the folder in `target/real` into which `make setup` installs it.
const SETUP_NAME: &str = "myworld";

/// Name of the mailbox's world, and of the one that may read it.
const WORLD: &str = "mail";
const READER: &str = "reader";

/// Running server. Dropping it ends it.
pub(crate) struct MyworldServer {
    _process: ServerProcess,
    http: TestHttpClient,
    /// Port at which the test changes the mailbox.
    control_port: u16,
    pub(crate) proxy_port: u16,
    /// Certificate authority of the proxy.
    pub(crate) authority: PathBuf,
    pub(crate) access_token: String,
}

impl MyworldServer {
    /// Starts a server with a mailbox of this many messages, each a thread. Reports the test as
    /// skipped, and returns `None`, if something is missing.
    pub(crate) fn start(messages: usize) -> Option<Self> {
        let program = unpacked_root(SETUP_NAME).join("bin/myworld");
        if !program.exists() {
            return skip("myworld (make setup, python3)");
        }
        let [control_port, proxy_port] = free_ports();
        let [control, proxy] = [control_port, proxy_port].map(|port| port.to_string());
        let folder = TempDir::new().expect("a temporary folder");
        let authority_folder = folder.path().join("authority");
        // Without `--no-passthrough` it would forward requests for other hosts to the internet.
        let options =
            ["serve", "--port", &control, "--gateway", &proxy, "--no-passthrough", "--ca-dir"];
        let arguments = options.map(OsStr::new).into_iter().chain([authority_folder.as_os_str()]);
        let process = ServerProcess::start(&program, arguments, control_port, folder);
        let mut server = Self {
            _process: process,
            http: TestHttpClient::new(),
            control_port,
            proxy_port,
            authority: authority_folder.join("myworld-ca.pem"),
            access_token: String::new(),
        };
        let run = server.control(Method::POST, "/envs", Some(&world(messages)));
        let credentials = &run["credentials"][READER];
        server.access_token = text(&credentials["google_access_token"]);
        Some(server)
    }

    /// Lets requests fail: each fault is the name of the request, the kind of the fault, and the
    /// number of the request of that name that fails, in ascending order from 1. They replace those
    /// of before.
    pub(crate) fn inject_faults(&self, faults: &[(&str, &str, usize)]) {
        // A fault does not count the requests that fail by one before it in the list.
        let faults = faults.iter().rev();
        let faults = faults
            .map(|(name, kind, number)| json!({ "tool": name, "kind": kind, "on_call": number }));
        let faults = Value::Array(faults.collect());
        self.control(Method::PUT, &format!("/instances/{WORLD}-gmail/faults"), Some(&faults));
    }

    /// Delivers new messages, each a thread.
    pub(crate) fn deliver(&self, subjects: &[&str]) {
        for subject in subjects {
            let message =
                json!({ "sender": "Bob <bob@example.org>", "subject": subject, "body": "New.\n" });
            let event = json!({ "server": "gmail", "action": "deliver_email", "params": message });
            self.control(Method::POST, &format!("/envs/{WORLD}/events"), Some(&event));
        }
    }

    /// Returns the requests of Gmail's API so far, oldest first.
    pub(crate) fn requests(&self) -> Vec<GmailRequest> {
        let path = format!("/instances/{WORLD}-gmail/calls");
        let response = self.control(Method::GET, &path, None);
        let calls = response["calls"].as_array().expect("the requests are a list");
        let request = |call: &Value| GmailRequest {
            name: text(&call["tool"]),
            fault: call["fault"].as_str().map(str::to_owned),
            message: call["args"]["params"]["id"].as_str().map(str::to_owned),
        };
        calls.iter().map(request).collect()
    }

    /// Returns the id and the bytes of each message, as the server sends them without its proxy.
    pub(crate) fn messages(&self) -> Vec<(String, Vec<u8>)> {
        // The mailbox of a test has less than a page of messages.
        let page = self.get("/messages?includeSpamTrash=true&maxResults=500");
        assert!(page["nextPageToken"].is_null(), "the mailbox has several pages");
        let rows = page["messages"].as_array().expect("the mailbox has messages");
        let ids = rows.iter().map(|row| text(&row["id"]));
        let message = |id: String| {
            let raw = text(&self.get(&format!("/messages/{id}?format=raw"))["raw"]);
            (id, BASE64_URL.decode(raw).expect("a raw message is in base64url"))
        };
        ids.map(message).collect()
    }

    /// Requests a path of the mailbox, without the proxy.
    fn get(&self, path: &str) -> Value {
        let host = format!("http://127.0.0.1:{}/gw/gmail.googleapis.com", self.control_port);
        let url = format!("{host}/gmail/v1/users/me{path}");
        self.http.send(|client| client.get(url).bearer_auth(&self.access_token)).json()
    }

    /// Sends a request that is not one of Gmail's API.
    fn control(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        let url = format!("http://127.0.0.1:{}{path}", self.control_port);
        let response = self.http.send(|client| {
            let request = client.request(method, url);
            match body {
                Some(body) => {
                    request.header("Content-Type", "application/json").body(body.to_string())
                }
                None => request,
            }
        });
        response.json()
    }
}

/// Request of Gmail's API that the server has received.
#[derive(Debug)]
pub(crate) struct GmailRequest {
    pub(crate) name: String,
    /// Kind of the fault with which it was answered.
    pub(crate) fault: Option<String>,
    /// Id of the requested message.
    pub(crate) message: Option<String>,
}

/// Returns a world with one mailbox, and one that may read it.
fn world(messages: usize) -> Value {
    let user = json!({ "email": ACCOUNT, "name": "Alice" });
    let emails: Vec<Value> = (0..messages).map(email).collect();
    let gmail = json!({ "seed": { "user": user, "labels": [], "emails": emails } });
    json!({
        "id": WORLD,
        "spec": {
            "name": WORLD,
            "task": "none",
            "agents": { READER: { "as": ACCOUNT, "servers": ["gmail"] } },
            "servers": { "gmail": gmail },
        },
    })
}

/// Returns a message, in the form of a mailbox's seed. Every fourth has 8-bit text, and every
/// seventh is spam with an attachment.
fn email(number: usize) -> Value {
    let words = if number.is_multiple_of(4) { "na\u{ef}ve caf\u{e9}" } else { "plain" };
    let is_spam = number.is_multiple_of(7);
    let attachment =
        json!({ "filename": "a.pdf", "mimeType": "application/pdf", "size": 3_000 + number });
    json!({
        "from": "Bob <bob@example.org>",
        "to": [ACCOUNT],
        "subject": format!("{words} {number}"),
        "body": format!("Message {number}, {words}.\n"),
        "date": format!("2026-01-01T10:{:02}:00Z", number % 60),
        "labels": [if is_spam { "SPAM" } else { "INBOX" }],
        "attachments": if is_spam { json!([attachment]) } else { json!([]) },
    })
}

fn text(value: &Value) -> String {
    value.as_str().expect("the server names it").to_owned()
}
