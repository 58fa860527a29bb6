//! A second opinion: the fewest lines that read a JMAP mailbox, independent of the code under test.

use std::collections::BTreeSet;

use reqwest::{RequestBuilder, Url};
use serde_json::{Value, json};

use crate::http::TestHttpClient;

const CORE: &str = "urn:ietf:params:jmap:core";
const MAIL: &str = "urn:ietf:params:jmap:mail";

/// Ids in one call: no server takes fewer, see `maxObjectsInGet` in RFC 8620 §2.
const PAGE_IDS: usize = 500;

/// A mailbox as its server shows it.
pub(crate) struct JmapAccount {
    http: TestHttpClient,
    user: String,
    password: String,
    /// What the URLs of the session are relative to.
    base: Url,
    session: Value,
}

/// One message, as `Email/get` tells it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct JmapEmail {
    pub(crate) blob: String,
    pub(crate) thread: String,
}

impl JmapAccount {
    pub(crate) fn open(url: &str, user: &str, password: &str) -> Self {
        let http = TestHttpClient::new();
        let answer = http.send(|client| client.get(url).basic_auth(user, Some(password)));
        let (session, base) = (answer.json(), answer.url);
        Self { http, user: user.into(), password: password.into(), base, session }
    }

    /// Every message of the mailbox, which must not change meanwhile.
    pub(crate) fn emails(&self) -> BTreeSet<JmapEmail> {
        let mut emails = BTreeSet::new();
        let mut position = 0;
        loop {
            let page = self.call("Email/query", json!({ "position": position, "limit": PAGE_IDS }));
            let wanted = json!({ "ids": page["ids"], "properties": ["blobId", "threadId"] });
            let got = self.call("Email/get", wanted);
            let list = got["list"].as_array().expect("messages are a list");
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

    /// The state that changes can be asked from (RFC 8620 §5.1).
    pub(crate) fn state(&self) -> String {
        text(&self.call("Email/get", json!({ "ids": [] }))["state"])
    }

    /// Why the server can't tell what changed since `state`, if it can't (RFC 8620 §5.2).
    pub(crate) fn changes_error(&self, state: &str) -> Option<String> {
        let answer = self.call("Email/changes", json!({ "sinceState": state }));
        answer["type"].as_str().map(str::to_owned)
    }

    /// The raw octets of a message.
    pub(crate) fn download(&self, email: &JmapEmail) -> Vec<u8> {
        let path = text(&self.session["downloadUrl"])
            .replace("{accountId}", &self.account_id())
            .replace("{blobId}", &email.blob)
            .replace("{name}", "mail")
            .replace("{type}", "application%2Foctet-stream");
        let url = self.base.join(&path).expect("the server gives URLs");
        self.http.send(|client| self.authenticated(client.get(url))).body.to_vec()
    }

    /// The arguments of the answer to one method call (RFC 8620 §3.4).
    fn call(&self, method: &str, mut arguments: Value) -> Value {
        arguments["accountId"] = self.account_id().into();
        let request = json!({ "using": [CORE, MAIL], "methodCalls": [[method, arguments, "0"]] });
        let url = self.base.join(&text(&self.session["apiUrl"])).expect("the server gives URLs");
        let answer = self.http.send(|client| {
            self.authenticated(client.post(url))
                .header("Content-Type", "application/json")
                .body(request.to_string())
        });
        answer.json()["methodResponses"][0][1].take()
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
