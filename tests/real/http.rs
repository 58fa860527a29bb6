//! HTTP client for the requests that tests send themselves, one at a time.

use bytes::Bytes;
use reqwest::{Client, RequestBuilder, Url};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

pub(crate) struct TestHttpClient {
    runtime: Runtime,
    client: Client,
}

pub(crate) struct TestHttpResponse {
    /// URL of the response, after redirects.
    pub(crate) url: Url,
    pub(crate) body: Bytes,
}

impl TestHttpClient {
    pub(crate) fn new() -> Self {
        // Fails for a second client of this process, because the provider is installed already.
        rustls::crypto::ring::default_provider().install_default().ok();
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let client = Client::builder().no_proxy().build().expect("a client with default settings");
        Self { runtime, client }
    }

    /// Sends a request, which has to succeed, and returns the response.
    pub(crate) fn send(&self, build: impl FnOnce(&Client) -> RequestBuilder) -> TestHttpResponse {
        self.runtime.block_on(async {
            let response = build(&self.client).send().await.expect("the server responds");
            let response = response.error_for_status().expect("the status is a success");
            let url = response.url().clone();
            TestHttpResponse { url, body: response.bytes().await.expect("the body is complete") }
        })
    }
}

impl TestHttpResponse {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }
}
