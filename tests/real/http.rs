//! Plain HTTP for the tests' own questions, one at a time.

use bytes::Bytes;
use reqwest::{Client, RequestBuilder, Url};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

pub(crate) struct TestHttpClient {
    runtime: Runtime,
    client: Client,
}

pub(crate) struct TestHttpResponse {
    /// Where the answer came from, after redirects.
    pub(crate) url: Url,
    pub(crate) body: Bytes,
}

impl TestHttpClient {
    pub(crate) fn new() -> Self {
        // A second client of this process finds it installed.
        rustls::crypto::ring::default_provider().install_default().ok();
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let client = Client::builder().no_proxy().build().expect("a client without wishes");
        Self { runtime, client }
    }

    /// Returns the answer to a request that has to succeed.
    pub(crate) fn send(&self, request: impl FnOnce(&Client) -> RequestBuilder) -> TestHttpResponse {
        self.runtime.block_on(async {
            let answer = request(&self.client).send().await.expect("the server answers");
            let answer = answer.error_for_status().expect("the server agrees");
            let url = answer.url().clone();
            TestHttpResponse { url, body: answer.bytes().await.expect("the answer comes whole") }
        })
    }
}

impl TestHttpResponse {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the answer is JSON")
    }
}
