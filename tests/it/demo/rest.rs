//! The same mailbox over the APIs of providers, tested with plain clients.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cynosure_lab::demo::{DemoKind, DemoOptions, DemoServer, start};
use reqwest::{Client, RequestBuilder, Response, StatusCode, header};
use serde_json::{Value, json};
use url::Url;
use url::form_urlencoded::Serializer;

use super::client::{JsonBody as _, plain_client};

/// Client with a bearer token, for Gmail and Graph.
struct BearerClient {
    demo: DemoServer,
    http: Client,
}

impl BearerClient {
    fn new(kind: DemoKind, items: u32) -> Self {
        let demo = start(DemoOptions { kind, items, ..DemoOptions::default() }).unwrap();
        Self { demo, http: plain_client() }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.demo.address())
    }

    async fn get(&self, url: &str) -> Response {
        let prefer = "IdType=\"ImmutableId\", odata.maxpagesize=20";
        let request = self.http.get(url).bearer_auth("demo").header("Prefer", prefer);
        request.send().await.unwrap()
    }

    /// Follows the links of Graph, and returns the ids of all rows.
    async fn linked_ids(&self, url: String) -> Vec<String> {
        let (mut ids, mut next) = (Vec::new(), Some(url));
        while let Some(url) = next {
            let page = self.get(&url).await.json_body().await;
            ids.extend(page["value"].as_array().unwrap().iter().map(id_of));
            next = page["@odata.nextLink"].as_str().map(str::to_owned);
        }
        ids
    }
}

/// Client with the session of a browser, for mail.ru.
pub(super) struct SessionClient {
    pub(super) http: Client,
    pub(super) base: String,
    pub(super) session: Value,
}

impl SessionClient {
    fn url(&self, method: &str) -> Url {
        let text = |name: &str| self.session[name].as_str().unwrap();
        let parameters = [("email", text("email")), ("token", text("token"))];
        Url::parse_with_params(&format!("{}{method}", self.base), parameters).unwrap()
    }

    fn with_cookies(&self, request: RequestBuilder) -> RequestBuilder {
        let cookies = self.session["cookies"].as_object().unwrap().iter();
        let cookies: Vec<String> =
            cookies.map(|(name, value)| format!("{name}={}", value.as_str().unwrap())).collect();
        request.header(header::COOKIE, cookies.join("; "))
    }

    /// Calls a method, and returns the envelope.
    pub(super) async fn call(&self, method: &str) -> Value {
        let request = self.with_cookies(self.http.get(self.url(method)));
        request.send().await.unwrap().json_body().await
    }

    /// Requests the octets of a message.
    pub(super) async fn download(&self, message: &MailruMessage) -> reqwest::Result<Response> {
        let mut form = Serializer::new(String::new());
        form.append_pair("id", &message.id).append_pair("folder_id", &message.folder);
        form.append_pair("mark_read", "false");
        let request = self.http.post(self.url("/messages/message/download"));
        let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        self.with_cookies(request.body(form.finish())).send().await
    }

    /// Lists the messages of all folders that are not locked.
    pub(super) async fn list(&self) -> Vec<MailruMessage> {
        let folders = self.call("/folders").await;
        let mut messages = Vec::new();
        for folder in folders["body"].as_array().unwrap() {
            if folder["security"].is_null() {
                self.list_folder(&folder["id"].to_string(), &mut messages).await;
            }
        }
        messages
    }

    async fn list_folder(&self, folder: &str, messages: &mut Vec<MailruMessage>) {
        let list = format!("/threads/status/smart?folder={folder}&limit=1000&offset=0");
        let threads = self.call(&list).await;
        for thread in threads["body"]["threads"].as_array().unwrap() {
            let id = thread["thread_id"].as_str().unwrap();
            let method = format!("/threads/thread?id={id}&folder={folder}&mark_read=false");
            let thread = self.call(&method).await;
            messages.extend(thread["body"]["messages"].as_array().unwrap().iter().map(|row| {
                MailruMessage { id: id_of(row), folder: row["folder"].as_str().unwrap().to_owned() }
            }));
        }
    }
}

/// Message, as its download names it.
pub(super) struct MailruMessage {
    id: String,
    folder: String,
}

/// Returns the octets of all messages, in an order of their own.
fn contents(demo: &DemoServer) -> Vec<Vec<u8>> {
    let mailbox = demo.lock_mailbox();
    let blobs = mailbox.blobs();
    let mut contents: Vec<Vec<u8>> =
        blobs.map(|(blob, _)| mailbox.message_bytes(&blob).unwrap()).collect();
    contents.sort();
    contents
}

fn id_of(row: &Value) -> String {
    row["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn gmail_has_every_message_in_base64url() {
    let client = BearerClient::new(DemoKind::Gmail, 60);
    let base = client.url("/gmail/v1/users/me");
    let (mut ids, mut token) = (Vec::new(), String::new());
    loop {
        let query = "maxResults=40&includeSpamTrash=true&fields=messages/id,nextPageToken";
        let page = client.get(&format!("{base}/messages?{query}{token}")).await.json_body().await;
        ids.extend(page["messages"].as_array().unwrap().iter().map(id_of));
        match page["nextPageToken"].as_str() {
            Some(next) => token = format!("&pageToken={next}"),
            None => break,
        }
    }

    let mut decoded = Vec::new();
    for id in &ids {
        let response = client.get(&format!("{base}/messages/{id}?format=raw&fields=raw")).await;
        assert_eq!(response.content_length(), None, "it is sent in chunks");
        let body = response.json_body().await;
        decoded.push(URL_SAFE_NO_PAD.decode(body["raw"].as_str().unwrap()).unwrap());
    }

    decoded.sort();
    assert!(decoded == contents(&client.demo));
    let counters = client.demo.counters();
    assert_eq!((counters.api_requests, counters.download_requests), (3, 96));
    assert_eq!((counters.messages_served, counters.in_flight), (96, 0));
}

#[tokio::test]
async fn graph_has_every_message_behind_full_links() {
    let client = BearerClient::new(DemoKind::Graph, 60);
    let mut octets = Vec::new();

    for folder in client.linked_ids(client.url("/v1.0/me/mailFolders/delta")).await {
        let delta = format!("/v1.0/me/mailFolders/{folder}/messages/delta");
        for id in client.linked_ids(client.url(&delta)).await {
            let url = client.url(&format!("/v1.0/me/messages/{id}/$value"));
            let response = client.get(&url).await;
            assert_eq!(response.headers()[header::CONTENT_TYPE], "text/plain");
            assert_eq!(response.content_length(), None, "Graph does not tell the size");
            octets.push(response.bytes().await.unwrap().to_vec());
        }
    }

    octets.sort();
    assert!(octets == contents(&client.demo));
    let sweep = client.linked_ids(client.url("/v1.0/me/messages?$top=50")).await;
    assert_eq!(sweep.len(), octets.len());
}

#[tokio::test]
async fn a_fifth_request_at_once_is_throttled_by_graph() {
    let client = BearerClient::new(DemoKind::Graph, 2_000);
    let sizes: Vec<usize> = client.demo.lock_mailbox().blobs().map(|(_, size)| size).collect();
    let (largest, size) = sizes.iter().enumerate().max_by_key(|(_, size)| **size).unwrap();
    let ids = client.linked_ids(client.url("/v1.0/me/messages?$top=1000")).await;
    // The newest is the first.
    let id = &ids[ids.len() - 1 - largest];
    let url = client.url(&format!("/v1.0/me/messages/{id}/$value"));

    let mut open_responses = Vec::new();
    for _ in 0..4 {
        open_responses.push(client.get(&url).await);
    }
    let fifth = client.get(&url).await;

    assert_eq!(fifth.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(fifth.headers()[header::RETRY_AFTER], "1");
    assert_eq!(fifth.json_body().await["error"]["code"], "ApplicationThrottled");
    for response in open_responses {
        assert_eq!(response.bytes().await.unwrap().len(), *size);
    }
    assert_eq!(client.get(&url).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_bearer_token_is_refused_in_the_words_of_each_api() {
    for (kind, path, pointer, word) in [
        (DemoKind::Gmail, "/gmail/v1/users/me/profile", "/error/errors/0/reason", "authError"),
        (DemoKind::Graph, "/v1.0/me", "/error/code", "InvalidAuthenticationToken"),
    ] {
        let client = BearerClient::new(kind, 1);

        let request = client.http.get(client.url(path)).bearer_auth("wrong");
        let response = request.send().await.unwrap();

        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert!(response.headers().contains_key(header::WWW_AUTHENTICATE));
        let body = response.json_body().await;
        assert_eq!(body.pointer(pointer).unwrap(), word, "{body}");
        assert_eq!(client.demo.counters().unauthorized, 1);
    }
}

#[tokio::test]
async fn mailru_has_every_message_for_the_session_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mailru.session");
    let (kind, token_file) = (DemoKind::Mailru, Some(file.clone()));
    let demo =
        start(DemoOptions { kind, items: 60, token_file, ..DemoOptions::default() }).unwrap();
    let session: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let base = format!("http://{}/api/v1", demo.address());
    let mut client = SessionClient { http: plain_client(), base, session };
    let mut octets = Vec::new();

    for message in client.list().await {
        let response = client.download(&message).await.unwrap();
        assert_eq!(response.headers()[header::CONTENT_TYPE], "message/rfc822");
        octets.push(response.bytes().await.unwrap().to_vec());
    }

    octets.sort();
    assert!(octets == contents(&demo));
    assert_eq!(demo.counters().mark_read_requests, 0);
    client.call("/threads/thread?id=1:18c5000000000000:0").await;
    assert_eq!(demo.counters().mark_read_requests, 1);
    client.session["cookies"]["sdcs"] = "other".into();
    let refused = client.call("/folders").await;
    assert_eq!((&refused["status"], &refused["body"]), (&json!(403), &json!("nosdc")));
}
