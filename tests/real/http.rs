//! HTTP client for the requests that tests send themselves, one at a time.

use bytes::Bytes;
use reqwest::header::LOCATION;
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Proxy, RequestBuilder, Url};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

pub(crate) struct TestHttpClient {
    runtime: Runtime,
    client: Client,
}

pub(crate) struct TestHttpResponse {
    /// URL of the response, after redirects.
    pub(crate) url: Url,
    /// Address of a redirect that was not followed.
    pub(crate) location: Option<String>,
    pub(crate) body: Bytes,
}

impl TestHttpClient {
    pub(crate) fn new() -> Self {
        Self::build(ClientBuilder::no_proxy)
    }

    /// Creates a client that follows no redirect.
    pub(crate) fn without_redirects() -> Self {
        Self::build(|builder| builder.no_proxy().redirect(Policy::none()))
    }

    /// Creates a client that sends its requests through the proxy at a port of this machine, and
    /// follows no redirect.
    pub(crate) fn with_proxy(port: u16) -> Self {
        let proxy = Proxy::all(format!("http://127.0.0.1:{port}")).expect("the URL is valid");
        Self::build(|builder| builder.proxy(proxy).redirect(Policy::none()))
    }

    fn build(configure: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Self {
        // Fails for a second client of this process, because the provider is installed already.
        rustls::crypto::ring::default_provider().install_default().ok();
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        // The runtime stands still between two requests, so the client would not notice that the
        // server has closed an idle connection.
        let builder = Client::builder().pool_max_idle_per_host(0);
        let client = configure(builder).build().expect("the settings are valid");
        Self { runtime, client }
    }

    /// Sends a request, which has to succeed, and returns the response.
    pub(crate) fn send(&self, build: impl FnOnce(&Client) -> RequestBuilder) -> TestHttpResponse {
        self.runtime.block_on(async {
            let response = build(&self.client).send().await.expect("the server responds");
            let response = response.error_for_status().expect("the status is a success");
            let url = response.url().clone();
            let location = response.headers().get(LOCATION);
            let location = location.and_then(|value| value.to_str().ok()).map(str::to_owned);
            let body = response.bytes().await.expect("the body is complete");
            TestHttpResponse { url, location, body }
        })
    }
}

impl TestHttpResponse {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }
}
