//! Simplest possible bulk downloader: it lists, fetches and writes, without syncs or saved state.

use std::path::Path;
use std::time::Instant;

use fs_err as fs;
use futures_util::stream::{self, StreamExt as _};
use reqwest::{Client, RequestBuilder, Url};
use serde_json::{Value, json};

use crate::ExtractionResult;

/// Concurrent requests, and messages in a page of the listing, as in the worker.
const CONCURRENCY: usize = 8;
const PAGE_MESSAGES: usize = 500;

/// HTTP client of one account.
struct BaselineClient {
    client: Client,
    token: String,
    account: Value,
    api: Url,
    base: Url,
    download: String,
}

/// Downloads every message of the configured mailbox into `folder`, each into a file.
pub(crate) fn download(config: &Path, folder: &Path) -> ExtractionResult {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let client = BaselineClient::open(config).await;
        let (blobs, listing) = timed(client.list()).await;
        let (sizes, downloading) = timed(client.fetch_all(&blobs, folder)).await;
        ExtractionResult {
            documents: sizes.len() as u64,
            bytes: sizes.iter().sum(),
            listing_seconds: listing,
            download_seconds: downloading,
        }
    })
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
async fn timed<T>(future: impl Future<Output = T>) -> (T, f64) {
    let started_at = Instant::now();
    let output = future.await;
    (output, started_at.elapsed().as_secs_f64())
}

impl BaselineClient {
    async fn open(config: &Path) -> Self {
        let config = fs::read_to_string(config).expect("the configuration can be read");
        let config: toml::Table = config.parse().expect("it is TOML");
        let source = &config["source"]["demo"];
        let token = source["auth"]["token"]["file"].as_str().expect("it names a token file");
        let token = fs::read_to_string(token).expect("the token can be read").trim().to_owned();
        let url = source["url"].as_str().expect("it names a URL");

        rustls::crypto::ring::default_provider().install_default().ok();
        let client = Client::builder().no_proxy().tls_certs_only([]).build().expect("a client");
        let response =
            client.get(url).bearer_auth(&token).send().await.expect("the service responds");
        let base = response.url().clone();
        let session = json(response).await;
        let text = |name: &str| session[name].as_str().expect("the session has it").to_owned();
        Self {
            client,
            token,
            account: session["primaryAccounts"]["urn:ietf:params:jmap:mail"].clone(),
            api: base.join(&text("apiUrl")).expect("a URL"),
            base,
            download: text("downloadUrl"),
        }
    }

    /// Lists the blobs of all messages.
    async fn list(&self) -> Vec<String> {
        let mut blobs = Vec::new();
        loop {
            let request = json!({
                "using": ["urn:ietf:params:jmap:core", "urn:ietf:params:jmap:mail"],
                "methodCalls": [
                    ["Email/query", {
                        "accountId": self.account, "position": blobs.len(), "limit": PAGE_MESSAGES,
                        "sort": [{"property": "receivedAt", "isAscending": true}],
                    }, "q"],
                    ["Email/get", {
                        "accountId": self.account,
                        "#ids": {"resultOf": "q", "name": "Email/query", "path": "/ids"},
                        "properties": ["blobId", "threadId", "size"],
                    }, "g"],
                ],
            });
            let post =
                self.client.post(self.api.clone()).header("content-type", "application/json");
            let response = json(self.send(post.body(request.to_string())).await).await;
            let list = response["methodResponses"][1][1]["list"].as_array().expect("a list");
            if list.is_empty() {
                return blobs;
            }
            let page = list.iter().map(|email| email["blobId"].as_str().expect("a blob"));
            blobs.extend(page.map(str::to_owned));
        }
    }

    /// Downloads all messages and returns their sizes, in no particular order.
    async fn fetch_all(&self, blobs: &[String], folder: &Path) -> Vec<u64> {
        let fetches = blobs.iter().map(|blob| self.fetch(blob, folder));
        stream::iter(fetches).buffer_unordered(CONCURRENCY).collect().await
    }

    async fn fetch(&self, blob: &str, folder: &Path) -> u64 {
        let url = self
            .download
            .replace("{accountId}", self.account.as_str().expect("an id"))
            .replace("{blobId}", blob)
            .replace("{name}", "message.eml")
            .replace("{type}", "message%2Frfc822");
        let url = self.base.join(&url).expect("a URL");
        let response = self.send(self.client.get(url)).await;
        let message = response.bytes().await.expect("the message is complete");
        fs::write(folder.join(format!("{blob}.eml")), &message).expect("the folder is ours");
        message.len() as u64
    }

    async fn send(&self, request: RequestBuilder) -> reqwest::Response {
        let response = request.bearer_auth(&self.token).send().await.expect("the service responds");
        response.error_for_status().expect("the request succeeds")
    }
}

async fn json(response: reqwest::Response) -> Value {
    let body = response.bytes().await.expect("the response is complete");
    serde_json::from_slice(&body).expect("the response is JSON")
}
