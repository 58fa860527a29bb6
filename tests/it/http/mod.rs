//! HTTP client against servers that break the rules.

mod bodies;
mod metrics;
mod proxies;
mod redirects_and_connections;
mod refusals;
mod responses;
mod retries;
mod trace;

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use cynosure::limiter::{AttemptKind, Unlimited};
use cynosure::retry::{BackoffConfig, RetryPolicy};
use cynosure::source::http::{
    Authorization, ExpectedContent, HttpClient, HttpOptions, HttpRequest, ProxyMode, QuotaRules,
    RequestLimits,
};
use cynosure::source::{MetricsHandle, ResponseRecorder, Sink};
use cynosure_engine::{Cause, Failure, ThrottleStrikes};
use url::Url;

use crate::hostile_server::HostileServer;

const SECRET: &str = "s3cret-t0ken";

pub(crate) fn limits() -> RequestLimits {
    RequestLimits {
        retry_policy: request_retries(1),
        connect_timeout: Duration::from_millis(500),
        idle_timeout: Duration::from_secs(1),
        total_timeout: Duration::from_secs(4),
        min_rate: 1_000,
        max_response: 100_000,
        max_document: 100_000,
    }
}

/// Retry policy with this number of attempts and almost no delay between them.
pub(crate) fn request_retries(max_attempts: u32) -> RetryPolicy {
    let (base_delay, max_delay) = (Duration::from_millis(1), Duration::from_millis(5));
    RetryPolicy::new(
        "request",
        BackoffConfig { max_attempts, base_delay, max_delay, ..BackoffConfig::FAST },
    )
}

/// Sink that keeps a document in memory.
#[derive(Default)]
pub(crate) struct MemorySink {
    pub(crate) bytes: Vec<u8>,
    pub(crate) rewind_count: u32,
}

impl Sink for MemorySink {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    async fn rewind(&mut self) -> Result<(), Failure> {
        self.bytes.clear();
        self.rewind_count += 1;
        Ok(())
    }
}

/// Returns options for requests to `urls`, with defaults for everything else.
pub(crate) fn http_options<'a>(
    limits: RequestLimits,
    urls: impl IntoIterator<Item = &'a Url>,
) -> HttpOptions {
    HttpOptions {
        allowed_origins: urls.into_iter().map(Url::origin).collect(),
        limits,
        proxy_mode: ProxyMode::Direct,
        quota_rules: QuotaRules::default(),
        error_rules: Vec::new(),
        metrics: MetricsHandle::default(),
        recorder: ResponseRecorder::default(),
    }
}

fn client(limits: RequestLimits, url: &Url) -> HttpClient {
    HttpClient::new(http_options(limits, [url]), Rc::new(Unlimited)).unwrap()
}

fn authorization() -> Authorization {
    Authorization::Bearer { token: SECRET.into() }
}

async fn get(url: &Url, limits: RequestLimits) -> Result<Bytes, Failure> {
    let url = url.join("?query=s3cret-query").unwrap();
    let authorization = authorization();
    let request = HttpRequest::get(&url, ExpectedContent::Json, &authorization);
    let response = client(limits, &url).fetch_buffered(&request).await;
    response.map(|response| response.body).map_err(|error| assert_no_url_leaked(error.into()))
}

async fn fetch(url: &Url, limits: RequestLimits, size: Option<u64>) -> Result<MemorySink, Failure> {
    let url = url.join("?query=s3cret-query").unwrap();
    let mut sink = MemorySink::default();
    let authorization = authorization();
    let request = HttpRequest::get(&url, ExpectedContent::Document, &authorization);
    let byte_count = client(limits, &url)
        .fetch_streaming(&request, size, ThrottleStrikes::default(), AttemptKind::First, &mut sink)
        .await
        .map_err(assert_no_url_leaked)?;
    assert_eq!(usize::try_from(byte_count), Ok(sink.bytes.len()));
    Ok(sink)
}

/// Asserts that the message of a failure contains neither the URL nor a secret, and returns the
/// failure. A message about `allow_hosts` may contain an origin.
fn assert_no_url_leaked(failure: Failure) -> Failure {
    for fragment in ["s3cret", "query=", "http://", "https://"] {
        let names_origin = failure.message.contains("allow_hosts");
        assert!(names_origin || !failure.message.contains(fragment), "{fragment} in {failure}");
    }
    failure
}

async fn cause_of_document(bytes: impl Into<Vec<u8>>, size: Option<u64>) -> Cause {
    let server = HostileServer::always_sending(bytes).await;
    fetch(&server.url, limits(), size).await.map(|sink| sink.bytes).unwrap_err().cause
}

async fn failure_of_json(bytes: impl Into<Vec<u8>>) -> Failure {
    let server = HostileServer::always_sending(bytes).await;
    get(&server.url, limits()).await.unwrap_err()
}
