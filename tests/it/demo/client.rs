//! Minimal JMAP client for the tests of the demo.

use cynosure_lab::demo::{DemoOptions, DemoServer};
use reqwest::{Client, RequestBuilder, Response, StatusCode, header};
use serde_json::{Value, json};

/// Capabilities of JMAP Core and of JMAP Mail (RFC 8620, RFC 8621).
pub(super) const CAPABILITIES: [&str; 2] =
    ["urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail"];

/// Returns a client without a proxy. It needs a TLS provider, although no request uses TLS.
pub(super) fn plain_client() -> Client {
    // This fails from the second test of this process on, because it is installed then.
    rustls::crypto::ring::default_provider().install_default().ok();
    Client::builder().no_proxy().build().unwrap()
}

/// JMAP client with the account of the demo's session.
pub(super) struct DemoClient {
    pub(super) http: Client,
    pub(super) base: String,
    pub(super) account: String,
    pub(super) username: String,
    pub(super) password: String,
}

impl DemoClient {
    pub(super) async fn new(demo: &DemoServer) -> Self {
        let options = DemoOptions::default();
        let base = format!("http://{}", demo.address());
        let mut client = Self {
            http: plain_client(),
            base,
            account: String::new(),
            username: options.username,
            password: options.password,
        };
        let session: Value = client.get("/.well-known/jmap").await.json_body().await;
        client.account = session["primaryAccounts"][CAPABILITIES[1]].as_str().unwrap().to_owned();
        client
    }

    fn with_credential(&self, request: RequestBuilder) -> RequestBuilder {
        request.basic_auth(&self.username, Some(&self.password))
    }

    pub(super) async fn get(&self, path: &str) -> Response {
        self.with_credential(self.http.get(format!("{}{path}", self.base))).send().await.unwrap()
    }

    pub(super) async fn post(&self, body: impl Into<reqwest::Body>) -> Response {
        let request = self.http.post(format!("{}/jmap/api/", self.base));
        let request = request.header(header::CONTENT_TYPE, "application/json").body(body);
        self.with_credential(request).send().await.unwrap()
    }

    /// Makes method calls `(name, arguments)` with the ids "0", "1" and so on, and returns the
    /// arguments of the responses.
    pub(super) async fn call<const N: usize>(&self, calls: [(&str, Value); N]) -> Vec<Value> {
        let calls = calls.into_iter().enumerate().map(|(id, (name, mut arguments))| {
            arguments["accountId"] = self.account.as_str().into();
            json!([name, arguments, id.to_string()])
        });
        let request = json!({ "using": CAPABILITIES, "methodCalls": calls.collect::<Vec<_>>() });
        let response = self.post(request.to_string()).await.json_body().await;
        response["methodResponses"]
            .as_array()
            .unwrap()
            .iter()
            .map(|invocation| invocation[1].clone())
            .collect()
    }

    pub(super) fn download_path(&self, blob: &str) -> String {
        format!("/jmap/download/{}/{blob}/m.eml?type=message%2Frfc822", self.account)
    }

    /// Posts a control command of the demo, which needs no credential.
    pub(super) async fn command(&self, command: &str) {
        let response =
            self.http.post(format!("{}/demo/{command}", self.base)).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    }

    /// Lists every message by anchors: `(id, blobId, size)`.
    pub(super) async fn list(&self) -> Vec<(String, String, usize)> {
        let mut listed: Vec<(String, String, usize)> = Vec::new();
        loop {
            let mut query = json!({ "limit": 300, "sort": [{ "property": "receivedAt" }] });
            if let Some((anchor, ..)) = listed.last() {
                query["anchor"] = anchor.as_str().into();
                query["anchorOffset"] = 1.into();
            }
            let ids = json!({ "resultOf": "0", "name": "Email/query", "path": "/ids" });
            let get = json!({ "#ids": ids, "properties": ["id", "blobId", "size"] });
            let responses = self.call([("Email/query", query), ("Email/get", get)]).await;
            let page = responses[1]["list"].as_array().unwrap();
            if page.is_empty() {
                return listed;
            }
            listed.extend(page.iter().map(|email| {
                let text = |name: &str| email[name].as_str().unwrap().to_owned();
                let size = usize::try_from(email["size"].as_u64().unwrap()).unwrap();
                (text("id"), text("blobId"), size)
            }));
        }
    }
}

pub(super) trait JsonBody {
    async fn json_body(self) -> Value;
}

impl JsonBody for Response {
    async fn json_body(self) -> Value {
        serde_json::from_slice(&self.bytes().await.unwrap()).unwrap()
    }
}
