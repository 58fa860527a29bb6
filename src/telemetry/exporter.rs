//! Exporter of telemetry, on a separate thread, so that a slow receiver delays nothing else.
//!
//! What cannot be queued or delivered is dropped. Metrics are cumulative, so that the next export
//! makes up for a lost one; spans are only a sample.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use cynosure_engine::is_loopback_host;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, StatusCode};
use tokio::runtime::Builder;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::Instant;
use tracing::{debug, warn};
use url::Url;

use crate::http_client::{client_builder, describe_error};
use crate::retry::{BackoffConfig, RetryPolicy, Retryable};
use crate::telemetry::{Span, TelemetryResource, otlp};

/// Maximum length of the queue, in spans and metric exports together, and in bytes of metrics.
const QUEUE_MAX: usize = 1_024;
const QUEUE_BYTES_MAX: usize = 16 << 20;

/// Maximum number of spans sent together.
const BATCH_MAX: usize = 256;

/// Maximum time that spans are collected before they are sent.
const BATCH_AGE_MAX: Duration = Duration::from_secs(5);

/// Time limit of one delivery attempt, from beginning to end.
const POST_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum delay that a receiver can request with `Retry-After`.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// Collector that spans are sent to, with the headers to use.
#[derive(Clone, Debug)]
pub struct Collector {
    /// URL below which the collector accepts telemetry.
    pub base_url: Url,
    pub headers: ExportHeaders,
    pub resource: TelemetryResource,
}

/// HTTP headers that may contain a secret.
#[derive(Clone, Default)]
pub struct ExportHeaders(HeaderMap);

/// Sender to the exporter thread. Clones share the queue.
#[derive(Clone, Debug)]
pub struct ExportQueue {
    sender: Sender<ExportItem>,
    /// Bytes in the queue.
    queued_bytes: Arc<AtomicUsize>,
}

/// Handle from which the delivery status of a queued export is read.
#[derive(Debug)]
pub struct DeliveryHandle(oneshot::Receiver<()>);

/// Status of a delivery.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DeliveryStatus {
    /// Queued, or being attempted.
    Pending,
    Delivered,
    /// Dropped undelivered.
    Dropped,
}

/// Exporter thread, which ends when all its senders are dropped.
#[derive(Debug)]
pub struct Exporter {
    queue: ExportQueue,
    done: mpsc::Receiver<()>,
}

#[derive(Debug)]
enum ExportItem {
    Post { url: Url, headers: Box<ExportHeaders>, json: Vec<u8>, ack: oneshot::Sender<()> },
    Span(Box<Span>),
}

/// Failed attempt, described without secrets.
#[derive(Debug)]
struct ExportError {
    reason: String,
    is_retryable: bool,
    retry_after: Option<Duration>,
}

impl ExportItem {
    /// Returns the bytes that count while the item is queued.
    fn bytes(&self) -> usize {
        match self {
            Self::Post { json, .. } => json.len(),
            Self::Span(_) => 0,
        }
    }
}

impl ExportHeaders {
    /// Adds a header.
    ///
    /// # Errors
    /// An error if name or value is not valid in a header; neither is quoted.
    pub fn add(&mut self, name: &str, value: &str) -> Result<(), String> {
        let name = HeaderName::from_bytes(name.as_bytes());
        match (name, HeaderValue::from_str(value)) {
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true);
                self.0.insert(name, value);
                Ok(())
            }
            (Err(_), _) | (_, Err(_)) => Err("a header contains invalid characters".to_owned()),
        }
    }
}

impl Collector {
    /// Returns the URL of `path` below the base URL, which may end in a slash.
    #[must_use]
    pub fn url_for(&self, path: &str) -> Url {
        let mut url = self.base_url.clone();
        url.set_path(&format!("{}/{path}", self.base_url.path().trim_end_matches('/')));
        url
    }
}

impl Exporter {
    /// Starts the thread. Spans are sent to `collector`; without one they are dropped.
    ///
    /// # Errors
    /// One sentence, if the thread or the TLS clients cannot be created.
    pub fn start(collector: Option<Collector>) -> Result<Self, String> {
        let (sender, receiver) = channel(QUEUE_MAX);
        let (done_sender, done) = mpsc::channel();
        let builder = || client_builder().timeout(POST_TIMEOUT);
        let clients = builder()
            .no_proxy()
            .build()
            .and_then(|local_client| Ok((local_client, builder().build()?)));
        let (local_client, remote_client) =
            clients.map_err(|error| format!("cannot create the HTTP clients: {error}"))?;
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("cannot create the runtime: {error}"))?;
        let worker = ExportWorker {
            local_client,
            remote_client,
            collector,
            queued_bytes: Arc::clone(&queued_bytes),
            backoff: BackoffConfig::FAST,
            spans: Vec::new(),
            has_warned: false,
        };
        let run = move || {
            runtime.block_on(worker.run(receiver));
            drop(done_sender);
        };
        let thread = thread::Builder::new().name("telemetry".to_owned()).spawn(run);
        thread.map_err(|error| format!("cannot start the thread: {error}"))?;
        Ok(Self { queue: ExportQueue { sender, queued_bytes }, done })
    }

    #[must_use]
    pub fn queue(&self) -> ExportQueue {
        self.queue.clone()
    }

    /// Waits until the queue is delivered, for `limit` at most. All other senders must be dropped
    /// before.
    pub fn close(self, limit: Duration) {
        drop(self.queue);
        if self.done.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            debug!("undelivered telemetry dropped");
        }
    }
}

impl DeliveryHandle {
    #[must_use]
    pub fn status(&mut self) -> DeliveryStatus {
        match self.0.try_recv() {
            Ok(()) => DeliveryStatus::Delivered,
            Err(TryRecvError::Empty) => DeliveryStatus::Pending,
            Err(TryRecvError::Closed) => DeliveryStatus::Dropped,
        }
    }
}

impl ExportQueue {
    /// Queues JSON, or drops it if the queue is full.
    pub fn send_json(
        &self,
        url: Url,
        headers: ExportHeaders,
        json: &serde_json::Value,
    ) -> DeliveryHandle {
        let (ack, receiver) = oneshot::channel();
        let handle = DeliveryHandle(receiver);
        let json = serde_json::to_vec(json).unwrap_or_default();
        let bytes = json.len();
        if self.queued_bytes.load(Ordering::Relaxed).saturating_add(bytes) > QUEUE_BYTES_MAX {
            debug!("telemetry dropped, the queue is full");
            return handle;
        }
        self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.enqueue(ExportItem::Post { url, headers: Box::new(headers), json, ack });
        handle
    }

    /// Queues a span for the next batch, or drops it if the queue is full.
    pub fn send_span(&self, span: Span) {
        self.enqueue(ExportItem::Span(Box::new(span)));
    }

    fn enqueue(&self, item: ExportItem) {
        let Err(TrySendError::Full(item) | TrySendError::Closed(item)) = self.sender.try_send(item)
        else {
            return;
        };
        self.queued_bytes.fetch_sub(item.bytes(), Ordering::Relaxed);
        debug!("telemetry dropped, the queue is full");
    }
}

struct ExportWorker {
    /// Client for receivers on this machine, past any proxy of the environment.
    local_client: Client,
    remote_client: Client,
    collector: Option<Collector>,
    queued_bytes: Arc<AtomicUsize>,
    backoff: BackoffConfig,
    /// Spans collected for the next batch.
    spans: Vec<Span>,
    has_warned: bool,
}

impl ExportWorker {
    async fn run(mut self, mut items: Receiver<ExportItem>) {
        let mut batch_due_at = Instant::now();
        loop {
            let has_spans = !self.spans.is_empty();
            let item = tokio::select! {
                item = items.recv() => item,
                () = tokio::time::sleep_until(batch_due_at), if has_spans => {
                    self.send_spans().await;
                    continue;
                }
            };
            if let Some(item) = &item {
                self.queued_bytes.fetch_sub(item.bytes(), Ordering::Relaxed);
            }
            match item {
                Some(ExportItem::Post { url, headers, json, ack }) => {
                    if self.send(&url, &headers, json).await == DeliveryStatus::Delivered {
                        // Most callers have dropped the handle.
                        ack.send(()).ok();
                    }
                }
                Some(ExportItem::Span(span)) => {
                    if self.spans.is_empty() {
                        batch_due_at = Instant::now() + BATCH_AGE_MAX;
                    }
                    self.spans.push(*span);
                    if self.spans.len() >= BATCH_MAX {
                        self.send_spans().await;
                    }
                }
                None => {
                    // A process that is stopping does not wait for a second attempt.
                    self.backoff.max_attempts = 1;
                    return self.send_spans().await;
                }
            }
        }
    }

    async fn send_spans(&mut self) {
        let spans = std::mem::take(&mut self.spans);
        let Some(collector) = self.collector.clone().filter(|_| !spans.is_empty()) else { return };
        let json = otlp::encode_spans(&spans, &collector.resource);
        let json = serde_json::to_vec(&json).unwrap_or_default();
        // Spans are a sample, so lost ones are not sent again.
        let _delivery =
            self.send(&collector.url_for(otlp::TRACES_PATH), &collector.headers, json).await;
    }

    /// Delivers JSON with retries. Only the first failure after a success is logged as a warning.
    async fn send(&mut self, url: &Url, headers: &ExportHeaders, json: Vec<u8>) -> DeliveryStatus {
        let json = bytes::Bytes::from(json);
        let policy = RetryPolicy::new("telemetry", self.backoff);
        let client = if url.host_str().is_some_and(is_loopback_host) {
            &self.local_client
        } else {
            &self.remote_client
        };
        let delivery = policy.run(async || post_once(client, url, headers, json.clone()).await);
        let host = url.host_str().unwrap_or_default();
        match delivery.await {
            Ok(()) => {
                self.has_warned = false;
                return DeliveryStatus::Delivered;
            }
            Err(error) if self.has_warned => debug!(host, %error, "telemetry dropped"),
            Err(error) => {
                warn!(
                    host,
                    %error,
                    "cannot deliver telemetry; it is dropped until the receiver accepts it"
                );
                self.has_warned = true;
            }
        }
        DeliveryStatus::Dropped
    }
}

async fn post_once(
    client: &Client,
    url: &Url,
    headers: &ExportHeaders,
    json: bytes::Bytes,
) -> Result<(), ExportError> {
    let request = client.post(url.clone()).headers(headers.0.clone());
    let sent = request.header(CONTENT_TYPE, "application/json").body(json).send().await;
    let response = sent.map_err(|error| ExportError {
        reason: describe_error(&error),
        is_retryable: true,
        retry_after: None,
    })?;
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    let retry_after =
        retry_after.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    Err(ExportError {
        reason: format!("the receiver responded with {status}"),
        // The statuses that the OTLP specification names as retryable.
        is_retryable: matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
        ),
        retry_after: retry_after.map(|delay| delay.min(RETRY_AFTER_MAX)),
    })
}

impl Retryable for ExportError {
    fn is_retryable(&self) -> bool {
        self.is_retryable
    }

    fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl fmt::Debug for ExportHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExportHeaders").field("count", &self.0.len()).finish()
    }
}
