//! Reads response bodies chunk by chunk, with size and time limits, and verifies that they are
//! complete.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use cynosure_engine::{Cause, Failure};
use reqwest::header::TRANSFER_ENCODING;
use reqwest::{Response, Version};
use tokio::time::{Instant, timeout};
use url::Url;

use crate::limiter::Permit;
use crate::source::Sink;
use crate::source::http::array_truncator::{ArrayTruncator, BufferLimits};
use crate::source::http::options::RequestLimits;
use crate::source::http::request::host;
use crate::source::http::transport;

/// Time that one attempt has waited for the server, and bytes received in the current rate window.
///
/// Time spent on our own disk does not count, because the server does not cause it.
pub(super) struct TransferTimer<'a> {
    limits: &'a RequestLimits,
    elapsed: Duration,
    window_elapsed: Duration,
    window_bytes: u64,
}

impl<'a> TransferTimer<'a> {
    pub(super) fn new(limits: &'a RequestLimits) -> Self {
        Self { limits, elapsed: Duration::ZERO, window_elapsed: Duration::ZERO, window_bytes: 0 }
    }

    /// Waits for the head of a response. Bytes that trickle in do not extend the timeout. The inner
    /// error is the raw one, because only the caller knows through which proxy the request went.
    pub(super) async fn wait_for_head(
        &mut self,
        url: &Url,
        response: impl Future<Output = reqwest::Result<Response>>,
    ) -> Result<reqwest::Result<Response>, Failure> {
        let max_wait = self.limits.connect_timeout.saturating_add(self.limits.idle_timeout);
        self.with_timeout(max_wait, url, response).await
    }

    /// Waits for the next chunk of a body; `None` is its end.
    pub(super) async fn next_chunk(
        &mut self,
        response: &mut Response,
    ) -> Result<Option<Bytes>, Failure> {
        let url = response.url().clone();
        let before = self.elapsed;
        let chunk = self.with_timeout(self.limits.idle_timeout, &url, response.chunk()).await?;
        let chunk = chunk.map_err(|error| transport::to_failure(&error, host(&url)))?;

        self.window_elapsed += self.elapsed.saturating_sub(before);
        self.window_bytes += chunk.as_ref().map_or(0, chunk_length);
        if self.limits.idle_timeout <= self.window_elapsed {
            let rate = self.limits.min_rate;
            let required_bytes =
                u128::from(rate).saturating_mul(self.window_elapsed.as_millis()) / 1_000;
            if chunk.is_some() && u128::from(self.window_bytes) < required_bytes {
                let message = format!("{} sends less than {rate} bytes a second", host(&url));
                return Err(Failure::new(Cause::Timeout, message));
            }
            self.window_elapsed = Duration::ZERO;
            self.window_bytes = 0;
        }
        Ok(chunk)
    }

    async fn with_timeout<T>(
        &mut self,
        max_wait: Duration,
        url: &Url,
        operation: impl Future<Output = reqwest::Result<T>>,
    ) -> Result<reqwest::Result<T>, Failure> {
        let remaining = self.limits.total_timeout.saturating_sub(self.elapsed);
        let max_wait = max_wait.min(remaining);
        let started_at = Instant::now();
        let result = timeout(max_wait, operation).await;
        self.elapsed += started_at.elapsed();

        match result {
            Ok(result) => Ok(result),
            Err(_elapsed) if max_wait == remaining => {
                let total = self.limits.total_timeout;
                let message =
                    format!("{} did not complete its response within {total:?}", host(url));
                Err(Failure::new(Cause::Timeout, message))
            }
            Err(_elapsed) => {
                let message = format!("no data from {} for {max_wait:?}", host(url));
                Err(Failure::new(Cause::Timeout, message))
            }
        }
    }
}

/// Reads a response into memory within `buffer_limits`, and returns it with the number of bytes
/// received.
///
/// A body that ends with the connection is accepted, because truncated JSON does not parse.
pub(super) async fn collect(
    mut response: Response,
    buffer_limits: Option<BufferLimits>,
    timer: &mut TransferTimer<'_>,
) -> Result<(Bytes, u64), Failure> {
    let too_large = |host: &str, max: u64, detail: &str| {
        let message = format!("the response of {host} has more than {max} bytes{detail}");
        Failure::new(Cause::TooLarge, message)
    };
    let max = timer.limits.max_response;
    let element_limits = buffer_limits.filter(|limits| !limits.keeps_elements());
    let mut truncator = element_limits.map(ArrayTruncator::new);
    let (mut body, mut received) = (BytesMut::new(), 0_u64);
    while let Some(chunk) = timer.next_chunk(&mut response).await? {
        received = received.saturating_add(chunk_length(&chunk));
        if max < received {
            return Err(too_large(host(response.url()), max, ""));
        }
        match &mut truncator {
            Some(truncator) => truncator.push_chunk(&chunk, &mut body),
            None => body.extend_from_slice(&chunk),
        }
        if let Some(limits) = buffer_limits
            && limits.max_bytes < to_u64(body.len())
        {
            let BufferLimits { max_elements, max_bytes } = limits;
            let detail = if limits.keeps_elements() {
                String::new()
            } else {
                format!(" for {max_elements} entries")
            };
            return Err(too_large(host(response.url()), max_bytes, &detail));
        }
    }
    Ok((body.freeze(), received))
}

/// Writes a document to `sink` and returns its length. `permit` counts each received byte.
pub(super) async fn stream_to(
    mut response: Response,
    size: Option<u64>,
    timer: &mut TransferTimer<'_>,
    permit: &mut dyn Permit,
    sink: &mut impl Sink,
) -> Result<u64, Failure> {
    let host = host(response.url()).to_owned();
    let max = timer.limits.max_document;
    let announced = response.content_length();
    check_document_size(&host, announced.unwrap_or(0), max)?;
    if let (Some(size), Some(announced)) = (size, announced)
        && size != announced
    {
        return Err(length_mismatch(&host, size, announced));
    }
    if size.is_none() && !has_framing(&response) {
        let message = format!(
            "{host} sent a document of unknown length (neither Content-Length nor chunked)"
        );
        return Err(Failure::new(Cause::Truncated, message));
    }

    let mut received = 0_u64;
    while let Some(chunk) = timer.next_chunk(&mut response).await? {
        permit.record_bytes(chunk_length(&chunk));
        received += chunk_length(&chunk);
        match size {
            Some(size) if size < received => return Err(length_mismatch(&host, size, received)),
            Some(_) => {}
            None => check_document_size(&host, received, max)?,
        }
        sink.write(&chunk).await?;
    }
    match size.or(announced) {
        Some(expected) if expected != received => Err(length_mismatch(&host, expected, received)),
        Some(_) | None => Ok(received),
    }
}

/// Returns an error if a document is larger than the configuration allows.
pub(super) fn check_document_size(host: &str, bytes: u64, max: u64) -> Result<(), Failure> {
    if bytes <= max {
        return Ok(());
    }
    Err(Failure::new(Cause::TooLarge, format!("a document of {host} has more than {max} bytes")))
}

/// True if the end of the body is known. An HTTP/1 body without length and chunks ends with the
/// connection, so that a truncated one cannot be detected (RFC 9112 §6.3).
fn has_framing(response: &Response) -> bool {
    response.content_length().is_some()
        || response.headers().contains_key(TRANSFER_ENCODING)
        || Version::HTTP_2 <= response.version()
}

fn length_mismatch(host: &str, expected: u64, received: u64) -> Failure {
    let message = format!("{host} sent {received} bytes of a document of {expected} bytes");
    Failure::new(Cause::Truncated, message)
}

fn chunk_length(chunk: &Bytes) -> u64 {
    to_u64(chunk.len())
}

fn to_u64(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
