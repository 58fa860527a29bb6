//! Minimal JMAP client that reads a mailbox, independent of the code under test.

use std::collections::BTreeSet;

use reqwest::{RequestBuilder, Url};
use serde_json::{Value, json};

use crate::http::TestHttpClient;

const CORE: &str = "urn:ietf:params:jmap:core";
const MAIL: &str = "urn:ietf:params:jmap:mail";

/// Ids per call. Every server accepts this many: see `maxObjectsInGet` in RFC 8620 §2.
const PAGE_IDS: usize = 500;

/// JMAP session with the account of one user.
pub(crate) struct JmapAccount {
    http: TestHttpClient,
    user: String,
    password: String,
    /// URL to which the URLs of the session are relative.
    base_url: Url,
    session: Value,
}

/// Message, as returned by `Email/get`.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct JmapEmail {
    pub(crate) blob: String,
    pub(crate) thread: String,
}

impl JmapAccount {
    pub(crate) fn open(url: &str, user: &str, password: &str) -> Self {
        let http = TestHttpClient::new();
        let response = http.send(|client| client.get(url).basic_auth(user, Some(password)));
        let (session, base_url) = (response.json(), response.url);
        Self { http, user: user.into(), password: password.into(), base_url, session }
    }

    /// Returns every message of the mailbox, which must not change meanwhile.
    pub(crate) fn emails(&self) -> BTreeSet<JmapEmail> {
        let mut emails = BTreeSet::new();
        let mut position = 0;
        loop {
            let page = self.call("Email/query", json!({ "position": position, "limit": PAGE_IDS }));
            let arguments = json!({ "ids": page["ids"], "properties": ["blobId", "threadId"] });
            let response = self.call("Email/get", arguments);
            let list = response["list"].as_array().expect("messages are a list");
            if list.is_empty() {
                return emails;
            }
            position += list.len();
            emails.extend(list.iter().map(|email| JmapEmail {
                blob: text(&email["blobId"]),
                thread: text(&email["threadId"]),
            }));
        }
    }

    /// Returns the state from which changes can be queried (RFC 8620 §5.1).
    pub(crate) fn state(&self) -> String {
        text(&self.call("Email/get", json!({ "ids": [] }))["state"])
    }

    /// Returns the error type if the server cannot calculate the changes since `state` (RFC 8620
    /// §5.2).
    pub(crate) fn changes_error(&self, state: &str) -> Option<String> {
        let response = self.call("Email/changes", json!({ "sinceState": state }));
        response["type"].as_str().map(str::to_owned)
    }

    /// Returns the raw octets of a message.
    pub(crate) fn download(&self, email: &JmapEmail) -> Vec<u8> {
        let path = text(&self.session["downloadUrl"])
            .replace("{accountId}", &self.account_id())
            .replace("{blobId}", &email.blob)
            .replace("{name}", "mail")
            .replace("{type}", "application%2Foctet-stream");
        let url = self.base_url.join(&path).expect("the server gives URLs");
        self.http.send(|client| self.authenticated(client.get(url))).body.to_vec()
    }

    /// Calls one method, and returns the arguments of its response (RFC 8620 §3.4).
    fn call(&self, method: &str, mut arguments: Value) -> Value {
        arguments["accountId"] = self.account_id().into();
        let request = json!({ "using": [CORE, MAIL], "methodCalls": [[method, arguments, "0"]] });
        let url =
            self.base_url.join(&text(&self.session["apiUrl"])).expect("the server gives URLs");
        let response = self.http.send(|client| {
            self.authenticated(client.post(url))
                .header("Content-Type", "application/json")
                .body(request.to_string())
        });
        response.json()["methodResponses"][0][1].take()
    }

    fn authenticated(&self, request: RequestBuilder) -> RequestBuilder {
        request.basic_auth(&self.user, Some(&self.password))
    }

    fn account_id(&self) -> String {
        text(&self.session["primaryAccounts"][MAIL])
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("the server follows the RFC").to_owned()
}
